/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the cache libservice share: cache.c (volumes, nodes, what is only passed on),
 * cache_share.c (one cache per source), cache_data.c (reads, changes, checks), cache_pages.c (the
 * store).
 *
 * Locks, in the order in which they are taken: cinode.change (held over a call of the layer below),
 * cache_core.nodes_lock, cache_store.lock. A hit takes none: it finds its page in an RCU section
 * and copies it out there. A page's content never changes while a reader can find it: a change
 * takes the page away, and its memory is used again after a grace period. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "danaus/service/cache.h"
#include "danaus/service/list.h"
#include "danaus/service/rcu.h"

#define CACHE_PAGE	   4096u
#define CACHE_PAGE_BUCKETS (1u << 18)
#define CACHE_NODE_BUCKETS 1024u
#define CACHE_LEAVES_MAX   STACK_LOWER_MAX
#define CACHE_FILL_PAGES   32u /* in one call of the layer below */
#define CACHE_AHEAD_PAGES  4u  /* the least that is read ahead */

struct cache_page {
	_Atomic(struct cache_page *) chain; /* in its bucket, while it is found there */
	uint64_t id;			    /* of its inode */
	uint64_t index;			    /* offset / CACHE_PAGE */
	struct cinode *inode;		    /* for the store's lock's holder */
	char *data;
	uint32_t len;	   /* less than a page: the file ends here */
	bool hot;	   /* which queue */
	atomic_bool used;  /* since it was last looked at */
	atomic_bool ahead; /* read ahead, and not asked for yet */
	struct list queue; /* hot or cold */
	struct list of_inode;
	struct cache_page *next; /* free, or waiting for a grace period */
};

struct cache_chunk;

struct cache_store {
	pthread_mutex_t lock;
	_Atomic(struct cache_page *) *bucket; /* written with the lock held */
	struct cache_page *free, *limbo;      /* limbo: readers may still copy from them */
	struct cache_chunk *chunks;
	/* Pages that were read once wait in a queue, first come first gone; who was used again when
	 * he gets to its end goes to the hot ones, a clock. So a scan only passes through. (Johnson
	 * and Shasha, 2Q, 1994; Yang et al., S3-FIFO, 2023.) */
	struct list cold, hot;
	uint64_t ncold, nhot, allocated, limit; /* pages */
	uint64_t bytes, budget;
	uint64_t last_id;
	uint64_t check_ns; /* CACHE_CHECK_NS, but for tests */
	bool is_private;   /* of the only cache in it */

	pthread_mutex_t cores_lock;
	struct cache_core *cores;
	atomic_uint ncores; /* for those who must not wait for an attach */
};

/* An inode of the layer below, while somebody has it or pages of it are there. All but change,
 * npages and checked_until: the store's lock. */
struct cinode {
	struct cinode *chain;
	struct cache_core *core;
	uint64_t id; /* never used again: pages of a dead one are not found */
	uint64_t dev, ino;
	unsigned nodes;
	struct list pages;
	atomic_uint npages;
	/* Held over each change that goes through this cache. */
	pthread_mutex_t change;
	unsigned changing;
	uint64_t token; /* counts what makes a read that is under way unfit to be kept */
	/* What the pages are of; without it there are none. */
	bool stamped;
	bool recent; /* the time is too young to tell two changes apart */
	bool wrote;  /* we, since it was last compared */
	struct attr stamp;
	_Atomic uint64_t checked_until; /* CLOCK_MONOTONIC ns */
};

/* One per node of the layer below while somebody has it. */
struct ls_node {
	struct ls_node *chain;
	struct ls_node *lower;
	struct cinode *inode; /* of a regular file, or NULL */
	uint64_t refs;	      /* nodes_lock */
};

struct ls_file {
	struct ls_file *lower;
	struct ls_node *node; /* the vfs holds it longer than the file */
	bool direct;
	_Atomic uint64_t next; /* where a sequential reader goes on */
	atomic_uint ahead;     /* pages */
};

struct cache_leaf {
	char *text; /* kind:path */
	bool writable;
};

/* One source with a cache. */
struct cache_core {
	struct cache_core *next_core;
	struct cache_store *store;
	struct libservice *next;
	char *key;
	struct cache_leaf leaf[CACHE_LEAVES_MAX];
	unsigned nleaves;
	struct cache *views; /* cores_lock */
	pthread_mutex_t nodes_lock;
	struct ls_node *nodes[CACHE_NODE_BUCKETS];
	struct cinode *inodes[CACHE_NODE_BUCKETS]; /* the store's lock */
};

/* One volume on it. */
struct cache {
	struct libservice base;
	struct cache_core *core;
	struct cache *next_view;
};

static inline struct cache_core *core_of(struct libservice *ls)
{
	return ((struct cache *)ls)->core;
}

/* cache_pages.c */

/* Up to n pages that nobody can find; 0: the budget is all in use. May wait for readers. */
unsigned cache_pages_take(struct cache_store *store, struct cache_page **pages, unsigned n);
/* In an RCU section. */
struct cache_page *cache_pages_find(struct cache_store *store, const struct cinode *inode,
				    uint64_t index);
/* The rest with the store's lock held. */
void cache_pages_give_back(struct cache_store *store, struct cache_page *page);
/* False, and given back, when there is one already. */
bool cache_pages_insert(struct cache_store *store, struct cinode *inode, uint64_t index,
			uint32_t len, bool ahead, struct cache_page *page);
/* Pages first to last, last UINT64_MAX: to the end. */
void cache_pages_drop(struct cache_store *store, struct cinode *inode, uint64_t first,
		      uint64_t last);
/* Nothing that is known of the inode's data is good any more. */
void cache_inode_forget_data(struct cache_store *store, struct cinode *inode);
struct cinode *cache_inode_get(struct cache_core *core, uint64_t dev, uint64_t ino);
void cache_inode_put(struct cinode *inode);
/* Every node is gone, pages may be there. Without the lock. */
void cache_core_drop(struct cache_core *core);

/* cache_share.c */

/* Sets view->core: the cache of what source names and lower was made of; lower is its own from here
 * on, or freed. */
int cache_share(struct cache_store *store, const struct stack_source *source,
		const struct stack_limits *limits, struct libservice *lower, struct cache *view,
		struct err *err);
/* Frees the core with its last volume, and its store if that is its own. */
void cache_unshare(struct cache *view);

/* cache_data.c */

/* What others may have changed, asked now. */
void cache_check(struct cache_core *core, struct ls_node *node);

enum cache_change {
	CACHE_WRITE,   /* [offset, offset + len) */
	CACHE_APPEND,  /* at the end */
	CACHE_REST,    /* all from offset on */
	CACHE_METADATA /* the times alone */
};
/* Around each change of a regular file; the change itself is the caller's. node->inode is set. */
void cache_change_begin(struct cache_core *core, struct ls_node *node, enum cache_change change,
			uint64_t offset, uint64_t len_bytes);
void cache_change_end(struct cache_core *core, struct ls_node *node);

ssize_t cache_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset);
ssize_t cache_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end);
int cache_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes);
