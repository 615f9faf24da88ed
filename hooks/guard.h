/* SPDX-License-Identifier: Apache-2.0 */
/* A service's guard: a small process that does for the service, once it is killed, what keeps its
 * containers alive. It aborts the connections of the service's kernel faces: a killed thread that
 * waits for an answer of the service's own face cannot end by itself, so that neither the face's
 * descriptor nor the mount would ever be let go. And it answers the system calls of programs that
 * the notify door heard (hooks/guard_calls.h), until the last of them has ended. The guard stays
 * outside of the container's cgroup, whose processes the runtime kills all at once. */
#pragma once

/* Forks the guard of the calling thread, which must be the first one of the process that is about
 * to become the service, before it joins any cgroup. *ret_fd: the service's end of their socket
 * (danaus/proto/guard.h), CLOEXEC, the caller's. The guard ends when the last copy of it is closed
 * and no process is left that has a filter whose listener it was given; the last it does is
 * at_end(pool). log: where its messages go, the caller's; -1: nowhere. */
int guard_start(int log, void (*at_end)(const char *pool), const char *pool, int *ret_fd);
