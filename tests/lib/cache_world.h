/* SPDX-License-Identifier: Apache-2.0 */
/* A cache over fault over local, on a temporary directory, for the tests of the cache. Its clock
 * does not strike: what is checked in time is checked when a test sets store->check_ns. */
#pragma once

#include "danaus/libservices/cache/internal.h"
#include "tests/lib/vfs_env.h"

#define PAGE 4096u
#define KIB  1024u
#define MIB  (1024u * KIB)

struct cache_world {
	char dir[64];
	struct libservice *ls, *lower;
	struct cache_store *store;
	struct fault_plan plan; /* of what is below the cache */
	struct cred *cred;
	struct ls_node *root;
	struct attr attr;
	unsigned fds;
};

static const struct source source_of_local = {.kind = SOURCE_LOCAL, .path = "/"};
static const struct source source_of_cache = {
    .kind = SOURCE_CACHE, .nlower = 1, .lower = {(struct source *)&source_of_local}};

/* In a new directory in base. */
static inline void cw_start_on(struct cache_world *w, const char *base, const struct source *source,
			       uint64_t budget)
{
	struct stack_limits limits = {0};
	struct err err = {""};

	memset(w, 0, sizeof(*w));
	w->fds = env_count_fds();
	snprintf(w->dir, sizeof(w->dir), "%s/danaus-test-XXXXXX", base);
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chmod(w->dir, 0777), 0);
	assert_int_equal(cache_store_new(budget, &w->store), 0);
	assert_int_equal(local_new(w->dir, &w->lower, &err), 0);
	assert_int_equal(fault_new(w->lower, &w->plan, &w->lower), 0);
	w->lower->cacheable = true; /* as local is */
	w->store->check_ns = UINT64_MAX / 4;
	limits.caches = w->store;
	assert_int_equal(cache_open(source, &limits, &w->lower, &w->ls, &err), 0);
	w->cred = cred_root();
	assert_int_equal(ls_root(w->ls, &w->root, &w->attr), 0);
}

static inline void cw_start(struct cache_world *w, uint64_t budget)
{
	cw_start_on(w, env_base(), &source_of_cache, budget);
}

static inline void cw_stop(struct cache_world *w)
{
	struct cache_counts counts;

	ls_forget(w->ls, w->root, 1);
	ls_free(w->ls);
	cache_store_count(w->store, &counts);
	assert_false(counts.used);
	assert_int_equal(counts.pages, 0);
	assert_int_equal(counts.bytes, 0);
	cache_store_free(w->store);
	cred_unref(w->cred);
	env_remove_tree(w->dir);
	assert_int_equal(env_count_fds(), w->fds);
}

static inline const char *cw_path(struct cache_world *w, const char *name)
{
	static __thread char path[128];

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	return path;
}

/* Written by somebody else, and long ago. */
static inline void cw_host_write(struct cache_world *w, const char *name, const void *data,
				 size_t len, uint64_t offset)
{
	int fd = open(cw_path(w, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
	close(fd);
}

static inline unsigned char cw_byte(uint64_t offset, unsigned seed)
{
	return (offset / 7 + offset / PAGE * 31 + seed) & 0xff;
}

static inline void cw_host_fill(struct cache_world *w, const char *name, size_t len, unsigned seed)
{
	unsigned char *data = malloc(len);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = cw_byte(i, seed);
	cw_host_write(w, name, data, len, 0);
	free(data);
}

struct cw_handle {
	struct ls_node *node;
	struct ls_file *file;
};

static inline struct cw_handle cw_open(struct cache_world *w, const char *name, int flags)
{
	struct cw_handle h;
	struct attr attr;

	assert_int_equal(ls_lookup(w->ls, w->cred, w->root, name, &h.node, &attr), 0);
	assert_int_equal(ls_open(w->ls, w->cred, h.node, flags, &h.file), 0);
	return h;
}

static inline void cw_close(struct cache_world *w, struct cw_handle *h)
{
	ls_release(w->ls, h->file);
	ls_forget(w->ls, h->node, 1);
}

static inline ssize_t cw_read(struct cache_world *w, struct cw_handle *h, void *data, size_t len,
			      uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};

	return ls_read(w->ls, h->file, &iov, 1, offset);
}

static inline ssize_t cw_write(struct cache_world *w, struct cw_handle *h, const void *data,
			       size_t len, uint64_t offset, bool append)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};

	return ls_write(w->ls, h->file, &iov, 1, offset, append, NULL);
}

static inline void cw_check(struct cache_world *w, struct cw_handle *h, uint64_t offset, size_t len,
			    unsigned seed)
{
	unsigned char data[16 * KIB];

	assert_true(len <= sizeof(data));
	assert_int_equal(cw_read(w, h, data, len, offset), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], cw_byte(offset + i, seed));
}

/* The file's times are too old to be mistaken for later ones. */
static inline void cw_settle(struct cache_world *w, const char *name)
{
	struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct timespec now;
	struct stat st;

	assert_int_equal(utimensat(AT_FDCWD, cw_path(w, name), past, 0), 0);
	assert_int_equal(stat(cw_path(w, name), &st), 0);
	/* waits for an event: the clock is past what counts as recent after the change */
	do {
		struct timespec pause = {.tv_nsec = 5000000};

		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_REALTIME, &now);
	} while ((now.tv_sec - st.st_ctim.tv_sec) * 1000000000ll + now.tv_nsec -
		     st.st_ctim.tv_nsec <
		 60000000);
}

/* Calls below the cache meanwhile. */
static inline uint64_t cw_calls(struct cache_world *w)
{
	return atomic_load(&w->plan.calls);
}

/* The nth call below from now on fails, or all from it on. */
static inline void cw_fail(struct cache_world *w, int error, unsigned nth, bool to_the_end)
{
	atomic_store(&w->plan.error, error);
	atomic_store(&w->plan.to_the_end, to_the_end);
	atomic_store(&w->plan.first, cw_calls(w) + nth);
}

/* No more; whether one did. */
static inline bool cw_fail_end(struct cache_world *w)
{
	bool failed = cw_calls(w) >= atomic_load(&w->plan.first);

	atomic_store(&w->plan.first, 0);
	atomic_store(&w->plan.to_the_end, false);
	return failed;
}

/* How many pages of name are read without a call below. */
static inline unsigned cw_pages(struct cache_world *w, struct cw_handle *h, unsigned npages)
{
	unsigned there = 0;
	char page[PAGE];

	for (unsigned i = 0; i < npages; i++) {
		/* one that fails is one that is not there, and changes nothing */
		cw_fail(w, -EIO, 1, true);
		there += cw_read(w, h, page, PAGE, (uint64_t)i * PAGE) == PAGE;
		cw_fail_end(w);
	}
	return there;
}
