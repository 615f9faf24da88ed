/* SPDX-License-Identifier: Apache-2.0 */
/* What a service tells its guard (hooks/guard.h) over a SOCK_SEQPACKET socket, and what it leaves
 * behind for it in memory. The service's end never blocks: a guard that is stuck does without. */
#pragma once

#include <assert.h>
#include <linux/seccomp.h>
#include <stdint.h>

enum guard_kind {
	/* A kernel face starts; one descriptor, of the abort file that its connection has in
	 * fusectl (Linux Documentation/filesystems/fuse/fuse.rst). number: the connection's there.
	 */
	GUARD_FACE = 1,
	GUARD_FACE_ENDED,
	/* The service serves a seccomp listener; two descriptors, of it and of its ledger. number:
	 * the service's own for it, another listener's after GUARD_LISTENER_LEFT. */
	GUARD_LISTENER,
	/* The service serves it no longer, and has answered all that it received there. */
	GUARD_LISTENER_LEFT,
};

struct guard_message {
	uint32_t kind, number;
};

#define GUARD_CALLS	512 /* numbers of system calls */
#define GUARD_RECEIVERS 512 /* threads of the service that receive from one listener */

/* A receiver's call. The kernel itself writes the request here, so that there is no moment at which
 * the service has received a notification and the guard would not find it. id is 0 once it is
 * answered. */
struct guard_call {
	struct seccomp_notif request;
	uint32_t acts; /* something of the call may have been done */
	uint32_t unused;
};

/* A listener's ledger: a memory file of this. The service writes, the guard reads after it. */
struct guard_ledger {
	int32_t fd_base;
	uint32_t used;			  /* of call[]: the others never had one */
	uint8_t descriptors[GUARD_CALLS]; /* by number: bit n, argument n names an open file */
	struct guard_call call[GUARD_RECEIVERS];
};

static_assert(sizeof(struct guard_call) == 88 && sizeof(struct guard_ledger) == 520 + 512 * 88,
	      "the same in the hook and the service");
