/* SPDX-License-Identifier: Apache-2.0 */
/* What operations are counted as, by door, and that no thread takes its counts along. */
#include "danaus/pool/stats.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static json_int_t value_of(const char *door, const char *op, const char *key)
{
	json_t *all = stats_json();
	json_int_t value = json_integer_value(
	    json_object_get(json_object_get(json_object_get(all, door), op), key));

	json_decref(all);
	return value;
}

static void operations_are_summed_per_door_and_operation(void **state)
{
	stats_count(DOOR_SHM, WIRE_READ, 0, 4096, 0);
	stats_count(DOOR_SHM, WIRE_READ, 0, 100, 0);
	stats_count(DOOR_SHM, WIRE_READ, 0, 0, -EIO);
	stats_count(DOOR_NOTIFY, WIRE_READ, 0, 1, 0);
	assert_int_equal(value_of("shm", "read", "count"), 3);
	assert_int_equal(value_of("shm", "read", "errors"), 1);
	assert_int_equal(value_of("shm", "read", "bytes"), 4196);
	assert_int_equal(value_of("notify", "read", "count"), 1);
	assert_int_equal(value_of("fuse", "read", "count"), 0);
}

static void percentiles_are_within_a_quarter(void **state)
{
	/* the bucket of the time since then, whatever a little later "now" is */
	for (int i = 0; i < 100; i++)
		stats_count(DOOR_SHM, WIRE_STAT,
			    stats_now() - (i < 95 ? 1000000000ull : 8000000000ull), 0, 0);
	assert_in_range(value_of("shm", "stat", "p50_ns"), 750000000, 1500000000);
	assert_in_range(value_of("shm", "stat", "p90_ns"), 750000000, 1500000000);
	assert_in_range(value_of("shm", "stat", "p99_ns"), 6000000000, 12000000000);
	assert_in_range(value_of("shm", "stat", "max_ns"), 8000000000, 100000000000);
}

static void an_unknown_operation_is_not_counted(void **state)
{
	json_t *before = stats_json(), *after;

	stats_count(DOOR_SHM, WIRE_OP_COUNT, 0, 0, 0);
	stats_count(DOOR_SHM, 65535, 0, 0, 0);
	after = stats_json();
	assert_non_null(after);
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

static void *count_writes(void *arg)
{
	for (int i = 0; i < 1000; i++)
		stats_count(DOOR_FACE, WIRE_WRITE, 0, 2, 0);
	return NULL;
}

static void the_counts_of_threads_stay_when_they_end(void **state)
{
	pthread_t thread[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, count_writes, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(value_of("fuse", "write", "count"), 4000);
	assert_int_equal(value_of("fuse", "write", "bytes"), 8000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(operations_are_summed_per_door_and_operation),
	    cmocka_unit_test(percentiles_are_within_a_quarter),
	    cmocka_unit_test(an_unknown_operation_is_not_counted),
	    cmocka_unit_test(the_counts_of_threads_stay_when_they_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
