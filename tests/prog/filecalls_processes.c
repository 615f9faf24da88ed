/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls: locks, threads and processes, and what only a kernel's file can do for them. */
#include "tests/prog/filecalls.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void *wait_for_lock(void *arg)
{
	int fd = open(fc_in("lock"), O_RDWR);
	struct flock lock = {.l_type = F_WRLCK, .l_len = 10};

	(void)arg;
	return (void *)(long)fcntl(fd, F_OFD_SETLKW, &lock);
}

static void on_alarm(int sig)
{
	(void)sig;
}

void fc_locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 10};
	int fd = open(fc_in("lock"), O_CREAT | O_RDWR, 0644), fd2, status;
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval soon = {.it_value = {.tv_usec = 50000}};
	pthread_t thread;
	void *result;
	pid_t pid;

	R(fcntl(fd, F_SETLK, &lock));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fd2 = open(fc_in("lock"), O_RDWR);
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
	fd2 = open(fc_in("lock"), O_RDWR);
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

static void *open_many(void *arg)
{
	long bad = 0;
	char c;

	for (int i = 0; i < 200; i++) {
		int fd = open(fc_in("a"), O_RDONLY);
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
	fd2 = open(fc_in("a"), O_RDONLY);
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

	chmod(fc_dir, 0755);
	chmod(fc_in("a"), 0600);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		R(open(fc_in("a"), O_RDONLY) >= 0);
		R(setgid(1234));
		R(setuid(1234));
		R(open(fc_in("a"), O_RDONLY));
		R(open(fc_in("new"), O_CREAT | O_WRONLY, 0644));
		R(chmod(fc_in("a"), 0644));
		R(write(fd, "y", 1));
		chmod(fc_dir, 0777);
		OK(fd = open(fc_dir, O_RDONLY));
		R(fcntl(fd, F_GETFD));
		getrlimit(RLIMIT_NOFILE, &files);
		R(files.rlim_cur > (rlim_t)fd);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	R(status);
}

void fc_processes(const char *self)
{
	int fd;

	threads();
	fd = open(fc_in("shared"), O_CREAT | O_RDWR, 0644);
	inherit(self, fd);
	duplicate(fd);
	limit_size(fd);
	become_another(fd);
	close(fd);
}

/* What the kernel's own files are needed for. */
void fc_kernel_files(const char *self)
{
	struct {
		unsigned long long flags, mode, resolve;
	} how = {O_RDONLY, 0, 8 /* RESOLVE_BENEATH */};
	int fd = open(fc_in("map"), O_CREAT | O_RDWR | O_TRUNC, 0644), fd2, pipes[2], pair[2],
	    status;
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
	fd = open(fc_in("std"), O_CREAT | O_RDWR | O_TRUNC, 0644);
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
	fd = open(fc_dir, O_RDONLY | O_DIRECTORY);
	R(syscall(SYS_openat2, fd, "../x", &how, sizeof(how)));
	R(fchdir(fd));
	R(access("std", F_OK));
	R(chdir("/"));
	close(fd);
}
