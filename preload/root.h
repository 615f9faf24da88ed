/* SPDX-License-Identifier: Apache-2.0 */
/* The client library's one global state: the application node. It starts when a program first names
 * a path or a descriptor at or above the base, never in a constructor, and costs nothing before.
 *
 * Fork: the channel is not inherited; a page that the kernel wipes in a child tells it that it is
 * one, however it was made. Such a child starts afresh: it attaches for itself and adopts the named
 * descriptors it inherited. vfork: see thread.h. exec: everything is gone. Signals: every path here
 * may run in a signal handler; locks are held with all signals blocked. */
#pragma once

#include <stdatomic.h>

#include "danaus/shm/channel.h"
#include "preload/sys.h"

struct ofile;
struct leases;

enum root_state { ROOT_NEW, ROOT_OFF, ROOT_ON };

struct root {
	int fd_base; /* INT32_MAX when there is no Danaus here, FD_BASE_UNKNOWN before the start */
	_Atomic int state; /* enum root_state */
	const struct mount_table *_Atomic table;
	bool foreign; /* chroot, unshare, mount: the table's paths no longer say where they lead */
	uint32_t generation; /* counts forks */

	/* channel.c */
	struct shm_channel *_Atomic channel;
	_Atomic uint64_t free_slots;
	struct slot_holder {
		uint32_t tid; /* 0: none */
		uintptr_t frame;
	} holder[SHM_SLOTS];
	const uint32_t *live;				 /* not 0, but in a child */
	int attach_error;				 /* why there is no channel; 0: not tried */
	int socket, anchor;				 /* descriptors of our own, guarded; -1 */
	_Atomic uint32_t lock;				 /* of the socket; lock_take() */
	_Atomic uint32_t spin_misses[WIRE_OP_COUNT + 1]; /* by operation; the last: making a file */
	uint32_t notify;				 /* the notify door hears this process */
	uint32_t kernel_calls_left; /* a fork's child: calls that the kernel face serves before it
				     * is worth a channel of its own */

	/* what each request says about the caller */
	uint32_t umask;
	uint64_t fsize_limit;

	/* fdtab.c */
	int fd_limit; /* numbers the table has room for */
	_Atomic uint32_t *fds;
	struct ofile *files;
	uint32_t soft_limit; /* RLIMIT_NOFILE as the program set it; valid when raised */
	bool soft_raised;
	_Atomic uint32_t low_closed; /* bits 0-2: standard descriptors that may be closed */
	bool locks_used;	     /* POSIX record locks: every close matters */

	/* lease.c; NULL: none (yet) */
	struct leases *_Atomic leases;
	_Atomic uint32_t lease_misses;

	_Atomic uint32_t cwd; /* path.c */
	bool cwd_moves;	      /* libc may change it unseen: never keep it */
};
extern struct root root;

#define FD_BASE_UNKNOWN	  1024
#define FORK_KERNEL_CALLS 3 /* a shell's redirections before it execs */

/* ROOT_ON after mapping the mount table at the first call. */
int root_start(void);

static inline bool root_on(void)
{
	int state = atomic_load_explicit(&root.state, memory_order_acquire);

	return likely(state != ROOT_NEW) ? state == ROOT_ON : root_start() == ROOT_ON;
}

/* Call before using the channel or the tables: finds out that this is a fork's child. */
void root_forked(void);
static inline void root_check_fork(void)
{
	if (root.live && unlikely(!*root.live))
		root_forked();
}

static inline const struct mount_table *root_table(void)
{
	return atomic_load_explicit(&root.table, memory_order_relaxed);
}

/* The root's lock, for the attach socket and what goes with it. All signals are blocked in between:
 * a handler must not find its own thread inside. */
void lock_take(uint64_t *ret_signals);
void lock_give(const uint64_t *signals);
