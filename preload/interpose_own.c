/* SPDX-License-Identifier: Apache-2.0 */
/* The intercepted functions that no table can express (variable arguments, vfork), and what the
 * table's values need beside the wrappers. */
#include "preload/interpose.h"

#define EXPORT	       __attribute__((visibility("default")))
#define CLONE_NEWNS_   0x20000
#define CLONE_NEWUSER_ 0x10000000

void close_from(int first)
{
	int high;

	if (do_close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0) != -ENOSYS)
		return;
	high = (int)LIBC(long, sysconf)(SC_OPEN_MAX_);
	for (int fd = first < 0 ? 0 : first; fd < high; fd++)
		do_close(fd);
}

/* struct aiocb begins with the descriptor in every libc. */
void aio_export(const int *cb)
{
	if (!bad_address(cb, sizeof(*cb)))
		fd_export(*cb);
}

void aio_export_list(int *const *list, int n)
{
	for (int i = 0; i < n; i++)
		if (list[i])
			aio_export(list[i]);
}

void stdio_forget(void *file)
{
	int error;

	if (!root.fds) /* nothing of ours was ever seen */
		return;
	error = *__errno_location();
	if (file)
		fd_forget(LIBC(int, fileno)(file));
	*__errno_location() = error;
}

int stdio_closed(int r)
{
	for (int fd = root.fd_base; root.fds && fd < fd_high(); fd++)
		if (SYS(fcntl, fd, F_GETFD, 0) == -EBADF)
			fd_forget(fd);
	return r;
}

/* A child of libc's own making: its file actions are libc's, on the kernel's descriptors. */
void spawn_prepare(void)
{
	fork_prepare();
	exec_prepare();
}

int daemonized(int r)
{
	if (r == 0 && root_on())
		path_forget_cwd(true);
	return r;
}

long exec_path(const char *path, char *const *argv, char *const *envp)
{
	long r;

	exec_prepare();
	r = GATE(execve, path, argv, envp, 0, 0);
	exec_failed();
	return r;
}

int exec_search(const char *file, char *const *argv, char *const *envp)
{
	int r;

	exec_prepare();
	r = LIBC(int, execvpe)(file, argv, envp);
	exec_failed();
	return r;
}

long spaces_changed(long r, int flags)
{
	if (r < 0 || thread.vfork_child)
		return r;
	if (flags & CLONE_NEWNS_)
		root.foreign = true;
	return flags & CLONE_NEWUSER_ ? rights_changed(r) : r;
}

/* libc changes the working directory by itself while it walks: from here on the kernel is asked. */
void tree_walk(bool changes_directory)
{
	if (changes_directory && !thread.vfork_child) {
		root.cwd_moves = true;
		path_forget_cwd(true);
	}
}

long changed_anyway(long r)
{
	rights_changed(0);
	return r;
}

long poll_ms(struct pollfd_ *fds, unsigned long n, int timeout_ms)
{
	struct timespec_ timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000l};

	if (!poll_is_ours(fds, n))
		return back(LIBC(int, poll)(fds, n, timeout_ms), -1);
	return do_poll(fds, n, timeout_ms < 0 ? NULL : &timeout, NULL);
}

long poll_ns(struct pollfd_ *fds, unsigned long n, const struct timespec_ *timeout,
	     const void *signals)
{
	if (!poll_is_ours(fds, n))
		return back(LIBC(int, ppoll)(fds, n, timeout, signals), -1);
	return do_poll(fds, n, timeout, signals);
}

long select_us(int n, void *in, void *out, void *except, const struct timespec_ *timeout)
{
	struct timespec_ ns;

	if (timeout)
		ns = (struct timespec_){timeout->sec, timeout->nsec * 1000};
	return do_select(n, in, out, except, timeout ? &ns : NULL, NULL);
}

long received(long r, struct msg_header *msg, int flags)
{
	if (r >= 0 && msg->control_bytes)
		message_adopt(msg, flags);
	return r;
}

void export_many(const struct many_header *msgs, unsigned n)
{
	for (unsigned i = 0; i < n && i < 1024; i++)
		message_export(&msgs[i].msg);
}

long received_many(long r, struct many_header *msgs, int flags)
{
	for (long i = 0; i < r; i++)
		received(0, &msgs[i].msg, flags);
	return r;
}

EXPORT int dprintf(int fd, const char *format, ...);
EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list arguments;
	int r;

	fd_export(fd);
	va_start(arguments, format);
	r = LIBC(int, vdprintf)(fd, format, arguments);
	va_end(arguments);
	return r;
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...);
EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list arguments;
	int r;

	fd_export(fd);
	va_start(arguments, format);
	r = LIBC(int, __vdprintf_chk)(fd, flag, format, arguments);
	va_end(arguments);
	return r;
}

/* The arguments of an execl function as a vector on the caller's own stack. */
#define COLLECT(first, last, argv)                                                                 \
	va_list count_;                                                                            \
	size_t n_ = 1;                                                                             \
	va_copy(count_, last);                                                                     \
	if (first)                                                                                 \
		while (va_arg(count_, char *))                                                     \
			n_++;                                                                      \
	va_end(count_);                                                                            \
	char **argv = __builtin_alloca((n_ + 1) * sizeof(*argv));                                  \
	argv[0] = (char *)(first);                                                                 \
	for (size_t i_ = 1; i_ <= n_ && argv[0]; i_++)                                             \
	argv[i_] = va_arg(last, char *)

EXPORT int execl(const char *path, const char *first, ...);
EXPORT int execl(const char *path, const char *first, ...)
{
	va_list arguments;

	va_start(arguments, first);
	COLLECT(first, arguments, argv);
	va_end(arguments);
	return (int)edge(exec_path(path, argv, environ));
}

EXPORT int execlp(const char *file, const char *first, ...);
EXPORT int execlp(const char *file, const char *first, ...)
{
	va_list arguments;

	va_start(arguments, first);
	COLLECT(first, arguments, argv);
	va_end(arguments);
	return exec_search(file, argv, environ);
}

EXPORT int execle(const char *path, const char *first, ...);
EXPORT int execle(const char *path, const char *first, ...)
{
	char *const *envp;
	va_list arguments;

	va_start(arguments, first);
	COLLECT(first, arguments, argv);
	envp = va_arg(arguments, char *const *);
	va_end(arguments);
	return (int)edge(exec_path(path, argv, envp));
}

/* vfork(2): the child returns first, on this very stack, so the return address is kept in a
 * register over the call. The child's thread block is its parent's: see thread.h. */
int vfork_prepare(void);
int vfork_prepare(void)
{
	fork_prepare();
	return 0;
}

__asm__(".text\n"
	".globl vfork\n.type vfork, @function\n"
	".globl __vfork\n.type __vfork, @function\n"
	"vfork:\n"
	"__vfork:\n"
	"	sub $8, %rsp\n"
	"	call vfork_prepare\n"
	"	add $8, %rsp\n"
	"	pop %rdx\n"
	"	mov $58, %eax\n" /* __NR_vfork */
	"	syscall\n"
	"	push %rdx\n"
	"	mov thread@gottpoff(%rip), %rcx\n"
	"	test %eax, %eax\n"
	"	jnz 1f\n"
	"	movl $1, %fs:(%rcx)\n"
	"	ret\n"
	"1:	movl $0, %fs:(%rcx)\n"
	"	js 2f\n"
	"	ret\n"
	"2:	neg %eax\n"
	"	push %rax\n"
	"	call __errno_location@plt\n"
	"	pop %rdx\n"
	"	mov %edx, (%rax)\n"
	"	mov $-1, %eax\n"
	"	ret\n"
	".size vfork, . - vfork\n"
	".size __vfork, . - __vfork\n");
