/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a listener in the guard. What starts from a path or a kernel descriptor the kernel carries
 * out itself: on a volume that ends at the mount of a dead FUSE connection, ENOTCONN. What starts
 * from a descriptor of Danaus ends with EIO, and so does what the service may have begun. Nothing
 * here may wait for a program: its memory is not read, its descriptors are not opened (they may be
 * on a FUSE mount of its own). The guard's one thread. */
#include "hooks/guard_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "danaus/base/fd.h"

#define RECEIVE_US 20000

int guarded_init(uint32_t number, int listener, int ledger, struct guarded *ret)
{
	CLEANUP_FD int owned = listener;
	CLEANUP_FD int file = ledger;
	struct stat st;
	void *shared;

	if (fstat(file, &st) < 0 || st.st_size != sizeof(struct guard_ledger))
		return -EINVAL;
	shared =
	    mmap(NULL, sizeof(struct guard_ledger), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (shared == MAP_FAILED)
		return -errno;
	*ret = (struct guarded){.fd = STEAL_FD(owned), .number = number, .ledger = shared};
	return 0;
}

void guarded_done(struct guarded *listener)
{
	munmap(listener->ledger, sizeof(*listener->ledger));
	fd_close(listener->fd);
}

/* Anchors are opened with access mode 3, which nothing else is (open(2)). */
static bool is_anchor(pid_t tid, int number)
{
	char path[64], text[256], *at;
	CLEANUP_FD int info = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)tid, number);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strstr(text, "flags:");
	return at && (strtoul(at + strlen("flags:"), NULL, 8) & O_ACCMODE) == O_ACCMODE;
}

static int error_of(const struct guard_ledger *ledger, const struct seccomp_notif *call)
{
	unsigned nr = (unsigned)call->data.nr;
	unsigned descriptors = nr < GUARD_CALLS ? ledger->descriptors[nr] : 0;

	for (unsigned i = 0; i < 6; i++) {
		int fd = (int)call->data.args[i];

		if ((descriptors >> i & 1) && fd >= ledger->fd_base &&
		    is_anchor((pid_t)call->pid, fd))
			return -EIO;
	}
	return 0;
}

/* ENOENT: the caller went away, or has its answer. */
static void answer(int listener, uint64_t id, int error)
{
	struct seccomp_notif_resp response = {
	    .id = id, .error = error, .flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	while (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) && errno == EINTR)
		;
}

void guarded_answer_received(struct guarded *listener)
{
	struct guard_ledger *ledger = listener->ledger;

	for (unsigned i = 0; i < ledger->used && i < GUARD_RECEIVERS; i++) {
		struct guard_call *call = &ledger->call[i];

		if (!call->request.id)
			continue;
		answer(listener->fd, call->request.id,
		       call->acts ? -EIO : error_of(ledger, &call->request));
		call->request.id = 0;
	}
}

static void nothing(int sig)
{
	(void)sig;
}

/* Receiving cannot be asked not to wait (seccomp_unotify(2)). Who may take it away in between:
 * threads of a service that is dying, and a program that has kept a listener which it made itself.
 */
void guarded_answer_next(struct guarded *listener)
{
	static const struct itimerval soon = {{0, RECEIVE_US}, {0, RECEIVE_US}}, never;
	const struct sigaction interrupt = {.sa_handler = nothing}; /* no SA_RESTART */
	struct pollfd wait = {.fd = listener->fd, .events = POLLIN};
	struct seccomp_notif request = {0};
	int r;

	if (poll(&wait, 1, 0) <= 0 || !(wait.revents & POLLIN) ||
	    sigaction(SIGALRM, &interrupt, NULL) < 0 || setitimer(ITIMER_REAL, &soon, NULL) < 0)
		return;
	r = ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_RECV, &request);
	setitimer(ITIMER_REAL, &never, NULL);
	if (!r)
		answer(listener->fd, request.id, error_of(listener->ledger, &request));
}
