/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"

static char tmp[64], dir[128];

static int setup(void **state)
{
	strcpy(tmp, "/tmp/danaus-test-rundir-XXXXXX");
	if (!mkdtemp(tmp))
		return -1;
	snprintf(dir, sizeof(dir), "%s/run/containers/c1", tmp);
	return 0;
}

static int teardown(void **state)
{
	return rundir_remove(tmp);
}

static json_t *spec(void)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "id", "c1", "dir", dir, "preload", "/x\n", "pool",
			 "p1");
}

static void assert_mode(const char *name, mode_t mode)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, mode);
}

static void a_directory_is_made_whatever_the_umask(void **state)
{
	json_t *in = spec(), *out = NULL;
	struct err err = {0};
	mode_t mask = umask(077);

	if (rundir_make(in, "{}", 2, &err) < 0)
		fail_msg("%s", err.text);
	umask(mask);
	assert_mode("", S_IFDIR | 0711);
	assert_mode("guest", S_IFDIR | 0755);
	assert_mode("empty", S_IFDIR | 0755);
	assert_mode("guest/init", S_IFREG | 0755);
	assert_mode("guest/libdanaus.so", S_IFREG | 0755);
	assert_mode("guest/ld.so.preload", S_IFREG | 0644);
	assert_mode("spec.json", S_IFREG | 0600);
	assert_mode("config.json", S_IFREG | 0600);
	assert_int_equal(rundir_spec(dir, &out, &err), 0);
	assert_true(json_equal(in, out));
	json_decref(in);
	json_decref(out);
}

static void making_it_again_replaces_it(void **state)
{
	json_t *in = spec();
	struct err err = {0};
	char path[256];

	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	snprintf(path, sizeof(path), "%s/guest/stale", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	json_decref(in);
}

static char gone[64];

static bool note_pool(const char *pool, const char *name)
{
	snprintf(gone, sizeof(gone), "%s/%s", pool, name);
	return true;
}

static bool waits_for_its_service(const char *pool, const char *name)
{
	return false;
}

/* The container is started again while it is asked about what it left. */
static bool starts_again(const char *pool, const char *name)
{
	json_t *in = spec();
	struct err err = {0};

	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	json_decref(in);
	return true;
}

static void the_sweep_takes_what_has_no_process(void **state)
{
	json_t *in = spec();
	struct err err = {0};
	char containers[128], pid[192];

	snprintf(containers, sizeof(containers), "%s/run/containers", tmp);
	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	rundir_sweep(containers, NULL, note_pool); /* not started yet, and new */
	assert_int_equal(access(dir, F_OK), 0);
	assert_int_equal(rundir_started(dir, getpid(), &err), 0);
	assert_int_equal(rundir_make(in, "{}", 2, &err), -EEXIST);
	rundir_sweep(containers, NULL, note_pool);
	assert_int_equal(access(dir, F_OK), 0);
	snprintf(pid, sizeof(pid), "%s/pid", dir);
	assert_int_equal(fd_replace_file_at(-1, pid, 0600, "1 1\n", 4), 0); /* another process 1 */
	rundir_sweep(containers, "p2", note_pool);
	assert_string_equal(gone, "");
	rundir_sweep(containers, "p1", waits_for_its_service);
	assert_int_equal(access(dir, F_OK), 0);
	rundir_sweep(containers, "p1", note_pool);
	assert_string_equal(gone, "p1/c1");
	assert_int_equal(access(dir, F_OK), -1);
	json_decref(in);
}

/* A runtime that refuses a container before its first hook leaves its directory, and no hook comes.
 */
static void the_next_container_takes_what_was_never_started(void **state)
{
	const struct timespec old[2] = {{1000, 0}, {1000, 0}};
	json_t *in = spec(), *next = spec();
	struct err err = {0};
	char other[192];

	snprintf(other, sizeof(other), "%s/run/containers/c2", tmp);
	json_object_set_new(next, "dir", json_string(other));
	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	assert_int_equal(rundir_make(next, "{}", 2, &err), 0);
	assert_int_equal(access(dir, F_OK), 0); /* it may come yet */
	assert_int_equal(rundir_started(other, getpid(), &err), 0);
	assert_int_equal(utimensat(AT_FDCWD, dir, old, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, other, old, 0), 0);
	snprintf(other, sizeof(other), "%s/run/containers/c3", tmp);
	json_object_set_new(next, "dir", json_string(other));
	assert_int_equal(rundir_make(next, "{}", 2, &err), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(rundir_remove(other), 0);
	snprintf(other, sizeof(other), "%s/run/containers/c2", tmp);
	assert_int_equal(access(other, F_OK), 0);
	assert_int_equal(rundir_remove(other), 0);
	json_decref(in);
	json_decref(next);
}

static void the_sweep_leaves_what_was_made_again(void **state)
{
	json_t *in = spec();
	struct err err = {0};
	char containers[128], pid[192];

	snprintf(containers, sizeof(containers), "%s/run/containers", tmp);
	snprintf(pid, sizeof(pid), "%s/pid", dir);
	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	assert_int_equal(fd_replace_file_at(-1, pid, 0600, "1 1\n", 4), 0);
	rundir_sweep(containers, NULL, starts_again);
	assert_int_equal(access(dir, F_OK), 0);
	assert_int_equal(access(pid, F_OK), -1);
	json_decref(in);
}

static void the_original_goes_back_into_the_bundle(void **state)
{
	json_t *in = spec(), *named = spec();
	struct err err = {0};
	char path[256], *text;
	size_t len;

	assert_int_equal(rundir_make(in, "{\"a\": 1}", 8, &err), 0);
	snprintf(path, sizeof(path), "%s/config.json", tmp);
	assert_int_equal(fd_replace_file_at(-1, path, 0640, "edited", 6), 0);
	assert_int_equal(rundir_restore(dir, in, tmp, &err), 0);
	assert_int_equal(fd_read_file_at(-1, path, 64, &text, &len), 0);
	assert_string_equal(text, "{\"a\": 1}");
	free(text);
	assert_int_equal(rundir_restore(dir, in, "/nonexistent", &err), -ENOENT);
	json_object_set_new(named, "config", json_string(path));
	assert_int_equal(fd_replace_file_at(-1, path, 0640, "edited", 6), 0);
	assert_int_equal(rundir_restore(dir, named, "/nonexistent", &err), 0);
	assert_int_equal(fd_read_file_at(-1, path, 64, &text, &len), 0);
	assert_string_equal(text, "{\"a\": 1}");
	free(text);
	json_decref(in);
	json_decref(named);
}

static void removing_follows_no_symlink(void **state)
{
	json_t *in = spec();
	struct err err = {0};
	char path[256], kept[128];

	snprintf(kept, sizeof(kept), "%s/kept", tmp);
	assert_int_equal(mkdir(kept, 0755), 0);
	assert_int_equal(rundir_make(in, "{}", 2, &err), 0);
	snprintf(path, sizeof(path), "%s/empty/link", dir);
	assert_int_equal(symlink(kept, path), 0);
	assert_int_equal(rundir_remove(dir), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(access(kept, F_OK), 0);
	assert_int_equal(rundir_remove(dir), 0);
	json_decref(in);
}

static void a_rootless_engine_is_told(void **state)
{
	json_t *in = spec();
	struct err err = {0};

	if (geteuid() != 0)
		skip();
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(rundir_make(in, "{}", 2, &err), -EACCES);
	assert_int_equal(seteuid(0), 0);
	assert_non_null(strstr(err.text, "rootless"));
	json_decref(in);
}

static void wrong_directories_are_refused(void **state)
{
	assert_int_equal(rundir_remove("x"), -EINVAL);
	assert_int_equal(rundir_remove("/x"), -EINVAL);
	assert_int_equal(rundir_remove("/tmp/.."), -EINVAL);
	assert_int_equal(rundir_remove("/tmp/"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_directory_is_made_whatever_the_umask),
	    cmocka_unit_test(making_it_again_replaces_it),
	    cmocka_unit_test(the_sweep_takes_what_has_no_process),
	    cmocka_unit_test(the_next_container_takes_what_was_never_started),
	    cmocka_unit_test(the_sweep_leaves_what_was_made_again),
	    cmocka_unit_test(the_original_goes_back_into_the_bundle),
	    cmocka_unit_test(removing_follows_no_symlink),
	    cmocka_unit_test(a_rootless_engine_is_told),
	    cmocka_unit_test(wrong_directories_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
