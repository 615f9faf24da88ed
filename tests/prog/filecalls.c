/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls DIR -k USEC: killed by itself in the middle of calls.
 * filecalls DIR [kernel]: every family of file system calls in DIR, a line of output for each, the
 * same lines on any file system that is right. Linked statically: no client library can help it.
 * Without "kernel", what only a kernel file can do is left out. */
#include "tests/prog/filecalls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char fc_dir[PATH_MAX / 2];
bool fc_kernel;

void fc_report(const char *where, int line, const char *what, long r)
{
	int error = errno;

	printf("%s %d: %.60s = %ld", where, line, what, r);
	if (r < 0)
		printf(" %s", strerrorname_np(error) ? strerrorname_np(error) : "?");
	putchar('\n');
	errno = 0;
}

const char *fc_in(const char *name)
{
	static __thread char path[4][PATH_MAX];
	static __thread int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", fc_dir, name);
	return path[turn];
}

void fc_show(const struct stat *st)
{
	printf("  %o nlink %lu uid %u gid %u size %ld\n", st->st_mode, (unsigned long)st->st_nlink,
	       st->st_uid, st->st_gid, S_ISDIR(st->st_mode) ? 0 : (long)st->st_size);
}

static void *never_ends(void *arg)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/mid%ld", fc_dir, (long)arg);
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
	snprintf(fc_dir, sizeof(fc_dir), "%s", argv[1]);
	if (argc == 4 && !strcmp(argv[2], "-k"))
		return killed_in_mid_call((unsigned)atoi(argv[3]));
	fc_kernel = argc > 2;
	fc_opening();
	fc_data();
	fc_attributes();
	fc_names();
	fc_directories();
	fc_locks();
	fc_processes(argv[0]);
	if (fc_kernel) {
		fc_relative();
		fc_kernel_files(argv[0]);
	}
	return 0;
}
