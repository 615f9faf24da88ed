/* SPDX-License-Identifier: Apache-2.0 */
/* A service's guard: a small process that aborts the connections of the service's kernel faces when
 * the service is killed. A killed thread that waits for an answer of the service's own face cannot
 * end by itself, so that neither the face's descriptor nor the mount would ever be let go. The guard
 * stays outside of the container's cgroup, whose processes the runtime kills all at once. */
#pragma once

/* Forks the guard of the calling thread, which must be the first one of the process that is about to
 * become the service, before it joins any cgroup. *ret_fd: the service's end of their socket
 * (danaus/proto/guard.h), CLOEXEC, the caller's. The guard ends when the last copy of it is closed. */
int guard_start(int *ret_fd);
