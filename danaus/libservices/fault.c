/* SPDX-License-Identifier: Apache-2.0 */
/* The fault libservice: passes each operation on, but for those that the plan fails. Owns the layer
 * below. Any thread. */
#include "danaus/libservices/fault.h"

#include <errno.h>
#include <stdlib.h>

struct fault {
	struct libservice ls;
	struct libservice *lower;
	struct fault_plan *plan;
};

/* The error that this call gets, or 0. */
static int strike(struct libservice *ls)
{
	struct fault_plan *plan = ((struct fault *)ls)->plan;
	uint64_t call = atomic_fetch_add(&plan->calls, 1) + 1, first = atomic_load(&plan->first);

	if (first && (call == first || (call > first && atomic_load(&plan->to_the_end))))
		return atomic_load(&plan->error);
	return 0;
}

/* PASS(type, name, (parameters), (arguments)) */
#define UNWRAP(...) __VA_ARGS__
#define PASS(type, name, params, args)                                                             \
	static type fault_##name(struct libservice *ls UNWRAP params)                              \
	{                                                                                          \
		int r = strike(ls);                                                                \
                                                                                                   \
		return r ? r : ls_##name(((struct fault *)ls)->lower UNWRAP args);                 \
	}

PASS(int, root, (, struct ls_node **ret, struct attr *ret_attr), (, ret, ret_attr))
PASS(int, lookup,
     (, const struct cred *cred, struct ls_node *dir, const char *name, struct ls_node **ret,
      struct attr *ret_attr),
     (, cred, dir, name, ret, ret_attr))
PASS(int, make,
     (, const struct cred *cred, struct ls_node *dir, const char *name, mode_t mode, mode_t umask,
      dev_t rdev, const char *target, struct ls_node **ret, struct attr *ret_attr),
     (, cred, dir, name, mode, umask, rdev, target, ret, ret_attr))
PASS(int, create,
     (, const struct cred *cred, struct ls_node *dir, const char *name, int flags, mode_t mode,
      mode_t umask, struct ls_node **ret, struct ls_file **ret_file, struct attr *ret_attr),
     (, cred, dir, name, flags, mode, umask, ret, ret_file, ret_attr))
PASS(int, tmpfile,
     (, const struct cred *cred, struct ls_node *dir, int flags, mode_t mode, mode_t umask,
      struct ls_node **ret, struct ls_file **ret_file, struct attr *ret_attr),
     (, cred, dir, flags, mode, umask, ret, ret_file, ret_attr))
PASS(int, link,
     (, const struct cred *cred, struct ls_node *node, struct ls_node *dir, const char *name),
     (, cred, node, dir, name))
PASS(int, unlink,
     (, const struct cred *cred, struct ls_node *dir, const char *name, bool directory),
     (, cred, dir, name, directory))
PASS(int, rename,
     (, const struct cred *cred, struct ls_node *dir, const char *name, struct ls_node *newdir,
      const char *newname, unsigned flags),
     (, cred, dir, name, newdir, newname, flags))
PASS(int, getattr, (, struct ls_node *node, struct ls_file *file, struct attr *ret_attr),
     (, node, file, ret_attr))
PASS(int, setattr,
     (, const struct cred *cred, struct ls_node *node, struct ls_file *file, unsigned set,
      const struct attr *attr, struct attr *ret_attr),
     (, cred, node, file, set, attr, ret_attr))
PASS(int, access, (, const struct cred *cred, struct ls_node *node, int mask), (, cred, node, mask))
PASS(ssize_t, readlink, (, struct ls_node *node, char *buf, size_t cap_bytes),
     (, node, buf, cap_bytes))
PASS(int, open, (, const struct cred *cred, struct ls_node *node, int flags, struct ls_file **ret),
     (, cred, node, flags, ret))
PASS(ssize_t, read, (, struct ls_file *file, const struct iovec *iov, int niov, uint64_t offset),
     (, file, iov, niov, offset))
PASS(ssize_t, write,
     (, struct ls_file *file, const struct iovec *iov, int niov, uint64_t offset, bool append,
      uint64_t *ret_end),
     (, file, iov, niov, offset, append, ret_end))
PASS(int, flush, (, struct ls_file *file), (, file))
PASS(int, fsync, (, struct ls_file *file, bool data_only), (, file, data_only))
PASS(int, allocate, (, struct ls_file *file, int mode, uint64_t offset, uint64_t len_bytes),
     (, file, mode, offset, len_bytes))
PASS(int64_t, seek, (, struct ls_file *file, uint64_t offset, int whence), (, file, offset, whence))
PASS(int, readdir, (, struct ls_file *file, uint64_t position, ls_fill_fn fill, void *arg),
     (, file, position, fill, arg))
PASS(ssize_t, getxattr,
     (, const struct cred *cred, struct ls_node *node, const char *name, void *value,
      size_t cap_bytes),
     (, cred, node, name, value, cap_bytes))
PASS(int, setxattr,
     (, const struct cred *cred, struct ls_node *node, const char *name, const void *value,
      size_t len_bytes, int flags),
     (, cred, node, name, value, len_bytes, flags))
PASS(ssize_t, listxattr,
     (, const struct cred *cred, struct ls_node *node, char *names, size_t cap_bytes),
     (, cred, node, names, cap_bytes))
PASS(int, removexattr, (, const struct cred *cred, struct ls_node *node, const char *name),
     (, cred, node, name))
PASS(int, statfs, (, struct ls_node *node, struct statvfs *ret, uint64_t *ret_type),
     (, node, ret, ret_type))
PASS(int, syncfs, (), ())
PASS(int, host_fd, (, struct ls_node *node), (, node))

static void fault_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	ls_forget(((struct fault *)ls)->lower, node, count);
}

static void fault_reopened(struct libservice *ls, struct ls_file *file)
{
	ls_reopened(((struct fault *)ls)->lower, file);
}

static void fault_release(struct libservice *ls, struct ls_file *file)
{
	ls_release(((struct fault *)ls)->lower, file);
}

static int fault_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		      short type, uint64_t start, uint64_t len_bytes)
{
	/* Giving a lock up has no error. */
	int r = type == F_UNLCK ? 0 : strike(ls);

	if (r)
		return r;
	return ls_lock(((struct fault *)ls)->lower, node, owner, whole, type, start, len_bytes);
}

static void fault_free(struct libservice *ls)
{
	ls_free(((struct fault *)ls)->lower);
	free(ls);
}

static const struct libservice_ops fault_ops = {
    .name = "fault",
    .free = fault_free,
    .forget = fault_forget,
    .release = fault_release,
    .reopened = fault_reopened,
    .lock = fault_lock,
#define OP(name) .name = fault_##name
    OP(root),
    OP(lookup),
    OP(make),
    OP(create),
    OP(tmpfile),
    OP(link),
    OP(unlink),
    OP(rename),
    OP(getattr),
    OP(setattr),
    OP(access),
    OP(readlink),
    OP(open),
    OP(read),
    OP(write),
    OP(flush),
    OP(fsync),
    OP(allocate),
    OP(seek),
    OP(readdir),
    OP(getxattr),
    OP(setxattr),
    OP(listxattr),
    OP(removexattr),
    OP(statfs),
    OP(syncfs),
    OP(host_fd),
#undef OP
};

int fault_new(struct libservice *lower, struct fault_plan *plan, struct libservice **ret)
{
	struct fault *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return -ENOMEM;
	fault->ls.ops = &fault_ops;
	fault->lower = lower;
	fault->plan = plan;
	*ret = &fault->ls;
	return 0;
}
