/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vfs_env.h"

#include <pthread.h>
#include <sys/file.h>

struct world {
	struct env env;
	struct vctx one, two, three; /* processes */
	struct vfile *file, *other;  /* two opens of one inode */
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	env_start(&w->env, false);
	w->one = env_ctx(w->env.root, 11);
	w->two = env_ctx(w->env.root, 12);
	w->three = env_ctx(w->env.root, 13);
	assert_int_equal(env_open(&w->env, &w->one, "f", O_RDWR | O_CREAT, 0600, &w->file), 0);
	assert_int_equal(env_open(&w->env, &w->one, "f", O_RDWR, 0, &w->other), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	vfile_unref(w->file);
	vfile_unref(w->other);
	env_stop(&w->env);
	free(w);
	return 0;
}

static int lock(struct vctx *ctx, struct vfile *file, int cmd, short type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return vfs_lock(ctx, file, cmd, &fl);
}

static uint64_t count(struct world *w)
{
	struct vfs_counts counts;

	vfs_count(w->env.vfs, &counts);
	return counts.locks;
}

static void writers_exclude_readers_share(void **state)
{
	struct world *w = *state;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_RDLCK, 0, 10), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_RDLCK, 5, 10), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 5, 10), -EAGAIN);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 10, 10), 0);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 5), 0);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_UNLCK, 0, 0), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_UNLCK, 0, 0), 0);
	assert_int_equal(count(w), 0);
}

static void ranges_split_and_join(void **state)
{
	struct world *w = *state;
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 100), 0);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_UNLCK, 40, 20), 0);
	assert_int_equal(count(w), 2);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 40, 20), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_UNLCK, 40, 20), 0);
	assert_int_equal(vfs_lock(&w->two, w->file, F_GETLK, &fl), 0);
	assert_int_equal(fl.l_type, F_WRLCK);
	assert_int_equal(fl.l_pid, 11);
	assert_int_equal(fl.l_len, 40);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 40, 20), 0);
	assert_int_equal(count(w), 1);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_RDLCK, 10, 10), 0);
	assert_int_equal(count(w), 3);
	/* Any close of the inode by the process drops them all. */
	vfile_close_owner(w->other, 11);
	assert_int_equal(count(w), 0);
}

static void an_owner_that_is_gone_holds_nothing(void **state)
{
	struct world *w = *state;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 0), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 0, 0), -EAGAIN);
	vfs_owner_gone(w->env.vfs, 11);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 0, 0), 0);
	vfs_owner_gone(w->env.vfs, 12);
	assert_int_equal(count(w), 0);
}

static void description_locks_belong_to_the_file(void **state)
{
	struct world *w = *state;

	assert_int_equal(lock(&w->one, w->file, F_OFD_SETLK, F_WRLCK, 0, 0), 0);
	assert_int_equal(lock(&w->two, w->file, F_OFD_SETLK, F_WRLCK, 0, 0), 0);
	assert_int_equal(lock(&w->one, w->other, F_OFD_SETLK, F_WRLCK, 0, 0), -EAGAIN);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 0), -EAGAIN);
	vfile_close_owner(w->file, 11);
	assert_int_equal(count(w), 1);
	vfile_unref(w->file);
	assert_int_equal(count(w), 0);
	assert_int_equal(env_open(&w->env, &w->one, "f", O_RDWR, 0, &w->file), 0);
}

static void flock_is_by_file_and_apart(void **state)
{
	struct world *w = *state;

	assert_int_equal(vfs_flock(&w->one, w->file, LOCK_SH), 0);
	assert_int_equal(vfs_flock(&w->one, w->other, LOCK_SH), 0);
	assert_int_equal(vfs_flock(&w->one, w->other, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 0, 0), 0);
	assert_int_equal(vfs_flock(&w->one, w->file, LOCK_UN), 0);
	assert_int_equal(vfs_flock(&w->one, w->other, LOCK_EX | LOCK_NB), 0);
	vfile_unref(w->other);
	assert_int_equal(vfs_flock(&w->one, w->file, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(env_open(&w->env, &w->one, "f", O_RDWR, 0, &w->other), 0);
	vfs_owner_gone(w->env.vfs, 12);
}

static void what_fcntl_refuses(void **state)
{
	struct world *w = *state;
	struct vfile *rd;

	assert_int_equal(env_open(&w->env, &w->one, "f", O_RDONLY, 0, &rd), 0);
	assert_int_equal(lock(&w->one, rd, F_SETLK, F_WRLCK, 0, 0), -EBADF);
	assert_int_equal(lock(&w->one, rd, F_SETLK, F_RDLCK, -1, 0), -EINVAL);
	assert_int_equal(lock(&w->one, rd, F_SETLK, 7, 0, 0), -EINVAL);
	assert_int_equal(lock(&w->one, rd, F_SETLK, F_RDLCK, INT64_MAX, 2), -EOVERFLOW);
	vfile_unref(rd);
}

struct waiting {
	struct world *w;
	struct vctx ctx;
	int cmd, result;
	off_t start;
	atomic_bool cancel, done;
};

static void *wait_for_it(void *arg)
{
	struct waiting *me = arg;

	me->ctx.cancel = &me->cancel;
	me->result = lock(&me->ctx, me->w->file, F_SETLKW, F_WRLCK, me->start, 1);
	atomic_store(&me->done, true);
	return NULL;
}

static void a_waiter_gets_it_next(void **state)
{
	struct world *w = *state;
	struct waiting me = {.w = w, .ctx = w->two};
	pthread_t thread;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 1), 0);
	pthread_create(&thread, NULL, wait_for_it, &me);
	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_UNLCK, 0, 1), 0);
	pthread_join(thread, NULL);
	assert_int_equal(me.result, 0);
	vfs_owner_gone(w->env.vfs, 12);
}

static void a_cancelled_waiter_goes(void **state)
{
	struct world *w = *state;
	struct waiting me = {.w = w, .ctx = w->two};
	pthread_t thread;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 1), 0);
	pthread_create(&thread, NULL, wait_for_it, &me);
	atomic_store(&me.cancel, true);
	vfs_cancel(w->env.vfs);
	pthread_join(thread, NULL);
	assert_int_equal(me.result, -EINTR);
	vfs_owner_gone(w->env.vfs, 11);
	assert_int_equal(count(w), 0);
}

static void *wait_in_a_circle(void *arg)
{
	struct waiting *me = arg;

	me->result = lock(&me->ctx, me->w->file, F_SETLKW, F_WRLCK, me->start, 1);
	/* Got it or not: let the others go on. */
	vfs_owner_gone(me->w->env.vfs, me->ctx.owner);
	return NULL;
}

static void a_circle_is_refused(void **state)
{
	struct world *w = *state;
	struct waiting one = {.w = w, .ctx = w->one, .start = 2};
	struct waiting two = {.w = w, .ctx = w->two, .start = 0};
	struct waiting three = {.w = w, .ctx = w->three, .start = 1};
	pthread_t threads[2];
	int refused = 0;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 1), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 1, 1), 0);
	assert_int_equal(lock(&w->three, w->file, F_SETLK, F_WRLCK, 2, 1), 0);
	pthread_create(&threads[0], NULL, wait_in_a_circle, &two);
	pthread_create(&threads[1], NULL, wait_in_a_circle, &three);
	wait_in_a_circle(&one);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	/* A thread that came after another had finished met no circle. */
	refused = (one.result == -EDEADLK) + (two.result == -EDEADLK) + (three.result == -EDEADLK);
	assert_true(refused <= 1);
	assert_int_equal(count(w), 0);
}

static void a_circle_of_two_is_refused(void **state)
{
	struct world *w = *state;
	struct waiting two = {.w = w, .ctx = w->two, .start = 0};
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
	pthread_t thread;

	assert_int_equal(lock(&w->one, w->file, F_SETLK, F_WRLCK, 0, 1), 0);
	assert_int_equal(lock(&w->two, w->file, F_SETLK, F_WRLCK, 1, 1), 0);
	pthread_create(&thread, NULL, wait_in_a_circle, &two);
	/* Whoever comes second is refused; if that is two, one gets the lock. */
	two.done = vfs_lock(&w->one, w->file, F_SETLKW, &fl) == -EDEADLK;
	vfs_owner_gone(w->env.vfs, 11);
	pthread_join(thread, NULL);
	assert_int_equal(two.result, two.done ? 0 : -EDEADLK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(writers_exclude_readers_share),
	    TEST(ranges_split_and_join),
	    TEST(an_owner_that_is_gone_holds_nothing),
	    TEST(description_locks_belong_to_the_file),
	    TEST(flock_is_by_file_and_apart),
	    TEST(what_fcntl_refuses),
	    TEST(a_waiter_gets_it_next),
	    TEST(a_cancelled_waiter_goes),
	    TEST(a_circle_is_refused),
	    TEST(a_circle_of_two_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
