/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vfs_env.h"

static void a_stack_opens_what_it_names(void **state)
{
	struct libservice *ls = NULL;
	struct err err = {""};
	unsigned before = env_count_fds();

	assert_int_equal(stack_open("local:/var/tmp,ro", NULL, &ls, &err), 0);
	assert_string_equal(ls->ops->name, "local");
	assert_true(ls->ro);
	ls_free(ls);
	ls = NULL;
	assert_int_equal(stack_open("local:/var/tmp/danaus-none", NULL, &ls, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/var/tmp/danaus-none"));
	assert_int_equal(stack_open("local:relative", NULL, &ls, &err), -EINVAL);
	assert_int_equal(stack_open("local:/etc/passwd", NULL, &ls, &err), -ENOTDIR);
	assert_null(ls);
	assert_int_equal(env_count_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_stack_opens_what_it_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
