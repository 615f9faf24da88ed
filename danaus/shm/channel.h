/* SPDX-License-Identifier: Apache-2.0 */
/* The shared memory of one client process: both sides' view, no code that needs a libc (the client
 * library includes it). One memfd: struct shm_channel, then nslots payloads of WIRE_PAYLOAD_MAX.
 *
 * A request: the client claims a free slot (its own private bitmap), writes request and payload,
 * sets state to SLOT_POSTED, sets the slot's bit in doorbell, changes a 1 in bell_asleep to 2, and
 * futex-wakes it if it was not 0 (2: somebody is about to wake it, and may be what this one, in a
 * signal handler, has interrupted). The service exchanges doorbell with 0, serves each bit, writes
 * the reply and its payload, and exchanges state to SLOT_DONE; if the old value had SLOT_WAITING it
 * futex-wakes state. The client spins on state, then adds SLOT_WAITING by compare-and-swap and
 * futex-waits.
 *
 * Every step is one atomic set or exchange: a client killed between any two leaves nothing that
 * another process waits for (the service learns of its end from the attach connection). The service
 * sleeps by: bell_asleep = 1; look at doorbell once more; futex_wait(bell_asleep, 1).
 * Futexes here are shared (no FUTEX_PRIVATE_FLAG): futex(2). */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "danaus/proto/wire.h"

#define SHM_SLOTS 64u
#define SHM_IDLE  64u

enum {
	SLOT_FREE = 0,
	SLOT_POSTED = 1,
	SLOT_DONE = 2,
	SLOT_WAITING = 0x100,
	SLOT_CANCEL = 0x200, /* client: a signal wants the thread back. Added to a posted slot, then
			      * the doorbell as for a request: a blocked call ends with -EINTR
			      * (or with its result, if that was sooner); wait on for DONE */
};

struct shm_slot {
	_Atomic uint32_t state; /* SLOT_*, futex */
	uint32_t pad[15];
	struct wire_request request;
	struct wire_reply reply;
} __attribute__((aligned(128)));

struct shm_channel {
	_Atomic uint64_t doorbell; /* bit i: slot i is posted */
	uint64_t pad0[15];
	_Atomic uint32_t bell_asleep; /* futex */
	_Atomic uint32_t dead; /* service to client: 1 when the service has ended the channel;
				* a waiter answers EIO to its program */
	/* Client to service, for the statistics: reads that a window answered and their bytes; what
	 * leases answered. */
	_Atomic uint64_t window_reads, window_bytes;
	_Atomic uint64_t lease_stats, lease_opens, lease_closes, lease_accesses, lease_readlinks;
	uint64_t pad1[8];
	/* Handles that the program has closed and the client keeps for its next open of the same
	 * path. Whoever exchanges one for 0 has it: the client, to use or close it; the service, to
	 * close it, because the file was removed or it has been there for long. */
	_Atomic uint32_t idle[SHM_IDLE];
	struct shm_slot slot[SHM_SLOTS];
};

#define SHM_PAYLOAD_OFFSET ((sizeof(struct shm_channel) + 4095u) & ~(size_t)4095u)
#define SHM_CHANNEL_BYTES  (SHM_PAYLOAD_OFFSET + (size_t)SHM_SLOTS * WIRE_PAYLOAD_MAX)

static inline char *shm_payload(struct shm_channel *channel, unsigned slot)
{
	return (char *)channel + SHM_PAYLOAD_OFFSET + (size_t)slot * WIRE_PAYLOAD_MAX;
}
