/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the windows of a pool: their memory, the budget, the threads that look for changes from
 * outside. One mutex for all of it: it is taken by reads and writes of files that have a window and
 * go the whole way, never by the reads that a window serves. It is a leaf lock. */
#include "danaus/vfs/windows.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/clock.h"
#include "danaus/base/fd.h"
#include "danaus/libservices/attr_time.h"
#include "danaus/vfs/node.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define CHUNK_PAGES 16u	       /* of 64 bits; what one fill brings where a quarter of it was read */
#define SLACK_BYTES (1u << 20) /* room for the file to grow into */
#define NS_PER_S    1000000000ll

struct pane {
	struct vnode *node;
	struct window *window;
	size_t map_bytes;
	uint64_t *seen; /* a bit per page: it was read once */
	uint64_t bytes; /* valid pages */
	unsigned users;
	int fd;
	bool touched;	     /* by our own changes since the last check */
	struct attr attr;    /* at the last check */
	bool recent;	     /* attr's time was too young to tell two changes apart */
	uint64_t used;	     /* the clock's value at the last fill */
	uint64_t serial;     /* no other pane of the pool has it; never 0 */
	bool remote;	     /* as the libservice is */
	uint64_t checked_ns; /* when attr was asked for, clock_coarse_ns() */
	struct list list;
};

struct checker {
	struct windows *windows;
	pthread_t thread;
	bool running, remote;
};

struct windows {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct checker here, remote;
	bool ending;
	struct list panes;
	unsigned count;
	uint64_t budget, bytes, clock, serial;
};

int windows_new(struct windows **ret)
{
	struct windows *windows = calloc(1, sizeof(*windows));
	pthread_condattr_t attr;

	if (!windows)
		return -ENOMEM;
	pthread_mutex_init(&windows->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&windows->wake, &attr);
	pthread_condattr_destroy(&attr);
	windows->remote.remote = true;
	list_init(&windows->panes);
	*ret = windows;
	return 0;
}

void windows_free(struct windows *windows)
{
	if (!windows)
		return;
	pthread_mutex_lock(&windows->lock);
	windows->ending = true;
	pthread_cond_broadcast(&windows->wake);
	pthread_mutex_unlock(&windows->lock);
	if (windows->here.running)
		pthread_join(windows->here.thread, NULL);
	if (windows->remote.running)
		pthread_join(windows->remote.thread, NULL);
	pthread_cond_destroy(&windows->wake);
	pthread_mutex_destroy(&windows->lock);
	free(windows);
}

static void clear_all(struct windows *windows, struct pane *pane)
{
	uint64_t words = (pane->window->capacity / WINDOW_PAGE + 63) / 64;

	if (pane->bytes) {
		for (uint64_t i = 0; i < words; i++)
			atomic_store(&pane->window->valid[i], 0);
		windows->bytes -= pane->bytes;
		pane->bytes = 0;
	}
	atomic_fetch_add(&pane->window->changes, 1);
}

/* Under the lock: off the list, void for whoever has it mapped. */
static void pane_free(struct windows *windows, struct pane *pane)
{
	atomic_store(&pane->node->window.pane, NULL);
	clear_all(windows, pane);
	atomic_store(&pane->window->dead, 1);
	list_del(&pane->list);
	windows->count--;
	munmap(pane->window, pane->map_bytes);
	fd_close(pane->fd);
	free(pane->seen);
	free(pane);
}

static struct pane *pane_of(struct vnode *node)
{
	return atomic_load(&node->window.pane);
}

void window_drop(struct windows *windows, struct vnode *node)
{
	if (!pane_of(node))
		return;
	pthread_mutex_lock(&windows->lock);
	if (pane_of(node))
		pane_free(windows, pane_of(node));
	pthread_mutex_unlock(&windows->lock);
}

static struct pane *coldest(struct windows *windows, const struct pane *but)
{
	struct pane *found = NULL;

	for (struct list *l = windows->panes.next; l != &windows->panes; l = l->next) {
		struct pane *pane = container_of(l, struct pane, list);

		if (pane != but && (!found || pane->used < found->used))
			found = pane;
	}
	return found;
}

/* Room for one more page of pane: another one goes if it was filled less lately than pane by a
 * while, so that two busy files do not throw each other out by turns. */
static bool make_room(struct windows *windows, struct pane *pane)
{
	while (windows->bytes + WINDOW_PAGE > windows->budget) {
		struct pane *cold = coldest(windows, pane);

		if (!cold || windows->clock - cold->used < windows->budget / WINDOW_PAGE)
			return false;
		pane_free(windows, cold);
	}
	return true;
}

void windows_set_budget(struct windows *windows, uint64_t bytes)
{
	struct pane *cold;

	pthread_mutex_lock(&windows->lock);
	windows->budget = bytes;
	while (windows->bytes > bytes && (cold = coldest(windows, NULL)))
		pane_free(windows, cold);
	pthread_mutex_unlock(&windows->lock);
}

uint64_t windows_bytes(struct windows *windows)
{
	uint64_t bytes;

	pthread_mutex_lock(&windows->lock);
	bytes = windows->bytes;
	pthread_mutex_unlock(&windows->lock);
	return bytes;
}

/* Under the lock: what is there may be old, and so may what somebody has read and not yet filled
 * in. */
static void distrust(struct windows *windows, struct pane *pane)
{
	struct vnode_window *w = &pane->node->window;

	clear_all(windows, pane);
	atomic_fetch_add(&w->begun, 1);
	atomic_fetch_add(&w->ended, 1);
}

/* Compares with what the storage says now. The node is referenced, the lock is not held. */
static void check(struct windows *windows, struct vnode *node)
{
	uint64_t now = clock_coarse_ns();
	struct attr attr;
	struct pane *pane;
	int r = ls_getattr(node->instance->ls, node->ls, NULL, &attr);

	pthread_mutex_lock(&windows->lock);
	pane = pane_of(node);
	if (pane) {
		bool changed = r < 0 || attr.size != pane->attr.size ||
			       !time_same(&attr.mtime, &pane->attr.mtime) ||
			       !time_same(&attr.ctime, &pane->attr.ctime) ||
			       attr.data_epoch != pane->attr.data_epoch;

		/* After a change of our own nothing tells whether there was a foreign one, too. */
		if (changed || pane->touched || pane->recent)
			distrust(windows, pane);
		pane->touched =
		    atomic_load(&node->window.begun) != atomic_load(&node->window.ended);
		if (r < 0 || !node->instance->ls->cacheable) {
			pane_free(windows, pane);
		} else {
			if (!pane->touched)
				atomic_store(&pane->window->size, attr.size);
			pane->attr = attr;
			pane->recent = attr_is_recent(&attr);
			pane->checked_ns = now;
		}
	}
	pthread_mutex_unlock(&windows->lock);
}

void window_reopened(struct windows *windows, struct vnode *node)
{
	if (pane_of(node) && node->instance->ls->remote)
		check(windows, node);
}

/* Under the lock: the panes that the checker is for, referenced. Those of a remote storage that has
 * not answered the other one for too long are void. */
static unsigned collect(const struct checker *checker, struct vnode **nodes)
{
	struct windows *windows = checker->windows;
	uint64_t now = clock_coarse_ns();
	unsigned n = 0;

	for (struct list *l = windows->panes.next; l != &windows->panes; l = l->next) {
		struct pane *pane = container_of(l, struct pane, list);

		if (pane->remote == checker->remote) {
			if (n < WINDOWS_MAX && vnode_tryref(pane->node))
				nodes[n++] = pane->node;
		} else if (pane->remote && now > pane->checked_ns + VFS_CACHE_NS) {
			distrust(windows, pane);
		}
	}
	return n;
}

static void *checker_main(void *arg)
{
	struct checker *checker = arg;
	struct windows *windows = checker->windows;
	struct vnode *nodes[WINDOWS_MAX];

	pthread_mutex_lock(&windows->lock);
	while (!windows->ending) {
		struct timespec until;
		unsigned n;

		if (!windows->count) {
			pthread_cond_wait(&windows->wake, &windows->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += WINDOWS_CHECK_NS;
		until.tv_sec += until.tv_nsec / NS_PER_S;
		until.tv_nsec %= NS_PER_S;
		while (!windows->ending &&
		       pthread_cond_timedwait(&windows->wake, &windows->lock, &until) != ETIMEDOUT)
			;
		n = collect(checker, nodes);
		pthread_mutex_unlock(&windows->lock);
		for (unsigned i = 0; i < n; i++) {
			check(windows, nodes[i]);
			vnode_unref(nodes[i]);
		}
		pthread_mutex_lock(&windows->lock);
	}
	pthread_mutex_unlock(&windows->lock);
	return NULL;
}

/* Under the lock. */
static int run_checker(struct windows *windows, struct checker *checker)
{
	int r;

	if (checker->running)
		return 0;
	checker->windows = windows;
	r = cred_thread(&checker->thread, NULL, checker_main, checker);
	checker->running = !r;
	return r;
}

static int pane_new(struct vnode *node, const struct attr *attr, struct pane **ret)
{
	uint64_t capacity = (attr->size + attr->size / 4 + SLACK_BYTES) & ~(WINDOW_PAGE - 1ull);
	uint64_t offset = window_pages_offset(capacity);
	struct pane *pane = calloc(1, sizeof(*pane));
	CLEANUP_FD int fd = memfd_create("danaus-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at;

	if (pane)
		pane->seen = calloc((capacity / WINDOW_PAGE + 63) / 64, 8);
	if (!pane || !pane->seen || fd < 0 || ftruncate(fd, offset + capacity) < 0)
		goto failed;
	at = mmap(NULL, offset + capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		  0);
	if (at == MAP_FAILED)
		goto failed;
	if (fcntl(fd, F_ADD_SEALS,
		  F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		munmap(at, offset + capacity);
		goto failed;
	}
	pane->node = node;
	pane->window = at;
	pane->map_bytes = offset + capacity;
	pane->window->capacity = capacity;
	pane->window->pages_offset = offset;
	atomic_store(&pane->window->size, attr->size);
	pane->attr = *attr;
	/* A change that is under way shows at the first check: attr is from before it. */
	pane->recent = attr_is_recent(attr);
	pane->remote = node->instance->ls->remote;
	pane->checked_ns = clock_coarse_ns();
	pane->fd = STEAL_FD(fd);
	*ret = pane;
	return 0;
failed:
	if (pane)
		free(pane->seen);
	free(pane);
	return -ENOMEM;
}

static int reopen(int fd, int *ret)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

int window_use(struct windows *windows, struct vnode *node, uint64_t size, int *ret_fd,
	       uint64_t *ret_bytes)
{
	struct pane *made = NULL, *pane;
	struct attr attr;
	int r;

	if (!node->instance->ls->cacheable || node->type != S_IFREG)
		return -EOPNOTSUPP;
	if (size > WINDOW_MAX_BYTES)
		return -EFBIG;
	if (!pane_of(node)) {
		r = ls_getattr(node->instance->ls, node->ls, NULL, &attr);
		if (!r)
			r = pane_new(node, &attr, &made);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&windows->lock);
	pane = pane_of(node);
	r = 0;
	if (!pane && made && windows->budget && windows->count < WINDOWS_MAX) {
		r = run_checker(windows, &windows->here);
		if (!r && made->remote)
			r = run_checker(windows, &windows->remote);
		if (!r) {
			pane = made;
			made = NULL;
			pane->used = windows->clock;
			pane->serial = ++windows->serial;
			list_add_tail(&windows->panes, &pane->list);
			if (!windows->count++)
				pthread_cond_broadcast(&windows->wake);
			atomic_store(&node->window.pane, pane);
		}
	}
	if (pane)
		r = reopen(pane->fd, ret_fd);
	else if (!r)
		r = -ENOSPC;
	if (!r) {
		pane->users++;
		*ret_bytes = pane->map_bytes;
	}
	pthread_mutex_unlock(&windows->lock);
	if (made) {
		munmap(made->window, made->map_bytes);
		fd_close(made->fd);
		free(made->seen);
		free(made);
	}
	return r;
}

void window_unuse(struct windows *windows, struct vnode *node)
{
	struct pane *pane;

	pthread_mutex_lock(&windows->lock);
	pane = pane_of(node);
	if (pane && pane->users && --pane->users == 0)
		pane_free(windows, pane);
	pthread_mutex_unlock(&windows->lock);
}

/* More than a few pages of its chunk were read. */
static bool chunk_is_warm(const struct pane *pane, uint64_t page)
{
	uint64_t seen = pane->seen[page / 64] >> (page % 64 & ~(CHUNK_PAGES - 1ull));

	return __builtin_popcountll(seen & ((1u << CHUNK_PAGES) - 1)) >= CHUNK_PAGES / 4;
}

static void fill_page(struct windows *windows, struct pane *pane, uint64_t page, const char *data,
		      size_t len)
{
	struct window *window = pane->window;
	char *to = (char *)window + window->pages_offset + page * WINDOW_PAGE;
	uint64_t bit = 1ull << (page % 64);

	if (!(pane->seen[page / 64] & bit) && !chunk_is_warm(pane, page)) {
		pane->seen[page / 64] |= bit;
		return;
	}
	if ((atomic_load(&window->valid[page / 64]) & bit) || !make_room(windows, pane))
		return;
	memcpy(to, data, len);
	/* when the file grows by a hole, this is it */
	memset(to + len, 0, WINDOW_PAGE - len);
	atomic_fetch_or(&window->valid[page / 64], bit);
	pane->bytes += WINDOW_PAGE;
	windows->bytes += WINDOW_PAGE;
	pane->used = ++windows->clock;
}

/* The bytes of a page that a read up to end has: all of it, or all that the file has of its last
 * one; 0: not so. */
static size_t page_bytes(const struct pane *pane, uint64_t page, uint64_t end)
{
	uint64_t at = page * WINDOW_PAGE, size = atomic_load(&pane->window->size);
	size_t len;

	if (at >= end || at + WINDOW_PAGE > pane->window->capacity)
		return 0;
	len = end - at < WINDOW_PAGE ? end - at : WINDOW_PAGE;
	return (len < WINDOW_PAGE && end < size) || at + len > size ? 0 : len;
}

/* Under the lock: the pane, unless what was read may be old. */
static struct pane *pane_to_fill(struct vnode *node, uint32_t token)
{
	return token == atomic_load(&node->window.ended) &&
		       token == atomic_load(&node->window.begun) &&
		       !atomic_load(&node->face_writers)
		   ? pane_of(node)
		   : NULL;
}

/* The whole of a warm chunk instead of a read inside of it. */
static void widen(const struct pane *pane, uint64_t *offset, uint64_t *len_bytes)
{
	const uint64_t chunk = CHUNK_PAGES * WINDOW_PAGE;
	uint64_t size = atomic_load(&pane->window->size), from = *offset / chunk * chunk;

	if (*offset + *len_bytes > from + chunk || *offset + *len_bytes > size ||
	    !chunk_is_warm(pane, *offset / WINDOW_PAGE))
		return;
	*offset = from;
	*len_bytes = size - from < chunk ? size - from : chunk;
}

bool window_wants(struct windows *windows, struct vnode *node, uint32_t token, uint64_t *offset,
		  uint64_t *len_bytes)
{
	uint64_t first = (*offset + WINDOW_PAGE - 1) / WINDOW_PAGE, end = *offset + *len_bytes;
	struct pane *pane;
	bool wants = false;

	pthread_mutex_lock(&windows->lock);
	pane = pane_to_fill(node, token);
	for (uint64_t page = first; pane && !wants && page_bytes(pane, page, end); page++) {
		uint64_t bit = 1ull << (page % 64);

		wants = (pane->seen[page / 64] & bit) &&
			!(atomic_load(&pane->window->valid[page / 64]) & bit) &&
			make_room(windows, pane);
	}
	for (uint64_t page = first; pane && !wants && page_bytes(pane, page, end); page++)
		pane->seen[page / 64] |= 1ull << (page % 64);
	if (wants)
		widen(pane, offset, len_bytes);
	pthread_mutex_unlock(&windows->lock);
	return wants;
}

void window_fill(struct windows *windows, struct vnode *node, uint32_t token, const void *data,
		 uint64_t offset, uint64_t len_bytes)
{
	uint64_t page = (offset + WINDOW_PAGE - 1) / WINDOW_PAGE;
	struct pane *pane;
	size_t len;

	pthread_mutex_lock(&windows->lock);
	pane = pane_to_fill(node, token);
	for (; pane && (len = page_bytes(pane, page, offset + len_bytes)); page++)
		fill_page(windows, pane, page, (const char *)data + (page * WINDOW_PAGE - offset),
			  len);
	pthread_mutex_unlock(&windows->lock);
}

/* Under the lock. Bits of the first 32 pages in ret_was_valid. */
static void void_pages(struct windows *windows, struct pane *pane, uint64_t offset,
		       uint64_t len_bytes, uint32_t *ret_was_valid)
{
	uint64_t size = atomic_load(&pane->window->size), capacity = pane->window->capacity;
	/* no page beyond the size is valid */
	uint64_t most = (size < capacity ? size / WINDOW_PAGE + 1 : capacity / WINDOW_PAGE);
	uint64_t first, last;

	if (offset == VFS_AT_POSITION)
		offset = size;
	first = offset / WINDOW_PAGE;
	last = len_bytes > UINT64_MAX - WINDOW_PAGE - offset
		   ? most
		   : (offset + len_bytes) / WINDOW_PAGE + 1;
	last = last < most ? last : most;
	*ret_was_valid = 0;
	if (first < last && last - first > 64) {
		clear_all(windows, pane);
		return;
	}
	for (uint64_t page = first; page < last; page++) {
		uint64_t bit = 1ull << (page % 64);

		if (!(atomic_fetch_and(&pane->window->valid[page / 64], ~bit) & bit))
			continue;
		pane->bytes -= WINDOW_PAGE;
		windows->bytes -= WINDOW_PAGE;
		if (page - first < 32)
			*ret_was_valid |= 1u << (page - first);
	}
	atomic_fetch_add(&pane->window->changes, 1);
}

/* The pane's serial, 0: none. */
static uint64_t change_begin(struct windows *windows, struct vnode *node, uint64_t offset,
			     uint64_t len_bytes, uint32_t *ret_begun, uint32_t *ret_was_valid)
{
	uint64_t serial = 0;
	struct pane *pane;

	*ret_begun = atomic_fetch_add(&node->window.begun, 1) + 1;
	if (!pane_of(node))
		return 0;
	pthread_mutex_lock(&windows->lock);
	pane = pane_of(node);
	if (pane) {
		pane->touched = true;
		serial = pane->serial;
		void_pages(windows, pane, offset, len_bytes, ret_was_valid);
	}
	pthread_mutex_unlock(&windows->lock);
	return serial;
}

void window_change_begin(struct windows *windows, struct vnode *node, uint64_t offset,
			 uint64_t len_bytes)
{
	uint32_t begun, was_valid;

	change_begin(windows, node, offset, len_bytes, &begun, &was_valid);
}

void window_write_begin(struct windows *windows, struct vnode *node, struct window_write *write)
{
	write->was_valid = 0;
	write->pane_serial = change_begin(windows, node, write->offset, write->len_bytes,
					  &write->begun, &write->was_valid);
}

/* Under the lock, after the write and before it counts as ended. When it was the only change since
 * it began, its pages are what they were but for its bytes. */
static void refill(struct windows *windows, struct pane *pane, const struct window_write *write)
{
	uint64_t first = write->offset / WINDOW_PAGE, end = write->offset + write->len_bytes;
	struct window *window = pane->window;
	struct vnode *node = pane->node;

	if (pane->serial != write->pane_serial || atomic_load(&node->face_writers) ||
	    atomic_load(&node->window.begun) != write->begun ||
	    atomic_load(&node->window.ended) != write->begun - 1)
		return;
	for (unsigned i = 0; write->was_valid >> i; i++) {
		uint64_t page = first + i, from = page * WINDOW_PAGE, to = from + WINDOW_PAGE;
		uint64_t bit = 1ull << (page % 64);

		if (!(write->was_valid >> i & 1) || windows->bytes + WINDOW_PAGE > windows->budget)
			continue;
		/* What was valid before has kept its place and its bytes. */
		from = from > write->offset ? from : write->offset;
		to = to < end ? to : end;
		if (from < to)
			memcpy((char *)window + window->pages_offset + from,
			       (const char *)write->data + (from - write->offset), to - from);
		atomic_fetch_or(&window->valid[page / 64], bit);
		pane->bytes += WINDOW_PAGE;
		windows->bytes += WINDOW_PAGE;
	}
}

void window_change_end(struct windows *windows, struct vnode *node, uint64_t size_after,
		       bool exactly)
{
	if (pane_of(node)) {
		struct pane *pane;

		pthread_mutex_lock(&windows->lock);
		pane = pane_of(node);
		if (pane && (exactly || size_after > atomic_load(&pane->window->size)))
			atomic_store(&pane->window->size, size_after);
		pthread_mutex_unlock(&windows->lock);
	}
	atomic_fetch_add(&node->window.ended, 1);
}

void window_write_end(struct windows *windows, struct vnode *node, const struct window_write *write,
		      size_t written_bytes, uint64_t size_after)
{
	if (write->was_valid && written_bytes == write->len_bytes) {
		pthread_mutex_lock(&windows->lock);
		if (pane_of(node))
			refill(windows, pane_of(node), write);
		pthread_mutex_unlock(&windows->lock);
	}
	window_change_end(windows, node, size_after, false);
}
