/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of counters. */
#include "danaus/vfs/leases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "danaus/base/fd.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Fibonacci hashing: those that are made one after the other share no cache line. */
#define SPREAD	     2654435761u
#define LEASE_MAX_NS 1000000000ull

int leases_init(struct leases *leases)
{
	CLEANUP_FD int fd = memfd_create("danaus-leases", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at;

	if (fd < 0 || ftruncate(fd, sizeof(struct lease_table)) < 0)
		return -ENOMEM;
	at = mmap(NULL, sizeof(struct lease_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -ENOMEM;
	if (fcntl(fd, F_ADD_SEALS,
		  F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		munmap(at, sizeof(struct lease_table));
		return -ENOMEM;
	}
	leases->table = at;
	leases->fd = STEAL_FD(fd);
	atomic_init(&leases->given, 0);
	return 0;
}

void leases_done(struct leases *leases)
{
	munmap(leases->table, sizeof(struct lease_table));
	fd_close(leases->fd);
}

int leases_open(const struct leases *leases, int *ret_fd)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", leases->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

_Static_assert(LEASE_COUNTERS / 2 == 1u << (32 - 19), "leases_counters()");

uint32_t leases_counters(struct leases *leases)
{
	uint32_t serial = atomic_fetch_add_explicit(&leases->given, 1, memory_order_relaxed);
	uint32_t pair = (serial * SPREAD) >> 19;

	return pair ? pair * 2 : 2; /* the first pair is LEASE_EPOCH's */
}

void lease_begin(struct lease_draft *draft, const struct leases *leases)
{
	draft->leases = leases;
	draft->lease.ndeps = 0;
	draft->until = UINT64_MAX;
	draft->off = draft->whole = false;
	draft->answer = 0;
	lease_depend(draft, LEASE_EPOCH);
}

void lease_depend(struct lease_draft *draft, uint32_t counter)
{
	struct lease *lease;

	if (!draft || draft->off)
		return;
	lease = &draft->lease;
	if (lease->ndeps == LEASE_DEPS_MAX) {
		draft->off = true;
		return;
	}
	lease->dep[lease->ndeps].counter = counter;
	lease->dep[lease->ndeps++].value = atomic_load(&draft->leases->table->counter[counter]);
}

bool lease_end(struct lease_draft *draft, uint64_t now, struct lease *ret)
{
	if (!draft || draft->off || !draft->whole || draft->until < now + LEASE_MIN_NS)
		return false;
	if (draft->until > now + LEASE_MAX_NS)
		draft->until = now + LEASE_MAX_NS;
	draft->lease.duration_us = (draft->until - now) / 1000;
	*ret = draft->lease;
	return true;
}
