/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: the stat, access, chmod, chown, utime, truncate and statfs families. */
#include "preload/lease.h"
#include "preload/wrap.h"

#define UTIME_NOW_  0x3fffffff
#define UTIME_OMIT_ 0x3ffffffe

static uint64_t device(uint32_t major, uint32_t minor)
{
	return (uint64_t)(major & 0xfff) << 8 | (minor & 0xff) | (uint64_t)(minor & ~0xffu) << 12 |
	       (uint64_t)(major & ~0xfffu) << 32;
}

void attr_to_stat(const struct wire_attr *attr, struct stat *ret)
{
	*ret = (struct stat){
	    .st_dev = device(attr->dev_major, attr->dev_minor),
	    .st_ino = attr->ino,
	    .st_nlink = attr->nlink,
	    .st_mode = attr->mode,
	    .st_uid = attr->uid,
	    .st_gid = attr->gid,
	    .st_rdev = device(attr->rdev_major, attr->rdev_minor),
	    .st_size = (long)attr->size,
	    .st_blksize = attr->blksize,
	    .st_blocks = (long)attr->blocks,
	    .st_atime = (unsigned long)attr->atime.sec,
	    .st_atime_nsec = attr->atime.nsec,
	    .st_mtime = (unsigned long)attr->mtime.sec,
	    .st_mtime_nsec = attr->mtime.nsec,
	    .st_ctime = (unsigned long)attr->ctime.sec,
	    .st_ctime_nsec = attr->ctime.nsec,
	};
}

static struct statx_timestamp stamp(const struct wire_time *time)
{
	return (struct statx_timestamp){.tv_sec = time->sec, .tv_nsec = time->nsec};
}

static void attr_to_statx(const struct wire_attr *attr, struct statx *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->stx_mask = STATX_BASIC_STATS | (attr->btime.sec || attr->btime.nsec ? STATX_BTIME : 0);
	ret->stx_blksize = attr->blksize;
	ret->stx_nlink = attr->nlink;
	ret->stx_uid = attr->uid;
	ret->stx_gid = attr->gid;
	ret->stx_mode = (uint16_t)attr->mode;
	ret->stx_ino = attr->ino;
	ret->stx_size = attr->size;
	ret->stx_blocks = attr->blocks;
	ret->stx_atime = stamp(&attr->atime);
	ret->stx_btime = stamp(&attr->btime);
	ret->stx_ctime = stamp(&attr->ctime);
	ret->stx_mtime = stamp(&attr->mtime);
	ret->stx_rdev_major = attr->rdev_major;
	ret->stx_rdev_minor = attr->rdev_minor;
	ret->stx_dev_major = attr->dev_major;
	ret->stx_dev_minor = attr->dev_minor;
}

long file_attr(struct ofile *f, struct wire_attr *ret)
{
	struct lease_key key = {.from = f->serial, .rest = "", .flags = WIRE_STAT << 24};
	struct path_args args = {.op = WIRE_STAT};
	uint64_t clock_ns = 0;
	struct call call;
	long r;

	if (lease_wanted()) {
		if (lease_find(&key, ret) == 0)
			return 0;
		args.size = sizeof(struct lease);
		clock_ns = lease_clock_ns();
	} else {
		lease_missed();
	}
	r = file_run(f, &args, &call);
	if (r == 0) {
		lease_keep(&key, clock_ns, &call, 0);
		*ret = call_reply(&call)->attr;
	}
	call_end(&call);
	return r;
}

static long stat_file(struct ofile *f, struct stat *ret)
{
	struct wire_attr attr;
	long r;

	if (bad_address(ret, sizeof(*ret)))
		return -EFAULT;
	r = file_attr(f, &attr);
	if (r == 0)
		attr_to_stat(&attr, ret);
	return r;
}

/* What a path names, as path_run() without a call. */
static long attr_of_path(struct target *target, int flags, struct wire_attr *ret)
{
	struct leased leased;
	struct path_args args = {
	    .op = WIRE_STAT, .flags = (uint32_t)flags & AT_SYMLINK_NOFOLLOW, .leased = &leased};
	struct call call;
	long r = path_run(target, &args, &call);

	if (r == 0)
		*ret = call_reply(&call)->attr;
	else if (r == PATH_LEASED)
		*ret = leased.attr;
	call_end(&call);
	return r == PATH_LEASED ? 0 : r;
}

long do_fstat(int fd, struct stat *ret)
{
	return FD_CALL(fd, stat_file(f, ret), SYS(fstat, fd, ret, 0));
}

/* path "" or NULL with AT_EMPTY_PATH: the descriptor itself */
static bool means_fd(int dirfd, const char *path, int flags)
{
	return flags & AT_EMPTY_PATH && dirfd >= 0 && (!path || (!bad_address(path, 1) && !*path));
}

long do_fstatat(int dirfd, const char *path, struct stat *ret, int flags)
{
	TARGET(target, dirfd, path);
	struct wire_attr attr;
	long r;

	if (unlikely(means_fd(dirfd, path, flags)) && fd_is_ours(dirfd))
		return do_fstat(dirfd, ret);
	r = bad_address(ret, sizeof(*ret)) ? PATH_KERNEL : attr_of_path(&target, flags, &attr);
	if (r == 0)
		attr_to_stat(&attr, ret);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(newfstatat, target.dirfd, target.path, ret, flags, 0));
	return r;
}

static long statx_file(struct ofile *f, struct statx *ret)
{
	struct wire_attr attr;
	long r;

	if (bad_address(ret, sizeof(*ret)))
		return -EFAULT;
	r = file_attr(f, &attr);
	if (r == 0)
		attr_to_statx(&attr, ret);
	return r;
}

long do_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *ret)
{
	TARGET(target, dirfd, path);
	struct wire_attr attr;
	long r;

	if (unlikely(means_fd(dirfd, path, flags)) && fd_is_ours(dirfd))
		return FD_CALL(dirfd, statx_file(f, ret), -EBADF);
	r = bad_address(ret, sizeof(*ret)) || mask & 0x80000000u
		? PATH_KERNEL
		: attr_of_path(&target, flags, &attr);
	if (r == 0)
		attr_to_statx(&attr, ret);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(statx, target.dirfd, target.path, flags, mask, ret));
	return r;
}

static long access_kernel(struct target *target, int mode, int flags)
{
	long r = -ENOSYS;

	if (flags)
		r = GATE(faccessat2, target->dirfd, target->path, mode, flags, 0);
	if (r == -ENOSYS && !(flags & AT_EACCESS))
		r = GATE(faccessat, target->dirfd, target->path, mode, 0, 0);
	if (r == -ENOSYS) {
		r = LIBC(int, faccessat)(target->dirfd, target->path, mode, flags);
		r = r < 0 ? -*__errno_location() : r;
	}
	return r;
}

long do_faccessat(int dirfd, const char *path, int mode, int flags)
{
	TARGET(target, dirfd, path);
	struct leased leased;
	struct path_args args = {.op = WIRE_ACCESS,
				 .flags = (uint32_t)flags & (AT_EACCESS | AT_SYMLINK_NOFOLLOW),
				 .mode = (uint32_t)mode,
				 .leased = &leased};
	long r;

	if (mode & ~7)
		return -EINVAL;
	if (means_fd(dirfd, path, flags) && fd_is_ours(dirfd))
		return FD_CALL(dirfd, file_do(f, &args), -EBADF);
	r = path_do(&target, &args);
	if (r == PATH_LEASED)
		return 0;
	return r == PATH_KERNEL ? KERNEL(target, access_kernel(&target, mode, flags)) : r;
}

static long chmod_kernel(struct target *target, unsigned mode, int flags)
{
	long r;

	if (!flags)
		return GATE(fchmodat, target->dirfd, target->path, mode, 0, 0);
	r = LIBC(int, fchmodat)(target->dirfd, target->path, mode, flags);
	return r < 0 ? -*__errno_location() : r;
}

long do_fchmodat(int dirfd, const char *path, unsigned mode, int flags)
{
	TARGET(target, dirfd, path);
	struct wire_attr attr = {.mode = mode & 07777};
	struct path_args args = {.op = WIRE_SETATTR,
				 .flags = (uint32_t)flags & AT_SYMLINK_NOFOLLOW,
				 .set = WIRE_SET_MODE,
				 .set_attr = &attr};
	long r;

	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (means_fd(dirfd, path, flags) && fd_is_ours(dirfd))
		return do_fchmod(dirfd, mode);
	r = path_do(&target, &args);
	return r == PATH_KERNEL ? KERNEL(target, chmod_kernel(&target, mode, flags)) : r;
}

static long set_file(struct ofile *f, unsigned set, const struct wire_attr *attr)
{
	struct path_args args = {.op = WIRE_SETATTR, .set = set, .set_attr = attr};

	if (f->flags & O_PATH && set != (WIRE_SET_ATIME | WIRE_SET_MTIME))
		return -EBADF;
	return file_do(f, &args);
}

long do_fchmod(int fd, unsigned mode)
{
	struct wire_attr attr = {.mode = mode & 07777};

	return FD_CALL(fd, set_file(f, WIRE_SET_MODE, &attr), SYS(fchmod, fd, mode, 0));
}

long do_fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	TARGET(target, dirfd, path);
	struct wire_attr attr = {.uid = uid, .gid = gid};
	struct path_args args = {.op = WIRE_SETATTR,
				 .flags = (uint32_t)flags & AT_SYMLINK_NOFOLLOW,
				 .set = (uid != ~0u ? WIRE_SET_UID : 0) |
					(gid != ~0u ? WIRE_SET_GID : 0),
				 .set_attr = &attr};
	long r;

	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (means_fd(dirfd, path, flags) && fd_is_ours(dirfd))
		return FD_CALL(dirfd, file_do(f, &args), -EBADF);
	r = path_do(&target, &args);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(fchownat, target.dirfd, target.path, uid, gid, flags));
	return r;
}

long do_fchown(int fd, unsigned uid, unsigned gid)
{
	struct wire_attr attr = {.uid = uid, .gid = gid};
	unsigned set = (uid != ~0u ? WIRE_SET_UID : 0) | (gid != ~0u ? WIRE_SET_GID : 0);

	return FD_CALL(fd, set_file(f, set, &attr), SYS(fchown, fd, uid, gid));
}

static bool bad_time(const struct timespec_ *time)
{
	return (unsigned long)time->nsec > 999999999 && time->nsec != UTIME_NOW_ &&
	       time->nsec != UTIME_OMIT_;
}

long do_utimensat(int dirfd, const char *path, const struct timespec_ *times, int flags)
{
	struct timespec_ now[2] = {{0, UTIME_NOW_}, {0, UTIME_NOW_}};
	TARGET(target, dirfd, path);
	struct wire_attr attr;
	struct path_args args = {
	    .op = WIRE_SETATTR, .flags = (uint32_t)flags & AT_SYMLINK_NOFOLLOW, .set_attr = &attr};
	const struct timespec_ *set = times ? times : now;
	long r;

	if (bad_address(set, sizeof(now)))
		return -EFAULT;
	if (bad_time(&set[0]) || bad_time(&set[1]) ||
	    flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (set[0].nsec != UTIME_OMIT_)
		args.set |= WIRE_SET_ATIME;
	if (set[1].nsec != UTIME_OMIT_)
		args.set |= WIRE_SET_MTIME;
	if (!args.set)
		return 0; /* as the kernel, which does not even look at the path */
	attr.atime = (struct wire_time){.sec = set[0].sec, .nsec = (uint32_t)set[0].nsec};
	attr.mtime = (struct wire_time){.sec = set[1].sec, .nsec = (uint32_t)set[1].nsec};
	if (!path || means_fd(dirfd, path, flags))
		return FD_CALL(dirfd, f->flags & O_PATH && !path ? -EBADF : file_do(f, &args),
			       SYS4(utimensat, dirfd, path, times, flags));
	r = path_do(&target, &args);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(utimensat, target.dirfd, target.path, times, flags, 0));
	return r;
}

long do_utimes(int dirfd, const char *path, const struct timespec_ *times, int flags)
{
	struct timespec_ nanoseconds[2];

	if (!times)
		return do_utimensat(dirfd, path, NULL, flags);
	if (bad_address(times, sizeof(nanoseconds)))
		return -EFAULT;
	for (int i = 0; i < 2; i++) {
		if ((unsigned long)times[i].nsec > 999999)
			return -EINVAL;
		nanoseconds[i] = (struct timespec_){times[i].sec, times[i].nsec * 1000};
	}
	return do_utimensat(dirfd, path, nanoseconds, flags);
}

long do_utime(const char *path, const long *times)
{
	struct timespec_ set[2];

	if (!times)
		return do_utimensat(AT_FDCWD, path, NULL, 0);
	if (bad_address(times, 2 * sizeof(*times)))
		return -EFAULT;
	set[0] = (struct timespec_){times[0], 0};
	set[1] = (struct timespec_){times[1], 0};
	return do_utimensat(AT_FDCWD, path, set, 0);
}

long do_truncate(const char *path, long len_bytes)
{
	TARGET(target, AT_FDCWD, path);
	struct wire_attr attr = {.size = (uint64_t)len_bytes};
	struct path_args args = {.op = WIRE_SETATTR, .set = WIRE_SET_SIZE, .set_attr = &attr};
	long r;

	if (len_bytes < 0)
		return -EINVAL;
	r = path_do(&target, &args);
	return r == PATH_KERNEL ? GATE(truncate, target.path, len_bytes, 0, 0, 0) : r;
}

static long truncate_file(struct ofile *f, long len_bytes)
{
	struct wire_attr attr = {.size = (uint64_t)len_bytes};

	if (len_bytes < 0 || (f->flags & O_ACCMODE) == O_RDONLY)
		return f->flags & O_PATH ? -EBADF : -EINVAL;
	return set_file(f, WIRE_SET_SIZE, &attr);
}

long do_ftruncate(int fd, long len_bytes)
{
	return FD_CALL(fd, truncate_file(f, len_bytes), SYS(ftruncate, fd, len_bytes, 0));
}

static long put_statfs(long r, struct call *call, struct statfs *ret)
{
	if (r == 0) {
		struct wire_statfs wire;

		memcpy(&wire, call->payload, sizeof(wire));
		memset(ret, 0, sizeof(*ret));
		ret->f_type = (long)wire.type;
		ret->f_bsize = (long)wire.bsize;
		ret->f_blocks = (long)wire.blocks;
		ret->f_bfree = (long)wire.bfree;
		ret->f_bavail = (long)wire.bavail;
		ret->f_files = (long)wire.files;
		ret->f_ffree = (long)wire.ffree;
		ret->f_fsid.val[0] = (int)wire.fsid;
		ret->f_fsid.val[1] = (int)(wire.fsid >> 32);
		ret->f_namelen = (long)wire.namelen;
		ret->f_frsize = (long)wire.frsize;
		ret->f_flags = (long)wire.flags | 0x20 /* ST_VALID */;
	}
	call_end(call);
	return r;
}

long do_statfs(const char *path, struct statfs *ret)
{
	TARGET(target, AT_FDCWD, path);
	struct path_args args = {.op = WIRE_STATFS};
	struct call call;
	long r;

	if (bad_address(ret, sizeof(*ret)))
		return -EFAULT;
	r = put_statfs(path_run(&target, &args, &call), &call, ret);
	return r == PATH_KERNEL ? GATE(statfs, target.path, ret, 0, 0, 0) : r;
}

static long statfs_file(struct ofile *f, struct statfs *ret)
{
	struct path_args args = {.op = WIRE_STATFS};
	struct call call;

	if (bad_address(ret, sizeof(*ret)))
		return -EFAULT;
	return put_statfs(file_run(f, &args, &call), &call, ret);
}

long do_fstatfs(int fd, struct statfs *ret)
{
	return FD_CALL(fd, statfs_file(f, ret), SYS(fstatfs, fd, ret, 0));
}

/* statvfs(3), the layout of every 64-bit libc up to namemax, and zeros behind. */
struct statvfs_ {
	unsigned long bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag,
	    namemax;
	int spare[6];
};

static long to_statvfs(long r, const struct statfs *st, struct statvfs_ *ret)
{
	if (r == 0)
		*ret = (struct statvfs_){
		    .bsize = (unsigned long)st->f_bsize,
		    .frsize = (unsigned long)(st->f_frsize ? st->f_frsize : st->f_bsize),
		    .blocks = (unsigned long)st->f_blocks,
		    .bfree = (unsigned long)st->f_bfree,
		    .bavail = (unsigned long)st->f_bavail,
		    .files = (unsigned long)st->f_files,
		    .ffree = (unsigned long)st->f_ffree,
		    .favail = (unsigned long)st->f_ffree,
		    .fsid = (unsigned)st->f_fsid.val[0] | (unsigned long)st->f_fsid.val[1] << 32,
		    .flag = (unsigned long)st->f_flags & ~0x20ul,
		    .namemax = (unsigned long)st->f_namelen,
		};
	return r;
}

long do_statvfs(const char *path, void *ret)
{
	struct statfs st;

	return to_statvfs(do_statfs(path, &st), &st, ret);
}

long do_fstatvfs(int fd, void *ret)
{
	struct statfs st;

	return to_statvfs(do_fstatfs(fd, &st), &st, ret);
}
