/* SPDX-License-Identifier: Apache-2.0 */
/* `union`: any number of read-only branches under a writable one, in the on-disk format of the
 * kernel's overlayfs (Documentation/filesystems/overlayfs.rst, without redirect_dir, metacopy and
 * index): character devices 0/0 are whiteouts, trusted.overlay.opaque=y marks opaque directories.
 *
 * Inside the writable branch's root the name UNION_WORK is the union's own work directory; it is
 * never visible through the union, is emptied at start and removed at a clean stop. */
#pragma once

#include "danaus/libservices/libservice.h"

#define UNION_WORK	   ".danaus.work"
#define UNION_BRANCHES_MAX 64

/* branches[0] is the topmost; writable says whether it takes the changes (otherwise the union is
 * read-only). Takes all branches over on success. -EBUSY when another union in this host has the
 * writable branch, -ENOTDIR, -EOPNOTSUPP when the branch cannot hold the format. */
int union_new(struct libservice **branches, unsigned nbranch, bool writable,
	      struct libservice **ret, struct err *err);
