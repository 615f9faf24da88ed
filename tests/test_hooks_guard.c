/* SPDX-License-Identifier: Apache-2.0 */
/* The guard of a service that is a process of this test, over pipes instead of fusectl's files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/proto/guard.h"
#include "hooks/guard.h"

static void *stays(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

static void tell(int guard, uint32_t connection, int fd)
{
	const struct guard_message message = {connection};

	if (fd_send(guard, &message, sizeof(message), &fd, fd >= 0) < 0)
		_exit(1);
}

/* A service with two faces, of which the first has ended. Its first thread goes on as told by to. */
static pid_t service(const int abort_fds[2], int from, int to)
{
	pid_t pid = fork();
	pthread_t thread;
	int guard;
	char c;

	if (pid)
		return pid;
	if (guard_start(&guard) < 0)
		_exit(1);
	tell(guard, 7, abort_fds[0]);
	tell(guard, 8, abort_fds[1]);
	tell(guard, 7, -1);
	close(abort_fds[0]);
	close(abort_fds[1]);
	if (write(from, "", 1) != 1 || read(to, &c, 1) != 1)
		_exit(1);
	if (c == 'e')
		_exit(0);
	/* what is left of a killed service whose other threads cannot die yet */
	if (pthread_create(&thread, NULL, stays, NULL))
		_exit(1);
	syscall(SYS_exit, 0);
	_exit(1);
}

static void run(char how)
{
	int one[2], two[2], from[2], to[2], status;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(one, O_CLOEXEC) | pipe2(two, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC) | pipe2(to, O_CLOEXEC), 0);
	pid = service((int[]){one[1], two[1]}, from[1], to[0]);
	assert_true(pid > 0);
	close(one[1]);
	close(two[1]);
	close(from[1]);
	assert_int_equal(read(from[0], &c, 1), 1);
	/* the face that has ended is forgotten */
	assert_int_equal(read(one[0], &c, 1), 0);
	assert_int_equal(poll(&(struct pollfd){.fd = two[0], .events = POLLIN}, 1, 0), 0);
	assert_int_equal(write(to[1], &how, 1), 1);
	if (how == 'd') {
		assert_int_equal(read(two[0], &c, 1), 1);
		assert_int_equal(c, '1');
		kill(pid, SIGKILL);
	}
	/* nobody has it open any more: the guard has ended with its service */
	while (read(two[0], &c, 1) > 0)
		;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(how == 'd' ? WTERMSIG(status) : WEXITSTATUS(status),
			 how == 'd' ? SIGKILL : 0);
	close(one[0]);
	close(two[0]);
	close(from[0]);
	close(to[0]);
	close(to[1]);
}

static void a_killed_service_has_its_faces_aborted(void **state)
{
	run('d');
}

static void the_guard_ends_with_its_service(void **state)
{
	run('e');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_killed_service_has_its_faces_aborted),
	    cmocka_unit_test(the_guard_ends_with_its_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
