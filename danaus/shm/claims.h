/* SPDX-License-Identifier: Apache-2.0 */
/* Which slots of a channel are rung for, and which are in work: the service's private books, beside
 * memory that the tenant may change at any time. Several threads may look for work at once; each
 * request is begun by exactly one of them, and none is lost. Any thread, no lock.
 *
 * A slot's bit is in pending from when its ring was taken from the doorbell until one thread takes
 * it out; that thread puts it into in_work until the slot's reply is written. A ring for a slot in
 * work is a cancellation, or it is for a request that was posted between the reply and
 * claims_end(), which looks for that. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "danaus/shm/channel.h"

/* A test stops threads here. */
#ifndef CLAIMS_POINT
#define CLAIMS_POINT() ((void)0)
#endif

struct claims {
	_Atomic uint64_t pending; /* taken from the doorbell, not begun */
	_Atomic uint64_t in_work;
};

/* A slot that is now the caller's until claims_end(); -1: none. *ret_again: slots in work that were
 * rung for. */
static inline int claims_next(struct claims *claims, struct shm_channel *channel,
			      uint64_t *ret_again)
{
	uint64_t pending, bit, rings;

	*ret_again = 0;
	if (atomic_load_explicit(&channel->doorbell, memory_order_relaxed)) {
		rings = atomic_exchange(&channel->doorbell, 0);
		CLAIMS_POINT();
		*ret_again = rings & atomic_load(&claims->in_work);
		CLAIMS_POINT();
		if (rings & ~*ret_again)
			atomic_fetch_or(&claims->pending, rings & ~*ret_again);
	}
	while ((pending = atomic_load(&claims->pending))) {
		bit = pending & -pending;
		CLAIMS_POINT();
		if (!(atomic_fetch_and(&claims->pending, ~bit) & bit))
			continue;
		CLAIMS_POINT();
		if (!(atomic_fetch_or(&claims->in_work, bit) & bit))
			return __builtin_ctzll(bit);
		/* a cancellation that came before its call's thread had looked at the slot */
	}
	return -1;
}

/* After the reply, or where there was no request. */
static inline void claims_end(struct claims *claims, struct shm_channel *channel, unsigned slot)
{
	CLAIMS_POINT();
	atomic_fetch_and(&claims->in_work, ~(1ull << slot));
	CLAIMS_POINT();
	if ((atomic_load(&channel->slot[slot].state) & 0xff) == SLOT_POSTED)
		atomic_fetch_or(&claims->pending, 1ull << slot);
}
