/* SPDX-License-Identifier: Apache-2.0 */
/* What a fault or a crash at any call of the writable branch leaves of a union. */
#include "tests/lib/union_world.h"

#include <errno.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/fault.h"
#include "danaus/libservices/union/union.h"

static struct libservice_ops plain_ops, full_ops;

static int plain_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, struct ls_node *newdir, const char *newname,
			unsigned flags)
{
	return flags ? -EINVAL : full_ops.rename(ls, cred, dir, name, newdir, newname, flags);
}

/* A union whose writable branch fails as the plan says; simple: it also has none of what CephFS has
 * not. */
static int open_faulty(struct union_world *w, struct fault_plan *plan, bool simple)
{
	struct libservice *branch[3] = {NULL}, *upper;
	struct err err = {0};
	char path[80];
	int r;

	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%c", w->branches, "uab"[i]);
		assert_int_equal(local_new(path, &branch[i], &err), 0);
	}
	upper = branch[0];
	full_ops = plain_ops = *upper->ops;
	plain_ops.rename = plain_rename;
	plain_ops.tmpfile = NULL;
	if (simple)
		upper->ops = &plain_ops;
	assert_int_equal(fault_new(upper, plan, &branch[0]), 0);
	r = union_new(branch, 3, true, &w->ls, &err);
	for (unsigned i = 0; r < 0 && i < 3; i++)
		ls_free(branch[i]);
	return r;
}

struct crash {
	const char *branches; /* shell */
	struct uw_op op;
};

static void sweep(const struct crash *crash, bool simple, bool to_the_end)
{
	CLEANUP_FREE char *before = NULL;
	CLEANUP_FREE char *after = NULL;
	struct fault_plan plan = {0};
	struct union_world w;
	int r;

	uw_fresh(&w, crash->branches);
	before = uw_dump_closed(&w);
	uw_open(&w);
	r = uw_op(&w, &crash->op);
	uw_close(&w);
	after = uw_dump_closed(&w);
	if (r < 0)
		fail_msg("the operation on %s by itself: %d", crash->branches, r);
	for (unsigned n = 1;; n++) {
		CLEANUP_FREE char *live = NULL;
		CLEANUP_FREE char *left = NULL;
		uint64_t first, last;

		uw_fresh(&w, crash->branches);
		atomic_store(&plan.first, 0);
		atomic_store(&plan.error, -EIO);
		assert_int_equal(open_faulty(&w, &plan, simple), 0);
		atomic_store(&plan.to_the_end, to_the_end);
		first = atomic_load(&plan.calls) + n;
		atomic_store(&plan.first, first);
		r = uw_op(&w, &crash->op);
		last = atomic_load(&plan.calls);
		if (!to_the_end) {
			atomic_store(&plan.first, 0);
			live = uw_dump(&w);
		}
		uw_close(&w);
		left = uw_dump_closed(&w);
		if (strcmp(left, before) && strcmp(left, after))
			fail_msg(
			    "%s: call %u of the branch fails%s%s: neither before nor after:\n%s",
			    crash->branches, n, to_the_end ? " and all after it" : "",
			    simple ? ", simple branch" : "", left);
		if (live && strcmp(live, left))
			fail_msg("%s: call %u fails: the union shows\n%s and then\n%s",
				 crash->branches, n, live, left);
		if (last < first) {
			assert_int_equal(r, 0);
			break;
		}
	}
}

static void no_fault_shows_half_a_change(void **state)
{
	static const struct crash crashes[] = {
	    {"mkdir a/d; echo x > a/d/f; setfattr -n user.test -v v a/d/f",
	     {.kind = CHMOD, .a = "d/f", .n = 0751}},
	    {"ln -s to a/l", {.kind = CHOWN, .a = "l", .n = 3}},
	    {"mkdir a/d; echo x > a/d/f", {.kind = UNLINK, .a = "d/f"}},
	    {"echo x > a/f; echo y > u/f", {.kind = UNLINK, .a = "f"}},
	    {"mkdir a/d; touch a/d/f", {.kind = RENAME, .a = "d/f", .b = "g"}},
	    {"touch a/f a/g", {.kind = RENAME, .a = "f", .b = "g"}},
	    {"echo x > a/f; mkdir b/d", {.kind = LINK, .a = "f", .b = "d/g"}},
	    {"mkdir a/d u/d; touch a/d/f; mknod u/d/f c 0 0", {.kind = RMDIR, .a = "d"}},
	    {"mkdir a/d", {.kind = RMDIR, .a = "d"}},
	    {"mkdir u/d; mknod u/d/f c 0 0", {.kind = RMDIR, .a = "d"}},
	    {"mkdir a/d; touch a/d/f; mknod u/d c 0 0", {.kind = MKDIR, .a = "d", .n = 7}},
	    {"touch a/f; mknod u/f c 0 0", {.kind = SYMLINK, .a = "f", .b = "/-/x"}},
	    {"touch a/f; mknod u/f c 0 0", {.kind = MKNOD, .a = "f"}},
	    {"touch a/f u/g; mknod u/f c 0 0", {.kind = LINK, .a = "g", .b = "f"}},
	    {"mkdir u/n a/d; touch u/n/x a/d/f; mknod u/d c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n a/n a/d; setfattr -n trusted.overlay.opaque -v y u/n; touch u/n/x a/n/y "
	     "a/d/f; mknod u/d c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n u/d a/d; touch u/n/x a/d/f; mknod u/d/f c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n a/d; touch u/n/x", {.kind = RENAME, .a = "n", .b = "d"}},
	};

	uw_no_times = true;
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		for (unsigned mode = 0; mode < 4; mode++)
			sweep(&crashes[i], mode & 1, mode & 2);
	uw_no_times = false;
}

static void failing_starts_leave_the_branches_alone(void **state)
{
	struct fault_plan plan = {0};
	struct union_world w;
	int r = -1;

	for (unsigned n = 1; r < 0; n++) {
		uw_fresh(&w, "touch u/x");
		atomic_store(&plan.calls, 0);
		atomic_store(&plan.first, n);
		atomic_store(&plan.error, -ENOMEM);
		r = open_faulty(&w, &plan, false);
		if (r < 0)
			assert_int_equal(r, -ENOMEM);
	}
	atomic_store(&plan.first, 0);
	uw_close(&w);
	uw_sh("[ $(ls -A %s/u) = x ]", w.branches);
}

static void what_the_writable_branch_lost_is_told_at_close(void **state)
{
	const struct cred *cred = uw_users[0];
	struct fault_plan plan = {.error = -EIO};
	struct ls_node *node;
	struct ls_file *file;
	struct iovec iov = {"text", 4};
	struct attr attr;
	struct union_world w;

	uw_fresh(&w, "echo lower > a/f");
	assert_int_equal(open_faulty(&w, &plan, false), 0);
	assert_int_equal(uw_walk(w.ls, cred, "f", &node, &attr), 0);
	assert_int_equal(ls_open(w.ls, cred, node, O_RDONLY, &file), 0);
	atomic_store(&plan.to_the_end, true);
	atomic_store(&plan.first, 1);
	assert_int_equal(ls_flush(w.ls, file), 0);
	atomic_store(&plan.first, 0);
	ls_release(w.ls, file);
	assert_int_equal(ls_open(w.ls, cred, node, O_RDWR, &file), 0);
	assert_int_equal(ls_write(w.ls, file, &iov, 1, 0, false, NULL), 4);
	assert_int_equal(ls_flush(w.ls, file), 0);
	atomic_store(&plan.first, 1);
	assert_int_equal(ls_flush(w.ls, file), -EIO);
	atomic_store(&plan.first, 0);
	ls_release(w.ls, file);
	ls_forget(w.ls, node, 1);
	uw_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(no_fault_shows_half_a_change),
	    cmocka_unit_test(failing_starts_leave_the_branches_alone),
	    cmocka_unit_test(what_the_writable_branch_lost_is_told_at_close),
	};

	return cmocka_run_group_tests(tests, uw_setup, uw_teardown);
}
