/* SPDX-License-Identifier: Apache-2.0 */
/* The intercepted calls, one function per system call or libc function that has a meaning of its
 * own. All return a result or a negative errno, for descriptors and paths of any owner; interpose.c
 * gives them the names that programs call. */
#pragma once

#include "preload/fdtab.h"
#include "preload/libc.h"
#include "preload/path.h"

/* A request on an open file without a path. args->op decides whether an empty path goes along. */
int file_run(struct ofile *file, const struct path_args *args, struct call *call);
/* The same, for calls that only fail or not. */
int file_do(struct ofile *file, const struct path_args *args);
/* For an operation on a path that only fails or not: PATH_KERNEL as path_run(). */
int path_do(struct target *target, const struct path_args *args);

/* Libc's calls are cancellation points, ours are not: a thread that was cancelled ends here, before
 * it holds anything of ours. One that waits already, for a lock, gets it first. */
static inline void cancel_point(void)
{
	if (root.fds && !thread.vfork_child)
		libc_testcancel();
}

/* Descriptor calls: `ours` (an expression over f) when the descriptor is ours, else `theirs`. */
#define FD_CALL(fd, ours, theirs)                                                                  \
	({                                                                                         \
		struct ofile *f;                                                                   \
		int found_ = fd_find(fd, &f);                                                      \
		long ret_;                                                                         \
		if (likely(found_ == 0)) {                                                         \
			ret_ = (theirs);                                                           \
		} else if (found_ < 0) {                                                           \
			ret_ = found_;                                                             \
		} else {                                                                           \
			ret_ = (ours);                                                             \
			ofile_put(f);                                                              \
		}                                                                                  \
		ret_;                                                                              \
	})

/* The kernel's turn, by the target's own directory descriptor or one made for it. */
#define KERNEL(target, call)                                                                       \
	({                                                                                         \
		int dir_;                                                                          \
		long kernel_ = target_kernel_dir(&(target), &dir_);                                \
		if (kernel_ >= 0)                                                                  \
			kernel_ = (call);                                                          \
		if (dir_ >= 0)                                                                     \
			SYS(close, dir_, 0, 0);                                                    \
		kernel_;                                                                           \
	})

/* wrap_open.c */
long do_openat(int dirfd, const char *path, int flags, unsigned mode);
long do_close(int fd);
long do_dup(int fd);
long do_dup3(int fd, int to, int flags, bool is_dup2);
long do_fcntl(int fd, int cmd, unsigned long arg);
long do_close_range(unsigned first, unsigned last, unsigned flags);
long do_mkstemp(char *template, int suffix_bytes, int flags);
long do_mkdtemp(char *template);

/* wrap_io.c */
#define AT_POSITION WIRE_AT_POSITION
long io_read(struct ofile *f, void *buf, size_t len_bytes, uint64_t offset);
long io_write(struct ofile *f, const void *buf, size_t len_bytes, uint64_t offset);
long io_readv(struct ofile *f, const struct iovec *iov, long niov, uint64_t offset, int flags);
long io_writev(struct ofile *f, const struct iovec *iov, long niov, uint64_t offset, int flags);
long io_seek(struct ofile *f, long offset, int whence);
long do_lseek(int fd, long offset, int whence);
long io_sync(struct ofile *f, bool data_only);
long io_allocate(struct ofile *f, int mode, long offset, long len_bytes);
long do_sendfile(int out, int in, long *offset, size_t len_bytes);
long do_copy_file_range(int in, long *in_offset, int out, long *out_offset, size_t len_bytes,
			unsigned flags);
long do_splice(int in, long *in_offset, int out, long *out_offset, size_t len_bytes,
	       unsigned flags);
/* Errors as numbers, as the two functions of these names return them. */
int do_posix_fallocate(int fd, long offset, long len_bytes);
int do_posix_fadvise(int fd, long offset, long len_bytes, int advice);

/* wrap_attr.c */
/* fstat(2), as the service says it. */
long file_attr(struct ofile *f, struct wire_attr *ret);
void attr_to_stat(const struct wire_attr *attr, struct stat *ret);
long do_fstat(int fd, struct stat *ret);
long do_fstatat(int dirfd, const char *path, struct stat *ret, int flags);
long do_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *ret);
long do_faccessat(int dirfd, const char *path, int mode, int flags);
long do_fchmodat(int dirfd, const char *path, unsigned mode, int flags);
long do_fchmod(int fd, unsigned mode);
long do_fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags);
long do_fchown(int fd, unsigned uid, unsigned gid);
long do_utimensat(int dirfd, const char *path, const struct timespec_ *times, int flags);
/* timeval, utimbuf: microseconds and seconds */
long do_utimes(int dirfd, const char *path, const struct timespec_ *times, int flags);
long do_utime(const char *path, const long *times);
long do_truncate(const char *path, long len_bytes);
long do_ftruncate(int fd, long len_bytes);
long do_statfs(const char *path, struct statfs *ret);
long do_fstatfs(int fd, struct statfs *ret);
long do_statvfs(const char *path, void *ret);
long do_fstatvfs(int fd, void *ret);

/* wrap_xattr.c: fd >= 0: of the descriptor, else of path */
long do_getxattr(int fd, const char *path, const char *name, void *value, size_t cap_bytes,
		 int flags);
long do_setxattr(int fd, const char *path, const char *name, const void *value, size_t len_bytes,
		 int xattr_flags, int flags);
long do_listxattr(int fd, const char *path, char *names, size_t cap_bytes, int flags);
long do_removexattr(int fd, const char *path, const char *name, int flags);

/* wrap_names.c */
long do_mknodat(int dirfd, const char *path, unsigned mode, uint64_t rdev);
long do_mkdirat(int dirfd, const char *path, unsigned mode);
long do_symlinkat(const char *content, int dirfd, const char *path);
long do_linkat(int from_dirfd, const char *from, int to_dirfd, const char *to, int flags);
long do_unlinkat(int dirfd, const char *path, int flags);
long do_remove(const char *path);
long do_renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags);
long do_readlinkat(int dirfd, const char *path, char *buf, size_t cap_bytes);

/* wrap_dir.c: streams of the client library's own for directories of ours */
void *do_opendir(const char *path);
void *do_fdopendir(int fd);
void *do_readdir(void *stream);
int do_readdir_r(void *stream, void *entry, void **ret);
long do_closedir(void *stream);
void do_rewinddir(void *stream);
void do_seekdir(void *stream, long position);
long do_telldir(void *stream);
long do_dirfd(void *stream);
long do_getdents64(int fd, void *buf, size_t cap_bytes);
long do_getdirentries(int fd, void *buf, size_t cap_bytes, long *position);

/* wrap_proc.c */
void fork_prepare(void);
void fork_child(void);
void exec_prepare(void);
void exec_failed(void);
long do_execveat(int dirfd, const char *path, char *const *argv, char *const *envp, int flags);
long do_fexecve(int fd, char *const *argv, char *const *envp);
long do_clone(int (*fn)(void *), void *stack, int flags, void *arg, void *ptid, void *tls,
	      void *ctid);
long do_chdir(const char *path);
long do_fchdir(int fd);
long do_chroot(const char *path);
long do_umask(unsigned mask);
/* After the process changed who it is; returns r. */
long rights_changed(long r);
long do_prlimit(int pid, unsigned resource, const struct rlimit_ *set, struct rlimit_ *ret);
/* The program's own view of its RLIMIT_NOFILE; -1 when it is the kernel's. */
long program_open_max(void);

/* wrap_lock.c */
long file_lock(struct ofile *f, int cmd, struct flock *lock);
long file_flock(struct ofile *f, int operation);
long do_lockf(int fd, int cmd, long len_bytes);

/* wrap_misc.c */
long do_mmap(void *at, size_t len_bytes, int prot, int flags, int fd, long offset);
/* The kernel's own asynchronous calls know only its own files. */
void io_submit_export(long n, char *const *calls);
long file_ioctl(struct ofile *f, int fd, unsigned long request, void *arg);
long do_poll(struct pollfd_ *fds, unsigned long nfds, const struct timespec_ *timeout,
	     const void *signals);
long do_select(int nfds, uint64_t *in, uint64_t *out, uint64_t *except,
	       const struct timespec_ *timeout, const void *signals);
bool poll_is_ours(const struct pollfd_ *fds, unsigned long nfds);
void message_export(const struct msg_header *msg);
void message_adopt(struct msg_header *msg, int flags);
long do_inotify_add_watch(int fd, const char *path, uint32_t mask);
/* syscall(2) for numbers that have a meaning here. */
long do_syscall(long n, long a, long b, long c, long d, long e, long f);
