/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of calling programs: what a number is, giving out new ones, and turning one into the
 * kernel's own file. */
#pragma once

#include "danaus/notify/door.h"

/* The open file that number fd of the caller names, with a new reference. 0; CALL_CONTINUE when it
 * is none of ours (the kernel has its own file there, or none); CALL_GONE. */
int64_t descriptor_find(struct call *call, int fd, struct vfile **ret);

/* As above, but with a copy of the anchor, which the caller of this closes. */
int64_t descriptor_find_anchor(struct call *call, int fd, struct vfile **ret, int *ret_anchor);

/* Puts a new name for file into the caller, for the call's answer. flags: O_CLOEXEC. CALL_ANSWERED,
 * CALL_GONE, -EMFILE, or CALL_CONTINUE when a number cannot be had by this way (then
 * the kernel face serves). */
int64_t descriptor_give(struct call *call, struct vfile *file, int flags);
/* The same with a copy of an anchor that is there already. */
int64_t descriptor_give_anchor(struct call *call, int anchor, int flags);

/* dup3(2) of any number onto one that is open now. CALL_ANSWERED, CALL_GONE, or
 * CALL_CONTINUE where the kernel has the right word. */
int64_t descriptor_replace(struct call *call, int from, int to, int flags);

/* Before an exec: the soft limit of open files that the program had before it got numbers above it.
 */
void descriptor_limit_back(struct call *call);

/* The kernel's own file for file, in the service. The caller closes it. */
int descriptor_kernel_file(struct call *call, struct vfile *file, int *ret_fd);

/* Makes number fd of the caller a kernel file when it names one of ours: after that the kernel can
 * carry out any call on it. 0 also when there was nothing to do; CALL_GONE; a negative errno. */
int64_t descriptor_to_kernel(struct call *call, int fd);
