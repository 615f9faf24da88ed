/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the cache libservice share: cache.c (volumes, nodes, what is only passed on),
 * share.c (one cache per source), data.c (reads, changes, checks), pages.c (the
 * store), write.c (writes), dirty.c (what is not below yet), flusher.c.
 *
 * Locks, in the order in which they are taken: cinode.change and cinode.flush (held over calls of
 * the layer below), cache_core.nodes_lock, cache_store.lock. A hit takes none: it finds its page in
 * an RCU section and copies it out there. What a page has up to its len never changes while a
 * reader can find it: a change takes the page away, or puts another one into its place, and its
 * memory is used again after a grace period. Only what is behind len is written in place.
 *
 * Write-back: from the first write that stays in the pool's memory until all of it is below, an
 * inode is dirty (cinode.dirty). Whoever holds change may begin that; who holds change and flush
 * ends it. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "danaus/base/clock.h"
#include "danaus/base/list.h"
#include "danaus/base/rcu.h"
#include "danaus/libservices/cache/cache.h"

#define CACHE_PAGE	   4096u
#define CACHE_PAGE_BUCKETS (1u << 18)
#define CACHE_NODE_BUCKETS 1024u
#define CACHE_LEAVES_MAX   SOURCE_LOWER_MAX
#define CACHE_FILL_PAGES   32u /* in one call of the layer below */
#define CACHE_AHEAD_PAGES  4u  /* the least that is read ahead */

struct cache_page {
	_Atomic(struct cache_page *) chain; /* in its bucket, while it is found there */
	uint64_t id;			    /* of its inode */
	uint64_t index;			    /* offset / CACHE_PAGE */
	struct cinode *inode;		    /* for the store's lock's holder */
	char *data;
	_Atomic uint32_t len; /* less than a page: the file ends here */
	bool hot;	      /* which queue */
	bool dirty;	      /* not below yet */
	uint16_t holds;	      /* the flusher reads from it, or a writer adds to it */
	atomic_bool used;     /* since it was last looked at */
	atomic_bool ahead;    /* read ahead, and not asked for yet */
	struct list queue;    /* dirty: its inode's; held: none; else hot or cold */
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
	uint64_t ncold, nhot, nlimbo, allocated, limit; /* pages */
	uint64_t bytes, budget;
	uint64_t last_id;
	uint64_t check_ns; /* CACHE_CHECK_NS, but for tests */
	bool is_private;   /* of the only cache in it */

	/* Write-back. */
	struct list dirty;	      /* inodes, the one that is so for the longest time first */
	unsigned ninodes;	      /* in it */
	uint64_t ndirty, nwriting;    /* pages; nwriting: on their way down */
	uint64_t serial;	      /* of the last inode in dirty */
	uint64_t age_ns, retry_ns;    /* CACHE_AGE_NS, CACHE_RETRY_NS, but for tests */
	pthread_cond_t work, cleaned; /* for the flusher; for who waits for it */
	uint64_t wake_at;	      /* the flusher sleeps until then; 0: it does not */
	struct cache_core *flushing;  /* the flusher has an inode of it */
	pthread_t flusher;
	bool has_flusher, ends;

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
	uint64_t epoch; /* struct attr; another one when pages go because they may be old */
	bool stamped;
	bool recent;			/* the time is too young to tell two changes apart */
	bool wrote;			/* we, since it was last compared */
	struct attr stamp;		/* its size is dirty_size while the inode is dirty */
	_Atomic uint64_t checked_until; /* CLOCK_MONOTONIC ns */

	/* Held over each writing of dirty pages to the layer below. */
	pthread_mutex_t flush;
	bool dirty;
	bool plain;   /* no bits and capabilities that a write takes off; under change */
	bool watched; /* somebody waits for the host's events; under change */
	bool untold;  /* no open file has told its program of error yet */
	bool has_shown;
	int error;	   /* the last one of a flush */
	unsigned errors;   /* counts them */
	unsigned failures; /* in a row */
	unsigned opens;	   /* files of the layer above */
	unsigned ndirty;
	uint64_t serial;     /* orders store->dirty */
	uint64_t due;	     /* CLOCK_MONOTONIC ns: when it has to go down, at the latest */
	uint64_t generation; /* of dirty */
	struct list pages_dirty, in_store;
	/* 0 while the inode is not dirty. A reader reads it before it looks for a page, a writer
	 * changes it after he put his pages there: so what is within it, in no page and not below,
	 * is a hole. */
	_Atomic uint64_t dirty_size;
	struct ls_file *file; /* a reference: through it goes what is dirty */
	struct timespec wrote_at;
	/* While the ctime below is the one that our own flush has left: what is shown instead. */
	struct timespec flushed_ctime, shown_at;
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
	struct ls_node *node; /* one reference */
	atomic_uint refs;
	bool direct, readable;
	bool appends;		/* lower can do nothing else */
	unsigned errors;	/* of its inode, that are told; the store's lock */
	struct ls_file *reader; /* of the same, where lower is not readable; under change */
	_Atomic uint64_t next;	/* where a sequential reader goes on */
	atomic_uint ahead;	/* pages */
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
	bool writeback;
	atomic_bool watched; /* a directory is: events come when they happen */
	/* Of the source's free space (of the file system room_dev), what nothing dirty needs; a
	 * guess until room_until. The store's lock. */
	uint64_t room_dev, room_bytes, room_until;
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

/* pages.c: pages and inodes. But where said otherwise with the store's lock held, none waits,
 * none fails. */

/* Up to n pages that nobody can find, the caller's until he inserts them or gives them back. Fewer,
 * or 0: the budget is all in use. Without any lock of the cache; may wait for readers. */
unsigned cache_pages_take(struct cache_store *store, struct cache_page **pages, unsigned n);
/* Of pages that were taken and that nobody has seen. */
void cache_pages_give_back(struct cache_store *store, struct cache_page *page);
/* With the lock held or in an RCU section, which its content is good for; NULL. */
struct cache_page *cache_pages_find(struct cache_store *store, const struct cinode *inode,
				    uint64_t index);
/* Takes page over, whose first len bytes are the file's; ahead: nobody has asked for it yet. False,
 * and given back, when there is one already. */
bool cache_pages_insert(struct cache_store *store, struct cinode *inode, uint64_t index,
			uint32_t len, bool ahead, struct cache_page *page);
/* The same, but whatever was there goes, and it is dirty from the beginning. */
void cache_pages_put_dirty(struct cache_store *store, struct cinode *inode, uint64_t index,
			   uint32_t len, struct cache_page *page);
/* Pages first to last, last UINT64_MAX: to the end. Dirty ones are lost. */
void cache_pages_drop(struct cache_store *store, struct cinode *inode, uint64_t first,
		      uint64_t last);
/* Nobody evicts it meanwhile; its memory stays what it is also when it is taken away. Each hold is
 * ended by one unhold. */
void cache_pages_hold(struct cache_store *store, struct cache_page *page);
void cache_pages_unhold(struct cache_store *store, struct cache_page *page);
/* Into and out of its inode's dirty ones, while it is held. */
void cache_pages_dirty(struct cache_store *store, struct cache_page *page);
void cache_pages_undirty(struct cache_store *store, struct cache_page *page);
/* The one inode of (dev, ino), made if need be; counted in cinode.nodes until it is put. NULL: no
 * memory. */
struct cinode *cache_inode_get(struct cache_core *core, uint64_t dev, uint64_t ino);
/* The last one frees it, or the eviction of its last page does. */
void cache_inode_put(struct cinode *inode);
/* Nothing that is known of the inode's data is good any more: pages and stamp go, and what is being
 * read now is not kept. Of a dirty one nothing happens. */
void cache_inode_forget_data(struct cache_store *store, struct cinode *inode);
/* Frees the inodes and pages of a core that has no nodes any more, and the store's memory with the
 * last core. Without any lock; waits for readers. */
void cache_core_drop(struct cache_core *core);

/* share.c: without any lock of the cache; may block. */

/* Sets view->core: the cache of what source names and lower was made of. On success lower is its
 * own from here on, or freed. -EBUSY (err says whose), -E2BIG for more than CACHE_LEAVES_MAX
 * directories, -ENOMEM, what starting the flusher gave. */
int cache_share(struct cache_store *store, const struct source *source,
		const struct stack_limits *limits, struct libservice *lower, struct cache *view,
		struct err *err);
/* With its last volume the core goes: what is dirty goes below, or is lost. So does its store, if
 * that is its own. */
void cache_unshare(struct cache *view);

/* data.c */

/* Compares with what is below now: pages that others may have changed go, and all of them where
 * that cannot be told. Without any lock; may block. */
void cache_check(struct cache_core *core, struct ls_node *node);
/* The inode's epoch (struct attr), after its pages were compared as those of a file that stays
 * open. */
uint64_t cache_epoch(struct cache_core *core, struct ls_node *node);

enum cache_change {
	CACHE_WRITE,   /* [offset, offset + len) */
	CACHE_APPEND,  /* at the end */
	CACHE_REST,    /* all from offset on */
	CACHE_METADATA /* the times alone */
};
/* Around each change of a regular file (node->inode is set); the change itself is the caller's.
 * What is dirty goes below first; where that fails, so does a change of data, with its error, and
 * it has no end. On success node->inode->change is held until the end. The thread keeps its
 * identity. */
int cache_change_begin(struct cache_core *core, struct ls_node *node, enum cache_change change,
		       uint64_t offset, uint64_t len_bytes);
/* With change held, which stays so also on failure. */
int cache_change_begin_locked(struct cache_core *core, struct ls_node *node,
			      enum cache_change change, uint64_t offset, uint64_t len_bytes);
/* Lets change go. */
void cache_change_end(struct cache_core *core, struct ls_node *node);
/* The same content, as far as attributes tell: size, mtime, ctime and btime. */
bool cache_same(const struct attr *a, const struct attr *b);
/* With the store's lock: what is read from now on belongs to attr. */
void cache_stamp(struct cinode *inode, const struct attr *attr);

/* As struct libservice_ops. */
ssize_t cache_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset);
int cache_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes);

/* cache.c: without the store's lock; the last reference may block, for it gives back what is below.
 */

void cache_file_unref(struct cache_core *core, struct ls_file *file);
void cache_node_ref(struct cache_core *core, struct ls_node *node);
void cache_node_unref(struct cache_core *core, struct ls_node *node, uint64_t count);

/* write.c: as struct libservice_ops. */

ssize_t cache_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end);

/* flusher.c */

/* Starts the store's thread unless it runs. With cores_lock held. A negative errno of
 * pthread_create(3). */
int cache_flusher_start(struct cache_store *store);
/* Waits for its end; nothing is dirty. Without any lock. */
void cache_flusher_end(struct cache_store *store);

/* dirty.c: write-back. Without the store's lock; may block. */

/* With the store's lock: so many that somebody should begin to write. */
bool cache_dirty_many(const struct cache_store *store);
bool cache_is_dirty(struct cache_core *core, struct cinode *inode);
/* With change held, the inode of file not being dirty: it is from here on, and keeps file. Waits
 * while CACHE_DIRTY_MAX inodes are dirty. What getattr below says. */
int cache_dirty_begin(struct cache_core *core, struct ls_file *file);
/* With change held: waits until there is room for more dirty pages. The error of this inode's own
 * that ends that. */
int cache_dirty_wait(struct cache_core *core, struct cinode *inode);
/* Takes len_bytes of the room that the source has beyond what is dirty. False: it might not have
 * them. */
bool cache_dirty_room(struct cache_core *core, struct ls_node *node, uint64_t len_bytes);
/* With flush held: writes as many pages as are dirty now; those that could not be stay dirty.
 * synced: an fsync below follows. The thread's identity is another one then. -ENOMEM, what the
 * layer below says. */
int cache_write_dirty(struct cache_core *core, struct cinode *inode, bool synced);
/* With flush held: for who is told of it (cache_take_error()) or waits. own: of the flusher's,
 * which counts its failures and tries again after retry_ns. */
void cache_note_error(struct cache_store *store, struct cinode *inode, int error, bool own);
/* With change and flush held, no page being dirty: the inode is not dirty any more, and its time
 * below that of the last write. */
void cache_settle(struct cache_core *core, struct cinode *inode, bool synced);
/* With change held: all of it is below, the inode not dirty any more; or not, and the error is
 * noted. The thread keeps its identity. */
int cache_clean_locked(struct cache_core *core, struct cinode *inode, bool synced);
/* The same, without change. */
int cache_clean(struct cache_core *core, struct cinode *inode, bool synced);
/* With change held: what is dirty is lost. */
void cache_discard_locked(struct cache_core *core, struct cinode *inode);
/* The same, and the log says so. Of a dirty one. */
void cache_give_up(struct cache_core *core, struct cinode *inode);
/* Every inode of core that is dirty now. All are tried; the first error. */
int cache_flush_core(struct cache_core *core);
/* The end: what cannot be written is lost, and the flusher has none of core's. */
void cache_flush_last(struct cache_core *core);
/* The last file of the layer above is closed. */
void cache_dirty_closed(struct cache_core *core, struct ls_node *node);
/* A program that wrote closes its file: down with it before long. */
void cache_dirty_soon(struct cache_core *core, struct cinode *inode);
/* The error that file's program was not told of yet, which it is now; or 0. */
int cache_take_error(struct cache_core *core, struct ls_file *file);
/* getattr, what is dirty included. */
int cache_show(struct cache_core *core, struct ls_node *node, struct attr *ret_attr);
