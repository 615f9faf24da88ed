/* SPDX-License-Identifier: Apache-2.0 */
/* The guard of a service that is a process of this test: over pipes instead of fusectl's files, and
 * for a program under a filter that notifies two calls, mkdirat() and pread(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static void at_end(const char *pool)
{
	dprintf(STDERR_FILENO, "the end of %s\n", pool);
}

static void tell(int guard, uint32_t connection, int fd)
{
	const struct guard_message message = {fd < 0 ? GUARD_FACE_ENDED : GUARD_FACE, connection};

	if (fd_send(guard, &message, sizeof(message), &fd, fd >= 0) < 0)
		_exit(1);
}

/* A service with two faces, of which the first has ended. Its first thread goes on as told by to.
 */
static pid_t service(const int abort_fds[2], int from, int to)
{
	pid_t pid = fork();
	pthread_t thread;
	int guard;
	char c;

	if (pid)
		return pid;
	if (guard_start(-1, at_end, "pool", &guard) < 0)
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

/* A program under a filter. */

#define BASE   100
#define ANCHOR (BASE + 1)
#define KERNEL (BASE + 2)

static char directory[] = "/tmp/test-guard-XXXXXX";

static int load_filter(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdirat, 1, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(
	    SYS_seccomp, SECCOMP_SET_MODE_FILTER,
	    SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
}

static int call(char which)
{
	char byte;
	long r = which == 'p' ? mkdirat(AT_FDCWD, "made", 0700) /* a path */
		 : which == 'a'
		     ? mkdirat(ANCHOR, "made", 0700) /* from a directory of the service's */
		 : which == 'o' ? mkdirat(KERNEL, "made", 0700) /* from one that is none */
		 : which == 'r' ? pread(ANCHOR, &byte, 1, 0)
				: pread(KERNEL, &byte, 1, 0);

	return r < 0 ? errno : 0;
}

/* Makes the calls that it is told to, and tells their errors. */
static void program_main(int sock)
{
	int listener, error, fd;
	char which;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (chdir(directory) < 0 || (fd = open("file", O_RDWR | O_CREAT, 0600)) < 0 ||
	    dup2(fd, KERNEL) < 0 || (fd = open("file", O_ACCMODE)) < 0 || dup2(fd, ANCHOR) < 0)
		_exit(1);
	listener = load_filter();
	if (fd_send(sock, "", 1, &listener, 1) < 0)
		_exit(2);
	close(listener);
	while (read(sock, &which, 1) == 1) {
		error = call(which);
		if (write(sock, &error, sizeof(error)) != sizeof(error))
			_exit(3);
	}
	_exit(0);
}

struct world {
	pid_t program, service;
	int program_sock, service_sock;
	int log; /* the guard's: its end is the guard's end */
};

static struct guard_ledger *new_ledger(int *ret_file)
{
	struct guard_ledger *ledger;

	*ret_file = memfd_create("ledger", MFD_CLOEXEC);
	if (*ret_file < 0 || ftruncate(*ret_file, sizeof(*ledger)) < 0)
		_exit(1);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED, *ret_file, 0);
	if (ledger == MAP_FAILED)
		_exit(1);
	ledger->fd_base = BASE;
	ledger->descriptors[SYS_mkdirat] = ledger->descriptors[SYS_pread64] = 1;
	ledger->used = 2;
	return ledger;
}

/* Hands over, then does as it is told: receives a call into its ledger, and begins it; leaves the
 * listener; hands it over again and again. */
static void service_main(int sock, int log, int listener)
{
	struct guard_ledger *ledger;
	struct guard_message message = {GUARD_LISTENER, 5};
	int guard, file;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (guard_start(log, at_end, "pool", &guard) < 0)
		_exit(1);
	close(log);
	ledger = new_ledger(&file);
	if (fd_send(guard, &message, sizeof(message), (const int[]){listener, file}, 2) < 0 ||
	    write(sock, "", 1) != 1)
		_exit(2);
	do {
		switch (c = '\0', read(sock, &c, 1), c) {
		case 'b':
			ledger->call[1].acts = 1;
			/* fall through */
		case 'r':
			if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ledger->call[1].request) < 0)
				_exit(3);
			break;
		case 'l':
			message.kind = GUARD_LISTENER_LEFT;
			if (fd_send(guard, &message, sizeof(message), NULL, 0) < 0)
				_exit(4);
			close(listener);
			break;
		case 'm':
			for (int i = 0; i < 3000; i++) {
				message.number = 100 + i;
				if (fd_send(guard, &message, sizeof(message),
					    (const int[]){listener, file}, 2) < 0)
					_exit(5);
			}
			break;
		default:
			_exit(6);
		}
	} while (write(sock, &c, 1) == 1);
	_exit(0);
}

static void begin(struct world *w)
{
	int program[2], service[2], log[2], listener = -1;
	unsigned nfds = 1;
	size_t len;
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, program), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, service), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	w->program = fork();
	if (!w->program) {
		close(program[0]);
		close(log[1]);
		program_main(program[1]);
	}
	close(program[1]);
	assert_int_equal(fd_recv(program[0], &c, 1, &len, &listener, &nfds), 0);
	assert_true(listener >= 0);
	w->service = fork();
	if (!w->service) {
		close(program[0]);
		close(service[0]);
		service_main(service[1], log[1], listener);
	}
	close(listener);
	close(service[1]);
	close(log[1]);
	w->program_sock = program[0];
	w->service_sock = service[0];
	w->log = log[0];
	assert_int_equal(read(w->service_sock, &c, 1), 1);
}

static void ask(int sock, char what)
{
	assert_int_equal(write(sock, &what, 1), 1);
}

static int result(struct world *w)
{
	int error;

	assert_int_equal(read(w->program_sock, &error, sizeof(error)), sizeof(error));
	return error;
}

static void service_does(struct world *w, char what)
{
	char c;

	ask(w->service_sock, what);
	assert_int_equal(read(w->service_sock, &c, 1), 1);
}

static void kill_service(struct world *w)
{
	int status;

	kill(w->service, SIGKILL);
	assert_int_equal(waitpid(w->service, &status, 0), w->service);
	assert_true(WIFSIGNALED(status));
}

/* The program ends, and so the guard does. Whether that did its last duty. */
static bool end(struct world *w)
{
	char text[65536];
	size_t len = 0;
	int status;
	ssize_t n;

	close(w->program_sock);
	assert_int_equal(waitpid(w->program, &status, 0), w->program);
	assert_int_equal(WEXITSTATUS(status), 0);
	while ((n = read(w->log, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	assert_int_equal(n, 0);
	text[len] = '\0';
	close(w->log);
	close(w->service_sock);
	return strstr(text, "the end of pool\n");
}

static void calls_go_on(struct world *w)
{
	static const struct {
		char which;
		int error;
	} rows[] = {{'p', 0}, {'a', EIO}, {'o', ENOTDIR}, {'r', EIO}, {'k', 0}, {'p', EEXIST}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ask(w->program_sock, rows[i].which);
		assert_int_equal(result(w), rows[i].error);
	}
}

static int remove_made(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/made", directory);
	rmdir(path);
	return 0;
}

static void calls_go_on_without_a_service(void **state)
{
	struct world w;

	begin(&w);
	kill_service(&w);
	calls_go_on(&w);
	assert_true(end(&w));
}

static void a_call_that_was_only_received_goes_on(void **state)
{
	struct world w;

	begin(&w);
	ask(w.program_sock, 'p');
	service_does(&w, 'r');
	kill_service(&w);
	assert_int_equal(result(&w), 0);
	end(&w);
}

static void a_call_on_a_descriptor_that_was_received_fails(void **state)
{
	struct world w;

	begin(&w);
	ask(w.program_sock, 'r');
	service_does(&w, 'r');
	kill_service(&w);
	assert_int_equal(result(&w), EIO);
	end(&w);
}

static void a_call_that_was_begun_fails(void **state)
{
	struct world w;

	begin(&w);
	ask(w.program_sock, 'p');
	service_does(&w, 'b');
	kill_service(&w);
	assert_int_equal(result(&w), EIO);
	calls_go_on(&w);
	end(&w);
}

static void a_listener_that_is_left_is_served(void **state)
{
	struct world w;

	begin(&w);
	service_does(&w, 'l');
	calls_go_on(&w);
	kill_service(&w);
	ask(w.program_sock, 'p');
	assert_int_equal(result(&w), EEXIST);
	end(&w);
}

static void listeners_have_a_limit(void **state)
{
	struct world w;
	char text[256] = "";
	ssize_t n;

	begin(&w);
	service_does(&w, 'm');
	n = read(w.log, text, sizeof(text) - 1);
	assert_true(n > 0);
	assert_non_null(strstr(text, "more than 2048 listeners"));
	kill_service(&w);
	ask(w.program_sock, 'p');
	assert_int_equal(result(&w), 0);
	end(&w);
}

/* The guard's process is the service's only child. */
static void a_service_outlives_its_guard(void **state)
{
	struct world w;
	char path[64], text[32] = "", byte;
	int fd;

	begin(&w);
	service_does(&w, 'm'); /* it has started */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", w.service, w.service);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(kill(atoi(text), SIGKILL), 0);
	while (read(w.log, &byte, 1) > 0)
		;
	ask(w.program_sock, 'p');
	service_does(&w, 'r');
	kill_service(&w);
	/* as before there was one */
	assert_int_equal(result(&w), ENOSYS);
	end(&w);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[64];

	remove_made(state);
	snprintf(path, sizeof(path), "%s/file", directory);
	unlink(path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_killed_service_has_its_faces_aborted),
	    cmocka_unit_test(the_guard_ends_with_its_service),
	    cmocka_unit_test_setup(calls_go_on_without_a_service, remove_made),
	    cmocka_unit_test_setup(a_call_that_was_only_received_goes_on, remove_made),
	    cmocka_unit_test_setup(a_call_on_a_descriptor_that_was_received_fails, remove_made),
	    cmocka_unit_test_setup(a_call_that_was_begun_fails, remove_made),
	    cmocka_unit_test_setup(a_listener_that_is_left_is_served, remove_made),
	    cmocka_unit_test_setup(listeners_have_a_limit, remove_made),
	    cmocka_unit_test_setup(a_service_outlives_its_guard, remove_made),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
