/* SPDX-License-Identifier: Apache-2.0 */
/* Write-back: what is dirty, how it goes below, and what becomes of its errors. Owns the store's
 * list of dirty inodes. Called by any thread; the flusher (flusher.c) and whoever needs an
 * inode clean (fsync, a truncate) write with cinode.flush held, so pages of one inode never
 * overtake each other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/libservices/attr_time.h"
#include "danaus/libservices/cache/internal.h"

#define NS_PER_MS      1000000u
#define NS_PER_S       1000000000u
#define BATCH_PAGES    1024u
#define RUN_PAGES      256u /* in one write of the layer below */
#define BUFFERED_PAGES 16u  /* see write_pieces() in local/file.c */
#define FEW_PAGES      64u
#define MOMENT_NS      (10 * (int64_t)NS_PER_MS)
#define ROOM_SPARE     (1u << 20)
#define ROOM_NS	       1000000000u
#define CLOSED_NS      (100u * NS_PER_MS)

/* Nobody in particular, without capabilities: no set-id bit stays for it, no block is reserved. */
static const struct idmap own_ids;
static const struct cred nobody = {
    .refs = 1, .fsuid = 65534, .ruid = 65534, .fsgid = 65534, .rgid = 65534, .map = &own_ids};

static uint64_t limit_hard(const struct cache_store *store)
{
	return store->limit / 2;
}

bool cache_dirty_many(const struct cache_store *store)
{
	return store->ndirty > store->limit / 4 || store->ninodes > CACHE_DIRTY_MAX / 2;
}

bool cache_is_dirty(struct cache_core *core, struct cinode *inode)
{
	bool dirty;

	pthread_mutex_lock(&core->store->lock);
	dirty = inode->dirty;
	pthread_mutex_unlock(&core->store->lock);
	return dirty;
}

int cache_dirty_begin(struct cache_core *core, struct ls_file *file)
{
	struct cache_store *store = core->store;
	struct cinode *inode = file->node->inode;
	struct attr attr;
	int r;

	pthread_mutex_lock(&store->lock);
	while (store->ninodes >= CACHE_DIRTY_MAX) {
		pthread_cond_signal(&store->work);
		pthread_cond_wait(&store->cleaned, &store->lock);
	}
	pthread_mutex_unlock(&store->lock);
	r = ls_getattr(core->next, file->node->lower, NULL, &attr);
	if (r < 0)
		return r;
	pthread_mutex_lock(&store->lock);
	/* As before each change: has somebody else been here? */
	if (inode->stamped && !cache_same(&attr, &inode->stamp))
		cache_inode_forget_data(store, inode);
	if (!inode->stamped)
		cache_stamp(inode, &attr);
	inode->dirty = true;
	inode->generation++;
	inode->serial = ++store->serial;
	inode->due = clock_coarse_ns() + store->age_ns;
	inode->wrote_at = attr.mtime;
	inode->failures = 0;
	atomic_store(&inode->dirty_size, attr.size);
	if (inode->due < store->wake_at)
		pthread_cond_signal(&store->work);
	list_add_tail(&store->dirty, &inode->in_store);
	store->ninodes++;
	atomic_fetch_add(&file->refs, 1);
	inode->file = file;
	pthread_mutex_unlock(&store->lock);
	return 0;
}

/* With change and flush held, nothing of it being dirty any more. attr: what is below, or NULL. */
static void dirty_end(struct cache_core *core, struct cinode *inode, const struct attr *attr)
{
	struct cache_store *store = core->store;
	struct ls_file *file = inode->file;

	pthread_mutex_lock(&store->lock);
	inode->dirty = false;
	inode->generation++;
	inode->token++;
	inode->failures = 0;
	inode->file = NULL;
	atomic_store(&inode->dirty_size, 0);
	list_del(&inode->in_store);
	store->ninodes--;
	if (attr && attr->size == inode->stamp.size) {
		inode->has_shown = true;
		inode->flushed_ctime = attr->ctime;
		inode->shown_at = inode->wrote_at;
		cache_stamp(inode, attr);
		inode->recent = inode->wrote = true;
	} else {
		cache_inode_forget_data(store, inode);
	}
	pthread_cond_broadcast(&store->cleaned);
	pthread_mutex_unlock(&store->lock);
	cache_file_unref(core, file);
}

/* The modification time is that of the program's write, not ours; one that is a moment later alone
 * is not worth a change of the inode in each fsync: cache_show() knows better. */
void cache_settle(struct cache_core *core, struct cinode *inode, bool synced)
{
	struct attr set = {.mtime = inode->wrote_at}, attr;
	struct ls_node *lower = inode->file->node->lower;
	int r = ls_getattr(core->next, lower, NULL, &attr);
	int64_t late = r ? 0
			 : (attr.mtime.tv_sec - set.mtime.tv_sec) * (int64_t)NS_PER_S +
			       attr.mtime.tv_nsec - set.mtime.tv_nsec;

	if (!r && (late < 0 || late > (synced ? MOMENT_NS : 0)))
		r = ls_setattr(core->next, cred_root(), lower, NULL, ATTR_MTIME, &set, &attr);
	if (r < 0)
		r = ls_getattr(core->next, lower, NULL, &attr);
	dirty_end(core, inode, r < 0 ? NULL : &attr);
}

struct batch {
	unsigned n;
	struct {
		struct cache_page *page;
		uint32_t len;
	} at[BATCH_PAGES];
};

static int compare_pages(const void *a, const void *b)
{
	const struct cache_page *x = *(struct cache_page *const *)a,
				*y = *(struct cache_page *const *)b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static void collect(struct cache_store *store, struct cinode *inode, struct batch *batch)
{
	batch->n = 0;
	pthread_mutex_lock(&store->lock);
	while (batch->n < BATCH_PAGES && !list_is_empty(&inode->pages_dirty)) {
		struct cache_page *page =
		    container_of(inode->pages_dirty.next, struct cache_page, queue);

		cache_pages_hold(store, page);
		cache_pages_undirty(store, page);
		store->nwriting++;
		batch->at[batch->n].page = page;
		batch->at[batch->n++].len = atomic_load_explicit(&page->len, memory_order_acquire);
	}
	pthread_mutex_unlock(&store->lock);
	qsort(batch->at, batch->n, sizeof(batch->at[0]), compare_pages);
}

static void written(struct cache_store *store, struct batch *batch, unsigned first, unsigned end,
		    bool ok)
{
	pthread_mutex_lock(&store->lock);
	for (unsigned i = first; i < end; i++) {
		struct cache_page *page = batch->at[i].page;

		store->nwriting--;
		if (!ok && page->inode)
			cache_pages_dirty(store, page);
		cache_pages_unhold(store, page);
	}
	pthread_cond_broadcast(&store->cleaned);
	pthread_mutex_unlock(&store->lock);
}

/* All of it or an error. */
static int write_all(struct libservice *ls, struct ls_file *file, struct iovec *iov, int niov,
		     uint64_t offset)
{
	while (niov) {
		ssize_t n = ls_write(ls, file, iov, niov, offset, false, NULL);

		if (n <= 0)
			return n < 0 ? n : -EIO;
		offset += n;
		for (; niov && (size_t)n >= iov->iov_len; iov++, niov--)
			n -= iov->iov_len;
		if (niov) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return 0;
}

/* The pages [first, *end) of the batch follow each other; *end is moved to where the write ended.
 * Whole pages go around the host's cache, if the file system can; the last part of a file does not
 * fill a block: writing more than there is, to cut it off later, would show if we were killed. */
static int write_run(struct cache_core *core, struct cinode *inode, struct ls_file **direct,
		     struct batch *batch, unsigned first, unsigned *end)
{
	struct iovec iov[RUN_PAGES];
	uint64_t offset = batch->at[first].page->index * CACHE_PAGE;
	bool whole = batch->at[first].len == CACHE_PAGE, around = whole && *direct;
	unsigned n = 0, most = around  ? RUN_PAGES
			       : whole ? BUFFERED_PAGES - offset / CACHE_PAGE % BUFFERED_PAGES
				       : 1;
	int r;

	for (; n < most && first + n < *end; n++) {
		if (n && batch->at[first + n].len < CACHE_PAGE)
			break;
		iov[n] = (struct iovec){.iov_base = batch->at[first + n].page->data,
					.iov_len = batch->at[first + n].len};
	}
	*end = first + n;
	r = write_all(core->next, around ? *direct : inode->file->lower, iov, n, offset);
	if (r == -EINVAL && around) {
		ls_release(core->next, *direct);
		*direct = NULL;
		*end = first;
		return 0;
	}
	return r;
}

static bool has_whole(const struct batch *batch)
{
	for (unsigned i = 0; i < batch->n; i++) {
		if (batch->at[i].len == CACHE_PAGE)
			return true;
	}
	return false;
}

int cache_write_dirty(struct cache_core *core, struct cinode *inode, bool synced)
{
	CLEANUP_FREE struct batch *batch = malloc(sizeof(*batch));
	struct ls_file *direct = NULL;
	unsigned done = 0, all;
	bool tried;
	int r = 0;

	if (!batch)
		return -ENOMEM;
	pthread_mutex_lock(&core->store->lock);
	all = inode->ndirty;
	pthread_mutex_unlock(&core->store->lock);
	/* When an fsync follows, the kernel's flushers have no part in it either way. */
	tried = synced && all <= FEW_PAGES;
	for (; !r && done < all; done += batch->n) {
		unsigned first, end;

		collect(core->store, inode, batch);
		if (!batch->n)
			break;
		/* By nobody's rights: the program that wrote it had the file open for writing. */
		if (!tried && has_whole(batch) &&
		    ls_open(core->next, cred_root(), inode->file->node->lower, O_WRONLY | O_DIRECT,
			    &direct) < 0)
			direct = NULL;
		tried = tried || has_whole(batch);
		r = cred_assume(&nobody, 0);
		for (first = 0; !r && first < batch->n; first = end) {
			for (end = first + 1;
			     end < batch->n &&
			     batch->at[end].page->index == batch->at[end - 1].page->index + 1;)
				end++;
			r = write_run(core, inode, &direct, batch, first, &end);
			if (r < 0)
				break;
			written(core->store, batch, first, end, true);
		}
		if (r < 0)
			written(core->store, batch, first, batch->n, false);
	}
	ls_release(core->next, direct);
	return r;
}

void cache_note_error(struct cache_store *store, struct cinode *inode, int error, bool own)
{
	pthread_mutex_lock(&store->lock);
	inode->error = error;
	inode->errors++;
	inode->untold = true;
	if (own) {
		inode->failures++;
		inode->due = clock_coarse_ns() + store->retry_ns;
	}
	pthread_cond_broadcast(&store->cleaned);
	pthread_mutex_unlock(&store->lock);
}

int cache_take_error(struct cache_core *core, struct ls_file *file)
{
	struct cinode *inode = file->node->inode;
	int r = 0;

	pthread_mutex_lock(&core->store->lock);
	if (inode && file->errors != inode->errors) {
		file->errors = inode->errors;
		inode->untold = false;
		r = inode->error;
	}
	pthread_mutex_unlock(&core->store->lock);
	return r;
}

int cache_clean_locked(struct cache_core *core, struct cinode *inode, bool synced)
{
	struct cred_kept kept;
	int r;

	if (!cache_is_dirty(core, inode))
		return 0;
	r = cred_keep(&kept);
	if (r < 0)
		return r;
	pthread_mutex_lock(&inode->flush);
	r = cache_write_dirty(core, inode, synced);
	if (!r)
		cache_settle(core, inode, synced);
	else
		cache_note_error(core->store, inode, r, false);
	pthread_mutex_unlock(&inode->flush);
	cred_restore(&kept);
	return r;
}

int cache_clean(struct cache_core *core, struct cinode *inode, bool synced)
{
	int r;

	if (!cache_is_dirty(core, inode))
		return 0;
	pthread_mutex_lock(&inode->change);
	r = cache_clean_locked(core, inode, synced);
	pthread_mutex_unlock(&inode->change);
	return r;
}

void cache_discard_locked(struct cache_core *core, struct cinode *inode)
{
	struct cache_store *store = core->store;

	if (!cache_is_dirty(core, inode))
		return;
	pthread_mutex_lock(&inode->flush);
	pthread_mutex_lock(&store->lock);
	cache_pages_drop(store, inode, 0, UINT64_MAX);
	pthread_mutex_unlock(&store->lock);
	dirty_end(core, inode, NULL);
	pthread_mutex_unlock(&inode->flush);
}

void cache_give_up(struct cache_core *core, struct cinode *inode)
{
	char link[64], name[4096] = "";
	int fd = ls_host_fd(core->next, inode->file->node->lower);
	ssize_t n = -1;

	if (fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, name, sizeof(name) - 1);
		fd_close(fd);
	}
	name[n > 0 ? n : 0] = '\0';
	for (char *p = name; *p; p++)
		*p = (unsigned char)*p < ' ' ? '?' : *p;
	log_limited(LOG_ERROR, "%s (inode %llu): %u pages of what programs wrote are lost: %s",
		    name, (unsigned long long)inode->ino, inode->ndirty, strerror(-inode->error));
	cache_discard_locked(core, inode);
}

int cache_dirty_wait(struct cache_core *core, struct cinode *inode)
{
	struct cache_store *store = core->store;
	int r = 0;

	pthread_mutex_lock(&store->lock);
	if (cache_dirty_many(store))
		pthread_cond_signal(&store->work);
	while (!r && store->ndirty + store->nwriting >= limit_hard(store)) {
		if (inode->failures)
			r = inode->error;
		else
			pthread_cond_wait(&store->cleaned, &store->lock);
	}
	pthread_mutex_unlock(&store->lock);
	return r;
}

bool cache_dirty_room(struct cache_core *core, struct ls_node *node, uint64_t len_bytes)
{
	struct cache_store *store = core->store;
	uint64_t now = clock_coarse_ns(), dirty, avail, type;
	struct statvfs fs;
	bool ok;

	pthread_mutex_lock(&store->lock);
	ok = now < core->room_until && core->room_dev == node->inode->dev &&
	     core->room_bytes >= len_bytes;
	if (ok)
		core->room_bytes -= len_bytes;
	pthread_mutex_unlock(&store->lock);
	if (ok)
		return true;
	if (ls_statfs(core->next, node->lower, &fs, &type) < 0)
		return false;
	avail = fs.f_bavail * fs.f_frsize;
	pthread_mutex_lock(&store->lock);
	dirty = (store->ndirty + store->nwriting) * CACHE_PAGE + ROOM_SPARE + avail / 64;
	core->room_dev = node->inode->dev;
	core->room_until = now + ROOM_NS;
	core->room_bytes = avail > dirty ? avail - dirty : 0;
	ok = core->room_bytes >= len_bytes;
	if (ok)
		core->room_bytes -= len_bytes;
	pthread_mutex_unlock(&store->lock);
	return ok;
}

/* The first one of core's after *serial, pinned. */
static struct cinode *next_dirty(struct cache_core *core, uint64_t *serial, uint64_t last)
{
	struct cache_store *store = core->store;
	struct cinode *found = NULL;

	pthread_mutex_lock(&store->lock);
	for (struct list *l = store->dirty.next; !found && l != &store->dirty; l = l->next) {
		struct cinode *inode = container_of(l, struct cinode, in_store);

		if (inode->core == core && inode->serial > *serial && inode->serial <= last)
			found = inode;
	}
	if (found) {
		*serial = found->serial;
		found->nodes++;
	}
	pthread_mutex_unlock(&store->lock);
	return found;
}

static int flush_core(struct cache_core *core, bool last_time)
{
	struct cache_store *store = core->store;
	uint64_t serial = 0, last;
	struct cinode *inode;
	int first = 0;

	pthread_mutex_lock(&store->lock);
	last = store->serial;
	pthread_mutex_unlock(&store->lock);
	while ((inode = next_dirty(core, &serial, last))) {
		int r;

		pthread_mutex_lock(&inode->change);
		r = cache_clean_locked(core, inode, false);
		if (r < 0 && last_time)
			cache_give_up(core, inode);
		pthread_mutex_unlock(&inode->change);
		first = first ? first : r;
		pthread_mutex_lock(&store->lock);
		cache_inode_put(inode);
		pthread_mutex_unlock(&store->lock);
	}
	return first;
}

int cache_flush_core(struct cache_core *core)
{
	return flush_core(core, false);
}

void cache_flush_last(struct cache_core *core)
{
	struct cache_store *store = core->store;

	flush_core(core, true);
	pthread_mutex_lock(&store->lock);
	while (store->flushing == core)
		pthread_cond_wait(&store->cleaned, &store->lock);
	pthread_mutex_unlock(&store->lock);
}

/* Not at once: what is removed again right away, or opened again, costs nothing so. */
void cache_dirty_soon(struct cache_core *core, struct cinode *inode)
{
	struct cache_store *store = core->store;
	uint64_t due = clock_coarse_ns() + CLOSED_NS;

	pthread_mutex_lock(&store->lock);
	if (inode->dirty && !inode->failures && due < inode->due) {
		inode->due = due;
		if (due < store->wake_at)
			pthread_cond_signal(&store->work);
	}
	pthread_mutex_unlock(&store->lock);
}

void cache_dirty_closed(struct cache_core *core, struct ls_node *node)
{
	struct cinode *inode = node->inode;
	struct attr attr;
	bool opened;

	pthread_mutex_lock(&inode->change);
	pthread_mutex_lock(&core->store->lock);
	opened = inode->opens; /* again, by way of /proc */
	pthread_mutex_unlock(&core->store->lock);
	if (cache_is_dirty(core, inode)) {
		/* What nobody can ever read needs no writing. */
		if (!opened && !ls_getattr(core->next, node->lower, NULL, &attr) && !attr.nlink)
			cache_discard_locked(core, inode);
		else
			cache_dirty_soon(core, inode);
	}
	pthread_mutex_unlock(&inode->change);
}

int cache_show(struct cache_core *core, struct ls_node *node, struct attr *ret_attr)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	uint64_t generation, blocks, most;
	struct attr attr;
	int r;

	pthread_mutex_lock(&store->lock);
	do { /* what went below meanwhile may not be in attr yet */
		generation = inode->generation;
		pthread_mutex_unlock(&store->lock);
		r = ls_getattr(core->next, node->lower, NULL, &attr);
		if (r < 0)
			return r;
		pthread_mutex_lock(&store->lock);
	} while (generation != inode->generation);
	if (inode->dirty) {
		attr.size = atomic_load(&inode->dirty_size);
		attr.mtime = attr.ctime = inode->wrote_at;
		/* as if they were allocated */
		blocks = attr.blocks + (uint64_t)inode->ndirty * (CACHE_PAGE / 512);
		most = (attr.size + CACHE_PAGE - 1) / CACHE_PAGE * (CACHE_PAGE / 512);
		if (attr.blocks < most)
			attr.blocks = blocks < most ? blocks : most;
	} else if (inode->has_shown && time_same(&attr.ctime, &inode->flushed_ctime)) {
		attr.mtime = attr.ctime = inode->shown_at;
	}
	pthread_mutex_unlock(&store->lock);
	*ret_attr = attr;
	return 0;
}
