/* SPDX-License-Identifier: Apache-2.0 */
/* What a path's text alone tells. Pure functions. */
#pragma once

#include "danaus/proto/mount_table.h"

/* The longest mount whose path is a prefix of the absolute path, component by component, before any
 * "..": *ret_rest is what follows. NULL: none. */
const struct mount_entry *path_match(const struct mount_table *table, const char *path,
				     const char **ret_rest);
/* N of "/proc/self/fd/N", "/proc/thread-self/fd/N", "/dev/fd/N"; -1: another path. */
int path_own_fd(const char *path);
