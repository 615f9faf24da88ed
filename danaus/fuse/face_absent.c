/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face of a build without libfuse3 (-Dfuse=disabled): containers cannot be attached. */
#include "danaus/fuse/face.h"

#include <errno.h>

int face_start(struct container *container, struct volume *volume, int *ret_mount_fd,
	       struct err *err)
{
	return err_set(err, -EOPNOTSUPP,
		       "kernel face: this danausd was built without libfuse3; install one with it");
}

void face_stop(struct face_mount *face)
{
}

int face_kernel_fd(struct face_mount *face, struct vfile *file, int *ret_fd)
{
	return -EOPNOTSUPP;
}

struct volume *face_volume_of_dev(struct container *container, dev_t dev)
{
	return NULL;
}
