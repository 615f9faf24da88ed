/* SPDX-License-Identifier: Apache-2.0 */
/* crowd DIR: a user whose calls wait in their hundreds, for locks here, and root beside him, both
 * under the filter of test_notify_door.c. 0, or the line of the check that failed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CROWD 300

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__;                                                           \
	} while (0)

static const char *dir;
static char path[256];
static int fd;

static void *wait_for_lock(void *arg)
{
	struct flock lock = {.l_type = F_WRLCK};

	fcntl(fd, F_SETLKW, &lock);
	return NULL;
}

static int make_a_crowd(int said)
{
	struct flock lock = {.l_type = F_RDLCK};
	pthread_t threads[CROWD];
	pthread_attr_t attr;

	CHECK(!setgid(1000) && !setuid(1000));
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (int i = 0; i < CROWD; i++)
		CHECK(!pthread_create(&threads[i], &attr, wait_for_lock, NULL));
	while (!fcntl(fd, F_GETLK, &lock)) {
		lock = (struct flock){.l_type = F_RDLCK};
		usleep(1000);
	}
	CHECK(errno == ENOMEM);
	/* the kernel's own walk: there is no such directory */
	CHECK(access(dir, F_OK) == -1 && errno == ENOENT);
	CHECK(write(said, "c", 1) == 1);
	for (int i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct flock lock = {.l_type = F_WRLCK};
	int said[2], status;
	pid_t pid;
	char c;

	CHECK(argc == 2);
	dir = argv[1];
	snprintf(path, sizeof(path), "%s/crowded", dir);
	fd = open(path, O_CREAT | O_RDWR, 0644);
	CHECK(!pipe(said) && !fchmod(fd, 0666) && !fcntl(fd, F_SETLK, &lock));
	pid = fork();
	if (!pid)
		_exit(make_a_crowd(said[1]));
	close(said[1]);
	if (read(said[0], &c, 1) == 1)
		CHECK(!access(dir, F_OK) && write(fd, "x", 1) == 1);
	lock.l_type = F_UNLCK;
	CHECK(!fcntl(fd, F_SETLK, &lock));
	CHECK(waitpid(pid, &status, 0) == pid);
	return WEXITSTATUS(status);
}
