/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the cached names: (directory, name) -> inode, or that there is none. A hash table that is
 * read in RCU sections and changed under striped locks, bounded by a second-chance list. Entries
 * are replaced, never changed, but for their time. Any thread. */
#include "danaus/vfs/node.h"

#include <stdlib.h>

uint32_t dentry_hash(const struct vnode *dir, const char *name, size_t len)
{
	uint64_t h = (uintptr_t)dir * 0x9e3779b97f4a7c15u, word;

	for (; len >= 8; len -= 8, name += 8) {
		memcpy(&word, name, 8);
		h = (h ^ word) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	word = len;
	memcpy(&word, name, len);
	h = (h ^ word ^ (uint64_t)len << 56) * 0xff51afd7ed558ccdu;
	return h >> 32;
}

static _Atomic(struct dentry *) *chain_of(struct vfs *vfs, uint32_t hash)
{
	return &vfs->dentries[hash % DENTRY_CHAINS];
}

static pthread_mutex_t *stripe_of(struct vfs *vfs, uint32_t hash)
{
	return &vfs->dentry_stripe[hash % STRIPES];
}

static bool matches(const struct dentry *d, const struct vnode *dir, const char *name, size_t len,
		    uint32_t hash)
{
	return d->hash == hash && d->dir == dir && d->len == len && !memcmp(d->name, name, len);
}

struct dentry *dentry_find(struct vnode *dir, const char *name, size_t len, uint32_t hash)
{
	struct dentry *d = atomic_load_explicit(chain_of(vfs_of(dir), hash), memory_order_acquire);

	while (d && !matches(d, dir, name, len, hash))
		d = atomic_load_explicit(&d->chain, memory_order_acquire);
	return d;
}

static void free_dentry(struct retired *retired)
{
	free(retired);
}

/* Nobody else finds it any more: the stripe is held, or it is unhashed. */
static void unhash(struct vfs *vfs, struct dentry *d)
{
	_Atomic(struct dentry *) *p = chain_of(vfs, d->hash);
	struct dentry *at;

	while ((at = atomic_load_explicit(p, memory_order_relaxed)) != d)
		p = &at->chain;
	atomic_store_explicit(p, atomic_load_explicit(&d->chain, memory_order_relaxed),
			      memory_order_release);
	d->hashed = false;
}

static void dentry_free(struct vfs *vfs, struct dentry *d)
{
	struct vnode *dir = d->dir, *node = d->node;

	vfs_retire(vfs, &d->retired);
	vnode_unref(node);
	vnode_unref(dir);
}

/* With the stripe held. Whoever takes an entry off the list frees it: true: the caller, after
 * letting go of the stripe; false: an eviction has it already. */
static bool take_out(struct vfs *vfs, struct dentry *d)
{
	bool mine;

	unhash(vfs, d);
	pthread_mutex_lock(&vfs->lru_lock);
	mine = d->lru.next != NULL;
	if (mine) {
		list_del(&d->lru);
		vfs->names--;
	}
	pthread_mutex_unlock(&vfs->lru_lock);
	return mine;
}

static struct dentry *dentry_make(struct vnode *dir, const char *name, size_t len, uint32_t hash,
				  struct vnode *node, uint64_t now)
{
	struct dentry *d = malloc(sizeof(*d) + len + 1);

	if (!d)
		return NULL;
	memset(d, 0, sizeof(*d));
	d->retired.free = free_dentry;
	d->dir = vnode_ref(dir);
	d->node = node ? vnode_ref(node) : NULL;
	d->hash = hash;
	d->len = len;
	memcpy(d->name, name, len);
	d->name[len] = '\0';
	atomic_init(&d->until, now + VFS_CACHE_NS);
	atomic_init(&d->used, true);
	return d;
}

static void put_in(struct vfs *vfs, struct dentry *d)
{
	_Atomic(struct dentry *) *head = chain_of(vfs, d->hash);

	atomic_store_explicit(&d->chain, atomic_load_explicit(head, memory_order_relaxed),
			      memory_order_relaxed);
	d->hashed = true;
	atomic_store_explicit(head, d, memory_order_release);
	pthread_mutex_lock(&vfs->lru_lock);
	list_add_tail(&vfs->lru, &d->lru);
	vfs->names++;
	pthread_mutex_unlock(&vfs->lru_lock);
}

static struct dentry *find_locked(struct vfs *vfs, struct vnode *dir, const char *name, size_t len,
				  uint32_t hash)
{
	struct dentry *d = atomic_load_explicit(chain_of(vfs, hash), memory_order_relaxed);

	while (d && !matches(d, dir, name, len, hash))
		d = atomic_load_explicit(&d->chain, memory_order_relaxed);
	return d;
}

/* set: our own change, counted in names_gen; otherwise only when gen is still that, and no change
 * is under way that somebody may hear of before it is entered. */
static void replace(struct vnode *dir, const char *name, size_t len, struct vnode *node, bool set,
		    bool drop, unsigned gen, uint64_t now)
{
	struct vfs *vfs = vfs_of(dir);
	uint32_t hash = dentry_hash(dir, name, len);
	struct dentry *made = NULL, *old;
	bool room, was, was_not;

	if (!drop && !dir->instance->dying)
		made = dentry_make(dir, name, len, hash, node, now);
	pthread_mutex_lock(stripe_of(vfs, hash));
	if (set)
		atomic_fetch_add(&dir->names_gen, 1);
	else if (!drop &&
		 (atomic_load(&dir->names_gen) != gen || atomic_load(&dir->names_change))) {
		pthread_mutex_unlock(stripe_of(vfs, hash));
		if (made)
			dentry_free(vfs, made);
		return;
	}
	old = find_locked(vfs, dir, name, len, hash);
	/* A lease may be of what the name was, or of its being nothing; both when neither is known.
	 */
	was = old ? old->node && old->node != node : set;
	was_not = old ? !old->node && (drop || node) : set;
	if (old && made && old->node == node) {
		/* Nothing new: just good for longer. */
		atomic_store_explicit(&old->until, now + VFS_CACHE_NS, memory_order_release);
		old = NULL;
	} else {
		if (old && !take_out(vfs, old))
			old = NULL;
		/* In between: nobody finds the new name while a lease says the old one, and who
		 * looks at the counter from here on does not find the old one. */
		if (was)
			lease_names_changed(dir);
		if (was_not)
			lease_attr_changed(dir);
		if (made)
			put_in(vfs, made);
		made = NULL;
	}
	pthread_mutex_unlock(stripe_of(vfs, hash));
	if (made)
		dentry_free(vfs, made);
	if (old)
		dentry_free(vfs, old);
	pthread_mutex_lock(&vfs->lru_lock);
	room = vfs->names <= vfs->names_max;
	pthread_mutex_unlock(&vfs->lru_lock);
	if (!room || atomic_load_explicit(&vfs->node_count, memory_order_relaxed) > vfs->nodes_max)
		dentry_evict(vfs, 16, 0);
}

void dentry_enter(struct vnode *dir, const char *name, size_t len, struct vnode *node, unsigned gen,
		  uint64_t now)
{
	replace(dir, name, len, node, false, false, gen, now);
}

void dentry_set(struct vnode *dir, const char *name, size_t len, struct vnode *node, uint64_t now)
{
	replace(dir, name, len, node, true, false, 0, now);
}

void dentry_drop(struct vnode *dir, const char *name, size_t len)
{
	replace(dir, name, len, NULL, true, true, 0, 0);
}

void lease_on_absence(const struct vctx *ctx, struct vnode *dir, const char *name, size_t len)
{
	uint32_t hash;
	struct dentry *d;
	pthread_mutex_t *stripe;

	if (!ctx->lease)
		return;
	lease_on_attr(ctx, dir);
	/* With the stripe: whoever enters the name counts first. */
	hash = dentry_hash(dir, name, len);
	stripe = stripe_of(vfs_of(dir), hash);
	pthread_mutex_lock(stripe);
	d = find_locked(vfs_of(dir), dir, name, len, hash);
	if (d && !d->node)
		lease_error(ctx->lease, -ENOENT);
	pthread_mutex_unlock(stripe);
}

void dentry_change_begin(struct vnode *dir, const char *name, size_t len)
{
	if (!atomic_load_explicit(&dir->instance->watched, memory_order_relaxed))
		return;
	atomic_store(&dir->names_change, true);
	dentry_drop(dir, name, len);
}

void dentry_change_end(struct vnode *dir)
{
	atomic_store_explicit(&dir->names_change, false, memory_order_release);
}

/* Takes an entry off the list; the caller owns it then. */
static struct dentry *pick(struct vfs *vfs, uint64_t older_than)
{
	struct dentry *d = NULL;

	pthread_mutex_lock(&vfs->lru_lock);
	for (unsigned tries = 0; tries < 64 && vfs->lru.next != &vfs->lru; tries++) {
		struct list *item = vfs->lru.next;

		d = container_of(item, struct dentry, lru);
		list_del(item);
		if ((!older_than || atomic_load(&d->until) < older_than) &&
		    !atomic_exchange_explicit(&d->used, false, memory_order_relaxed)) {
			vfs->names--;
			break;
		}
		list_add_tail(&vfs->lru, item);
		d = NULL;
	}
	pthread_mutex_unlock(&vfs->lru_lock);
	return d;
}

void dentry_evict(struct vfs *vfs, unsigned n, uint64_t older_than)
{
	struct dentry *d;

	while (n-- && (d = pick(vfs, older_than))) {
		pthread_mutex_lock(stripe_of(vfs, d->hash));
		if (d->hashed)
			unhash(vfs, d);
		pthread_mutex_unlock(stripe_of(vfs, d->hash));
		dentry_free(vfs, d);
	}
}

void dentry_purge(struct vfs_instance *instance)
{
	struct vfs *vfs = instance->vfs;

	for (unsigned i = 0; i < DENTRY_CHAINS; i++) {
		struct dentry *d;

		for (;;) {
			bool mine = false;

			pthread_mutex_lock(stripe_of(vfs, i));
			d = atomic_load_explicit(&vfs->dentries[i], memory_order_relaxed);
			while (d && d->dir->instance != instance)
				d = atomic_load_explicit(&d->chain, memory_order_relaxed);
			if (d)
				mine = take_out(vfs, d);
			pthread_mutex_unlock(stripe_of(vfs, i));
			if (!d)
				break;
			if (mine)
				dentry_free(vfs, d);
		}
	}
}
