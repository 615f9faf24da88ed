/* SPDX-License-Identifier: Apache-2.0 */
/* Threads on one file of a cache_world. A piece of the file has one number in all of its words,
 * which only grows; whoever reads one never sees an older number than was there before. A thread
 * aborts where that does not hold: cmocka's assertions are the main thread's. */
#pragma once

#include <pthread.h>

#include "tests/lib/cache_world.h"

struct cache_race {
	struct cache_world w;
	struct cw_handle h, other; /* of "f"; other is what a test likes */
	atomic_bool ends;
	atomic_uint last[2]; /* each writer's last number that is all written */
};

static inline void race_write(struct cache_race *race, uint32_t number, size_t len, uint64_t offset)
{
	uint32_t words[PAGE / 4];

	for (unsigned i = 0; i < len / 4; i++)
		words[i] = number;
	if (cw_write(&race->w, &race->h, words, len, offset, false) != (ssize_t)len)
		abort();
}

/* Of writer's numbers, where *seen was the last one; *seen is what is there now. */
static inline void race_read(struct cache_race *race, struct cw_handle *h, unsigned writer,
			     size_t len, uint64_t offset, uint32_t *seen)
{
	uint32_t words[PAGE / 4], complete = atomic_load(&race->last[writer]);

	if (cw_read(&race->w, h, words, len, offset) != (ssize_t)len)
		abort();
	for (unsigned i = 0; i < len / 4; i++)
		if (words[i] < complete || words[i] < *seen)
			abort();
	*seen = words[0] < words[len / 4 - 1] ? words[0] : words[len / 4 - 1];
}
