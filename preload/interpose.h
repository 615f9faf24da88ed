/* SPDX-License-Identifier: Apache-2.0 */
/* What interpose.def's values are made of: libc's conventions on one side, the wrappers' on the
 * other. */
#pragma once

#include <stdarg.h>

#include "preload/wrap.h"

extern char **environ __attribute__((weak));

/* The same in glibc and musl. */
#define SC_OPEN_MAX_ 4
#define FTW_CHDIR_   4
#define FTS_NOCHDIR_ 4 /* glibc's alone */

/* A libc function's failure as a negative errno. */
static inline long back(long r, long failure)
{
	return unlikely(r == failure) ? -*__errno_location() : r;
}

static inline void *fail_null(long r)
{
	edge(r);
	return NULL;
}

static inline void *as_pointer(long r)
{
	return (void *)edge(r);
}

/* _FORTIFY_SOURCE: the program's buffer is smaller than what it asks for. */
static inline void check(size_t len, size_t room)
{
	if (unlikely(len > room))
		LIBC(void, __chk_fail)();
}

struct many_header {
	struct msg_header msg;
	unsigned len;
};

#define SPAWNING(type, call)                                                                       \
	({                                                                                         \
		spawn_prepare();                                                                   \
		type spawned_ = (call);                                                            \
		exec_failed();                                                                     \
		spawned_;                                                                          \
	})

/* fork() and its like: prepared before, the child told after. */
#define forked(call)                                                                               \
	({                                                                                         \
		fork_prepare();                                                                    \
		int child_ = (call);                                                               \
		if (child_ == 0)                                                                   \
			fork_child();                                                              \
		child_;                                                                            \
	})

/* closefrom(3), also without close_range(2). */
void close_from(int first);
/* Before libc's own threads work on a control block's descriptor. Source of both: the program. */
void aio_export(const int *cb);
void aio_export_list(int *const *list, int n);
/* libc is about to close the stream's descriptor (NULL: none), or has closed all streams; returns
 * r. */
void stdio_forget(void *file);
int stdio_closed(int r);
/* Before libc forks and execs by itself. */
void spawn_prepare(void);
/* daemon(3) has changed the working directory; returns r. */
int daemonized(int r);
/* execve(2), and the search of execvp(3) by libc: return only when they fail. */
long exec_path(const char *path, char *const *argv, char *const *envp);
int exec_search(const char *file, char *const *argv, char *const *envp);
/* A call that may have changed namespaces or mounts is done, flags as unshare(2)'s; returns r. */
long spaces_changed(long r, int flags);
/* Before libc walks a tree by itself. */
void tree_walk(bool changes_directory);
/* setfsuid(2) and its like never say whether they failed; returns r. */
long changed_anyway(long r);
/* By the time-out's unit; timeout_ms < 0, timeout NULL: without an end. */
long poll_ms(struct pollfd_ *fds, unsigned long n, int timeout_ms);
long poll_ns(struct pollfd_ *fds, unsigned long n, const struct timespec_ *timeout,
	     const void *signals);
long select_us(int n, void *in, void *out, void *except, const struct timespec_ *timeout);
/* Of messages with descriptors: after one or several were received, whose number is r, which they
 * return; before several are sent. */
long received(long r, struct msg_header *msg, int flags);
long received_many(long r, struct many_header *msgs, int flags);
void export_many(const struct many_header *msgs, unsigned n);
