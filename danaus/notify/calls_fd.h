/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of descriptor calls share. */
#pragma once

#include "danaus/notify/descriptor.h"
#include "danaus/notify/resolve.h"

enum fd_kind {
	FD_ANY,
	FD_OPEN, /* -EBADF for one opened with O_PATH */
};

/* One call on one descriptor: finds it, begins, and runs fn with the open file as target. */
int64_t descriptor_call(struct call *call, int fd, enum fd_kind kind, place_fn fn, void *arg);

/* As above, in two steps, for a call that reads memory between: find; ncall_begin() is the
 * caller's. */
int64_t descriptor_open_file(struct call *call, int fd, struct vfile **ret);

/* result is what the vfs said of a call that makes a file longer: beyond RLIMIT_FSIZE the program
 * also gets SIGXFSZ (setrlimit(2)). */
int64_t file_too_large(struct call *call, int64_t result);
