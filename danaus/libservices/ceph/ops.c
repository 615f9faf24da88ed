/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice's table: each operation as something to ask (late.c), which is done on
 * this thread or on one of its own. Any worker thread; no state. */
#include <errno.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/ceph/internal.h"

#define ONE_IOV(base, bytes) .iov = &(struct iovec){(void *)(base), bytes}, .niov = 1

static int64_t run_lookup(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_lookup(ls, ask->cred, ask->node, ask->name, &ask->made, &ask->attr);
}

static int op_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	static const struct ceph_way way = {.run = run_lookup, .quick = QUICK_NEVER};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = dir, .name = name};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (r < 0)
		return r;
	*ret = ask.made;
	*ret_attr = ask.attr;
	return 0;
}

static int64_t run_make(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_make(ls, ask->cred, ask->node, ask->name, ask->mode, ask->umask, ask->rdev,
			      ask->name2, &ask->made, &ask->attr);
}

static int op_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		   const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		   struct ls_node **ret, struct attr *ret_attr)
{
	static const struct ceph_way way = {.run = run_make, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way,
			       .cred = cred,
			       .node = dir,
			       .name = name,
			       .name2 = target,
			       .mode = mode,
			       .umask = umask,
			       .rdev = rdev};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (r < 0)
		return r;
	*ret = ask.made;
	*ret_attr = ask.attr;
	return 0;
}

static int64_t run_create(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_create(ls, ask->cred, ask->node, ask->name, ask->flags, ask->mode,
				ask->umask, &ask->made, &ask->opened, &ask->attr);
}

static int op_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		     struct ls_file **ret_file, struct attr *ret_attr)
{
	static const struct ceph_way way = {.run = run_create, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way,
			       .cred = cred,
			       .node = dir,
			       .name = name,
			       .flags = flags,
			       .mode = mode,
			       .umask = umask};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (r < 0)
		return r;
	*ret = ask.made;
	*ret_file = ask.opened;
	*ret_attr = ask.attr;
	return 0;
}

static int64_t run_link(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_link(ls, ask->cred, ask->node, ask->node2, ask->name);
}

static int op_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   struct ls_node *dir, const char *name)
{
	static const struct ceph_way way = {.run = run_link, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = node, .node2 = dir, .name = name};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_unlink(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_unlink(ls, ask->cred, ask->node, ask->name, ask->flag);
}

static int op_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, bool directory)
{
	static const struct ceph_way way = {.run = run_unlink, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {
	    .way = &way, .cred = cred, .node = dir, .name = name, .flag = directory};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_rename(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_rename(ls, ask->cred, ask->node, ask->name, ask->node2, ask->name2,
				ask->flags);
}

static int op_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node *newdir, const char *newname, unsigned flags)
{
	static const struct ceph_way way = {.run = run_rename, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way,
			       .cred = cred,
			       .node = dir,
			       .node2 = newdir,
			       .name = name,
			       .name2 = newname,
			       .flags = (int)flags};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_getattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_getattr(ls, ask->node, ask->file, &ask->attr);
}

static int op_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		      struct attr *ret_attr)
{
	static const struct ceph_way way = {.run = run_getattr, .quick = QUICK_ATTR};
	struct ceph_ask ask = {.way = &way, .node = node, .file = file};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (!r)
		*ret_attr = ask.attr;
	return r;
}

static int64_t run_setattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_setattr(ls, ask->cred, ask->node, ask->file, ask->set, &ask->attr,
				 &ask->attr);
}

static int op_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      struct ls_file *file, unsigned set, const struct attr *attr,
		      struct attr *ret_attr)
{
	static const struct ceph_way way = {.run = run_setattr, .quick = QUICK_NEVER};
	struct ceph_ask ask = {
	    .way = &way, .cred = cred, .node = node, .file = file, .set = set, .attr = *attr};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (!r)
		*ret_attr = ask.attr;
	return r;
}

static int64_t run_access(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_access(ls, ask->cred, ask->node, ask->flags);
}

static int op_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask)
{
	static const struct ceph_way way = {.run = run_access, .quick = QUICK_ATTR};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = node, .flags = mask};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_readlink(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_readlink(ls, ask->node, ask->iov->iov_base, ask->iov->iov_len);
}

static ssize_t op_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes)
{
	static const struct ceph_way way = {.run = run_readlink, .quick = QUICK_NEVER, .out = true};
	struct ceph_ask ask = {.way = &way, .node = node, ONE_IOV(buf, cap_bytes)};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_open(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_open(ls, ask->cred, ask->node, ask->flags, &ask->opened);
}

static int op_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
		   struct ls_file **ret)
{
	static const struct ceph_way way = {.run = run_open, .quick = QUICK_OPEN};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = node, .flags = flags};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (!r)
		*ret = ask.opened;
	return r;
}

static int64_t run_read(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_read(ls, ask->file, ask->iov, ask->niov, ask->offset);
}

static ssize_t op_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
		       int niov, uint64_t offset)
{
	static const struct ceph_way way = {.run = run_read, .quick = QUICK_READ, .out = true};
	struct ceph_ask ask = {
	    .way = &way, .file = file, .iov = iov, .niov = niov, .offset = offset};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_write(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_write(ls, ask->file, ask->iov, ask->niov, ask->offset, ask->flag,
			       &ask->value);
}

static ssize_t op_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	static const struct ceph_way way = {.run = run_write, .quick = QUICK_WRITE};
	struct ceph_ask ask = {
	    .way = &way, .file = file, .iov = iov, .niov = niov, .offset = offset, .flag = append};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (r >= 0 && ret_end)
		*ret_end = ask.value;
	return r;
}

static int64_t run_flush(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_flush(ls, ask->file);
}

static int op_flush(struct libservice *ls, struct ls_file *file)
{
	static const struct ceph_way way = {.run = run_flush, .quick = QUICK_WRITE, .syncs = true};
	struct ceph_ask ask = {.way = &way, .file = file};

	if (!atomic_load(&file->dirty) && !atomic_load(&file->lost))
		return 0;
	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_fsync(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_fsync(ls, ask->file, ask->flag);
}

static int op_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	static const struct ceph_way way = {.run = run_fsync, .quick = QUICK_NEVER, .syncs = true};
	struct ceph_ask ask = {.way = &way, .file = file, .flag = data_only};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_allocate(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_allocate(ls, ask->file, ask->flags, ask->offset, ask->len_bytes);
}

static int op_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		       uint64_t len_bytes)
{
	static const struct ceph_way way = {
	    .run = run_allocate, .quick = QUICK_NEVER, .syncs = true};
	struct ceph_ask ask = {
	    .way = &way, .file = file, .flags = mode, .offset = offset, .len_bytes = len_bytes};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_seek(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_seek(ls, ask->file, ask->offset, ask->flags);
}

static int64_t op_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	static const struct ceph_way way = {.run = run_seek, .quick = QUICK_NEVER};
	struct ceph_ask ask = {.way = &way, .file = file, .offset = offset, .flags = whence};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_getxattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_getxattr(ls, ask->cred, ask->node, ask->name, ask->iov->iov_base,
				  ask->iov->iov_len);
}

static ssize_t op_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			   const char *name, void *value, size_t cap_bytes)
{
	static const struct ceph_way way = {.run = run_getxattr, .quick = QUICK_NEVER, .out = true};
	struct ceph_ask ask = {
	    .way = &way, .cred = cred, .node = node, .name = name, ONE_IOV(value, cap_bytes)};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_setxattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_setxattr(ls, ask->cred, ask->node, ask->name, ask->iov->iov_base,
				  ask->iov->iov_len, ask->flags);
}

static int op_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, const void *value, size_t len_bytes, int flags)
{
	static const struct ceph_way way = {
	    .run = run_setxattr, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way,
			       .cred = cred,
			       .node = node,
			       .name = name,
			       .flags = flags,
			       ONE_IOV(value, len_bytes)};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_listxattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_listxattr(ls, ask->cred, ask->node, ask->iov->iov_base, ask->iov->iov_len);
}

static ssize_t op_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			    char *names, size_t cap_bytes)
{
	static const struct ceph_way way = {
	    .run = run_listxattr, .quick = QUICK_NEVER, .out = true};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = node, ONE_IOV(names, cap_bytes)};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_removexattr(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_removexattr(ls, ask->cred, ask->node, ask->name);
}

static int op_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			  const char *name)
{
	static const struct ceph_way way = {
	    .run = run_removexattr, .quick = QUICK_NEVER, .asks = true};
	struct ceph_ask ask = {.way = &way, .cred = cred, .node = node, .name = name};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_statfs(struct libservice *ls, struct ceph_ask *ask)
{
	int r = cephls_op_statfs(ls, ask->node, ask->iov->iov_base, &ask->value);

	return r < 0 ? r : (int64_t)sizeof(struct statvfs);
}

static int op_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		     uint64_t *ret_type)
{
	static const struct ceph_way way = {.run = run_statfs, .quick = QUICK_NEVER, .out = true};
	struct ceph_ask ask = {.way = &way, .node = node, ONE_IOV(ret, sizeof(*ret))};
	int64_t r = cephls_ask(ceph_of(ls), &ask);

	if (r < 0)
		return r;
	*ret_type = ask.value;
	return 0;
}

static int64_t run_syncfs(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_syncfs(ls);
}

static int op_syncfs(struct libservice *ls)
{
	static const struct ceph_way way = {.run = run_syncfs, .quick = QUICK_NEVER, .syncs = true};
	struct ceph_ask ask = {.way = &way, .node = ceph_of(ls)->root};

	return cephls_ask(ceph_of(ls), &ask);
}

static int64_t run_lock(struct libservice *ls, struct ceph_ask *ask)
{
	return cephls_op_lock(ls, ask->node, ask->owner, ask->flag, ask->type, ask->offset,
			      ask->len_bytes);
}

static int op_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		   short type, uint64_t start, uint64_t len_bytes)
{
	static const struct ceph_way way = {
	    .run = run_lock, .quick = QUICK_NEVER, .asks = true, .locks = true};
	struct ceph_ask ask = {.way = &way,
			       .node = node,
			       .owner = owner,
			       .flag = whole,
			       .type = type,
			       .offset = start,
			       .len_bytes = len_bytes};

	return cephls_ask(ceph_of(ls), &ask);
}

static int op_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	struct ceph *fs = ceph_of(ls);
	int r = op_getattr(ls, fs->root, NULL, ret_attr);

	if (r < 0)
		return r;
	cephls_node_ref(fs, fs->root);
	*ret = fs->root;
	return 0;
}

const struct libservice_ops cephls_ops = {
    .name = "ceph",
    .free = cephls_op_free,
    .root = op_root,
    .forget = cephls_op_forget,
    .release = cephls_op_release,
    .lookup = op_lookup,
    .make = op_make,
    .create = op_create,
    .link = op_link,
    .unlink = op_unlink,
    .rename = op_rename,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .access = op_access,
    .readlink = op_readlink,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .allocate = op_allocate,
    .seek = op_seek,
    .readdir = cephls_op_readdir,
    .getxattr = op_getxattr,
    .setxattr = op_setxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
    .statfs = op_statfs,
    .syncfs = op_syncfs,
    .lock = op_lock,
};
