/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a store's flusher: the thread that brings dirty pages below before anybody asks for it. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "danaus/libservices/cache/internal.h"

#define NS_PER_MS   1000000u
#define NS_PER_S    1000000000u
#define RESETTLE_NS (100u * NS_PER_MS) /* somebody was changing it */

/* The flusher's turn on one inode, which it has pinned. */
static void flush_turn(struct cache_core *core, struct cinode *inode)
{
	struct cache_store *store = core->store;
	bool clean = false;
	int r = 0;

	pthread_mutex_lock(&inode->flush);
	if (cache_is_dirty(core, inode))
		r = cache_write_dirty(core, inode, false);
	if (r < 0)
		cache_note_error(store, inode, r, true);
	pthread_mutex_unlock(&inode->flush);
	/* Who holds change may be waiting for us; then the next turn will do. */
	if (!pthread_mutex_trylock(&inode->change)) {
		if (cache_is_dirty(core, inode)) {
			pthread_mutex_lock(&inode->flush);
			if (!inode->ndirty) {
				cache_settle(core, inode, false);
				clean = true;
			}
			pthread_mutex_unlock(&inode->flush);
			if (!clean && inode->failures >= CACHE_RETRIES)
				cache_give_up(core, inode);
		}
		pthread_mutex_unlock(&inode->change);
	}
	pthread_mutex_lock(&store->lock);
	if (inode->dirty && !r) {
		uint64_t soon = clock_coarse_ns() + RESETTLE_NS;

		inode->failures = 0;
		if (!inode->ndirty && soon < inode->due)
			inode->due = soon;
	}
	pthread_mutex_unlock(&store->lock);
}

/* Who is to go now, or NULL; *ret_until: when somebody will be, 0: nobody. */
static struct cinode *pick(struct cache_store *store, uint64_t *ret_until)
{
	struct cinode *spare = NULL;
	uint64_t now = clock_coarse_ns();
	bool over = cache_dirty_many(store);

	*ret_until = 0;
	for (struct list *l = store->dirty.next; l != &store->dirty; l = l->next) {
		struct cinode *inode = container_of(l, struct cinode, in_store);

		if (inode->due <= now)
			return inode;
		/* Only if nobody is late: who writes faster than the storage would have every turn.
		 */
		if (over && !spare && inode->ndirty && !inode->failures)
			spare = inode;
		if (!*ret_until || inode->due < *ret_until)
			*ret_until = inode->due;
	}
	return spare;
}

static void *flusher_main(void *arg)
{
	struct cache_store *store = arg;

	pthread_setname_np(pthread_self(), "cache-flusher");
	pthread_mutex_lock(&store->lock);
	while (!store->ends) {
		uint64_t until;
		struct cinode *inode = pick(store, &until);

		if (inode) {
			inode->nodes++;
			store->flushing = inode->core;
			/* of what is written from here on; who closes the file makes it sooner */
			inode->due = clock_coarse_ns() + store->age_ns;
			pthread_mutex_unlock(&store->lock);
			flush_turn(inode->core, inode);
			pthread_mutex_lock(&store->lock);
			cache_inode_put(inode);
			store->flushing = NULL;
			pthread_cond_broadcast(&store->cleaned);
		} else if (until) {
			/* the clock that says when it is due is a tick behind at most */
			struct timespec at = {.tv_sec = until / NS_PER_S,
					      .tv_nsec = until % NS_PER_S};

			at.tv_nsec += 4 * NS_PER_MS;
			if (at.tv_nsec >= (long)NS_PER_S) {
				at.tv_nsec -= NS_PER_S;
				at.tv_sec++;
			}
			store->wake_at = until;
			pthread_cond_timedwait(&store->work, &store->lock, &at);
			store->wake_at = 0;
		} else {
			store->wake_at = UINT64_MAX;
			pthread_cond_wait(&store->work, &store->lock);
			store->wake_at = 0;
		}
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

int cache_flusher_start(struct cache_store *store)
{
	sigset_t all, old;
	int r;

	if (store->has_flusher)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = cred_thread(&store->flusher, NULL, flusher_main, store);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	store->has_flusher = !r;
	return r;
}

void cache_flusher_end(struct cache_store *store)
{
	if (!store->has_flusher)
		return;
	pthread_mutex_lock(&store->lock);
	store->ends = true;
	pthread_cond_signal(&store->work);
	pthread_mutex_unlock(&store->lock);
	pthread_join(store->flusher, NULL);
	store->has_flusher = false;
}
