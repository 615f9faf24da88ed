/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: everything that one danausd owns, and the services its doors share. */
#pragma once

#include <jansson.h>
#include <sched.h>
#include <stdbool.h>

#include "danaus/libservices/cache/cache.h"
#include "danaus/pool/anchor.h"
#include "danaus/pool/process.h"
#include "danaus/vfs/vfs.h"

struct pool {
	char *name;
	char *dir; /* /run/danaus/pools/NAME */
	struct vfs *vfs;
	struct leases *leases;	    /* the vfs's */
	struct cache_store *caches; /* of the volumes that have a cache */
	struct anchors *anchors;
	struct workers *workers; /* pool/workers.h: tasks that may block */
	struct loop *loop;	 /* pool/loop.h: epoll, one thread */
	struct shm_server *shm;	 /* shm/client.h */
	/* Set by it: waits until the clients of processes that have ended have given back what they
	 * hold (shm_server_settle()). */
	bool (*settle)(struct shm_server *shm, struct container *container);
	cpu_set_t cpus; /* where the service runs */
	int ncpus;
	int guard_fd;	       /* of danaus/proto/guard.h; -1: none */
	uint64_t budget_bytes; /* danaus.cache: the largest of its containers so far */
};

/* Runs fn(arg) on a pool worker thread, soon. Threads are made as needed up to a limit (128) and
 * rest when idle. -EAGAIN at the limit with a full queue. */
int pool_run(struct pool *pool, void (*fn)(void *arg), void *arg);
/* Calls fn(arg, events) on the loop's thread whenever fd is ready for events (epoll(7)), until
 * removed. fn must not block. */
int pool_watch(struct pool *pool, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
	       void *arg);
void pool_unwatch(struct pool *pool, int fd);
