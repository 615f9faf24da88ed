/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a service's guard. Its process has one thread and sleeps until the service starts or ends a
 * face, or dies. */
#include "hooks/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/proto/guard.h"

#define FACES_MAX 4096
#define DEATH	  SIGUSR1

struct guard {
	struct {
		uint32_t connection;
		int abort;
	} face[FACES_MAX];
	unsigned n;
	bool dead; /* the service's first thread has ended */
};

/* A connection that is gone takes no notice: its number may be another's by now, but not the file. */
static void abort_face(int fd)
{
	ssize_t unused __attribute__((unused)) = write(fd, "1", 1);
}

static void forget(struct guard *guard, uint32_t connection)
{
	for (unsigned i = 0; i < guard->n; i++) {
		if (guard->face[i].connection != connection)
			continue;
		fd_close(guard->face[i].abort);
		guard->face[i] = guard->face[--guard->n];
		return;
	}
}

/* False when there is no service any more. */
static bool hear(struct guard *guard, int sock)
{
	struct guard_message message;
	unsigned nfds = 1;
	size_t len;
	int fd, r = fd_recv(sock, &message, sizeof(message), &len, &fd, &nfds);

	if (r == -EPROTO)
		return true; /* no room for its descriptor: that face does without */
	if (r < 0 || len != sizeof(message))
		return false;
	forget(guard, message.connection);
	if (!nfds)
		return true;
	if (guard->dead)
		abort_face(fd);
	if (guard->n == FACES_MAX) {
		fd_close(fd);
		return true;
	}
	guard->face[guard->n].connection = message.connection;
	guard->face[guard->n++].abort = fd;
	return true;
}

static void service_died(struct guard *guard)
{
	guard->dead = true;
	for (unsigned i = 0; i < guard->n; i++)
		abort_face(guard->face[i].abort);
}

/* The signal comes when the service's first thread ends, be it that others cannot (prctl(2),
 * PR_SET_PDEATHSIG); as soon as the others' descriptors are closed the socket tells. */
__attribute__((noreturn)) static void guard_main(pid_t service, int sock)
{
	static struct guard guard;
	struct signalfd_siginfo info;
	struct pollfd wait[2] = {{.fd = sock, .events = POLLIN}, {.events = POLLIN}};
	struct rlimit files;
	sigset_t set;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&set);
	sigaddset(&set, DEATH);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0 || prctl(PR_SET_NAME, "danaus-guard") < 0 ||
	    prctl(PR_SET_PDEATHSIG, DEATH) < 0 || null < 0 || chdir("/") < 0)
		_exit(1);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	/* nobody waits for an end of ours: of a runtime's pipe, of a lock */
	if (dup2(sock, 3) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(1);
	wait[0].fd = 3;
	wait[1].fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (wait[1].fd < 0)
		_exit(1);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (getppid() != service)
		service_died(&guard);
	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (wait[0].revents && !hear(&guard, wait[0].fd))
			_exit(0);
		/* the dying thread is the sender */
		if (wait[1].revents && read(wait[1].fd, &info, sizeof(info)) == sizeof(info) &&
		    (pid_t)info.ssi_pid == service)
			service_died(&guard);
	}
}

int guard_start(int *ret_fd)
{
	pid_t service = getpid(), child;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		guard_main(service, ends[1]);
	fd_close(ends[1]);
	if (child < 0) {
		fd_close(ends[0]);
		return -ENOMEM;
	}
	*ret_fd = ends[0];
	return 0;
}
