/* SPDX-License-Identifier: Apache-2.0 */
/* What times tell of a file's content. They come from a clock that ticks: two changes within a tick
 * bear the same time. */
#pragma once

#include "danaus/libservices/libservice.h"

#define ATTR_RECENT_NS 50000000ll /* longer than any tick */

static inline bool time_same(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* attr's last change is too young: another one may still get its time. */
static inline bool attr_is_recent(const struct attr *attr)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - attr->ctime.tv_sec) * 1000000000ll + now.tv_nsec -
		   attr->ctime.tv_nsec <
	       ATTR_RECENT_NS;
}
