/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/proto/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct wire_request request_of(unsigned op, uint32_t len1, uint32_t len2)
{
	return (struct wire_request){.op = op, .version = WIRE_VERSION, .len1 = len1, .len2 = len2};
}

static void a_path_ends_where_it_says(void **state)
{
	struct wire_request q = request_of(WIRE_OPEN, 4, 0);

	assert_int_equal(wire_check(&q, "abc", 4), 0);
	assert_int_equal(wire_check(&q, "abcd", 4), -EPROTO);
	assert_int_equal(wire_check(&q, "a\0c", 4), -EPROTO);
	q.len1 = 0;
	assert_int_equal(wire_check(&q, "", 0), -EPROTO);
	q.len2 = 1;
	q.len1 = 1;
	assert_int_equal(wire_check(&q, "\0", 2), -EPROTO);
}

static void lengths_do_not_run_over(void **state)
{
	struct wire_request q = request_of(WIRE_WRITE, UINT32_MAX, UINT32_MAX);
	static char payload[64];

	assert_int_equal(wire_check(&q, payload, sizeof(payload)), -EPROTO);
	q.len1 = 65;
	q.len2 = 0;
	assert_int_equal(wire_check(&q, payload, sizeof(payload)), -EPROTO);
	q.len1 = 64;
	assert_int_equal(wire_check(&q, payload, sizeof(payload)), 0);
	q = request_of(WIRE_READ, 0, 0);
	q.size = WIRE_PAYLOAD_MAX + 1;
	assert_int_equal(wire_check(&q, payload, sizeof(payload)), -EPROTO);
}

static void unknown_is_refused(void **state)
{
	struct wire_request q = request_of(WIRE_OP_COUNT, 0, 0);

	assert_int_equal(wire_check(&q, "", 0), -EPROTO);
	q = request_of(WIRE_CLOSE, 0, 0);
	assert_int_equal(wire_check(&q, "", 0), 0);
	q.version++;
	assert_int_equal(wire_check(&q, "", 0), -EPROTO);
	assert_string_equal(wire_op_name(WIRE_RENAME), "rename");
	assert_string_equal(wire_op_name(WIRE_OP_COUNT), "?");
}

static void an_attribute_has_a_name_and_a_value(void **state)
{
	struct wire_request q = request_of(WIRE_SETXATTR, 2, 6);

	assert_int_equal(wire_check(&q, "f\0user\0v", 8), 0);
	assert_int_equal(wire_check(&q, "f\0userxv", 8), -EPROTO);
	q = request_of(WIRE_MAKE, 2, 2);
	assert_int_equal(wire_check(&q, "f\0t", 4), -EPROTO);
	q.mode = S_IFLNK;
	assert_int_equal(wire_check(&q, "f\0t", 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_path_ends_where_it_says),
	    cmocka_unit_test(lengths_do_not_run_over),
	    cmocka_unit_test(unknown_is_refused),
	    cmocka_unit_test(an_attribute_has_a_name_and_a_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
