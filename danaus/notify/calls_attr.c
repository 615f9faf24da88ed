/* SPDX-License-Identifier: Apache-2.0 */
/* Changing attributes: mode, owner, size, times. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

#include "danaus/notify/calls_fd.h"
#include "danaus/notify/resolve.h"

static int64_t setattr_at(struct call *call, const struct vtarget *at, void *arg)
{
	const struct setattr *set = arg;
	struct attr attr;

	if (!set->set)
		return vfs_stat(&call->ctx, at, &attr);
	if (!(set->set & ATTR_SIZE))
		return vfs_setattr(&call->ctx, at, set, &attr);
	ncall_need_fsize(call);
	return file_too_large(call, vfs_setattr(&call->ctx, at, set, &attr));
}

static int64_t chmod_path(struct call *call, int dirfd, uint64_t path, uint64_t mode,
			  unsigned flags)
{
	struct setattr set = {.set = ATTR_MODE, .attr.mode = mode & 07777};

	if (flags & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return CALL_CONTINUE;
	return place_call(call, dirfd, path, flags, setattr_at, &set);
}

int64_t sys_chmod(struct call *call)
{
	return chmod_path(call, AT_FDCWD, call->arg[0], call->arg[1], 0);
}

int64_t sys_fchmodat(struct call *call)
{
	return chmod_path(call, (int)call->arg[0], call->arg[1], call->arg[2], 0);
}

int64_t sys_fchmodat2(struct call *call)
{
	return chmod_path(call, (int)call->arg[0], call->arg[1], call->arg[2],
			  (unsigned)call->arg[3]);
}

int64_t sys_fchmod(struct call *call)
{
	struct setattr set = {.set = ATTR_MODE, .attr.mode = call->arg[1] & 07777};

	return descriptor_call(call, (int)call->arg[0], FD_OPEN, setattr_at, &set);
}

/* False: an id without a number on the host. */
static bool owner(struct call *call, uint64_t uid, uint64_t gid, struct setattr *set)
{
	const struct idmap *map = &call->container->map;

	if ((uid_t)uid != (uid_t)-1) {
		set->set |= ATTR_UID;
		if (!idmap_uid_out(map, (uid_t)uid, &set->attr.uid))
			return false;
	}
	if ((gid_t)gid != (gid_t)-1) {
		set->set |= ATTR_GID;
		if (!idmap_gid_out(map, (gid_t)gid, &set->attr.gid))
			return false;
	}
	return true;
}

static int64_t chown_path(struct call *call, int dirfd, uint64_t path, uint64_t uid, uint64_t gid,
			  unsigned flags)
{
	struct setattr set = {0};

	/* EINVAL, but only where the path is good: the kernel's word through the face. */
	if (!owner(call, uid, gid, &set) ||
	    (flags & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
		return CALL_CONTINUE;
	return place_call(call, dirfd, path, flags, setattr_at, &set);
}

int64_t sys_chown(struct call *call)
{
	return chown_path(call, AT_FDCWD, call->arg[0], call->arg[1], call->arg[2], 0);
}

int64_t sys_lchown(struct call *call)
{
	return chown_path(call, AT_FDCWD, call->arg[0], call->arg[1], call->arg[2],
			  AT_SYMLINK_NOFOLLOW);
}

int64_t sys_fchownat(struct call *call)
{
	return chown_path(call, (int)call->arg[0], call->arg[1], call->arg[2], call->arg[3],
			  (unsigned)call->arg[4]);
}

int64_t sys_fchown(struct call *call)
{
	struct setattr set = {0};

	if (!owner(call, call->arg[1], call->arg[2], &set))
		return -EINVAL;
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, setattr_at, &set);
}

int64_t sys_truncate(struct call *call)
{
	struct setattr set = {.set = ATTR_SIZE, .attr.size = call->arg[1]};

	if ((int64_t)call->arg[1] < 0)
		return CALL_CONTINUE;
	return place_call(call, AT_FDCWD, call->arg[0], 0, setattr_at, &set);
}

static int64_t ftruncate_at(struct call *call, const struct vtarget *at, void *arg)
{
	if ((vfile_flags(at->file) & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	return setattr_at(call, at, arg);
}

int64_t sys_ftruncate(struct call *call)
{
	struct setattr set = {.set = ATTR_SIZE, .attr.size = call->arg[1]};

	if ((int64_t)call->arg[1] < 0)
		return -EINVAL;
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, ftruncate_at, &set);
}

static void set_times(struct setattr *set, struct timespec atime, struct timespec mtime)
{
	if (atime.tv_nsec != UTIME_OMIT)
		set->set |= ATTR_ATIME;
	if (mtime.tv_nsec != UTIME_OMIT)
		set->set |= ATTR_MTIME;
	set->attr.atime = atime;
	set->attr.mtime = mtime;
}

static const struct timespec now = {.tv_nsec = UTIME_NOW};

int64_t sys_utime(struct call *call)
{
	struct setattr set = {0};
	struct utimbuf t;

	if (!call->arg[1])
		set_times(&set, now, now);
	else if (memory_read(call->tid, call->arg[1], &t, sizeof(t)))
		return CALL_CONTINUE;
	else
		set_times(&set, (struct timespec){.tv_sec = t.actime},
			  (struct timespec){.tv_sec = t.modtime});
	return place_call(call, AT_FDCWD, call->arg[0], 0, setattr_at, &set);
}

static int64_t utimes_path(struct call *call, int dirfd, uint64_t path, uint64_t times)
{
	struct setattr set = {0};
	struct timeval t[2];

	if (!times) {
		set_times(&set, now, now);
	} else {
		if (memory_read(call->tid, times, t, sizeof(t)))
			return CALL_CONTINUE;
		for (int i = 0; i < 2; i++)
			if (t[i].tv_usec < 0 || t[i].tv_usec >= 1000000)
				return CALL_CONTINUE;
		set_times(&set, (struct timespec){t[0].tv_sec, t[0].tv_usec * 1000},
			  (struct timespec){t[1].tv_sec, t[1].tv_usec * 1000});
	}
	if (!path && dirfd != AT_FDCWD)
		return descriptor_call(call, dirfd, FD_OPEN, setattr_at, &set);
	return place_call(call, dirfd, path, 0, setattr_at, &set);
}

int64_t sys_utimes(struct call *call)
{
	return utimes_path(call, AT_FDCWD, call->arg[0], call->arg[1]);
}

int64_t sys_futimesat(struct call *call)
{
	return utimes_path(call, (int)call->arg[0], call->arg[1], call->arg[2]);
}

int64_t sys_utimensat(struct call *call)
{
	int dirfd = (int)call->arg[0];
	uint64_t path = call->arg[1], times = call->arg[2];
	unsigned flags = (unsigned)call->arg[3];
	struct setattr set = {0};
	struct timespec t[2] = {now, now};

	if (flags & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return CALL_CONTINUE;
	if (times && memory_read(call->tid, times, t, sizeof(t)))
		return CALL_CONTINUE;
	for (int i = 0; i < 2; i++)
		if (t[i].tv_nsec != UTIME_NOW && t[i].tv_nsec != UTIME_OMIT &&
		    (t[i].tv_nsec < 0 || t[i].tv_nsec >= 1000000000))
			return CALL_CONTINUE;
	/* Nothing to do: the kernel does not even look at the path. */
	if (t[0].tv_nsec == UTIME_OMIT && t[1].tv_nsec == UTIME_OMIT)
		return CALL_CONTINUE;
	set_times(&set, t[0], t[1]);
	if (!path && dirfd != AT_FDCWD && !flags)
		return descriptor_call(call, dirfd, FD_OPEN, setattr_at, &set);
	return place_call(call, dirfd, path, flags, setattr_at, &set);
}
