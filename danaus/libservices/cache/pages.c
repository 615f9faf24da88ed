/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the store: the pages of a pool's caches, who is found where, and who goes when there is no
 * room. Any thread; see internal.h for the locks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "danaus/libservices/cache/internal.h"

#define CHUNK_PAGES 256u
#define LIMBO_PAGES 256u
#define EVICT_PAGES 64u /* at a time: each time waits for the readers */
#define PAGE_BYTES  (CACHE_PAGE + sizeof(struct cache_page))

struct cache_chunk {
	struct cache_chunk *next;
	char *data;
	unsigned npages;
	struct cache_page page[];
};

static void set_budget(struct cache_store *store, uint64_t bytes)
{
	if (bytes < CACHE_BYTES_MIN)
		bytes = CACHE_BYTES_MIN;
	if (bytes <= store->budget)
		return;
	store->budget = bytes;
	store->limit = bytes / PAGE_BYTES;
}

int cache_store_new(uint64_t budget_bytes, struct cache_store **ret)
{
	struct cache_store *store = calloc(1, sizeof(*store));
	pthread_condattr_t monotonic;

	if (!store)
		return -ENOMEM;
	/* The kernel gives memory to what is written only. */
	store->bucket =
	    mmap(NULL, CACHE_PAGE_BUCKETS * sizeof(*store->bucket), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (store->bucket == MAP_FAILED) {
		free(store);
		return -ENOMEM;
	}
	pthread_mutex_init(&store->lock, NULL);
	pthread_mutex_init(&store->cores_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&store->work, &monotonic);
	pthread_cond_init(&store->cleaned, &monotonic);
	pthread_condattr_destroy(&monotonic);
	list_init(&store->cold);
	list_init(&store->hot);
	list_init(&store->dirty);
	store->check_ns = CACHE_CHECK_NS;
	store->age_ns = CACHE_AGE_NS;
	store->retry_ns = CACHE_RETRY_NS;
	set_budget(store, budget_bytes);
	*ret = store;
	return 0;
}

static void free_chunks(struct cache_store *store)
{
	while (store->chunks) {
		struct cache_chunk *chunk = store->chunks;

		store->chunks = chunk->next;
		munmap(chunk->data, (size_t)chunk->npages * CACHE_PAGE);
		free(chunk);
	}
	store->free = store->limbo = NULL;
	store->allocated = store->bytes = store->nlimbo = 0;
}

void cache_store_free(struct cache_store *store)
{
	/* One that a door still uses at the end of the service is worse freed than kept. */
	if (!store || store->cores)
		return;
	cache_flusher_end(store);
	free_chunks(store);
	pthread_cond_destroy(&store->work);
	pthread_cond_destroy(&store->cleaned);
	munmap(store->bucket, CACHE_PAGE_BUCKETS * sizeof(*store->bucket));
	pthread_mutex_destroy(&store->lock);
	pthread_mutex_destroy(&store->cores_lock);
	free(store);
}

void cache_store_set_budget(struct cache_store *store, uint64_t bytes)
{
	pthread_mutex_lock(&store->lock);
	set_budget(store, bytes);
	pthread_mutex_unlock(&store->lock);
}

void cache_store_count(struct cache_store *store, struct cache_counts *ret)
{
	ret->used = atomic_load(&store->ncores);
	pthread_mutex_lock(&store->lock);
	ret->bytes = store->bytes;
	ret->budget = store->budget;
	ret->dirty = store->ndirty + store->nwriting;
	ret->pages = store->ncold + store->nhot + ret->dirty;
	pthread_mutex_unlock(&store->lock);
}

static _Atomic(struct cache_page *) *bucket_of(struct cache_store *store, uint64_t id,
					       uint64_t index)
{
	uint64_t h = (id * 0xbf58476d1ce4e5b9u) ^ index;

	return &store->bucket[(h * 0x9e3779b97f4a7c15u) >> 46];
}
_Static_assert(CACHE_PAGE_BUCKETS == 1u << 18, "bucket_of");

struct cache_page *cache_pages_find(struct cache_store *store, const struct cinode *inode,
				    uint64_t index)
{
	struct cache_page *page =
	    atomic_load_explicit(bucket_of(store, inode->id, index), memory_order_acquire);

	while (page && (page->index != index || page->id != inode->id))
		page = atomic_load_explicit(&page->chain, memory_order_acquire);
	return page;
}

void cache_pages_give_back(struct cache_store *store, struct cache_page *page)
{
	page->next = store->free;
	store->free = page;
}

static void enqueue(struct cache_store *store, struct cache_page *page, bool hot)
{
	page->hot = hot;
	list_add_tail(hot ? &store->hot : &store->cold, &page->queue);
	*(hot ? &store->nhot : &store->ncold) += 1;
}

static void dequeue(struct cache_store *store, struct cache_page *page)
{
	list_del(&page->queue);
	*(page->hot ? &store->nhot : &store->ncold) -= 1;
}

static void put(struct cache_store *store, struct cinode *inode, uint64_t index, uint32_t len,
		bool ahead, struct cache_page *page)
{
	_Atomic(struct cache_page *) *bucket = bucket_of(store, inode->id, index);

	page->id = inode->id;
	page->index = index;
	page->inode = inode;
	page->dirty = page->hot = false;
	page->holds = 0;
	atomic_store_explicit(&page->len, len, memory_order_relaxed);
	atomic_store_explicit(&page->used, false, memory_order_relaxed);
	atomic_store_explicit(&page->ahead, ahead, memory_order_relaxed);
	atomic_store_explicit(&page->chain, atomic_load_explicit(bucket, memory_order_relaxed),
			      memory_order_relaxed);
	atomic_store_explicit(bucket, page, memory_order_release);
	list_add_tail(&inode->pages, &page->of_inode);
	atomic_fetch_add_explicit(&inode->npages, 1, memory_order_relaxed);
}

bool cache_pages_insert(struct cache_store *store, struct cinode *inode, uint64_t index,
			uint32_t len, bool ahead, struct cache_page *page)
{
	if (cache_pages_find(store, inode, index)) {
		cache_pages_give_back(store, page);
		return false;
	}
	put(store, inode, index, len, ahead, page);
	enqueue(store, page, false);
	return true;
}

static void inode_free(struct cinode *inode)
{
	struct cinode **p = &inode->core->inodes[inode->ino % CACHE_NODE_BUCKETS];

	while (*p != inode)
		p = &(*p)->chain;
	*p = inode->chain;
	pthread_mutex_destroy(&inode->change);
	pthread_mutex_destroy(&inode->flush);
	free(inode);
}

static void retire(struct cache_store *store, struct cache_page *page)
{
	page->next = store->limbo;
	store->limbo = page;
	store->nlimbo++;
}

/* Nobody finds it from here on; who has found it may still look. */
static void take_out(struct cache_store *store, struct cache_page *page)
{
	_Atomic(struct cache_page *) *p = bucket_of(store, page->id, page->index);
	struct cache_page *at;

	while ((at = atomic_load_explicit(p, memory_order_relaxed)) != page)
		p = &at->chain;
	atomic_store_explicit(p, atomic_load_explicit(&page->chain, memory_order_relaxed),
			      memory_order_release);
	if (page->dirty)
		cache_pages_undirty(store, page);
	else if (!page->holds)
		dequeue(store, page);
	list_del(&page->of_inode);
	atomic_fetch_sub_explicit(&page->inode->npages, 1, memory_order_relaxed);
	page->inode = NULL;
	if (page->holds)
		return;
	retire(store, page);
}

void cache_pages_put_dirty(struct cache_store *store, struct cinode *inode, uint64_t index,
			   uint32_t len, struct cache_page *page)
{
	struct cache_page *old = cache_pages_find(store, inode, index);

	put(store, inode, index, len, false, page); /* before the old one, so that one is found */
	page->holds = 1;
	cache_pages_dirty(store, page);
	page->holds = 0;
	if (old)
		take_out(store, old);
}

void cache_pages_hold(struct cache_store *store, struct cache_page *page)
{
	if (!page->dirty && !page->holds)
		dequeue(store, page);
	page->holds++;
}

void cache_pages_unhold(struct cache_store *store, struct cache_page *page)
{
	if (--page->holds || page->dirty)
		return;
	if (page->inode) {
		enqueue(store, page, page->hot);
	} else {
		retire(store, page);
	}
}

/* Both while it is held. */
void cache_pages_dirty(struct cache_store *store, struct cache_page *page)
{
	if (page->dirty)
		return;
	page->dirty = true;
	list_add_tail(&page->inode->pages_dirty, &page->queue);
	page->inode->ndirty++;
	store->ndirty++;
}

void cache_pages_undirty(struct cache_store *store, struct cache_page *page)
{
	page->dirty = false;
	list_del(&page->queue);
	page->inode->ndirty--;
	store->ndirty--;
}

/* The one that goes next, moved to the hot ones' or the cold ones' end where it earned that. Ends:
 * each turn takes a mark off, or a page out of a queue that gets no new ones meanwhile. */
static struct cache_page *victim(struct cache_store *store)
{
	for (;;) {
		struct cache_page *page;

		if (store->ncold && store->nhot <= (store->ncold + store->nhot) / 4 * 3) {
			page = container_of(store->cold.next, struct cache_page, queue);
			if (!atomic_exchange_explicit(&page->used, false, memory_order_relaxed))
				return page;
			dequeue(store, page);
			enqueue(store, page, true);
			continue;
		}
		if (!store->nhot)
			return NULL;
		page = container_of(store->hot.next, struct cache_page, queue);
		if (!atomic_exchange_explicit(&page->used, false, memory_order_relaxed))
			return page;
		dequeue(store, page);
		enqueue(store, page, true);
	}
}

static void evict(struct cache_store *store, unsigned n)
{
	while (n--) {
		struct cache_page *page = victim(store);
		struct cinode *inode;

		if (!page)
			return;
		inode = page->inode;
		take_out(store, page);
		if (!inode->nodes && !atomic_load_explicit(&inode->npages, memory_order_relaxed))
			inode_free(inode);
	}
}

static bool grow(struct cache_store *store)
{
	uint64_t left = store->limit > store->allocated ? store->limit - store->allocated : 0;
	unsigned n = left < CHUNK_PAGES ? left : CHUNK_PAGES;
	struct cache_chunk *chunk;

	if (!n)
		return false;
	chunk = calloc(1, sizeof(*chunk) + n * sizeof(chunk->page[0]));
	if (!chunk)
		return false;
	chunk->data = mmap(NULL, (size_t)n * CACHE_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk->data == MAP_FAILED) {
		free(chunk);
		return false;
	}
	chunk->npages = n;
	chunk->next = store->chunks;
	store->chunks = chunk;
	for (unsigned i = n; i--;) {
		chunk->page[i].data = chunk->data + (size_t)i * CACHE_PAGE;
		cache_pages_give_back(store, &chunk->page[i]);
	}
	store->allocated += n;
	store->bytes += n * PAGE_BYTES;
	return true;
}

unsigned cache_pages_take(struct cache_store *store, struct cache_page **pages, unsigned n)
{
	unsigned got = 0;

	pthread_mutex_lock(&store->lock);
	for (;;) {
		struct cache_page *limbo;

		while (got < n && store->free) {
			pages[got++] = store->free;
			store->free = store->free->next;
		}
		if (got == n)
			break;
		/* Memory that was used just now is warm, and one wait is shared by many pages. */
		if (store->nlimbo < LIMBO_PAGES && grow(store))
			continue;
		if (!store->limbo)
			evict(store, EVICT_PAGES > n - got ? EVICT_PAGES : n - got);
		limbo = store->limbo;
		if (!limbo)
			break;
		store->limbo = NULL;
		store->nlimbo = 0;
		pthread_mutex_unlock(&store->lock);
		rcu_wait();
		pthread_mutex_lock(&store->lock);
		while (limbo) {
			struct cache_page *page = limbo;

			limbo = page->next;
			cache_pages_give_back(store, page);
		}
	}
	pthread_mutex_unlock(&store->lock);
	return got;
}

void cache_pages_drop(struct cache_store *store, struct cinode *inode, uint64_t first,
		      uint64_t last)
{
	unsigned n = atomic_load_explicit(&inode->npages, memory_order_relaxed);

	if (!n || first > last)
		return;
	if (last - first < n) {
		for (uint64_t i = first;; i++) {
			struct cache_page *page = cache_pages_find(store, inode, i);

			if (page)
				take_out(store, page);
			if (i == last)
				return;
		}
	}
	for (struct list *l = inode->pages.next, *next; l != &inode->pages; l = next) {
		struct cache_page *page = container_of(l, struct cache_page, of_inode);

		next = l->next;
		if (page->index >= first && page->index <= last)
			take_out(store, page);
	}
}

void cache_inode_forget_data(struct cache_store *store, struct cinode *inode)
{
	if (inode->dirty)
		return;
	cache_pages_drop(store, inode, 0, UINT64_MAX);
	if (inode->stamped)
		inode->epoch = ++store->last_id;
	inode->stamped = false;
	inode->token++;
}

struct cinode *cache_inode_get(struct cache_core *core, uint64_t dev, uint64_t ino)
{
	struct cinode **first = &core->inodes[ino % CACHE_NODE_BUCKETS], *inode;

	for (inode = *first; inode; inode = inode->chain) {
		if (inode->ino == ino && inode->dev == dev) {
			inode->nodes++;
			return inode;
		}
	}
	inode = calloc(1, sizeof(*inode));
	if (!inode)
		return NULL;
	inode->core = core;
	inode->id = inode->epoch = ++core->store->last_id;
	inode->dev = dev;
	inode->ino = ino;
	inode->nodes = 1;
	list_init(&inode->pages);
	list_init(&inode->pages_dirty);
	pthread_mutex_init(&inode->change, NULL);
	pthread_mutex_init(&inode->flush, NULL);
	inode->chain = *first;
	*first = inode;
	return inode;
}

void cache_inode_put(struct cinode *inode)
{
	if (!--inode->nodes && !atomic_load_explicit(&inode->npages, memory_order_relaxed))
		inode_free(inode);
}

void cache_core_drop(struct cache_core *core)
{
	struct cache_store *store = core->store;

	pthread_mutex_lock(&store->lock);
	for (unsigned i = 0; i < CACHE_NODE_BUCKETS; i++) {
		while (core->inodes[i]) {
			cache_pages_drop(store, core->inodes[i], 0, UINT64_MAX);
			inode_free(core->inodes[i]);
		}
	}
	pthread_mutex_unlock(&store->lock);
	rcu_wait();
	/* The last one gives the memory back. No page is in use: no cache is left that could. */
	pthread_mutex_lock(&store->cores_lock);
	pthread_mutex_lock(&store->lock);
	if (!store->cores)
		free_chunks(store);
	pthread_mutex_unlock(&store->lock);
	pthread_mutex_unlock(&store->cores_lock);
}
