/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/lexical.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct mount_table table;

static void mount(uint32_t i, const char *path)
{
	struct mount_entry *entry = &table.entry[i];

	entry->instance = i;
	entry->path_bytes = (uint32_t)strlen(path);
	strcpy(entry->path, path);
	table.count = i + 1;
}

static int setup(void **state)
{
	mount(0, "/data/sub/deep");
	mount(1, "/data/sub");
	mount(2, "/srv/x y");
	mount(3, "/data");
	return 0;
}

static void goes(const char *path, int instance, const char *rest)
{
	const char *got_rest = NULL;
	const struct mount_entry *got = path_match(&table, path, &got_rest);

	assert_int_equal(got ? (int)got->instance : -1, instance);
	if (got)
		assert_string_equal(got_rest, rest);
}

static void the_longest_mount_wins(void **state)
{
	goes("/data", 3, "");
	goes("/data/a", 3, "a");
	goes("/data/sub", 1, "");
	goes("/data/sub/a/b", 1, "a/b");
	goes("/data/sub/deep/x", 0, "x");
	goes("/data/subs", 3, "subs");
	goes("/srv/x y/z", 2, "z");
}

static void a_prefix_of_a_name_is_not_the_name(void **state)
{
	goes("/database", -1, NULL);
	goes("/dat", -1, NULL);
	goes("/", -1, NULL);
	goes("/srv/x", -1, NULL);
	goes("/srv", -1, NULL);
}

static void noise_does_not_hide_a_mount(void **state)
{
	goes("//data///a//b", 3, "a//b");
	goes("/./data/./sub/.//a", 1, "a");
	goes("/data/.", 3, "");
	goes("/data/", 3, "");
	goes("/data/a/", 3, "a/");
	goes("/data/.hidden", 3, ".hidden");
}

static void dotdot_is_left_to_who_knows_the_links(void **state)
{
	goes("/data/../etc", 3, "../etc");
	goes("/etc/../data/a", -1, NULL);
	goes("/../data/a", -1, NULL);
	goes("/data/sub/../a", 1, "../a");
}

static void own_descriptors_have_names(void **state)
{
	assert_int_equal(path_own_fd("/proc/self/fd/16384"), 16384);
	assert_int_equal(path_own_fd("/dev/fd/7"), 7);
	assert_int_equal(path_own_fd("/proc/thread-self/fd/0"), 0);
	assert_int_equal(path_own_fd("/proc/self/fd/"), -1);
	assert_int_equal(path_own_fd("/proc/self/fd/7/x"), -1);
	assert_int_equal(path_own_fd("/proc/self/fd/99999999999"), -1);
	assert_int_equal(path_own_fd("/proc/1/fd/7"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_longest_mount_wins),
	    cmocka_unit_test(a_prefix_of_a_name_is_not_the_name),
	    cmocka_unit_test(noise_does_not_hide_a_mount),
	    cmocka_unit_test(dotdot_is_left_to_who_knows_the_links),
	    cmocka_unit_test(own_descriptors_have_names),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
