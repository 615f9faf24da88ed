/* SPDX-License-Identifier: Apache-2.0 */
/* A pool's service as the hooks see it: started when it is not there, asked over its control socket
 * (docs/protocol.md). One hook at a time holds a pool. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "danaus/base/err.h"
#include "danaus/base/fd.h"

/* The environment of a service that has a client of Ceph: its buffers come and go all the time, and
 * the libc would give each one's pages back, to take and clear them again. In huge pages, which
 * only the first arena grows by, and kept. */
#define SERVICE_MALLOC                                                                             \
	"GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:"                          \
	"glibc.malloc.trim_threshold=16777216:glibc.malloc.mmap_threshold=16777216"

struct service; /* the pool's lock and a connection */

/* Waits for the pool's lock and connects; where there is no service and start_spec is given (a
 * container's spec.json), starts one in the cgroups of the process pid: the container's own, or for
 * a pool of another name than the container a group beside it. -ENOENT when there is none to join;
 * what one that was killed left is removed then. */
int service_enter(const char *pool, const json_t *start_spec, pid_t pid, struct service **ret,
		  struct err *err);
void service_leave(struct service *service);

/* Lets go of the pool and waits until the service closes the connection, as it does when it ends
 * after its last container, or for timeout_ms. */
void service_await_end(struct service *service, int timeout_ms);

/* One request, one answer: *ret_answer is a new reference. An answer that is not ok is the
 * errno it names (or -EIO), with its text. fds as fd_recv(): *nfds is the room on entry. */
int service_ask(struct service *service, const json_t *request, unsigned timeout_s,
		json_t **ret_answer, int *fds, unsigned *nfds, struct err *err);

/* Removes what containers left whose runtime called no poststop: their directories, and of pools
 * whose service is gone, too. pool: only those of that one; NULL: all. */
void service_sweep(const char *pool);
