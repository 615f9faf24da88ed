/* SPDX-License-Identifier: Apache-2.0 */
/* Paths inside of a container's root file system. Whoever built the image or runs in the container
 * owns every symlink in there: nothing below is ever opened by a plain path. */
#pragma once

#include <limits.h>
#include <stdint.h>

/* openat2(2) of an absolute container path below root (a descriptor of the rootfs): flags as
 * open(2), resolve is RESOLVE_*; O_CLOEXEC is added. *ret is the caller's. */
int rootfs_open(int root, const char *path, int flags, uint64_t resolve, int *ret);

/* Where a container path leads once its symlinks are resolved within the root: an absolute
 * container path. Components that do not exist yet stay as they are. -ELOOP for a symlink to a
 * place that is not there, as one that would lead out of the root. */
int rootfs_resolve(int root, const char *path, char ret[PATH_MAX]);
