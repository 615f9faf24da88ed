/* SPDX-License-Identifier: Apache-2.0 */
/* A file server's work: mix DIR FILES SECONDS. Threads make files of 128 KiB in the mean, append to
 * them, read them whole, ask for their attributes and delete them, each by turns on a file of its
 * own share. Prints the operations done in a second. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS	   4
#define MEAN_BYTES (128u << 10)
#define PER_DIR	   100

static const char *top;
static unsigned files;
static double seconds;

struct share {
	pthread_t thread;
	unsigned first, seed;
	uint64_t done;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(const char *path, int flags, char *buf, size_t len)
{
	int fd = open(path, flags | O_WRONLY, 0644);

	if (fd < 0 || write(fd, buf, len) != (ssize_t)len || close(fd))
		err(1, "writing %s", path);
}

static void get(const char *path, char *buf)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = 1;

	if (fd < 0)
		err(1, "%s", path);
	while (n > 0)
		n = read(fd, buf, 64 << 10);
	if (n < 0 || close(fd))
		err(1, "reading %s", path);
}

static void *work(void *arg)
{
	struct share *share = arg;
	char *buf = calloc(1, 2 * MEAN_BYTES), path[256];
	double end = now() + seconds;
	struct stat st;

	if (!buf)
		err(1, "memory");
	for (unsigned turn = 0; now() < end; turn++) {
		unsigned n = share->first + turn % (files / THREADS) * THREADS;

		snprintf(path, sizeof(path), "%s/%u/%u", top, n / PER_DIR, n);
		if (turn >= files / THREADS && unlink(path))
			err(1, "deleting %s", path);
		put(path, O_CREAT | O_EXCL, buf, (size_t)rand_r(&share->seed) % (2 * MEAN_BYTES));
		put(path, O_APPEND, buf, 16 << 10);
		get(path, buf);
		if (stat(path, &st))
			err(1, "stat %s", path);
		share->done += 4 + (turn >= files / THREADS);
	}
	free(buf);
	return NULL;
}

int main(int argc, char **argv)
{
	struct share shares[THREADS] = {0};
	char path[256];
	uint64_t done = 0;

	if (argc != 4)
		errx(2, "usage: mix DIR FILES SECONDS");
	top = argv[1];
	files = (unsigned)atoi(argv[2]) / THREADS * THREADS;
	seconds = atof(argv[3]);
	for (unsigned i = 0; i <= files / PER_DIR; i++) {
		snprintf(path, sizeof(path), "%s/%u", top, i);
		if (mkdir(path, 0755))
			err(1, "%s", path);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		shares[i] = (struct share){.first = i, .seed = i + 1};
		if (pthread_create(&shares[i].thread, NULL, work, &shares[i]))
			errx(1, "a thread");
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(shares[i].thread, NULL);
		done += shares[i].done;
	}
	printf("%.1f\n", (double)done / seconds);
	return 0;
}
