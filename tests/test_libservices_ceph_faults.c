/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice and a real cluster that forgets its clients or does not answer. Evicts every
 * client and stops the MDS: the cluster is the test's alone (tests/lib/ceph_world.h). */
#include "tests/lib/ceph_world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

/* A service that was killed left a lock; its successor need not wait for the session's timeout. */
static void a_dead_sessions_locks_are_taken_back(void **state)
{
	struct libservice *next, *dead;
	struct ls_node *dtop, *ntop, *node, *node2;
	struct ls_file *file, *file2;
	struct attr attr;

	cf_limits.session = "container:/data";
	dead = cf_open_at(cf_dir, 0);
	assert_int_equal(ls_root(dead, &dtop, &attr), 0);
	file = cf_create(dead, dtop, "locked", 0644, &node);
	assert_int_equal(ls_lock(dead, node, 7, false, F_WRLCK, 0, 0), 0);
	next = cf_open_at(cf_dir, 0);
	cf_limits.session = NULL;
	assert_int_equal(ls_root(next, &ntop, &attr), 0);
	node2 = cf_get(next, ntop, "locked", NULL);
	assert_int_equal(ls_open(next, cf_root, node2, O_RDWR, &file2), 0);
	assert_int_equal(ls_lock(next, node2, 7, false, F_WRLCK, 0, 0), 0);
	ls_release(next, file2);
	ls_forget(next, node2, 1);
	assert_int_equal(ls_unlink(next, cf_root, ntop, "locked", false), 0);
	ls_forget(next, ntop, 1);
	ls_free(next);
	ls_release(dead, file);
	ls_forget(dead, node, 1);
	ls_forget(dead, dtop, 1);
	ls_free(dead);
}

static void a_cut_off_client_comes_back(void **state)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r;

	if (!cf_has_admin())
		skip();
	file = cf_create(cf_ls, cf_top, "cut", 0644, &node);
	assert_int_equal(cf_put(cf_ls, file, "safe", 0), 4);
	assert_int_equal(ls_fsync(cf_ls, file, false), 0);
	assert_int_equal(cf_put(cf_ls, file, "lost?", 0), 5);
	/* every client, so ours too; evicting puts it on the blocklist */
	assert_int_equal(cf_admin("tell mds.0 client evict"), 0);
	/* Who finds it out is a write, on its own thread, and may be a tenant's user just then, to
	 * whom the keyring is closed. What was not synced is said to be lost, once; then all goes
	 * on. */
	assert_int_equal(cred_assume(cf_user, 0), 0);
	for (unsigned i = 0; i < 600; i++) {
		struct timespec wait = {0, 100000000};

		r = (int)cf_put(cf_ls, file, "again", 0);
		if (r < 0)
			break;
		nanosleep(&wait, NULL); /* until the client hears of it */
	}
	assert_int_equal(r, -EIO);
	assert_int_equal(cf_put(cf_ls, file, "after", 0), 5);
	cred_assume_service();
	assert_int_equal(ls_fsync(cf_ls, file, false), 0);
	cf_expect(cf_ls, file, 0, "after");
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(cf_ls, file);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "cut", false), 0);
	cf_admin("osd blocklist clear");
}

/* Who closes after a write hears of its loss, though nothing was synced and nobody else asked. */
static void a_close_tells_what_was_lost(void **state)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r = 0;

	if (!cf_has_admin())
		skip();
	file = cf_create(cf_ls, cf_top, "closed", 0644, &node);
	assert_int_equal(ls_flush(cf_ls, file), 0);
	assert_int_equal(cf_put(cf_ls, file, "lost?", 0), 5);
	assert_int_equal(ls_flush(cf_ls, file), 0);
	assert_int_equal(cf_admin("tell mds.0 client evict"), 0);
	for (unsigned i = 0; !r && i < 600; i++) {
		struct timespec wait = {0, 100000000};

		r = ls_flush(cf_ls, file);
		if (!r)
			nanosleep(&wait, NULL); /* until the client hears of it */
	}
	assert_int_equal(r, -EIO);
	assert_int_equal(ls_flush(cf_ls, file), 0);
	assert_int_equal(cf_put(cf_ls, file, "after", 0), 5);
	assert_int_equal(ls_flush(cf_ls, file), 0);
	assert_int_equal(ls_fsync(cf_ls, file, false), 0);
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(cf_ls, file);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "closed", false), 0);
	cf_admin("osd blocklist clear");
}

struct waiter {
	struct libservice *at;
	struct ls_node *top, *node, *synced_node;
	struct ls_file *file, *synced, *dir; /* synced: which no other call is about */
	int64_t (*ask)(struct waiter *w);
	int64_t r;
	pthread_t thread;
};

static bool any(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	return true;
}

static int64_t ask_make(struct waiter *w)
{
	struct ls_node *node;
	struct attr attr;
	int r =
	    ls_make(w->at, cf_root, w->top, "late-dir", S_IFDIR | 0755, 0, 0, NULL, &node, &attr);

	if (!r)
		ls_forget(w->at, node, 1);
	return r;
}

static int64_t ask_create(struct waiter *w)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r = ls_create(w->at, cf_root, w->top, "late", O_RDWR, 0644, 0, &node, &file, &attr);

	if (!r) {
		ls_release(w->at, file);
		ls_forget(w->at, node, 1);
	}
	return r;
}

static int64_t ask_lookup(struct waiter *w)
{
	struct ls_node *node;
	struct attr attr;
	int r = ls_lookup(w->at, cf_root, w->top, "elsewhere", &node, &attr);

	if (!r)
		ls_forget(w->at, node, 1);
	return r;
}

static int64_t ask_link(struct waiter *w)
{
	return ls_link(w->at, cf_root, w->node, w->top, "late-link");
}

static int64_t ask_lock(struct waiter *w)
{
	return ls_lock(w->at, w->node, 7, false, F_WRLCK, 0, 0);
}

static int64_t ask_fsync(struct waiter *w)
{
	return ls_fsync(w->at, w->synced, false);
}

static int64_t ask_xattr(struct waiter *w)
{
	return ls_setxattr(w->at, cf_root, w->node, "user.late", "1", 1, 0);
}

static int64_t ask_list(struct waiter *w)
{
	return ls_readdir(w->at, w->dir, 0, any, NULL);
}

static void *ask_once(void *arg)
{
	struct waiter *w = arg;

	w->r = w->ask(w);
	return NULL;
}

static int64_t (*const asks_an_mds[])(struct waiter *w) = {
    ask_make, ask_create, ask_lookup, ask_link, ask_lock, ask_fsync, ask_xattr, ask_list,
};
#define ASKS (sizeof(asks_an_mds) / sizeof(asks_an_mds[0]))

/* At a directory of its own. */
static void waiter_init(struct waiter *w, struct attr *attr)
{
	char path[sizeof(cf_dir) + 8];

	ls_forget(cf_ls, cf_make(cf_top, "own", S_IFDIR | 0755), 1);
	snprintf(path, sizeof(path), "%s/own", cf_dir);
	cf_limits.timeout_s = 2;
	w->at = cf_open_at(path, 0);
	cf_limits.timeout_s = 10;
	assert_int_equal(ls_root(w->at, &w->top, attr), 0);
	w->file = cf_create(w->at, w->top, "held", 0644, &w->node);
	w->synced = cf_create(w->at, w->top, "synced", 0644, &w->synced_node);
	assert_int_equal(cf_put(w->at, w->file, "safe", 0), 4);
	assert_int_equal(ls_fsync(w->at, w->file, false), 0);
	assert_int_equal(ls_fsync(w->at, w->synced, false), 0);
	assert_int_equal(ls_open(w->at, cf_root, w->top, O_RDONLY, &w->dir), 0);
}

static void waiter_done(struct waiter *w)
{
	ls_release(w->at, w->file);
	ls_release(w->at, w->synced);
	ls_release(w->at, w->dir);
	ls_forget(w->at, w->node, 1);
	ls_forget(w->at, w->synced_node, 1);
	assert_int_equal(ls_unlink(w->at, cf_root, w->top, "synced", false), 0);
	assert_int_equal(ls_unlink(w->at, cf_root, w->top, "held", false), 0);
	assert_int_equal(ls_unlink(w->at, cf_root, w->top, "late", false), 0);
	assert_int_equal(ls_unlink(w->at, cf_root, w->top, "late-link", false), 0);
	assert_int_equal(ls_unlink(w->at, cf_root, w->top, "late-dir", true), 0);
	ls_forget(w->at, w->top, 1);
	ls_free(w->at);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "own", true), 0);
}

static int64_t ask_attr(struct waiter *w)
{
	struct attr attr;

	return ls_getattr(w->at, w->node, NULL, &attr);
}

/* Asks until it is served again. */
static void until(struct waiter *w, int64_t (*ask)(struct waiter *w))
{
	struct timespec wait = {0, 100000000};
	int64_t r = -EIO;

	for (unsigned i = 0; r == -EIO && i < 900; i++) {
		r = ask(w);
		nanosleep(&wait, NULL);
	}
	assert_int_equal(r, 0);
}

static void until_served(struct waiter *w)
{
	until(w, ask_attr);
}

static void ask_all(struct waiter *of, struct waiter w[ASKS])
{
	for (unsigned i = 0; i < ASKS; i++) {
		w[i] = *of;
		w[i].ask = asks_an_mds[i];
		assert_int_equal(pthread_create(&w[i].thread, NULL, ask_once, &w[i]), 0);
	}
	for (unsigned i = 0; i < ASKS; i++)
		pthread_join(w[i].thread, NULL);
}

/* All are answered. The timeout is short here, and a cluster may take longer for once. */
static void all_are_served(struct waiter *of, struct waiter w[ASKS])
{
	unsigned late = 0;

	for (unsigned tries = 0; tries < 5; tries++) {
		ask_all(of, w);
		for (late = 0; late < ASKS && w[late].r != -EIO; late++)
			;
		if (late == ASKS)
			return;
		until_served(of);
	}
	fail_msg("call %u again: %d", late, (int)w[late].r);
}

static void a_call_that_no_mds_answers_ends(void **state)
{
	struct waiter of = {0}, w[ASKS];
	struct ls_node *own, *node;
	struct attr attr;

	if (cf_signal("mds.a", 0) < 0)
		skip();
	waiter_init(&of, &attr);
	assert_int_equal(cf_signal("mds.a", SIGSTOP), 0);
	assert_int_equal(cf_put(of.at, of.file, "more", 4), 4);
	assert_int_equal(cf_put(of.at, of.synced, "more", 0), 4);
	ask_all(&of, w);
	/* one more is refused at once, however much of the answer is in memory */
	assert_int_equal(ls_getattr(of.at, of.node, NULL, &attr), -EIO);
	assert_int_equal(cf_put(of.at, of.file, "never", 8), -EIO);
	assert_int_equal(cf_signal("mds.a", SIGCONT), 0);
	for (unsigned i = 0; i < ASKS; i++)
		if (w[i].r != -EIO)
			fail_msg("call %u: %d", i, (int)w[i].r);
	until_served(&of);
	/* the client is the same: nothing is lost, and what nobody waited for holds nothing */
	cf_expect(of.at, of.file, 0, "safemore");
	assert_int_equal(ls_fsync(of.at, of.file, false), 0);
	own = cf_get(cf_ls, cf_top, "own", NULL);
	node = cf_get(cf_ls, own, "held", NULL);
	assert_int_equal(ls_lock(cf_ls, node, 8, false, F_WRLCK, 0, 0), 0);
	assert_int_equal(ls_lock(cf_ls, node, 8, false, F_UNLCK, 0, 0), 0);
	ls_forget(cf_ls, node, 1);
	ls_forget(cf_ls, own, 1);
	all_are_served(&of, w);
	assert_int_equal(w[4].r, 0);
	assert_int_equal(w[5].r, 0);
	waiter_done(&of);
}

/* Its MDS has forgotten it and says nothing: no request is ever answered. */
static void a_client_that_is_not_heard_any_more_is_replaced(void **state)
{
	struct waiter of = {0}, w[ASKS];
	char evict[128];
	struct attr attr;
	int r;

	if (!cf_has_admin())
		skip();
	waiter_init(&of, &attr);
	assert_int_equal(cf_put(of.at, of.file, "lost", 0), 4);
	assert_int_equal(cf_put(of.at, of.synced, "lost", 0), 4);
	assert_int_equal(cf_admin("tell mds.0 config set mds_session_blocklist_on_evict false"), 0);
	snprintf(evict, sizeof(evict), "tell mds.0 client evict client_metadata.root=%s/own",
		 cf_dir);
	assert_int_equal(cf_admin(evict), 0);
	assert_int_equal(cf_admin("tell mds.0 config set mds_session_blocklist_on_evict true"), 0);
	ask_all(&of, w);
	/* but fsync where all had been written back before */
	for (unsigned i = 0; i < ASKS; i++)
		if (w[i].r != -EIO && (w[i].r || w[i].ask != ask_fsync))
			fail_msg("call %u: %d", i, (int)w[i].r);
	until_served(&of);
	r = ls_fsync(of.at, of.file, false); /* told by the first who asked, or now */
	assert_true(r == -EIO || r == 0);
	assert_int_equal(cf_put(of.at, of.file, "after", 0), 5);
	assert_int_equal(ls_fsync(of.at, of.file, false), 0);
	cf_expect(of.at, of.file, 0, "after");
	assert_int_equal(cf_put(of.at, of.file, "!", UINT64_MAX), 1);
	ls_release(of.at, of.dir);
	assert_int_equal(ls_open(of.at, cf_root, of.top, O_RDONLY, &of.dir), 0);
	all_are_served(&of, w);
	waiter_done(&of);
}

/* A host that holds a file and is stuck with it, while the MDS is well: it cannot write back what
 * is not synced. */
struct holder {
	struct libservice *at;
	struct ls_node *top, *node;
	struct ls_file *file;
};

static void holder_init(struct holder *h)
{
	char path[sizeof(cf_dir) + 8];
	struct attr attr;

	snprintf(path, sizeof(path), "%s/own", cf_dir);
	cf_limits.timeout_s = 100;
	h->at = cf_open_at(path, 0);
	cf_limits.timeout_s = 10;
	assert_int_equal(ls_root(h->at, &h->top, &attr), 0);
	h->node = cf_get(h->at, h->top, "held", NULL);
	assert_int_equal(ls_open(h->at, cf_root, h->node, O_RDWR, &h->file), 0);
	assert_int_equal(cf_put(h->at, h->file, "safe", 0), 4);
	assert_int_equal(ls_fsync(h->at, h->file, false), 0);
}

static void holder_done(struct holder *h)
{
	assert_int_equal(ls_fsync(h->at, h->file, false), 0);
	ls_release(h->at, h->file);
	ls_forget(h->at, h->node, 1);
	ls_forget(h->at, h->top, 1);
	ls_free(h->at);
}

/* Everything but the file that is held. */
static int64_t ask_the_rest(struct waiter *w)
{
	char text[8];
	struct iovec iov = {text, sizeof(text)};
	struct ls_node *node;
	struct attr attr;
	int64_t r = ls_getattr(w->at, w->synced_node, NULL, &attr);

	if (!r)
		r = ls_lookup(w->at, cf_root, w->top, "synced", &node, &attr);
	if (r < 0)
		return r;
	ls_forget(w->at, node, 1);
	r = ls_read(w->at, w->synced, &iov, 1, 0);
	return r == 6 && !memcmp(text, "beside", 6) ? 0 : r < 0 ? r : -EILSEQ;
}

static void what_another_host_holds_up_is_one_file(void **state)
{
	struct waiter of = {0}, alone;
	struct holder holder = {0};
	struct attr attr;

	if (cf_signal("osd.0", 0) < 0)
		skip();
	waiter_init(&of, &attr);
	holder_init(&holder);
	assert_int_equal(cf_put(of.at, of.synced, "beside", 0), 6);
	assert_int_equal(ls_fsync(of.at, of.synced, false), 0);
	assert_int_equal(ask_attr(&of), 0);
	assert_int_equal(cf_put(holder.at, holder.file, "more", 4), 4);
	assert_int_equal(cf_signal("osd.0", SIGSTOP), 0);
	/* answered from memory a moment ago, or not: who waits is bounded in one case alone */
	alone = of;
	alone.ask = ask_attr;
	assert_int_equal(pthread_create(&alone.thread, NULL, ask_once, &alone), 0);
	assert_int_equal(ask_attr(&of), -EIO);
	until(&of, ask_the_rest);
	assert_int_equal(ask_attr(&of), -EIO);
	until(&of, ask_the_rest);
	assert_int_equal(cf_signal("osd.0", SIGCONT), 0);
	pthread_join(alone.thread, NULL);
	until_served(&of);
	cf_expect(of.at, of.file, 0, "safemore");
	assert_int_equal(ask_create(&of), 0);
	assert_int_equal(ask_make(&of), 0);
	assert_int_equal(ask_link(&of), 0);
	holder_done(&holder);
	waiter_done(&of);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_dead_sessions_locks_are_taken_back),
	    cmocka_unit_test(a_cut_off_client_comes_back),
	    cmocka_unit_test(a_close_tells_what_was_lost),
	    cmocka_unit_test(a_call_that_no_mds_answers_ends),
	    cmocka_unit_test(a_client_that_is_not_heard_any_more_is_replaced),
	    cmocka_unit_test(what_another_host_holds_up_is_one_file),
	};

	return cmocka_run_group_tests(tests, cf_setup, cf_teardown);
}
