/* SPDX-License-Identifier: Apache-2.0 */
/* fsops DIR: calls on files in DIR, one line of result each. What it prints on a volume must be
 * what it prints on a plain directory. Compiled against glibc and musl. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

extern char **environ;

/* Prints a call, its result and errno; descriptors are only told from failures. */
#define SHOW(call)                                                                                 \
	({                                                                                         \
		errno = 0;                                                                         \
		long r_ = (long)(call);                                                            \
		printf("%s = %ld %s\n", #call, r_, r_ < 0 ? strerror(errno) : "");                 \
		r_;                                                                                \
	})
#define FD(call)                                                                                   \
	({                                                                                         \
		errno = 0;                                                                         \
		int fd_ = (call);                                                                  \
		printf("%s = %s\n", #call, fd_ < 0 ? strerror(errno) : "fd");                      \
		fd_;                                                                               \
	})

static char buf[1 << 20];

static void content(const char *name)
{
	char line[200] = "";
	int fd = open(name, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

	printf("%s: %zd \"%.*s\"\n", name, n, n < 0 ? 0 : (int)n, line);
	close(fd);
}

static void opening(void)
{
	int fd, other;
	struct stat st;

	FD(open("missing", O_RDONLY));
	fd = FD(open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
	FD(open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
	SHOW(fstat(fd, &st));
	SHOW(st.st_mode);
	SHOW(write(fd, "hello world", 11));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(lseek(fd, -20, SEEK_CUR));
	SHOW(lseek(fd, 2, SEEK_SET));
	SHOW(read(fd, buf, 3));
	SHOW(pread(fd, buf, 100, 6));
	SHOW(pread(fd, buf, 100, -1));
	SHOW(pread(fd, buf, 100, 100));
	SHOW(read(fd, NULL, 3));
	SHOW(write(fd, NULL, 3));
	SHOW(read(fd, buf, 0));
	SHOW(lseek(fd, 0, SEEK_CUR));
	other = FD(dup(fd));
	SHOW(lseek(other, 1, SEEK_SET));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(close(fd));
	SHOW(close(fd));
	SHOW(read(fd, buf, 1));
	SHOW(fstat(fd, &st));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(lseek(other, 0, SEEK_CUR));
	SHOW(fcntl(other, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
	SHOW(fcntl(other, F_SETFL, O_APPEND | O_NONBLOCK));
	SHOW(fcntl(other, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
	SHOW(write(other, "!", 1));
	SHOW(lseek(other, 0, SEEK_CUR));
	SHOW(fcntl(other, F_GETFD));
	SHOW(fcntl(other, F_SETFD, FD_CLOEXEC));
	SHOW(fcntl(other, F_GETFD));
	SHOW(isatty(other));
	SHOW(ioctl(other, FIONREAD, buf));
	SHOW(ioctl(other, TIOCGWINSZ, buf));
	close(other);
	content("file");
	fd = FD(open("file", O_WRONLY | O_TRUNC));
	SHOW(read(fd, buf, 1));
	SHOW(ftruncate(fd, 5000));
	SHOW(ftruncate(fd, -1));
	SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 10000));
	SHOW(posix_fallocate(fd, 0, 6000));
	SHOW(fstat(fd, &st));
	SHOW(st.st_size);
	SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	SHOW(fsync(fd));
	SHOW(fdatasync(fd));
	close(fd);
	FD(open("file", O_RDONLY | O_DIRECTORY));
	FD(open(".", O_WRONLY));
	FD(open("file/x", O_RDONLY));
	fd = FD(open("file", O_PATH));
	SHOW(read(fd, buf, 1));
	SHOW(fstat(fd, &st));
	close(fd);
	fd = FD(open(".", O_TMPFILE | O_RDWR, 0600));
	SHOW(write(fd, "tmp", 3));
	snprintf(buf, sizeof(buf), "/proc/self/fd/%d", fd);
	SHOW(linkat(AT_FDCWD, buf, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	close(fd);
	content("named");
	FD(open((char *)1, O_RDONLY));
	FD(open("", O_RDONLY));
	FD(creat("created", 0600));
	SHOW(umask(027));
	FD(open("masked", O_CREAT | O_WRONLY, 0666));
	SHOW(stat("masked", &st));
	SHOW(st.st_mode);
	SHOW(umask(022));
}

static void vectors(void)
{
	struct iovec iov[3] = {{(char *)"abc", 3}, {(char *)"", 0}, {(char *)"defg", 4}};
	char a[2], b[10];
	struct iovec in[2] = {{a, 2}, {b, 10}};
	int fd = FD(open("vector", O_RDWR | O_CREAT | O_TRUNC, 0644));
	long sum = 0;

	SHOW(writev(fd, iov, 3));
	SHOW(pwritev(fd, iov, 3, 100));
	SHOW(lseek(fd, 0, SEEK_SET));
	SHOW(readv(fd, in, 2));
	printf("%.2s %.5s\n", a, b);
	SHOW(preadv(fd, in, 2, 100));
	SHOW(writev(fd, iov, -1));
	SHOW(readv(fd, in, 0));
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 7 + i / 4096);
	SHOW(pwrite(fd, buf, sizeof(buf), 3));
	memset(buf, 0, sizeof(buf));
	SHOW(pread(fd, buf, sizeof(buf), 3));
	for (size_t i = 0; i < sizeof(buf); i++)
		sum += buf[i] == (char)(i * 7 + i / 4096);
	SHOW(sum);
	SHOW(lseek(fd, 0, SEEK_END));
	SHOW(read(fd, buf, sizeof(buf)));
	SHOW(write(fd, buf, sizeof(buf) - 1000)); /* zeroes at the position */
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(lseek(fd, 5000000, SEEK_SET));
	SHOW(write(fd, "x", 1));
	SHOW(lseek(fd, 4000000, SEEK_DATA) >= 4000000);
	close(fd);
}

static void names(void)
{
	struct stat st, st2;
	char content[100];
	int dir;

	SHOW(mkdir("d", 0755));
	SHOW(mkdir("d", 0755));
	SHOW(mkdir("d/e/f", 0755));
	SHOW(mkdir("d/sub", 0700));
	SHOW(rmdir("d"));
	SHOW(unlink("d"));
	SHOW(symlink("target", "d/link"));
	SHOW(readlink("d/link", content, sizeof(content)));
	SHOW(readlink("d/link", content, 3));
	SHOW(readlink("d", content, 3));
	SHOW(stat("d/link", &st));
	SHOW(lstat("d/link", &st));
	SHOW(S_ISLNK(st.st_mode));
	FD(open("d/link", O_RDONLY | O_NOFOLLOW));
	close(FD(open("d/link", O_CREAT | O_WRONLY, 0644)));
	SHOW(stat("d/target", &st));
	SHOW(link("d/target", "d/hard"));
	SHOW(stat("d/hard", &st2));
	SHOW(st.st_ino == st2.st_ino && st.st_dev == st2.st_dev);
	SHOW(st2.st_nlink);
	SHOW(rename("d/hard", "d/moved"));
	SHOW(rename("d/missing", "d/x"));
	SHOW(rename("d", "d/sub/d"));
	SHOW(syscall(SYS_renameat2, AT_FDCWD, "d/moved", AT_FDCWD, "d/target", 1));
	SHOW(syscall(SYS_renameat2, AT_FDCWD, "d/sub", AT_FDCWD, "d/link", 2));
	SHOW(lstat("d/sub", &st));
	SHOW(S_ISLNK(st.st_mode));
	dir = FD(open("d", O_RDONLY | O_DIRECTORY));
	SHOW(fstatat(dir, "target", &st, 0));
	SHOW(fstatat(dir, "", &st, AT_EMPTY_PATH));
	SHOW(S_ISDIR(st.st_mode));
	SHOW(faccessat(dir, "target", R_OK, 0));
	SHOW(mkdirat(dir, "at", 0755));
	SHOW(unlinkat(dir, "at", AT_REMOVEDIR));
	SHOW(fstatat(dir, "../file", &st, 0));
	SHOW(fchdir(dir));
	SHOW(stat("target", &st));
	SHOW(stat("../d/target", &st));
	SHOW(chdir(".."));
	SHOW(stat("d/target", &st));
	SHOW(stat("d//./target", &st));
	SHOW(stat("d/target/", &st));
	SHOW(remove("d/moved"));
	SHOW(access("d/target", W_OK));
	SHOW(access("d/nothing", F_OK));
	SHOW(mkfifo("d/fifo", 0600));
	SHOW(stat("d/fifo", &st));
	SHOW(S_ISFIFO(st.st_mode));
	FD(open("d/fifo", O_WRONLY | O_NONBLOCK));
	SHOW(symlink("/etc/passwd", "out"));
	SHOW(stat("out", &st));
	FD(open("out", O_RDONLY));
	SHOW(symlink("loop", "loop"));
	FD(open("loop", O_RDONLY));
	SHOW(rename("d/target", "/tmp/elsewhere/x"));
	memset(buf, 'n', 300);
	buf[300] = '\0';
	SHOW(stat(buf, &st));
	close(dir);
}

static void attributes(void)
{
	struct timespec times[2] = {{1000000000, 5}, {1100000000, 123456789}};
	struct timeval tv[2] = {{5, 6}, {7, 8}};
	struct statvfs fs;
	struct stat st;
	int fd = FD(open("file", O_RDWR));

	SHOW(chmod("file", 04751));
	SHOW(stat("file", &st));
	SHOW(st.st_mode);
	SHOW(fchmod(fd, 0600));
	SHOW(chown("file", 12, 13));
	SHOW(fchown(fd, -1, 14));
	SHOW(fstat(fd, &st));
	SHOW(st.st_uid * 1000 + st.st_gid);
	SHOW(utimensat(AT_FDCWD, "file", times, 0));
	SHOW(stat("file", &st));
	SHOW(st.st_mtim.tv_nsec);
	SHOW(futimens(fd, NULL));
	SHOW(utimes("file", tv));
	SHOW(stat("file", &st));
	SHOW(st.st_mtim.tv_nsec);
	SHOW(st.st_atim.tv_sec);
	SHOW(utime("file", NULL));
	SHOW(truncate("file", 10));
	SHOW(truncate("missing", 10));
	SHOW(truncate("d", 10));
	SHOW(statvfs(".", &fs));
	SHOW(fs.f_namemax);
	SHOW(setxattr("file", "user.a", "value", 5, 0));
	SHOW(setxattr("file", "user.a", "value", 5, XATTR_CREATE));
	SHOW(getxattr("file", "user.a", buf, 100));
	SHOW(getxattr("file", "user.a", buf, 0));
	SHOW(getxattr("file", "user.a", buf, 2));
	SHOW(fgetxattr(fd, "user.b", buf, 100));
	SHOW(flistxattr(fd, buf, 100));
	SHOW(removexattr("file", "user.a"));
	SHOW(listxattr("file", buf, 100));
	close(fd);
}

static void directories(void)
{
	struct dirent *entry;
	char name[32];
	long places[64], n = 0, sum = 0;
	DIR *dir;
	int fd;

	mkdir("many", 0755);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
	dir = opendir("many");
	while ((entry = readdir(dir))) {
		places[n++] = telldir(dir);
		sum += atoi(entry->d_name);
	}
	printf("%ld entries, sum %ld\n", n, sum);
	seekdir(dir, places[30]);
	for (n = 0; readdir(dir); n++)
		;
	printf("%ld after the 31st\n", n);
	rewinddir(dir);
	for (n = 0; readdir(dir); n++)
		;
	SHOW(n);
	SHOW(fstatat(dirfd(dir), "3", &(struct stat){0}, 0));
	fd = dirfd(dir);
	SHOW(closedir(dir));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(opendir("missing") != NULL);
	SHOW(opendir("file") != NULL);
	fd = open("many", O_RDONLY);
	SHOW(syscall(SYS_getdents64, fd, buf, 10));
	SHOW(read(fd, buf, 10));
	SHOW(fdopendir(fd) != NULL);
	struct dirent **list;
	n = SHOW(scandir("many", &list, NULL, alphasort));
	while (n-- > 0)
		free(list[n]);
	dir = opendir("/etc");
	SHOW(readdir(dir) != NULL);
	SHOW(closedir(dir));
}

static void descriptors(void)
{
	struct pollfd fds[2];
	struct epoll_event event = {.events = EPOLLIN};
	int fd = FD(open("dups", O_RDWR | O_CREAT, 0644)), pipes[2], epoll, saved, moved;

	SHOW(write(fd, "one ", 4));
	saved = dup(1);
	fflush(stdout);
	SHOW(dup2(fd, 1) == 1);
	printf("into the file\n");
	fflush(stdout);
	dup2(saved, 1);
	close(saved);
	SHOW(write(fd, "two", 3));
	content("dups");
	moved = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	SHOW(moved >= 100);
	SHOW(dup2(fd, 200));
	SHOW(lseek(200, 0, SEEK_CUR));
	SHOW(dup2(fd, fd) == fd);
	SHOW(dup2(fd, -1));
	SHOW(dup3(fd, fd, 0));
	close(fd);
	close(200);
	fd = FD(open("dups", O_RDONLY));
	SHOW(pipe(pipes));
	fds[0] = (struct pollfd){fd, POLLIN | POLLOUT, 0};
	fds[1] = (struct pollfd){pipes[0], POLLIN, 0};
	SHOW(poll(fds, 2, 1000));
	SHOW(fds[0].revents);
	epoll = epoll_create1(0);
	SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	SHOW(sendfile(pipes[1], fd, NULL, 4));
	SHOW(read(pipes[0], buf, 100));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(splice(fd, NULL, pipes[1], NULL, 5, 0));
	SHOW(read(pipes[0], buf, 100));
	close(0);
	SHOW(open("dups", O_RDONLY));
	SHOW(close(0));
	SHOW(dup(fd));
	SHOW(close(0));
	SHOW(open("/dev/null", O_RDONLY));
	close(fd);
	close(epoll);
	close(moved);
	fd = open("dups", O_RDONLY);
	SHOW(syscall(SYS_read, fd, buf, 3));
	SHOW(syscall(SYS_lseek, fd, 0, SEEK_CUR));
	SHOW(syscall(SYS_close_range, fd, ~0u, 0));
	SHOW(read(fd, buf, 1));
	fd = FD(open("dups", O_RDONLY));
	SHOW(read(fd, buf, 1));
	close(fd);
}

/* Calls by number on descriptors: none may get through to a number that means nothing there. */
static void by_number(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct iovec iov = {buf, 3};
	struct stat st;
	int fd = FD(open("numbers", O_RDWR | O_CREAT, 0644)), dir, epoll;

	epoll = epoll_create1(0);
	SHOW(syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event));
	close(epoll);
	SHOW(syscall(SYS_write, fd, "number", 6));
	SHOW(syscall(SYS_pread64, fd, buf, 3, 1));
	SHOW(syscall(SYS_pread64, fd, buf, 3, -1l));
	SHOW(syscall(SYS_pwrite64, fd, "x", 1, -1l));
	SHOW(syscall(SYS_preadv, fd, &iov, 1, -1l, 0l));
	SHOW(syscall(SYS_pwritev, fd, &iov, 1, -1l, 0l));
	SHOW(syscall(SYS_fsetxattr, fd, "user.n", "v", 1, 0));
	SHOW(syscall(SYS_flistxattr, fd, buf, 100));
	SHOW(syscall(SYS_fgetxattr, fd, "user.n", buf, 10));
	SHOW(syscall(SYS_fremovexattr, fd, "user.n"));
	SHOW(syscall(SYS_fgetxattr, -1, "user.n", buf, 10));
	SHOW(syscall(SYS_sync_file_range, fd, 0, 0, 4));
	SHOW(syscall(SYS_readahead, fd, 0, 10));
	SHOW(syscall(SYS_futimesat, fd, NULL, NULL));
	close(fd);
	fd = FD(open("numbers", O_RDONLY));
	SHOW(syscall(SYS_readahead, fd, 0, 10));
	close(fd);
	dir = FD(open(".", O_RDONLY | O_DIRECTORY));
	SHOW(syscall(SYS_getdents, dir, buf, 10));
	SHOW(syscall(SYS_getdents, dir, buf, sizeof(buf)) > 0);
	SHOW(syscall(SYS_futimesat, dir, "numbers", NULL));
	SHOW(syscall(452 /* fchmodat2 */, dir, "numbers", 0600, 0));
	SHOW(stat("numbers", &st));
	SHOW(st.st_mode);
	close(dir);
}

static void stdio(void)
{
	char line[64];
	FILE *file = fopen("stdio", "w+");
	int fd;

	SHOW(fprintf(file, "line %d\n", 1));
	SHOW(fflush(file));
	content("stdio");
	SHOW(fstat(fileno(file), &(struct stat){0}));
	SHOW(fseek(file, 0, SEEK_SET));
	SHOW(fgets(line, sizeof(line), file) != NULL);
	SHOW(fclose(file));
	fd = FD(open("stdio", O_RDWR | O_APPEND));
	file = fdopen(fd, "a+");
	SHOW(fprintf(file, "line %d\n", 2));
	SHOW(fflush(file));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(fclose(file));
	SHOW(close(fd));
	fd = FD(open("stdio", O_WRONLY | O_APPEND));
	SHOW(dprintf(fd, "%s\n", "three"));
	close(fd);
	content("stdio");
	file = freopen("stdio", "r", fopen("dups", "r"));
	SHOW(fgets(line, sizeof(line), file) != NULL);
	fclose(file);
}

static int wait_for(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void run(const char *text, pid_t pid)
{
	printf("%s: %d\n", text, wait_for(pid));
}

static void processes(void)
{
	posix_spawn_file_actions_t actions;
	char *cat[] = {(char *)"cat", NULL};
	int fd = FD(open("proc", O_RDWR | O_CREAT | O_TRUNC, 0644)), keep;
	char number[16];
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		write(fd, "child ", 6);
		_exit(stat("file", &(struct stat){0}) != 0);
	}
	run("fork", pid);
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(write(fd, "parent\n", 7));
	content("proc");
	lseek(fd, 0, SEEK_SET);
	pid = vfork();
	if (!pid) {
		dup2(fd, 0);
		close(fd);
		execlp("cat", "cat", (char *)NULL);
		_exit(9);
	}
	run("vfork", pid);
	lseek(fd, 0, SEEK_SET);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "spawned", O_WRONLY | O_CREAT, 0644);
	SHOW(posix_spawnp(&pid, "cat", &actions, NULL, cat, environ));
	run("spawn", pid);
	content("spawned");
	keep = FD(open("proc", O_RDONLY));
	snprintf(number, sizeof(number), "%d", keep);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", "fsops", "--inherited", number, (char *)NULL);
		_exit(9);
	}
	run("inherited", pid);
	SHOW(lseek(keep, 0, SEEK_CUR));
	SHOW(system("cat < proc; echo system > sys; cat sys"));
	FILE *pipe = popen("cat proc", "r");
	SHOW(fgets(buf, sizeof(buf), pipe) != NULL);
	SHOW(pclose(pipe));
	close(fd);
	close(keep);
}

static int inherited(int fd)
{
	char line[16];

	return read(fd, line, 6) == 6 && !memcmp(line, "child ", 6) && lseek(fd, 0, 1) == 6 ? 0 : 3;
}

static void *worker(void *arg)
{
	long number = (long)arg, errors = 0;
	char name[32], data[64];

	for (int i = 0; i < 200; i++) {
		int fd;

		snprintf(name, sizeof(name), "thread-%ld-%d", number, i % 7);
		fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
		errors += pwrite(fd, name, 16, 0) != 16;
		errors += pread(fd, data, 16, 0) != 16 || memcmp(name, data, 16);
		errors += close(fd) != 0;
	}
	return (void *)errors;
}

static void threads(void)
{
	pthread_t thread[4];
	void *errors, *sum = NULL;

	for (long i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, worker, (void *)i);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(stat("file", &(struct stat){0}) != 0);
		sum = (char *)sum + wait_for(pid);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &errors);
		sum = (char *)sum + (long)errors;
	}
	SHOW(sum);
}

static void on_signal(int signal)
{
	struct stat st;

	stat("file", &st); /* from a handler */
}

static sigjmp_buf away;

static void on_leave(int signal)
{
	siglongjmp(away, 1);
}

/* Waits that a handler leaves: more than the client library can have under way at once. */
static void left_waits(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 20};
	struct sigaction action = {.sa_handler = on_leave};
	struct itimerval timer = {{0, 0}, {0, 2000}};
	struct stat st;
	volatile int left = 0;

	sigaction(SIGALRM, &action, NULL);
	while (left < 70) {
		if (sigsetjmp(away, 1)) {
			left++;
			continue;
		}
		setitimer(ITIMER_REAL, &timer, NULL);
		fcntl(fd, F_SETLKW, &lock);
	}
	SHOW(left);
	SHOW(fstat(fd, &st));
}

static void locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10};
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerval timer = {{0, 0}, {0, 100000}};
	int fd = FD(open("locks", O_RDWR | O_CREAT, 0644)), ready[2], other;
	pid_t pid;

	pipe(ready);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fcntl(fd, F_SETLK, &lock);
		flock(open("locks", O_RDONLY), LOCK_EX);
		write(ready[1], "", 1);
		pause();
	}
	read(ready[0], buf, 1);
	SHOW(fcntl(fd, F_SETLK, &lock));
	lock.l_start = 0;
	lock.l_len = 0;
	SHOW(fcntl(fd, F_GETLK, &lock));
	SHOW(lock.l_type == F_WRLCK && lock.l_start == 10 && lock.l_pid == pid);
	SHOW(flock(fd, LOCK_SH | LOCK_NB));
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	lock = (struct flock){.l_type = F_WRLCK, .l_start = 0, .l_len = 20};
	SHOW(fcntl(fd, F_SETLKW, &lock));
	setitimer(ITIMER_REAL, &timer, NULL);
	SHOW(flock(fd, LOCK_EX));
	left_waits(fd);
	kill(pid, SIGKILL);
	SHOW(wait_for(pid));
	SHOW(fcntl(fd, F_SETLKW, &lock));
	SHOW(flock(fd, LOCK_EX));
	SHOW(lockf(fd, F_TEST, 5));
	other = open("locks", O_RDWR);
	close(other); /* POSIX: drops all of this process's record locks */
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(fcntl(fd, F_SETLK, &lock) != 0);
	run("dropped", pid);
	close(fd);
}

static ssize_t sendmsg_by_number(int fd, const struct msghdr *msg, int flags)
{
	return syscall(SYS_sendmsg, fd, msg, flags);
}

static void passing(ssize_t (*send)(int fd, const struct msghdr *msg, int flags))
{
	union {
		struct cmsghdr head;
		char room[64];
	} control = {.room = {0}};
	struct iovec iov = {buf, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_SPACE(sizeof(int))};
	int pair[2], fd = FD(open("proc", O_RDONLY)), got;

	SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	read(fd, buf, 6);
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	SHOW(send(pair[0], &msg, 0));
	close(fd);
	SHOW(recvmsg(pair[1], &msg, 0));
	memcpy(&got, CMSG_DATA(&control.head), sizeof(got));
	SHOW(read(got, buf, 6));
	printf("%.6s\n", buf);
	SHOW(close(got));
}

static void mappings(void)
{
	int fd = FD(open("map", O_RDWR | O_CREAT, 0644));
	char *map;

	ftruncate(fd, 8192);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	SHOW(map != MAP_FAILED);
	if (map == MAP_FAILED)
		return;
	memcpy(map, "mapped", 6);
	SHOW(pread(fd, buf, 6, 0));
	printf("%.6s\n", buf);
	SHOW(pwrite(fd, "WRITTEN", 7, 4096));
	printf("%.7s\n", map + 4096);
	SHOW(msync(map, 8192, MS_SYNC));
	SHOW(munmap(map, 8192));
	close(fd);
	content("map");
}

static void limits(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	SHOW(limit.rlim_cur);
	SHOW(sysconf(_SC_OPEN_MAX));
	fflush(stdout);
	SHOW(system("ulimit -n"));
	limit.rlim_cur = 500;
	SHOW(setrlimit(RLIMIT_NOFILE, &limit));
	getrlimit(RLIMIT_NOFILE, &limit);
	SHOW(limit.rlim_cur);
	close(FD(open("file", O_RDONLY)));
	limit = (struct rlimit){100, RLIM_INFINITY};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	int fd = open("limited", O_CREAT | O_WRONLY, 0644);
	SHOW(pwrite(fd, buf, 200, 0));
	SHOW(pwrite(fd, buf, 200, 100));
	limit.rlim_cur = 300000; /* within the second of several requests */
	setrlimit(RLIMIT_FSIZE, &limit);
	SHOW(write(fd, buf, sizeof(buf)));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(lseek(fd, 0, SEEK_END));
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &limit);
	close(fd);
}

static void rights(void)
{
	fflush(stdout);
	pid_t pid = fork();

	if (!pid) {
		stat("file", &(struct stat){0});
		setgid(1000);
		setuid(1000);
		chmod("file", 0600);
		FD(open("file", O_RDONLY));
		SHOW(access("file", R_OK));
		SHOW(unlink("file"));
		fflush(stdout);
		_exit(0);
	}
	run("setuid", pid);
}

int main(int argc, char **argv)
{
	char cwd[300];

	if (argc == 3 && !strcmp(argv[1], "--inherited"))
		return inherited(atoi(argv[2]));
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (argc != 2 || chdir(argv[1]) < 0)
		return 2;
	SHOW(getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, argv[1]));
	opening();
	vectors();
	names();
	attributes();
	directories();
	descriptors();
	stdio();
	processes();
	threads();
	locks();
	passing(sendmsg);
	passing(sendmsg_by_number);
	by_number();
	mappings();
	rights();
	limits();
	return 0;
}
