/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/base/parse.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void sizes_have_suffixes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t bytes;
	} rows[] = {
	    {"0", 0, 0},
	    {"512", 0, 512},
	    {"64k", 0, 65536},
	    {"64KiB", 0, 65536},
	    {"1g", 0, 1ull << 30},
	    {"10b", 0, 10},
	    {"", -EINVAL, 0},
	    {"-1", -EINVAL, 0},
	    {"1x", -EINVAL, 0},
	    {"1ib", -EINVAL, 0},
	    {"18446744073709551616", -ERANGE, 0},
	    {"99999999999t", -ERANGE, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t bytes = 0;

		assert_int_equal(parse_size(rows[i].text, &bytes), rows[i].r);
		assert_int_equal(bytes, rows[i].bytes);
	}
}

static void cpu_lists_go_there_and_back(void **state)
{
	static const char *const canonical[] = {"0", "0-3", "0,2,4-6", "1023"};
	static const char *const wrong[] = {"", "a", "3-1", "0,", "0--1", "1024", "-1", "0 1"};
	char text[64];
	cpu_set_t set;

	for (size_t i = 0; i < sizeof(canonical) / sizeof(canonical[0]); i++) {
		assert_int_equal(parse_cpulist(canonical[i], &set), 0);
		assert_int_equal(format_cpulist(&set, text, sizeof(text)), 0);
		assert_string_equal(text, canonical[i]);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(parse_cpulist(wrong[i], &set) < 0);
	assert_int_equal(parse_cpulist("0,2,4", &set), 0);
	assert_int_equal(format_cpulist(&set, text, 4), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_have_suffixes),
	    cmocka_unit_test(cpu_lists_go_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
