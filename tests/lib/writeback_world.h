/* SPDX-License-Identifier: Apache-2.0 */
/* A cache_world whose cache writes back, for the tests of that. Nothing goes below by its age,
 * unless a test sets store->age_ns. */
#pragma once

#include "tests/lib/cache_world.h"

#define NEVER (UINT64_MAX / 4)

static const struct source source_written_back = {
    .kind = SOURCE_LOCAL, .path = "/", .writeback = true};
static const struct source source_of_writeback = {
    .kind = SOURCE_CACHE, .nlower = 1, .lower = {(struct source *)&source_written_back}};

static inline void wb_start_on(struct cache_world *w, const char *base, uint64_t budget)
{
	cw_start_on(w, base, &source_of_writeback, budget);
	w->store->age_ns = NEVER;
	w->store->retry_ns = 1000000;
}

static inline void wb_start(struct cache_world *w, uint64_t budget)
{
	wb_start_on(w, env_base(), budget);
}

static inline struct cw_handle wb_make(struct cache_world *w, const char *name, int flags)
{
	struct cw_handle h;
	struct attr attr;

	assert_int_equal(
	    ls_create(w->ls, w->cred, w->root, name, flags, 0644, 0, &h.node, &h.file, &attr), 0);
	return h;
}

static inline uint64_t wb_dirty(struct cache_world *w)
{
	struct cache_counts counts;

	cache_store_count(w->store, &counts);
	return counts.dirty;
}

static inline uint64_t wb_host_size(struct cache_world *w, const char *name)
{
	struct stat st;

	assert_int_equal(stat(cw_path(w, name), &st), 0);
	return st.st_size;
}

static inline uint64_t wb_size(struct cache_world *w, struct cw_handle *h)
{
	struct attr attr;

	assert_int_equal(ls_getattr(w->ls, h->node, NULL, &attr), 0);
	return attr.size;
}

/* The host has exactly these bytes. */
static inline void wb_check_host(struct cache_world *w, const char *name, const void *data,
				 size_t len)
{
	int fd = open(cw_path(w, name), O_RDONLY | O_CLOEXEC);
	char *back = malloc(len + 1);

	assert_true(fd >= 0);
	assert_non_null(back);
	assert_int_equal(pread(fd, back, len + 1, 0), len);
	assert_memory_equal(back, data, len);
	free(back);
	close(fd);
}

static inline void wb_pause(void)
{
	struct timespec pause = {.tv_nsec = 2000000};

	nanosleep(&pause, NULL);
}

/* From now on each call below fails; 0: none. */
static inline void wb_fail_all(struct cache_world *w, int error)
{
	if (error)
		cw_fail(w, error, 1, true);
	else
		cw_fail_end(w);
}
