/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a service's guard. Its process has one thread and sleeps until the service starts or ends a
 * face or a listener, or dies, or a listener's last process ends. */
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
#include "danaus/base/log.h"
#include "danaus/proto/guard.h"
#include "hooks/guard_calls.h"

#define FACES_MAX 4096
#define DEATH	  SIGUSR1
#define LOOK_MS	  50 /* between two looks at what a dying service leaves */
#define NICE	  19

/* The service's life as its guard sees it. A dying service's other threads may take long to end;
 * until then one of them may still receive a notification, which nobody answers but us. */
enum life { LIVES, DIES, IS_GONE };
enum { WAIT_SOCKET, WAIT_SIGNAL, WAIT_LISTENERS };

struct guard {
	struct {
		uint32_t connection;
		int abort;
	} face[FACES_MAX];
	unsigned nfaces;
	struct guarded listener[GUARD_LISTENERS_MAX];
	unsigned nlisteners;
	enum life life;
	struct pollfd wait[WAIT_LISTENERS + GUARD_LISTENERS_MAX];
};

/* A connection that is gone takes no notice: its number may be another's by now, but not the file.
 */
static void abort_face(int fd)
{
	ssize_t unused __attribute__((unused)) = write(fd, "1", 1);
}

static void face_ended(struct guard *guard, uint32_t connection)
{
	for (unsigned i = 0; i < guard->nfaces; i++) {
		if (guard->face[i].connection != connection)
			continue;
		fd_close(guard->face[i].abort);
		guard->face[i] = guard->face[--guard->nfaces];
		return;
	}
}

static void face_starts(struct guard *guard, uint32_t connection, int fd)
{
	face_ended(guard, connection);
	if (guard->life != LIVES)
		abort_face(fd);
	if (guard->nfaces == FACES_MAX) {
		log_limited(LOG_WARN, "more than %d kernel faces: one is not guarded", FACES_MAX);
		fd_close(fd);
		return;
	}
	guard->face[guard->nfaces].connection = connection;
	guard->face[guard->nfaces++].abort = fd;
}

/* From now on its calls are ours. They are a tenant's, outside of his cgroup: whatever else there
 * is to do on this machine goes first. */
static void take_over(struct guard *guard, unsigned i)
{
	setpriority(PRIO_PROCESS, 0, NICE);
	guard->listener[i].left = true;
	guard->wait[WAIT_LISTENERS + i].events = POLLIN;
	guarded_answer_received(&guard->listener[i]);
}

static void listener_starts(struct guard *guard, uint32_t number, const int fds[2])
{
	unsigned i = guard->nlisteners;

	if (i == GUARD_LISTENERS_MAX) {
		log_limited(LOG_WARN, "more than %d listeners: one is not guarded",
			    GUARD_LISTENERS_MAX);
		fd_close(fds[0]);
		fd_close(fds[1]);
		return;
	}
	if (guarded_init(number, fds[0], fds[1], &guard->listener[i]) < 0)
		return;
	guard->wait[WAIT_LISTENERS + i] = (struct pollfd){.fd = fds[0]};
	guard->nlisteners++;
	if (guard->life != LIVES)
		take_over(guard, i);
}

static void listener_left(struct guard *guard, uint32_t number)
{
	for (unsigned i = 0; i < guard->nlisteners; i++) {
		if (guard->listener[i].number == number && !guard->listener[i].left)
			take_over(guard, i);
	}
}

static void service_dies(struct guard *guard)
{
	if (guard->life != LIVES)
		return;
	guard->life = DIES;
	for (unsigned i = 0; i < guard->nfaces; i++)
		abort_face(guard->face[i].abort);
	for (unsigned i = 0; i < guard->nlisteners; i++)
		take_over(guard, i);
}

/* Its last thread has ended, or it has let go of us. */
static void service_is_gone(struct guard *guard)
{
	service_dies(guard);
	guard->life = IS_GONE;
	guard->wait[WAIT_SOCKET].fd = fd_close(guard->wait[WAIT_SOCKET].fd);
	while (guard->nfaces)
		fd_close(guard->face[--guard->nfaces].abort);
	for (unsigned i = 0; i < guard->nlisteners; i++)
		guarded_answer_received(&guard->listener[i]);
	if (guard->nlisteners)
		log_info("the service is gone; the calls of %u process trees end at its volumes",
			 guard->nlisteners);
}

static void hear(struct guard *guard)
{
	struct guard_message message;
	unsigned nfds = 2;
	size_t len;
	int fds[2],
	    r = fd_recv(guard->wait[WAIT_SOCKET].fd, &message, sizeof(message), &len, fds, &nfds);

	if (r == -EPROTO) {
		log_limited(LOG_WARN,
			    "no room for a descriptor: a kernel face or a listener is not guarded");
		return;
	}
	if (r < 0 || len != sizeof(message)) {
		service_is_gone(guard);
		return;
	}
	if (message.kind == GUARD_FACE && nfds == 1) {
		face_starts(guard, message.number, fds[0]);
		return;
	}
	if (message.kind == GUARD_LISTENER && nfds == 2) {
		listener_starts(guard, message.number, fds);
		return;
	}
	while (nfds)
		fd_close(fds[--nfds]);
	if (message.kind == GUARD_FACE_ENDED)
		face_ended(guard, message.number);
	else if (message.kind == GUARD_LISTENER_LEFT)
		listener_left(guard, message.number);
}

static void look_after_listeners(struct guard *guard)
{
	for (unsigned i = guard->nlisteners; i--;) {
		struct pollfd *wait = &guard->wait[WAIT_LISTENERS + i];

		if (wait->revents & (POLLHUP | POLLNVAL)) {
			guarded_done(&guard->listener[i]);
			guard->listener[i] = guard->listener[--guard->nlisteners];
			*wait = guard->wait[WAIT_LISTENERS + guard->nlisteners];
			continue;
		}
		if (guard->life == DIES)
			guarded_answer_received(&guard->listener[i]);
		if (wait->revents & POLLIN)
			guarded_answer_next(&guard->listener[i]);
	}
}

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, DEATH);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0 || prctl(PR_SET_PDEATHSIG, DEATH) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The signal comes when the service's first thread ends, be it that others cannot (prctl(2),
 * PR_SET_PDEATHSIG); as soon as the others' descriptors are closed the socket tells. */
static void guard_main(pid_t service, int sock, int log)
{
	static struct guard guard;
	struct signalfd_siginfo info;
	struct rlimit files;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (prctl(PR_SET_NAME, "danaus-guard") < 0 || null < 0 || chdir("/") < 0)
		_exit(1);
	log_open("danaus-guard", LOG_INFO);
	sock = fcntl(sock, F_DUPFD_CLOEXEC, 4);
	dup2(log >= 0 ? log : null, STDERR_FILENO);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	/* nobody waits for an end of ours: of a runtime's pipe, of a lock */
	if (dup2(sock, 3) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(1);
	guard.wait[WAIT_SOCKET] = (struct pollfd){.fd = 3, .events = POLLIN};
	guard.wait[WAIT_SIGNAL] = (struct pollfd){.fd = signals(), .events = POLLIN};
	if (guard.wait[WAIT_SIGNAL].fd < 0)
		_exit(1);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (getppid() != service)
		service_dies(&guard);
	while (guard.life != IS_GONE || guard.nlisteners) {
		if (poll(guard.wait, WAIT_LISTENERS + guard.nlisteners,
			 guard.life == DIES ? LOOK_MS : -1) < 0) {
			if (errno != EINTR)
				_exit(1);
			continue;
		}
		look_after_listeners(&guard);
		if (guard.wait[WAIT_SOCKET].revents)
			hear(&guard);
		/* the dying thread is the sender */
		if (guard.wait[WAIT_SIGNAL].revents &&
		    read(guard.wait[WAIT_SIGNAL].fd, &info, sizeof(info)) == sizeof(info) &&
		    (pid_t)info.ssi_pid == service)
			service_dies(&guard);
	}
}

int guard_start(int log, void (*at_end)(const char *pool), const char *pool, int *ret_fd)
{
	pid_t service = getpid(), child;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		guard_main(service, ends[1], log);
		at_end(pool);
		_exit(0);
	}
	fd_close(ends[1]);
	if (child < 0) {
		fd_close(ends[0]);
		return -ENOMEM;
	}
	*ret_fd = ends[0];
	return 0;
}
