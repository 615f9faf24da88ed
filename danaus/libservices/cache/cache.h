/* SPDX-License-Identifier: Apache-2.0 */
/* The cache libservice: file data of the layer below, in the pool's own memory. It stacks on one
 * other: `cache:[local:/srv/a]`.
 *
 * What is read is kept in pages of 4 KiB, at most as many as the store's budget has room for. What
 * is written goes to the layer below before the write returns, so fsync, errors, space and quotas
 * are that layer's, and nothing is lost with the service.
 *
 * With `writeback` (`cache:[local:/srv/a,writeback]`), where all sources are this host's, what is
 * written stays in pages and goes below by a thread of the store's own: after CACHE_AGE_NS, when a
 * quarter of the pages is dirty, when the file is closed, at fsync, syncfs and before each change
 * that is not a write. From a half on, writers wait. What fails then is tried CACHE_RETRIES times,
 * and told to each open file of the inode once.
 *
 * One store per pool; in it, one cache per source however many volumes use it, so that all
 * containers of the pool see one content at once. What others change (another host, another pool, a
 * volume without a cache) is seen at the next open (close-to-open, as RFC 7530 section 10.3.1), at
 * the next lock that the layer below shares between hosts, and by a file that stays open after
 * CACHE_CHECK_NS, each time by comparing size, mtime, ctime and btime. */
#pragma once

#include "danaus/libservices/libservice.h"
#include "danaus/proto/source.h"

#define CACHE_CHECK_NS	1000000000u
#define CACHE_BYTES_MIN (1u << 20)
#define CACHE_AGE_NS	2000000000u /* what was written is on its way down by then */
#define CACHE_RETRY_NS	500000000u
#define CACHE_RETRIES	5u
#define CACHE_DIRTY_MAX 2048u /* inodes: each keeps a file of the layer below open */

struct cache_store;

/* No memory is taken before something is cached. */
int cache_store_new(uint64_t budget_bytes, struct cache_store **ret);
/* Every cache in it is freed. */
void cache_store_free(struct cache_store *store);
/* Only more than before has an effect. */
void cache_store_set_budget(struct cache_store *store, uint64_t bytes);

struct cache_counts {
	uint64_t bytes;	 /* taken from the system: pages and what describes them */
	uint64_t budget; /* bytes never goes beyond */
	uint64_t pages;	 /* that hold data now */
	uint64_t dirty;	 /* of these, not below yet */
	bool used;	 /* there is a cache in the store */
};
void cache_store_count(struct cache_store *store, struct cache_counts *ret);

/* What stack.c calls. source is the cache's own, with its one nested source, which lower[0] was
 * made of. limits->caches: the pool's store; NULL: one of its own, of limits->cache_bytes. On
 * success lower belongs to *ret, or was freed because the same source has a cache already. -EBUSY
 * when one of its writable directories is part of another cache's, or the other way round. */
int cache_open(const struct source *source, const struct stack_limits *limits,
	       struct libservice **lower, struct libservice **ret, struct err *err);
