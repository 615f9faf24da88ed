/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the notify door: one struct notify per container, with its listeners (one per exec'd
 * process tree), the threads that receive their notifications, and what is remembered of the
 * calling processes. */
#pragma once

#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "danaus/base/fd.h"
#include "danaus/notify/calls.h"
#include "danaus/notify/memory.h"
#include "danaus/notify/notify.h"
#include "danaus/pool/pool.h"
#include "danaus/pool/process.h"

#define DATA_BYTES (1u << 20) /* one step of a read or write */

/* One system call in progress. Lives on its receiver's stack. */
struct call {
	struct notify *door;
	struct container *container;
	struct receiver *receiver;
	int listener;
	uint64_t id;
	const uint64_t *arg;
	int nr;
	pid_t tid; /* host */
	const struct call_row *row;
	uint32_t *acts;	       /* in the listener's ledger: set before anything is done */
	struct caller *caller; /* NULL until ncall_caller() */
	int dirfd[2];	       /* of ours, which the call's paths start at; 0: none */
	struct vctx ctx;       /* after ncall_begin() */
	uint64_t valid_ns;     /* when the caller last was seen to wait */
	uint64_t bytes;	       /* moved, for the statistics */
	bool blocking;	       /* counted as such */
	bool served;	       /* the door did it, not the kernel */
	bool crowded;	       /* its user has too many in progress: read no memory of his */
};

/* Lazily made memory of one receiver thread; every buffer is used by one call at a time. */
struct scratch {
	char path[WIRE_PATH_MAX], path2[WIRE_PATH_MAX], leave[WIRE_PATH_MAX];
	char joined[2 * WIRE_PATH_MAX];
	struct iovec iov[MEMORY_IOV_MAX];
	char data[DATA_BYTES];
};

enum caller_root { ROOT_UNKNOWN, ROOT_CONTAINER, ROOT_OTHER };
enum caller_cwd { CWD_UNKNOWN, CWD_OUTSIDE, CWD_ABOVE, CWD_INSIDE };

/* What is remembered of a calling process. Its fs state (root, cwd, umask) and its file size limit
 * change only by calls that are notified (WHEN_STATE, WHEN_FSIZEn), but the change happens after
 * the notification is answered: until the thread that makes it shows up again (unsettled), nothing
 * is remembered. */
struct caller {
	struct caller *next; /* door->callers */
	struct process *process;
	atomic_uint refs;

	pthread_mutex_t lock; /* all below */
	pid_t unsettled;      /* 0, a thread, or -1: never remember anything again */
	unsigned generation;  /* changes with every such call */
	enum caller_root root;
	enum caller_cwd cwd;
	struct vnode *cwd_node;		/* CWD_INSIDE */
	char cwd_above[MOUNT_PATH_MAX]; /* CWD_ABOVE: a directory on the way to a volume */
	int umask;			/* -1: not known */
	bool fsize_known;
	uint64_t fsize;

	pthread_mutex_t numbers; /* held while a descriptor is put into the process */
	uint64_t soft_files; /* its soft limit of open files before it was raised; 0: it was not */
	int next_number;     /* where to look for a free number first; 0: not looked yet */
};

#define CALLER_BUCKETS 256
#define PENDING_MAX    64

/* A thread that was let go into a call that changes its process. */
struct pending {
	pid_t tid;
	struct process *process; /* referenced */
};

/* A call in progress wakes the monitor when it sleeps, an end also when it naps between two ticks.
 */
enum monitor_state { MONITOR_AWAKE, MONITOR_NAPS, MONITOR_SLEEPS };

struct notify {
	struct container *container;
	uint64_t root_mount, root_ino; /* of the container's root: statx(2) */
	atomic_bool stopping;
	atomic_bool fsize_never; /* a program changes others' limits: read them each time */

	pthread_mutex_t lock; /* callers, ncallers, listeners, pending */
	struct caller *callers[CALLER_BUCKETS];
	unsigned ncallers;
	struct listener *listeners;
	struct pending pending[PENDING_MAX];
	atomic_uint npending;

	pthread_t monitor;
	_Atomic uint32_t monitor_state; /* enum monitor_state; futex */
};

/* supervisor.c */

/* Makes sure that another thread receives while this call sleeps. False: there are no more threads
 * to be had, and a call that may sleep without an end must not. */
bool ncall_may_block(struct call *call);
/* A receiver's buffers. NULL: no memory. */
struct scratch *ncall_scratch(struct call *call);
/* Puts fd into the caller as number (or the lowest free one, number -1) and, when answers is set,
 * returns from the system call with that number. flags: O_CLOEXEC. The number, or a negative
 * errno (-ENOENT: the caller went away). */
int ncall_add_descriptor(struct call *call, int fd, int number, int flags, bool answers);

/* caller.c */

/* Sets call->caller. 0, CALL_GONE or CALL_CONTINUE. */
int64_t ncall_caller(struct call *call);
/* Everything of the program's memory has been read: makes the identity and the vctx, and looks
 * whether the caller still waits. After this the call may act. 0, CALL_GONE, CALL_CONTINUE. */
int64_t ncall_begin(struct call *call);
/* The program's memory after ncall_begin(): memory_write() and memory_read(), but for a caller that
 * still waits: a thread's number must not have become another program's while the call was slow.
 * 0, -EFAULT, CALL_GONE. */
int64_t ncall_put(struct call *call, uint64_t addr, const void *buf, size_t len_bytes);
int64_t ncall_get(struct call *call, uint64_t addr, void *buf, size_t len_bytes);
bool ncall_waits(struct call *call);
/* Gives back what the above took. */
void ncall_end(struct call *call);
/* The file creation mask into ctx: only calls that create need it. */
void ncall_need_umask(struct call *call);
/* RLIMIT_FSIZE into ctx: only calls that make files longer need it. */
void ncall_need_fsize(struct call *call);
/* The caller's root is the container's, in the container's mount namespace. */
bool caller_root_plain(struct call *call);
/* Where relative paths start. CWD_INSIDE: *ret_node is a new reference. CWD_ABOVE: the path, which
 * has MOUNT_PATH_MAX bytes of room. */
enum caller_cwd caller_cwd(struct call *call, struct vnode **ret_node, char *ret_above);
/* Sets call->caller when the process has one already. False: the service does not know the
 * process, and nothing is remembered of it. */
bool ncall_caller_known(struct call *call);
void caller_unref(struct caller *caller);
/* The caller is about to change its identity (rights) or its fs state, should it be known. */
void ncall_changes(struct call *call, bool rights);
/* Nothing of this process's fs state is remembered again. */
void caller_never_remember(struct caller *caller);
/* Thread tid is back: what it changed is changed. For each call while door->npending. */
void door_settle(struct notify *door, pid_t tid);
/* Forgets callers whose process is gone. */
void door_sweep(struct notify *door);
void door_forget_callers(struct notify *door);

/* The identity and mount of a process's root. */
int root_of(pid_t pid, uint64_t *ret_mount, uint64_t *ret_ino);
