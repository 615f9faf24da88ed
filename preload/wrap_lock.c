/* SPDX-License-Identifier: Apache-2.0 */
/* Record locks, whole-file locks, and lockf. */
#include "preload/position.h"
#include "preload/wrap.h"

#define SEEK_CUR_ 1
#define F_ULOCK_  0
#define F_LOCK_	  1
#define F_TLOCK_  2
#define F_TEST_	  3

long file_lock(struct ofile *f, int cmd, struct flock *lock)
{
	struct wire_lock wire;
	struct path_args args = {
	    .op = WIRE_LOCK, .mode = (uint32_t)cmd, .data = &wire, .data_bytes = sizeof(wire)};
	struct call call;
	uint64_t at;
	long r;

	if (bad_address(lock, sizeof(*lock)))
		return -EFAULT;
	if (f->flags & O_PATH)
		return -EBADF;
	wire = (struct wire_lock){.type = lock->l_type,
				  .whence = lock->l_whence,
				  .pid = lock->l_pid,
				  .start = lock->l_start,
				  .len = lock->l_len};
	if (wire.whence == SEEK_CUR_ && position_here(f, &at) &&
	    !__builtin_add_overflow((int64_t)at, wire.start, &wire.start))
		wire.whence = 0 /* SEEK_SET */;
	if (cmd == F_SETLK || cmd == F_SETLKW)
		root.locks_used = true;
	r = file_run(f, &args, &call);
	if (r == 0 && (cmd == F_GETLK || cmd == F_OFD_GETLK)) {
		memcpy(&wire, call.payload, sizeof(wire));
		lock->l_type = wire.type;
		if (wire.type != F_UNLCK) {
			lock->l_whence = wire.whence;
			lock->l_start = wire.start;
			lock->l_len = wire.len;
			lock->l_pid = wire.pid;
		}
	}
	call_end(&call);
	return r;
}

long file_flock(struct ofile *f, int operation)
{
	struct path_args args = {.op = WIRE_FLOCK, .mode = (uint32_t)operation};

	return f->flags & O_PATH ? -EBADF : file_do(f, &args);
}

static long lock_section(struct ofile *f, int cmd, long len_bytes)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR_, .l_len = len_bytes};
	long r;

	switch (cmd) {
	case F_TEST_:
		lock.l_type = F_RDLCK;
		r = file_lock(f, F_GETLK, &lock);
		return r < 0 || lock.l_type == F_UNLCK ? r : -EACCES;
	case F_ULOCK_:
		lock.l_type = F_UNLCK;
		return file_lock(f, F_SETLK, &lock);
	case F_LOCK_:
		return file_lock(f, F_SETLKW, &lock);
	case F_TLOCK_:
		return file_lock(f, F_SETLK, &lock);
	default:
		return -EINVAL;
	}
}

static long lockf_kernel(int fd, int cmd, long len_bytes)
{
	int r = LIBC(int, lockf)(fd, cmd, len_bytes);

	return r < 0 ? -*__errno_location() : r;
}

long do_lockf(int fd, int cmd, long len_bytes)
{
	if (cmd == F_LOCK_)
		cancel_point();
	return FD_CALL(fd, lock_section(f, cmd, len_bytes), lockf_kernel(fd, cmd, len_bytes));
}
