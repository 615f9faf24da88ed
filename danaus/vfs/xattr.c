/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes. Owns the translation of the ids that are inside some of them: ACLs
 * (linux/posix_acl_xattr.h) and file capabilities (linux/capability.h), between the caller's user
 * namespace and the host. Any thread. */
#include "danaus/vfs/node.h"

#include <endian.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdlib.h>

#include "danaus/base/cleanup.h"

static bool is_acl(const char *name)
{
	return !strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) ||
	       !strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT);
}

static bool identity(const struct cred *cred)
{
	return !cred->map || (!cred->map->nuid && !cred->map->ngid);
}

/* In place. out: to the host's ids, -EINVAL for one that has none. */
static int acl_ids(const struct idmap *map, void *value, size_t len, bool out)
{
	struct posix_acl_xattr_entry *e = (void *)((char *)value + sizeof(uint32_t));
	size_t n;

	if (len < sizeof(uint32_t))
		return 0;
	n = (len - sizeof(uint32_t)) / sizeof(*e);
	for (; n; n--, e++) {
		uint32_t id = le32toh(e->e_id);
		bool known = true;

		if (le16toh(e->e_tag) == ACL_USER) {
			if (out)
				known = idmap_uid_out(map, id, &id);
			else
				id = idmap_uid_in(map, id);
		} else if (le16toh(e->e_tag) == ACL_GROUP) {
			if (out)
				known = idmap_gid_out(map, id, &id);
			else
				id = idmap_gid_in(map, id);
		} else {
			continue;
		}
		if (!known)
			return -EINVAL;
		e->e_id = htole32(id);
	}
	return 0;
}

/* As cap_convert_nscap() of Linux security/commoncap.c: what root of a user namespace grants holds
 * in that one only. */
static int caps_out(const struct idmap *map, const void *value, size_t len,
		    struct vfs_ns_cap_data *ret)
{
	uint32_t magic, root = 0;
	uid_t host;

	if (len != XATTR_CAPS_SZ_2 && len != XATTR_CAPS_SZ_3)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, value, len);
	magic = le32toh(ret->magic_etc);
	if (len == XATTR_CAPS_SZ_3)
		root = le32toh(ret->rootid);
	if ((magic & VFS_CAP_REVISION_MASK) !=
	    (len == XATTR_CAPS_SZ_3 ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2))
		return -EINVAL;
	if (!idmap_uid_out(map, root, &host))
		return -EINVAL;
	ret->magic_etc = htole32(VFS_CAP_REVISION_3 | (magic & VFS_CAP_FLAGS_EFFECTIVE));
	ret->rootid = htole32(host);
	return 0;
}

/* As cap_inode_getsecurity(): the caller's own root is not named. */
static ssize_t caps_in(const struct idmap *map, void *value, size_t len)
{
	struct vfs_ns_cap_data data;
	uint32_t magic, root;

	if (len != XATTR_CAPS_SZ_3)
		return len;
	memcpy(&data, value, len);
	magic = le32toh(data.magic_etc);
	if ((magic & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3)
		return len;
	if (!idmap_uid_known(map, le32toh(data.rootid)))
		return -EOVERFLOW;
	root = idmap_uid_in(map, le32toh(data.rootid));
	data.rootid = htole32(root);
	if (!root) {
		data.magic_etc = htole32(VFS_CAP_REVISION_2 | (magic & VFS_CAP_FLAGS_EFFECTIVE));
		len = XATTR_CAPS_SZ_2;
	}
	memcpy(value, &data, len);
	return len;
}

static int check_name(const char *name)
{
	size_t len = strnlen(name, XATTR_NAME_MAX + 1);

	return len && len <= XATTR_NAME_MAX ? 0 : -ERANGE;
}

static ssize_t get_capability(struct vctx *ctx, struct vnode *node, void *value, size_t cap_bytes)
{
	char buf[XATTR_CAPS_SZ_3];
	ssize_t n =
	    ls_getxattr(node->instance->ls, ctx->cred, node->ls, XATTR_NAME_CAPS, buf, sizeof(buf));

	if (n > 0)
		n = caps_in(ctx->cred->map, buf, n);
	if (n <= 0 || !cap_bytes)
		return n;
	if ((size_t)n > cap_bytes)
		return -ERANGE;
	memcpy(value, buf, n);
	return n;
}

ssize_t vfs_getxattr(struct vctx *ctx, const struct vtarget *at, const char *name, void *value,
		     size_t cap_bytes)
{
	struct vnode *node;
	ssize_t n = check_name(name);

	if (!n)
		n = walk_full(ctx, at, clock_coarse_ns(), &node);
	if (n < 0)
		return n;
	if (!identity(ctx->cred) && !strcmp(name, XATTR_NAME_CAPS)) {
		n = get_capability(ctx, node, value, cap_bytes);
	} else {
		n = ls_getxattr(node->instance->ls, ctx->cred, node->ls, name, value, cap_bytes);
		if (n > 0 && cap_bytes && is_acl(name) && !identity(ctx->cred))
			acl_ids(ctx->cred->map, value, n, false);
	}
	vnode_unref(node);
	return n;
}

int vfs_setxattr(struct vctx *ctx, const struct vtarget *at, const char *name, const void *value,
		 size_t len_bytes, int flags)
{
	CLEANUP_FREE void *copy = NULL;
	struct vfs_ns_cap_data caps;
	struct vnode *node;
	int r = check_name(name);

	if (len_bytes > XATTR_SIZE_MAX)
		return -E2BIG;
	if (!r && !identity(ctx->cred) && len_bytes) {
		if (is_acl(name)) {
			copy = malloc(len_bytes);
			if (!copy)
				return -ENOMEM;
			memcpy(copy, value, len_bytes);
			r = acl_ids(ctx->cred->map, copy, len_bytes, true);
			value = copy;
		} else if (!strcmp(name, XATTR_NAME_CAPS)) {
			r = caps_out(ctx->cred->map, value, len_bytes, &caps);
			value = &caps;
			len_bytes = sizeof(caps);
		}
	}
	if (!r)
		r = walk_full(ctx, at, clock_coarse_ns(), &node);
	if (r < 0)
		return r;
	r = ls_setxattr(node->instance->ls, ctx->cred, node->ls, name, value, len_bytes, flags);
	vnode_changed(node, NULL, 0, 0);
	if (!r)
		face_changed(node, 0, 0);
	vnode_unref(node);
	return r;
}

ssize_t vfs_listxattr(struct vctx *ctx, const struct vtarget *at, char *names, size_t cap_bytes)
{
	struct vnode *node;
	ssize_t n = walk_full(ctx, at, clock_coarse_ns(), &node);

	if (n < 0)
		return n;
	n = ls_listxattr(node->instance->ls, ctx->cred, node->ls, names, cap_bytes);
	vnode_unref(node);
	return n;
}

int vfs_removexattr(struct vctx *ctx, const struct vtarget *at, const char *name)
{
	struct vnode *node;
	int r = check_name(name);

	if (!r)
		r = walk_full(ctx, at, clock_coarse_ns(), &node);
	if (r < 0)
		return r;
	r = ls_removexattr(node->instance->ls, ctx->cred, node->ls, name);
	vnode_changed(node, NULL, 0, 0);
	if (!r)
		face_changed(node, 0, 0);
	vnode_unref(node);
	return r;
}
