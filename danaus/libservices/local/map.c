/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the mappings of open files that are written in place, and SIGBUS. See map.h. */
#include "danaus/libservices/local/map.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The kernel writes dirty pages back and makes them read-only after some seconds: the next store
 * into one costs a page fault, as much as pwrite(2). */
#define EPOCH_NS      1000000000u
#define PAGE_BYTES    4096u
#define WRITES_FIRST  32u /* small writes by system calls before a file is mapped */
#define MAP_BYTES_MIN (1ull << 20)
#define MAP_BYTES_MAX (64ull << 30) /* its bits: 2 MiB */

struct local_map {
	struct local *local;
	char *at;
	uint64_t bytes;
	uint64_t since;	    /* of the clock: when written was empty */
	uint64_t written[]; /* a bit per page: written since, so in memory and dirty */
};

static __thread sigjmp_buf *escape; /* of the copy that the thread is in */
static struct sigaction others;	    /* what SIGBUS did before */

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	if (escape) {
		/* ThreadSanitizer's handlers run with all signals blocked: the next would kill. */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(*escape, 1);
	}
	sigaction(SIGBUS, &others, NULL); /* not ours: it comes again */
}

/* A mapped page that is gone ends a copy instead of the process. */
static void catch_sigbus(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	/* The handler jumps out: the signal must not stay blocked. */
	const struct sigaction action = {.sa_sigaction = on_sigbus,
					 .sa_flags = SA_NODEFER | SA_SIGINFO};
	struct sigaction now;

	pthread_mutex_lock(&lock);
	if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != on_sigbus) {
		others = now;
		sigaction(SIGBUS, &action, NULL);
	}
	pthread_mutex_unlock(&lock);
}

uint64_t local_map_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

void local_map_expire(struct ls_node *node)
{
	atomic_store_explicit(&node->written_at, 0, memory_order_relaxed);
}

/* What a program opens and writes to must not take all addresses that the service has. */
static bool take(struct local *local, uint64_t bytes)
{
	bool ok = atomic_fetch_add(&local->maps, 1) < LOCAL_MAPS_MAX;

	return atomic_fetch_add(&local->map_bytes, bytes) + bytes <= LOCAL_MAP_BYTES_MAX && ok;
}

static void give_back(struct local *local, uint64_t bytes)
{
	atomic_fetch_sub(&local->maps, 1);
	atomic_fetch_sub(&local->map_bytes, bytes);
}

void local_map_free(struct ls_file *file)
{
	if (!file->map)
		return;
	munmap(file->map->at, file->map->bytes);
	give_back(file->map->local, file->map->bytes);
	free(file->map);
	file->map = NULL;
}

/* Where a store to a mapping and write(2) meet in one page cache. */
static bool is_suitable(int fd)
{
	struct statfs fs;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR || fstatfs(fd, &fs) < 0)
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
	       fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC;
}

/* With room for as much again: what lies beyond the end raises SIGBUS until the file is there. */
static struct local_map *map_new(struct local *local, int fd)
{
	struct local_map *map;
	struct stat st;
	uint64_t bytes;

	if (!is_suitable(fd) || fstat(fd, &st) < 0)
		return NULL;
	for (bytes = MAP_BYTES_MIN; bytes < 2 * (uint64_t)st.st_size && bytes < MAP_BYTES_MAX;)
		bytes *= 2;
	map = calloc(1, sizeof(*map) + bytes / PAGE_BYTES / 8);
	if (!map)
		return NULL;
	map->local = local;
	map->bytes = bytes;
	map->at = take(local, bytes) ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
				     : MAP_FAILED;
	if (map->at == MAP_FAILED) {
		give_back(local, bytes);
		free(map);
		return NULL;
	}
	madvise(map->at, bytes, MADV_DONTFORK);
	catch_sigbus();
	return map;
}

static uint64_t page_bit(uint64_t page)
{
	return 1ull << (page % 64);
}

void local_map_wrote(struct local *local, struct ls_file *file, uint64_t started, size_t len_bytes,
		     uint64_t offset)
{
	struct local_map *map = file->map;
	uint64_t end = offset + len_bytes;

	atomic_store_explicit(&file->node->written_at, started, memory_order_relaxed);
	if (!map) {
		if (file->small_writes++ == WRITES_FIRST)
			file->map = map_new(local, file->fd);
		return;
	}
	if (end > map->bytes) {
		/* It has grown: a larger one when it is written to like that again. */
		if (end <= MAP_BYTES_MAX) {
			local_map_free(file);
			file->small_writes = 0;
		}
		return;
	}
	if (started - map->since > EPOCH_NS) {
		memset(map->written, 0, map->bytes / PAGE_BYTES / 8);
		map->since = started;
	}
	for (uint64_t page = offset / PAGE_BYTES; page <= (end - 1) / PAGE_BYTES; page++)
		map->written[page / 64] |= page_bit(page);
}

/* False: a page is gone, or there is no room for it. */
static bool copy(char *to, const void *data, size_t len_bytes)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		escape = NULL;
		return false;
	}
	escape = &here;
	atomic_signal_fence(memory_order_seq_cst);
	memcpy(to, data, len_bytes);
	atomic_signal_fence(memory_order_seq_cst);
	escape = NULL;
	return true;
}

bool local_map_write(const struct local *local, struct ls_file *file, const void *data,
		     size_t len_bytes, uint64_t offset)
{
	struct local_map *map = file->map;
	uint64_t end = offset + len_bytes;

	if (!map || end > map->bytes ||
	    atomic_load_explicit(&local->watched, memory_order_relaxed) ||
	    atomic_load_explicit(&file->node->written_at, memory_order_relaxed) !=
		local_map_clock())
		return false;
	for (uint64_t page = offset / PAGE_BYTES; page <= (end - 1) / PAGE_BYTES; page++) {
		if (!(map->written[page / 64] & page_bit(page)))
			return false;
	}
	/* What lies beyond the end of the file in its last page is lost, also when the file grows
	 * before the copy ends. Who cuts it from here on does so after this write. lseek(2) costs
	 * half of fstat(2); nobody else uses the position now (node->write_lock). */
	if (lseek(file->fd, 0, SEEK_END) < (off_t)end)
		return false;
	if (copy(map->at + offset, data, len_bytes))
		return true;
	/* not tried again before it was written */
	for (uint64_t page = offset / PAGE_BYTES; page <= (end - 1) / PAGE_BYTES; page++)
		map->written[page / 64] &= ~page_bit(page);
	return false;
}
