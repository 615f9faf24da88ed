/* SPDX-License-Identifier: Apache-2.0 */
/* Record locks (POSIX and open file description) and flock(2) through the kernel face. The vfs
 * keeps the books for all doors. On the face's threads; a blocked call keeps its thread, of which
 * there are always more (face.c). */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "danaus/base/fd.h"

#ifndef NS_GET_PID_FROM_PIDNS
#define NS_GET_PID_FROM_PIDNS _IOR(0xb7, 0x6, int)
#endif

/* A call that may block: the kernel's FUSE_INTERRUPT or the end of the face sets cancel. */
struct face_waiter {
	struct vfs *vfs;
	atomic_bool cancel;
	struct face_waiter *next, **prev;
};

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct face_waiter *waiter = arg;

	atomic_store(&waiter->cancel, true);
	vfs_cancel(waiter->vfs);
}

static int wait_begin(struct face_call *call, struct face_waiter *waiter)
{
	struct face_mount *face = call->face;
	int r = 0;

	*waiter = (struct face_waiter){.vfs = face->container->pool->vfs, .prev = &face->waiters};
	pthread_mutex_lock(&face->lock);
	if (face->stopping || face->nwaiters >= FACE_WAITERS_MAX) {
		r = face->stopping ? -EINTR : -ENOLCK;
	} else {
		face->nwaiters++;
		waiter->next = face->waiters;
		if (waiter->next)
			waiter->next->prev = &waiter->next;
		face->waiters = waiter;
	}
	pthread_mutex_unlock(&face->lock);
	if (r < 0)
		return r;
	call->ctx.cancel = &waiter->cancel;
	fuse_req_interrupt_func(call->req, on_interrupt, waiter);
	return 0;
}

static void wait_end(struct face_call *call, struct face_waiter *waiter)
{
	struct face_mount *face = call->face;

	fuse_req_interrupt_func(call->req, NULL, NULL); /* waits for a running on_interrupt() */
	call->ctx.cancel = NULL;
	pthread_mutex_lock(&face->lock);
	*waiter->prev = waiter->next;
	if (waiter->next)
		waiter->next->prev = waiter->prev;
	face->nwaiters--;
	pthread_mutex_unlock(&face->lock);
}

void face_locks_cancel(struct face_mount *face)
{
	pthread_mutex_lock(&face->lock);
	for (struct face_waiter *w = face->waiters; w; w = w->next)
		atomic_store(&w->cancel, true);
	pthread_mutex_unlock(&face->lock);
	vfs_cancel(face->container->pool->vfs);
}

/* The protocol does not tell F_OFD_SETLK from F_SETLK. The caller sleeps in its fcntl(2) until we
 * answer, and the kernel shows the arguments (proc_pid_syscall(5)). */
static bool is_ofd(pid_t tid)
{
	char path[64], text[256];

	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	for (int i = 0; i < 1000; i++) {
		int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		unsigned long cmd;

		if (n <= 0)
			return false;
		text[n] = '\0';
		if (strncmp(text, "running", 7) == 0) { /* on its way to sleep */
			sched_yield();
			continue;
		}
		return sscanf(text, "%*d %*x %lx", &cmd) == 1 &&
		       (cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW);
	}
	return false;
}

/* The vfs names processes as their own pid namespace does, the protocol as the service's. 0 (the
 * kernel shows none) where it has no number or the kernel is older than 6.11. */
static pid_t host_pid(struct face_call *call, pid_t pid)
{
	int fd CLEANUP_FD = -1;
	char path[64];
	int r;

	if (!call->process || pid <= 0)
		return pid;
	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)call->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -1 : ioctl(fd, NS_GET_PID_FROM_PIDNS, pid);
	return r > 0 ? r : 0;
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct face_file *file = (struct face_file *)(uintptr_t)fi->fh;
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_LOCK, AS_CALLER, 0);
	lock->l_pid = 0;
	if (r == 0)
		r = vfs_lock(&call.ctx, file->file, is_ofd(call.tid) ? F_OFD_GETLK : F_GETLK, lock);
	if (r < 0) {
		face_call_reply(&call, r);
		return;
	}
	if (lock->l_type != F_UNLCK)
		lock->l_pid = host_pid(&call, lock->l_pid);
	fuse_reply_lock(req, lock);
	face_call_end(&call, 0);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
		     int sleep)
{
	struct face_file *file = (struct face_file *)(uintptr_t)fi->fh;
	struct face_waiter waiter;
	struct face_call call;
	bool ofd;
	int r;

	r = face_call_begin(&call, req, WIRE_LOCK, AS_CALLER, 0);
	lock->l_pid = 0;
	ofd = r == 0 && is_ofd(call.tid);
	if (r == 0 && sleep && lock->l_type != F_UNLCK) {
		r = wait_begin(&call, &waiter);
		if (r == 0) {
			r = vfs_lock(&call.ctx, file->file, ofd ? F_OFD_SETLKW : F_SETLKW, lock);
			wait_end(&call, &waiter);
		}
	} else if (r == 0) {
		r = vfs_lock(&call.ctx, file->file, ofd ? F_OFD_SETLK : F_SETLK, lock);
	}
	face_call_reply(&call, r);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int operation)
{
	struct face_file *file = (struct face_file *)(uintptr_t)fi->fh;
	struct face_waiter waiter;
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_FLOCK, AS_CALLER, 0);
	if (r == 0 && !(operation & (LOCK_NB | LOCK_UN))) {
		r = wait_begin(&call, &waiter);
		if (r == 0) {
			r = vfs_flock(&call.ctx, file->file, operation);
			wait_end(&call, &waiter);
		}
	} else if (r == 0) {
		r = vfs_flock(&call.ctx, file->file, operation);
	}
	face_call_reply(&call, r);
}

void face_locks_ops(struct fuse_lowlevel_ops *ops)
{
	ops->getlk = op_getlk;
	ops->setlk = op_setlk;
	ops->flock = op_flock;
}
