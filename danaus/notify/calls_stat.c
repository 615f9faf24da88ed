/* SPDX-License-Identifier: Apache-2.0 */
/* Reading attributes: stat and its generations, access, statfs, readlink. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "danaus/notify/calls_fd.h"
#include "danaus/notify/resolve.h"

static void fill_stat(const struct idmap *map, const struct attr *a, struct stat *st)
{
	*st = (struct stat){
	    .st_dev = a->dev,
	    .st_ino = a->ino,
	    .st_nlink = a->nlink,
	    .st_mode = a->mode,
	    .st_uid = idmap_uid_in(map, a->uid),
	    .st_gid = idmap_gid_in(map, a->gid),
	    .st_rdev = a->rdev,
	    .st_size = (off_t)a->size,
	    .st_blksize = a->blksize,
	    .st_blocks = (blkcnt_t)a->blocks,
	    .st_atim = a->atime,
	    .st_mtim = a->mtime,
	    .st_ctim = a->ctime,
	};
}

static struct statx_timestamp timestamp(const struct timespec *t)
{
	return (struct statx_timestamp){.tv_sec = t->tv_sec, .tv_nsec = (uint32_t)t->tv_nsec};
}

static void fill_statx(const struct idmap *map, const struct attr *a, struct statx *stx)
{
	*stx = (struct statx){
	    .stx_mask = STATX_BASIC_STATS,
	    .stx_blksize = a->blksize,
	    .stx_nlink = a->nlink,
	    .stx_uid = idmap_uid_in(map, a->uid),
	    .stx_gid = idmap_gid_in(map, a->gid),
	    .stx_mode = (uint16_t)a->mode,
	    .stx_ino = a->ino,
	    .stx_size = a->size,
	    .stx_blocks = a->blocks,
	    .stx_atime = timestamp(&a->atime),
	    .stx_ctime = timestamp(&a->ctime),
	    .stx_mtime = timestamp(&a->mtime),
	    .stx_rdev_major = major(a->rdev),
	    .stx_rdev_minor = minor(a->rdev),
	    .stx_dev_major = major(a->dev),
	    .stx_dev_minor = minor(a->dev),
	};
	if (a->btime.tv_sec || a->btime.tv_nsec) {
		stx->stx_mask |= STATX_BTIME;
		stx->stx_btime = timestamp(&a->btime);
	}
}

/* arg: where the program wants its struct stat. */
static int64_t stat_at(struct call *call, const struct vtarget *at, void *arg)
{
	const uint64_t *to = arg;
	struct attr attr;
	struct stat st;
	int r = vfs_stat(&call->ctx, at, &attr);

	if (r)
		return r;
	fill_stat(&call->container->map, &attr, &st);
	return ncall_put(call, *to, &st, sizeof(st));
}

static int64_t statx_at(struct call *call, const struct vtarget *at, void *arg)
{
	const uint64_t *to = arg;
	struct attr attr;
	struct statx stx;
	int r = vfs_stat(&call->ctx, at, &attr);

	if (r)
		return r;
	fill_statx(&call->container->map, &attr, &stx);
	return ncall_put(call, *to, &stx, sizeof(stx));
}

int64_t sys_stat(struct call *call)
{
	uint64_t to = call->arg[1];

	return place_call(call, AT_FDCWD, call->arg[0], 0, stat_at, &to);
}

int64_t sys_lstat(struct call *call)
{
	uint64_t to = call->arg[1];

	return place_call(call, AT_FDCWD, call->arg[0], AT_SYMLINK_NOFOLLOW, stat_at, &to);
}

int64_t sys_newfstatat(struct call *call)
{
	uint64_t to = call->arg[2];
	unsigned flags = (unsigned)call->arg[3];

	if (flags & ~(unsigned)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
		return CALL_CONTINUE;
	return place_call(call, (int)call->arg[0], call->arg[1], flags & ~AT_NO_AUTOMOUNT, stat_at,
			  &to);
}

int64_t sys_statx(struct call *call)
{
	uint64_t to = call->arg[4];
	unsigned flags = (unsigned)call->arg[2], mask = (unsigned)call->arg[3];
	unsigned known = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;

	if ((flags & ~known) || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE ||
	    (mask & STATX__RESERVED))
		return CALL_CONTINUE;
	return place_call(call, (int)call->arg[0], call->arg[1],
			  flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW), statx_at, &to);
}

int64_t sys_fstat(struct call *call)
{
	uint64_t to = call->arg[1];

	return descriptor_call(call, (int)call->arg[0], FD_ANY, stat_at, &to);
}

struct access_arg {
	int mask;
	bool effective;
};

static int64_t access_at(struct call *call, const struct vtarget *at, void *arg)
{
	const struct access_arg *a = arg;

	return vfs_access(&call->ctx, at, a->mask, a->effective);
}

static int64_t access_path(struct call *call, int dirfd, uint64_t path, uint64_t mask,
			   unsigned flags)
{
	struct access_arg a = {(int)mask, flags & AT_EACCESS};

	if ((a.mask & ~(R_OK | W_OK | X_OK)) ||
	    (flags & ~(unsigned)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
		return CALL_CONTINUE;
	return place_call(call, dirfd, path, flags & ~(unsigned)AT_EACCESS, access_at, &a);
}

int64_t sys_access(struct call *call)
{
	return access_path(call, AT_FDCWD, call->arg[0], call->arg[1], 0);
}

int64_t sys_faccessat(struct call *call)
{
	return access_path(call, (int)call->arg[0], call->arg[1], call->arg[2], 0);
}

int64_t sys_faccessat2(struct call *call)
{
	return access_path(call, (int)call->arg[0], call->arg[1], call->arg[2],
			   (unsigned)call->arg[3]);
}

static int64_t statfs_at(struct call *call, const struct vtarget *at, void *arg)
{
	const uint64_t *to = arg;
	struct statvfs v;
	struct statfs s;
	uint64_t type;
	int r = vfs_statfs(&call->ctx, at, &v, &type);

	if (r)
		return r;
	s = (struct statfs){
	    .f_type = (__fsword_t)type,
	    .f_bsize = (__fsword_t)v.f_bsize,
	    .f_blocks = v.f_blocks,
	    .f_bfree = v.f_bfree,
	    .f_bavail = v.f_bavail,
	    .f_files = v.f_files,
	    .f_ffree = v.f_ffree,
	    .f_namelen = (__fsword_t)v.f_namemax,
	    .f_frsize = (__fsword_t)v.f_frsize,
	    .f_flags = (__fsword_t)v.f_flag | 0x20, /* ST_VALID: the kernel's own mark */
	};
	memcpy(&s.f_fsid, &v.f_fsid, sizeof(s.f_fsid));
	return ncall_put(call, *to, &s, sizeof(s));
}

int64_t sys_statfs(struct call *call)
{
	uint64_t to = call->arg[1];

	return place_call(call, AT_FDCWD, call->arg[0], 0, statfs_at, &to);
}

int64_t sys_fstatfs(struct call *call)
{
	uint64_t to = call->arg[1];

	return descriptor_call(call, (int)call->arg[0], FD_ANY, statfs_at, &to);
}

struct readlink_arg {
	uint64_t to;
	size_t cap_bytes;
};

static int64_t readlink_at(struct call *call, const struct vtarget *at, void *arg)
{
	const struct readlink_arg *a = arg;
	char *buf = ncall_scratch(call)->data;
	ssize_t n = vfs_readlink(&call->ctx, at, buf, a->cap_bytes);
	int64_t r = n > 0 ? ncall_put(call, a->to, buf, (size_t)n) : 0;

	return r ? r : n;
}

static int64_t readlink_path(struct call *call, int dirfd, uint64_t path, unsigned flags,
			     uint64_t to, int cap)
{
	struct readlink_arg a = {to, cap > WIRE_PATH_MAX ? WIRE_PATH_MAX : (size_t)cap};

	if (cap <= 0)
		return CALL_CONTINUE;
	return place_call(call, dirfd, path, flags | AT_SYMLINK_NOFOLLOW, readlink_at, &a);
}

int64_t sys_readlink(struct call *call)
{
	return readlink_path(call, AT_FDCWD, call->arg[0], 0, call->arg[1], (int)call->arg[2]);
}

int64_t sys_readlinkat(struct call *call)
{
	int dirfd = (int)call->arg[0];

	return readlink_path(call, dirfd, call->arg[1], dirfd == AT_FDCWD ? 0 : AT_EMPTY_PATH,
			     call->arg[2], (int)call->arg[3]);
}
