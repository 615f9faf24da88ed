/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what on a CephFS: the host kernel's rules (fs/namei.c, fs/attr.c, fs/xattr.c,
 * fs/posix_acl.c of Linux 6.x) on the attributes that libcephfs has cached. No state; any thread,
 * within a call. */
#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/libservices/ceph/internal.h"

#define ACL_NAME    "system.posix_acl_access"
#define ACL_VERSION 2u
#define ACL_BYTES   8192

enum {
	TAG_USER_OBJ = 1,
	TAG_USER = 2,
	TAG_GROUP_OBJ = 4,
	TAG_GROUP = 8,
	TAG_MASK = 16,
	TAG_OTHER = 32
};

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

UserPerm *cephls_perms_of(const struct cred *cred)
{
	return ceph_userperm_new(cred->fsuid, cred->fsgid, cred->ngroups, (gid_t *)cred->groups);
}

UserPerm *cephls_perms_for(struct ceph *fs, const struct cred *cred, uid_t uid, gid_t gid)
{
	return cred_caps_for(cred, uid, gid) ? fs->root_perms : cephls_perms_of(cred);
}

void cephls_perms_done(struct ceph *fs, UserPerm *perms)
{
	if (perms && perms != fs->root_perms)
		ceph_userperm_destroy(perms);
}

bool cephls_owns(const struct cred *cred, const struct ceph_statx *stx, uint64_t cap)
{
	return cred->fsuid == stx->stx_uid ||
	       cred_caps_for(cred, stx->stx_uid, stx->stx_gid) & CAP_BIT(cap);
}

/* posix_acl_permission(). */
static int acl_may(const struct acl_entry *e, size_t n, const struct cred *cred,
		   const struct ceph_statx *stx, int mask)
{
	unsigned mask_perm = 7;
	bool group = false;

	for (size_t i = 0; i < n; i++)
		if (le16toh(e[i].tag) == TAG_MASK)
			mask_perm = le16toh(e[i].perm);
	for (size_t i = 0; i < n; i++) {
		unsigned perm = le16toh(e[i].perm);
		uint32_t id = le32toh(e[i].id);

		switch (le16toh(e[i].tag)) {
		case TAG_USER_OBJ:
			if (cred->fsuid == stx->stx_uid)
				return mask & ~perm ? -EACCES : 0;
			break;
		case TAG_USER:
			if (cred->fsuid == id)
				return mask & ~(perm & mask_perm) ? -EACCES : 0;
			break;
		case TAG_GROUP_OBJ:
			id = stx->stx_gid;
			/* fallthrough */
		case TAG_GROUP:
			if (!cred_in_group(cred, id))
				break;
			group = true;
			if (!(mask & ~perm))
				return mask & ~mask_perm ? -EACCES : 0;
			break;
		case TAG_OTHER:
			return group || mask & ~perm ? -EACCES : 0;
		}
	}
	return -EIO;
}

/* 1: there is no ACL, the mode decides. */
static int by_acl(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		  const struct ceph_statx *stx, int mask)
{
	char value[ACL_BYTES];
	uint32_t version;
	Inode *in;
	int n = cephls_inode(at, node, &in);

	if (n < 0)
		return n;
	n = ceph_ll_getxattr(at->mount, in, ACL_NAME, value, sizeof(value), at->fs->root_perms);
	if (n == -ENODATA || n == -EOPNOTSUPP || n == 0)
		return 1;
	if (n < 0)
		return n;
	memcpy(&version, value, sizeof(version));
	if (n < 4 || le32toh(version) != ACL_VERSION || (n - 4) % sizeof(struct acl_entry))
		return -EIO;
	return acl_may((const struct acl_entry *)(value + 4), (n - 4) / sizeof(struct acl_entry),
		       cred, stx, mask);
}

int cephls_may(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
	       const struct ceph_statx *stx, int mask)
{
	uint64_t caps;
	mode_t mode = stx->stx_mode;
	int r = 1;

	if (cred->fsuid == stx->stx_uid) {
		r = mask & ~(mode >> 6 & 7) ? -EACCES : 0;
	} else {
		if (mode & 070)
			r = by_acl(at, cred, node, stx, mask);
		if (r == 1) {
			if (cred_in_group(cred, stx->stx_gid))
				mode >>= 3;
			r = mask & ~(mode & 7) ? -EACCES : 0;
		}
	}
	if (r != -EACCES)
		return r;
	caps = cred_caps_for(cred, stx->stx_uid, stx->stx_gid);
	if (caps & CAP_BIT(CAP_DAC_OVERRIDE) &&
	    (!(mask & X_OK) || S_ISDIR(stx->stx_mode) || stx->stx_mode & 0111))
		return 0;
	if (caps & CAP_BIT(CAP_DAC_READ_SEARCH) &&
	    (mask == R_OK || (S_ISDIR(stx->stx_mode) && !(mask & W_OK))))
		return 0;
	return r;
}

/* may_linkat() with fs.protected_hardlinks=1. */
int cephls_may_link(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		    const struct ceph_statx *stx)
{
	if (S_ISDIR(stx->stx_mode))
		return -EPERM;
	if (cephls_owns(cred, stx, CAP_FOWNER))
		return 0;
	if (!S_ISREG(stx->stx_mode) || stx->stx_mode & S_ISUID ||
	    (stx->stx_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
	    cephls_may(at, cred, node, stx, R_OK | W_OK) < 0)
		return -EPERM;
	return 0;
}

int cephls_may_set(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		   const struct ceph_statx *stx, unsigned set, const struct attr *attr, bool file,
		   mode_t *mode)
{
	uint64_t caps = cred_caps_for(cred, stx->stx_uid, stx->stx_gid);
	bool owner = cred->fsuid == stx->stx_uid, owns = cephls_owns(cred, stx, CAP_FOWNER);
	bool now = (!(set & ATTR_ATIME) || attr->atime.tv_nsec == UTIME_NOW) &&
		   (!(set & ATTR_MTIME) || attr->mtime.tv_nsec == UTIME_NOW);
	gid_t gid = set & ATTR_GID ? attr->gid : stx->stx_gid;
	int r = 0;

	if (set & ATTR_UID && !(caps & CAP_BIT(CAP_CHOWN)) && !(owner && attr->uid == stx->stx_uid))
		return -EPERM;
	if (set & ATTR_GID && !(caps & CAP_BIT(CAP_CHOWN)) &&
	    !(owner && (gid == stx->stx_gid || cred_in_group(cred, gid))))
		return -EPERM;
	if (set & ATTR_MODE && !owns)
		return -EPERM;
	if (set & (ATTR_ATIME | ATTR_MTIME) && !owns)
		r = now ? cephls_may(at, cred, node, stx, W_OK) : -EPERM;
	if (!r && set & ATTR_SIZE && !file)
		r = cephls_may(at, cred, node, stx, W_OK);
	if (r < 0)
		return r;
	*mode = set & ATTR_MODE ? attr->mode & 07777 : stx->stx_mode & 07777;
	if (set & ATTR_MODE && !cred_in_group(cred, gid) && !(caps & CAP_BIT(CAP_FSETID)))
		*mode &= ~S_ISGID;
	if (!S_ISDIR(stx->stx_mode) && !(set & ATTR_MODE) &&
	    (set & (ATTR_UID | ATTR_GID) || !set ||
	     (set & ATTR_SIZE && !(caps & CAP_BIT(CAP_FSETID))))) {
		*mode &= ~S_ISUID;
		/* setattr_should_drop_sgid() of Linux fs/attr.c */
		if (*mode & S_IXGRP || (!(set & ATTR_SIZE) && !cred_in_group(cred, stx->stx_gid) &&
					!(caps & CAP_BIT(CAP_FSETID))))
			*mode &= ~S_ISGID;
	}
	return !set && !owns && *mode != (stx->stx_mode & 07777) ? -EPERM : 0;
}

static bool starts(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static bool host_cap(const struct cred *cred, unsigned cap)
{
	return cred->caps & CAP_BIT(cap) && (!cred->map || (!cred->map->nuid && !cred->map->ngid));
}

int cephls_may_xattr(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		     const char *name, bool write)
{
	int missing = write ? -EPERM : -ENODATA;
	struct ceph_statx stx;
	int r = cephls_rights(at, node, &stx);

	if (r < 0)
		return r;
	if (starts(name, "trusted."))
		return host_cap(cred, CAP_SYS_ADMIN) ? 0 : missing;
	if (starts(name, "security.")) {
		if (!write)
			return 0;
		if (!strcmp(name, "security.capability"))
			return cred_caps_for(cred, stx.stx_uid, stx.stx_gid) & CAP_BIT(CAP_SETFCAP)
				   ? 0
				   : -EPERM;
		return host_cap(cred, CAP_SYS_ADMIN) ? 0 : -EPERM;
	}
	if (starts(name, "system."))
		return !write || cephls_owns(cred, &stx, CAP_FOWNER) ? 0 : -EPERM;
	if (starts(name, "user.") && !S_ISREG(stx.stx_mode) && !S_ISDIR(stx.stx_mode))
		return missing;
	if (write && (starts(name, "ceph.") || (S_ISDIR(stx.stx_mode) && stx.stx_mode & S_ISVTX)) &&
	    !cephls_owns(cred, &stx, CAP_FOWNER))
		return -EPERM;
	return cephls_may(at, cred, node, &stx, write ? W_OK : R_OK);
}

void cephls_drop_capability(struct ceph_call *at, Inode *in)
{
	static const char name[] = "security.capability";

	/* Asking costs nothing, most of the time; taking away what is not there asks the MDS. */
	if (ceph_ll_getxattr(at->mount, in, name, NULL, 0, at->fs->root_perms) > 0)
		ceph_ll_removexattr(at->mount, in, name, at->fs->root_perms);
}
