/* SPDX-License-Identifier: Apache-2.0 */
/* Writes: to the layer below at once, or (write-back) into pages, which dirty.c brings there.
 * Any thread.
 *
 * A write of a part of a page makes another page of it, but for the bytes behind a page's len,
 * which nobody reads yet: so an append costs what it adds. Then the size follows, and only then may
 * a reader take what is in no page for a hole (cinode.dirty_size). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "danaus/libservices/cache/internal.h"

#define IO_BYTES_MAX 0x7ffff000ull /* as write(2) */
#define PIECE_PAGES  32u
/* How long a file may become is the file system's to say; no one that is in use says less. */
#define SIZE_MAX_BYTES (1ull << 43)

/* The caller's buffers, and how far they are used. */
struct buffers {
	const struct iovec *iov;
	size_t skip; /* of iov[0] */
};

static void buffers_get(struct buffers *from, char *to, size_t len)
{
	while (len) {
		size_t have = from->iov->iov_len - from->skip, n = have < len ? have : len;

		if (n)
			memcpy(to, (const char *)from->iov->iov_base + from->skip, n);
		to += n;
		len -= n;
		from->skip += n;
		if (from->skip == from->iov->iov_len) {
			from->iov++;
			from->skip = 0;
		}
	}
}

/* With change held, which it gives back. */
static ssize_t write_through(struct cache_core *core, struct ls_file *file, const struct iovec *iov,
			     int niov, uint64_t offset, uint64_t len_bytes, bool append,
			     uint64_t *ret_end)
{
	struct cinode *inode = file->node->inode;
	struct attr attr;
	ssize_t n = cache_change_begin_locked(core, file->node, append ? CACHE_APPEND : CACHE_WRITE,
					      offset, len_bytes);

	if (n < 0) {
		cache_take_error(core, file); /* this is how it is told */
		pthread_mutex_unlock(&inode->change);
		return n;
	}
	n = ls_write(core->next, file->lower, iov, niov, offset, append, ret_end);
	/* It took off what it takes off, or the writer may keep the bits: then each write of this
	 * file is the host's to judge. A capability does not stay in any case. */
	if (core->writeback && !inode->plain && n > 0 &&
	    !ls_getattr(core->next, file->node->lower, NULL, &attr))
		inode->plain = !(attr.mode & (S_ISUID | S_ISGID));
	cache_change_end(core, file->node);
	return n;
}

/* Page index, valid_bytes of it, as it is below; more of it may be a hole. */
static int read_below(struct cache_core *core, struct ls_file *file, uint64_t index, char *to,
		      size_t valid_bytes)
{
	struct iovec iov = {.iov_base = to, .iov_len = valid_bytes};
	struct cred_kept kept;
	ssize_t n;
	int r = 0;

	if (!file->readable && !file->reader) {
		/* No program gets to see it by this, only those who may read the file. */
		r = cred_keep(&kept);
		if (!r) {
			r = ls_open(core->next, cred_root(), file->node->lower, O_RDONLY,
				    &file->reader);
			cred_restore(&kept);
		}
		if (r < 0)
			return r;
	}
	n = ls_read(core->next, file->readable ? file->lower : file->reader, &iov, 1,
		    index * CACHE_PAGE);
	if (n < 0)
		return n;
	memset(to + n, 0, valid_bytes - n);
	return 0;
}

/* The first valid_bytes of page index into to, wherever they are. */
static int old_content(struct cache_core *core, struct ls_file *file, uint64_t index, char *to,
		       size_t valid_bytes)
{
	struct cache_page *page;
	size_t len = 0;

	rcu_enter();
	page = cache_pages_find(core->store, file->node->inode, index);
	if (page) {
		len = atomic_load_explicit(&page->len, memory_order_acquire);
		len = len < valid_bytes ? len : valid_bytes;
		memcpy(to, page->data, len);
	}
	rcu_leave();
	if (!page)
		return valid_bytes ? read_below(core, file, index, to, valid_bytes) : 0;
	memset(to + len, 0, valid_bytes - len);
	return 0;
}

/* The last page of a file that becomes longer is one of many now. With the store's lock, together
 * with the new size: not a byte more goes below than the file is said to have. */
static void fill_up(struct cache_store *store, struct cinode *inode, uint64_t size)
{
	struct cache_page *page = cache_pages_find(store, inode, size / CACHE_PAGE);
	size_t len;

	if (!page)
		return;
	len = atomic_load_explicit(&page->len, memory_order_relaxed);
	memset(page->data + len, 0, CACHE_PAGE - len);
	atomic_store_explicit(&page->len, CACHE_PAGE, memory_order_release);
}

/* The file is longer, or has been written to: with the store's lock. */
static void wrote(struct cinode *inode, uint64_t end)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (now.tv_sec > inode->wrote_at.tv_sec ||
	    (now.tv_sec == inode->wrote_at.tv_sec && now.tv_nsec > inode->wrote_at.tv_nsec))
		inode->wrote_at = now;
	if (end > inode->stamp.size) {
		inode->stamp.size = end;
		atomic_store(&inode->dirty_size, end);
	}
}

/* Behind what the page has, where nobody looks yet. False: it cannot be done so. */
static bool add_to_page(struct cache_core *core, struct cinode *inode, uint64_t offset, size_t len,
			struct buffers *from)
{
	struct cache_store *store = core->store;
	size_t within = offset % CACHE_PAGE, has;
	struct cache_page *page;

	if (within + len > CACHE_PAGE)
		return false;
	pthread_mutex_lock(&store->lock);
	page = cache_pages_find(store, inode, offset / CACHE_PAGE);
	has = page ? atomic_load_explicit(&page->len, memory_order_relaxed) : CACHE_PAGE;
	if (within < has)
		page = NULL;
	else
		cache_pages_hold(store, page);
	pthread_mutex_unlock(&store->lock);
	if (!page)
		return false;
	memset(page->data + has, 0, within - has);
	buffers_get(from, page->data + within, len);
	atomic_store_explicit(&page->len, within + len, memory_order_release);
	pthread_mutex_lock(&store->lock);
	cache_pages_dirty(store, page);
	cache_pages_unhold(store, page);
	wrote(inode, offset + len);
	pthread_mutex_unlock(&store->lock);
	return true;
}

/* Fills page, which nobody finds yet, for the part of [offset, end) that is in it. */
static ssize_t make_page(struct cache_core *core, struct ls_file *file, uint64_t index,
			 uint64_t offset, uint64_t end, struct cache_page *page,
			 struct buffers *from)
{
	uint64_t begin = index * CACHE_PAGE, size = file->node->inode->stamp.size;
	size_t first = offset > begin ? offset - begin : 0,
	       last = end - begin < CACHE_PAGE ? end - begin : CACHE_PAGE,
	       valid = size <= begin		   ? 0
		       : size - begin < CACHE_PAGE ? size - begin
						   : CACHE_PAGE;
	int r;

	if (first || last < valid) {
		r = old_content(core, file, index, page->data, valid);
		if (r < 0)
			return r;
		if (first > valid)
			memset(page->data + valid, 0, first - valid);
	}
	buffers_get(from, page->data + first, last - first);
	return last > valid ? last : valid;
}

/* Some of [offset, offset + len): how much, or an error. */
static ssize_t write_piece(struct cache_core *core, struct ls_file *file, struct buffers *from,
			   uint64_t offset, uint64_t len)
{
	struct cache_store *store = core->store;
	struct cinode *inode = file->node->inode;
	struct cache_page *pages[PIECE_PAGES];
	uint64_t first = offset / CACHE_PAGE, size = inode->stamp.size, end = offset + len;
	uint32_t lens[PIECE_PAGES];
	unsigned n, made;
	ssize_t r = cache_dirty_wait(core, inode);

	if (r < 0)
		return r;
	if (add_to_page(core, inode, offset, len, from))
		return len;
	n = (end - 1) / CACHE_PAGE - first < PIECE_PAGES ? (end - 1) / CACHE_PAGE - first + 1
							 : PIECE_PAGES;
	n = cache_pages_take(store, pages, n);
	if (!n)
		return -EAGAIN; /* readers have all that is not dirty, for a moment */
	if (end > (first + n) * CACHE_PAGE)
		end = (first + n) * CACHE_PAGE;
	for (made = 0; made < n; made++) {
		r = make_page(core, file, first + made, offset, end, pages[made], from);
		if (r < 0)
			break;
		lens[made] = r;
	}
	pthread_mutex_lock(&store->lock);
	for (unsigned i = 0; i < n; i++) {
		if (r < 0)
			cache_pages_give_back(store, pages[i]);
		else
			cache_pages_put_dirty(store, inode, first + i, lens[i], pages[i]);
	}
	if (r >= 0 && size % CACHE_PAGE && first > size / CACHE_PAGE)
		fill_up(store, inode, size);
	if (r >= 0)
		wrote(inode, end);
	pthread_mutex_unlock(&store->lock);
	return r < 0 ? r : (ssize_t)(end - offset);
}

/* With change held. Nothing is lost if this says no. */
static bool may_stay(struct cache_core *core, struct ls_file *file, uint64_t offset, uint64_t len,
		     bool append)
{
	struct cinode *inode = file->node->inode;

	return inode->plain && !file->direct && !file->appends && !inode->watched &&
	       !atomic_load(&core->watched) && (append || offset < SIZE_MAX_BYTES) &&
	       len <= IO_BYTES_MAX && cache_dirty_room(core, file->node, len) &&
	       (cache_is_dirty(core, inode) || !cache_dirty_begin(core, file));
}

static ssize_t write_back(struct cache_core *core, struct ls_file *file, const struct iovec *iov,
			  uint64_t offset, uint64_t len, uint64_t *ret_end)
{
	struct cinode *inode = file->node->inode;
	const struct timespec pause = {.tv_nsec = 1000000};
	struct buffers from = {.iov = iov};
	uint64_t done = 0;
	ssize_t r = 0;

	/* What is read below meanwhile is not kept. */
	pthread_mutex_lock(&core->store->lock);
	inode->changing++;
	inode->token++;
	pthread_mutex_unlock(&core->store->lock);
	while (done < len) {
		r = write_piece(core, file, &from, offset + done, len - done);
		if (r == -EAGAIN && done)
			nanosleep(&pause, NULL);
		else if (r < 0)
			break;
		else
			done += r;
	}
	pthread_mutex_lock(&core->store->lock);
	inode->changing--;
	inode->token++;
	pthread_mutex_unlock(&core->store->lock);
	if (!done) {
		if (r != -EAGAIN)
			cache_take_error(core, file); /* this is how it is told */
		return r;
	}
	if (ret_end)
		*ret_end = offset + done;
	return done;
}

ssize_t cache_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end)
{
	struct cache_core *core = core_of(ls);
	struct cinode *inode = file->node->inode;
	uint64_t len = 0;
	ssize_t n;

	if (!inode)
		return ls_write(core->next, file->lower, iov, niov, offset, append, ret_end);
	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	pthread_mutex_lock(&inode->change);
	if (core->writeback && len) {
		n = cache_take_error(core, file);
		if (n < 0) {
			pthread_mutex_unlock(&inode->change);
			return n;
		}
		if (may_stay(core, file, offset, len, append)) {
			n = write_back(core, file, iov, append ? inode->stamp.size : offset, len,
				       ret_end);
			if (n != -EAGAIN) {
				pthread_mutex_unlock(&inode->change);
				return n;
			}
		}
	}
	return write_through(core, file, iov, niov, offset, len, append, ret_end);
}
