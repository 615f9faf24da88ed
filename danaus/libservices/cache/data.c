/* SPDX-License-Identifier: Apache-2.0 */
/* Reads out of pages, pages out of reads, and when they are good no more. Any thread.
 *
 * A read that misses fills pages from the layer below, and they are kept only if no change went
 * through the cache meanwhile (cinode.token, cinode.changing) and the attributes that they belong
 * to were known before (cinode.stamp): should somebody else change the file in between, the stamp
 * is the older one, and the next comparison takes the pages away. A change takes its pages away
 * before it begins below, so nobody reads old bytes after somebody has read new ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "danaus/libservices/attr_time.h"
#include "danaus/libservices/cache/internal.h"

#define IO_BYTES_MAX 0x7ffff000ull /* as read(2) */
#define NS_PER_S     1000000000ll
#define BOUNCE_BYTES CACHE_PAGE /* when all pages are in use */
#define HIT_PAGES    16u	/* in one RCU section */

bool cache_same(const struct attr *a, const struct attr *b)
{
	return a->size == b->size && time_same(&a->mtime, &b->mtime) &&
	       time_same(&a->ctime, &b->ctime) && time_same(&a->btime, &b->btime);
}

void cache_stamp(struct cinode *inode, const struct attr *attr)
{
	inode->stamped = true;
	inode->stamp = *attr;
	inode->recent = attr_is_recent(attr);
	inode->wrote = false;
	atomic_store_explicit(&inode->checked_until,
			      clock_coarse_ns() + inode->core->store->check_ns,
			      memory_order_relaxed);
}

/* Times that were too young to tell two changes apart say nothing, so the pages go. In a file that
 * stays open and that we write ourselves, they stay until that has come to rest (not strict): our
 * changes are compared before and after. */
static void compare(struct cache_store *store, struct cinode *inode, const struct attr *attr,
		    bool strict)
{
	if (!inode->stamped || inode->dirty)
		return;
	if (!attr || !cache_same(attr, &inode->stamp) ||
	    (inode->recent && (strict || !inode->wrote)))
		cache_inode_forget_data(store, inode);
	inode->wrote = false;
	atomic_store_explicit(&inode->checked_until,
			      clock_coarse_ns() + inode->core->store->check_ns,
			      memory_order_relaxed);
}

void cache_check(struct cache_core *core, struct ls_node *node)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	struct attr attr;
	bool alone;
	int r = -EBUSY;

	if (!inode || !atomic_load_explicit(&inode->npages, memory_order_relaxed))
		return;
	/* While a change of ours is under way, nobody can tell it from another one's. */
	alone = !pthread_mutex_trylock(&inode->change);
	if (alone)
		r = ls_getattr(core->next, node->lower, NULL, &attr);
	pthread_mutex_lock(&store->lock);
	compare(store, inode, r < 0 ? NULL : &attr, true);
	pthread_mutex_unlock(&store->lock);
	if (alone)
		pthread_mutex_unlock(&inode->change);
}

uint64_t cache_epoch(struct cache_core *core, struct ls_node *node)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	bool alone = atomic_load_explicit(&inode->npages, memory_order_relaxed) &&
		     !pthread_mutex_trylock(&inode->change);
	struct attr attr;
	uint64_t epoch;
	int r = 0;

	if (alone)
		r = ls_getattr(core->next, node->lower, NULL, &attr);
	pthread_mutex_lock(&store->lock);
	if (alone)
		compare(store, inode, r < 0 ? NULL : &attr, false);
	epoch = inode->epoch;
	pthread_mutex_unlock(&store->lock);
	if (alone)
		pthread_mutex_unlock(&inode->change);
	return epoch;
}

/* For a file that stays open. One reader asks, the others go on; a change of ours that is under way
 * has asked. */
static void check_timed(struct cache_core *core, struct ls_node *node)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	uint64_t now = clock_coarse_ns(),
		 until = atomic_load_explicit(&inode->checked_until, memory_order_relaxed);
	struct attr attr;
	int r;

	if (now < until || !atomic_load_explicit(&inode->npages, memory_order_relaxed))
		return;
	if (pthread_mutex_trylock(&inode->change))
		return;
	r = ls_getattr(core->next, node->lower, NULL, &attr);
	pthread_mutex_lock(&store->lock);
	if (atomic_load_explicit(&inode->checked_until, memory_order_relaxed) == until)
		compare(store, inode, r < 0 ? NULL : &attr, false);
	pthread_mutex_unlock(&store->lock);
	pthread_mutex_unlock(&inode->change);
}

static void drop_changed(struct cache_store *store, struct cinode *inode, enum cache_change change,
			 uint64_t offset, uint64_t len_bytes)
{
	uint64_t size = inode->stamp.size, end;

	switch (change) {
	case CACHE_WRITE:
		if (!len_bytes)
			return;
		if (!__builtin_add_overflow(offset, len_bytes, &end) && end <= size) {
			cache_pages_drop(store, inode, offset / CACHE_PAGE, (end - 1) / CACHE_PAGE);
			return;
		}
		break; /* what was the last page is longer now */
	case CACHE_APPEND:
		offset = size;
		break;
	case CACHE_REST:
		break;
	case CACHE_METADATA:
		return;
	}
	cache_pages_drop(store, inode, (offset < size ? offset : size) / CACHE_PAGE,
			 size / CACHE_PAGE); /* none is beyond */
}

int cache_change_begin_locked(struct cache_core *core, struct ls_node *node,
			      enum cache_change change, uint64_t offset, uint64_t len_bytes)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	struct attr attr;
	int r = 0;

	if (core->writeback && cache_is_dirty(core, inode)) {
		r = cache_clean_locked(core, inode, false);
		if (r < 0 && change == CACHE_REST && !offset)
			cache_discard_locked(core, inode); /* it would all be cut off */
		else if (r < 0 && change != CACHE_METADATA)
			return r;
	}
	if (change == CACHE_METADATA)
		inode->plain = false;
	r = -ENODATA;
	if (atomic_load_explicit(&inode->npages, memory_order_relaxed))
		r = ls_getattr(core->next, node->lower, NULL, &attr);
	pthread_mutex_lock(&store->lock);
	inode->changing++;
	inode->token++;
	if (inode->stamped && !inode->dirty) {
		if (r < 0 || !cache_same(&attr, &inode->stamp))
			cache_inode_forget_data(store, inode);
		else
			drop_changed(store, inode, change, offset, len_bytes);
	}
	pthread_mutex_unlock(&store->lock);
	return 0;
}

int cache_change_begin(struct cache_core *core, struct ls_node *node, enum cache_change change,
		       uint64_t offset, uint64_t len_bytes)
{
	int r;

	pthread_mutex_lock(&node->inode->change);
	r = cache_change_begin_locked(core, node, change, offset, len_bytes);
	if (r < 0)
		pthread_mutex_unlock(&node->inode->change);
	return r;
}

void cache_change_end(struct cache_core *core, struct ls_node *node)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	struct attr attr;
	int r = -ENODATA;

	if (atomic_load_explicit(&inode->npages, memory_order_relaxed))
		r = ls_getattr(core->next, node->lower, NULL, &attr);
	pthread_mutex_lock(&store->lock);
	inode->changing--;
	inode->token++;
	if (inode->stamped && !inode->dirty && r < 0) {
		cache_inode_forget_data(store, inode);
	} else if (inode->stamped && !inode->dirty) {
		cache_stamp(inode, &attr);
		inode->recent = inode->wrote = true;
	}
	pthread_mutex_unlock(&store->lock);
	pthread_mutex_unlock(&inode->change);
}

int cache_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes)
{
	struct cache_core *core = core_of(ls);
	int r;

	if (!file->node->inode)
		return ls_allocate(core->next, file->lower, mode, offset, len_bytes);
	/* a collapsed or inserted range moves all that follows; what is before it stays */
	r = cache_change_begin(core, file->node, CACHE_REST, offset ? offset : 1, 0);
	if (r < 0)
		return r;
	r = ls_allocate(core->next, file->lower, mode, offset, len_bytes);
	cache_change_end(core, file->node);
	return r;
}

/* The caller's buffers, and how far they are filled. */
struct sink {
	const struct iovec *iov;
	size_t skip;   /* of iov[0] */
	uint64_t left; /* that the buffers, and read(2), have room for */
};

static void sink_put(struct sink *out, const char *from, size_t len)
{
	out->left -= len;
	while (len) {
		size_t room = out->iov->iov_len - out->skip, n = room < len ? room : len;

		if (n)
			memcpy((char *)out->iov->iov_base + out->skip, from, n);
		from += n;
		len -= n;
		out->skip += n;
		if (out->skip == out->iov->iov_len) {
			out->iov++;
			out->skip = 0;
		}
	}
}

/* Copies what is there from offset on; *ret_end: it was the end of the file. */
static uint64_t read_hits(struct cache_core *core, struct cinode *inode, uint64_t offset,
			  bool sequential, struct sink *out, bool *ret_end)
{
	uint64_t begin = offset;

	rcu_enter();
	for (unsigned i = 0; i < HIT_PAGES && out->left; i++) {
		size_t within = offset % CACHE_PAGE, n, len;
		struct cache_page *page = cache_pages_find(core->store, inode, offset / CACHE_PAGE);

		if (!page)
			break;
		len = atomic_load_explicit(&page->len, memory_order_acquire);
		/* Neither the first look at what was read ahead nor the rest of a page that a scan
		 * reads in pieces is a second use. */
		if (atomic_load_explicit(&page->ahead, memory_order_relaxed))
			atomic_store_explicit(&page->ahead, false, memory_order_relaxed);
		else if (!(sequential && within && offset == begin) &&
			 !atomic_load_explicit(&page->used, memory_order_relaxed))
			atomic_store_explicit(&page->used, true, memory_order_relaxed);
		if (within >= len) {
			*ret_end = true;
			break;
		}
		n = len - within;
		if (n > out->left)
			n = out->left;
		sink_put(out, page->data + within, n);
		offset += n;
		if (len < CACHE_PAGE && offset % CACHE_PAGE == len) {
			*ret_end = true;
			break;
		}
	}
	rcu_leave();
	return offset - begin;
}

/* How many pages to ask for, from the first one on: what the caller wants, and more when he reads
 * on and on; none that is there, and none beyond the end. 0: the first one came meanwhile. */
static unsigned fill_span(struct cache_core *core, struct ls_file *file, uint64_t first,
			  uint64_t wanted_bytes, bool sequential, uint64_t size)
{
	uint64_t n = (wanted_bytes + CACHE_PAGE - 1) / CACHE_PAGE, most;
	unsigned ahead = atomic_load_explicit(&file->ahead, memory_order_relaxed);

	if (sequential) {
		ahead = ahead < CACHE_AHEAD_PAGES ? CACHE_AHEAD_PAGES : ahead * 2;
		ahead = ahead < CACHE_FILL_PAGES ? ahead : CACHE_FILL_PAGES;
		n = n < ahead ? ahead : n;
	} else {
		ahead = 0;
	}
	atomic_store_explicit(&file->ahead, ahead, memory_order_relaxed);
	n = n < CACHE_FILL_PAGES ? n : CACHE_FILL_PAGES;
	most = size / CACHE_PAGE + 1;
	most = most > first ? most - first : 1;
	n = n < most ? n : most;
	rcu_enter();
	for (uint64_t i = 0; i < n; i++) {
		if (cache_pages_find(core->store, file->node->inode, first + i))
			n = i;
	}
	rcu_leave();
	return n;
}

/* Sees to it that what is read from now on can be kept. */
static bool fill_begin(struct cache_core *core, struct ls_node *node, uint64_t *ret_token,
		       uint64_t *ret_size)
{
	struct cache_store *store = core->store;
	struct cinode *inode = node->inode;
	struct attr attr;
	uint64_t token;
	bool quiet, stamped;

	pthread_mutex_lock(&store->lock);
	quiet = !inode->changing;
	stamped = inode->stamped;
	token = inode->token;
	*ret_size = inode->stamp.size;
	pthread_mutex_unlock(&store->lock);
	if (!quiet || stamped) {
		*ret_token = token;
		return quiet;
	}
	if (ls_getattr(core->next, node->lower, NULL, &attr) < 0)
		return false;
	pthread_mutex_lock(&store->lock);
	quiet = !inode->changing && inode->token == token;
	if (quiet && !inode->stamped)
		cache_stamp(inode, &attr);
	*ret_size = inode->stamp.size;
	pthread_mutex_unlock(&store->lock);
	*ret_token = token;
	return quiet;
}

static void fill_end(struct cache_core *core, struct cinode *inode, struct cache_page **pages,
		     unsigned n, uint64_t first, uint64_t got_bytes, unsigned asked, bool quiet,
		     uint64_t token)
{
	struct cache_store *store = core->store;
	bool keep;

	pthread_mutex_lock(&store->lock);
	keep = quiet && !inode->changing && inode->token == token && inode->stamped;
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = (uint64_t)i * CACHE_PAGE, len = got_bytes > at ? got_bytes - at : 0,
			 end;

		if (len > CACHE_PAGE)
			len = CACHE_PAGE;
		end = first * CACHE_PAGE + at + len;
		/* A part of a page is all there is only at the end of the file. Beyond the end that
		 * the stamp has is nothing that belongs to it. */
		if (keep && len && end <= inode->stamp.size &&
		    (len == CACHE_PAGE || end == inode->stamp.size))
			cache_pages_insert(store, inode, first + i, len, i >= asked, pages[i]);
		else
			cache_pages_give_back(store, pages[i]);
	}
	pthread_mutex_unlock(&store->lock);
}

/* got_bytes of the file were read to pages, or to one buffer, from offset begin on. What is behind
 * them and before dirty_size is a hole that is not below yet. Returns how many there are now. */
static ssize_t add_hole(const struct iovec *iov, unsigned n, uint64_t begin, ssize_t got_bytes,
			uint64_t dirty_size)
{
	uint64_t at = 0, got = got_bytes;

	if (got_bytes < 0 || begin + got >= dirty_size)
		return got_bytes;
	for (unsigned i = 0; i < n; at += iov[i++].iov_len) {
		uint64_t from = got > at ? got - at : 0, to = iov[i].iov_len;

		if (begin + at >= dirty_size)
			break;
		if (to > dirty_size - begin - at)
			to = dirty_size - begin - at;
		if (from >= to)
			continue;
		memset((char *)iov[i].iov_base + from, 0, to - from);
		got = at + to;
	}
	return got;
}

/* Every page is in use. */
static ssize_t read_past(struct cache_core *core, struct ls_file *file, uint64_t offset,
			 uint64_t dirty_size, struct sink *out)
{
	char bounce[BOUNCE_BYTES];
	struct iovec iov = {.iov_base = bounce,
			    .iov_len = out->left < sizeof(bounce) ? out->left : sizeof(bounce)};
	ssize_t n;

	if (iov.iov_len > CACHE_PAGE - offset % CACHE_PAGE)
		iov.iov_len = CACHE_PAGE - offset % CACHE_PAGE;
	n = ls_read(core->next, file->lower, &iov, 1, offset);
	n = add_hole(&iov, 1, offset, n, dirty_size);
	if (n > 0)
		sink_put(out, bounce, n);
	return n;
}

static ssize_t read_miss(struct cache_core *core, struct ls_file *file, uint64_t offset,
			 bool sequential, struct sink *out, bool *ret_end)
{
	struct cache_page *pages[CACHE_FILL_PAGES];
	struct iovec iov[CACHE_FILL_PAGES];
	struct cinode *inode = file->node->inode;
	uint64_t first = offset / CACHE_PAGE, token = 0, size = 0, done = 0;
	uint64_t dirty_size = atomic_load(&inode->dirty_size); /* before fill_span() looks */
	size_t within = offset % CACHE_PAGE;
	bool quiet = fill_begin(core, file->node, &token, &size);
	unsigned n = fill_span(core, file, first, within + out->left, sequential && quiet, size);
	unsigned asked = (within + out->left + CACHE_PAGE - 1) / CACHE_PAGE < n
			     ? (within + out->left + CACHE_PAGE - 1) / CACHE_PAGE
			     : n;
	ssize_t got;

	if (!n)
		return 0;
	n = cache_pages_take(core->store, pages, n);
	if (!n) {
		got = read_past(core, file, offset, dirty_size, out);
		*ret_end = !got;
		return got;
	}
	for (unsigned i = 0; i < n; i++)
		iov[i] = (struct iovec){.iov_base = pages[i]->data, .iov_len = CACHE_PAGE};
	got = ls_read(core->next, file->lower, iov, n, first * CACHE_PAGE);
	got = add_hole(iov, n, first * CACHE_PAGE, got, dirty_size);
	/* Copied before others can see, and evict, the pages. */
	for (uint64_t at = within; got > 0 && at < (uint64_t)got && out->left;) {
		uint64_t len = CACHE_PAGE - at % CACHE_PAGE;

		if (len > got - at)
			len = got - at;
		if (len > out->left)
			len = out->left;
		sink_put(out, pages[at / CACHE_PAGE]->data + at % CACHE_PAGE, len);
		at += len;
		done += len;
	}
	*ret_end = got >= 0 && (uint64_t)got < (uint64_t)n * CACHE_PAGE;
	fill_end(core, inode, pages, n, first, got > 0 ? got : 0, asked, quiet, token);
	return got < 0 ? got : (ssize_t)done;
}

ssize_t cache_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset)
{
	struct cache_core *core = core_of(ls);
	struct sink out = {.iov = iov};
	uint64_t begin = offset;
	bool end = false, sequential;
	ssize_t n = 0;

	if (file->direct && file->node->inode && core->writeback) {
		n = cache_clean(core, file->node->inode, false);
		if (n < 0)
			return n;
	}
	if (!file->node->inode || file->direct)
		return ls_read(core->next, file->lower, iov, niov, offset);
	for (int i = 0; i < niov; i++)
		out.left += iov[i].iov_len;
	if (offset > INT64_MAX)
		return -EINVAL;
	if (out.left > IO_BYTES_MAX)
		out.left = IO_BYTES_MAX;
	if (out.left > INT64_MAX - offset)
		out.left = INT64_MAX - offset;
	sequential = offset == atomic_load_explicit(&file->next, memory_order_relaxed);
	check_timed(core, file->node);
	while (out.left && !end) {
		n = read_hits(core, file->node->inode, offset, sequential, &out, &end);
		offset += n;
		if (n || end)
			continue;
		n = read_miss(core, file, offset, sequential || offset > begin, &out, &end);
		if (n < 0)
			break;
		offset += n;
	}
	if (offset > begin)
		atomic_store_explicit(&file->next, offset, memory_order_relaxed);
	return n < 0 && offset == begin ? n : (ssize_t)(offset - begin);
}
