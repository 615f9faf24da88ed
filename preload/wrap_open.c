/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that make, copy and end descriptors. */
#include "preload/position.h"
#include "preload/wrap.h"

#ifndef O_TMPFILE
#define O_TMPFILE __O_TMPFILE
#endif
/* An open with no others changes nothing. */
#define LEASED_FLAGS	     (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | 0100000)
#define CLOSE_RANGE_UNSHARE_ 2
#define CLOSE_RANGE_CLOEXEC_ 4

/* POSIX gives the lowest free number, and programs that closed 0, 1 or 2 mean to get that one. */
static bool low_number_free(void)
{
	uint32_t closed = atomic_load_explicit(&root.low_closed, memory_order_relaxed);

	for (int fd = 0; closed && fd < 3; fd++) {
		if (!(closed & 1u << fd))
			continue;
		if (SYS(fcntl, fd, F_GETFD, 0) < 0)
			return true;
		atomic_fetch_and(&root.low_closed, ~(1u << fd));
	}
	return false;
}

static long open_kernel(struct target *target, int flags, unsigned mode)
{
	return KERNEL(*target, GATE(openat, target->dirfd, target->path, flags, mode, 0));
}

long do_openat(int dirfd, const char *path, int flags, unsigned mode)
{
	TARGET(target, dirfd, path);
	bool makes = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
	struct leased leased = {.open = 0};
	struct path_args args = {.op = WIRE_OPEN,
				 .flags = (uint32_t)(flags & ~O_CLOEXEC),
				 .mode = makes ? mode & 07777 : 0,
				 .leased = flags & ~LEASED_FLAGS ? NULL : &leased};
	struct ofile *file;
	struct call call;
	uint32_t handle = 0, type = 0;
	int r;

	call.slot = NULL;
	r = unlikely(root.low_closed) && low_number_free() ? PATH_KERNEL
							   : path_run(&target, &args, &call);
	if (r == 0) {
		handle = (uint32_t)call_reply(&call)->value;
		type = call_reply(&call)->attr.mode;
	}
	call_end(&call);
	/* pipes and devices are the kernel's own */
	if (r == PATH_KERNEL || r == -ENOTBLK)
		return open_kernel(&target, flags, makes ? mode : 0);
	if (r < 0)
		return r;
	if (r == PATH_LEASED) {
		file = leased.file;
	} else {
		file = ofile_new(handle, (uint32_t)flags, type);
		if (!file)
			return -ENFILE;
		position_start(file);
		atomic_store_explicit(&file->lease, leased.open, memory_order_relaxed);
	}
	r = fd_install(file, 0, flags & O_CLOEXEC);
	if (r < 0)
		ofile_put(file);
	return r;
}

long do_close(int fd)
{
	int error, r;

	if (likely(fd < root.fd_base)) {
		if (unlikely(fd >= 0 && fd < 3))
			atomic_fetch_or(&root.low_closed, 1u << fd);
		if (unlikely(fd_is_guarded(fd)) && !thread.vfork_child)
			return -EBADF;
		r = LIBC(int, close)(fd);
		return r < 0 ? -*__errno_location() : r;
	}
	r = fd_close(fd, &error);
	if (r == 0)
		return SYS(close, fd, 0, 0);
	return r < 0 ? r : error;
}

static long dup_light(struct ofile *f, int min, bool cloexec)
{
	long r = fd_install(ofile_ref(f), min, cloexec);

	if (r < 0)
		ofile_put(f);
	return r;
}

static long dup_file(struct ofile *f)
{
	int fd, r;

	if (!low_number_free())
		return dup_light(f, 0, false);
	r = file_to_kernel_fd(f, &fd);
	if (r == 0)
		SYS(fcntl, fd, F_SETFD, 0);
	return r < 0 ? r : fd;
}

long do_dup(int fd)
{
	return FD_CALL(fd, dup_file(f), SYS(dup, fd, 0, 0));
}

static long dup3_file(struct ofile *f, int to, int flags)
{
	int fd;
	long r;

	if (to >= root.fd_base && to < root_table()->light_limit && to < root.fd_limit) {
		r = fd_install_at(ofile_ref(f), to, flags & O_CLOEXEC);
		if (r < 0)
			ofile_put(f);
		return r;
	}
	/* from the new descriptor below the base: the filter has no word in that */
	r = file_to_kernel_fd(f, &fd);
	if (r < 0)
		return r;
	if (fd == to) {
		SYS(fcntl, fd, F_SETFD, flags & O_CLOEXEC ? FD_CLOEXEC : 0);
		return to;
	}
	r = SYS(dup3, fd, to, flags);
	SYS(close, fd, 0, 0);
	if (r >= root.fd_base)
		fd_set_native((int)r);
	return r;
}

static long dup3_kernel(int fd, int to, int flags)
{
	long r = SYS(dup3, fd, to, flags);

	if (r >= root.fd_base)
		fd_set_native((int)r);
	return r;
}

long do_dup3(int fd, int to, int flags, bool is_dup2)
{
	if (fd == to) {
		if (!is_dup2)
			return -EINVAL;
		return FD_CALL(fd, fd, SYS(dup2, fd, to, 0));
	}
	if (unlikely(fd_is_guarded(to)) && !thread.vfork_child)
		return -EBADF;
	return FD_CALL(fd,
		       to < 0 || flags & ~O_CLOEXEC ? (to < 0 ? -EBADF : -EINVAL)
						    : dup3_file(f, to, flags),
		       dup3_kernel(fd, to, flags));
}

static long fcntl_dup(struct ofile *f, int fd, long min, bool cloexec)
{
	int r;

	if (min < 0)
		return -EINVAL;
	if (min < root_table()->light_limit)
		return dup_light(f, (int)min, cloexec);
	r = file_to_kernel(f);
	return r < 0 ? r : SYS(fcntl, fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, min);
}

static long get_flags(struct ofile *f)
{
	struct path_args args = {.op = WIRE_GETFL};
	struct call call;
	long r = file_run(f, &args, &call);

	if (r == 0) /* a 64-bit kernel shows every file as large */
		r = (long)(call_reply(&call)->value | (f->flags & O_PATH ? 0 : 0100000));
	call_end(&call);
	return r;
}

static long fcntl_file(struct ofile *f, int fd, int cmd, unsigned long arg)
{
	struct path_args args = {.op = WIRE_SETFL, .flags = (uint32_t)arg};
	long r;

	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return fcntl_dup(f, fd, (int)arg, cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		r = fd_cloexec(fd);
		return r == -ENOENT ? SYS(fcntl, fd, cmd, arg) : r;
	case F_SETFD:
		r = fd_set_cloexec(fd, arg & FD_CLOEXEC);
		return r == -ENOENT ? SYS(fcntl, fd, cmd, arg) : r;
	case F_GETFL:
		return get_flags(f);
	case F_SETFL:
		return f->flags & O_PATH ? -EBADF : file_do(f, &args);
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return file_lock(f, cmd, (struct flock *)arg);
	case F_GETOWN:
	case F_SETOWN:
	case F_GETSIG:
	case F_SETSIG:
		return 0;
	case F_GETLEASE:
		return F_UNLCK;
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
		return -EBADF;
	case F_NOTIFY:
	case F_SETLEASE: /* between the kernel and its own file */
		r = file_to_kernel(f);
		return r < 0 ? r : SYS(fcntl, fd, cmd, arg);
	default:
		return -EINVAL;
	}
}

static long fcntl_kernel(int fd, int cmd, unsigned long arg)
{
	long r;

	if (cmd == F_SETLKW || cmd == F_OFD_SETLKW) { /* a cancellation point */
		r = LIBC(int, fcntl)(fd, cmd, arg);
		return r < 0 ? -*__errno_location() : r;
	}
	r = SYS(fcntl, fd, cmd, arg);
	if (r >= root.fd_base && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC))
		fd_set_native((int)r);
	return r;
}

long do_fcntl(int fd, int cmd, unsigned long arg)
{
	if (cmd == F_SETLKW || cmd == F_OFD_SETLKW)
		cancel_point();
	return FD_CALL(fd, fcntl_file(f, fd, cmd, arg), fcntl_kernel(fd, cmd, arg));
}

/* The kernel's numbers of a range, around our guarded ones. */
static long close_kernel_range(unsigned first, unsigned last, unsigned flags)
{
	unsigned guards[2] = {(unsigned)root.anchor, (unsigned)root.socket};
	long r = 0;

	if (guards[0] > guards[1]) {
		guards[0] = guards[1];
		guards[1] = (unsigned)root.anchor;
	}
	for (int i = 0; i < 2 && r >= 0; i++) {
		if ((int)guards[i] < 0 || guards[i] < first || guards[i] > last)
			continue;
		if (guards[i] > first)
			r = SYS(close_range, first, guards[i] - 1, flags);
		first = guards[i] + 1;
	}
	if (r >= 0 && first <= last)
		r = SYS(close_range, first, last, flags);
	return r;
}

long do_close_range(unsigned first, unsigned last, unsigned flags)
{
	unsigned base, high, fd;
	int error;

	if (first > last || flags & ~(CLOSE_RANGE_UNSHARE_ | CLOSE_RANGE_CLOEXEC_) ||
	    thread.vfork_child || !root.fds)
		return SYS(close_range, first, last, flags);
	if (flags & CLOSE_RANGE_UNSHARE_) {
		long r = SYS(unshare, 0x400 /* CLONE_FILES */, 0, 0);

		if (r < 0)
			return r;
		flags &= ~CLOSE_RANGE_UNSHARE_;
	}
	base = (unsigned)root.fd_base;
	high = (unsigned)fd_high();
	for (fd = first > base ? first : base; fd < high && fd <= last; fd++) {
		if (!(flags & CLOSE_RANGE_CLOEXEC_))
			fd_close((int)fd, &error);
		else
			fd_set_cloexec((int)fd, true);
	}
	return close_kernel_range(first, last, flags);
}

static void random_letters(char *letters)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	uint64_t random;

	if (SYS(getrandom, &random, sizeof(random), 1 /* GRND_NONBLOCK */) != sizeof(random))
		random = cpu_clock() * 0x9e3779b97f4a7c15ull;
	for (int i = 0; i < 6; i++, random /= 62)
		letters[i] = set[random % 62];
}

/* Where the six X of a template are; NULL when it has none. */
static char *template_letters(char *template, int suffix_bytes)
{
	size_t n = strlen(template);
	char *letters = template + n - 6 - suffix_bytes;

	if (suffix_bytes < 0 || n < 6 + (size_t)suffix_bytes)
		return NULL;
	for (int i = 0; i < 6; i++)
		if (letters[i] != 'X')
			return NULL;
	return letters;
}

#define TEMPORARY_TRIES 238328 /* as glibc */

long do_mkstemp(char *template, int suffix_bytes, int flags)
{
	char *letters = template_letters(template, suffix_bytes);

	if (!letters)
		return -EINVAL;
	for (int i = 0; i < TEMPORARY_TRIES; i++) {
		long fd;

		random_letters(letters);
		fd = do_openat(AT_FDCWD, template, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL,
			       0600);
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

long do_mkdtemp(char *template)
{
	char *letters = template_letters(template, 0);

	if (!letters)
		return -EINVAL;
	for (int i = 0; i < TEMPORARY_TRIES; i++) {
		long r;

		random_letters(letters);
		r = do_mkdirat(AT_FDCWD, template, 0700);
		if (r != -EEXIST)
			return r;
	}
	return -EEXIST;
}
