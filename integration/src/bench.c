/* SPDX-License-Identifier: Apache-2.0 */
/* Times file operations in a directory: bench DIR [MILLISECONDS]. One line per operation, "NAME
 * NS": the median over batches of the time of one operation. Built dynamic and static from the
 * same source, so that the doors are compared and not programs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES (64u << 20)
#define BATCHES	   400

static char buf[1 << 20];
static int file, log_file, small;
static uint32_t seed = 1;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t page(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint64_t)(seed >> 8) % (FILE_BYTES / 4096) * 4096;
}

static void must(ssize_t got, ssize_t want, const char *what)
{
	if (got != want)
		err(1, "%s: %zd, not %zd", what, got, want);
}

static void op_pread(void)
{
	must(pread(file, buf, 4096, page()), 4096, "pread");
}

static void op_pwrite(void)
{
	must(pwrite(file, buf, 4096, page()), 4096, "pwrite");
}

static void op_read_1m(void)
{
	must(pread(file, buf, 1 << 20, page() & ~0xfffffull), 1 << 20, "read 1 MiB");
}

static void op_write_1m(void)
{
	must(pwrite(file, buf, 1 << 20, page() & ~0xfffffull), 1 << 20, "write 1 MiB");
}

static void op_stat(void)
{
	struct stat st;

	must(stat("small", &st), 0, "stat");
}

static void op_fstat(void)
{
	struct stat st;

	must(fstat(small, &st), 0, "fstat");
}

static void op_stat_deep(void)
{
	struct stat st;

	must(stat("a/b/c/small", &st), 0, "stat deep");
}

static void op_stat_missing(void)
{
	struct stat st;

	must(stat("missing", &st), -1, "stat missing");
}

static void op_open(void)
{
	int f = open("small", O_RDONLY);

	must(f < 0, 0, "open");
	must(close(f), 0, "close");
}

static void op_create(void)
{
	int f = open("new", O_CREAT | O_EXCL | O_WRONLY, 0644);

	must(f < 0, 0, "create");
	must(close(f), 0, "close");
	must(unlink("new"), 0, "unlink");
}

static void op_small_file(void)
{
	int f = open("new", O_CREAT | O_EXCL | O_WRONLY, 0644);

	must(write(f, buf, 16384), 16384, "write");
	must(close(f), 0, "close");
	f = open("new", O_RDONLY);
	must(read(f, buf, 16384), 16384, "read");
	must(close(f), 0, "close");
	must(unlink("new"), 0, "unlink");
}

static void op_rename(void)
{
	static int flip;

	must(flip ? rename("r1", "r0") : rename("r0", "r1"), 0, "rename");
	flip = !flip;
}

static void op_list(void)
{
	DIR *d = opendir("list");
	int n = 0;

	if (!d)
		err(1, "opendir");
	while (readdir(d))
		n++;
	closedir(d);
	must(n, 1002, "list");
}

static void op_append(void)
{
	must(write(log_file, buf, 100), 100, "append");
}

static void op_fsync(void)
{
	must(pwrite(file, buf, 4096, page()), 4096, "pwrite");
	must(fsync(file), 0, "fsync");
}

static void op_spawn(void) /* a process that does not touch the volume */
{
	static char *argv[] = {"true", NULL};
	pid_t pid;
	int status;

	must(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ), 0, "spawn");
	must(waitpid(pid, &status, 0), pid, "wait");
	must(status, 0, "true");
}

static const struct {
	const char *name;
	void (*run)(void);
} ops[] = {
    {"pread-4k", op_pread},
    {"pwrite-4k", op_pwrite},
    {"read-1m", op_read_1m},
    {"write-1m", op_write_1m},
    {"stat", op_stat},
    {"fstat", op_fstat},
    {"stat-deep", op_stat_deep},
    {"stat-missing", op_stat_missing},
    {"open-close", op_open},
    {"create-unlink", op_create},
    {"small-file", op_small_file},
    {"rename", op_rename},
    {"list-1000", op_list},
    {"append-100", op_append},
    {"pwrite-fsync", op_fsync},
    {"spawn-true", op_spawn},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void touch(const char *name)
{
	int f = open(name, O_CREAT | O_WRONLY, 0644);

	must(f < 0, 0, name);
	must(close(f), 0, name);
}

static void prepare(void)
{
	char name[64];

	file = open("big", O_CREAT | O_RDWR, 0644);
	must(file < 0, 0, "open big");
	memset(buf, 'x', sizeof(buf));
	for (unsigned i = 0; i < FILE_BYTES / sizeof(buf); i++)
		must(write(file, buf, sizeof(buf)), sizeof(buf), "write");
	log_file = open("log", O_CREAT | O_WRONLY | O_APPEND, 0644);
	small = open("small", O_CREAT | O_RDWR, 0644);
	must(write(small, buf, 100), 100, "write");
	touch("r0");
	mkdir("a", 0755);
	mkdir("a/b", 0755);
	mkdir("a/b/c", 0755);
	touch("a/b/c/small");
	mkdir("list", 0755);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "list/entry-%04d", i);
		touch(name);
	}
}

int main(int argc, char **argv)
{
	uint64_t ms = argc > 2 ? strtoull(argv[2], NULL, 10) : 500;
	const char *one = argc > 3 ? argv[3] : NULL;

	if (argc < 2 || chdir(argv[1]) < 0)
		err(1, "bench DIR [MILLISECONDS [OPERATION]]");
	prepare();
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		static double batch[BATCHES];
		uint64_t start = now(), t;
		unsigned each = 1, n = 0;

		if (one && strcmp(one, ops[i].name))
			continue;
		ops[i].run();
		t = now();
		ops[i].run();
		t = now() - t;
		each = t < ms * 1000000 / BATCHES ? (unsigned)(ms * 1000000 / BATCHES / (t + 1)) + 1
						  : 1;
		while (n < BATCHES && (n < 5 || now() - start < ms * 1000000)) {
			t = now();
			for (unsigned k = 0; k < each; k++)
				ops[i].run();
			batch[n++] = (double)(now() - t) / each;
		}
		qsort(batch, n, sizeof(batch[0]), compare);
		printf("%s %.0f\n", ops[i].name, batch[n / 2]);
		fflush(stdout);
	}
	return 0;
}
