/* SPDX-License-Identifier: Apache-2.0 */
/* `ceph`: a directory of a CephFS, over libcephfs's low-level calls (cephfs/libcephfs.h). The
 * directory is the root of the mount: nothing above it can be named.
 *
 * Rights are decided here, as the host's kernel would decide them for the caller (libcephfs's own
 * check knows only user 0 and the others); the MDS checks what the identity's caps allow.
 *
 * Time: mounting and every wait for an OSD end after timeout_s, and a call that waits for an MDS is
 * -EIO then (late.c); one that writes back, when no MDS was heard for as long. Until those
 * calls are answered, calls about the same inode or name are -EIO at once, and all are while no MDS
 * is heard, or from 65 such calls on. A client that the cluster has blocklisted mounts anew; files
 * go on, and what was written and not yet synced is reported as -EIO at the file's next write or
 * fsync. */
#pragma once

#include "danaus/libservices/libservice.h"

#define CEPH_TIMEOUT_DEFAULT_S 90

/* dir of the file system called name (NULL: the cluster's default); the identity comes from limits.
 * -EACCES when none is granted, -ETIMEDOUT when the cluster does not answer, -ENOENT without the
 * file system or directory. */
int ceph_new(const char *name, const char *dir, const struct stack_limits *limits,
	     struct libservice **ret, struct err *err);
