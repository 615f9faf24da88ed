/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors themselves: duplicates, flags, locks, and the calls that only the kernel's own file
 * can serve. */
#include "danaus/notify/calls_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

static int64_t kernel_then_continue(struct call *call, int fd)
{
	int64_t r = descriptor_to_kernel(call, fd);

	return r ? r : CALL_CONTINUE;
}

int64_t sys_mmap(struct call *call)
{
	if (call->arg[3] & MAP_ANONYMOUS)
		return CALL_CONTINUE;
	return kernel_then_continue(call, (int)call->arg[4]);
}

/* A kernel file of what fd names, in the caller as number (-1: the lowest free one), as the call's
 * answer. */
static int64_t answer_kernel_file(struct call *call, struct vfile *file, int number, int flags)
{
	CLEANUP_FD int kernel = -1;
	int64_t r = ncall_begin(call);
	int added;

	if (!r)
		r = descriptor_kernel_file(call, file, &kernel);
	if (r)
		return r;
	added = ncall_add_descriptor(call, kernel, number, flags, true);
	return added >= 0 ? CALL_ANSWERED : added == -ENOENT ? CALL_GONE : added;
}

/* Whether one of standard input, output and error is free: who duplicates then means to get it. */
static bool standard_is_free(struct call *call)
{
	for (int fd = 0; fd < 3; fd++) {
		int copy =
		    (int)syscall(SYS_pidfd_getfd, process_pidfd(call->caller->process), fd, 0);

		if (copy < 0)
			return errno == EBADF;
		fd_close(copy);
	}
	return false;
}

static int64_t duplicate(struct call *call, int fd, int flags, bool lowest)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	CLEANUP_FD int anchor = -1;
	int64_t r = descriptor_find_anchor(call, fd, &file, &anchor);

	if (!r)
		r = ncall_begin(call);
	if (r)
		return r;
	if (lowest && standard_is_free(call))
		return answer_kernel_file(call, file, -1, flags);
	r = descriptor_give_anchor(call, anchor, flags);
	return r == CALL_CONTINUE ? answer_kernel_file(call, file, -1, flags) : r;
}

int64_t sys_dup(struct call *call)
{
	return duplicate(call, (int)call->arg[0], 0, true);
}

/* Below the base the program must have a kernel file. From the base on an anchor may be duplicated
 * as it is; not by the kernel, which refuses numbers above the soft limit of open files, even where
 * one is open. */
static int64_t dup_onto(struct call *call, int from, int to, int flags)
{
	int base = call->container->fd_base;
	CLEANUP_VFILE struct vfile *file = NULL;
	int64_t r;

	if (to < 0 || from == to)
		return CALL_CONTINUE;
	if (to < base) {
		r = descriptor_find(call, from, &file);
		return r ? r : answer_kernel_file(call, file, to, flags);
	}
	/* What stood there is closed by this. */
	r = descriptor_find(call, to, &file);
	if (!r)
		vfile_close_owner(file, process_owner(call->caller->process));
	return descriptor_replace(call, from, to, flags);
}

int64_t sys_dup2(struct call *call)
{
	return dup_onto(call, (int)call->arg[0], (int)call->arg[1], 0);
}

int64_t sys_dup3(struct call *call)
{
	if ((int)call->arg[2] & ~O_CLOEXEC)
		return CALL_CONTINUE;
	return dup_onto(call, (int)call->arg[0], (int)call->arg[1], (int)call->arg[2]);
}

static int64_t lock_at(struct call *call, const struct vtarget *at, void *arg)
{
	int cmd = (int)call->arg[1];
	struct flock lock, want;
	int64_t r = ncall_get(call, call->arg[2], &lock, sizeof(lock));

	(void)arg;
	if (r)
		return r;
	want = lock;
	if ((cmd == F_SETLKW || cmd == F_OFD_SETLKW) && !ncall_may_block(call)) {
		r = vfs_lock(&call->ctx, at->file, cmd == F_SETLKW ? F_SETLK : F_OFD_SETLK, &lock);
		if (r == -EAGAIN)
			r = -ENOLCK;
	} else {
		r = vfs_lock(&call->ctx, at->file, cmd, &lock);
	}
	/* unless who holds it has closed the file or ended in the meantime */
	if (r == -EAGAIN && container_settle(call->container)) {
		lock = want;
		r = vfs_lock(&call->ctx, at->file, cmd, &lock);
	}
	if (!r && (cmd == F_SETLK || cmd == F_SETLKW) && want.l_type != F_UNLCK) {
		/* Granted to a process that was gone by then: nobody else would give it back. */
		call->valid_ns = 0;
		if (!ncall_waits(call)) {
			want.l_type = F_UNLCK;
			vfs_lock(&call->ctx, at->file, F_SETLK, &want);
			return CALL_GONE;
		}
	}
	if (!r && (cmd == F_GETLK || cmd == F_OFD_GETLK))
		r = ncall_put(call, call->arg[2], &lock, sizeof(lock));
	return r;
}

static int64_t getfl_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)call;
	(void)arg;
	return vfile_flags(at->file);
}

static int64_t setfl_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)arg;
	return vfs_setfl(&call->ctx, at->file, (int)call->arg[2]);
}

int64_t sys_fcntl(struct call *call)
{
	int fd = (int)call->arg[0];

	switch ((int)call->arg[1]) {
	case F_GETFD:
	case F_SETFD:
		return CALL_CONTINUE; /* of the number, not of the file */
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		if ((int)call->arg[2] < 0 || (int)call->arg[2] >= call->container->fd_base)
			return CALL_CONTINUE; /* the kernel duplicates the anchor */
		return duplicate(call, fd, (int)call->arg[1] == F_DUPFD ? 0 : O_CLOEXEC, false);
	case F_GETFL:
		return descriptor_call(call, fd, FD_ANY, getfl_at, NULL);
	case F_SETFL:
		return descriptor_call(call, fd, FD_OPEN, setfl_at, NULL);
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return descriptor_call(call, fd, FD_OPEN, lock_at, NULL);
	default:
		return kernel_then_continue(call, fd);
	}
}

static int64_t flock_at(struct call *call, const struct vtarget *at, void *arg)
{
	int operation = (int)call->arg[1];
	int64_t r;

	(void)arg;
	if ((operation & LOCK_NB) || operation == LOCK_UN || ncall_may_block(call))
		return vfs_flock(&call->ctx, at->file, operation);
	r = vfs_flock(&call->ctx, at->file, operation | LOCK_NB);
	return r == -EAGAIN ? -ENOLCK : r;
}

int64_t sys_flock(struct call *call)
{
	return descriptor_call(call, (int)call->arg[0], FD_OPEN, flock_at, NULL);
}

static int64_t fionread_at(struct call *call, const struct vtarget *at, void *arg)
{
	struct attr attr;
	int64_t position;
	int left, r;

	(void)arg;
	if (vnode_type(vfile_node(at->file)) != S_IFREG)
		return -ENOTTY;
	r = vfs_stat(&call->ctx, at, &attr);
	if (r)
		return r;
	position = vfs_seek(&call->ctx, at->file, 0, SEEK_CUR);
	left = position < 0 || (uint64_t)position > attr.size
		   ? 0
		   : (int)(attr.size - (uint64_t)position);
	return ncall_put(call, call->arg[2], &left, sizeof(left));
}

static int64_t notty_at(struct call *call, const struct vtarget *at, void *arg)
{
	(void)call;
	(void)at;
	(void)arg;
	return -ENOTTY;
}

int64_t sys_ioctl(struct call *call)
{
	uint32_t request = (uint32_t)call->arg[1];

	switch (request) {
	case FIOCLEX:
	case FIONCLEX:
		return CALL_CONTINUE; /* of the number */
	case FIONREAD:
		return descriptor_call(call, (int)call->arg[0], FD_OPEN, fionread_at, NULL);
	}
	/* Terminals, and what asks whether this is one. */
	if ((request & 0xff00) == 0x5400 && request != FIONBIO && request != FIOASYNC)
		return descriptor_call(call, (int)call->arg[0], FD_OPEN, notty_at, NULL);
	return kernel_then_continue(call, (int)call->arg[0]);
}

/* Descriptors that travel in one message become kernel files: the receiver gets them under numbers
 * below the base. */
static int64_t send_rights(struct call *call, uint64_t addr)
{
	struct msghdr msg;
	struct scratch *scratch;
	int64_t r = 0;

	if (memory_read(call->tid, addr, &msg, sizeof(msg)) || !msg.msg_control ||
	    msg.msg_controllen < CMSG_LEN(sizeof(int)))
		return 0;
	scratch = ncall_scratch(call);
	if (!scratch)
		return -ENOMEM;
	if (msg.msg_controllen > DATA_BYTES)
		msg.msg_controllen = DATA_BYTES;
	if (memory_read(call->tid, (uintptr_t)msg.msg_control, scratch->data, msg.msg_controllen))
		return 0;
	msg.msg_control = scratch->data;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c && !r; c = CMSG_NXTHDR(&msg, c)) {
		size_t room = (size_t)(scratch->data + msg.msg_controllen - (char *)c);
		size_t len = c->cmsg_len < room ? c->cmsg_len : room;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= len && !r; at += sizeof(int)) {
			int fd;

			memcpy(&fd, (char *)c + at, sizeof(fd));
			r = descriptor_to_kernel(call, fd);
		}
	}
	return r;
}

int64_t sys_sendmsg(struct call *call)
{
	int64_t r = send_rights(call, call->arg[1]);

	return r ? r : CALL_CONTINUE;
}

int64_t sys_sendmmsg(struct call *call)
{
	unsigned n = (unsigned)call->arg[2];
	int64_t r = 0;

	for (unsigned i = 0; i < n && i < 1024 && !r; i++)
		r = send_rights(call, call->arg[1] + i * sizeof(struct mmsghdr));
	return r ? r : CALL_CONTINUE;
}
