/* SPDX-License-Identifier: Apache-2.0 */
/* A listener's ledger: what the pool's guard needs to know of its calls should the service be
 * killed (danaus/proto/guard.h). Receivers write into their own part of it; everything else under
 * the door's lock. */
#pragma once

#include "danaus/pool/pool.h"
#include "danaus/proto/guard.h"

struct ledger {
	struct guard_ledger *shared;
	int file;
};

/* An empty one. -errno: no memory, no descriptor. */
int ledger_init(int fd_base, struct ledger *ret);
void ledger_done(struct ledger *ledger);
/* The place of one more receiver, zeroed. NULL: all GUARD_RECEIVERS are taken. The last one may be
 * given back. */
struct guard_call *ledger_place(struct ledger *ledger);
void ledger_place_back(struct ledger *ledger);
/* The guard gets the listener, before the first receiver starts. Without it (there is none, it died
 * or does not read) the service goes on, and says so in the log. */
void ledger_hand_over(struct ledger *ledger, const struct pool *pool, int listener);
/* All receivers have ended, and the listener is about to be closed: from now on the guard answers.
 */
void ledger_left(const struct pool *pool, int listener);
