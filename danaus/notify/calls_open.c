/* SPDX-License-Identifier: Apache-2.0 */
/* Opening by path: the new open file gets a named descriptor in the caller. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>

#include "danaus/base/fd.h"
#include "danaus/notify/descriptor.h"
#include "danaus/notify/resolve.h"

/* What open(2) ignores is not passed on. */
#define OPEN_FLAGS                                                                                 \
	(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC |     \
	 O_SYNC | O_ASYNC | O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |        \
	 O_CLOEXEC | O_PATH | O_TMPFILE | 0100000)

struct how {
	int flags;
	mode_t mode;
};

/* O_TMPFILE is more than one bit. */
static bool creates(uint64_t flags)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

static int64_t give(struct call *call, struct vfile *file, int flags)
{
	int64_t r = descriptor_give(call, file, flags);
	CLEANUP_FD int kernel = -1;
	int added;

	if (r == CALL_ANSWERED || r == CALL_GONE)
		return r;
	/* No number of ours: the kernel's own file, in the lowest free one. */
	if (!descriptor_kernel_file(call, file, &kernel)) {
		added = ncall_add_descriptor(call, kernel, -1, flags, true);
		if (added >= 0)
			return CALL_ANSWERED;
		return added == -ENOENT ? CALL_GONE : added;
	}
	return (flags & (O_CREAT | O_TRUNC)) && r == CALL_CONTINUE ? -EMFILE : r;
}

static int64_t open_at(struct call *call, const struct vtarget *at, void *arg)
{
	const struct how *how = arg;
	struct vfile *file;
	int64_t r;

	if (creates(how->flags))
		ncall_need_umask(call);
	r = vfs_open(&call->ctx, at, how->flags & ~O_CLOEXEC, how->mode, &file, NULL);
	if (r == -VFS_ESPECIAL)
		return CALL_CONTINUE;
	if (r)
		return r;
	r = give(call, file, how->flags);
	vfile_unref(file);
	return r;
}

static int64_t open_path(struct call *call, int dirfd, uint64_t path, uint64_t flags, uint64_t mode)
{
	struct how how = {(int)flags & OPEN_FLAGS, mode & 07777};

	/* The kernel has its own word on these. */
	if ((flags & O_CREAT) && (flags & O_DIRECTORY) && (flags & O_TMPFILE) != O_TMPFILE)
		return CALL_CONTINUE;
	return place_call(call, dirfd, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, open_at,
			  &how);
}

int64_t sys_open(struct call *call)
{
	return open_path(call, AT_FDCWD, call->arg[0], call->arg[1], call->arg[2]);
}

int64_t sys_openat(struct call *call)
{
	return open_path(call, (int)call->arg[0], call->arg[1], call->arg[2], call->arg[3]);
}

int64_t sys_creat(struct call *call)
{
	return open_path(call, AT_FDCWD, call->arg[0], O_CREAT | O_WRONLY | O_TRUNC, call->arg[1]);
}

int64_t sys_openat2(struct call *call)
{
	struct open_how how;

	if (call->arg[3] != sizeof(how) || memory_read(call->tid, call->arg[2], &how, sizeof(how)))
		return CALL_CONTINUE;
	/* RESOLVE_* restrictions, and what is not valid: the kernel's walk decides. */
	if (how.resolve)
		call->dirfd[0] = (int)call->arg[0];
	if (how.resolve || (how.flags & ~(uint64_t)OPEN_FLAGS) || (how.mode & ~07777ull) ||
	    (how.mode && !creates(how.flags)))
		return CALL_CONTINUE;
	return open_path(call, (int)call->arg[0], call->arg[1], how.flags, how.mode);
}
