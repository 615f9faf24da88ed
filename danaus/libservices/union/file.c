/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the union's open files and what is asked of one inode. A file that was opened for reading
 * before its copy-up goes on with the copy. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "danaus/libservices/union/internal.h"

#define LIST_BYTES  65536
#define CAP(number) (1ull << (number))
#define CHOWN	    CAP(0)
#define DAC_ALL	    CAP(1)
#define FOWNER	    CAP(3)
#define SYS_ADMIN   CAP(21)

static struct ufile *ufile_of(struct ls_file *file)
{
	return (struct ufile *)file;
}

int union_getattr_node(struct union_fs *fs, struct unode *n, struct attr *ret)
{
	struct lower top = union_top(n);
	int r = ls_getattr(fs->branch[top.branch], top.node, NULL, ret);

	if (r < 0)
		return r;
	ret->dev = 0;
	ret->ino = n->ino;
	if (n->type == S_IFDIR && (atomic_load(&n->upper) != NULL) + union_nlower(n) > 1)
		ret->nlink = 1;
	return 0;
}

/* The rights as the mode has them: for a branch whose host mount is read-only, which answers EROFS
 * to every question about writing. */
static int mode_access(const struct cred *cred, const struct attr *attr, int mask)
{
	uint64_t caps = cred_caps_for(cred, attr->uid, attr->gid);
	unsigned bits = cred->fsuid == attr->uid	 ? attr->mode >> 6
			: cred_in_group(cred, attr->gid) ? attr->mode >> 3
							 : attr->mode;

	if (!(mask & ~(bits & 7)))
		return 0;
	if (caps & DAC_ALL && (!(mask & X_OK) || S_ISDIR(attr->mode) || attr->mode & 0111))
		return 0;
	return -EACCES;
}

int union_access_node(struct union_fs *fs, const struct cred *cred, struct unode *n, int mask)
{
	struct lower top = union_top(n);
	struct attr attr;
	int r = ls_access(fs->branch[top.branch], cred, top.node, mask);

	if (r != -EROFS || !fs->writable)
		return r;
	r = ls_getattr(fs->branch[top.branch], top.node, NULL, &attr);
	return r < 0 ? r : mode_access(cred, &attr, mask);
}

int union_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask)
{
	return union_access_node(union_of(ls), cred, unode_of(node), mask);
}

/* Whether cred may change the inode at all, asked before a copy is made for it; the writable branch
 * decides on the change itself. error is what a caller without any right gets. */
static int may_change(struct union_fs *fs, const struct cred *cred, struct unode *n, bool by_write,
		      int error)
{
	struct attr attr;
	int r;

	if (atomic_load(&n->upper))
		return 0;
	r = union_getattr_node(fs, n, &attr);
	if (r < 0)
		return r;
	if (cred->fsuid == attr.uid || cred_caps_for(cred, attr.uid, attr.gid) & (CHOWN | FOWNER) ||
	    cred->caps & SYS_ADMIN)
		return 0;
	return by_write && !union_access_node(fs, cred, n, W_OK) ? 0 : error;
}

int union_upper_file(struct union_fs *fs, struct ufile *f, struct ls_file **ret)
{
	struct ls_node *node = atomic_load(&f->node->upper);
	struct ls_file *file = atomic_load(&f->upper), *none = NULL;
	int r;

	if (!file && node) {
		r = ls_open(upper_ls(fs), fs->service, node,
			    f->flags & (O_ACCMODE | O_DIRECT | O_NOATIME | O_DIRECTORY), &file);
		if (r < 0)
			return r;
		if (!atomic_compare_exchange_strong(&f->upper, &none, file)) {
			ls_release(upper_ls(fs), file);
			file = none;
		}
	}
	*ret = file;
	return 0;
}

static int real_file(struct union_fs *fs, struct ls_file *file, struct libservice **ret_ls,
		     struct ls_file **ret)
{
	struct ufile *f = ufile_of(file);
	struct ls_file *upper;
	int r = union_upper_file(fs, f, &upper);

	if (r < 0)
		return r;
	*ret_ls = upper ? upper_ls(fs) : fs->branch[f->lower_branch];
	*ret = upper ? upper : f->lower;
	return 0;
}

static struct ufile *ufile_new(struct union_fs *fs, struct unode *n, int flags)
{
	struct ufile *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->node = n;
	f->flags = flags;
	pthread_mutex_init(&f->list_lock, NULL);
	union_node_ref(fs, n);
	return f;
}

int union_file_made(struct union_fs *fs, struct unode *n, int flags, struct ls_file *upper,
		    struct ls_file **ret)
{
	struct ufile *f = ufile_new(fs, n, flags);

	if (!f) {
		ls_release(upper_ls(fs), upper);
		return -ENOMEM;
	}
	atomic_store(&f->upper, upper);
	*ret = (struct ls_file *)f;
	return 0;
}

int union_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	       struct ls_file **ret)
{
	struct union_fs *fs = union_of(ls);
	struct unode *n = unode_of(node);
	int mode = flags & O_ACCMODE, r = 0;
	struct ls_file *file;
	struct lower top;
	struct ufile *f;

	if (mode != O_RDONLY && !atomic_load(&n->upper)) {
		r = union_access_node(fs, cred, n, W_OK | (mode == O_RDWR ? R_OK : 0));
		if (!r)
			r = union_copy_up(fs, n);
		if (r < 0)
			return r;
	}
	f = ufile_new(fs, n, flags);
	if (!f)
		return -ENOMEM;
	top = union_top(n);
	r = ls_open(fs->branch[top.branch], cred, top.node, flags, &file);
	if (r < 0) {
		union_release(ls, (struct ls_file *)f);
		return r;
	}
	if (n->nlower && top.node == n->lower[0].node && top.branch == n->lower[0].branch) {
		f->lower = file;
		f->lower_branch = top.branch;
	} else {
		atomic_store(&f->upper, file);
	}
	*ret = (struct ls_file *)f;
	return 0;
}

void union_release(struct libservice *ls, struct ls_file *file)
{
	struct union_fs *fs = union_of(ls);
	struct ufile *f = ufile_of(file);
	struct ls_file *upper = atomic_load(&f->upper);

	if (upper)
		ls_release(upper_ls(fs), upper);
	if (f->lower)
		ls_release(fs->branch[f->lower_branch], f->lower);
	union_list_free(f->list);
	pthread_mutex_destroy(&f->list_lock);
	union_node_unref(fs, f->node, 1);
	free(f);
}

ssize_t union_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset)
{
	int r = real_file(union_of(ls), file, &ls, &file);

	return r < 0 ? r : ls_read(ls, file, iov, niov, offset);
}

ssize_t union_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end)
{
	int r = real_file(union_of(ls), file, &ls, &file);

	return r < 0 ? r : ls_write(ls, file, iov, niov, offset, append, ret_end);
}

int union_flush(struct libservice *ls, struct ls_file *file)
{
	struct ls_file *upper = atomic_load(&ufile_of(file)->upper);

	return upper ? ls_flush(upper_ls(union_of(ls)), upper) : 0;
}

int union_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	int r = real_file(union_of(ls), file, &ls, &file);

	return r < 0 ? r : ls_fsync(ls, file, data_only);
}

int union_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes)
{
	int r = real_file(union_of(ls), file, &ls, &file);

	return r < 0 ? r : ls_allocate(ls, file, mode, offset, len_bytes);
}

int64_t union_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	int r = real_file(union_of(ls), file, &ls, &file);

	return r < 0 ? r : ls_seek(ls, file, offset, whence);
}

/* Only the writable branch's files can be changed, so only they need to be locked. */
int union_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole, short type,
	       uint64_t start, uint64_t len_bytes)
{
	struct ls_node *upper = atomic_load(&unode_of(node)->upper);

	return upper ? ls_lock(upper_ls(union_of(ls)), upper, owner, whole, type, start, len_bytes)
		     : 0;
}

int union_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		  struct attr *ret)
{
	return union_getattr_node(union_of(ls), unode_of(node), ret);
}

int union_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		  struct ls_file *file, unsigned set, const struct attr *attr, struct attr *ret)
{
	struct union_fs *fs = union_of(ls);
	struct unode *n = unode_of(node);
	struct ls_file *upper = NULL;
	bool now = (!(set & ATTR_ATIME) || attr->atime.tv_nsec == UTIME_NOW) &&
		   (!(set & ATTR_MTIME) || attr->mtime.tv_nsec == UTIME_NOW);
	bool owners = set & (ATTR_MODE | ATTR_UID | ATTR_GID) || !now || !set;
	struct attr out;
	int r = may_change(fs, cred, n, !owners, owners ? -EPERM : -EACCES);

	/* Anybody may chown(2) to nobody: there is nothing to copy up for where no bit goes. */
	if (r == -EPERM && !set && !union_getattr_node(fs, n, &out) &&
	    (n->type != S_IFREG || !(out.mode & (S_ISUID | S_ISGID)))) {
		*ret = out;
		return 0;
	}
	if (!r && set & ATTR_SIZE && !file && !atomic_load(&n->upper))
		r = union_access_node(fs, cred, n, W_OK);
	if (!r)
		r = union_copy_up(fs, n);
	if (!r && file)
		r = union_upper_file(fs, ufile_of(file), &upper);
	if (!r)
		r = ls_setattr(upper_ls(fs), cred, atomic_load(&n->upper), upper, set, attr, &out);
	if (r < 0)
		return r;
	*ret = out;
	ret->dev = 0;
	ret->ino = n->ino;
	if (n->type == S_IFDIR && union_nlower(n))
		ret->nlink = 1;
	return 0;
}

ssize_t union_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes)
{
	struct lower top = union_top(unode_of(node));

	return ls_readlink(union_of(ls)->branch[top.branch], top.node, buf, cap_bytes);
}

/* The format's own attributes are nobody's. */
static bool private_xattr(const char *name)
{
	return !strncmp(name, OVERLAY_PREFIX, strlen(OVERLAY_PREFIX));
}

ssize_t union_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, void *value, size_t cap_bytes)
{
	struct lower top = union_top(unode_of(node));

	if (private_xattr(name))
		return -EOPNOTSUPP;
	return ls_getxattr(union_of(ls)->branch[top.branch], cred, top.node, name, value,
			   cap_bytes);
}

/* xattr_permission() of fs/xattr.c, where a copy would have to come first. */
static int xattr_rights(struct union_fs *fs, const struct cred *cred, struct unode *n,
			const char *name)
{
	struct attr attr;
	int r;

	if (private_xattr(name))
		return -EOPNOTSUPP;
	if (atomic_load(&n->upper))
		return 0;
	if (strncmp(name, "user.", 5))
		return may_change(fs, cred, n, false, -EPERM);
	if (n->type != S_IFREG && n->type != S_IFDIR)
		return -EPERM;
	r = union_getattr_node(fs, n, &attr);
	if (!r && n->type == S_IFDIR && attr.mode & S_ISVTX)
		r = may_change(fs, cred, n, false, -EPERM);
	return r < 0 ? r : union_access_node(fs, cred, n, W_OK);
}

int union_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name, const void *value, size_t len_bytes, int flags)
{
	struct union_fs *fs = union_of(ls);
	struct unode *n = unode_of(node);
	int r = xattr_rights(fs, cred, n, name);

	if (!r)
		r = union_copy_up(fs, n);
	if (r < 0)
		return r;
	return ls_setxattr(upper_ls(fs), cred, atomic_load(&n->upper), name, value, len_bytes,
			   flags);
}

int union_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      const char *name)
{
	struct union_fs *fs = union_of(ls);
	struct unode *n = unode_of(node);
	int r = xattr_rights(fs, cred, n, name);

	if (!r && !atomic_load(&n->upper)) { /* what is not there needs no copy */
		ssize_t len = union_getxattr(ls, fs->service, node, name, NULL, 0);

		r = len < 0 ? len : 0;
	}
	if (!r)
		r = union_copy_up(fs, n);
	return r < 0 ? r : ls_removexattr(upper_ls(fs), cred, atomic_load(&n->upper), name);
}

ssize_t union_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			char *names, size_t cap_bytes)
{
	struct union_fs *fs = union_of(ls);
	struct lower top = union_top(unode_of(node));
	CLEANUP_FREE char *all = malloc(LIST_BYTES);
	size_t kept = 0;
	ssize_t n;

	if (!all)
		return -ENOMEM;
	n = ls_listxattr(fs->branch[top.branch], cred, top.node, all, LIST_BYTES);
	for (char *p = all; p < all + n;) {
		size_t len = strlen(p) + 1;

		if (!private_xattr(p)) {
			memmove(all + kept, p, len);
			kept += len;
		}
		p += len;
	}
	if (n < 0)
		return n;
	if (!cap_bytes)
		return kept;
	if (kept > cap_bytes)
		return -ERANGE;
	memcpy(names, all, kept);
	return kept;
}

int union_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		 uint64_t *ret_type)
{
	struct union_fs *fs = union_of(ls);
	struct lower top = union_top(fs->root);
	int r = ls_statfs(fs->branch[top.branch], top.node, ret, ret_type);

	if (!r)
		*ret_type = 0x794c7630; /* OVERLAYFS_SUPER_MAGIC */
	return r;
}

int union_syncfs(struct libservice *ls)
{
	struct union_fs *fs = union_of(ls);

	return !fs->writable ? 0 : ls_syncfs(upper_ls(fs));
}

/* Of the copy only: a watch on a lower inode would miss every change. */
int union_host_fd(struct libservice *ls, struct ls_node *node)
{
	struct ls_node *upper = atomic_load(&unode_of(node)->upper);

	return upper ? ls_host_fd(upper_ls(union_of(ls)), upper) : -EOPNOTSUPP;
}
