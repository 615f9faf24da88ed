/* SPDX-License-Identifier: Apache-2.0 */
/* A lease: for how long an answer may be used again without a request (Gray and Cheriton, "Leases",
 * SOSP 1989), so that stat(2) and access(2) of a path in use, whatever says that there is no such
 * path, and open(2) of a file that was just closed, are a few loads (the client library includes
 * this; no code that needs a libc).
 *
 * The service counts changes in one table that every client of the pool has mapped read-only: one
 * counter for each thing an answer can depend on (a directory's names and rights, an inode's
 * attributes, a process' identity, how volumes are nested). It moves a counter after it has made
 * the change that the counter is for, before the vfs's caches show it and before it answers whoever
 * asked for it. A lease names the
 * counters that its answer depends on, and what they were before the service looked: while they
 * are that, and its time is not over, the service would answer the same from its own cache.
 *
 * A counter may be shared by several things: then a lease ends early. The time bounds for how long
 * changes from outside of the pool go unseen, and a dead service's answers are used. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define LEASE_COUNTERS 16384u /* a power of two */
#define LEASE_DEPS_MAX 10u

struct lease_table {
	_Atomic uint32_t counter[LEASE_COUNTERS];
};

struct lease {
	uint32_t ndeps;
	uint32_t duration_us; /* from when the request was made */
	struct {
		uint32_t counter; /* below LEASE_COUNTERS */
		uint32_t value;
	} dep[LEASE_DEPS_MAX];
};

/* Whether nothing that it depends on has changed. Its time is the caller's to look at. */
static inline _Bool lease_holds(const struct lease_table *table, const struct lease *lease)
{
	for (uint32_t i = 0; i < lease->ndeps; i++) {
		if (atomic_load(&table->counter[lease->dep[i].counter % LEASE_COUNTERS]) !=
		    lease->dep[i].value)
			return 0;
	}
	return 1;
}
