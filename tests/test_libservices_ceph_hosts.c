/* SPDX-License-Identifier: Apache-2.0 */
/* Two clients of one CephFS directory, as two hosts have it, that take a file's capabilities from
 * each other (tests/lib/ceph_world.h). */
#include "tests/lib/ceph_world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS 15
#define TURNS  100
#define BYTES  16

static char name[64];

struct host {
	struct libservice *ls;
	struct ls_node *top;
};

static void join(struct host *h)
{
	struct attr attr;

	h->ls = cf_open_at("/", 0);
	assert_int_equal(ls_root(h->ls, &h->top, &attr), 0);
}

static void part(struct host *h)
{
	ls_forget(h->ls, h->top, 1);
	ls_free(h->ls);
}

static const char *turn(struct host *h, struct ls_node *node, struct ls_file *file)
{
	char text[BYTES + 1] = "";
	struct iovec iov = {text, BYTES};
	struct timespec soon = {0, 1000000};
	uint64_t end;
	int r;

	while ((r = ls_lock(h->ls, node, 1, true, F_WRLCK, 0, 0)) == -EAGAIN)
		nanosleep(&soon, NULL);
	if (r < 0)
		return "a lock";
	if (ls_read(h->ls, file, &iov, 1, 0) < 0)
		return "a read";
	snprintf(text, sizeof(text), "%015d\n", (atoi(text) + 1) % 1000000);
	iov.iov_len = BYTES;
	if (ls_write(h->ls, file, &iov, 1, 0, false, &end) != BYTES)
		return "a write";
	return ls_lock(h->ls, node, 1, true, F_UNLCK, 0, 0) < 0 ? "an unlock" : NULL;
}

/* Adds to the number in the file under a lock. NULL, or what failed. */
static void *count(void *arg)
{
	struct host *h = arg;
	const char *failed = NULL;
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;

	if (ls_lookup(h->ls, cred_root(), h->top, name, &node, &attr) < 0)
		return "a lookup";
	if (ls_open(h->ls, cred_root(), node, O_RDWR, &file) < 0)
		return "an open";
	for (int i = 0; i < TURNS && !failed; i++)
		failed = turn(h, node, file);
	ls_release(h->ls, file);
	ls_forget(h->ls, node, 1);
	return (void *)failed;
}

static int number(struct host *h)
{
	char text[BYTES + 1] = "";
	struct iovec iov = {text, BYTES};
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;

	assert_int_equal(ls_lookup(h->ls, cred_root(), h->top, name, &node, &attr), 0);
	assert_int_equal(ls_open(h->ls, cred_root(), node, O_RDONLY, &file), 0);
	assert_int_equal(ls_read(h->ls, file, &iov, 1, 0), BYTES);
	ls_release(h->ls, file);
	ls_forget(h->ls, node, 1);
	return atoi(text);
}

static void nobody_is_left_waiting(void **state)
{
	struct host hosts[2] = {0};

	join(&hosts[0]);
	join(&hosts[1]);
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t thread;
		struct ls_node *node;
		struct ls_file *file;
		struct attr attr;
		void *failed;

		assert_int_equal(ls_create(hosts[0].ls, cred_root(), hosts[0].top, name, O_RDWR,
					   0600, 0, &node, &file, &attr),
				 0);
		ls_release(hosts[0].ls, file);
		ls_forget(hosts[0].ls, node, 1);
		assert_int_equal(pthread_create(&thread, NULL, count, &hosts[1]), 0);
		assert_null(count(&hosts[0]));
		pthread_join(thread, &failed);
		assert_null(failed);
		assert_int_equal(number(&hosts[round % 2]), 2 * TURNS);
		assert_int_equal(ls_unlink(hosts[0].ls, cred_root(), hosts[0].top, name, false), 0);
	}
	part(&hosts[0]);
	part(&hosts[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nobody_is_left_waiting),
	};

	if (!cf_has_cluster())
		return 77;
	snprintf(name, sizeof(name), "hosts-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
