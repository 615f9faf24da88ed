/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the decisions that are the same for every libservice: an absent operation is
 * -EOPNOTSUPP, and a change to a read-only one is -EROFS; and what a name is. Any thread; no state
 * but each thread's patience. */
#include "danaus/libservices/libservice.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/libservices/patience.h"

#define CALL(op, ...)	    (ls->ops->op ? ls->ops->op(ls, ##__VA_ARGS__) : -EOPNOTSUPP)
#define CALL_WRITE(op, ...) (ls->ro ? -EROFS : CALL(op, ##__VA_ARGS__))

__thread const struct patience *patience;

void ls_free(struct libservice *ls)
{
	if (ls && ls->ops->free)
		ls->ops->free(ls);
}

int ls_check_name(const char *name)
{
	size_t len = strlen(name);

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (!len || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

int ls_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	return CALL(root, ret, ret_attr);
}

int ls_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      struct ls_node **ret, struct attr *ret_attr)
{
	return CALL(lookup, cred, dir, name, ret, ret_attr);
}

int ls_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	    mode_t mode, mode_t umask, dev_t rdev, const char *target, struct ls_node **ret,
	    struct attr *ret_attr)
{
	return CALL_WRITE(make, cred, dir, name, mode, umask, rdev, target, ret, ret_attr);
}

int ls_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      int flags, mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
	      struct attr *ret_attr)
{
	return CALL_WRITE(create, cred, dir, name, flags, mode, umask, ret, ret_file, ret_attr);
}

int ls_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir, int flags,
	       mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
	       struct attr *ret_attr)
{
	return CALL_WRITE(tmpfile, cred, dir, flags, mode, umask, ret, ret_file, ret_attr);
}

int ls_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	    struct ls_node *dir, const char *name)
{
	return CALL_WRITE(link, cred, node, dir, name);
}

int ls_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      bool directory)
{
	return CALL_WRITE(unlink, cred, dir, name, directory);
}

int ls_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      struct ls_node *newdir, const char *newname, unsigned flags)
{
	return CALL_WRITE(rename, cred, dir, name, newdir, newname, flags);
}

void ls_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	if (node && count && ls->ops->forget)
		ls->ops->forget(ls, node, count);
}

int ls_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
	       struct attr *ret_attr)
{
	return CALL(getattr, node, file, ret_attr);
}

int ls_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_file *file, unsigned set, const struct attr *attr, struct attr *ret_attr)
{
	return CALL_WRITE(setattr, cred, node, file, set, attr, ret_attr);
}

int ls_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask)
{
	int r = CALL(access, cred, node, mask);
	struct attr attr;

	/* As a read-only mount: rights first, and it does not count for what is no file system
	 * object of its own. */
	if (!r && ls->ro && (mask & W_OK) && !ls_getattr(ls, node, NULL, &attr) &&
	    (S_ISREG(attr.mode) || S_ISDIR(attr.mode) || S_ISLNK(attr.mode)))
		return -EROFS;
	return r;
}

ssize_t ls_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes)
{
	return CALL(readlink, node, buf, cap_bytes);
}

int ls_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	    struct ls_file **ret)
{
	if ((flags & O_ACCMODE) != O_RDONLY)
		return CALL_WRITE(open, cred, node, flags, ret);
	return CALL(open, cred, node, flags, ret);
}

void ls_release(struct libservice *ls, struct ls_file *file)
{
	if (file && ls->ops->release)
		ls->ops->release(ls, file);
}

void ls_reopened(struct libservice *ls, struct ls_file *file)
{
	if (ls->ops->reopened)
		ls->ops->reopened(ls, file);
}

ssize_t ls_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		uint64_t offset)
{
	return CALL(read, file, iov, niov, offset);
}

ssize_t ls_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		 uint64_t offset, bool append, uint64_t *ret_end)
{
	return CALL_WRITE(write, file, iov, niov, offset, append, ret_end);
}

int ls_flush(struct libservice *ls, struct ls_file *file)
{
	return ls->ops->flush ? ls->ops->flush(ls, file) : 0;
}

int ls_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	return CALL(fsync, file, data_only);
}

int ls_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		uint64_t len_bytes)
{
	return CALL_WRITE(allocate, file, mode, offset, len_bytes);
}

int64_t ls_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	return CALL(seek, file, offset, whence);
}

int ls_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
	       void *arg)
{
	return CALL(readdir, file, position, fill, arg);
}

ssize_t ls_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		    const char *name, void *value, size_t cap_bytes)
{
	return CALL(getxattr, cred, node, name, value, cap_bytes);
}

int ls_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		const char *name, const void *value, size_t len_bytes, int flags)
{
	return CALL_WRITE(setxattr, cred, node, name, value, len_bytes, flags);
}

ssize_t ls_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		     char *names, size_t cap_bytes)
{
	return CALL(listxattr, cred, node, names, cap_bytes);
}

int ls_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name)
{
	return CALL_WRITE(removexattr, cred, node, name);
}

int ls_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret, uint64_t *ret_type)
{
	int r = CALL(statfs, node, ret, ret_type);

	if (!r && ls->ro)
		ret->f_flag |= ST_RDONLY;
	return r;
}

int ls_syncfs(struct libservice *ls)
{
	return CALL(syncfs);
}

int ls_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole, short type,
	    uint64_t start, uint64_t len_bytes)
{
	return ls->ops->lock ? ls->ops->lock(ls, node, owner, whole, type, start, len_bytes) : 0;
}

int ls_host_fd(struct libservice *ls, struct ls_node *node)
{
	return CALL(host_fd, node);
}

int ls_data_fd(struct libservice *ls, struct ls_node *node)
{
	return CALL(data_fd, node);
}
