/* SPDX-License-Identifier: Apache-2.0 */
/* Data: reading, writing, positions, directories, copies. A read or write moves DATA_BYTES at a
 * time through the receiver's buffer. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/notify/calls_fd.h"

#define RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND)

int64_t descriptor_open_file(struct call *call, int fd, struct vfile **ret)
{
	int64_t r = descriptor_find(call, fd, ret);

	if (!r && (vfile_flags(*ret) & O_PATH)) {
		vfile_unref(*ret);
		*ret = NULL;
		return -EBADF;
	}
	return r;
}

int64_t descriptor_call(struct call *call, int fd, enum fd_kind kind, place_fn fn, void *arg)
{
	struct vtarget at = {.path = ""};
	CLEANUP_VFILE struct vfile *file = NULL;
	int64_t r = kind == FD_OPEN ? descriptor_open_file(call, fd, &file)
				    : descriptor_find(call, fd, &file);

	if (!r)
		r = ncall_begin(call);
	if (r)
		return r;
	at.file = file;
	return fn(call, &at, arg);
}

int64_t file_too_large(struct call *call, int64_t result)
{
	if (result != -EFBIG || call->ctx.fsize_limit == UINT64_MAX)
		return result;
	/* Its memory may have kept us waiting until its number was another process's. */
	call->valid_ns = 0;
	if (!ncall_waits(call))
		return CALL_GONE;
	syscall(SYS_tgkill, process_pid(call->caller->process), call->tid, SIGXFSZ);
	return result;
}

/* The caller's buffers of a read or write: one, or an iovec array. */
static int buffers(struct call *call, bool vector, struct memory_iov *iov)
{
	struct scratch *scratch = ncall_scratch(call);

	if (!scratch)
		return -ENOMEM;
	iov->iov = scratch->iov;
	if (vector)
		return memory_iov_read(call->tid, call->arg[1], call->arg[2], iov);
	memory_iov_one(iov, call->arg[1], call->arg[2]);
	return (int64_t)call->arg[2] < 0 ? -EINVAL : 0;
}

static int64_t begin_io(struct call *call, bool vector, uint64_t offset, struct memory_iov *iov,
			struct vfile **ret)
{
	int64_t r = descriptor_open_file(call, (int)call->arg[0], ret);

	if (r)
		return r;
	if (offset != VFS_AT_POSITION && (int64_t)offset < 0)
		return -EINVAL;
	r = buffers(call, vector, iov);
	return r ? r : ncall_begin(call);
}

static int64_t read_file(struct call *call, bool vector, uint64_t offset)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	struct memory_iov iov;
	int64_t r = begin_io(call, vector, offset, &iov, &file);
	char *data;
	size_t done = 0;

	if (r)
		return r;
	data = ncall_scratch(call)->data;
	do {
		size_t want =
		    iov.total_bytes - done > DATA_BYTES ? DATA_BYTES : iov.total_bytes - done;
		struct iovec local = {data, want};
		ssize_t n = vfs_read(&call->ctx, file, &local, 1,
				     offset == VFS_AT_POSITION ? offset : offset + done);
		ssize_t moved;

		if (n < 0)
			return done ? (int64_t)done : n;
		if (!ncall_waits(call))
			return CALL_GONE;
		moved = memory_scatter(call->tid, &iov, data, (size_t)n);
		if (moved < n && offset == VFS_AT_POSITION)
			vfs_seek(&call->ctx, file, (moved > 0 ? moved : 0) - n, SEEK_CUR);
		if (moved < 0)
			return done ? (int64_t)done : moved == -ESRCH ? CALL_GONE : moved;
		done += (size_t)moved;
		call->bytes = done;
		if (moved < n || (size_t)n < want)
			break;
	} while (done < iov.total_bytes);
	return (int64_t)done;
}

static int64_t write_file(struct call *call, bool vector, uint64_t offset, int flags)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	struct memory_iov iov;
	int64_t r = begin_io(call, vector, offset, &iov, &file);
	char *data;
	size_t done = 0;

	if (r)
		return r;
	ncall_need_fsize(call);
	data = ncall_scratch(call)->data;
	do {
		size_t want =
		    iov.total_bytes - done > DATA_BYTES ? DATA_BYTES : iov.total_bytes - done;
		struct iovec local = {data, 0};
		ssize_t got, n;

		if (!ncall_waits(call))
			return CALL_GONE;
		got = memory_gather(call->tid, &iov, data, want);
		if (got < 0)
			return done ? (int64_t)done : got == -ESRCH ? CALL_GONE : got;
		local.iov_len = (size_t)got;
		n = vfs_write(&call->ctx, file, &local, 1,
			      offset == VFS_AT_POSITION ? offset : offset + done,
			      flags & RWF_APPEND);
		if (n < 0)
			return done ? (int64_t)done : file_too_large(call, n);
		done += (size_t)n;
		call->bytes = done;
		if (n < got || (size_t)got < want)
			break;
	} while (done < iov.total_bytes);
	if (flags & (RWF_DSYNC | RWF_SYNC)) {
		r = vfs_fsync(&call->ctx, file, !(flags & RWF_SYNC));
		if (r)
			return r;
	}
	return (int64_t)done;
}

int64_t sys_read(struct call *call)
{
	return read_file(call, false, VFS_AT_POSITION);
}

/* A position of -1 is an error here, where the vfs knows it as "the file's own". */
int64_t sys_pread64(struct call *call)
{
	return (int64_t)call->arg[3] < 0 ? -EINVAL : read_file(call, false, call->arg[3]);
}

int64_t sys_readv(struct call *call)
{
	return read_file(call, true, VFS_AT_POSITION);
}

int64_t sys_preadv(struct call *call)
{
	return (int64_t)call->arg[3] < 0 ? -EINVAL : read_file(call, true, call->arg[3]);
}

int64_t sys_preadv2(struct call *call)
{
	if ((uint32_t)call->arg[5] & ~(uint32_t)RWF_KNOWN)
		return -EOPNOTSUPP;
	if ((int64_t)call->arg[3] < -1)
		return -EINVAL;
	return read_file(call, true, call->arg[3]);
}

int64_t sys_write(struct call *call)
{
	return write_file(call, false, VFS_AT_POSITION, 0);
}

int64_t sys_pwrite64(struct call *call)
{
	return (int64_t)call->arg[3] < 0 ? -EINVAL : write_file(call, false, call->arg[3], 0);
}

int64_t sys_writev(struct call *call)
{
	return write_file(call, true, VFS_AT_POSITION, 0);
}

int64_t sys_pwritev(struct call *call)
{
	return (int64_t)call->arg[3] < 0 ? -EINVAL : write_file(call, true, call->arg[3], 0);
}

int64_t sys_pwritev2(struct call *call)
{
	if ((uint32_t)call->arg[5] & ~(uint32_t)RWF_KNOWN)
		return -EOPNOTSUPP;
	if ((int64_t)call->arg[3] < -1)
		return -EINVAL;
	return write_file(call, true, call->arg[3], (int)call->arg[5]);
}

static int64_t lseek_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)arg;
	return vfs_seek(&call->ctx, at->file, (int64_t)call->arg[1], (int)call->arg[2]);
}

int64_t sys_lseek(struct call *call)
{
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, lseek_at, NULL);
}

/* The records of getdents(2), of the same size as those of getdents64(2): the type goes from before
 * the name to the record's last byte. */
static void to_old_dirents(char *buf, size_t len_bytes)
{
	size_t reclen;

	for (size_t at = 0; at < len_bytes; at += reclen) {
		char *record = buf + at;
		uint16_t len;
		char type = record[18];

		memcpy(&len, record + 16, sizeof(len));
		reclen = len;
		memmove(record + 18, record + 19, reclen - 19);
		record[reclen - 1] = type;
	}
}

static int64_t getdents_at(struct call *call, const struct vtarget *at, void *arg)
{
	const bool *old = arg;
	char *buf = ncall_scratch(call)->data;
	size_t cap = (uint32_t)call->arg[2] > DATA_BYTES ? DATA_BYTES : (uint32_t)call->arg[2];
	uint64_t next;
	int64_t r;
	ssize_t n = vfs_readdir(&call->ctx, at->file, VFS_AT_POSITION, buf, cap, &next);

	if (n <= 0)
		return n;
	if (*old)
		to_old_dirents(buf, (size_t)n);
	r = ncall_put(call, call->arg[1], buf, (size_t)n);
	return r ? r : n;
}

int64_t sys_getdents64(struct call *call)
{
	bool old = false;

	return descriptor_call(call, (int)call->arg[0], FD_OPEN, getdents_at, &old);
}

int64_t sys_getdents(struct call *call)
{
	bool old = true;

	return descriptor_call(call, (int)call->arg[0], FD_OPEN, getdents_at, &old);
}

static int64_t fsync_at(struct call *call, const struct vtarget *at, void *arg)
{
	const bool *data_only = arg;

	ncall_may_block(call);
	return vfs_fsync(&call->ctx, at->file, *data_only);
}

int64_t sys_fsync(struct call *call)
{
	bool data_only = false;

	return descriptor_call(call, (int)call->arg[0], FD_OPEN, fsync_at, &data_only);
}

int64_t sys_fdatasync(struct call *call)
{
	bool data_only = true;

	return descriptor_call(call, (int)call->arg[0], FD_OPEN, fsync_at, &data_only);
}

static int64_t syncfs_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)arg;
	ncall_may_block(call);
	return vfs_syncfs(&call->ctx, at->file);
}

int64_t sys_syncfs(struct call *call)
{
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, syncfs_at, NULL);
}

static int64_t fallocate_at(struct call *call, const struct vtarget *at, void *arg)
{
	int64_t offset = (int64_t)call->arg[2], len = (int64_t)call->arg[3];

	(void)arg;
	if (offset < 0 || len <= 0)
		return -EINVAL;
	if (offset > INT64_MAX - len)
		return -EFBIG;
	if ((vfile_flags(at->file) & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	ncall_need_fsize(call);
	return file_too_large(call, vfs_allocate(&call->ctx, at->file, (int)call->arg[1],
						 (uint64_t)offset, (uint64_t)len));
}

int64_t sys_fallocate(struct call *call)
{
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, fallocate_at, NULL);
}

static int64_t nothing_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)call;
	(void)at;
	(void)arg;
	return 0;
}

/* Advice that the service has no use for. */
int64_t sys_nothing(struct call *call)
{
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, nothing_at, NULL);
}

/* The kernel copies: both descriptors become its own. */
static int64_t by_kernel(struct call *call, int a, int b)
{
	int64_t r = descriptor_to_kernel(call, a);

	if (!r && b != a)
		r = descriptor_to_kernel(call, b);
	return r ? r : CALL_CONTINUE;
}

int64_t sys_kernel_02(struct call *call)
{
	return by_kernel(call, (int)call->arg[0], (int)call->arg[2]);
}

static int64_t copy(struct call *call, int in_fd, uint64_t in_addr, int out_fd, uint64_t out_addr,
		    uint64_t len_bytes)
{
	CLEANUP_VFILE struct vfile *in = NULL;
	CLEANUP_VFILE struct vfile *out = NULL;
	uint64_t in_offset = VFS_AT_POSITION, out_offset = VFS_AT_POSITION;
	int64_t r = in_fd < call->container->fd_base || out_fd < call->container->fd_base
			? CALL_CONTINUE
			: descriptor_open_file(call, in_fd, &in);
	ssize_t n;

	if (!r)
		r = descriptor_open_file(call, out_fd, &out);
	if (r == CALL_CONTINUE)
		return by_kernel(call, in_fd, out_fd);
	if (r)
		return r;
	if ((in_addr && memory_read(call->tid, in_addr, &in_offset, 8)) ||
	    (out_addr && memory_read(call->tid, out_addr, &out_offset, 8)))
		return -EFAULT;
	if ((in_addr && (int64_t)in_offset < 0) || (out_addr && (int64_t)out_offset < 0))
		return -EINVAL;
	r = ncall_begin(call);
	if (r)
		return r;
	ncall_need_fsize(call);
	ncall_may_block(call);
	n = vfs_copy(&call->ctx, in, in_offset, out, out_offset,
		     len_bytes > MEMORY_TOTAL_MAX ? MEMORY_TOTAL_MAX : len_bytes);
	if (n < 0)
		return file_too_large(call, n);
	call->bytes = (uint64_t)n;
	in_offset += (uint64_t)n;
	out_offset += (uint64_t)n;
	if (in_addr && (r = ncall_put(call, in_addr, &in_offset, 8)))
		return r;
	if (out_addr && (r = ncall_put(call, out_addr, &out_offset, 8)))
		return r;
	return n;
}

int64_t sys_copy_file_range(struct call *call)
{
	if ((uint32_t)call->arg[5])
		return -EINVAL;
	return copy(call, (int)call->arg[0], call->arg[1], (int)call->arg[2], call->arg[3],
		    call->arg[4]);
}

int64_t sys_sendfile(struct call *call)
{
	return copy(call, (int)call->arg[1], call->arg[2], (int)call->arg[0], 0, call->arg[3]);
}
