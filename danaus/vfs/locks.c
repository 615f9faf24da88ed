/* SPDX-License-Identifier: Apache-2.0 */
/* Owns record locks (POSIX and open file description ones, fcntl(2)) and flock(2). One mutex for
 * all of a pool: it is held for list operations only, never while waiting or while a libservice
 * works. Any thread. */
#include "danaus/vfs/node.h"

#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

#define DEADLOCK_STEPS 64
#define RETRY_NS       50000000ull /* for a lock that another host holds */

enum kind { POSIX, OFD, FLOCK };

struct vlock {
	struct vlock *next;
	uint64_t owner; /* of a process; of the others the struct vfile's address */
	enum kind kind;
	pid_t pid;
	short type;	     /* F_RDLCK, F_WRLCK */
	uint64_t start, end; /* inclusive */
};

struct waiter {
	struct list list;
	uint64_t owner, on; /* processes */
};

static bool same_owner(const struct vlock *a, const struct vlock *b)
{
	return a->kind == b->kind && a->owner == b->owner;
}

/* The first lock that keeps want from being granted. */
static struct vlock *conflict(struct vnode *node, const struct vlock *want)
{
	struct vlock *l;

	for (l = node->locks; l; l = l->next) {
		if ((l->kind == FLOCK) != (want->kind == FLOCK) || same_owner(l, want))
			continue;
		if (l->start > want->end || l->end < want->start)
			continue;
		if (l->type == F_WRLCK || want->type == F_WRLCK)
			return l;
	}
	return NULL;
}

static void count(struct vnode *node, int by)
{
	struct vfs *vfs = vfs_of(node);
	unsigned before = atomic_load(&node->nlocks);

	if (!before && by > 0)
		list_add_tail(&vfs->locked, &node->locked);
	else if (before && !(before + by))
		list_del(&node->locked);
	atomic_store(&node->nlocks, before + by);
	/* any close ends a process' record locks: none goes unheard from now on */
	if (!before)
		lease_attr_changed(node);
	vfs->lock_count += by;
}

/* Takes owner's locks off [start, end]; splitting one that reaches over on both sides uses *spare.
 */
static void carve(struct vnode *node, const struct vlock *range, struct vlock **spare)
{
	struct vlock **p = &node->locks, *l;

	while ((l = *p)) {
		if (!same_owner(l, range) || l->start > range->end || l->end < range->start) {
			p = &l->next;
		} else if (l->start < range->start && l->end > range->end) {
			struct vlock *right = *spare;

			*spare = NULL;
			*right = *l;
			right->start = range->end + 1;
			l->end = range->start - 1;
			l->next = right;
			count(node, 1);
			p = &right->next;
		} else if (l->start < range->start) {
			l->end = range->start - 1;
			p = &l->next;
		} else if (l->end > range->end) {
			l->start = range->end + 1;
			p = &l->next;
		} else {
			*p = l->next;
			free(l);
			count(node, -1);
		}
	}
}

/* Joins what touches, so that a program that locks byte after byte uses one. */
static void join(struct vnode *node, struct vlock *added)
{
	struct vlock **p = &node->locks, *l;

	while ((l = *p)) {
		if (l != added && same_owner(l, added) && l->type == added->type &&
		    (l->end == added->start - 1 || added->end == l->start - 1)) {
			if (l->start < added->start)
				added->start = l->start;
			if (l->end > added->end)
				added->end = l->end;
			*p = l->next;
			free(l);
			count(node, -1);
		} else {
			p = &l->next;
		}
	}
}

/* With the mutex held. *made becomes a lock, or is left to the caller. */
static void grant(struct vnode *node, const struct vlock *want, struct vlock **made,
		  struct vlock **spare)
{
	carve(node, want, spare);
	if (want->type != F_UNLCK) {
		struct vlock *l = *made;

		*made = NULL;
		*l = *want;
		l->next = node->locks;
		node->locks = l;
		count(node, 1);
		join(node, l);
	}
	pthread_cond_broadcast(&vfs_of(node)->lock_cond);
}

/* Whether owner, by waiting for on, closes a circle. */
static bool deadlock(struct vfs *vfs, uint64_t owner, uint64_t on)
{
	for (unsigned steps = 0; steps < DEADLOCK_STEPS; steps++) {
		struct list *item;

		if (on == owner)
			return true;
		for (item = vfs->waiters.next; item != &vfs->waiters; item = item->next) {
			struct waiter *w = container_of(item, struct waiter, list);

			if (w->owner == on) {
				on = w->on;
				break;
			}
		}
		if (item == &vfs->waiters)
			return false;
	}
	return false;
}

static bool cancelled(const struct vctx *ctx)
{
	return ctx->cancel && atomic_load(ctx->cancel);
}

/* With the mutex held: until nothing is in the way. */
static int wait_for(struct vctx *ctx, struct vnode *node, const struct vlock *want, bool wait)
{
	struct vfs *vfs = vfs_of(node);
	struct vlock *in_way;

	while ((in_way = conflict(node, want))) {
		struct waiter self = {.owner = want->owner, .on = in_way->owner};
		bool record = want->kind == POSIX && in_way->kind == POSIX;

		if (!wait)
			return -EAGAIN;
		if (cancelled(ctx))
			return -EINTR;
		if (record && deadlock(vfs, self.owner, self.on))
			return -EDEADLK;
		if (record)
			list_add_tail(&vfs->waiters, &self.list);
		pthread_cond_wait(&vfs->lock_cond, &vfs->lock_mutex);
		if (record)
			list_del(&self.list);
	}
	return 0;
}

/* The other hosts' side of a lock. */
static bool hooked(const struct vnode *node)
{
	return node->instance->ls->ops->lock;
}

static int hook(struct vnode *node, const struct vlock *lock, short type)
{
	return ls_lock(node->instance->ls, node->ls, lock->owner, lock->kind == FLOCK, type,
		       lock->start, lock->end == INT64_MAX ? 0 : lock->end - lock->start + 1);
}

static void pause_for_retry(struct vfs *vfs)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += RETRY_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&vfs->lock_mutex);
	pthread_cond_timedwait(&vfs->lock_cond, &vfs->lock_mutex, &until);
	pthread_mutex_unlock(&vfs->lock_mutex);
}

static int set_lock(struct vctx *ctx, struct vfile *file, const struct vlock *want, bool wait)
{
	struct vnode *node = file->node;
	struct vfs *vfs = vfs_of(node);
	bool ask = hooked(node) && want->type != F_UNLCK;
	struct vlock *made = malloc(sizeof(*made)), *spare = malloc(sizeof(*spare));
	int r = made && spare ? 0 : -ENOMEM;

	/* Given up elsewhere first: who gets it here next must find it free there. */
	if (!r && want->type == F_UNLCK && hooked(node))
		hook(node, want, F_UNLCK);
	while (!r) {
		pthread_mutex_lock(&vfs->lock_mutex);
		if (want->type != F_UNLCK)
			r = wait_for(ctx, node, want, wait);
		if (!r && want->type != F_UNLCK && vfs->lock_count + 2 > LOCKS_MAX)
			r = -ENOLCK;
		if (!r && !ask)
			grant(node, want, &made, &spare);
		pthread_mutex_unlock(&vfs->lock_mutex);
		if (r < 0 || !ask)
			break;
		/* Also other hosts must let us have it. */
		r = hook(node, want, want->type);
		if (r == -EAGAIN && wait) {
			pause_for_retry(vfs);
			r = cancelled(ctx) ? -EINTR : 0;
			continue;
		}
		if (r < 0)
			break;
		pthread_mutex_lock(&vfs->lock_mutex);
		if (!conflict(node, want)) {
			grant(node, want, &made, &spare);
			pthread_mutex_unlock(&vfs->lock_mutex);
			window_reopened(vfs->windows, node);
			break;
		}
		pthread_mutex_unlock(&vfs->lock_mutex);
		hook(node, want, F_UNLCK);
	}
	free(made);
	free(spare);
	return r;
}

/* fcntl(2)'s range, resolved. */
static int range_of(struct vctx *ctx, struct vfile *file, const struct flock *lock,
		    struct vlock *ret)
{
	int64_t base = 0, start, end;
	struct attr attr;
	int r;

	switch (lock->l_whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = vfs_seek(ctx, file, 0, SEEK_CUR);
		if (base < 0)
			return base;
		break;
	case SEEK_END:
		r = vnode_attr(file->node, clock_coarse_ns(), &attr);
		if (r < 0)
			return r;
		base = attr.size;
		break;
	default:
		return -EINVAL;
	}
	if (__builtin_add_overflow(base, lock->l_start, &start))
		return -EOVERFLOW;
	if (start < 0)
		return -EINVAL;
	if (lock->l_len > 0) {
		if (__builtin_add_overflow(start, lock->l_len - 1, &end))
			return -EOVERFLOW;
	} else if (lock->l_len < 0) {
		end = start - 1;
		start += lock->l_len;
		if (start < 0)
			return -EINVAL;
	} else {
		end = INT64_MAX;
	}
	ret->start = start;
	ret->end = end;
	return 0;
}

static void describe(const struct vlock *l, struct flock *lock)
{
	lock->l_type = l->type;
	lock->l_whence = SEEK_SET;
	lock->l_start = l->start;
	lock->l_len = l->end == INT64_MAX ? 0 : l->end - l->start + 1;
	lock->l_pid = l->kind == POSIX ? l->pid : -1;
}

int vfs_lock(struct vctx *ctx, struct vfile *file, int cmd, struct flock *lock)
{
	bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
	bool get = cmd == F_GETLK || cmd == F_OFD_GETLK;
	struct vlock want = {
	    .owner = ofd ? (uintptr_t)file : ctx->owner,
	    .kind = ofd ? OFD : POSIX,
	    .pid = ctx->pid,
	    .type = lock->l_type,
	};
	struct vfs *vfs = vfs_of(file->node);
	struct vlock *in_way;
	int r;

	if (vfile_flags(file) & O_PATH)
		return -EBADF;
	if (!ofd && !get && cmd != F_SETLK && cmd != F_SETLKW)
		return -EINVAL;
	if (ofd && lock->l_pid)
		return -EINVAL;
	if (want.type != F_RDLCK && want.type != F_WRLCK && (want.type != F_UNLCK || get))
		return -EINVAL;
	r = range_of(ctx, file, lock, &want);
	if (r < 0)
		return r;
	if (get) {
		pthread_mutex_lock(&vfs->lock_mutex);
		in_way = conflict(file->node, &want);
		if (in_way)
			describe(in_way, lock);
		else
			lock->l_type = F_UNLCK;
		pthread_mutex_unlock(&vfs->lock_mutex);
		return 0;
	}
	if ((want.type == F_RDLCK && !file->rd) || (want.type == F_WRLCK && !file->wr))
		return -EBADF;
	if (ofd)
		atomic_store(&file->has_locks, true);
	return set_lock(ctx, file, &want, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
}

int vfs_flock(struct vctx *ctx, struct vfile *file, int operation)
{
	struct vlock want = {.owner = (uintptr_t)file, .kind = FLOCK, .end = INT64_MAX};
	struct vfs *vfs = vfs_of(file->node);
	bool wait = !(operation & LOCK_NB), have = false;
	int r;

	if (vfile_flags(file) & O_PATH)
		return -EBADF;
	switch (operation & ~LOCK_NB) {
	case LOCK_SH:
		want.type = F_RDLCK;
		break;
	case LOCK_EX:
		want.type = F_WRLCK;
		break;
	case LOCK_UN:
		want.type = F_UNLCK;
		break;
	default:
		return -EINVAL;
	}
	if (want.type != F_UNLCK) {
		struct vlock *none = NULL;

		atomic_store(&file->has_locks, true);
		pthread_mutex_lock(&vfs->lock_mutex);
		for (struct vlock *l = file->node->locks; l; l = l->next)
			have = have || (same_owner(l, &want) && l->type == want.type);
		/* Changing the kind gives the old one up first, flock(2). */
		if (!have) {
			carve(file->node, &want, &none);
			pthread_cond_broadcast(&vfs->lock_cond);
		}
		pthread_mutex_unlock(&vfs->lock_mutex);
		if (have)
			return 0;
	}
	r = set_lock(ctx, file, &want, wait);
	return r == -EAGAIN ? -EWOULDBLOCK : r;
}

/* With the mutex held. */
static bool holds(const struct vnode *node, const struct vlock *all)
{
	for (const struct vlock *l = node->locks; l; l = l->next)
		if (same_owner(l, all))
			return true;
	return false;
}

/* All of owner's locks of node. */
static void drop_owner(struct vnode *node, uint64_t owner, enum kind kind)
{
	const struct vlock all = {.owner = owner, .kind = kind, .end = INT64_MAX};
	struct vfs *vfs = vfs_of(node);
	struct vlock *none = NULL;
	bool some;

	pthread_mutex_lock(&vfs->lock_mutex);
	some = holds(node, &all);
	if (some && hooked(node)) {
		pthread_mutex_unlock(&vfs->lock_mutex);
		hook(node, &all, F_UNLCK);
		pthread_mutex_lock(&vfs->lock_mutex);
	}
	if (some) {
		carve(node, &all, &none);
		pthread_cond_broadcast(&vfs->lock_cond);
	}
	pthread_mutex_unlock(&vfs->lock_mutex);
}

void locks_file_closed(struct vfile *file)
{
	drop_owner(file->node, (uintptr_t)file, OFD);
	drop_owner(file->node, (uintptr_t)file, FLOCK);
}

void locks_node_gone(struct vnode *node)
{
	struct vfs *vfs = vfs_of(node);
	struct vlock *l;

	if (!atomic_load(&node->nlocks))
		return;
	pthread_mutex_lock(&vfs->lock_mutex);
	while ((l = node->locks)) {
		node->locks = l->next;
		free(l);
		count(node, -1);
	}
	pthread_mutex_unlock(&vfs->lock_mutex);
}

void vfile_close_owner(struct vfile *file, uint64_t owner)
{
	if (atomic_load_explicit(&file->node->nlocks, memory_order_acquire))
		drop_owner(file->node, owner, POSIX);
}

void vfs_owner_gone(struct vfs *vfs, uint64_t owner)
{
	const struct vlock all = {.owner = owner, .kind = POSIX, .end = INT64_MAX};
	struct vnode *found;

	do {
		found = NULL;
		pthread_mutex_lock(&vfs->lock_mutex);
		for (struct list *i = vfs->locked.next; i != &vfs->locked && !found; i = i->next) {
			struct vnode *node = container_of(i, struct vnode, locked);

			if (holds(node, &all) && vnode_tryref(node))
				found = node;
		}
		pthread_mutex_unlock(&vfs->lock_mutex);
		if (found) {
			drop_owner(found, owner, POSIX);
			vnode_unref(found);
		}
	} while (found);
}

void vfs_cancel(struct vfs *vfs)
{
	pthread_mutex_lock(&vfs->lock_mutex);
	pthread_cond_broadcast(&vfs->lock_cond);
	pthread_mutex_unlock(&vfs->lock_mutex);
}
