/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls DIR -k USEC: killed by itself in the middle of calls.
 * filecalls DIR [kernel]: every family of file system calls in DIR, a line of output for each, the
 * same lines on any file system that is right. Linked statically: no client library can help it.
 * Without "kernel", what only a kernel file can do is left out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static void report(int line, const char *what, long r)
{
	int error = errno;

	printf("%d: %.60s = %ld", line, what, r);
	if (r < 0)
		printf(" %s", strerrorname_np(error) ? strerrorname_np(error) : "?");
	putchar('\n');
	errno = 0;
}

#define R(expr) report(__LINE__, #expr, (long)(expr))
/* Only whether it worked: for numbers that may differ. */
#define OK(expr) report(__LINE__, #expr, (long)(expr) < 0 ? -1 : 0)

static char dir[PATH_MAX / 2];
static bool kernel; /* the kernel finds dir, too */

static const char *in(const char *name)
{
	static __thread char path[4][PATH_MAX];
	static __thread int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void show(const struct stat *st)
{
	printf("  %o nlink %lu uid %u gid %u size %ld\n", st->st_mode, (unsigned long)st->st_nlink,
	       st->st_uid, st->st_gid, S_ISDIR(st->st_mode) ? 0 : (long)st->st_size);
}

static void opening(void)
{
	struct {
		unsigned long long flags, mode, resolve;
	} how = {O_RDONLY, 0, 0};
	int fd, d;

	umask(027);
	R(open(in("none"), O_RDONLY));
	OK(fd = open(in("a"), O_CREAT | O_EXCL | O_RDWR, 0666));
	R(open(in("a"), O_CREAT | O_EXCL | O_RDWR, 0666));
	R(write(fd, "hello", 5));
	R(close(fd));
	R(close(fd));
	R(read(fd, &how, 1));
	OK(fd = open(in("a"), O_WRONLY | O_APPEND));
	R(fcntl(fd, F_GETFL));
	R(fcntl(fd, F_GETFD));
	R(fcntl(fd, F_SETFD, FD_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	R(read(fd, &how, 1));
	R(fcntl(fd, F_SETFL, O_NONBLOCK));
	R(fcntl(fd, F_GETFL));
	close(fd);
	R(open(in("a/b"), O_RDONLY));
	R(open(in("a"), O_RDONLY | O_DIRECTORY));
	R(open(in("."), O_WRONLY));
	OK(d = open(dir, O_RDONLY | O_DIRECTORY));
	OK(fd = openat(d, "a", O_RDWR | O_TRUNC | O_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	close(fd);
	OK(fd = syscall(SYS_openat2, d, "a", &how, sizeof(how)));
	close(fd);
	OK(fd = openat(d, ".", O_TMPFILE | O_RDWR, 0600));
	R(write(fd, "tmp", 3));
	close(fd);
	OK(fd = openat(d, "a", O_PATH));
	R(read(fd, &how, 1));
	R(fchmod(fd, 0600));
	R(fcntl(fd, F_GETFL) & O_PATH);
	close(fd);
	close(d);
	OK(fd = creat(in("b"), 0640));
	close(fd);
	R(open((const char *)8, O_RDONLY));
	R(open("", O_RDONLY));
}

/* More than one step. */
static void wide_data(int fd)
{
	char big[3000];
	char *wide = malloc(3 << 20), *back = malloc(3 << 20);
	off_t at = 1, to = 100;
	int fd2;

	for (int i = 0; i < 3 << 20; i++)
		wide[i] = (char)(i * 7 + (i >> 12));
	R(pwrite(fd, wide, 3 << 20, 0));
	R(pread(fd, back, 3 << 20, 0));
	R(memcmp(wide, back, 3 << 20));
	fd2 = open(in("copy"), O_CREAT | O_RDWR, 0644);
	lseek(fd, 0, SEEK_SET);
	R(copy_file_range(fd, NULL, fd2, NULL, 1000, 0));
	R(copy_file_range(fd, &at, fd2, &to, 10, 0));
	printf("  %ld %ld %ld\n", (long)at, (long)to, (long)lseek(fd2, 0, SEEK_CUR));
	at = 5;
	R(sendfile(fd2, fd, &at, 100));
	printf("  %ld %ld\n", (long)at, (long)lseek(fd2, 0, SEEK_CUR));
	R(pread(fd2, big, 1000, 0));
	R(memcmp(big, wide, 100));
	R(memcmp(big + 100, wide + 1, 10));
	R(copy_file_range(fd, NULL, fd2, NULL, 1, 9));
	close(fd2);
	free(wide);
	free(back);
}

static void append_and_misuse(void)
{
	char buf[64];
	int fd;

	fd = open(in("append"), O_CREAT | O_WRONLY | O_APPEND, 0644);
	R(write(fd, "one", 3));
	R(pwrite(fd, "two", 3, 0));
	R(lseek(fd, 0, SEEK_END));
	close(fd);
	fd = open(in("."), O_RDONLY);
	R(read(fd, buf, 1));
	R(ftruncate(fd, 0));
	close(fd);
}

static void data(void)
{
	char buf[64] = {0};
	struct iovec iov[3] = {{buf, 2}, {buf + 2, 0}, {buf + 10, 5}};
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd, ready;

	munmap(hole + 4096, 4096);
	fd = open(in("data"), O_CREAT | O_RDWR, 0644);
	R(write(fd, "0123456789", 10));
	R(lseek(fd, 0, SEEK_CUR));
	R(lseek(fd, 2, SEEK_SET));
	R(read(fd, buf, 3));
	printf("  %.3s\n", buf);
	R(pread(fd, buf, 20, 5));
	printf("  %.5s\n", buf);
	R(pread(fd, buf, 20, 100));
	R(pread(fd, buf, 20, -1));
	R(lseek(fd, 0, SEEK_CUR));
	R(pwrite(fd, "xyz", 3, 20));
	R(lseek(fd, 0, SEEK_END));
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, -1, SEEK_SET));
	R(lseek(fd, 0, 99));
	lseek(fd, 0, SEEK_SET);
	R(readv(fd, iov, 3));
	printf("  %.2s %.5s\n", buf, buf + 10);
	R(writev(fd, iov, 3));
	R(preadv(fd, iov, 3, 1));
	R(pwritev(fd, iov, 3, 30));
	R(preadv2(fd, iov, 3, -1, 0));
	R(pwritev2(fd, iov, 1, 0, RWF_APPEND));
	R(pwritev2(fd, iov, 1, 0, RWF_DSYNC));
	R(preadv2(fd, iov, 3, 0, 0x4000));
	R(readv(fd, iov, 2000));
	R(read(fd, (char *)8, 10));
	lseek(fd, 0, SEEK_SET);
	R(write(fd, (char *)8, 10));
	R(read(fd, buf, 0));
	/* Memory that ends in the middle. */
	memset(hole, 'h', 4096);
	R(pwrite(fd, hole + 4090, 100, 0) > 0);
	R(pread(fd, hole + 4090, 3, 0));
	R(ftruncate(fd, 5));
	R(lseek(fd, 0, SEEK_END));
	R(ftruncate(fd, -1));
	R(fallocate(fd, 0, 0, 8192));
	R(lseek(fd, 0, SEEK_END));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
	R(fallocate(fd, 0, 0, 0));
	R(fsync(fd));
	R(fdatasync(fd));
	R(syncfs(fd));
	R(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	R(readahead(fd, 0, 4096));
	R(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	wide_data(fd);
	R(ioctl(fd, FIONREAD, &ready));
	R(ioctl(fd, TIOCGWINSZ, buf));
	R(isatty(fd));
	close(fd);
	append_and_misuse();
}

static void attributes(void)
{
	struct timespec times[2] = {{1000, 5}, {2000, 7}};
	struct timeval tv[2] = {{11, 22}, {33, 44}};
	struct utimbuf ut = {3, 4};
	struct statfs sfs;
	struct statx stx;
	struct stat st;
	int fd = open(in("attr"), O_CREAT | O_RDWR, 0666), d = open(dir, O_RDONLY);

	R(fstat(fd, &st));
	show(&st);
	R(stat(in("attr"), &st));
	show(&st);
	R(stat(dir, &st));
	R(stat(in("no/such"), &st));
	R(fstatat(d, "attr", &st, 0));
	R(fstatat(fd, "", &st, AT_EMPTY_PATH));
	R(fstatat(d, "", &st, 0));
	R(fstatat(d, "attr", &st, 0x8000));
	R(fstatat(d, "attr", (struct stat *)8, 0));
	R(statx(d, "attr", 0, STATX_ALL, &stx));
	printf("  %o %u %llu\n", stx.stx_mode, stx.stx_nlink, (unsigned long long)stx.stx_size);
	R(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	R(statx(d, "attr", AT_STATX_SYNC_TYPE, STATX_ALL, &stx));
	R(chmod(in("attr"), 04755));
	R(fchmod(fd, 0640));
	R(fchmodat(d, "attr", 0600, 0));
	R(chown(in("attr"), 12, 34));
	R(lchown(in("attr"), -1, 35));
	R(fchown(fd, 13, -1));
	R(fchownat(d, "attr", 14, 36, AT_SYMLINK_NOFOLLOW));
	R(fchownat(fd, "", 14, 37, AT_EMPTY_PATH));
	fstat(fd, &st);
	show(&st);
	R(chown(in("attr"), -1, -1));
	R(truncate(in("attr"), 100));
	R(truncate(in("attr"), -1));
	R(truncate(in("none"), 1));
	R(truncate(dir, 1));
	R(utimensat(d, "attr", times, 0));
	R(futimens(fd, NULL));
	times[0].tv_nsec = UTIME_OMIT;
	R(futimens(fd, times));
	fstat(fd, &st);
	printf("  %ld %ld %ld\n", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long)st.st_size);
	times[1].tv_nsec = 1000000000;
	R(futimens(fd, times));
	R(syscall(SYS_utimes, in("attr"), tv));
	R(syscall(SYS_futimesat, d, "attr", tv));
	stat(in("attr"), &st);
	printf("  %ld %ld\n", (long)st.st_atim.tv_sec, st.st_mtim.tv_nsec);
	R(syscall(SYS_utime, in("attr"), &ut));
	stat(in("attr"), &st);
	printf("  %ld %ld\n", (long)st.st_atim.tv_sec, (long)st.st_mtim.tv_sec);
	R(access(in("attr"), R_OK | W_OK));
	R(access(in("attr"), X_OK));
	R(access(in("none"), F_OK));
	R(access(in("attr"), 99));
	R(faccessat(d, "attr", R_OK, AT_EACCESS));
	R(statfs(dir, &sfs));
	R(fstatfs(fd, &sfs));
	R(setxattr(in("attr"), "user.one", "value", 5, 0));
	R(setxattr(in("attr"), "user.one", "value", 5, XATTR_CREATE));
	R(fsetxattr(fd, "user.two", "2", 1, 0));
	{
		char value[64] = {0};

		R(getxattr(in("attr"), "user.one", value, sizeof(value)));
		printf("  %s\n", value);
		R(getxattr(in("attr"), "user.one", value, 2));
		R(getxattr(in("attr"), "user.one", NULL, 0));
		R(fgetxattr(fd, "user.two", value, 1));
		R(lgetxattr(in("attr"), "user.none", value, 1));
		R(listxattr(in("attr"), value, sizeof(value)));
		R(flistxattr(fd, NULL, 0));
		R(llistxattr(in("attr"), value, 3));
		R(setxattr(in("attr"), "", "x", 1, 0));
		R(setxattr(in("attr"), "nothing", "x", 1, 0));
	}
	R(removexattr(in("attr"), "user.one"));
	R(fremovexattr(fd, "user.one"));
	R(lremovexattr(in("attr"), "user.two"));
	close(fd);
	close(d);
}

static void names(void)
{
	char buf[PATH_MAX];
	struct stat st;
	int d = open(dir, O_RDONLY), fd;

	umask(022);
	R(mkdir(in("d"), 0777));
	R(mkdir(in("d"), 0777));
	R(mkdirat(d, "d/e", 01777));
	R(mkdir(in("d/e/"), 0755));
	R(mkdir(in("."), 0755));
	stat(in("d/e"), &st);
	show(&st);
	R(mknod(in("fifo"), S_IFIFO | 0644, 0));
	R(mknodat(d, "reg", 0600, 0));
	R(mknod(in("bad"), 0170000, 0));
	R(symlink("a", in("link")));
	R(symlinkat("d/e/../../a", d, "far"));
	R(symlink("loop", in("loop")));
	R(symlink(dir, in("abs")));
	R(symlink("/etc", in("out")));
	R(symlink("", in("empty")));
	R(symlink("x", in("link")));
	R(stat(in("link"), &st));
	R(lstat(in("link"), &st));
	R(stat(in("far"), &st));
	R(stat(in("loop"), &st));
	R(stat(in("abs/a"), &st));
	if (kernel)
		R(stat(in("out/passwd"), &st));
	R(open(in("link"), O_RDONLY | O_NOFOLLOW));
	R(readlink(in("far"), buf, sizeof(buf)));
	R(readlink(in("far"), buf, 3));
	R(readlink(in("a"), buf, sizeof(buf)));
	R(readlinkat(d, "link", buf, sizeof(buf)));
	R(readlink(in("far"), buf, 0));
	R(link(in("a"), in("hard")));
	R(link(in("a"), in("hard")));
	R(linkat(d, "link", d, "hardlink", 0));
	R(linkat(d, "link", d, "followed", AT_SYMLINK_FOLLOW));
	if (kernel)
		R(link(in("a"), "/dev/shm/elsewhere"));
	R(link(in("d"), in("dirlink")));
	stat(in("a"), &st);
	show(&st);
	R(rename(in("hard"), in("moved")));
	R(rename(in("hard"), in("moved")));
	R(renameat(d, "moved", d, "d/e/moved"));
	R(rename(in("d"), in("d/e/f")));
	if (kernel)
		R(rename(in("a"), "/dev/shm/elsewhere"));
	R(syscall(SYS_renameat2, d, "b", d, "a", RENAME_NOREPLACE));
	R(syscall(SYS_renameat2, d, "b", d, "d", RENAME_EXCHANGE));
	R(syscall(SYS_renameat2, d, "b", d, "d", RENAME_EXCHANGE));
	R(syscall(SYS_renameat2, d, "b", d, "d", 0x100));
	R(rmdir(in("d")));
	R(unlink(in("d")));
	R(unlinkat(d, "d/e/moved", 0));
	R(unlinkat(d, "d/e", AT_REMOVEDIR));
	R(unlinkat(d, "d", 77));
	R(rmdir(in("reg")));
	R(unlink(in("reg")));
	R(unlink(in("reg")));
	fd = open(in("gone"), O_CREAT | O_RDWR, 0600);
	R(unlink(in("gone")));
	R(write(fd, "still", 5));
	fstat(fd, &st);
	show(&st);
	close(fd);
	if (kernel)
		OK(fd = open(in("fifo"), O_RDONLY | O_NONBLOCK));
	close(fd);
	close(d);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void directories(void)
{
	char *names[200], buf[40], path[PATH_MAX];
	struct dirent *e;
	int n = 0, d;
	long middle;
	DIR *s;

	mkdir(in("list"), 0755);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "%s/list/file%d", dir, i);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	s = opendir(in("list"));
	while (s && (e = readdir(s)) && n < 200)
		names[n++] = strdup(e->d_name);
	qsort(names, n, sizeof(names[0]), by_name);
	for (int i = 0; i < n; i++)
		printf("  %s\n", names[i]);
	rewinddir(s);
	for (int i = 0; i < 50; i++)
		readdir(s);
	middle = telldir(s);
	e = readdir(s);
	snprintf(path, sizeof(path), "%s", e ? e->d_name : "");
	while (readdir(s))
		;
	seekdir(s, middle);
	e = readdir(s);
	R(e ? strcmp(e->d_name, path) : -99);
	closedir(s);
	d = open(in("list"), O_RDONLY);
	R(syscall(SYS_getdents64, d, buf, 10));
	OK(syscall(SYS_getdents64, d, path, sizeof(path)));
	R(lseek(d, 0, SEEK_SET));
	n = (int)syscall(SYS_getdents, d, path, sizeof(path));
	R(n > 0 && *(unsigned short *)(path + 16) <= n);
	close(d);
	d = open(in("a"), O_RDONLY);
	R(syscall(SYS_getdents64, d, path, sizeof(path)));
	close(d);
}

static void *wait_for_lock(void *arg)
{
	int fd = open(in("lock"), O_RDWR);
	struct flock lock = {.l_type = F_WRLCK, .l_len = 10};

	(void)arg;
	return (void *)(long)fcntl(fd, F_OFD_SETLKW, &lock);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 10};
	int fd = open(in("lock"), O_CREAT | O_RDWR, 0644), fd2, status;
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval soon = {.it_value = {.tv_usec = 50000}};
	pthread_t thread;
	void *result;
	pid_t pid;

	R(fcntl(fd, F_SETLK, &lock));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fd2 = open(in("lock"), O_RDWR);
		R(fcntl(fd2, F_SETLK, &lock));
		R(fcntl(fd2, F_GETLK, &lock));
		printf("  %d %ld %ld %d\n", lock.l_type, (long)lock.l_start, (long)lock.l_len,
		       lock.l_pid == getppid());
		lock = (struct flock){.l_type = F_RDLCK, .l_start = 20, .l_len = 0};
		R(fcntl(fd2, F_SETLKW, &lock));
		/* A signal ends the wait. */
		lock = (struct flock){.l_type = F_WRLCK, .l_len = 10};
		sigaction(SIGALRM, &action, NULL);
		setitimer(ITIMER_REAL, &soon, NULL);
		R(fcntl(fd2, F_SETLKW, &lock));
		R(flock(fd2, LOCK_SH | LOCK_NB));
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	R(status);
	lock = (struct flock){.l_type = F_UNLCK};
	R(fcntl(fd, F_SETLK, &lock));
	lock = (struct flock){.l_type = F_WRLCK, .l_len = 10};
	R(fcntl(fd, F_OFD_SETLK, &lock));
	fd2 = open(in("lock"), O_RDWR);
	R(fcntl(fd2, F_OFD_SETLK, &lock));
	pthread_create(&thread, NULL, wait_for_lock, NULL);
	usleep(20000);
	lock.l_type = F_UNLCK;
	R(fcntl(fd, F_OFD_SETLK, &lock));
	pthread_join(thread, &result);
	R((long)result);
	R(flock(fd, LOCK_EX));
	R(flock(fd2, LOCK_EX | LOCK_NB));
	R(flock(fd, LOCK_UN));
	R(flock(fd2, LOCK_EX | LOCK_NB));
	R(fcntl(fd, F_SETLK, (struct flock *)8));
	close(fd);
	close(fd2);
}

static void relative(void)
{
	char cwd[PATH_MAX];
	struct stat st;
	int fd, d;

	mkdir(in("sub"), 0755);
	R(chdir(in("sub")));
	OK(fd = open("here", O_CREAT | O_WRONLY, 0644));
	close(fd);
	R(stat(in("sub/here"), &st));
	R(stat("../a", &st));
	R(stat("../sub/./here", &st));
	R(stat("here/", &st));
	R(stat("../../../../../../../../etc/passwd", &st));
	R(rename("here", "../there"));
	R(unlink("../there"));
	R(stat("", &st));
	R(chdir(".."));
	R(stat("sub", &st));
	d = open("sub", O_RDONLY);
	R(rename("sub", "bus"));
	OK(fd = openat(d, "again", O_CREAT | O_WRONLY, 0644));
	close(fd);
	R(stat("bus/again", &st));
	close(d);
	R(unlink("bus/again"));
	R(rmdir("bus"));
	R(chdir("/"));
	R(getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	R(stat(dir + 1, &st)); /* relative, from above */
}

static void *open_many(void *arg)
{
	long bad = 0;
	char c;

	for (int i = 0; i < 200; i++) {
		int fd = open(in("a"), O_RDONLY);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) || read(fd, &c, 1) < 0 || close(fd))
			bad++;
	}
	(void)arg;
	return (void *)bad;
}

static void threads(void)
{
	pthread_t thread[4];
	void *bad;

	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, open_many, NULL);
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &bad);
		R((long)bad);
	}
}

/* An open file is shared by fork, and by exec, under the same number. */
static void inherit(const char *self, int fd)
{
	char number[16], c;
	int status;
	pid_t pid;

	R(write(fd, "abcdef", 6));
	R(lseek(fd, 1, SEEK_SET));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		R(read(fd, &c, 1));
		fflush(stdout);
		_exit(c);
	}
	waitpid(pid, &status, 0);
	R(WEXITSTATUS(status));
	R(read(fd, &c, 1));
	printf("  %c\n", c);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		snprintf(number, sizeof(number), "%d", fd);
		execl(self, self, "-r", number, (char *)NULL);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	R(WEXITSTATUS(status));
	R(lseek(fd, 0, SEEK_CUR));
}

static void duplicate(int fd)
{
	int fd2;

	fd2 = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	OK(fd2);
	R(lseek(fd2, 0, SEEK_SET));
	R(lseek(fd, 0, SEEK_CUR));
	R(fcntl(fd2, F_GETFD));
	close(fd2);
	OK(fd2 = dup(fd));
	R(lseek(fd2, 2, SEEK_SET));
	R(lseek(fd, 0, SEEK_CUR));
	close(fd2);
	R(write(fd, "x", 1));
	fd2 = open(in("a"), O_RDONLY);
	R(dup2(fd, fd2) == fd2);
	R(lseek(fd2, 0, SEEK_CUR));
	R(dup3(0, fd2, O_CLOEXEC) == fd2);
	R(fcntl(fd2, F_GETFD));
	close(fd2);
}

static void limit_size(int fd)
{
	struct rlimit limit = {1000, RLIM_INFINITY};
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		R(pwrite(fd, "12345", 5, 998));
		R(pwrite(fd, "12345", 5, 1000));
		R(ftruncate(fd, 2000));
		fflush(stdout);
		signal(SIGXFSZ, SIG_DFL);
		pwrite(fd, "1", 1, 5000);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	R(WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}

static void become_another(int fd)
{
	struct rlimit files;
	int status;
	pid_t pid;

	chmod(dir, 0755);
	chmod(in("a"), 0600);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		R(open(in("a"), O_RDONLY) >= 0);
		R(setgid(1234));
		R(setuid(1234));
		R(open(in("a"), O_RDONLY));
		R(open(in("new"), O_CREAT | O_WRONLY, 0644));
		R(chmod(in("a"), 0644));
		R(write(fd, "y", 1));
		chmod(dir, 0777);
		OK(fd = open(dir, O_RDONLY));
		R(fcntl(fd, F_GETFD));
		getrlimit(RLIMIT_NOFILE, &files);
		R(files.rlim_cur > (rlim_t)fd);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	R(status);
}

static void processes(const char *self)
{
	int fd;

	threads();
	fd = open(in("shared"), O_CREAT | O_RDWR, 0644);
	inherit(self, fd);
	duplicate(fd);
	limit_size(fd);
	become_another(fd);
	close(fd);
}

/* What the kernel's own files are needed for. */
static void kernel_files(const char *self)
{
	struct {
		unsigned long long flags, mode, resolve;
	} how = {O_RDONLY, 0, 8 /* RESOLVE_BENEATH */};
	int fd = open(in("map"), O_CREAT | O_RDWR | O_TRUNC, 0644), fd2, pipes[2], pair[2], status;
	char buf[32] = {0}, *map;
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {buf, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	pid_t pid;

	R(write(fd, "mapped", 6));
	OK((long)(map = mmap(NULL, 6, PROT_READ, MAP_PRIVATE, fd, 0)) == -1 ? -1 : 0);
	if (map != MAP_FAILED)
		printf("  %.6s\n", map);
	R(write(fd, "+", 1));
	R(lseek(fd, 0, SEEK_CUR));
	map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK((long)map == -1 ? -1 : 0);
	if (map != MAP_FAILED) {
		map[0] = 'M';
		R(pread(fd, buf, 7, 0));
		printf("  %.7s\n", buf);
		R(msync(map, 7, MS_SYNC));
		munmap(map, 7);
	}
	close(fd);
	fd = open(in("std"), O_CREAT | O_RDWR | O_TRUNC, 0644);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fd, 1);
		R(write(1, "to 1\n", 5));
		fflush(stdout);
		execl(self, self, "-w", (char *)NULL);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	R(WEXITSTATUS(status));
	R(write(fd, "then\n", 5));
	R(pread(fd, buf, sizeof(buf) - 1, 0));
	printf("  [%.31s]\n", buf);
	R(pipe(pipes));
	lseek(fd, 0, SEEK_SET);
	R(splice(fd, NULL, pipes[1], NULL, 4, 0));
	R(read(pipes[0], buf, sizeof(buf)));
	lseek(fd, 0, SEEK_SET);
	R(sendfile(pipes[1], fd, NULL, 3));
	R(read(pipes[0], buf, sizeof(buf)));
	R(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	R(sendmsg(pair[0], &msg, 0));
	R(recvmsg(pair[1], &msg, 0));
	memcpy(&fd2, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd2));
	R(lseek(fd2, 0, SEEK_CUR));
	R(pread(fd2, buf, 4, 0));
	close(fd2);
	close(fd);
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	R(syscall(SYS_openat2, fd, "../x", &how, sizeof(how)));
	R(fchdir(fd));
	R(access("std", F_OK));
	R(chdir("/"));
	close(fd);
}

static void *never_ends(void *arg)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/mid%ld", dir, (long)arg);
	for (;;) {
		int fd = open(name, O_CREAT | O_RDWR, 0644);

		if (fd >= 0) {
			if (write(fd, name, sizeof(name)) < 0)
				perror(name);
			close(fd);
		}
		unlink(name);
	}
	return NULL;
}

/* Three threads in the middle of calls, killed after so many microseconds. */
static int killed_in_mid_call(unsigned us)
{
	pthread_t thread;

	for (long i = 0; i < 3; i++)
		pthread_create(&thread, NULL, never_ends, (void *)i);
	usleep(us);
	return kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	char c;

	if (argc == 3 && !strcmp(argv[1], "-r"))
		return read(atoi(argv[2]), &c, 1) == 1 ? c : 98;
	if (argc == 2 && !strcmp(argv[1], "-w"))
		return write(1, "exec\n", 5) == 5 ? 0 : 97;
	if (argc < 2)
		return 2;
	snprintf(dir, sizeof(dir), "%s", argv[1]);
	if (argc == 4 && !strcmp(argv[2], "-k"))
		return killed_in_mid_call((unsigned)atoi(argv[3]));
	kernel = argc > 2;
	opening();
	data();
	attributes();
	names();
	directories();
	locks();
	processes(argv[0]);
	if (kernel) {
		relative();
		kernel_files(argv[0]);
	}
	return 0;
}
