/* SPDX-License-Identifier: Apache-2.0 */
/* Decides on rights from cached attributes, as the kernel's generic_permission() does (Linux
 * fs/namei.c, acl(5), capabilities(7)). Where an ACL may say otherwise the libservice is asked.
 * Owns nothing; any thread. */
#include "danaus/vfs/node.h"

#include <errno.h>
#include <linux/capability.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/parse.h"

static bool caps_allow(const struct attr *attr, const struct cred *cred, int mask)
{
	uint64_t caps = cred_caps_for(cred, attr->uid, attr->gid);

	if (!caps)
		return false;
	if (S_ISDIR(attr->mode)) {
		if (!(mask & W_OK) && (caps & CAP_BIT(CAP_DAC_READ_SEARCH)))
			return true;
		return caps & CAP_BIT(CAP_DAC_OVERRIDE);
	}
	if (mask == R_OK && (caps & CAP_BIT(CAP_DAC_READ_SEARCH)))
		return true;
	return (!(mask & X_OK) || (attr->mode & 0111)) && (caps & CAP_BIT(CAP_DAC_OVERRIDE));
}

int perm_decide(const struct attr *attr, const struct cred *cred, int mask)
{
	unsigned bits;

	mask &= R_OK | W_OK | X_OK;
	if (cred->fsuid == attr->uid)
		bits = attr->mode >> 6;
	else if (attr->has_acl)
		/* The group bits are the ACL's mask then: it may grant more than they do, or less.
		 */
		return caps_allow(attr, cred, mask) ? 1 : -1;
	else if (cred_in_group(cred, attr->gid))
		bits = attr->mode >> 3;
	else
		bits = attr->mode;
	if (!(mask & ~bits & 7))
		return 1;
	return caps_allow(attr, cred, mask);
}

int perm_may(const struct vctx *ctx, struct vnode *node, int mask, uint64_t now)
{
	struct attr attr;
	int r = vnode_rights(node, now, &attr);

	if (r < 0)
		return r;
	r = perm_decide(&attr, ctx->cred, mask);
	if (r < 0) {
		unsigned gen = vnode_gen(node);

		/* access() may have found out that there is no ACL: remember what it says then. */
		r = ls_access(node->instance->ls, ctx->cred, node->ls, mask);
		if (!ls_getattr(node->instance->ls, node->ls, NULL, &attr))
			vnode_store(node, &attr, gen, now);
		return r == -EROFS ? 0 : r; /* that comes later, by each operation's own rule */
	}
	return r ? 0 : -EACCES;
}

bool perm_owner(const struct cred *cred, const struct attr *attr)
{
	return cred->fsuid == attr->uid ||
	       (cred_caps_for(cred, attr->uid, attr->gid) & CAP_BIT(CAP_FOWNER));
}

int perm_follow(const struct vctx *ctx, struct vnode *dir, struct vnode *link, uint64_t now)
{
	struct attr d, l;
	int r;

	if (!vfs_of(dir)->protected_symlinks)
		return 0;
	r = vnode_rights(dir, now, &d);
	if (r < 0 || (d.mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH))
		return r;
	r = vnode_rights(link, now, &l);
	if (r < 0)
		return r;
	return l.uid == ctx->cred->fsuid || l.uid == d.uid ? 0 : -EACCES;
}

/* may_create_in_sticky() of Linux fs/namei.c. */
int perm_create_open(const struct vctx *ctx, struct vnode *dir, const struct attr *attr,
		     uint64_t now)
{
	const struct vfs *vfs = vfs_of(dir);
	bool fifo = S_ISFIFO(attr->mode), regular = S_ISREG(attr->mode);
	struct attr d;
	int r;

	if ((regular && !vfs->protected_regular) || (fifo && !vfs->protected_fifos))
		return 0;
	r = vnode_rights(dir, now, &d);
	if (r < 0 || !(d.mode & S_ISVTX) || attr->uid == d.uid || attr->uid == ctx->cred->fsuid)
		return r;
	if (d.mode & S_IWOTH)
		return -EACCES;
	return (d.mode & S_IWGRP) && ((regular && vfs->protected_regular >= 2) ||
				      (fifo && vfs->protected_fifos >= 2))
		   ? -EACCES
		   : 0;
}

static int read_sysctl(const char *path)
{
	CLEANUP_FREE char *text = NULL;
	uint64_t value;
	size_t len;

	if (fd_read_file_at(-1, path, 64, &text, &len) < 0 || !len)
		return 0;
	if (text[len - 1] == '\n')
		text[len - 1] = '\0';
	return parse_u64(text, 9, &value) < 0 ? 0 : (int)value;
}

void perm_read_sysctls(struct vfs *vfs)
{
	vfs->protected_symlinks = read_sysctl("/proc/sys/fs/protected_symlinks");
	vfs->protected_regular = read_sysctl("/proc/sys/fs/protected_regular");
	vfs->protected_fifos = read_sysctl("/proc/sys/fs/protected_fifos");
}
