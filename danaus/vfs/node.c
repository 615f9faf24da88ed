/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the cached inodes: the table by libservice node, references, cached attributes, memory that
 * readers may still see. Any thread. */
#include "danaus/vfs/node.h"

#include <stdlib.h>
#include <time.h>

#define RECLAIM_AT 512u
#define DAY_S	   (24 * 60 * 60)

_Static_assert(sizeof(struct attr) == ATTR_WORDS * sizeof(uint64_t), "struct attr in words");

void vfs_retire(struct vfs *vfs, struct retired *retired)
{
	retired->next = atomic_load_explicit(&vfs->retired, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&vfs->retired, &retired->next, retired))
		;
	atomic_fetch_add_explicit(&vfs->nretired, 1, memory_order_relaxed);
}

void vfs_reclaim(struct vfs *vfs, bool all)
{
	struct retired *first, *next;

	if (!all && atomic_load_explicit(&vfs->nretired, memory_order_relaxed) < RECLAIM_AT)
		return;
	atomic_store_explicit(&vfs->nretired, 0, memory_order_relaxed);
	first = atomic_exchange(&vfs->retired, NULL);
	if (!first)
		return;
	rcu_wait();
	for (; first; first = next) {
		next = first->next;
		first->free(first);
	}
}

static unsigned node_chain(const struct ls_node *ls)
{
	return (uint32_t)(((uintptr_t)ls >> 4) * 0x9e3779b1u) >> 20;
}
_Static_assert(NODE_CHAINS == 1u << 12, "node_chain");

static void free_node(struct retired *retired)
{
	struct vnode *node = (struct vnode *)retired;

	free(atomic_load_explicit(&node->link, memory_order_relaxed));
	pthread_mutex_destroy(&node->lock);
	pthread_mutex_destroy(&node->names);
	free(node);
}

struct vnode *vnode_ref(struct vnode *node)
{
	atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
	return node;
}

bool vnode_tryref(struct vnode *node)
{
	unsigned refs = atomic_load_explicit(&node->refs, memory_order_relaxed);

	while (refs) {
		if (atomic_compare_exchange_weak_explicit(
			&node->refs, &refs, refs + 1, memory_order_acquire, memory_order_relaxed))
			return true;
	}
	return false;
}

static void destroy(struct vnode *node)
{
	struct vfs *vfs = vfs_of(node);
	unsigned c = node_chain(node->ls);
	struct rested rested;
	struct vnode **p;

	pthread_mutex_lock(&vfs->node_stripe[c % STRIPES]);
	for (p = &vfs->nodes[c]; *p && *p != node; p = &(*p)->chain)
		;
	if (*p)
		*p = node->chain;
	pthread_mutex_unlock(&vfs->node_stripe[c % STRIPES]);
	/* whoever has a lease does not hear of the inode's next life */
	lease_attr_changed(node);
	lease_names_changed(node);
	window_drop(vfs->windows, node);
	locks_node_gone(node);
	/* First the inode, so that the libservice knows the files to be the last of it. */
	rested = vnode_take_rest(node, true);
	ls_forget(node->instance->ls, node->ls, 1);
	rested_put(rested);
	atomic_fetch_sub_explicit(&vfs->node_count, 1, memory_order_relaxed);
	vfs_retire(vfs, &node->retired);
}

void vnode_unref(struct vnode *node)
{
	/* A loop rather than a recursion: a path may have any depth. */
	while (node && atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) == 1) {
		struct vnode *parent = atomic_exchange(&node->parent, NULL);

		destroy(node);
		node = parent;
	}
}

void vnode_set_parent(struct vnode *node, struct vnode *dir)
{
	struct vnode *old;

	if (node == dir || atomic_load_explicit(&node->parent, memory_order_relaxed) == dir)
		return;
	old = atomic_exchange(&node->parent, vnode_ref(dir));
	vnode_unref(old);
}

int vnode_of(struct vfs_instance *instance, struct ls_node *ls_node, const struct attr *attr,
	     const struct vnode *known, unsigned gen, uint64_t now, struct vnode **ret)
{
	struct vfs *vfs = instance->vfs;
	unsigned c = node_chain(ls_node);
	struct vnode *node, *made = calloc(1, sizeof(*made));

	if (!made) {
		ls_forget(instance->ls, ls_node, 1);
		return -ENOMEM;
	}
	made->retired.free = free_node;
	atomic_init(&made->refs, 1);
	made->instance = instance;
	made->ls = ls_node;
	made->ino = attr->ino;
	made->type = attr->mode & S_IFMT;
	made->lease = leases_counters(&vfs->leases);
	pthread_mutex_init(&made->lock, NULL);
	pthread_mutex_init(&made->names, NULL);
	vnode_store(made, attr, 0, now);

	pthread_mutex_lock(&vfs->node_stripe[c % STRIPES]);
	for (node = vfs->nodes[c]; node; node = node->chain) {
		if (node->ls == ls_node && node->instance == instance && vnode_tryref(node))
			break;
	}
	if (!node) {
		made->chain = vfs->nodes[c];
		vfs->nodes[c] = made;
	}
	pthread_mutex_unlock(&vfs->node_stripe[c % STRIPES]);
	if (node) {
		free_node(&made->retired);
		ls_forget(instance->ls, ls_node, 1);
		if (node == known)
			vnode_store(node, attr, gen, now);
		*ret = node;
		return 0;
	}
	atomic_fetch_add_explicit(&vfs->node_count, 1, memory_order_relaxed);
	*ret = made;
	return 0;
}

unsigned vnode_gen(struct vnode *node)
{
	return atomic_load(&node->attr_gen);
}

/* Whether a read will change what is cached, relatime being the default (mount(8)). */
static bool atime_moves(const struct vnode *node, const struct attr *attr)
{
	const struct timespec *a = &attr->atime, *m = &attr->mtime, *c = &attr->ctime;
	struct timespec now;

	if (node->instance->no_atime)
		return false;
	if (node->instance->strict_atime)
		return true;
	if (a->tv_sec < m->tv_sec || (a->tv_sec == m->tv_sec && a->tv_nsec <= m->tv_nsec) ||
	    a->tv_sec < c->tv_sec || (a->tv_sec == c->tv_sec && a->tv_nsec <= c->tv_nsec))
		return true;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now.tv_sec - a->tv_sec >= DAY_S - 2;
}

/* Leases end where what is stored is something else than before, whoever has changed it. */
static void end_leases(struct vnode *node, const uint64_t *old_word, const struct attr *attr)
{
	struct attr old;

	memcpy(&old, old_word, sizeof(old));
	if (!memcmp(&old, attr, sizeof(old)))
		return;
	lease_attr_changed(node);
	if (node->type == S_IFDIR && (old.mode != attr->mode || old.uid != attr->uid ||
				      old.gid != attr->gid || old.has_acl != attr->has_acl))
		lease_names_changed(node);
}

/* With lock held. */
static void write_words(struct vnode *node, const struct attr *attr)
{
	uint64_t word[ATTR_WORDS], old[ATTR_WORDS];
	unsigned seq = atomic_load_explicit(&node->attr_seq, memory_order_relaxed);

	memcpy(word, attr, sizeof(word));
	atomic_store_explicit(&node->attr_seq, seq + 1, memory_order_relaxed);
	for (size_t i = 0; i < ATTR_WORDS; i++) {
		old[i] = atomic_load_explicit(&node->attr_word[i], memory_order_relaxed);
		atomic_store_explicit(&node->attr_word[i], word[i], memory_order_release);
	}
	/* before anybody can see what is new: readers wait for the sequence */
	end_leases(node, old, attr);
	atomic_store_explicit(&node->attr_seq, seq + 2, memory_order_release);
	atomic_store_explicit(&node->atime_moves, atime_moves(node, attr), memory_order_relaxed);
}

/* With lock held. */
static void store(struct vnode *node, const struct attr *attr, uint64_t now)
{
	write_words(node, attr);
	atomic_store(&node->attr_until, now + VFS_CACHE_NS);
	atomic_store(&node->rights_until, now + VFS_CACHE_NS);
}

void vnode_store(struct vnode *node, const struct attr *attr, unsigned gen, uint64_t now)
{
	pthread_mutex_lock(&node->lock);
	if (atomic_load(&node->attr_gen) == gen)
		store(node, attr, now);
	pthread_mutex_unlock(&node->lock);
}

void vnode_changed(struct vnode *node, const struct attr *attr, unsigned gen, uint64_t now)
{
	pthread_mutex_lock(&node->lock);
	if (atomic_fetch_add(&node->attr_gen, 1) == gen && attr) {
		store(node, attr, now);
	} else {
		atomic_store(&node->attr_until, 0);
		atomic_store(&node->rights_until, 0);
	}
	lease_attr_changed(node);
	if (node->type == S_IFDIR)
		lease_names_changed(node);
	pthread_mutex_unlock(&node->lock);
}

void vnode_touched(struct vnode *node)
{
	/* Not while older ones are being stored: they would be good for a moment, and a lease of
	 * them for a second. */
	pthread_mutex_lock(&node->lock);
	atomic_fetch_add(&node->attr_gen, 1);
	atomic_store(&node->attr_until, 0);
	lease_attr_changed(node);
	pthread_mutex_unlock(&node->lock);
}

static void depend(const struct vctx *ctx, struct vnode *node, uint32_t counter)
{
	if (!ctx->lease)
		return;
	lease_depend(ctx->lease, counter);
	/* gone, or going: destroy() may have counted already */
	if (!atomic_load(&node->refs))
		lease_off(ctx->lease);
}

void lease_on_attr(const struct vctx *ctx, struct vnode *node)
{
	depend(ctx, node, node->lease);
}

void lease_on_names(const struct vctx *ctx, struct vnode *dir)
{
	depend(ctx, dir, dir->lease + 1);
}

static void read_words(struct vnode *node, struct attr *ret)
{
	uint64_t word[ATTR_WORDS];
	unsigned seq;

	do {
		while ((seq = atomic_load_explicit(&node->attr_seq, memory_order_acquire)) & 1)
			;
		for (size_t i = 0; i < ATTR_WORDS; i++)
			word[i] = atomic_load_explicit(&node->attr_word[i], memory_order_acquire);
	} while (atomic_load_explicit(&node->attr_seq, memory_order_relaxed) != seq);
	memcpy(ret, word, sizeof(*ret));
}

/* Times change without a word: where the kernel reads or maps the host's file itself. */
static bool times_move(struct vnode *node)
{
	return atomic_load_explicit(&node->face_beside, memory_order_acquire) &&
	       (atomic_load(&node->face_writers) ||
		(atomic_load(&node->face_opens) && atomic_load(&node->atime_moves)));
}

bool vnode_cached(struct vnode *node, uint64_t now, struct attr *ret)
{
	/* Who watches hears of a change before whoever makes it has said here that it is made. */
	if (atomic_load_explicit(&node->attr_until, memory_order_acquire) <= now ||
	    atomic_load_explicit(&node->instance->watched, memory_order_relaxed) ||
	    times_move(node))
		return false;
	read_words(node, ret);
	return true;
}

bool vnode_cached_rights(struct vnode *node, uint64_t now, struct attr *ret)
{
	if (atomic_load_explicit(&node->rights_until, memory_order_acquire) <= now)
		return false;
	read_words(node, ret);
	return true;
}

static int fetch(struct vnode *node, uint64_t now, struct attr *ret)
{
	unsigned gen = vnode_gen(node);
	int r = ls_getattr(node->instance->ls, node->ls, NULL, ret);

	if (!r)
		vnode_store(node, ret, gen, now);
	return r;
}

int vnode_attr(struct vnode *node, uint64_t now, struct attr *ret)
{
	return vnode_cached(node, now, ret) ? 0 : fetch(node, now, ret);
}

int vnode_rights(struct vnode *node, uint64_t now, struct attr *ret)
{
	return vnode_cached_rights(node, now, ret) ? 0 : fetch(node, now, ret);
}

void vnode_present(struct vnode *node, struct attr *attr)
{
	dev_t dev = atomic_load_explicit(&node->instance->dev, memory_order_relaxed);

	if (dev)
		attr->dev = dev;
}

struct vfs_instance *vnode_instance(struct vnode *node)
{
	return node->instance;
}

uint64_t vnode_ino(const struct vnode *node)
{
	return node->ino;
}

mode_t vnode_type(const struct vnode *node)
{
	return node->type;
}

int vnode_data_fd(struct vnode *node)
{
	/* Who watches would hear of the kernel's open of the host's file, too. */
	if (atomic_load(&node->instance->watched))
		return -EOPNOTSUPP;
	return ls_data_fd(node->instance->ls, node->ls);
}

bool vnode_nameless(const struct vnode *node)
{
	return atomic_load(&node->no_rest);
}

int vnode_host_fd(struct vnode *node)
{
	int fd = ls_host_fd(node->instance->ls, node->ls);

	/* From now on each open and close has to be one on the host, or its events are missed. */
	if (fd >= 0 && !atomic_exchange(&node->instance->watched, true)) {
		leases_changed(&vfs_of(node)->leases, LEASE_EPOCH);
		if (vfs_of(node)->drop_idle)
			vfs_of(node)->drop_idle(vfs_of(node)->drop_arg, NULL);
		vfs_unrest(vfs_of(node), true);
	}
	return fd;
}
