/* SPDX-License-Identifier: Apache-2.0 */
/* The time that passes, as coarse as the kernel's tick, for what is kept for a while. Any thread.
 */
#pragma once

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC_COARSE, in nanoseconds. */
static inline uint64_t clock_coarse_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}
