/* SPDX-License-Identifier: Apache-2.0 */
/* What interpose.def's values are made of: libc's conventions on one side, the wrappers' on the
 * other. */
#pragma once

#include <stdarg.h>

#include "preload/wrap.h"

extern char **environ __attribute__((weak));

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

void close_from(int first);
void aio_export(const int *cb);
void aio_export_list(int *const *list, int n);
void stdio_forget(void *file);
int stdio_closed(int r);
void spawn_prepare(void);
int daemonized(int r);
long exec_path(const char *path, char *const *argv, char *const *envp);
int exec_search(const char *file, char *const *argv, char *const *envp);
long spaces_changed(long r, int flags);
void tree_walk(bool changes_directory);
int changed_anyway(int r);
long poll_ms(struct pollfd_ *fds, unsigned long n, int timeout_ms);
long poll_ns(struct pollfd_ *fds, unsigned long n, const struct timespec_ *timeout,
	     const void *signals);
long select_us(int n, void *in, void *out, void *except, const struct timespec_ *timeout);
long received(long r, struct msg_header *msg, int flags);
void export_many(const struct many_header *msgs, unsigned n);
long received_many(long r, struct many_header *msgs, int flags);
