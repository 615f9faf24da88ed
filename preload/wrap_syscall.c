/* SPDX-License-Identifier: Apache-2.0 */
/* syscall(2): programs that make their calls by number get the same service. */
#include "preload/wrap.h"

/* A descriptor that only the kernel's own files have: ours becomes one first. */
static long with_kernel_file(int fd, long n, long a, long b, long c, long d, long e, long f_)
{
	struct ofile *f;

	if (fd_find(fd, &f) > 0) {
		file_to_kernel(f);
		ofile_put(f);
	}
	return sys6(n, a, b, c, d, e, f_);
}

static uint64_t at(long offset)
{
	return (uint64_t)offset;
}

long do_syscall(long n, long a, long b, long c, long d, long e, long g)
{
	switch (n) {
	case __NR_read:
		return FD_CALL((int)a, io_read(f, (void *)b, (size_t)c, AT_POSITION),
			       sys3(n, a, b, c));
	case __NR_write:
		return FD_CALL((int)a, io_write(f, (void *)b, (size_t)c, AT_POSITION),
			       sys3(n, a, b, c));
	case __NR_pread64:
		return FD_CALL((int)a, io_read(f, (void *)b, (size_t)c, at(d)),
			       sys4(n, a, b, c, d));
	case __NR_pwrite64:
		return FD_CALL((int)a, io_write(f, (void *)b, (size_t)c, at(d)),
			       sys4(n, a, b, c, d));
	case __NR_readv:
		return FD_CALL((int)a, io_readv(f, (void *)b, c, AT_POSITION, 0), sys3(n, a, b, c));
	case __NR_writev:
		return FD_CALL((int)a, io_writev(f, (void *)b, c, AT_POSITION, 0),
			       sys3(n, a, b, c));
	case __NR_preadv:
		return FD_CALL((int)a, io_readv(f, (void *)b, c, at(d), 0),
			       sys6(n, a, b, c, d, e, g));
	case __NR_pwritev:
		return FD_CALL((int)a, io_writev(f, (void *)b, c, at(d), 0),
			       sys6(n, a, b, c, d, e, g));
	case __NR_preadv2:
		return FD_CALL((int)a, io_readv(f, (void *)b, c, at(d), (int)g),
			       sys6(n, a, b, c, d, e, g));
	case __NR_pwritev2:
		return FD_CALL((int)a, io_writev(f, (void *)b, c, at(d), (int)g),
			       sys6(n, a, b, c, d, e, g));
	case __NR_open:
		return do_openat(AT_FDCWD, (char *)a, (int)b, (unsigned)c);
	case __NR_creat:
		return do_openat(AT_FDCWD, (char *)a, O_CREAT | O_WRONLY | O_TRUNC, (unsigned)b);
	case __NR_openat:
		return do_openat((int)a, (char *)b, (int)c, (unsigned)d);
	case __NR_close:
		return do_close((int)a);
	case __NR_close_range:
		return do_close_range((unsigned)a, (unsigned)b, (unsigned)c);
	case __NR_dup:
		return do_dup((int)a);
	case __NR_dup2:
		return do_dup3((int)a, (int)b, 0, true);
	case __NR_dup3:
		return do_dup3((int)a, (int)b, (int)c, false);
	case __NR_fcntl:
		return do_fcntl((int)a, (int)b, (unsigned long)c);
	case __NR_ioctl:
		return FD_CALL((int)a, file_ioctl(f, (int)a, (unsigned long)b, (void *)c),
			       sys3(n, a, b, c));
	case __NR_lseek:
		return do_lseek((int)a, b, (int)c);
	case __NR_fstat:
		return do_fstat((int)a, (void *)b);
	case __NR_stat:
		return do_fstatat(AT_FDCWD, (char *)a, (void *)b, 0);
	case __NR_lstat:
		return do_fstatat(AT_FDCWD, (char *)a, (void *)b, AT_SYMLINK_NOFOLLOW);
	case __NR_newfstatat:
		return do_fstatat((int)a, (char *)b, (void *)c, (int)d);
	case __NR_statx:
		return do_statx((int)a, (char *)b, (int)c, (unsigned)d, (void *)e);
	case __NR_access:
		return do_faccessat(AT_FDCWD, (char *)a, (int)b, 0);
	case __NR_faccessat:
		return do_faccessat((int)a, (char *)b, (int)c, 0);
	case __NR_faccessat2:
		return do_faccessat((int)a, (char *)b, (int)c, (int)d);
	case __NR_chmod:
		return do_fchmodat(AT_FDCWD, (char *)a, (unsigned)b, 0);
	case __NR_fchmod:
		return do_fchmod((int)a, (unsigned)b);
	case __NR_fchmodat:
		return do_fchmodat((int)a, (char *)b, (unsigned)c, 0);
	case __NR_chown:
		return do_fchownat(AT_FDCWD, (char *)a, (unsigned)b, (unsigned)c, 0);
	case __NR_lchown:
		return do_fchownat(AT_FDCWD, (char *)a, (unsigned)b, (unsigned)c,
				   AT_SYMLINK_NOFOLLOW);
	case __NR_fchown:
		return do_fchown((int)a, (unsigned)b, (unsigned)c);
	case __NR_fchownat:
		return do_fchownat((int)a, (char *)b, (unsigned)c, (unsigned)d, (int)e);
	case __NR_utimensat:
		return do_utimensat((int)a, (char *)b, (void *)c, (int)d);
	case __NR_truncate:
		return do_truncate((char *)a, b);
	case __NR_ftruncate:
		return do_ftruncate((int)a, b);
	case __NR_statfs:
		return do_statfs((char *)a, (void *)b);
	case __NR_fstatfs:
		return do_fstatfs((int)a, (void *)b);
	case __NR_mkdir:
		return do_mkdirat(AT_FDCWD, (char *)a, (unsigned)b);
	case __NR_mkdirat:
		return do_mkdirat((int)a, (char *)b, (unsigned)c);
	case __NR_mknodat:
		return do_mknodat((int)a, (char *)b, (unsigned)c, (uint64_t)d);
	case __NR_symlink:
		return do_symlinkat((char *)a, AT_FDCWD, (char *)b);
	case __NR_symlinkat:
		return do_symlinkat((char *)a, (int)b, (char *)c);
	case __NR_link:
		return do_linkat(AT_FDCWD, (char *)a, AT_FDCWD, (char *)b, 0);
	case __NR_linkat:
		return do_linkat((int)a, (char *)b, (int)c, (char *)d, (int)e);
	case __NR_unlink:
		return do_unlinkat(AT_FDCWD, (char *)a, 0);
	case __NR_rmdir:
		return do_unlinkat(AT_FDCWD, (char *)a, AT_REMOVEDIR);
	case __NR_unlinkat:
		return do_unlinkat((int)a, (char *)b, (int)c);
	case __NR_rename:
		return do_renameat2(AT_FDCWD, (char *)a, AT_FDCWD, (char *)b, 0);
	case __NR_renameat:
		return do_renameat2((int)a, (char *)b, (int)c, (char *)d, 0);
	case __NR_renameat2:
		return do_renameat2((int)a, (char *)b, (int)c, (char *)d, (unsigned)e);
	case __NR_readlink:
		return do_readlinkat(AT_FDCWD, (char *)a, (char *)b, (size_t)c);
	case __NR_readlinkat:
		return do_readlinkat((int)a, (char *)b, (char *)c, (size_t)d);
	case __NR_getdents64:
		return do_getdents64((int)a, (void *)b, (size_t)c);
	case __NR_fsync:
	case __NR_fdatasync:
		return FD_CALL((int)a, io_sync(f, n == __NR_fdatasync), sys3(n, a, b, c));
	case __NR_syncfs:
		return FD_CALL((int)a, file_do(f, &(struct path_args){.op = WIRE_SYNCFS}),
			       sys3(n, a, b, c));
	case __NR_fallocate:
		return FD_CALL((int)a, io_allocate(f, (int)b, c, d), sys4(n, a, b, c, d));
	case __NR_fadvise64:
		return -do_posix_fadvise((int)a, b, c, (int)d);
	case __NR_flock:
		return FD_CALL((int)a, file_flock(f, (int)b), sys3(n, a, b, c));
	case __NR_sendfile:
		return do_sendfile((int)a, (int)b, (long *)c, (size_t)d);
	case __NR_copy_file_range:
		return do_copy_file_range((int)a, (long *)b, (int)c, (long *)d, (size_t)e,
					  (unsigned)g);
	case __NR_splice:
		return do_splice((int)a, (long *)b, (int)c, (long *)d, (size_t)e, (unsigned)g);
	case __NR_mmap:
		return do_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, g);
	case __NR_getxattr:
	case __NR_lgetxattr:
		return do_getxattr(-1, (char *)a, (char *)b, (void *)c, (size_t)d,
				   n == __NR_getxattr ? 0 : AT_SYMLINK_NOFOLLOW);
	case __NR_fgetxattr:
		return do_getxattr((int)a, NULL, (char *)b, (void *)c, (size_t)d, 0);
	case __NR_chdir:
		return do_chdir((char *)a);
	case __NR_fchdir:
		return do_fchdir((int)a);
	case __NR_chroot:
		return do_chroot((char *)a);
	case __NR_umask:
		return do_umask((unsigned)a);
	case __NR_prlimit64:
		return do_prlimit((int)a, (unsigned)b, (void *)c, (void *)d);
	case __NR_execve:
		return do_execveat(AT_FDCWD, (char *)a, (void *)b, (void *)c, 0);
	case __NR_execveat:
		return do_execveat((int)a, (char *)b, (void *)c, (void *)d, (int)e);
	case __NR_inotify_add_watch:
		return do_inotify_add_watch((int)a, (char *)b, (uint32_t)c);
	case __NR_capset:
		return rights_changed(sys3(n, a, b, c));
	case __NR_openat2:
	case __NR_name_to_handle_at:
	case __NR_pidfd_getfd:
	case __NR_mount_setattr:
	case __NR_open_tree:
		return with_kernel_file((int)a, n, a, b, c, d, e, g);
	case __NR_io_submit:
		io_submit_export(b, (char *const *)c);
		return sys3(n, a, b, c);
	case __NR_fork:
	case __NR_vfork:
	case __NR_clone:
	case __NR_clone3:
		fork_prepare();
		return sys6(n, a, b, c, d, e, g);
	default:
		return sys6(n, a, b, c, d, e, g);
	}
}
