/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the changes of names in the union: creation, links, removal, rename, with the whiteouts and
 * opaque marks that overlayfs would leave. Rights are asked first, as the kernel asks them; what
 * needs several steps is then done with the service's own. */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "danaus/libservices/union/internal.h"

#define CAP_FOWNER_BIT (1ull << 3)

static bool unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL;
}

/* A directory in which cred may change names gets its upper one before any lock is taken. For
 * others this does nothing: the refusal comes when the names are looked at. */
static int prepare_dir(struct union_fs *fs, const struct cred *cred, struct unode *dir)
{
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (!fs->writable)
		return -EROFS;
	if (atomic_load(&dir->upper) || union_access_node(fs, cred, dir, W_OK | X_OK) < 0)
		return 0;
	return union_copy_up(fs, dir);
}

static int may_add(struct union_fs *fs, const struct cred *cred, struct unode *dir)
{
	if (atomic_load(&dir->deleted))
		return -ENOENT;
	return union_access_node(fs, cred, dir, W_OK | X_OK);
}

/* may_delete() of fs/namei.c without the types. */
static int may_remove(struct union_fs *fs, const struct cred *cred, struct unode *dir,
		      const struct attr *victim)
{
	struct attr attr;
	int r = may_add(fs, cred, dir);

	if (!r)
		r = union_getattr_node(fs, dir, &attr);
	if (r < 0)
		return r;
	if (attr.mode & S_ISVTX && cred->fsuid != victim->uid && cred->fsuid != attr.uid &&
	    !(cred_caps_for(cred, victim->uid, victim->gid) & CAP_FOWNER_BIT))
		return -EPERM;
	return 0;
}

/* A new name. Where a whiteout is in the way, what is to be there is made in a twin of the
 * directory and takes the whiteout's place in one step. */
struct place {
	struct ls_node *dir;
	struct ls_node *twin;
	char temp[UNION_TEMP_LEN];
};

/* Whether cred may make that name, which is not there. dir's dir_lock is held. */
static int may_make(struct union_fs *fs, const struct cred *cred, struct unode *dir,
		    const char *name, bool *ret_whiteout)
{
	struct found found;
	int r = union_check_name(fs, dir, name);

	if (r < 0)
		return r;
	r = union_find(fs, cred, dir, name, &found);
	if (!r) {
		union_found_done(fs, &found);
		return -EEXIST;
	}
	if (r != -ENOENT)
		return r;
	*ret_whiteout = found.whiteout;
	return may_add(fs, cred, dir);
}

/* dir's dir_lock is held for writing. */
static int place_begin(struct union_fs *fs, const struct cred *cred, struct unode *dir,
		       const char *name, struct place *ret)
{
	bool whiteout;
	int r = may_make(fs, cred, dir, name, &whiteout);

	if (r < 0)
		return r;
	ret->twin = NULL;
	if (whiteout) {
		r = union_work_twin(fs, dir, ret->temp, &ret->twin);
		if (r < 0)
			return r;
	}
	ret->dir = ret->twin ? ret->twin : atomic_load(&dir->upper);
	return 0;
}

static void intent_done(struct union_fs *fs, const char *intent)
{
	if (ls_unlink(upper_ls(fs), fs->service, fs->work, intent, false) < 0)
		union_work_purge(fs, intent);
}

/* Twice, because giving up would show a lower entry that is gone. */
static int whiteout_surely(struct union_fs *fs, struct ls_node *dir, const char *name)
{
	int r = union_whiteout_make(fs, dir, name);

	return r < 0 ? union_whiteout_make(fs, dir, name) : r;
}

/* dir_over_whiteout() for a branch that cannot exchange two names. What a crash leaves undone the
 * next start does. */
static int dir_over_whiteout_plainly(struct union_fs *fs, struct ls_node *from,
				     const char *from_name, struct unode *from_dir,
				     struct unode *dir, const char *name)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *upper = atomic_load(&dir->upper);
	char intent[UNION_TEMP_LEN], second[UNION_TEMP_LEN];
	int r = union_intent(fs, dir, name, intent);

	if (!r && from_dir) {
		r = union_intent(fs, from_dir, from_name, second);
		if (r < 0)
			intent_done(fs, intent);
	}
	if (r < 0)
		return r;
	r = ls_unlink(ls, fs->service, upper, name, false);
	if (!r) {
		r = ls_rename(ls, fs->service, from, from_name, upper, name, 0);
		if (r < 0 && whiteout_surely(fs, upper, name) < 0)
			return r;
		if (!r && from_dir) {
			r = whiteout_surely(fs, from, from_name);
			if (r < 0)
				return r;
		}
	}
	if (!r)
		atomic_store(&fs->no_exchange, true);
	intent_done(fs, intent);
	if (from_dir)
		intent_done(fs, second);
	return r;
}

/* A directory takes the place of the whiteout at dir/name. from_dir, when it is not NULL, gets a
 * whiteout where the directory was; else nothing is left there. */
static int dir_over_whiteout(struct union_fs *fs, struct ls_node *from, const char *from_name,
			     struct unode *from_dir, struct unode *dir, const char *name)
{
	struct libservice *ls = upper_ls(fs);
	int r = -EOPNOTSUPP;

	if (!atomic_load(&fs->no_exchange))
		r = ls_rename(ls, fs->service, from, from_name, atomic_load(&dir->upper), name,
			      RENAME_EXCHANGE);
	if (unsupported(r))
		return dir_over_whiteout_plainly(fs, from, from_name, from_dir, dir, name);
	if (!r && !from_dir) /* a whiteout of nothing does no harm */
		ls_unlink(ls, fs->service, from, from_name, false);
	return r;
}

static int place_end(struct union_fs *fs, struct unode *dir, const char *name, struct place *place,
		     struct ls_node *made, bool directory, int r)
{
	struct libservice *ls = upper_ls(fs);

	if (!place->twin)
		return r;
	if (!r && directory) {
		r = ls_setxattr(ls, fs->service, made, OVERLAY_OPAQUE, "y", 1, 0);
		if (!r)
			r = dir_over_whiteout(fs, place->twin, name, NULL, dir, name);
	} else if (!r) {
		r = ls_rename(ls, fs->service, place->twin, name, atomic_load(&dir->upper), name,
			      0);
	}
	ls_forget(ls, place->twin, 1);
	union_work_purge(fs, place->temp);
	return r;
}

int union_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir_node,
	       const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
	       struct ls_node **ret, struct attr *ret_attr)
{
	struct union_fs *fs = union_of(ls);
	struct unode *dir = unode_of(dir_node), *n;
	struct ls_node *made;
	struct place place;
	struct attr attr;
	int r;

	if (S_ISCHR(mode) && rdev == 0)
		return -EPERM; /* it would be a whiteout */
	r = prepare_dir(fs, cred, dir);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&dir->dir_lock);
	r = place_begin(fs, cred, dir, name, &place);
	if (!r) {
		r = ls_make(upper_ls(fs), cred, place.dir, name, mode, umask, rdev, target, &made,
			    &attr);
		bool have = !r;
		r = place_end(fs, dir, name, &place, made, S_ISDIR(mode), r);
		if (have && r < 0)
			ls_forget(upper_ls(fs), made, 1);
	}
	if (!r)
		r = union_node_made(fs, dir, name, made, &attr, &n);
	pthread_rwlock_unlock(&dir->dir_lock);
	if (r < 0)
		return r;
	*ret = (struct ls_node *)n;
	*ret_attr = attr;
	return 0;
}

/* The node and open file of what the upper branch made; both are consumed. */
static int node_and_file(struct union_fs *fs, struct unode *dir, const char *name, int flags,
			 struct ls_node *made, struct ls_file *file, struct attr *attr,
			 struct ls_node **ret, struct ls_file **ret_file)
{
	struct unode *n;
	int r = union_node_made(fs, dir, name, made, attr, &n);

	if (r < 0) {
		ls_release(upper_ls(fs), file);
		return r;
	}
	r = union_file_made(fs, n, flags, file, ret_file);
	if (r < 0)
		union_node_unref(fs, n, 1);
	else
		*ret = (struct ls_node *)n;
	return r;
}

int union_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir_node,
		 const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		 struct ls_file **ret_file, struct attr *ret_attr)
{
	struct union_fs *fs = union_of(ls);
	struct unode *dir = unode_of(dir_node);
	struct ls_node *made;
	struct ls_file *file;
	struct place place;
	struct attr attr;
	int r = prepare_dir(fs, cred, dir);

	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&dir->dir_lock);
	r = place_begin(fs, cred, dir, name, &place);
	if (!r) {
		r = ls_create(upper_ls(fs), cred, place.dir, name, flags, mode, umask, &made, &file,
			      &attr);
		bool have = !r;
		r = place_end(fs, dir, name, &place, made, false, r);
		if (have && r < 0) {
			ls_release(upper_ls(fs), file);
			ls_forget(upper_ls(fs), made, 1);
		}
	}
	if (!r)
		r = node_and_file(fs, dir, name, flags, made, file, &attr, ret, ret_file);
	pthread_rwlock_unlock(&dir->dir_lock);
	if (!r)
		*ret_attr = attr;
	return r;
}

int union_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir_node,
		  int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		  struct ls_file **ret_file, struct attr *ret_attr)
{
	struct union_fs *fs = union_of(ls);
	struct unode *dir = unode_of(dir_node);
	struct ls_node *made;
	struct ls_file *file;
	struct attr attr;
	int r = prepare_dir(fs, cred, dir);

	if (!r)
		r = may_add(fs, cred, dir);
	if (!r)
		r = ls_tmpfile(upper_ls(fs), cred, atomic_load(&dir->upper), flags, mode, umask,
			       &made, &file, &attr);
	if (!r)
		r = node_and_file(fs, NULL, NULL, flags, made, file, &attr, ret, ret_file);
	if (!r)
		*ret_attr = attr;
	return r;
}

int union_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_node *dir_node, const char *name)
{
	struct union_fs *fs = union_of(ls);
	struct unode *n = unode_of(node), *dir = unode_of(dir_node);
	struct place place;
	bool whiteout;
	int r;

	if (atomic_load(&n->deleted) && !atomic_load(&n->upper))
		return -ENOENT;
	r = prepare_dir(fs, cred, dir);
	if (r < 0)
		return r;
	if (atomic_load(&dir->upper) && n->type != S_IFDIR) {
		/* What is refused copies nothing. */
		pthread_rwlock_rdlock(&dir->dir_lock);
		r = may_make(fs, cred, dir, name, &whiteout);
		pthread_rwlock_unlock(&dir->dir_lock);
		if (!r)
			r = union_copy_up(fs, n);
		if (r < 0)
			return r;
	}
	pthread_rwlock_wrlock(&dir->dir_lock);
	r = place_begin(fs, cred, dir, name, &place);
	if (!r) {
		r = n->type == S_IFDIR
			? -EPERM
			: ls_link(upper_ls(fs), cred, atomic_load(&n->upper), place.dir, name);
		r = place_end(fs, dir, name, &place, NULL, false, r);
	}
	pthread_rwlock_unlock(&dir->dir_lock);
	return r;
}

/* Removal. */

/* An upper entry goes and a whiteout stands there instead, in one step. */
static int replace_by_whiteout(struct union_fs *fs, struct unode *dir, const char *name,
			       bool directory)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *upper = atomic_load(&dir->upper);
	char temp[UNION_TEMP_LEN], intent[UNION_TEMP_LEN];
	int r;

	union_temp_name(fs, temp);
	r = union_whiteout_make(fs, fs->work, temp);
	if (r < 0)
		return r;
	if (!directory) {
		r = ls_rename(ls, fs->service, fs->work, temp, upper, name, 0);
		if (r < 0)
			union_work_purge(fs, temp);
		return r;
	}
	r = atomic_load(&fs->no_exchange)
		? -EOPNOTSUPP
		: ls_rename(ls, fs->service, fs->work, temp, upper, name, RENAME_EXCHANGE);
	if (unsupported(r)) {
		r = union_intent(fs, dir, name, intent);
		if (!r) {
			r = ls_unlink(ls, fs->service, upper, name, true);
			if (r < 0) {
				intent_done(fs, intent);
			} else {
				atomic_store(&fs->no_exchange, true);
				r = ls_rename(ls, fs->service, fs->work, temp, upper, name, 0);
				if (r < 0)
					r = union_whiteout_make(fs, upper, name);
				else
					temp[0] = '\0';
				if (!r) /* else the next start does it */
					intent_done(fs, intent);
			}
		}
	}
	if (temp[0])
		union_work_purge(fs, temp);
	return r;
}

/* What the upper branch had under a name that is gone now. */
static void gone(struct union_fs *fs, struct unode *n, const struct attr *attr)
{
	bool upper = atomic_load(&n->upper);

	if (!upper || n->type == S_IFDIR)
		atomic_store(&n->deleted, true);
	if (upper && (n->type == S_IFDIR || attr->nlink <= 1))
		union_origin_drop(fs, attr);
}

/* One more directory's lock for whoever has tree_lock: nobody else waits for one while holding
 * another, so any order is safe. Timed, because checkers of lock orders cannot know that. */
static void lock_more(pthread_rwlock_t *lock)
{
	struct timespec end;

	do {
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += 3600;
	} while (pthread_rwlock_timedwrlock(lock, &end) != 0);
}

/* The locks for a directory that is to be removed or replaced, and whether it may be. */
static int victim_begin(struct union_fs *fs, struct unode *victim, bool *ret_marks)
{
	int r;

	lock_more(&victim->dir_lock);
	r = union_dir_empty(fs, victim, ret_marks);
	if (r < 0)
		pthread_rwlock_unlock(&victim->dir_lock);
	return r;
}

static int remove_name(struct union_fs *fs, struct unode *dir, const char *name, struct unode *n,
		       bool directory)
{
	struct ls_node *upper = atomic_load(&dir->upper);
	int lower = union_lower_positive(fs, dir, name), r = 0;
	bool marks = false;

	if (lower < 0)
		return lower;
	if (directory) {
		r = victim_begin(fs, n, &marks);
		if (r < 0)
			return r;
	}
	if (!atomic_load(&n->upper)) {
		r = union_whiteout_make(fs, upper, name);
	} else {
		if (directory && (marks || union_nlower(n)))
			r = union_dir_clear(fs, n);
		if (!r)
			r = lower ? replace_by_whiteout(fs, dir, name, directory)
				  : ls_unlink(upper_ls(fs), fs->service, upper, name, directory);
	}
	if (directory) {
		if (!r)
			atomic_store(&n->deleted, true);
		pthread_rwlock_unlock(&n->dir_lock);
	}
	return r;
}

int union_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir_node,
		 const char *name, bool directory)
{
	struct union_fs *fs = union_of(ls);
	struct unode *dir = unode_of(dir_node), *n = NULL;
	struct attr attr, real;
	struct found found;
	int r = prepare_dir(fs, cred, dir);

	if (!r && union_check_name(fs, dir, name) < 0)
		r = -ENOENT;
	if (r < 0)
		return r;
	if (directory)
		pthread_mutex_lock(&fs->tree_lock);
	pthread_rwlock_wrlock(&dir->dir_lock);
	r = union_find(fs, cred, dir, name, &found);
	if (!r) {
		real = found.attr;
		r = union_node_get(fs, dir, name, &found, &n, &attr);
	}
	if (!r)
		r = may_remove(fs, cred, dir, &attr);
	if (!r && S_ISDIR(attr.mode) != directory)
		r = directory ? -ENOTDIR : -EISDIR;
	if (!r)
		r = remove_name(fs, dir, name, n, directory);
	if (!r)
		gone(fs, n, &real);
	pthread_rwlock_unlock(&dir->dir_lock);
	if (directory)
		pthread_mutex_unlock(&fs->tree_lock);
	if (n)
		union_node_unref(fs, n, 1);
	return r;
}

/* Rename. */

struct side {
	struct unode *dir;
	const char *name;
	struct unode *n; /* NULL: the name is free */
	bool whiteout;
	int lower; /* a lower branch shows the name */
	struct attr attr, real;
};

static int side_find(struct union_fs *fs, const struct cred *cred, struct side *side)
{
	struct found found;
	int r = union_find(fs, cred, side->dir, side->name, &found);

	side->n = NULL;
	side->whiteout = found.whiteout;
	if (r < 0 && r != -ENOENT)
		return r;
	side->lower = union_lower_positive(fs, side->dir, side->name);
	if (side->lower < 0) {
		union_found_done(fs, &found);
		return side->lower;
	}
	side->real = found.attr;
	return r < 0 ? 0 : union_node_get(fs, side->dir, side->name, &found, &side->n, &side->attr);
}

/* Whether dir is n or below it. tree_lock keeps it so. */
static bool is_below(struct union_fs *fs, const struct unode *dir, const struct unode *n)
{
	pthread_mutex_lock(&fs->names_lock);
	while (dir && dir != n)
		dir = dir->parent;
	pthread_mutex_unlock(&fs->names_lock);
	return dir;
}

/* As do_renameat2() and vfs_rename() of fs/namei.c ask; -EXDEV as overlayfs. */
static int may_rename(struct union_fs *fs, const struct cred *cred, struct side *src,
		      struct side *dst, unsigned flags)
{
	bool exchange = flags & RENAME_EXCHANGE, old_dir, new_dir;
	int r;

	if (!src->n)
		return -ENOENT;
	if (dst->n && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!dst->n && exchange)
		return -ENOENT;
	if (is_below(fs, dst->dir, src->n))
		return -EINVAL;
	if (dst->n && is_below(fs, src->dir, dst->n))
		return exchange ? -EINVAL : -ENOTEMPTY;
	r = may_remove(fs, cred, src->dir, &src->attr);
	if (!r)
		r = dst->n ? may_remove(fs, cred, dst->dir, &dst->attr)
			   : may_add(fs, cred, dst->dir);
	if (r < 0)
		return r;
	old_dir = src->n->type == S_IFDIR;
	new_dir = dst->n && dst->n->type == S_IFDIR;
	if (dst->n && !exchange && old_dir != new_dir)
		return old_dir ? -ENOTDIR : -EISDIR;
	if (src->dir != dst->dir && old_dir)
		r = union_access_node(fs, cred, src->n, W_OK);
	if (!r && src->dir != dst->dir && exchange && new_dir)
		r = union_access_node(fs, cred, dst->n, W_OK);
	if (r < 0)
		return r;
	if ((old_dir && !union_pure_upper(src->n)) ||
	    (exchange && new_dir && !union_pure_upper(dst->n)))
		return -EXDEV;
	return 0;
}

/* A directory that moves over lower entries must hide them. */
static int hide_lower(struct union_fs *fs, const struct side *moved, const struct side *to)
{
	if (moved->n->type != S_IFDIR || !to->lower)
		return 0;
	return ls_setxattr(upper_ls(fs), fs->service, atomic_load(&moved->n->upper), OVERLAY_OPAQUE,
			   "y", 1, 0);
}

static int move_and_whiteout(struct union_fs *fs, struct side *src, struct side *dst)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *from = atomic_load(&src->dir->upper), *to = atomic_load(&dst->dir->upper);
	char intent[UNION_TEMP_LEN];
	int r = -EOPNOTSUPP;

	if (!atomic_load(&fs->no_whiteout))
		r = ls_rename(ls, fs->service, from, src->name, to, dst->name, RENAME_WHITEOUT);
	if (!unsupported(r))
		return r;
	r = union_intent(fs, src->dir, src->name, intent);
	if (r < 0)
		return r;
	r = ls_rename(ls, fs->service, from, src->name, to, dst->name, 0);
	if (!r) {
		atomic_store(&fs->no_whiteout, true);
		r = whiteout_surely(fs, from, src->name);
		if (r < 0)
			return r; /* the next start does it */
	}
	intent_done(fs, intent);
	return r;
}

static int move(struct union_fs *fs, struct side *src, struct side *dst)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *from = atomic_load(&src->dir->upper), *to = atomic_load(&dst->dir->upper);
	int r = hide_lower(fs, src, dst);

	if (r < 0)
		return r;
	if (dst->whiteout && src->n->type == S_IFDIR)
		return dir_over_whiteout(fs, from, src->name, src->lower ? src->dir : NULL,
					 dst->dir, dst->name);
	return src->lower ? move_and_whiteout(fs, src, dst)
			  : ls_rename(ls, fs->service, from, src->name, to, dst->name, 0);
}

static void moved(struct union_fs *fs, struct unode *n, const struct side *to)
{
	char *name = strdup(to->name), *old_name;
	struct unode *parent;

	union_node_ref(fs, to->dir);
	pthread_mutex_lock(&fs->names_lock);
	parent = n->parent;
	n->parent = to->dir;
	old_name = n->name;
	if (name) /* else only the text of an intent would be wrong */
		n->name = name;
	pthread_mutex_unlock(&fs->names_lock);
	if (name)
		free(old_name);
	if (parent)
		union_node_unref(fs, parent, 1);
}

/* Both directories are locked and both sides found. 1: a copy-up has to come first. */
static int rename_locked(struct union_fs *fs, const struct cred *cred, struct side *src,
			 struct side *dst, unsigned flags)
{
	bool victim = false, marks;
	int r;

	if (src->n && src->n == dst->n && !(flags & RENAME_NOREPLACE))
		return 0; /* two links of one inode: rename(2) does nothing */
	r = may_rename(fs, cred, src, dst, flags);
	if (r < 0)
		return r;
	if (!atomic_load(&src->n->upper) ||
	    (flags & RENAME_EXCHANGE && !atomic_load(&dst->n->upper)))
		return 1;
	if (flags & RENAME_EXCHANGE) {
		r = hide_lower(fs, src, dst);
		if (!r)
			r = hide_lower(fs, dst, src);
		if (!r)
			r = ls_rename(upper_ls(fs), fs->service, atomic_load(&src->dir->upper),
				      src->name, atomic_load(&dst->dir->upper), dst->name,
				      RENAME_EXCHANGE);
		if (!r) {
			moved(fs, src->n, dst);
			moved(fs, dst->n, src);
		}
		return r;
	}
	if (dst->n && dst->n->type == S_IFDIR) {
		r = victim_begin(fs, dst->n, &marks);
		if (r < 0)
			return r;
		victim = true;
		if (atomic_load(&dst->n->upper) && (marks || union_nlower(dst->n)))
			r = union_dir_clear(fs, dst->n);
	}
	if (!r)
		r = move(fs, src, dst);
	if (!r && dst->n)
		gone(fs, dst->n, &dst->real);
	if (victim)
		pthread_rwlock_unlock(&dst->n->dir_lock);
	if (!r)
		moved(fs, src->n, dst);
	return r;
}

int union_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node *newdir, const char *newname, unsigned flags)
{
	struct union_fs *fs = union_of(ls);
	struct side src = {.dir = unode_of(dir), .name = name};
	struct side dst = {.dir = unode_of(newdir), .name = newname};
	int r = prepare_dir(fs, cred, src.dir);

	if (!r)
		r = prepare_dir(fs, cred, dst.dir);
	if (!r && (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
		   flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)))
		r = -EINVAL;
	if (!r && union_check_name(fs, src.dir, name) < 0)
		r = -ENOENT;
	if (!r)
		r = union_check_name(fs, dst.dir, newname);
	if (r < 0)
		return r;
	do {
		src.n = dst.n = NULL;
		pthread_mutex_lock(&fs->tree_lock);
		pthread_rwlock_wrlock(&src.dir->dir_lock);
		if (dst.dir != src.dir)
			lock_more(&dst.dir->dir_lock);
		r = side_find(fs, cred, &src);
		if (!r)
			r = side_find(fs, cred, &dst);
		if (!r)
			r = rename_locked(fs, cred, &src, &dst, flags);
		if (dst.dir != src.dir)
			pthread_rwlock_unlock(&dst.dir->dir_lock);
		pthread_rwlock_unlock(&src.dir->dir_lock);
		pthread_mutex_unlock(&fs->tree_lock);
		if (r == 1) {
			int copied = union_copy_up(fs, src.n);

			if (!copied && flags & RENAME_EXCHANGE)
				copied = union_copy_up(fs, dst.n);
			r = copied < 0 ? copied : r;
		}
		if (src.n)
			union_node_unref(fs, src.n, 1);
		if (dst.n)
			union_node_unref(fs, dst.n, 1);
	} while (r == 1);
	return r;
}
