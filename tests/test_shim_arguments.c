/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "shim/arguments.h"

#define READ(...)                                                                                  \
	char *argv[] = {(char *)"danaus-runtime", __VA_ARGS__, NULL};                              \
	int argc = (int)(sizeof(argv) / sizeof(argv[0])) - 1;                                      \
	struct arguments a;                                                                        \
                                                                                                   \
	arguments_read(argc, argv, &a)

static void create_as_podman_calls_it(void **state)
{
	READ("--systemd-cgroup", "--log-format=json", "--log", "/l", "create", "--bundle", "/b",
	     "--pid-file", "/p", "id");

	assert_int_equal(a.verb, VERB_CREATE);
	assert_string_equal(argv[a.id], "id");
	assert_string_equal(a.bundle, "/b");
	assert_null(a.config);
}

static void create_as_containerd_calls_it(void **state)
{
	READ("--root", "/r", "--log=/l", "create", "--bundle=/b", "--no-pivot", "--preserve-fds",
	     "3", "id");

	assert_int_equal(a.verb, VERB_CREATE);
	assert_string_equal(argv[a.id], "id");
	assert_string_equal(a.bundle, "/b");
}

static void run_by_short_names(void **state)
{
	READ("run", "-d", "-b", "/b", "-f", "other.json", "id");

	assert_int_equal(a.verb, VERB_CREATE);
	assert_string_equal(argv[a.id], "id");
	assert_string_equal(a.bundle, "/b");
	assert_string_equal(a.config, "other.json");
}

static void the_last_of_an_option_counts(void **state)
{
	READ("create", "--bundle", "/a", "--bundle=/b", "id");

	assert_string_equal(a.bundle, "/b");
	assert_string_equal(argv[a.id], "id");
}

static void a_value_is_no_option(void **state)
{
	READ("create", "--pid-file", "--bundle", "id", "--bundle", "/late");

	assert_string_equal(argv[a.id], "id");
	assert_null(a.bundle);
}

static void a_container_may_be_called_like_a_verb(void **state)
{
	READ("--log", "exec", "state", "create");

	assert_int_equal(a.verb, VERB_OTHER);
	assert_int_equal(a.id, argc);
}

static void exec_of_a_process_file(void **state)
{
	READ("--root", "/r", "exec", "--detach", "--process", "/p.json", "--pid-file", "/p", "id");

	assert_int_equal(a.verb, VERB_EXEC);
	assert_string_equal(argv[a.id], "id");
	assert_string_equal(a.process, "/p.json");
	assert_false(a.caps);
}

static void exec_of_a_command(void **state)
{
	READ("exec", "-t", "-u", "1000:1000", "-e", "A=-c", "--", "id", "sh", "-c", "-p");

	assert_int_equal(a.verb, VERB_EXEC);
	assert_string_equal(argv[a.id], "id");
	assert_string_equal(argv[a.id + 1], "sh");
	assert_null(a.process); /* those of the command are its own */
	assert_false(a.caps);
}

static void exec_that_asks_for_capabilities(void **state)
{
	READ("exec", "--cap", "CAP_CHOWN", "id", "true");

	assert_true(a.caps);
	assert_string_equal(argv[a.id], "id");
}

static void what_is_missing_is_left_to_the_runtime(void **state)
{
	{
		READ("create", "--bundle", "/b");
		assert_int_equal(a.verb, VERB_CREATE);
		assert_int_equal(a.id, argc);
	}
	{
		READ("exec", "--process");
		assert_int_equal(a.verb, VERB_EXEC);
		assert_int_equal(a.id, argc);
	}
	{
		READ("exec", "--");
		assert_int_equal(a.id, argc);
	}
	{
		READ("--version");
		assert_int_equal(a.verb, VERB_OTHER);
	}
	{
		char *none[] = {(char *)"danaus-runtime", NULL};
		struct arguments a;

		arguments_read(1, none, &a);
		assert_int_equal(a.verb, VERB_OTHER);
		assert_int_equal(a.id, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(create_as_podman_calls_it),
	    cmocka_unit_test(create_as_containerd_calls_it),
	    cmocka_unit_test(run_by_short_names),
	    cmocka_unit_test(the_last_of_an_option_counts),
	    cmocka_unit_test(a_value_is_no_option),
	    cmocka_unit_test(a_container_may_be_called_like_a_verb),
	    cmocka_unit_test(exec_of_a_process_file),
	    cmocka_unit_test(exec_of_a_command),
	    cmocka_unit_test(exec_that_asks_for_capabilities),
	    cmocka_unit_test(what_is_missing_is_left_to_the_runtime),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
