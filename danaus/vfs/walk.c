/* SPDX-License-Identifier: Apache-2.0 */
/* Owns paths: from a directory and a path to an inode, as path_resolution(7), with the instances
 * that are mounted within another one's tree, and the end of a walk where it leaves the volume.
 *
 * Two walks: one over cached names and attributes only, in an RCU section, without references
 * (walk_cached()); and one that asks the libservice where it must. Any thread. */
#include "danaus/vfs/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"

bool target_is_object(const struct vtarget *at)
{
	return !at->path || !at->path[0];
}

struct vnode *target_node(const struct vtarget *at)
{
	return at->file ? at->file->node : at->dir;
}

void walk_done(struct walk *walk)
{
	if (walk->node)
		vnode_unref(walk->node);
	walk->node = NULL;
}

bool vfs_make_room(struct vfs *vfs, int r)
{
	if (r != -EMFILE && r != -ENFILE)
		return false;
	if (vfs->drop_idle)
		vfs->drop_idle(vfs->drop_arg, NULL);
	vfs_unrest(vfs, true);
	dentry_evict(vfs, CACHE_NAMES / 4, 0);
	vfs_reclaim(vfs, true);
	return true;
}

static size_t component(const char *path)
{
	size_t n = 0;

	while (path[n] && path[n] != '/')
		n++;
	return n;
}

static bool is_dot(const char *name, size_t len)
{
	return len == 1 && name[0] == '.';
}

static bool is_dotdot(const char *name, size_t len)
{
	return len == 2 && name[0] == '.' && name[1] == '.';
}

static struct vnode *cross_down(struct vnode *node)
{
	struct vfs_instance *mounted;

	while ((mounted = atomic_load_explicit(&node->mounted, memory_order_acquire)))
		node = mounted->root;
	return node;
}

/* In an RCU section: the directory above, NULL when that is out of the volume (*ret_outside: the
 * instance that ends there) or not known. */
static struct vnode *above(struct vnode *node, struct vfs_instance **ret_outside)
{
	struct vnode *up;

	*ret_outside = NULL;
	while (node == node->instance->root) {
		up = atomic_load_explicit(&node->instance->covered, memory_order_acquire);
		if (!up) {
			if (!strcmp(node->instance->target, "/"))
				return node;
			*ret_outside = node->instance;
			return NULL;
		}
		node = up;
	}
	up = atomic_load_explicit(&node->parent, memory_order_acquire);
	return up ? cross_down(up) : NULL;
}

struct vnode *walk_cached(struct vctx *ctx, const struct vtarget *at, uint64_t now,
			  bool *ret_absent)
{
	struct vnode *node = target_node(at);
	const char *p = at->path ? at->path : "";
	struct attr attr;

	*ret_absent = false;
	if (!*p)
		return node;
	while (*p == '/')
		p++;
	while (*p) {
		size_t len = component(p);
		const char *rest = p + len;
		struct vfs_instance *outside;

		while (*rest == '/')
			rest++;
		lease_on_names(ctx, node);
		if (len > NAME_MAX || node->type != S_IFDIR ||
		    !vnode_cached_rights(node, now, &attr) ||
		    perm_decide(&attr, ctx->cred, X_OK) != 1)
			return NULL;
		lease_until(ctx->lease, atomic_load(&node->rights_until));
		if (is_dotdot(p, len)) {
			/* when node goes elsewhere, what is above now has lost a name */
			node = above(node, &outside);
			if (!node)
				return NULL;
		} else if (!is_dot(p, len)) {
			struct dentry *d = dentry_find(node, p, len, dentry_hash(node, p, len));

			if (!d || atomic_load_explicit(&d->until, memory_order_acquire) <= now)
				return NULL;
			lease_until(ctx->lease, atomic_load(&d->until));
			if (!atomic_load_explicit(&d->used, memory_order_relaxed))
				atomic_store_explicit(&d->used, true, memory_order_relaxed);
			if (!d->node) {
				lease_on_absence(ctx, node, p, len);
				*ret_absent = true;
				return NULL;
			}
			node = cross_down(d->node);
			if (node->type == S_IFLNK && (*rest || !at->nofollow || p[len] == '/'))
				return NULL;
		}
		if (p[len] == '/' && node->type != S_IFDIR)
			return NULL;
		p = rest;
	}
	return p - at->path < PATH_BYTES ? node : NULL;
}

int walk_link(struct vnode *node, const char **ret)
{
	char *link = atomic_load_explicit(&node->link, memory_order_acquire), *none = NULL;
	char buf[PATH_BYTES];
	ssize_t n;

	if (!link) {
		n = ls_readlink(node->instance->ls, node->ls, buf, sizeof(buf));
		if (n < 0)
			return n;
		if (n == sizeof(buf))
			return -ENAMETOOLONG;
		link = malloc(n + 1);
		if (!link)
			return -ENOMEM;
		memcpy(link, buf, n);
		link[n] = '\0';
		if (!atomic_compare_exchange_strong(&node->link, &none, link)) {
			free(link);
			link = none;
		}
	}
	*ret = link;
	return 0;
}

int walk_lookup(struct vctx *ctx, struct vnode *dir, const char *name, size_t len, uint64_t now,
		bool cross, struct vnode **ret)
{
	uint32_t hash = dentry_hash(dir, name, len);
	struct vfs_instance *instance = dir->instance;
	struct vnode *node = NULL, *known = NULL;
	unsigned names_gen, attr_gen = 0;
	char buf[NAME_MAX + 1];
	struct ls_node *ls_node;
	struct dentry *d;
	struct attr attr;
	int r;

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	rcu_enter();
	d = dentry_find(dir, name, len, hash);
	if (d) {
		atomic_store_explicit(&d->used, true, memory_order_relaxed);
		if (d->node && vnode_tryref(d->node))
			node = d->node;
		if (atomic_load_explicit(&d->until, memory_order_acquire) > now &&
		    (node || !d->node)) {
			rcu_leave();
			goto found;
		}
	}
	rcu_leave();
	known = node;
	if (known)
		attr_gen = vnode_gen(known);
	names_gen = atomic_load(&dir->names_gen);
	memcpy(buf, name, len);
	buf[len] = '\0';
	r = ls_lookup(instance->ls, ctx->cred, dir->ls, buf, &ls_node, &attr);
	if (r < 0 && vfs_make_room(instance->vfs, r))
		r = ls_lookup(instance->ls, ctx->cred, dir->ls, buf, &ls_node, &attr);
	if (r == -ENOENT) {
		node = NULL;
		dentry_enter(dir, name, len, NULL, names_gen, now);
	} else if (!r) {
		r = vnode_of(instance, ls_node, &attr, known, attr_gen, now, &node);
		if (!r) {
			if (node->type == S_IFDIR)
				vnode_set_parent(node, dir);
			dentry_enter(dir, name, len, node, names_gen, now);
		}
	}
	vnode_unref(known);
	vfs_reclaim(instance->vfs, false);
	if (r < 0 && r != -ENOENT)
		return r;
found:
	if (node && cross) {
		struct vnode *top;

		rcu_enter();
		top = cross_down(node);
		if (top != node) {
			/* An instance holds its root for as long as it is mounted. */
			vnode_ref(top);
			vnode_unref(node);
			node = top;
		}
		rcu_leave();
	}
	*ret = node;
	return 0;
}

/* The walk goes on at base + "/" + rest, absolute in the container. */
static int leave(struct vctx *ctx, const char *base, size_t base_len, const char *rest)
{
	int n;

	if (!ctx->leave)
		return -EREMCHG;
	n = snprintf(ctx->leave, PATH_BYTES, "%.*s%s%s", (int)base_len, base,
		     *rest && (!base_len || base[base_len - 1] != '/') ? "/" : "", rest);
	return n < 0 || n >= PATH_BYTES ? -ENAMETOOLONG : -EREMCHG;
}

static int leave_above(struct vctx *ctx, const struct vfs_instance *instance, const char *rest)
{
	const char *slash = strrchr(instance->target, '/');
	size_t len = slash ? slash - instance->target : 0;

	return leave(ctx, instance->target, len ? len : 1, rest);
}

static int step_up(struct vctx *ctx, struct walk *walk, const char *rest)
{
	struct vfs_instance *outside;
	struct vnode *up;

	rcu_enter();
	do {
		up = above(walk->node, &outside);
	} while (up && !vnode_tryref(up));
	rcu_leave();
	if (outside)
		return leave_above(ctx, outside, rest);
	if (!up)
		return -ENOENT; /* removed by somebody else */
	vnode_unref(walk->node);
	walk->node = up;
	return 0;
}

/* Puts a symlink's content in front of what is left of the path, in *spare, which becomes the path.
 */
static int splice_link(struct vctx *ctx, struct vnode *link, const char *rest, char *spare,
		       const char **ret_path)
{
	const char *content;
	int r = walk_link(link, &content), n;

	if (r < 0)
		return r;
	if (!content[0])
		return -ENOENT;
	if (content[0] == '/')
		return leave(ctx, content, strlen(content), rest);
	n = snprintf(spare, PATH_BYTES, "%s%s%s", content, *rest ? "/" : "", rest);
	if (n < 0 || n >= PATH_BYTES)
		return -ENAMETOOLONG;
	*ret_path = spare;
	return 0;
}

static int walk_path(struct vctx *ctx, const char *path, bool nofollow, bool parent,
		     struct walk *walk)
{
	char buffers[2][PATH_BYTES];
	unsigned links = 0;
	const char *p = path;
	int r;

	if (strnlen(path, PATH_BYTES) == PATH_BYTES)
		return -ENAMETOOLONG;
	while (*p == '/')
		p++;
	while (*p) {
		size_t len = component(p);
		const char *rest = p + len;
		struct vnode *next, *dir = walk->node;
		bool slash = *rest == '/';

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		if (dir->type != S_IFDIR)
			return -ENOTDIR;
		r = perm_may(ctx, dir, X_OK, walk->now);
		if (r < 0)
			return r;
		while (*rest == '/')
			rest++;
		if (parent && !*rest) {
			memcpy(walk->last, p, len);
			walk->last[len] = '\0';
			walk->len = len;
			walk->slash = slash;
			walk->dots = is_dot(p, len) || is_dotdot(p, len);
			return 0;
		}
		if (is_dot(p, len)) {
			p = rest;
			continue;
		}
		if (is_dotdot(p, len)) {
			r = step_up(ctx, walk, rest);
			if (r < 0)
				return r;
			p = rest;
			continue;
		}
		r = walk_lookup(ctx, dir, p, len, walk->now, true, &next);
		if (r < 0)
			return r;
		if (!next)
			return -ENOENT;
		if (next->type == S_IFLNK && (*rest || slash || !nofollow)) {
			/* Slashes at the end say: a directory, after the links. */
			r = *rest ? 0 : perm_follow(ctx, dir, next, walk->now);
			if (!r && ++links > LINKS_MAX)
				r = -ELOOP;
			if (!r)
				r = splice_link(ctx, next,
						*rest	? rest
						: slash ? "/"
							: "",
						buffers[links % 2], &p);
			vnode_unref(next);
			if (r < 0)
				return r;
			continue;
		}
		if (slash && next->type != S_IFDIR) {
			vnode_unref(next);
			return -ENOTDIR;
		}
		walk->node = next;
		vnode_unref(dir);
		p = rest;
	}
	return 0;
}

int walk_full(struct vctx *ctx, const struct vtarget *at, uint64_t now, struct vnode **ret)
{
	struct vnode *node;
	bool absent;
	int r;

	rcu_enter();
	node = walk_cached(ctx, at, now, &absent);
	if (node && !vnode_tryref(node))
		node = NULL;
	rcu_leave();
	if (absent)
		return -ENOENT;
	if (!node) {
		struct walk walk = {.node = vnode_ref(target_node(at)), .now = now};

		lease_off(ctx->lease);
		r = walk_path(ctx, at->path, at->nofollow, false, &walk);
		if (r < 0) {
			walk_done(&walk);
			return r;
		}
		node = walk.node;
	}
	*ret = node;
	return 0;
}

int walk_parent(struct vctx *ctx, const struct vtarget *at, struct walk *walk)
{
	int r;

	*walk = (struct walk){.node = vnode_ref(target_node(at)), .now = clock_coarse_ns()};
	if (target_is_object(at))
		return 0;
	r = walk_path(ctx, at->path, true, true, walk);
	if (r < 0)
		walk_done(walk);
	return r;
}

int vfs_lookup(struct vctx *ctx, const struct vtarget *at, struct vnode **ret,
	       struct attr *ret_attr)
{
	uint64_t now = clock_coarse_ns();
	struct vnode *node;
	struct attr attr;
	int r = walk_full(ctx, at, now, &node);

	if (r < 0)
		return r;
	if (ret_attr) {
		r = vnode_attr(node, now, &attr);
		if (r < 0) {
			vnode_unref(node);
			return r;
		}
		vnode_present(node, &attr);
		*ret_attr = attr;
	}
	*ret = node;
	return 0;
}
