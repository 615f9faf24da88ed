/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: asked for, changed; rights asked for with access(2). Owns nothing; any thread. */
#include "danaus/vfs/node.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"

int vfs_stat(struct vctx *ctx, const struct vtarget *at, struct attr *ret_attr)
{
	uint64_t now = clock_coarse_ns();
	struct vnode *node;
	struct attr attr;
	bool got, absent;
	int r;

	rcu_enter();
	node = walk_cached(ctx, at, now, &absent);
	if (node)
		lease_on_attr(ctx, node);
	got = node && vnode_cached(node, now, &attr);
	if (got) {
		lease_until(ctx->lease, atomic_load(&node->attr_until));
		lease_whole(ctx->lease);
		vnode_present(node, &attr);
	}
	rcu_leave();
	if (got) {
		*ret_attr = attr;
		return 0;
	}
	if (absent)
		return -ENOENT;
	lease_off(ctx->lease);
	r = walk_full(ctx, at, now, &node);
	if (r < 0)
		return r;
	r = vnode_attr(node, now, &attr);
	if (!r) {
		vnode_present(node, &attr);
		*ret_attr = attr;
	}
	vnode_unref(node);
	return r;
}

/* What chown(2), truncate(2) and so on refuse without asking the libservice. */
static int check_set(const struct vctx *ctx, const struct vtarget *at, struct vnode *node,
		     const struct setattr *set)
{
	const struct cred *cred = ctx->cred;

	if ((set->set & ATTR_UID) && !idmap_uid_known(cred->map, set->attr.uid))
		return -EINVAL;
	if ((set->set & ATTR_GID) && !idmap_gid_known(cred->map, set->attr.gid))
		return -EINVAL;
	if (set->set & ATTR_SIZE) {
		if (at->file && target_is_object(at)) {
			if (vfile_flags(at->file) & O_PATH)
				return -EBADF;
			if (!at->file->wr || node->type != S_IFREG)
				return -EINVAL;
		}
		if (node->type == S_IFDIR)
			return -EISDIR;
		if (node->type != S_IFREG || set->attr.size > INT64_MAX)
			return -EINVAL;
		if (set->attr.size > ctx->fsize_limit)
			return -EFBIG;
	}
	return 0;
}

int vfs_setattr(struct vctx *ctx, const struct vtarget *at, const struct setattr *set,
		struct attr *ret_attr)
{
	uint64_t now = clock_coarse_ns();
	struct ls_file *file = NULL;
	struct vnode *node;
	struct attr attr;
	bool writes = false;
	unsigned gen;
	int r = walk_full(ctx, at, now, &node);

	if (r < 0)
		return r;
	r = check_set(ctx, at, node, set);
	if (!r) {
		if (at->file && target_is_object(at) && at->file->wr)
			file = at->file->wr->file;
		/* truncate(2); an open file has asked when it was opened */
		writes = (set->set & ATTR_SIZE) && !file;
		r = writes ? text_write_begin(node) : 0;
		writes = writes && !r;
	}
	if (!r) {
		if (set->set & ATTR_SIZE)
			face_flush(node);
		gen = vnode_gen(node);
		if (set->set & ATTR_SIZE)
			window_change_begin(vfs_of(node)->windows, node, set->attr.size,
					    UINT64_MAX);
		r = ls_setattr(node->instance->ls, ctx->cred, node->ls, file, set->set, &set->attr,
			       &attr);
		if (set->set & ATTR_SIZE)
			window_change_end(vfs_of(node)->windows, node, set->attr.size, !r);
		vnode_changed(node, r ? NULL : &attr, gen, now);
	}
	if (!r) {
		if (set->set & ATTR_SIZE)
			face_changed(node, set->attr.size, UINT64_MAX);
		else
			face_changed(node, 0, 0);
		if (ret_attr) {
			vnode_present(node, &attr);
			*ret_attr = attr;
		}
	}
	if (writes)
		text_write_end(node);
	vnode_unref(node);
	return r;
}

/* The identity of access(2) without AT_EACCESS: real ids, and the capabilities that an exec with
 * them would have (access_override_creds() of Linux fs/open.c). NULL: out of memory. */
static struct cred *real_cred(const struct cred *cred)
{
	size_t size = sizeof(*cred) + cred->ngroups * sizeof(gid_t);
	struct cred *real = malloc(size);

	if (!real)
		return NULL;
	memcpy(real, cred, size);
	real->refs = 1;
	real->own = NULL;
	real->serial = 0;
	real->fsuid = cred->ruid;
	real->fsgid = cred->rgid;
	real->caps =
	    idmap_uid_known(cred->map, cred->ruid) && idmap_uid_in(cred->map, cred->ruid) == 0
		? cred->permitted
		: 0;
	return real;
}

static bool is_real(const struct cred *cred)
{
	bool root =
	    idmap_uid_known(cred->map, cred->ruid) && idmap_uid_in(cred->map, cred->ruid) == 0;

	return cred->fsuid == cred->ruid && cred->fsgid == cred->rgid &&
	       cred->caps == (root ? cred->permitted : 0);
}

int vfs_access(struct vctx *ctx, const struct vtarget *at, int mask, bool effective)
{
	CLEANUP_FREE struct cred *real = NULL;
	uint64_t now = clock_coarse_ns();
	struct vctx other = *ctx;
	struct vnode *node;
	int r;

	if (mask & ~(R_OK | W_OK | X_OK))
		return -EINVAL;
	if (!effective && !is_real(ctx->cred)) {
		real = real_cred(ctx->cred);
		if (!real)
			return -ENOMEM;
		other.cred = real;
	}
	r = walk_full(&other, at, now, &node);
	if (r < 0) {
		ctx->leave_second = other.leave_second;
		return r;
	}
	if (mask) {
		lease_on_attr(&other, node);
		r = perm_may(&other, node, mask, now);
		lease_until(other.lease, atomic_load(&node->rights_until));
	}
	if (r == -EACCES)
		lease_error(other.lease, r);
	else
		lease_whole(other.lease);
	if (!r && (mask & W_OK) && (node->instance->ls->ro || node->instance->host_ro) &&
	    (node->type == S_IFREG || node->type == S_IFDIR || node->type == S_IFLNK))
		r = -EROFS;
	vnode_unref(node);
	return r;
}

ssize_t vfs_readlink(struct vctx *ctx, const struct vtarget *at, char *buf, size_t cap_bytes)
{
	struct vtarget target = *at;
	struct vnode *node;
	const char *link;
	ssize_t r;

	target.nofollow = true;
	r = walk_full(ctx, &target, clock_coarse_ns(), &node);
	if (r < 0)
		return r;
	r = node->type == S_IFLNK ? walk_link(node, &link) : -EINVAL;
	if (!r) {
		size_t len = strlen(link);

		r = len < cap_bytes ? len : cap_bytes;
		memcpy(buf, link, r);
	}
	vnode_unref(node);
	return r;
}

int vfs_statfs(struct vctx *ctx, const struct vtarget *at, struct statvfs *ret, uint64_t *ret_type)
{
	struct vnode *node;
	int r = walk_full(ctx, at, clock_coarse_ns(), &node);

	if (r < 0)
		return r;
	r = ls_statfs(node->instance->ls, node->ls, ret, ret_type);
	vnode_unref(node);
	return r;
}
