/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the memory files; called by the supervisors. */
#include "danaus/notify/ledger.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/notify/calls.h"

/* The arguments of a call that name open files which the service would have to act on. */
static const uint8_t descriptors_of[WHEN_COUNT] = {
    [WHEN_PATH_AT0] = 1 << 0,
    [WHEN_PATH_AT1] = 1 << 1,
    [WHEN_PATH_AT02] = 1 << 0 | 1 << 2,
    [WHEN_PATH_OR_FSTAT2] = 1 << 0,
    [WHEN_PATH_OR_FSTAT3] = 1 << 0,
    [WHEN_FD0] = 1 << 0,
    [WHEN_FD4] = 1 << 4,
    [WHEN_FD01] = 1 << 0 | 1 << 1,
    [WHEN_FD02] = 1 << 0 | 1 << 2,
    [WHEN_STATE_AT0] = 1 << 0,
};

static void write_table(uint8_t table[GUARD_CALLS])
{
	for (unsigned i = 0; i < CALL_COUNT; i++) {
		int nr = call_number(&call_table[i]);

		if (nr < 0 || nr >= GUARD_CALLS)
			continue;
		table[nr] = descriptors_of[call_table[i].when];
		/* dup2() and dup3() close what their second one names */
		if (call_table[i].op == WIRE_NAME)
			table[nr] = 1 << 0;
	}
}

int ledger_init(int fd_base, struct ledger *ret)
{
	CLEANUP_FD int file = memfd_create("danaus-ledger", MFD_CLOEXEC);
	void *shared;

	if (file < 0 || ftruncate(file, sizeof(struct guard_ledger)) < 0)
		return -errno;
	shared =
	    mmap(NULL, sizeof(struct guard_ledger), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (shared == MAP_FAILED)
		return -errno;
	ret->shared = shared;
	ret->shared->fd_base = fd_base;
	write_table(ret->shared->descriptors);
	ret->file = STEAL_FD(file);
	return 0;
}

void ledger_done(struct ledger *ledger)
{
	if (ledger->shared)
		munmap(ledger->shared, sizeof(*ledger->shared));
	ledger->shared = NULL;
	ledger->file = fd_close(ledger->file);
}

struct guard_call *ledger_place(struct ledger *ledger)
{
	struct guard_call *place;

	if (ledger->shared->used == GUARD_RECEIVERS)
		return NULL;
	place = &ledger->shared->call[ledger->shared->used];
	memset(place, 0, sizeof(*place)); /* its memory is there from now on */
	ledger->shared->used++;
	return place;
}

void ledger_place_back(struct ledger *ledger)
{
	ledger->shared->used--;
}

static int tell(const struct pool *pool, enum guard_kind kind, int listener, const int *fds,
		unsigned nfds)
{
	const struct guard_message message = {kind, (uint32_t)listener};

	return pool->guard_fd < 0 ? 0
				  : fd_send(pool->guard_fd, &message, sizeof(message), fds, nfds);
}

void ledger_hand_over(struct ledger *ledger, const struct pool *pool, int listener)
{
	int r = tell(pool, GUARD_LISTENER, listener, (const int[]){listener, ledger->file}, 2);

	if (r < 0)
		log_limited(LOG_WARN,
			    "the guard does not take a listener (%s): its programs' calls will fail"
			    " should this service be killed",
			    strerror(-r));
	ledger->file = fd_close(ledger->file);
}

void ledger_left(const struct pool *pool, int listener)
{
	tell(pool, GUARD_LISTENER_LEFT, listener, NULL, 0);
}
