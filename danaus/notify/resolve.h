/* SPDX-License-Identifier: Apache-2.0 */
/* From what a system call says (dirfd, path) to what the vfs works on. */
#pragma once

#include "danaus/notify/door.h"

/* Flags of place_resolve(), beside AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW: the call makes, removes
 * or moves the last component, so a volume's own root is left to the kernel. */
#define PLACE_NAME 0x10000000u

struct place {
	struct vtarget target;
	struct vnode *node; /* referenced, or NULL */
	struct vfile *file; /* referenced, or NULL */
};

void place_done(struct place *place);
#define CLEANUP_PLACE __attribute__((cleanup(place_done)))

/* Reads the path at path_addr into buf (WIRE_PATH_MAX bytes, kept while place is used) and finds
 * where it starts. 0, or CALL_CONTINUE when it is not in a volume, or the kernel says best what is
 * wrong with it; CALL_GONE. *place is initialized and empty on entry. */
int64_t place_resolve(struct call *call, int dirfd, uint64_t path_addr, unsigned flags, char *buf,
		      struct place *place);

/* After -EREMCHG: starts anew from call->ctx.leave. False when it is outside of every volume. */
bool place_again(struct call *call, char *buf, struct place *place);

/* One call on one path: resolves, begins, and runs fn, again when a symlink leads into another
 * volume (path_resolution(7): at most 40 times). arg is fn's own. */
typedef int64_t (*place_fn)(struct call *call, const struct vtarget *at, void *arg);
int64_t place_run(struct call *call, char *buf, struct place *place, place_fn fn, void *arg);
int64_t place_call(struct call *call, int dirfd, uint64_t path_addr, unsigned flags, place_fn fn,
		   void *arg);

/* "/proc/self/fd/N", "/proc/thread-self/fd/N", "/dev/fd/N", "/proc/PID/fd/N" with own_pid: N and
 * the rest behind it; -1 for any other path. */
int path_descriptor(const char *path, pid_t own_pid, const char **ret_rest);
