/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face: a FUSE mount of an instance, for what only a kernel file can do. libfuse3's
 * low-level API; the same vnodes and open files as the other doors. */
#pragma once

#include "danaus/base/err.h"
#include "danaus/pool/pool.h"

struct face_mount;

/* Mounts volume's instance as a detached mount (fsopen/fsmount, not attached anywhere) and serves
 * it with its own threads. *ret_mount_fd is for move_mount(2); the caller closes it. Sets
 * volume->face and the instance's dev. -errno with err's text: no /dev/fuse, mount or thread. */
int face_start(struct container *container, struct volume *volume, int *ret_mount_fd,
	       struct err *err);
/* Ends the session: later calls through the kernel get ENOTCONN. Waits for those under way; nobody
 * uses face any more. */
void face_stop(struct face_mount *face);
/* A kernel descriptor of file: the same open file (position included: vfile_set_kernel_fd()), made
 * by opening it through the face's own mount. With file's access mode and status flags. The caller
 * closes it. May block; not from a thread of the face. */
int face_kernel_fd(struct face_mount *face, struct vfile *file, int *ret_fd);
/* The volume of a kernel face device, by st_dev; NULL. */
struct volume *face_volume_of_dev(struct container *container, dev_t dev);
