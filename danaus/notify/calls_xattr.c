/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes (xattr(7)). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "danaus/notify/calls_fd.h"
#include "danaus/notify/resolve.h"

struct xattr {
	char name[XATTR_NAME_MAX + 1];
	uint64_t value;
	size_t len_bytes;
	int flags;
};

/* -ERANGE as the kernel says it. */
static int read_name(struct call *call, uint64_t addr, struct xattr *x)
{
	ssize_t n = memory_string(call->tid, addr, x->name, sizeof(x->name));

	if (n == -ENAMETOOLONG || n == 0)
		return -ERANGE;
	return n < 0 ? (int)n : 0;
}

/* By path, with or without following, or by descriptor: the first letter of the call says it. */
static int64_t on(struct call *call, place_fn fn, struct xattr *x)
{
	const char *name = call->row->name;
	bool nofollow = name[0] == 'l' && strncmp(name, "list", 4);

	if (name[0] == 'f')
		return descriptor_call(call, (int)call->arg[0], FD_OPEN, fn, x);
	return place_call(call, AT_FDCWD, call->arg[0], nofollow ? AT_SYMLINK_NOFOLLOW : 0, fn, x);
}

static int64_t get_at(struct call *call, const struct vtarget *at, void *arg)
{
	struct xattr *x = arg;
	char *data = ncall_scratch(call)->data;
	ssize_t n;
	int64_t r = read_name(call, call->arg[1], x);

	if (r)
		return r;
	n = vfs_getxattr(&call->ctx, at, x->name, data, x->len_bytes);
	r = n > 0 && x->len_bytes ? ncall_put(call, x->value, data, (size_t)n) : 0;
	return r ? r : n;
}

static size_t capped(uint64_t len_bytes)
{
	return len_bytes > XATTR_SIZE_MAX ? XATTR_SIZE_MAX : len_bytes;
}

int64_t sys_getxattr(struct call *call)
{
	struct xattr x = {.value = call->arg[2], .len_bytes = capped(call->arg[3])};

	return on(call, get_at, &x);
}

static int64_t set_at(struct call *call, const struct vtarget *at, void *arg)
{
	struct xattr *x = arg;
	char *data = ncall_scratch(call)->data;
	int64_t r;

	if (x->flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	r = read_name(call, call->arg[1], x);
	if (r)
		return r;
	if (x->len_bytes > XATTR_SIZE_MAX)
		return -E2BIG;
	r = ncall_get(call, x->value, data, x->len_bytes);
	return r ? r : vfs_setxattr(&call->ctx, at, x->name, data, x->len_bytes, x->flags);
}

int64_t sys_setxattr(struct call *call)
{
	struct xattr x = {
	    .value = call->arg[2], .len_bytes = call->arg[3], .flags = (int)call->arg[4]};

	return on(call, set_at, &x);
}

static int64_t list_at(struct call *call, const struct vtarget *at, void *arg)
{
	struct xattr *x = arg;
	char *data = ncall_scratch(call)->data;
	ssize_t n = vfs_listxattr(&call->ctx, at, data, x->len_bytes);
	int64_t r = n > 0 && x->len_bytes ? ncall_put(call, x->value, data, (size_t)n) : 0;

	return r ? r : n;
}

int64_t sys_listxattr(struct call *call)
{
	struct xattr x = {.value = call->arg[1], .len_bytes = capped(call->arg[2])};

	return on(call, list_at, &x);
}

static int64_t remove_at(struct call *call, const struct vtarget *at, void *arg)
{
	struct xattr *x = arg;
	int r = read_name(call, call->arg[1], x);

	return r ? r : vfs_removexattr(&call->ctx, at, x->name);
}

int64_t sys_removexattr(struct call *call)
{
	struct xattr x = {0};

	return on(call, remove_at, &x);
}
