/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vfs_env.h"

#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A child that has said over the pipe what it is now, and waits to be killed. */
struct child {
	pid_t pid;
	bool able;
};

static struct child child_start(int (*become)(void))
{
	struct child child;
	int ready[2];
	char able = 0;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (!child.pid) {
		able = become() == 0;
		if (write(ready[1], &able, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &able, 1), 1);
	close(ready[0]);
	child.able = able;
	return child;
}

static void child_end(struct child child)
{
	kill(child.pid, SIGKILL);
	waitpid(child.pid, NULL, 0);
}

static int become_user(void)
{
	static const gid_t groups[] = {3000, 7, 500, 12, 13, 14, 15, 16, 17, 18};

	prctl(PR_SET_NAME, "a Uid:\t0\n(x");
	return setgroups(10, groups) || setresgid(1001, 1002, 1003) || setresuid(1000, 1004, 1005);
}

static int become_nested(void)
{
	return unshare(CLONE_NEWUSER);
}

static void *see(void *arg)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	*(long *)arg = syscall(SYS_setfsuid, -1);
	return syscall(SYS_capget, &head, data) || !(data[0].effective >> CAP_DAC_READ_SEARCH & 1)
		   ? "without its capabilities"
		   : NULL;
}

static void a_thread_begins_as_the_service(void **state)
{
	struct cred *user = env_cred(1000, 1000, 0, 0, NULL);
	pthread_t thread;
	void *failed;
	long uid = -1;

	assert_int_equal(cred_assume(user, 0), 0);
	assert_int_equal(cred_thread(&thread, NULL, see, &uid), 0);
	pthread_join(thread, &failed);
	assert_null(failed);
	assert_int_equal(uid, 0);
	/* who made it still is who he was */
	assert_int_equal(syscall(SYS_setfsuid, -1), 1000);
	cred_assume_service();
	cred_unref(user);
}

static void a_thread_is_who_the_kernel_says(void **state)
{
	struct child child = child_start(become_user);
	struct cred *cred = NULL, *again = NULL;

	assert_true(child.able);
	assert_int_equal(cred_of_thread(child.pid, NULL, &cred), 0);
	assert_int_equal(cred->ruid, 1000);
	assert_int_equal(cred->fsuid, 1004);
	assert_int_equal(cred->rgid, 1001);
	assert_int_equal(cred->fsgid, 1002);
	assert_int_equal(cred->ngroups, 10);
	assert_int_equal(cred->caps, 0);
	assert_true(cred_in_group(cred, 3000));
	assert_true(cred_in_group(cred, 7));
	assert_true(cred_in_group(cred, 1002));
	assert_false(cred_in_group(cred, 1001));
	assert_int_equal(cred_of_thread(child.pid, NULL, &again), 0);
	assert_true(cred_same(cred, again));
	child_end(child);
	assert_int_equal(cred_of_thread(child.pid, NULL, &again), -ESRCH);
	cred_unref(again);
	cred_unref(cred);
}

static void capabilities_of_a_namespace_count_there_only(void **state)
{
	struct child child = child_start(become_nested);
	struct cred *cred = NULL;

	if (!child.able) {
		child_end(child);
		skip(); /* no user namespaces here */
	}
	assert_int_equal(cred_of_thread(child.pid, NULL, &cred), 0);
	assert_true(cred->caps & CAP_BIT(CAP_DAC_OVERRIDE));
	assert_non_null(cred->own);
	assert_int_equal(cred_caps_for(cred, 0, 0), 0);
	assert_int_equal(cred_caps_for(cred, 1000, 1000), 0);
	cred_unref(cred);
	child_end(child);
}

static void ids_go_in_and_out(void **state)
{
	const struct idmap map = {.nuid = 2,
				  .ngid = 1,
				  .uid = {{0, 100000, 1000}, {1000, 5000, 1}},
				  .gid = {{0, 200000, 10}}};
	const struct idmap identity = {0};
	uid_t id;

	assert_int_equal(idmap_uid_in(&map, 100005), 5);
	assert_int_equal(idmap_uid_in(&map, 5000), 1000);
	assert_int_equal(idmap_uid_in(&map, 0), 65534);
	assert_int_equal(idmap_uid_in(&map, 101000), 65534);
	assert_true(idmap_uid_out(&map, 999, &id));
	assert_int_equal(id, 100999);
	assert_false(idmap_uid_out(&map, 1001, &id));
	assert_true(idmap_gid_out(&map, 9, &id));
	assert_int_equal(id, 200009);
	assert_false(idmap_gid_known(&map, 0));
	assert_int_equal(idmap_gid_in(&identity, 77), 77);
	assert_true(idmap_uid_known(&identity, 77));
}

static void inside_a_namespace_only_mapped_inodes(void **state)
{
	const struct idmap map = {
	    .nuid = 1, .ngid = 1, .uid = {{0, 100000, 1000}}, .gid = {{0, 100000, 1000}}};
	struct cred *cred = env_cred(100000, 100000, ~0ull, 0, NULL);

	cred->map = &map;
	assert_true(cred_caps_for(cred, 100001, 100001) & CAP_BIT(CAP_DAC_OVERRIDE));
	assert_int_equal(cred_caps_for(cred, 100001, 0), 0);
	assert_int_equal(cred_caps_for(cred, 0, 100000), 0);
	/* Those that need the host's own namespace never count. */
	assert_false(cred_caps_for(cred, 100001, 100001) & CAP_BIT(CAP_MKNOD));
	assert_false(cred_caps_for(cred, 100001, 100001) & CAP_BIT(CAP_SYS_ADMIN));
	cred_unref(cred);
}

static void an_assumed_identity_is_the_threads(void **state)
{
	static const gid_t groups[] = {2000};
	struct cred *user = env_cred(1000, 1001, 0, 1, groups);
	char dir[] = "/var/tmp/danaus-cred-XXXXXX";
	struct stat st;

	assert_non_null(mkdtemp(dir));
	CLEANUP_FD int at = open(dir, O_PATH | O_CLOEXEC);
	assert_int_equal(fchmodat(AT_FDCWD, dir, 0770, 0), 0);
	assert_int_equal(chown(dir, 0, 2000), 0);
	assert_int_equal(cred_assume(user, 0), 0);
	assert_int_equal(mkdirat(at, "one", 0700), 0);
	assert_int_equal(fstatat(at, "one", &st, 0), 0);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 1001);
	assert_int_equal(fchownat(at, "one", 0, 0, 0), -1);
	assert_int_equal(cred_assume(user, CAP_BIT(CAP_CHOWN)), 0);
	assert_int_equal(fchownat(at, "one", 0, 0, 0), 0);
	assert_int_equal(unlinkat(at, "one/x", 0), -1);
	assert_int_equal(errno, EACCES);
	cred_assume_service();
	assert_int_equal(mkdirat(at, "one/two", 0700), 0);
	assert_int_equal(fstatat(at, "one/two", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	cred_unref(user);
	env_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_thread_begins_as_the_service),
	    cmocka_unit_test(a_thread_is_who_the_kernel_says),
	    cmocka_unit_test(capabilities_of_a_namespace_count_there_only),
	    cmocka_unit_test(ids_go_in_and_out),
	    cmocka_unit_test(inside_a_namespace_only_mapped_inodes),
	    cmocka_unit_test(an_assumed_identity_is_the_threads),
	};

	if (getuid() != 0) {
		fprintf(stderr, "skipped: other identities need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
