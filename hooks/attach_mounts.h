/* SPDX-License-Identifier: Apache-2.0 */
/* Puts kernel faces into a container that is being created. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "danaus/base/err.h"

/* Enters the mount namespace of pid (for good: the caller's paths are the container's host's from
 * then on) and attaches each of the nfds detached mounts at <rootfs>/<target>, with the flags of
 * spec's volume of that target. targets names the mounts in their order. Checks first that
 * /.danaus/init there is the installed init. Nothing inside of the rootfs is followed as a
 * symlink. spec: spec.json. */
int attach_mounts(pid_t pid, const json_t *spec, const char *init, const json_t *targets,
		  const int *fds, unsigned nfds, struct err *err);
