/* SPDX-License-Identifier: Apache-2.0 */
/* Called by the monitor and the receivers. */
#include "danaus/notify/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "danaus/base/fd.h"

#define ERESTARTSYS 512 /* the kernel's own; it never reaches a program whose signal is pending */

/* Signals that do nothing by default (signal(7)). */
#define BIT(sig)	(1ull << ((sig)-1))
#define DEFAULT_IGNORED (BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCONT))

struct masks {
	uint64_t thread, process, blocked, ignored, caught;
	unsigned threads;
};

static bool field(const char *text, const char *name, int base, uint64_t *ret)
{
	const char *at = strstr(text, name);

	if (!at)
		return false;
	*ret = strtoull(at + strlen(name), NULL, base);
	return true;
}

static bool read_status(pid_t tid, char *text, size_t cap_bytes)
{
	char path[48];
	CLEANUP_FD int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, cap_bytes - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

bool signals_user(pid_t tid, uid_t *ret)
{
	char text[4096];
	uint64_t uid;

	if (!read_status(tid, text, sizeof(text)) || !field(text, "\nUid:", 10, &uid))
		return false;
	*ret = (uid_t)uid;
	return true;
}

static bool read_masks(pid_t tid, struct masks *ret)
{
	char text[4096];
	uint64_t threads;

	if (!read_status(tid, text, sizeof(text)))
		return false;
	if (!field(text, "\nThreads:", 10, &threads) ||
	    !field(text, "\nSigPnd:", 16, &ret->thread) ||
	    !field(text, "\nShdPnd:", 16, &ret->process) ||
	    !field(text, "\nSigBlk:", 16, &ret->blocked) ||
	    !field(text, "\nSigIgn:", 16, &ret->ignored) ||
	    !field(text, "\nSigCgt:", 16, &ret->caught))
		return false;
	ret->threads = (unsigned)threads;
	return true;
}

static uint64_t wanted(const struct masks *m, uint64_t pending)
{
	return pending & ~m->blocked & ~m->ignored & ~(DEFAULT_IGNORED & ~m->caught);
}

bool signals_pending(pid_t tid)
{
	struct masks m;

	return read_masks(tid, &m) && wanted(&m, m.thread | m.process);
}

int64_t signals_interrupted(pid_t tid)
{
	struct masks m;

	if (!read_masks(tid, &m))
		return -EINTR;
	/* A signal to the process may go to another of its threads; one to this thread cannot. */
	if (wanted(&m, m.thread) || (m.threads == 1 && wanted(&m, m.process)))
		return -ERESTARTSYS;
	return wanted(&m, m.process) ? -EINTR : 0;
}

static void nothing(int sig)
{
	(void)sig;
}

int signals_wakeup(void)
{
	return SIGRTMIN + 4;
}

static void install(void)
{
	struct sigaction action = {.sa_handler = nothing};

	sigaction(signals_wakeup(), &action, NULL);
}

void signals_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
}
