/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of directories: make, link, unlink, rename. Each holds its names' locks over the
 * libservice's call and the change of the cached names, so that what the cache says is never
 * older than the last change. Any thread. */
#include "danaus/vfs/node.h"

#include <stdio.h>

/* A directory entry changed. */
static void dir_changed(struct vnode *dir)
{
	vnode_touched(dir);
	face_changed(dir, 0, 0);
}

static void inode_changed(struct vnode *node)
{
	vnode_touched(node);
	face_changed(node, 0, 0);
}

/* filename_create() of Linux fs/namei.c: the last component must be new. */
static int check_new(struct vctx *ctx, struct walk *walk, bool directory)
{
	struct vnode *node;
	int r;

	if (!walk->len || walk->dots)
		return -EEXIST;
	r = walk_lookup(ctx, walk->node, walk->last, walk->len, walk->now, false, &node);
	if (r < 0)
		return r;
	if (node) {
		vnode_unref(node);
		return -EEXIST;
	}
	if (walk->slash && !directory)
		return -ENOENT;
	return walk->node->instance->ls->ro ? -EROFS : 0;
}

int vfs_make(struct vctx *ctx, const struct vtarget *at, mode_t mode, dev_t rdev,
	     const char *content, struct attr *ret_attr)
{
	CLEANUP_WALK struct walk walk = {0};
	struct ls_node *ls_node;
	struct vnode *dir, *node;
	pthread_mutex_t *lock;
	struct attr attr;
	int r = walk_parent(ctx, at, &walk);

	if (r < 0)
		return r;
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (S_ISLNK(mode) && (!content || !content[0]))
		return -ENOENT;
	dir = walk.node;
	r = check_new(ctx, &walk, S_ISDIR(mode));
	if (r < 0)
		return r;
	lock = names_lock(dir, walk.last, walk.len);
	pthread_mutex_lock(lock);
	dentry_change_begin(dir, walk.last, walk.len);
	r = ls_make(dir->instance->ls, ctx->cred, dir->ls, walk.last, mode, ctx->umask, rdev,
		    content, &ls_node, &attr);
	if (!r)
		r = vnode_of(dir->instance, ls_node, &attr, NULL, 0, walk.now, &node);
	if (!r) {
		if (node->type == S_IFDIR)
			vnode_set_parent(node, dir);
		dentry_set(dir, walk.last, walk.len, node, walk.now);
	} else {
		dentry_drop(dir, walk.last, walk.len);
	}
	dentry_change_end(dir);
	pthread_mutex_unlock(lock);
	if (r < 0)
		return r;
	dir_changed(dir);
	if (ret_attr) {
		vnode_present(node, &attr);
		*ret_attr = attr;
	}
	vnode_unref(node);
	vfs_reclaim(vfs_of(dir), false);
	return 0;
}

int vfs_link(struct vctx *ctx, const struct vtarget *old, const struct vtarget *new)
{
	CLEANUP_WALK struct walk walk = {0};
	struct vnode *node, *dir;
	pthread_mutex_t *lock;
	int r;

	ctx->leave_second = false;
	r = walk_full(ctx, old, clock_coarse_ns(), &node);
	if (r < 0)
		return r;
	r = walk_parent(ctx, new, &walk);
	if (r < 0)
		ctx->leave_second = true;
	dir = walk.node;
	if (!r)
		r = check_new(ctx, &walk, false);
	if (!r && dir->instance != node->instance)
		r = -EXDEV;
	if (!r) {
		lock = names_lock(dir, walk.last, walk.len);
		pthread_mutex_lock(lock);
		dentry_change_begin(dir, walk.last, walk.len);
		r = ls_link(dir->instance->ls, ctx->cred, node->ls, dir->ls, walk.last);
		if (!r)
			dentry_set(dir, walk.last, walk.len, node, walk.now);
		else
			dentry_drop(dir, walk.last, walk.len);
		dentry_change_end(dir);
		pthread_mutex_unlock(lock);
	}
	if (!r) {
		inode_changed(node);
		dir_changed(dir);
	}
	vnode_unref(node);
	if (dir)
		vfs_reclaim(vfs_of(dir), false);
	return r;
}

/* A name of node, whose reference this takes over, was taken away: walk's; before: its attributes
 * of some time before, if they were known. When that was the last one, nothing of ours may keep its
 * space; when it was not, nothing is lost. The inode goes before its files, as in vnode_unref(). */
static void lost_name(const struct walk *walk, struct vnode *node, const struct attr *before)
{
	struct rested rested = {0};
	struct attr attr;

	inode_changed(node);
	if (node->type == S_IFDIR || (before && before->nlink == 1) ||
	    vnode_attr(node, clock_coarse_ns(), &attr) < 0 || !attr.nlink) {
		rested = vnode_take_rest(node, true);
		if (atomic_load(&node->files) && vfs_of(node)->drop_idle)
			vfs_of(node)->drop_idle(vfs_of(node)->drop_arg, node);
	}
	face_name_lost(walk->node, walk->last, node);
	vnode_unref(node);
	rested_put(rested);
}

/* With the name's lock held: *node is what walk's name is now. It was so when names_gen was
 * gen; another change may have come first. */
static int look_again(struct vctx *ctx, struct walk *walk, unsigned gen, struct vnode **node)
{
	if (atomic_load(&walk->node->names_gen) == gen)
		return 0;
	vnode_unref(*node);
	*node = NULL;
	return walk_lookup(ctx, walk->node, walk->last, walk->len, walk->now, false, node);
}

static int check_unlink(const struct walk *walk, struct vnode *node, bool directory)
{
	if (!node)
		return -ENOENT;
	if (walk->slash && !directory)
		return node->type == S_IFDIR ? -EISDIR : -ENOTDIR;
	if (atomic_load(&node->mounted))
		return directory ? -EBUSY : -EISDIR;
	return 0;
}

int vfs_unlink(struct vctx *ctx, const struct vtarget *at, bool directory)
{
	CLEANUP_WALK struct walk walk = {0};
	struct vnode *dir, *node = NULL;
	pthread_mutex_t *lock;
	struct attr before;
	unsigned gen;
	bool known = false;
	int r = walk_parent(ctx, at, &walk);

	if (r < 0)
		return r;
	dir = walk.node;
	if (!walk.len)
		return directory ? -EBUSY : -EISDIR;
	if (walk.dots) {
		if (!directory)
			return -EISDIR;
		return walk.len == 1 ? -EINVAL : -ENOTEMPTY;
	}
	if (dir->instance->ls->ro)
		return -EROFS;
	gen = atomic_load(&dir->names_gen);
	r = walk_lookup(ctx, dir, walk.last, walk.len, walk.now, false, &node);
	if (!r)
		r = check_unlink(&walk, node, directory);
	if (!r) {
		lock = names_lock(dir, walk.last, walk.len);
		pthread_mutex_lock(lock);
		r = look_again(ctx, &walk, gen, &node);
		if (!r)
			r = check_unlink(&walk, node, directory);
		known = !r && vnode_cached_rights(node, walk.now, &before);
		if (!r) {
			dentry_change_begin(dir, walk.last, walk.len);
			r = ls_unlink(dir->instance->ls, ctx->cred, dir->ls, walk.last, directory);
		}
		if (!r)
			dentry_set(dir, walk.last, walk.len, NULL, walk.now);
		else if (r == -ENOENT)
			dentry_drop(dir, walk.last, walk.len);
		dentry_change_end(dir);
		pthread_mutex_unlock(lock);
	}
	if (!r) {
		lost_name(&walk, node, known ? &before : NULL);
		node = NULL;
		dir_changed(dir);
	}
	vnode_unref(node);
	vfs_reclaim(vfs_of(dir), false);
	return r;
}

static void lock_two(pthread_mutex_t *a, pthread_mutex_t *b)
{
	pthread_mutex_lock(a < b ? a : b);
	if (a != b)
		pthread_mutex_lock(a < b ? b : a);
}

static void unlock_two(pthread_mutex_t *a, pthread_mutex_t *b)
{
	pthread_mutex_unlock(a);
	if (a != b)
		pthread_mutex_unlock(b);
}

/* do_renameat2() of Linux fs/namei.c, the part before the file system. */
static int check_rename(struct walk *old, struct walk *new, struct vnode *node,
			struct vnode *victim, unsigned flags)
{
	if (!node || ((flags & RENAME_EXCHANGE) && !victim))
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE) && victim)
		return -EEXIST;
	if (node->type != S_IFDIR && (old->slash || (!(flags & RENAME_EXCHANGE) && new->slash)))
		return -ENOTDIR;
	if ((flags & RENAME_EXCHANGE) && victim->type != S_IFDIR && new->slash)
		return -ENOTDIR;
	if (atomic_load(&node->mounted) || (victim && atomic_load(&victim->mounted)))
		return -EBUSY;
	return 0;
}

static void moved(struct walk *old, struct walk *new, struct vnode *node, struct vnode *victim,
		  unsigned flags)
{
	if (flags & RENAME_WHITEOUT)
		dentry_drop(old->node, old->last, old->len);
	else
		dentry_set(old->node, old->last, old->len, flags & RENAME_EXCHANGE ? victim : NULL,
			   old->now);
	dentry_set(new->node, new->last, new->len, node, new->now);
	if (node->type == S_IFDIR)
		vnode_set_parent(node, new->node);
	if ((flags & RENAME_EXCHANGE) && victim->type == S_IFDIR)
		vnode_set_parent(victim, old->node);
}

/* With both names' locks held: *node and *victim are what they are now. */
static int rename_locked(struct vctx *ctx, struct walk *old, struct walk *new, unsigned flags,
			 struct vnode *node, struct vnode *victim)
{
	int r = check_rename(old, new, node, victim, flags);

	if (r < 0)
		return r;
	dentry_change_begin(old->node, old->last, old->len);
	dentry_change_begin(new->node, new->last, new->len);
	r = ls_rename(old->node->instance->ls, ctx->cred, old->node->ls, old->last, new->node->ls,
		      new->last, flags);
	/* Two names of one inode: nothing happened, rename(2). */
	if (!r && node != victim)
		moved(old, new, node, victim, flags);
	if (r == -ENOENT || r == -EEXIST) {
		dentry_drop(old->node, old->last, old->len);
		dentry_drop(new->node, new->last, new->len);
	}
	dentry_change_end(old->node);
	dentry_change_end(new->node);
	return r;
}

/* Looks the names up without their locks first: an answer that takes long holds nobody up. */
static int rename_walked(struct vctx *ctx, struct walk *old, struct walk *new, unsigned flags,
			 struct vnode **node, struct vnode **victim)
{
	unsigned old_gen = atomic_load(&old->node->names_gen);
	unsigned new_gen = atomic_load(&new->node->names_gen);
	pthread_mutex_t *old_lock, *new_lock;
	int r = walk_lookup(ctx, old->node, old->last, old->len, old->now, false, node);

	if (!r)
		r = walk_lookup(ctx, new->node, new->last, new->len, new->now, false, victim);
	if (!r)
		r = check_rename(old, new, *node, *victim, flags);
	if (r < 0)
		return r;
	old_lock = names_lock(old->node, old->last, old->len);
	new_lock = names_lock(new->node, new->last, new->len);
	lock_two(old_lock, new_lock);
	r = look_again(ctx, old, old_gen, node);
	if (!r)
		r = look_again(ctx, new, new_gen, victim);
	if (!r)
		r = rename_locked(ctx, old, new, flags, *node, *victim);
	unlock_two(old_lock, new_lock);
	return r;
}

/* The inodes and directories after it; takes the caller's reference of victim when its name is
 * gone. */
static void rename_counted(struct walk *old, struct walk *new, struct vnode *node,
			   struct vnode **victim, unsigned flags)
{
	inode_changed(node);
	face_name_lost(old->node, old->last, node);
	if (*victim && (flags & RENAME_EXCHANGE)) {
		inode_changed(*victim);
		face_name_lost(new->node, new->last, *victim);
	} else if (*victim) {
		lost_name(new, *victim, NULL);
		*victim = NULL;
	}
	dir_changed(old->node);
	if (new->node != old->node)
		dir_changed(new->node);
}

int vfs_rename(struct vctx *ctx, const struct vtarget *old_at, const struct vtarget *new_at,
	       unsigned flags)
{
	CLEANUP_WALK struct walk old = {0};
	CLEANUP_WALK struct walk new = {0};
	struct vnode *node = NULL, *victim = NULL;
	int r;

	ctx->leave_second = false;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	r = walk_parent(ctx, old_at, &old);
	if (r < 0)
		return r;
	r = walk_parent(ctx, new_at, &new);
	if (r < 0) {
		ctx->leave_second = true;
		return r;
	}
	if (old.node->instance != new.node->instance)
		return -EXDEV;
	if (!old.len || old.dots)
		return -EBUSY;
	if (!new.len || new.dots)
		return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (old.node->instance->ls->ro)
		return -EROFS;
	r = rename_walked(ctx, &old, &new, flags, &node, &victim);
	if (!r && node != victim)
		rename_counted(&old, &new, node, &victim, flags);
	vnode_unref(node);
	vnode_unref(victim);
	vfs_reclaim(vfs_of(old.node), false);
	return r;
}
