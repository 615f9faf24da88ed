/* SPDX-License-Identifier: Apache-2.0 */
/* Times file operations in a directory: bench DIR. Says "ready", then answers each line "OPERATION
 * MILLISECONDS" of its input with the nanoseconds of one operation: median and tenth percentile of
 * batches, and the mean, which has the stalls in it. It keeps its files open all the time. Built
 * dynamic and static from the same source, so that the doors are compared and not programs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
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
static int file; /* only read once it is made */
static int out, log_file, small;
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
	must(pwrite(out, buf, 4096, page()), 4096, "pwrite");
}

static void op_read_1m(void)
{
	must(pread(file, buf, 1 << 20, page() & ~0xfffffull), 1 << 20, "read 1 MiB");
}

static void op_write_1m(void)
{
	must(pwrite(out, buf, 1 << 20, page() & ~0xfffffull), 1 << 20, "write 1 MiB");
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
	must(pwrite(out, buf, 4096, page()), 4096, "pwrite");
	must(fsync(out), 0, "fsync");
}

/* What reads of a file that is being written to cost. */
static void op_mixed(void)
{
	static unsigned n;

	if (++n % 10)
		must(pread(out, buf, 4096, page()), 4096, "pread");
	else
		op_pwrite();
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

/* Not a file operation: 4 KiB to a thread and an answer back, over memory. It tells how fast the
 * machine's CPUs exchange data at the moment. */
static struct {
	_Atomic int turn __attribute__((aligned(128)));
	char data[4096] __attribute__((aligned(128)));
} memory;
static pthread_t partner;

static void *partner_main(void *arg)
{
	static char mine[4096];

	for (;;) {
		int turn;

		while ((turn = atomic_load_explicit(&memory.turn, memory_order_acquire)) == 0)
			;
		if (turn < 0)
			return arg;
		memcpy(mine, memory.data, sizeof(mine));
		__asm__ volatile("" : : "r"(mine) : "memory");
		atomic_store_explicit(&memory.turn, 0, memory_order_release);
	}
}

static void begin_memory(void)
{
	must(pthread_create(&partner, NULL, partner_main, NULL), 0, "thread");
}

static void op_memory(void)
{
	memcpy(memory.data, buf, sizeof(memory.data));
	atomic_store_explicit(&memory.turn, 1, memory_order_release);
	while (atomic_load_explicit(&memory.turn, memory_order_acquire))
		;
}

static void end_memory(void)
{
	atomic_store(&memory.turn, -1);
	pthread_join(partner, NULL);
	atomic_store(&memory.turn, 0);
}

/* Page caches are warm for a file that is read twice. */
static void begin_pread(void)
{
	for (unsigned i = 0; i < FILE_BYTES / sizeof(buf); i++)
		must(pread(file, buf, sizeof(buf), (off_t)i * sizeof(buf)), sizeof(buf), "read");
}

static const struct {
	const char *name;
	void (*run)(void);
	void (*begin)(void), (*end)(void); /* or NULL */
} ops[] = {
    {.name = "memory-4k", .run = op_memory, .begin = begin_memory, .end = end_memory},
    {.name = "pread-4k", .run = op_pread, .begin = begin_pread},
    {.name = "pwrite-4k", .run = op_pwrite},
    {.name = "read-1m", .run = op_read_1m},
    {.name = "write-1m", .run = op_write_1m},
    {.name = "stat", .run = op_stat},
    {.name = "fstat", .run = op_fstat},
    {.name = "stat-deep", .run = op_stat_deep},
    {.name = "stat-missing", .run = op_stat_missing},
    {.name = "open-close", .run = op_open},
    {.name = "create-unlink", .run = op_create},
    {.name = "small-file", .run = op_small_file},
    {.name = "rename", .run = op_rename},
    {.name = "list-1000", .run = op_list},
    {.name = "append-100", .run = op_append},
    {.name = "9-pread-1-pwrite", .run = op_mixed},
    {.name = "pwrite-fsync", .run = op_fsync},
    {.name = "spawn-true", .run = op_spawn},
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

static int fill(const char *name)
{
	int f = open(name, O_CREAT | O_RDWR, 0644);

	must(f < 0, 0, name);
	for (unsigned i = 0; i < FILE_BYTES / sizeof(buf); i++)
		must(write(f, buf, sizeof(buf)), sizeof(buf), "write");
	return f;
}

static void prepare(void)
{
	char name[64];

	memset(buf, 'x', sizeof(buf));
	file = fill("in");
	out = fill("out");
	begin_pread();
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

/* Answers the median and the tenth percentile of the first batches, which others on the machine
 * disturb less, and the mean of all. */
static void measure(unsigned op, uint64_t ms)
{
	static double batch[BATCHES];
	uint64_t start, t, sum = 0;
	double mean;
	unsigned each, n = 0;

	if (ops[op].begin)
		ops[op].begin();
	ops[op].run();
	start = t = now();
	ops[op].run();
	t = now() - t;
	each = t < ms * 1000000 / BATCHES ? (unsigned)(ms * 1000000 / BATCHES / (t + 1)) + 1 : 1;
	while (n < 5 || now() - start < ms * 1000000) {
		t = now();
		for (unsigned k = 0; k < each; k++)
			ops[op].run();
		t = now() - t;
		sum += t;
		if (n < BATCHES)
			batch[n] = (double)t / each;
		n++;
	}
	if (ops[op].end)
		ops[op].end();
	mean = (double)sum / ((double)n * each);
	n = n < BATCHES ? n : BATCHES;
	qsort(batch, n, sizeof(batch[0]), compare);
	printf("%.0f %.0f %.0f\n", batch[n / 2], batch[n / 10], mean);
}

int main(int argc, char **argv)
{
	char line[128], name[64];
	unsigned long ms;

	if (argc != 2 || chdir(argv[1]) < 0)
		err(1, "bench DIR");
	prepare();
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) && sscanf(line, "%63s %lu", name, &ms) == 2) {
		unsigned op = 0;

		while (op < sizeof(ops) / sizeof(ops[0]) && strcmp(name, ops[op].name))
			op++;
		if (op == sizeof(ops) / sizeof(ops[0]))
			errx(1, "no operation %s", name);
		measure(op, ms);
		fflush(stdout);
	}
	return 0;
}
