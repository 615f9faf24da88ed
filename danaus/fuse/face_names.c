/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face's operations on names and attributes. On the face's threads. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* FUSE hands over at most XATTR_SIZE_MAX and XATTR_LIST_MAX (xattr(7)). */
#define XATTR_BYTES_MAX 65536u

static int look_up(struct face_call *call, const char *name, struct vnode **ret, struct attr *attr)
{
	struct vtarget at = {.dir = call->node, .path = name, .nofollow = true};

	return vfs_lookup(&call->ctx, &at, ret, attr);
}

/* "." and ".." come from open_by_handle_at(2): the inode behind a number, and the way back to the
 * root. */
static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pid_t looker = atomic_load(&((struct face_mount *)fuse_req_userdata(req))->looker);
	bool by_looker = fuse_req_ctx(req)->pid == looker;
	struct vnode *node = NULL, *seen = NULL;
	struct face_call call;
	struct attr attr;
	int r;

	r = face_call_begin(&call, req, WIRE_STAT, AS_SERVICE, parent);
	if (r == 0 && strcmp(name, ".") == 0) {
		r = vfs_stat(&call.ctx, &(struct vtarget){.dir = call.node}, &attr);
		if (r == 0)
			node = vnode_ref(call.node);
	} else if (r == 0) {
		r = look_up(&call, name, &node, &attr);
		seen = r == 0 ? vnode_ref(node) : NULL;
	}
	face_call_reply_entry(&call, r, node, &attr);
	/* Who took the name away meanwhile may not have seen that the kernel was to get it. */
	if (seen && vnode_nameless(seen) && !by_looker)
		face_look_again(call.face, parent, name);
	vnode_unref(seen);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct face_mount *face = fuse_req_userdata(req);

	face_node_forget(&face->nodes, ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct face_mount *face = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		face_node_forget(&face->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct face_call call;
	struct attr attr;
	int r;

	r = face_call_begin(&call, req, WIRE_STAT, AS_SERVICE, ino);
	if (r == 0)
		r = vfs_stat(&call.ctx, &(struct vtarget){.dir = call.node}, &attr);
	face_call_reply_attr(&call, r, ino, &attr);
}

static struct timespec time_to_set(int to_set, int now_flag, struct timespec given)
{
	if (to_set & now_flag)
		given.tv_nsec = UTIME_NOW;
	return given;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		       struct fuse_file_info *fi)
{
	static const struct {
		int fuse;
		unsigned set;
	} map[] = {
	    {FUSE_SET_ATTR_MODE, ATTR_MODE},   {FUSE_SET_ATTR_UID, ATTR_UID},
	    {FUSE_SET_ATTR_GID, ATTR_GID},     {FUSE_SET_ATTR_SIZE, ATTR_SIZE},
	    {FUSE_SET_ATTR_ATIME, ATTR_ATIME}, {FUSE_SET_ATTR_MTIME, ATTR_MTIME},
	};
	struct face_file *file = fi ? (struct face_file *)(uintptr_t)fi->fh : NULL;
	struct setattr set = {
	    .attr = {
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.atime = time_to_set(to_set, FUSE_SET_ATTR_ATIME_NOW, st->st_atim),
		.mtime = time_to_set(to_set, FUSE_SET_ATTR_MTIME_NOW, st->st_mtim),
	    }};
	struct face_call call;
	struct vtarget at;
	struct attr attr;
	int r;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (to_set & map[i].fuse)
			set.set |= map[i].set;
	r = face_call_begin(&call, req, WIRE_SETATTR, AS_CALLER, ino);
	/* ftruncate(2) was allowed when the file was opened. Everything else asks for the inode's
	 * rights. */
	at = file && set.set & ATTR_SIZE ? (struct vtarget){.file = file->file}
					 : (struct vtarget){.dir = call.node};
	if (r == 0)
		r = CALL(&call, vfs_setattr(&call.ctx, &at, &set, &attr));
	face_call_reply_attr(&call, r, ino, &attr);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct face_call call;
	char content[WIRE_PATH_MAX];
	ssize_t n;

	n = face_call_begin(&call, req, WIRE_READLINK, AS_SERVICE, ino);
	if (n == 0)
		n = vfs_readlink(&call.ctx, &(struct vtarget){.dir = call.node}, content,
				 sizeof(content) - 1);
	if (n < 0) {
		face_call_reply(&call, n);
		return;
	}
	content[n] = '\0';
	fuse_reply_readlink(req, content);
	face_call_end(&call, 0);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		 const char *content)
{
	struct vnode *node = NULL;
	struct face_call call;
	struct attr attr;
	int r;

	r = face_call_begin(&call, req, WIRE_MAKE, AS_CALLER, parent);
	if (r == 0)
		r = CALL(&call, vfs_make(&call.ctx,
					 &(struct vtarget){
					     .dir = call.node, .path = name, .nofollow = true},
					 mode, rdev, content, &attr));
	if (r == 0)
		r = look_up(&call, name, &node, &attr);
	face_call_reply_entry(&call, r, node, &attr);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, (mode & 07777) | S_IFDIR, 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *content, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, content);
}

static void unlink_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool directory)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_UNLINK, AS_CALLER, parent);
	if (r == 0)
		r = CALL(&call, vfs_unlink(&call.ctx,
					   &(struct vtarget){
					       .dir = call.node, .path = name, .nofollow = true},
					   directory));
	face_call_reply(&call, r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_name(req, parent, name, false);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_name(req, parent, name, true);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct vtarget old, new;
	struct face_call call;
	struct vnode *newdir;
	int r;

	r = face_call_begin(&call, req, WIRE_RENAME, AS_CALLER, parent);
	newdir = face_node_get(&call.face->nodes, newparent);
	if (r == 0 && !newdir)
		r = -ESTALE;
	old = (struct vtarget){.dir = call.node, .path = name, .nofollow = true};
	new = (struct vtarget){.dir = newdir, .path = newname, .nofollow = true};
	if (r == 0)
		r = CALL(&call, vfs_rename(&call.ctx, &old, &new, flags));
	if (newdir)
		vnode_unref(newdir);
	face_call_reply(&call, r);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct face_call call;
	struct vnode *dir;
	struct attr attr;
	int r;

	r = face_call_begin(&call, req, WIRE_LINK, AS_CALLER, ino);
	dir = face_node_get(&call.face->nodes, newparent);
	if (r == 0 && !dir)
		r = -ESTALE;
	if (r == 0)
		r = CALL(&call, vfs_link(&call.ctx, &(struct vtarget){.dir = call.node},
					 &(struct vtarget){
					     .dir = dir, .path = newname, .nofollow = true}));
	if (r == 0)
		r = vfs_stat(&call.ctx, &(struct vtarget){.dir = call.node}, &attr);
	if (dir)
		vnode_unref(dir);
	face_call_reply_entry(&call, r, r == 0 ? vnode_ref(call.node) : NULL, &attr);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_ACCESS, AS_CALLER, ino);
	if (r == 0)
		r = CALL(&call, vfs_access(&call.ctx, &(struct vtarget){.dir = call.node},
					   mask & (R_OK | W_OK | X_OK), false));
	face_call_reply(&call, r);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct face_call call;
	struct statvfs st;
	uint64_t type;
	int r;

	r = face_call_begin(&call, req, WIRE_STATFS, AS_SERVICE, ino);
	if (r == 0)
		r = vfs_statfs(&call.ctx, &(struct vtarget){.dir = call.node}, &st, &type);
	if (r < 0) {
		face_call_reply(&call, r);
		return;
	}
	fuse_reply_statfs(req, &st);
	face_call_end(&call, 0);
}

/* The kernel reads ACLs to decide on somebody's rights: that somebody need not be allowed more than
 * to search the directory, as for attributes. */
static enum face_as reads_as(const char *name)
{
	return strncmp(name, "system.posix_acl_", 17) == 0 ? AS_SERVICE : AS_CALLER;
}

static void reply_xattr(struct face_call *call, ssize_t n, const char *value, size_t size)
{
	if (n < 0) {
		face_call_reply(call, n);
		return;
	}
	if (size == 0)
		fuse_reply_xattr(call->req, (size_t)n);
	else
		fuse_reply_buf(call->req, value, (size_t)n);
	face_call_end(call, 0);
}

static char *xattr_buffer(size_t *size, ssize_t *n)
{
	char *value = NULL;

	if (*size > XATTR_BYTES_MAX)
		*size = XATTR_BYTES_MAX;
	if (*size > 0 && *n == 0 && !(value = malloc(*size)))
		*n = -ENOMEM;
	return value;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct face_call call;
	ssize_t n = face_call_begin(&call, req, WIRE_GETXATTR, reads_as(name), ino);
	char *value = xattr_buffer(&size, &n);

	if (n == 0)
		n = CALL(&call, vfs_getxattr(&call.ctx, &(struct vtarget){.dir = call.node}, name,
					     value, size));
	reply_xattr(&call, n, value, size);
	free(value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct face_call call;
	ssize_t n = face_call_begin(&call, req, WIRE_LISTXATTR, AS_CALLER, ino);
	char *names = xattr_buffer(&size, &n);

	if (n == 0)
		n = CALL(&call, vfs_listxattr(&call.ctx, &(struct vtarget){.dir = call.node}, names,
					      size));
	reply_xattr(&call, n, names, size);
	free(names);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_SETXATTR, AS_CALLER, ino);
	if (r == 0)
		r = CALL(&call, vfs_setxattr(&call.ctx, &(struct vtarget){.dir = call.node}, name,
					     value, size, flags));
	face_call_reply(&call, r);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_REMOVEXATTR, AS_CALLER, ino);
	if (r == 0)
		r = CALL(&call,
			 vfs_removexattr(&call.ctx, &(struct vtarget){.dir = call.node}, name));
	face_call_reply(&call, r);
}

void face_names_ops(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->link = op_link;
	ops->access = op_access;
	ops->statfs = op_statfs;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
