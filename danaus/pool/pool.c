/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing: the doors' way to the pool's threads. */
#include "danaus/pool/pool.h"

#include "danaus/pool/loop.h"
#include "danaus/pool/workers.h"

int pool_run(struct pool *pool, void (*fn)(void *arg), void *arg)
{
	return workers_run(pool->workers, fn, arg);
}

int pool_watch(struct pool *pool, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
	       void *arg)
{
	return loop_add(pool->loop, fd, events, fn, arg);
}

void pool_unwatch(struct pool *pool, int fd)
{
	loop_remove(pool->loop, fd);
}
