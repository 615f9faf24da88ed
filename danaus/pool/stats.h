/* SPDX-License-Identifier: Apache-2.0 */
/* Operations, bytes and latencies per door and operation. Counters are per thread and summed when
 * somebody asks: the hot path writes only its own cache lines. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "danaus/proto/wire.h"

/* Without a request: DOOR_WINDOW: what programs read from windows; DOOR_LEASE: what they were
 * answered by leases. */
enum door { DOOR_SHM, DOOR_NOTIFY, DOOR_FACE, DOOR_WINDOW, DOOR_LEASE, DOOR_COUNT };

const char *door_name(enum door door); /* "shm", "notify", "fuse", "window", "lease" */

/* Nanoseconds, from a cheap monotonic clock. */
uint64_t stats_now(void);
/* One operation done: started_ns from stats_now() (0: not timed), bytes moved, error or 0. */
void stats_count(enum door door, unsigned op, uint64_t started_ns, uint64_t bytes, int error);
/* count operations that nobody timed. */
void stats_add(enum door door, unsigned op, uint64_t count, uint64_t bytes);
/* {"shm": {"open": {"count", "errors", "bytes", "p50_ns", "p90_ns", "p99_ns", "max_ns"}, ...},
 * ...}; a new reference. Percentiles from power-of-two buckets with four steps each. */
json_t *stats_json(void);
