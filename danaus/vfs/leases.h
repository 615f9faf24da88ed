/* SPDX-License-Identifier: Apache-2.0 */
/* The service's side of leases (proto/lease.h): the pool's counters, and a lease as it is put
 * together while a call is served. No locks; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "danaus/proto/lease.h"

#define LEASE_MIN_NS 5000000ull /* shorter is not worth the bytes: the clients' clock is coarse */

struct leases {
	struct lease_table *table;
	int fd; /* its memory, sealed: only the mapping above writes it */
	_Atomic uint32_t given;
};

/* -ENOMEM. */
int leases_init(struct leases *leases);
void leases_done(struct leases *leases);
/* A read-only descriptor of the table; the caller closes it. -errno of open(2). */
int leases_open(const struct leases *leases, int *ret_fd);

#define LEASE_EPOCH 0u /* the counter that all leases depend on */

/* Two counters for something new: this one and the next. Others may have the same. */
uint32_t leases_counters(struct leases *leases);
/* After the change. */
static inline void leases_changed(struct leases *leases, uint32_t counter)
{
	atomic_fetch_add(&leases->table->counter[counter], 1);
}

/* Put together by the calls that fill it in; each is fine for NULL. */
struct lease_draft {
	const struct leases *leases;
	struct lease lease;
	uint64_t until; /* CLOCK_MONOTONIC ns */
	bool off;	/* there is none to be had */
	bool whole;	/* all that the answer depends on is in it */
	int answer;	/* 0, or the error that it is a lease of */
};

void lease_begin(struct lease_draft *draft, const struct leases *leases);
/* The answer depends on what counter is for. Before that is looked at. */
void lease_depend(struct lease_draft *draft, uint32_t counter);
/* What was looked at is fresh until then. */
static inline void lease_until(struct lease_draft *draft, uint64_t until)
{
	if (draft && until < draft->until)
		draft->until = until;
}
static inline void lease_whole(struct lease_draft *draft)
{
	if (draft)
		draft->whole = true;
}
static inline void lease_error(struct lease_draft *draft, int error)
{
	lease_whole(draft);
	if (draft)
		draft->answer = error;
}
static inline void lease_off(struct lease_draft *draft)
{
	if (draft)
		draft->off = true;
}
/* Into ret, now being clock_coarse_ns(). False: none. */
bool lease_end(struct lease_draft *draft, uint64_t now, struct lease *ret);
