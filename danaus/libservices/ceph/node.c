/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice's names and attributes. Each operation is one call into libcephfs after the
 * question of rights, done again when the mount was exchanged under it. */
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/libservices/ceph/internal.h"

#define ACL_NAME	 "system.posix_acl_access"
#define CEPH_SUPER_MAGIC 0x00c36400
#define LIST_BYTES	 65536

static int get_attributes(struct ceph_call *at, struct ls_node *node, unsigned want,
			  struct ceph_statx *ret)
{
	Inode *in;
	int r = cephls_inode(at, node, &in);

	return r < 0 ? r : ceph_ll_getattr(at->mount, in, ret, want, 0, at->fs->root_perms);
}

int cephls_stat(struct ceph_call *at, struct ls_node *node, struct ceph_statx *ret)
{
	return get_attributes(at, node, CEPH_WANT, ret);
}

int cephls_rights(struct ceph_call *at, struct ls_node *node, struct ceph_statx *ret)
{
	return get_attributes(at, node, CEPH_RIGHTS, ret);
}

static bool has_acl(struct ceph_call *at, struct ls_node *node, const struct ceph_statx *stx)
{
	Inode *in;
	bool r;

	if (S_ISLNK(stx->stx_mode))
		return false;
	pthread_mutex_lock(&node->lock);
	if (node->acl_known && !memcmp(&node->acl_ctime, &stx->stx_ctime, sizeof(stx->stx_ctime))) {
		r = node->has_acl;
		pthread_mutex_unlock(&node->lock);
		return r;
	}
	pthread_mutex_unlock(&node->lock);
	if (cephls_inode(at, node, &in) < 0)
		return true;
	r = ceph_ll_getxattr(at->mount, in, ACL_NAME, NULL, 0, at->fs->root_perms) > 0;
	pthread_mutex_lock(&node->lock);
	node->acl_known = true;
	node->has_acl = r;
	node->acl_ctime = stx->stx_ctime;
	pthread_mutex_unlock(&node->lock);
	return r;
}

void cephls_attr(struct ceph_call *at, struct ls_node *node, const struct ceph_statx *stx,
		 struct attr *ret)
{
	*ret = (struct attr){
	    .dev = node->snap == at->fs->root->snap ? 0 : node->snap,
	    .ino = stx->stx_ino,
	    .size = stx->stx_size,
	    .blocks = stx->stx_blocks,
	    .mode = stx->stx_mode,
	    .nlink = stx->stx_nlink,
	    .uid = stx->stx_uid,
	    .gid = stx->stx_gid,
	    .rdev = stx->stx_rdev,
	    .blksize = stx->stx_blksize,
	    .has_acl = has_acl(at, node, stx),
	    .atime = stx->stx_atime,
	    .mtime = stx->stx_mtime,
	    .ctime = stx->stx_ctime,
	    .btime = stx->stx_btime,
	};
}

/* The result of a call that made or found an inode. */
static int take(struct ceph_call *at, int r, Inode *in, const struct ceph_statx *stx,
		struct ls_node **ret, struct attr *ret_attr)
{
	struct ls_node *node;

	if (r < 0)
		return r;
	r = cephls_node_of(at, in, stx, &node);
	if (r < 0)
		return r;
	cephls_attr(at, node, stx, ret_attr);
	*ret = node;
	return 0;
}

/* dir's inode, when cred has mask on it. */
static int enter_dir(struct ceph_call *at, const struct cred *cred, struct ls_node *dir, int mask,
		     Inode **ret)
{
	struct ceph_statx stx;
	int r = dir->type == S_IFDIR ? cephls_rights(at, dir, &stx) : -ENOTDIR;

	if (!r)
		r = cephls_may(at, cred, dir, &stx, mask);
	return r < 0 ? r : cephls_inode(at, dir, ret);
}

int cephls_op_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	Inode *parent, *in;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = enter_dir(&call, cred, dir, X_OK, &parent);
		if (!r)
			r = ceph_ll_lookup(call.mount, parent, name, &in, &stx, CEPH_WANT, 0,
					   fs->root_perms);
		r = take(&call, r, in, &stx, ret, ret_attr);
	} while (cephls_leave(fs, &call, r));
	return r;
}

static int make_one(struct ceph_call *at, Inode *dir, const char *name, mode_t mode, dev_t rdev,
		    const char *target, Inode **ret, struct ceph_statx *stx, UserPerm *perms)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return ceph_ll_mkdir(at->mount, dir, name, mode & 07777, ret, stx, CEPH_WANT, 0,
				     perms);
	case S_IFLNK:
		return ceph_ll_symlink(at->mount, dir, name, target, ret, stx, CEPH_WANT, 0, perms);
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return ceph_ll_mknod(at->mount, dir, name, mode, rdev, ret, stx, CEPH_WANT, 0,
				     perms);
	default:
		return -EINVAL;
	}
}

int cephls_op_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		   const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		   struct ls_node **ret, struct attr *ret_attr)
{
	bool device = S_ISBLK(mode) || (S_ISCHR(mode) && rdev); /* not a whiteout */
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	Inode *parent, *in;
	UserPerm *perms;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	if (device && (!(cred->caps & CAP_BIT(CAP_MKNOD)) ||
		       (cred->map && (cred->map->nuid || cred->map->ngid))))
		return -EPERM;
	perms = cephls_perms_of(cred);
	if (!perms)
		return -ENOMEM;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			break;
		cephls_call_umask = umask;
		r = enter_dir(&call, cred, dir, W_OK | X_OK, &parent);
		if (!r)
			r = make_one(&call, parent, name, mode, rdev, target, &in, &stx, perms);
		r = take(&call, r, in, &stx, ret, ret_attr);
	} while (cephls_leave(fs, &call, r));
	cephls_perms_done(fs, perms);
	return r;
}

int cephls_op_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   struct ls_node *dir, const char *name)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	Inode *parent, *in;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_rights(&call, node, &stx);
		if (!r)
			r = cephls_may_link(&call, cred, node, &stx);
		if (!r)
			r = enter_dir(&call, cred, dir, W_OK | X_OK, &parent);
		if (!r)
			r = cephls_inode(&call, node, &in);
		if (!r)
			r = ceph_ll_link(call.mount, in, parent, name, fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* A name as it is now; ret_missing instead of -ENOENT. */
static int peek(struct ceph_call *at, Inode *parent, const char *name, struct ceph_statx *stx,
		bool *ret_missing)
{
	Inode *in;
	int r =
	    ceph_ll_lookup(at->mount, parent, name, &in, stx, CEPH_RIGHTS, 0, at->fs->root_perms);

	*ret_missing = r == -ENOENT;
	if (!r)
		ceph_ll_forget(at->mount, in, 1);
	return r == -ENOENT ? 0 : r;
}

/* Whether cred may take name out of dir; the MDS says what else may be wrong. What the name is
 * matters in a sticky directory, and when the answer is no: that there is nothing comes first. */
static int may_take(struct ceph_call *at, const struct cred *cred, struct ls_node *dir,
		    Inode *parent, const char *name, bool must_exist)
{
	struct ceph_statx stx, victim;
	bool missing;
	int may = cephls_rights(at, dir, &stx), r;

	if (!may)
		may = cephls_may(at, cred, dir, &stx, W_OK | X_OK);
	if (!may && (!(stx.stx_mode & S_ISVTX) || cred->fsuid == stx.stx_uid))
		return 0;
	r = peek(at, parent, name, &victim, &missing);
	if (r < 0)
		return r;
	if (missing)
		return must_exist ? -ENOENT : may;
	return !may && !cephls_owns(cred, &victim, CAP_FOWNER) ? -EPERM : may;
}

int cephls_op_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, bool directory)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *parent;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = enter_dir(&call, cred, dir, X_OK, &parent);
		if (!r)
			r = may_take(&call, cred, dir, parent, name, true);
		if (!r)
			r = directory ? ceph_ll_rmdir(call.mount, parent, name, fs->root_perms)
				      : ceph_ll_unlink(call.mount, parent, name, fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* The ".." of a directory that moves changes. */
static int may_move(struct ceph_call *at, const struct cred *cred, Inode *parent, const char *name)
{
	struct ceph_statx stx;
	struct ls_node *moved;
	Inode *in;
	int r =
	    ceph_ll_lookup(at->mount, parent, name, &in, &stx, CEPH_WANT, 0, at->fs->root_perms);

	if (!r)
		r = cephls_node_of(at, in, &stx, &moved);
	if (r < 0)
		return r;
	if (moved->type == S_IFDIR)
		r = cephls_may(at, cred, moved, &stx, W_OK);
	at->fs->base.ops->forget(&at->fs->base, moved, 1);
	return r;
}

static int may_rename(struct ceph_call *at, const struct cred *cred, struct ls_node *dir,
		      Inode *parent, const char *name, struct ls_node *newdir, Inode *newparent,
		      const char *newname)
{
	int r = may_take(at, cred, dir, parent, name, true);

	if (!r)
		r = may_take(at, cred, newdir, newparent, newname, false);
	if (!r && dir != newdir)
		r = may_move(at, cred, parent, name);
	return r;
}

int cephls_op_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node *newdir, const char *newname, unsigned flags)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *parent, *newparent;
	int r = ls_check_name(name);

	if (!r)
		r = ls_check_name(newname);
	if (!r && flags)
		r = -EINVAL; /* the MDS knows none, as the kernel's client says too */
	if (r < 0)
		return r;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = enter_dir(&call, cred, dir, X_OK, &parent);
		if (!r)
			r = enter_dir(&call, cred, newdir, X_OK, &newparent);
		if (!r)
			r = may_rename(&call, cred, dir, parent, name, newdir, newparent, newname);
		if (!r)
			r = ceph_ll_rename(call.mount, parent, name, newparent, newname,
					   fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

int cephls_op_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		      struct attr *ret)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_stat(&call, node, &stx);
		if (!r)
			cephls_attr(&call, node, &stx, ret);
	} while (cephls_leave(fs, &call, r));
	return r;
}

static int set_masks(unsigned set, const struct attr *attr, const struct ceph_statx *old,
		     mode_t mode, struct ceph_statx *stx)
{
	struct timespec now;
	int mask = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(stx, 0, sizeof(*stx));
	if (set & ATTR_MODE || mode != (old->stx_mode & 07777)) {
		stx->stx_mode = mode;
		mask |= CEPH_SETATTR_MODE;
	}
	if (set & ATTR_UID) {
		stx->stx_uid = attr->uid;
		mask |= CEPH_SETATTR_UID;
	}
	if (set & ATTR_GID) {
		stx->stx_gid = attr->gid;
		mask |= CEPH_SETATTR_GID;
	}
	if (set & ATTR_SIZE) {
		stx->stx_size = attr->size;
		mask |= CEPH_SETATTR_SIZE;
	}
	if (set & ATTR_ATIME && attr->atime.tv_nsec != UTIME_OMIT) {
		stx->stx_atime = attr->atime.tv_nsec == UTIME_NOW ? now : attr->atime;
		mask |= CEPH_SETATTR_ATIME;
	}
	if (set & ATTR_MTIME && attr->mtime.tv_nsec != UTIME_OMIT) {
		stx->stx_mtime = attr->mtime.tv_nsec == UTIME_NOW ? now : attr->mtime;
		mask |= CEPH_SETATTR_MTIME;
	}
	return mask;
}

int cephls_op_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      struct ls_file *file, unsigned set, const struct attr *attr, struct attr *ret)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx old, stx;
	mode_t mode;
	Inode *in;
	int r;

	if (set & ATTR_SIZE && attr->size > INT64_MAX)
		return -EINVAL;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_rights(&call, node, &old);
		if (!r)
			r = cephls_may_set(&call, cred, node, &old, set, attr, file, &mode);
		if (!r)
			r = cephls_inode(&call, node, &in);
		if (!r) {
			int mask = set_masks(set, attr, &old, mode, &stx);

			if (mask)
				r = ceph_ll_setattr(call.mount, in, &stx, mask, fs->root_perms);
			if (!r && set & (ATTR_UID | ATTR_GID | ATTR_SIZE) && S_ISREG(old.stx_mode))
				cephls_drop_capability(&call, in);
		}
		if (!r)
			r = cephls_stat(&call, node, &stx);
		if (!r)
			cephls_attr(&call, node, &stx, ret);
	} while (cephls_leave(fs, &call, r));
	return r;
}

int cephls_op_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_stat(&call, node, &stx);
		if (!r)
			r = cephls_may(&call, cred, node, &stx, mask);
	} while (cephls_leave(fs, &call, r));
	return r;
}

ssize_t cephls_op_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	int r;

	if (node->type != S_IFLNK)
		return -EINVAL;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_inode(&call, node, &in);
		if (!r)
			r = ceph_ll_readlink(call.mount, in, buf, cap_bytes, fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* node's inode, when cred may read, or change, the attribute. */
static int xattr_inode(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		       const char *name, bool change, Inode **ret)
{
	int r = cephls_may_xattr(at, cred, node, name, change);

	return r < 0 ? r : cephls_inode(at, node, ret);
}

ssize_t cephls_op_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			   const char *name, void *value, size_t cap_bytes)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = xattr_inode(&call, cred, node, name, false, &in);
		if (!r)
			r = ceph_ll_getxattr(call.mount, in, name, value, cap_bytes,
					     fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

static void acl_changed(struct ls_node *node)
{
	pthread_mutex_lock(&node->lock);
	node->acl_known = false;
	pthread_mutex_unlock(&node->lock);
}

int cephls_op_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, const void *value, size_t len_bytes, int flags)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = xattr_inode(&call, cred, node, name, true, &in);
		if (!r)
			r = ceph_ll_setxattr(call.mount, in, name, value, len_bytes, flags,
					     fs->root_perms);
		acl_changed(node);
	} while (cephls_leave(fs, &call, r));
	return r;
}

int cephls_op_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			  const char *name)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = xattr_inode(&call, cred, node, name, true, &in);
		if (!r)
			r = ceph_ll_removexattr(call.mount, in, name, fs->root_perms);
		acl_changed(node);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* trusted.* is for the host's administrator to see. */
static size_t without_trusted(char *names, size_t len)
{
	size_t kept = 0;

	for (char *p = names; p < names + len;) {
		size_t n = strlen(p) + 1;

		if (strncmp(p, "trusted.", 8)) {
			memmove(names + kept, p, n);
			kept += n;
		}
		p += n;
	}
	return kept;
}

ssize_t cephls_op_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			    char *names, size_t cap_bytes)
{
	bool admin = cred->caps & CAP_BIT(CAP_SYS_ADMIN) &&
		     (!cred->map || (!cred->map->nuid && !cred->map->ngid));
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	CLEANUP_FREE char *all = malloc(LIST_BYTES);
	size_t len = 0;
	Inode *in;
	int r;

	if (!all)
		return -ENOMEM;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_inode(&call, node, &in);
		if (!r)
			r = ceph_ll_listxattr(call.mount, in, all, LIST_BYTES, &len,
					      fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	if (r < 0)
		return r;
	if (!admin)
		len = without_trusted(all, len);
	if (!cap_bytes)
		return len;
	if (len > cap_bytes)
		return -ERANGE;
	memcpy(names, all, len);
	return len;
}

int cephls_op_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		     uint64_t *ret_type)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_inode(&call, node, &in);
		if (!r)
			r = ceph_ll_statfs(call.mount, in, ret);
	} while (cephls_leave(fs, &call, r));
	if (!r)
		*ret_type = CEPH_SUPER_MAGIC;
	return r;
}
