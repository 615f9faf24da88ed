/* SPDX-License-Identifier: Apache-2.0 */
/* Owns open files and what they share below: one ls_file per inode and access class, which rests a
 * while after the last close, so that opening again costs nothing on the host. Rights were checked
 * for each open by then. Any thread. */
#include "danaus/vfs/node.h"

#include <stdlib.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define O_LARGE	    0100000 /* O_LARGEFILE as F_GETFL shows it, whatever fcntl.h makes of it */
#define LEASE_FLAGS (O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_LARGE)
#define RACES_MAX   16 /* times that others may create and remove a name under our feet */
#define OPEN_ONLY   (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define SETFL_FLAGS (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)

void vopen_put(struct vopen *open)
{
	if (!open || atomic_fetch_sub_explicit(&open->refs, 1, memory_order_acq_rel) != 1)
		return;
	ls_release(open->instance->ls, open->file);
	free(open);
}

static struct vopen *vopen_new(struct vfs_instance *instance, struct ls_file *file)
{
	struct vopen *open = malloc(sizeof(*open));

	if (!open) {
		ls_release(instance->ls, file);
		return NULL;
	}
	atomic_init(&open->refs, 1);
	open->instance = instance;
	open->file = file;
	return open;
}

static struct vopen *vopen_ref(struct vopen *open)
{
	atomic_fetch_add_explicit(&open->refs, 1, memory_order_relaxed);
	return open;
}

struct rested vnode_take_rest(struct vnode *node, bool forever)
{
	struct vfs *vfs = vfs_of(node);
	struct rested rested;

	if (forever)
		atomic_store(&node->no_rest, true);
	pthread_mutex_lock(&node->lock);
	rested = (struct rested){node->rd, node->wr};
	node->rd = node->wr = NULL;
	if (rested.rd || rested.wr) {
		pthread_mutex_lock(&vfs->rest_lock);
		list_del(&node->rest);
		vfs->nresting--;
		pthread_mutex_unlock(&vfs->rest_lock);
	}
	pthread_mutex_unlock(&node->lock);
	return rested;
}

void rested_put(struct rested rested)
{
	vopen_put(rested.rd);
	vopen_put(rested.wr);
}

void vnode_unrest(struct vnode *node, bool forever)
{
	rested_put(vnode_take_rest(node, forever));
}

void vfs_unrest(struct vfs *vfs, bool all)
{
	unsigned n;

	pthread_mutex_lock(&vfs->rest_lock);
	n = vfs->nresting;
	pthread_mutex_unlock(&vfs->rest_lock);
	while (n--) {
		struct vnode *node = NULL;

		pthread_mutex_lock(&vfs->rest_lock);
		if (vfs->resting.next != &vfs->resting) {
			struct list *item = vfs->resting.next;

			node = container_of(item, struct vnode, rest);
			list_del(item);
			list_add_tail(&vfs->resting, item);
			if (!vnode_tryref(node))
				node = NULL;
		}
		pthread_mutex_unlock(&vfs->rest_lock);
		if (!node)
			continue;
		if (!atomic_exchange(&node->rest_used, false) || all)
			vnode_unrest(node, false);
		vnode_unref(node);
	}
}

/* Lets open (one reference more) rest with node for the classes it serves; the caller keeps its
 * own.
 */
static void rest(struct vnode *node, struct vopen *open, bool rd, bool wr)
{
	struct vfs *vfs = vfs_of(node);
	bool full = false;

	if (atomic_load(&node->no_rest) || atomic_load(&node->instance->watched))
		return;
	pthread_mutex_lock(&node->lock);
	if (!node->rd && !node->wr && ((rd && !node->rd) || (wr && !node->wr))) {
		pthread_mutex_lock(&vfs->rest_lock);
		list_add_tail(&vfs->resting, &node->rest);
		full = ++vfs->nresting > vfs->resting_max;
		pthread_mutex_unlock(&vfs->rest_lock);
	}
	if (rd && !node->rd)
		node->rd = vopen_ref(open);
	if (wr && !node->wr)
		node->wr = vopen_ref(open);
	pthread_mutex_unlock(&node->lock);
	atomic_store_explicit(&node->rest_used, true, memory_order_relaxed);
	/* Unlinked, or watched, meanwhile? */
	if (atomic_load(&node->no_rest) || atomic_load(&node->instance->watched))
		vnode_unrest(node, false);
	else if (full)
		vfs_unrest(vfs, false);
}

/* The ls_files for one open. private: O_DIRECT, O_NOATIME or a watched instance: not shared. */
static int get_opens(struct vctx *ctx, struct vnode *node, int flags, struct vopen **ret_rd,
		     struct vopen **ret_wr)
{
	int acc = flags & O_ACCMODE, missing, r;
	bool need_rd = acc == O_RDONLY || acc == O_RDWR, need_wr = acc == O_WRONLY || acc == O_RDWR;
	bool private = (flags & (O_DIRECT | O_NOATIME)) ||
		       atomic_load_explicit(&node->instance->watched, memory_order_relaxed);
	struct vopen *rd = NULL, *wr = NULL, *made;
	struct ls_file *file;

	if (!private) {
		pthread_mutex_lock(&node->lock);
		if (need_rd && node->rd)
			rd = vopen_ref(node->rd);
		if (need_wr && node->wr)
			wr = vopen_ref(node->wr);
		pthread_mutex_unlock(&node->lock);
		if (!atomic_load_explicit(&node->rest_used, memory_order_relaxed))
			atomic_store_explicit(&node->rest_used, true, memory_order_relaxed);
	}
	if (rd)
		ls_reopened(node->instance->ls, rd->file);
	else if (wr)
		ls_reopened(node->instance->ls, wr->file);
	need_rd = need_rd && !rd;
	need_wr = need_wr && !wr;
	if (need_rd || need_wr) {
		struct libservice *ls = node->instance->ls;

		missing = need_rd && need_wr ? O_RDWR : need_rd ? O_RDONLY : O_WRONLY;
		missing |= flags & (O_DIRECT | O_NOATIME);
		r = ls_open(ls, ctx->cred, node->ls, missing, &file);
		if (r < 0 && vfs_make_room(vfs_of(node), r))
			r = ls_open(ls, ctx->cred, node->ls, missing, &file);
		if (r == -EPERM && need_wr && (flags & O_APPEND)) {
			private = true; /* others are refused */
			r = ls_open(ls, ctx->cred, node->ls, missing | O_APPEND, &file);
		}
		made = !r ? vopen_new(node->instance, file) : NULL;
		if (!made) {
			vopen_put(rd);
			vopen_put(wr);
			return r < 0 ? r : -ENOMEM;
		}
		if (!private)
			rest(node, made, need_rd, need_wr);
		if (need_rd)
			rd = made;
		if (need_wr)
			wr = need_rd ? vopen_ref(made) : made;
	}
	window_reopened(vfs_of(node)->windows, node);
	*ret_rd = rd;
	*ret_wr = wr;
	return 0;
}

static int file_new(struct vnode *node, int flags, struct vopen *rd, struct vopen *wr,
		    struct vfile **ret)
{
	struct vfs *vfs = vfs_of(node);
	struct vfile *file;

	if (atomic_fetch_add_explicit(&vfs->file_count, 1, memory_order_relaxed) >= FILES_MAX) {
		atomic_fetch_sub_explicit(&vfs->file_count, 1, memory_order_relaxed);
		return -ENFILE;
	}
	file = calloc(1, sizeof(*file));
	if (!file) {
		atomic_fetch_sub_explicit(&vfs->file_count, 1, memory_order_relaxed);
		return -ENOMEM;
	}
	atomic_init(&file->refs, 1);
	atomic_init(&file->flags, (flags & ~OPEN_ONLY) | (flags & O_PATH ? 0 : O_LARGE));
	atomic_init(&file->kernel_fd, -1);
	pthread_mutex_init(&file->position_lock, NULL);
	file->node = vnode_ref(node);
	atomic_fetch_add(&node->files, 1);
	file->rd = rd;
	file->wr = wr;
	*ret = file;
	return 0;
}

struct vfile *vfile_ref(struct vfile *file)
{
	atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
	return file;
}

void vfile_unref(struct vfile *file)
{
	struct vfs *vfs;
	unsigned before;
	int fd;

	if (!file)
		return;
	fd = atomic_load(&file->kernel_fd);
	before = atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel);
	if (before == 2 && fd >= 0) {
		/* The other one is the kernel's file, and fd is what keeps it, if no program does.
		 */
		if (atomic_compare_exchange_strong(&file->kernel_fd, &fd, -1))
			fd_close(fd);
		return;
	}
	if (before != 1)
		return;
	vfs = vfs_of(file->node);
	if (atomic_load_explicit(&file->has_locks, memory_order_relaxed))
		locks_file_closed(file);
	fd_close(atomic_load_explicit(&file->kernel_fd, memory_order_relaxed));
	for (unsigned n = atomic_load_explicit(&file->windows, memory_order_relaxed); n; n--)
		window_unuse(vfs->windows, file->node);
	if (file->wr)
		text_write_end(file->node);
	vopen_put(file->rd);
	vopen_put(file->wr);
	atomic_fetch_sub(&file->node->files, 1);
	vnode_unref(file->node);
	pthread_mutex_destroy(&file->position_lock);
	free(file);
	atomic_fetch_sub_explicit(&vfs->file_count, 1, memory_order_relaxed);
}

int vfile_flush(struct vfile *file)
{
	if (!atomic_load_explicit(&file->wrote, memory_order_relaxed) ||
	    !atomic_exchange(&file->wrote, false))
		return 0;
	return ls_flush(file->node->instance->ls, file->wr->file);
}

struct vnode *vfile_node(struct vfile *file)
{
	return file->node;
}

int vfile_flags(const struct vfile *file)
{
	return atomic_load_explicit(&file->flags, memory_order_relaxed);
}

int vfs_setfl(struct vctx *ctx, struct vfile *file, int flags)
{
	int old = vfile_flags(file);
	struct attr attr;
	int fd, r;

	if (old & O_PATH)
		return -EBADF;
	if (((flags ^ old) & O_APPEND) || ((flags & ~old) & O_NOATIME)) {
		r = vnode_attr(file->node, clock_coarse_ns(), &attr);
		if (r < 0)
			return r;
		/* setfl() of Linux fs/fcntl.c */
		if ((((flags ^ old) & O_APPEND) && attr.append_only) ||
		    (((flags & ~old) & O_NOATIME) && !perm_owner(ctx->cred, &attr)))
			return -EPERM;
	}
	while (!atomic_compare_exchange_weak(&file->flags, &old,
					     (old & ~SETFL_FLAGS) | (flags & SETFL_FLAGS)))
		;
	/* The kernel's file of the same open file, unless it is the one that has told us. */
	fd = vfs_in_face ? -1 : vfile_kernel_fd(file);
	if (fd >= 0)
		fcntl(fd, F_SETFL, flags & SETFL_FLAGS);
	return 0;
}

/* What open(2) refuses before it looks at any path. */
static int check_flags(int *flags)
{
	if (*flags & O_PATH)
		*flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
	if ((*flags & O_TMPFILE) == O_TMPFILE) {
		if ((*flags & O_CREAT) || (*flags & O_ACCMODE) == O_RDONLY)
			return -EINVAL;
	} else if (*flags & (O_TMPFILE & ~O_DIRECTORY)) {
		return -EINVAL;
	} else if ((*flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY)) {
		return -EINVAL;
	}
	return 0;
}

static int wanted(int flags)
{
	static const int masks[] = {R_OK, W_OK, R_OK | W_OK, R_OK | W_OK};

	return masks[flags & O_ACCMODE] | (flags & O_TRUNC ? W_OK : 0);
}

/* may_open() of Linux fs/namei.c. all: attr is wanted for more than its rights. */
static int may_open(struct vctx *ctx, struct vnode *node, int flags, uint64_t now, bool all,
		    struct attr *attr)
{
	int mask = wanted(flags);
	int r = all ? vnode_attr(node, now, attr) : vnode_rights(node, now, attr);

	if (r < 0)
		return r;
	if ((flags & O_DIRECTORY) && node->type != S_IFDIR)
		return -ENOTDIR;
	if (node->type == S_IFLNK)
		return -ELOOP;
	if (node->type == S_IFDIR && ((mask & W_OK) || (flags & O_CREAT)))
		return -EISDIR;
	r = perm_decide(attr, ctx->cred, mask);
	if (r != 1) {
		r = r ? perm_may(ctx, node, mask, now) : -EACCES;
		if (r < 0)
			return r;
	}
	if ((flags & O_NOATIME) && !perm_owner(ctx->cred, attr))
		return -EPERM;
	if (node->type == S_IFSOCK)
		return -ENXIO;
	if (node->type != S_IFREG && node->type != S_IFDIR)
		return -VFS_ESPECIAL;
	if ((mask & W_OK) && node->instance->ls->ro)
		return -EROFS;
	return 0;
}

/* The open file may be used for the next open of the same name as well: where opening changes
 * nothing, nobody hears of it, closing ends no lock, and no layer below has something to look at
 * each time. */
static void lease_on_open(struct vctx *ctx, struct vnode *node, int flags)
{
	struct libservice *ls = node->instance->ls;

	if (!ctx->lease)
		return;
	lease_on_attr(ctx, node);
	if (node->type != S_IFREG || (flags & ~LEASE_FLAGS) || ls->remote || ls->ops->reopened ||
	    atomic_load(&node->instance->watched) || atomic_load(&node->nlocks))
		lease_off(ctx->lease);
}

static int open_node(struct vctx *ctx, struct vnode *node, int flags, uint64_t now,
		     struct vfile **ret, struct attr *ret_attr)
{
	struct vopen *rd = NULL, *wr = NULL;
	bool writes = false;
	struct vfile *file;
	struct attr attr;
	int r;

	if (flags & O_PATH) {
		if ((flags & O_DIRECTORY) && node->type != S_IFDIR)
			return -ENOTDIR;
		r = ret_attr ? vnode_attr(node, now, &attr) : 0;
	} else {
		lease_on_open(ctx, node, flags);
		r = may_open(ctx, node, flags, now, ret_attr, &attr);
		lease_until(ctx->lease, atomic_load(&node->rights_until));
		lease_whole(ctx->lease);
		writes = !r && (wanted(flags) & W_OK);
		if (writes) {
			r = text_write_begin(node);
			writes = !r;
		}
		if (!r)
			r = get_opens(ctx, node, flags, &rd, &wr);
	}
	if (r < 0) {
		if (writes)
			text_write_end(node);
		return r;
	}
	if ((flags & O_TRUNC) && node->type == S_IFREG) {
		const struct attr empty = {.size = 0};
		unsigned gen;

		face_flush(node);
		gen = vnode_gen(node);
		window_change_begin(vfs_of(node)->windows, node, 0, UINT64_MAX);
		r = ls_setattr(node->instance->ls, ctx->cred, node->ls, wr ? wr->file : NULL,
			       ATTR_SIZE, &empty, &attr);
		window_change_end(vfs_of(node)->windows, node, 0, !r);
		vnode_changed(node, r ? NULL : &attr, gen, now);
		if (!r)
			face_changed(node, 0, UINT64_MAX);
	}
	if (!r)
		r = file_new(node, flags, rd, wr, &file);
	if (writes && (r < 0 || !wr)) /* O_RDONLY | O_TRUNC; else the open file's until its end */
		text_write_end(node);
	if (r < 0) {
		vopen_put(rd);
		vopen_put(wr);
		return r;
	}
	if (ret_attr) {
		vnode_present(node, &attr);
		*ret_attr = attr;
	}
	*ret = file;
	return 0;
}

/* Whether a file that is made for writing is open for reading as well. */
static bool rests_for_all(const struct vfs_instance *instance, int flags)
{
	return instance->ls->distant && !(flags & (O_DIRECT | O_NOATIME));
}

/* The file of an inode that was made just now: open with whatever flags say. */
static int open_made(struct vctx *ctx, struct vnode *dir, struct ls_node *ls_node,
		     struct ls_file *ls_file, struct attr *attr, int flags, uint64_t now,
		     struct vnode **ret_node, struct vfile **ret)
{
	struct vfs_instance *instance = dir->instance;
	struct vopen *open = vopen_new(instance, ls_file);
	int acc = flags & O_ACCMODE, r;
	bool rd = acc == O_RDONLY || acc == O_RDWR, wr = acc == O_WRONLY || acc == O_RDWR;
	struct vnode *node;

	if (!open) {
		ls_forget(instance->ls, ls_node, 1);
		return -ENOMEM;
	}
	r = vnode_of(instance, ls_node, attr, NULL, 0, now, &node);
	if (r < 0) {
		vopen_put(open);
		return r;
	}
	if ((flags & O_TMPFILE) != O_TMPFILE && !(flags & (O_DIRECT | O_NOATIME)))
		rest(node, open, rd || (wr && rests_for_all(instance, flags)), wr);
	if (rd && wr)
		vopen_ref(open);
	r = wr ? text_write_begin(node) : 0;
	if (!r) {
		r = file_new(node, flags, rd ? open : NULL, wr ? open : NULL, ret);
		if (r < 0 && wr)
			text_write_end(node);
	}
	if (r < 0) {
		if (rd && wr)
			vopen_put(open);
		vopen_put(open);
		vnode_unref(node);
		return r;
	}
	if (!rd && !wr) /* access mode 3 */
		vopen_put(open);
	*ret_node = node;
	return 0;
}

static int open_tmpfile(struct vctx *ctx, const struct vtarget *at, int flags, mode_t mode,
			struct vfile **ret, struct attr *ret_attr)
{
	uint64_t now = clock_coarse_ns();
	struct ls_node *ls_node;
	struct ls_file *ls_file;
	struct vnode *dir, *node = NULL;
	struct attr attr;
	int r = walk_full(ctx, at, now, &dir);

	if (r < 0)
		return r;
	if (dir->type != S_IFDIR)
		r = -ENOTDIR;
	else if (dir->instance->ls->ro)
		r = -EROFS;
	else
		r = perm_may(ctx, dir, W_OK | X_OK, now);
	if (!r)
		r = ls_tmpfile(dir->instance->ls, ctx->cred, dir->ls, flags & (O_ACCMODE | O_EXCL),
			       mode, ctx->umask, &ls_node, &ls_file, &attr);
	if (!r)
		r = open_made(ctx, dir, ls_node, ls_file, &attr, flags, now, &node, ret);
	if (!r) {
		if (ret_attr) {
			vnode_present(node, &attr);
			*ret_attr = attr;
		}
		vnode_unref(node);
	}
	vnode_unref(dir);
	return r;
}

/* Creates walk's last component; -EEXIST when somebody was faster. */
static int create(struct vctx *ctx, struct walk *walk, int flags, mode_t mode, struct vfile **ret,
		  struct attr *ret_attr)
{
	struct vnode *dir = walk->node, *node = NULL;
	struct libservice *ls = dir->instance->ls;
	struct ls_node *ls_node;
	struct ls_file *ls_file;
	struct attr attr;
	pthread_mutex_t *lock = names_lock(dir, walk->last, walk->len);
	int acc = flags & (O_ACCMODE | O_DIRECT), r;

	/* Who makes a file to write it often reads it next: one open below for both, which also
	 * ends at once (CephFS hears of the end of each). */
	if (rests_for_all(dir->instance, flags) && acc == O_WRONLY)
		acc = O_RDWR;
	if (ls->ro)
		return -EROFS;
	pthread_mutex_lock(lock);
	dentry_change_begin(dir, walk->last, walk->len);
	r = ls_create(ls, ctx->cred, dir->ls, walk->last, acc, mode, ctx->umask, &ls_node, &ls_file,
		      &attr);
	if (r < 0 && vfs_make_room(dir->instance->vfs, r))
		r = ls_create(ls, ctx->cred, dir->ls, walk->last, acc, mode, ctx->umask, &ls_node,
			      &ls_file, &attr);
	if (!r)
		r = open_made(ctx, dir, ls_node, ls_file, &attr, flags, walk->now, &node, ret);
	if (!r)
		dentry_set(dir, walk->last, walk->len, node, walk->now);
	else
		dentry_drop(dir, walk->last, walk->len);
	dentry_change_end(dir);
	pthread_mutex_unlock(lock);
	if (r < 0)
		return r;
	vnode_touched(dir);
	face_changed(dir, 0, 0);
	if (ret_attr) {
		vnode_present(node, &attr);
		*ret_attr = attr;
	}
	vnode_unref(node);
	vfs_reclaim(dir->instance->vfs, false);
	return 0;
}

static int open_creating(struct vctx *ctx, const struct vtarget *at, int flags, mode_t mode,
			 unsigned links, struct vfile **ret, struct attr *ret_attr);

/* Through the symlink that walk's last component is, and which may lead to nowhere yet. */
static int follow_creating(struct vctx *ctx, struct walk *walk, struct vnode *link, int flags,
			   mode_t mode, unsigned links, struct vfile **ret, struct attr *ret_attr)
{
	struct vtarget next = {.dir = walk->node};
	int r = perm_follow(ctx, walk->node, link, walk->now);

	if (!r)
		r = walk_link(link, &next.path);
	if (r < 0)
		return r;
	if (next.path[0] == '/') {
		if (ctx->leave)
			memcpy(ctx->leave, next.path, strlen(next.path) + 1);
		return -EREMCHG;
	}
	if (!next.path[0])
		return -ENOENT;
	return links < LINKS_MAX ? open_creating(ctx, &next, flags, mode, links + 1, ret, ret_attr)
				 : -ELOOP;
}

/* Whether the last component is to be made without a look for it first, which
 * takes as long as making it. */
static bool makes_at_once(const struct walk *walk, int flags)
{
	struct vnode *dir = walk->node;
	struct dentry *d;
	bool known;

	if (!(flags & O_EXCL) || !dir->instance->ls->distant || walk->len > NAME_MAX)
		return false;
	rcu_enter();
	d = dentry_find(dir, walk->last, walk->len, dentry_hash(dir, walk->last, walk->len));
	known = d && atomic_load_explicit(&d->until, memory_order_acquire) > walk->now;
	rcu_leave();
	return !known;
}

/* links: that led here. */
static int open_creating(struct vctx *ctx, const struct vtarget *at, int flags, mode_t mode,
			 unsigned links, struct vfile **ret, struct attr *ret_attr)
{
	bool nofollow = at->nofollow || (flags & (O_NOFOLLOW | O_EXCL));
	CLEANUP_WALK struct walk walk = {0};
	struct vnode *node = NULL;
	struct attr attr;
	int r = walk_parent(ctx, at, &walk);

	if (r < 0)
		return r;
	if (!walk.len || walk.dots) {
		r = walk_full(ctx, at, walk.now, &node);
		if (r < 0)
			return r;
		vnode_unref(node);
		return flags & O_EXCL ? -EEXIST : -EISDIR;
	}
	if (walk.slash)
		return -EISDIR;
	/* Another error may be the lesser one: that there is one goes first. */
	if (makes_at_once(&walk, flags)) {
		r = create(ctx, &walk, flags, mode, ret, ret_attr);
		if (!r || r == -EEXIST)
			return r;
	}
	for (unsigned races = 0; races < RACES_MAX; races++) {
		r = walk_lookup(ctx, walk.node, walk.last, walk.len, walk.now, true, &node);
		if (r < 0)
			return r;
		if (node)
			break;
		r = create(ctx, &walk, flags, mode, ret, ret_attr);
		if (r != -EEXIST || (flags & O_EXCL))
			return r;
	}
	if (!node || (flags & O_EXCL)) {
		r = -EEXIST;
	} else if (node->type == S_IFDIR) {
		r = -EISDIR;
	} else if (node->type == S_IFLNK && !nofollow) {
		r = follow_creating(ctx, &walk, node, flags, mode, links, ret, ret_attr);
	} else {
		r = vnode_attr(node, walk.now, &attr);
		if (!r)
			r = perm_create_open(ctx, walk.node, &attr, walk.now);
		if (!r)
			r = open_node(ctx, node, flags, walk.now, ret, ret_attr);
	}
	vnode_unref(node);
	return r;
}

int vfs_open(struct vctx *ctx, const struct vtarget *at, int flags, mode_t mode, struct vfile **ret,
	     struct attr *ret_attr)
{
	struct vtarget target = *at;
	struct vnode *node;
	uint64_t now;
	int r = check_flags(&flags);

	if (r < 0)
		return r;
	target.nofollow = at->nofollow || (flags & O_NOFOLLOW);
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return open_tmpfile(ctx, &target, flags, mode & 07777, ret, ret_attr);
	now = clock_coarse_ns();
	/* Most opens with O_CREAT find the file there. */
	if ((flags & O_CREAT) && !target_is_object(at))
		return open_creating(ctx, at, flags, mode & 07777, 0, ret, ret_attr);
	r = walk_full(ctx, &target, now, &node);
	if (r < 0)
		return r;
	r = open_node(ctx, node, flags, now, ret, ret_attr);
	vnode_unref(node);
	return r;
}

void vfile_set_kernel_fd(struct vfile *file, int fd)
{
	int none = -1;

	pthread_mutex_lock(&file->position_lock);
	if (lseek(fd, file->position, SEEK_SET) < 0 ||
	    !atomic_compare_exchange_strong(&file->kernel_fd, &none, fd))
		fd_close(fd);
	pthread_mutex_unlock(&file->position_lock);
}

int vfile_kernel_fd(const struct vfile *file)
{
	return atomic_load(&file->kernel_fd);
}
