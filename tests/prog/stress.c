/* SPDX-License-Identifier: Apache-2.0 */
/* stress DIR ROUNDS: four threads open, copy, read and rename in DIR while the first one forks,
 * execs and spawns ROUNDS times, and a signal handler does I/O all the time. 0 when every call did
 * what it should. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_bool ended;
static atomic_long errors, checks;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		checks++;                                                                          \
		if (!(what)) {                                                                     \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, strerror(errno));    \
			errors++;                                                                  \
		}                                                                                  \
	} while (0)

static void on_signal(int number)
{
	int kept = errno, fd;
	struct stat st;
	char buf[8];

	CHECK(!stat("signal", &st));
	fd = open("signal", O_RDONLY);
	CHECK(fd >= 0 && read(fd, buf, sizeof(buf)) == 6);
	close(fd);
	errno = kept;
}

static void use_low_number(int fd, int low, const char *name)
{
	char buf[16];
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	CHECK(copy >= 0);
	CHECK(dup2(fd, low) == low);
	CHECK(pread(low, buf, 5, 0) == 5);
	CHECK(pread(copy, buf, 5, 0) == 5 && !memcmp(buf, name, 5));
	close(low);
	close(copy);
}

static void *work(void *arg)
{
	int number = (int)(long)arg, turn = 0, count;
	char name[32], other[32], buf[16];
	struct stat st;
	DIR *dir;

	while (!ended) {
		int fd, copy;

		turn++;
		snprintf(name, sizeof(name), "file-%d-%d", number, turn % 20);
		fd = open(name, O_RDWR | O_CREAT, 0644);
		CHECK(fd >= 0);
		CHECK(pwrite(fd, name, 8, 0) == 8);
		copy = dup(fd);
		CHECK(copy >= 0);
		CHECK(!close(fd));
		CHECK(pread(copy, buf, 8, 0) == 8 && !memcmp(buf, name, 8));
		CHECK(!fstat(copy, &st));
		if (turn % 50 == 0)
			use_low_number(copy, 500 + number, name);
		CHECK(!close(copy));
		if (turn % 10 == 0) {
			snprintf(other, sizeof(other), "moved-%d", number);
			CHECK(!rename(name, other));
			CHECK(!unlink(other));
		}
		if (turn % 30 == 0) {
			dir = opendir(".");
			for (count = 0; dir && readdir(dir); count++)
				;
			CHECK(count > 2 && !closedir(dir));
		}
	}
	return NULL;
}

static int child(int kept, int round)
{
	struct itimerval off = {{0, 0}, {0, 0}};
	struct stat st;
	int good, fd;

	setitimer(ITIMER_REAL, &off, NULL);
	good = !fstat(kept, &st) && write(kept, "x", 1) == 1;
	for (int i = 0; i < 6; i++) {
		fd = open("signal", O_RDONLY);
		good = good && fd >= 0;
		close(fd);
	}
	if (good && round % 3 == 0)
		execlp("cat", "cat", "signal", (char *)NULL);
	return !good;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct itimerval often = {{0, 2000}, {0, 2000}};
	int rounds = argc == 3 ? atoi(argv[2]) : 0, fd, kept, status;
	pthread_t threads[4];
	struct stat st;

	if (!rounds || chdir(argv[1]) < 0)
		return 2;
	fd = open("signal", O_CREAT | O_WRONLY, 0644);
	CHECK(write(fd, "signal", 6) == 6);
	close(fd);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (long i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	kept = open("kept", O_CREAT | O_RDWR, 0644);
	for (int round = 0; round < rounds; round++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(child(kept, round));
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		CHECK(pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
		if (round % 7 == 0)
			CHECK(system("true < signal") == 0);
	}
	ended = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK(!fstat(kept, &st) && st.st_size == rounds);
	fprintf(stderr, "%ld checks, %ld errors\n", (long)checks, (long)errors);
	return errors != 0;
}
