/* SPDX-License-Identifier: Apache-2.0 */
/* Making, linking, renaming and removing names. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/notify/calls_fd.h"
#include "danaus/notify/resolve.h"

struct make {
	mode_t mode;
	dev_t rdev;
	const char *content;
};

static int64_t make_at(struct call *call, const struct vtarget *at, void *arg)
{
	const struct make *make = arg;
	struct attr attr;

	ncall_need_umask(call);
	return vfs_make(&call->ctx, at, make->mode, make->rdev, make->content, &attr);
}

static int64_t make_path(struct call *call, int dirfd, uint64_t path, struct make *make)
{
	return place_call(call, dirfd, path, PLACE_NAME | AT_SYMLINK_NOFOLLOW, make_at, make);
}

static int64_t mkdir_path(struct call *call, int dirfd, uint64_t path, uint64_t mode)
{
	struct make make = {.mode = S_IFDIR | (mode & 01777)};

	return make_path(call, dirfd, path, &make);
}

int64_t sys_mkdir(struct call *call)
{
	return mkdir_path(call, AT_FDCWD, call->arg[0], call->arg[1]);
}

int64_t sys_mkdirat(struct call *call)
{
	return mkdir_path(call, (int)call->arg[0], call->arg[1], call->arg[2]);
}

static int64_t mknod_path(struct call *call, int dirfd, uint64_t path, uint64_t mode, uint64_t dev)
{
	struct make make = {.mode = mode & (S_IFMT | 07777), .rdev = (uint32_t)dev};

	switch (make.mode & S_IFMT) {
	case 0:
		make.mode |= S_IFREG;
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		break;
	default:
		return CALL_CONTINUE; /* EPERM or EINVAL */
	}
	return make_path(call, dirfd, path, &make);
}

int64_t sys_mknod(struct call *call)
{
	return mknod_path(call, AT_FDCWD, call->arg[0], call->arg[1], call->arg[2]);
}

int64_t sys_mknodat(struct call *call)
{
	return mknod_path(call, (int)call->arg[0], call->arg[1], call->arg[2], call->arg[3]);
}

static int64_t symlink_path(struct call *call, uint64_t content, int dirfd, uint64_t path)
{
	struct scratch *scratch = ncall_scratch(call);
	CLEANUP_PLACE struct place place = {0};
	struct make make = {.mode = S_IFLNK | 0777};
	int64_t r;

	if (!scratch)
		return CALL_CONTINUE;
	r = place_resolve(call, dirfd, path, PLACE_NAME | AT_SYMLINK_NOFOLLOW, scratch->path,
			  &place);
	if (r)
		return r;
	if (memory_string(call->tid, content, scratch->path2, WIRE_PATH_MAX) <= 0)
		return CALL_CONTINUE; /* the kernel says why */
	make.content = scratch->path2;
	r = ncall_begin(call);
	return r ? r : place_run(call, scratch->path, &place, make_at, &make);
}

int64_t sys_symlink(struct call *call)
{
	return symlink_path(call, call->arg[0], AT_FDCWD, call->arg[1]);
}

int64_t sys_symlinkat(struct call *call)
{
	return symlink_path(call, call->arg[0], (int)call->arg[1], call->arg[2]);
}

static int64_t unlink_at(struct call *call, const struct vtarget *at, void *arg)
{
	const bool *directory = arg;

	return vfs_unlink(&call->ctx, at, *directory);
}

static int64_t unlink_path(struct call *call, int dirfd, uint64_t path, bool directory)
{
	return place_call(call, dirfd, path, PLACE_NAME | AT_SYMLINK_NOFOLLOW, unlink_at,
			  &directory);
}

int64_t sys_unlink(struct call *call)
{
	return unlink_path(call, AT_FDCWD, call->arg[0], false);
}

int64_t sys_rmdir(struct call *call)
{
	return unlink_path(call, AT_FDCWD, call->arg[0], true);
}

int64_t sys_unlinkat(struct call *call)
{
	if (call->arg[2] & ~(uint64_t)AT_REMOVEDIR & UINT32_MAX)
		return CALL_CONTINUE;
	return unlink_path(call, (int)call->arg[0], call->arg[1], call->arg[2] & AT_REMOVEDIR);
}

/* Two paths. Where one of them is not in a volume, or leads out of it, the kernel decides: it
 * answers EXDEV, or walks both. */
static int64_t two_paths(struct call *call, int olddir, uint64_t old, unsigned oldflags, int newdir,
			 uint64_t new,
			 int (*fn)(struct vctx *ctx, const struct vtarget *old,
				   const struct vtarget *new, unsigned flags),
			 unsigned flags)
{
	struct scratch *scratch = ncall_scratch(call);
	CLEANUP_PLACE struct place from = {0};
	CLEANUP_PLACE struct place to = {0};
	int64_t r;

	if (!scratch)
		return CALL_CONTINUE;
	r = place_resolve(call, olddir, old, oldflags, scratch->path, &from);
	if (!r)
		r = place_resolve(call, newdir, new, PLACE_NAME | AT_SYMLINK_NOFOLLOW,
				  scratch->path2, &to);
	if (!r)
		r = ncall_begin(call);
	if (r)
		return r;
	r = fn(&call->ctx, &from.target, &to.target, flags);
	return r == -EREMCHG ? CALL_CONTINUE : r;
}

static int link_fn(struct vctx *ctx, const struct vtarget *old, const struct vtarget *new,
		   unsigned flags)
{
	(void)flags;
	return vfs_link(ctx, old, new);
}

static int64_t link_paths(struct call *call, int olddir, uint64_t old, int newdir, uint64_t new,
			  unsigned flags)
{
	unsigned oldflags = flags & AT_EMPTY_PATH;

	if (flags & ~(unsigned)(AT_EMPTY_PATH | AT_SYMLINK_FOLLOW))
		return CALL_CONTINUE;
	if (!(flags & AT_SYMLINK_FOLLOW))
		oldflags |= AT_SYMLINK_NOFOLLOW;
	return two_paths(call, olddir, old, oldflags, newdir, new, link_fn, 0);
}

int64_t sys_link(struct call *call)
{
	return link_paths(call, AT_FDCWD, call->arg[0], AT_FDCWD, call->arg[1], 0);
}

int64_t sys_linkat(struct call *call)
{
	return link_paths(call, (int)call->arg[0], call->arg[1], (int)call->arg[2], call->arg[3],
			  (unsigned)call->arg[4]);
}

static int64_t rename_paths(struct call *call, int olddir, uint64_t old, int newdir, uint64_t new,
			    unsigned flags)
{
	return two_paths(call, olddir, old, PLACE_NAME | AT_SYMLINK_NOFOLLOW, newdir, new,
			 vfs_rename, flags);
}

int64_t sys_rename(struct call *call)
{
	return rename_paths(call, AT_FDCWD, call->arg[0], AT_FDCWD, call->arg[1], 0);
}

int64_t sys_renameat(struct call *call)
{
	return rename_paths(call, (int)call->arg[0], call->arg[1], (int)call->arg[2], call->arg[3],
			    0);
}

int64_t sys_renameat2(struct call *call)
{
	return rename_paths(call, (int)call->arg[0], call->arg[1], (int)call->arg[2], call->arg[3],
			    (unsigned)call->arg[4]);
}

/* inotify: a watch on the host's inode, whose events also tell of changes by other doors. */
static int64_t watch_at(struct call *call, const struct vtarget *at, void *arg)
{
	uint32_t mask = (uint32_t)call->arg[2];
	CLEANUP_FD int inotify = -1;
	CLEANUP_FD int host = -1;
	struct vnode *node;
	struct attr attr;
	char path[40];
	int r;

	(void)arg;
	r = vfs_lookup(&call->ctx, at, &node, &attr);
	if (r)
		return r;
	/* Of what was found: the path may lead elsewhere by now. */
	r = vfs_access(&call->ctx, &(struct vtarget){.dir = node}, R_OK, true);
	host = r ? -1 : vnode_host_fd(node);
	vnode_unref(node);
	if (r)
		return r;
	if ((mask & IN_ONLYDIR) && !S_ISDIR(attr.mode))
		return -ENOTDIR;
	cred_assume_service();
	inotify = (int)syscall(SYS_pidfd_getfd, process_pidfd(call->caller->process),
			       (int)call->arg[0], 0);
	if (host < 0 || inotify < 0)
		return CALL_CONTINUE;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", host);
	r = inotify_add_watch(inotify, path, mask & ~(uint32_t)IN_DONT_FOLLOW);
	return r < 0 ? -errno : r;
}

int64_t sys_inotify_add_watch(struct call *call)
{
	return place_call(call, AT_FDCWD, call->arg[1],
			  call->arg[2] & IN_DONT_FOLLOW ? AT_SYMLINK_NOFOLLOW : 0, watch_at, NULL);
}
