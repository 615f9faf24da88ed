/* SPDX-License-Identifier: Apache-2.0 */
/* /.danaus/mounts: container path -> instance, written by the service before the container's
 * program starts, mapped read-only by every client library. Never changed after that. */
#pragma once

#include <stdint.h>

#define MOUNT_TABLE_MAGIC   0x4d4e4144u /* "DANM" */
#define MOUNT_TABLE_VERSION 2
#define MOUNT_TABLE_MAX	    64
#define MOUNT_PATH_MAX	    256

struct mount_entry {
	uint32_t instance;	       /* as in WIRE_ROOT() */
	uint32_t path_bytes;	       /* without the NUL */
	uint32_t dev_major, dev_minor; /* the kernel face's device there: st_dev of its files */
	char path[MOUNT_PATH_MAX];     /* absolute, normalized, no trailing slash, NUL-terminated */
};

struct mount_table {
	uint32_t magic, version;
	uint32_t count;
	int32_t fd_base;     /* descriptors >= fd_base are Danaus's */
	int32_t light_limit; /* the client library allocates in [fd_base, light_limit), the notify
			      * door in [light_limit, the process's limit) */
	uint32_t spin;	     /* 0: one CPU, never spin */
	uint32_t anchor_dev_major, anchor_dev_minor; /* st_dev of named anchors */
	struct mount_entry entry[MOUNT_TABLE_MAX];   /* longest path first */
};
_Static_assert(sizeof(struct mount_entry) == 272, "mount_entry");

/* Argument 6 of a path system call that the client library has looked at and passes to the kernel:
 * the filter lets it by. No path call has six arguments. */
#define GATE_COOKIE 0x44414e4155532e31ull /* "DANAUS.1" */
