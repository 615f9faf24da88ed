/* SPDX-License-Identifier: Apache-2.0 */
/* cancel DIR: what becomes of a thread that was cancelled before it comes to a call, one line a
 * call. As fsops: what it prints on a volume must be what it prints on a plain directory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_bool cancelled;
static int fd;

#define CALL(name, call)                                                                           \
	static void *call_##name(void *arg)                                                        \
	{                                                                                          \
		struct flock lock = {.l_type = F_WRLCK};                                           \
		struct iovec iov = {&lock, 4};                                                     \
		while (!cancelled)                                                                 \
			sched_yield();                                                             \
		return (void *)(long)(call);                                                       \
	}
CALL(open, open("file", O_RDWR | O_CREAT, 0644))
CALL(openat, openat(AT_FDCWD, "file", O_RDONLY))
CALL(read, read(fd, &lock, 4))
CALL(pread, pread(fd, &lock, 4, 0))
CALL(readv, readv(fd, &iov, 1))
CALL(write, write(fd, &lock, 4))
CALL(pwrite, pwrite(fd, &lock, 4, 0))
CALL(writev, writev(fd, &iov, 1))
CALL(fsync, fsync(fd))
CALL(fdatasync, fdatasync(fd))
CALL(setlkw, fcntl(fd, F_SETLKW, &lock))
CALL(lockf, lockf(fd, F_LOCK, 0))
CALL(close, close(fd))
CALL(setlk, fcntl(fd, F_SETLK, &lock)) /* not one of them */

static const struct {
	const char *name;
	void *(*run)(void *);
} calls[] = {
    {"open", call_open},	   {"openat", call_openat},   {"read", call_read},
    {"pread", call_pread},	   {"readv", call_readv},     {"write", call_write},
    {"pwrite", call_pwrite},	   {"writev", call_writev},   {"fsync", call_fsync},
    {"fdatasync", call_fdatasync}, {"F_SETLKW", call_setlkw}, {"lockf", call_lockf},
    {"close", call_close},	   {"F_SETLK", call_setlk},
};

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]) < 0 || (fd = open("cancelled", O_RDWR | O_CREAT, 0644)) < 0)
		return 1;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		pthread_t thread;
		void *result;

		cancelled = false;
		pthread_create(&thread, NULL, calls[i].run, NULL);
		pthread_cancel(thread);
		cancelled = true;
		pthread_join(thread, &result);
		printf("%s: %s\n", calls[i].name,
		       result == PTHREAD_CANCELED ? "cancelled" : "went through");
	}
	printf("open still: %d\n", fcntl(fd, F_GETFD) >= 0);
	return 0;
}
