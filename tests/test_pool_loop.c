/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/pool/loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

struct end {
	struct loop *loop;
	int fd, calls, leave_at;
};

static void on_byte(void *arg, uint32_t events)
{
	struct end *end = arg;
	char byte;

	if (events & EPOLLIN)
		assert_int_equal(read(end->fd, &byte, 1), 1);
	if (++end->calls == end->leave_at) {
		loop_remove(end->loop, end->fd);
		loop_stop(end->loop);
	}
}

static void watches_are_called_until_removed(void **state)
{
	struct end end = {.leave_at = 3};
	int fds[2];

	assert_int_equal(loop_new(&end.loop), 0);
	assert_int_equal(pipe(fds), 0);
	end.fd = fds[0];
	assert_int_equal(write(fds[1], "12345", 5), 5);
	assert_int_equal(loop_add(end.loop, fds[0], EPOLLIN, on_byte, &end), 0);
	assert_int_equal(loop_add(end.loop, fds[0], EPOLLIN, on_byte, &end), -EEXIST);
	assert_int_equal(loop_run(end.loop), 0);
	assert_int_equal(end.calls, 3);
	assert_int_equal(loop_modify(end.loop, fds[0], EPOLLIN), -ENOENT);
	loop_free(end.loop);
	close(fds[0]);
	close(fds[1]);
}

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* After loop_remove() the watch's memory may go. */
static void removing_from_another_thread_waits_for_the_call(void **state)
{
	struct loop *loop;
	pthread_t thread;

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(pthread_create(&thread, NULL, run, loop), 0);
	for (int i = 0; i < 200; i++) {
		struct end end = {.loop = loop};
		int fds[2];

		assert_int_equal(pipe(fds), 0);
		end.fd = fds[0];
		assert_int_equal(loop_add(loop, fds[0], EPOLLIN, on_byte, &end), 0);
		assert_int_equal(write(fds[1], "1", 1), 1);
		loop_remove(loop, fds[0]);
		close(fds[0]);
		close(fds[1]);
	}
	loop_stop(loop);
	pthread_join(thread, NULL);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(watches_are_called_until_removed),
	    cmocka_unit_test(removing_from_another_thread_waits_for_the_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
