/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that hold for a while (proto/lease.h), so that asking again needs no request: attributes
 * and rights, by a path or an open file; that there is nothing; and open files, which stay open
 * when the program closes them and are its next open of the same path. All of it is what this
 * thread was answered before, as who it is.
 *
 * Any thread, any signal handler: nobody waits here. An entry that somebody else has in hand is as
 * good as none. */
#pragma once

#include "danaus/proto/lease.h"
#include "preload/path.h"

#define LEASE_AFTER 32u /* requests; then it is worth a mapping */

/* The table is mapped; its clock is for lease_keep(). 0: no leases. */
uint64_t lease_clock_ns(void);
static inline bool lease_wanted(void)
{
	return atomic_load_explicit(&root.leases, memory_order_acquire) != NULL;
}
/* One more request whose answer could have been a lease: asks for the table when it is time. */
void lease_missed(void);

/* What is asked about: the path rest from an open file (its serial) or a volume's root. */
struct lease_key {
	uint64_t from;
	const char *rest;
	uint32_t flags;
};
static inline struct lease_key lease_key_of(const struct target *target,
					    const struct path_args *args)
{
	/* flags of open(2) and access(2) that may be leased, and access(2)'s mode, are below */
	_Static_assert(WIRE_OP_COUNT <= 1 << 6, "the operation's bits");
	return (struct lease_key){target->dir ? target->dir->serial : target->handle, target->rest,
				  args->flags | args->mode << 20 | args->op << 24};
}

#define LEASE_NONE 1
/* What was answered, 0 (ret: NULL, or the attributes) or an error; LEASE_NONE: nothing is known. */
int lease_find(const struct lease_key *key, struct wire_attr *ret);
/* Keeps r, what the request that was made at clock_ns answered, if it came with a lease. */
void lease_keep(const struct lease_key *key, uint64_t clock_ns, struct call *call, int r);

/* An open file as open(2) gives it, the caller's reference; NULL: none. */
struct ofile *lease_find_open(const struct lease_key *key);
/* Whether to keep files open: not each of a program that opens ever other ones. */
bool lease_opens_pay(void);
/* A number for ofile's `lease`, by which lease_park() knows it again; 0: none. */
uint32_t lease_keep_open(const struct lease_key *key, uint64_t clock_ns, struct call *call);
enum lease_parked { LEASE_NOT_PARKED, LEASE_PARKED, LEASE_CLOSED };
/* file's last reference but the caller's goes: the reference is the lease's then (PARKED); or the
 * service has closed the handle just now. */
enum lease_parked lease_park(struct ofile *file);

/* In a fork's child, on its one thread: its parent's leases are not its own. */
void lease_forked(void);
