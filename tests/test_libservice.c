/* SPDX-License-Identifier: Apache-2.0 */
/* libservice.c and fault.c: what is decided for every libservice, and failing chosen calls. */
#include "tests/lib/vfs_env.h"

#include <sys/wait.h>

static int only_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	*ret = (struct ls_node *)ls;
	memset(ret_attr, 0, sizeof(*ret_attr));
	return 0;
}

static const struct libservice_ops bare_ops = {.name = "bare", .root = only_root};

/* First: it looks from outside of what env_mkdir() makes for its process. */
static void a_test_that_aborts_leaves_nothing(void **state)
{
	char dir[64];
	int ends[2], status;
	pid_t pid;

	if (getenv("DANAUS_TEST_DIR") || geteuid() != 0)
		skip();
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		env_mkdir(dir);
		if (write(ends[1], dir, sizeof(dir)) == sizeof(dir))
			abort();
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_int_equal(read(ends[0], dir, sizeof(dir)), sizeof(dir));
	if (!strncmp(dir, "/dev/shm/", 9)) /* has extended attributes */
		assert_int_equal(access(dir, F_OK), -1);
	close(ends[0]);
	close(ends[1]);
}

static void an_absent_operation_is_not_supported(void **state)
{
	struct libservice bare = {.ops = &bare_ops};
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	char buf[8];

	assert_int_equal(ls_root(&bare, &node, &attr), 0);
	assert_int_equal(ls_lookup(&bare, NULL, node, "x", &node, &attr), -EOPNOTSUPP);
	assert_int_equal(ls_open(&bare, NULL, node, O_RDONLY, &file), -EOPNOTSUPP);
	assert_int_equal(ls_getxattr(&bare, NULL, node, "user.a", buf, 8), -EOPNOTSUPP);
	assert_int_equal(ls_host_fd(&bare, node), -EOPNOTSUPP);
	/* Without one of its own, the vfs's lock is the lock; and nothing is given back. */
	assert_int_equal(ls_lock(&bare, NULL, 1, false, F_WRLCK, 0, 0), 0);
	assert_int_equal(ls_flush(&bare, NULL), 0);
	ls_forget(&bare, node, 1);
	ls_release(&bare, NULL);
	ls_free(&bare);
}

static void read_only_comes_before_absent(void **state)
{
	struct libservice bare = {.ops = &bare_ops, .ro = true};
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;

	assert_int_equal(ls_unlink(&bare, NULL, NULL, "x", false), -EROFS);
	assert_int_equal(ls_make(&bare, NULL, NULL, "x", S_IFDIR, 0, 0, NULL, &node, &attr),
			 -EROFS);
	assert_int_equal(ls_open(&bare, NULL, NULL, O_WRONLY, &file), -EROFS);
	assert_int_equal(ls_open(&bare, NULL, NULL, O_RDONLY, &file), -EOPNOTSUPP);
}

static void the_planned_calls_fail(void **state)
{
	struct fault_plan plan = {.error = -EIO};
	struct libservice *ls;
	struct ls_node *node;
	struct attr attr;
	struct err err;

	assert_int_equal(local_new("/var/tmp", &ls, &err), 0);
	assert_int_equal(fault_new(ls, &plan, &ls), 0);
	assert_int_equal(ls_root(ls, &node, &attr), 0);
	assert_int_equal(atomic_load(&plan.calls), 1);
	atomic_store(&plan.first, 3);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), 0);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), -EIO);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), 0);
	atomic_store(&plan.to_the_end, true);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), -EIO);
	assert_int_equal(ls_syncfs(ls), -EIO);
	ls_forget(ls, node, 1); /* never fails */
	ls_free(ls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_test_that_aborts_leaves_nothing),
	    cmocka_unit_test(an_absent_operation_is_not_supported),
	    cmocka_unit_test(read_only_comes_before_absent),
	    cmocka_unit_test(the_planned_calls_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
