/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the vfs itself: instances, how they nest, their faces, and giving memory and descriptors
 * back. Any thread. */
#include "danaus/vfs/node.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/log.h"

#define SPARE_FDS  512u		  /* for everything else in the service */
#define IDLE_NS	   10000000000ull /* names unused for so long go */
#define TRIM_NAMES 1024u

static unsigned clamp(uint64_t value, unsigned low, unsigned high)
{
	return value < low ? low : value > high ? high : value;
}

int vfs_new(struct vfs **ret)
{
	struct vfs *vfs = calloc(1, sizeof(*vfs));
	pthread_condattr_t monotonic;
	struct rlimit files;
	uint64_t fds;

	if (!vfs)
		return -ENOMEM;
	if (leases_init(&vfs->leases) < 0) {
		free(vfs);
		return -ENOMEM;
	}
	if (windows_new(&vfs->windows) < 0) {
		leases_done(&vfs->leases);
		free(vfs);
		return -ENOMEM;
	}
	pthread_mutex_init(&vfs->mounts, NULL);
	pthread_mutex_init(&vfs->lru_lock, NULL);
	pthread_mutex_init(&vfs->rest_lock, NULL);
	pthread_mutex_init(&vfs->lock_mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&vfs->lock_cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (unsigned i = 0; i < STRIPES; i++) {
		pthread_mutex_init(&vfs->dentry_stripe[i], NULL);
		pthread_mutex_init(&vfs->node_stripe[i], NULL);
	}
	list_init(&vfs->lru);
	list_init(&vfs->resting);
	list_init(&vfs->locked);
	list_init(&vfs->waiters);
	/* A cached inode may hold one descriptor of the host's, a resting file another. */
	fds = getrlimit(RLIMIT_NOFILE, &files) < 0 ? 1024 : files.rlim_cur;
	fds = fds > SPARE_FDS ? fds - SPARE_FDS : 0;
	vfs->names_max = CACHE_NAMES;
	vfs->nodes_max = clamp(fds / 2, 64, CACHE_NODES);
	vfs->resting_max = clamp(fds / 4, 16, CACHE_NODES / 2);
	perm_read_sysctls(vfs);
	*ret = vfs;
	return 0;
}

void vfs_free(struct vfs *vfs)
{
	if (!vfs)
		return;
	while (vfs->instances)
		vfs_instance_remove(vfs->instances);
	windows_free(vfs->windows);
	vfs_reclaim(vfs, true);
	leases_done(&vfs->leases);
	for (unsigned i = 0; i < STRIPES; i++) {
		pthread_mutex_destroy(&vfs->dentry_stripe[i]);
		pthread_mutex_destroy(&vfs->node_stripe[i]);
	}
	pthread_cond_destroy(&vfs->lock_cond);
	pthread_mutex_destroy(&vfs->lock_mutex);
	pthread_mutex_destroy(&vfs->rest_lock);
	pthread_mutex_destroy(&vfs->lru_lock);
	pthread_mutex_destroy(&vfs->mounts);
	free(vfs);
}

/* inner's target relative to outer's, when it is below it. */
static const char *below(const struct vfs_instance *outer, const struct vfs_instance *inner)
{
	size_t len = strlen(outer->target);

	if (outer == inner || strcmp(outer->scope, inner->scope) != 0)
		return NULL;
	if (!strcmp(outer->target, "/"))
		return inner->target + 1;
	if (strncmp(outer->target, inner->target, len) != 0 || inner->target[len] != '/')
		return NULL;
	return inner->target + len + 1;
}

static struct vfs_instance *outer_of(struct vfs *vfs, const struct vfs_instance *instance)
{
	struct vfs_instance *best = NULL, *i;

	for (i = vfs->instances; i; i = i->next) {
		if (below(i, instance) && (!best || strlen(i->target) > strlen(best->target)))
			best = i;
	}
	return best;
}

static void uncover(struct vfs_instance *instance)
{
	struct vnode *covered = atomic_exchange(&instance->covered, NULL);

	if (!covered)
		return;
	atomic_store(&covered->mounted, NULL);
	leases_changed(&instance->vfs->leases, LEASE_EPOCH);
	rcu_wait();
	vnode_unref(covered);
}

/* Makes what is missing of path, as a container runtime does for a mount's target. */
static void make_target(struct vctx *ctx, struct vfs_instance *outer, const char *path)
{
	char part[PATH_BYTES];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return;
	for (size_t i = 1; i <= len; i++) {
		struct vtarget at = {.dir = outer->root, .path = part, .nofollow = true};

		if (path[i] && path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		vfs_make(ctx, &at, S_IFDIR | 0755, 0, NULL, NULL);
	}
}

/* Puts instance where it belongs in another one's tree. */
static void cover(struct vfs_instance *instance)
{
	struct vfs_instance *outer = outer_of(instance->vfs, instance);
	struct vnode *covered = atomic_load(&instance->covered), *node;
	struct vctx ctx = {.cred = cred_root(), .owner = 1, .fsize_limit = UINT64_MAX};
	struct vtarget at = {.nofollow = true};
	int r;

	if (covered && covered->instance == outer)
		return;
	uncover(instance);
	if (!outer)
		return;
	at.dir = outer->root;
	at.path = below(outer, instance);
	r = walk_full(&ctx, &at, clock_coarse_ns(), &node);
	if (r == -ENOENT) {
		make_target(&ctx, outer, at.path);
		r = walk_full(&ctx, &at, clock_coarse_ns(), &node);
	}
	cred_unref(ctx.cred);
	if (!r && (node->instance != outer || node->type != S_IFDIR)) {
		vnode_unref(node);
		r = -ENOTDIR;
	}
	if (r < 0) {
		log_warn("%s is not seen from within %s: %s", instance->target, outer->target,
			 strerror(-r));
		return;
	}
	atomic_store(&instance->covered, node);
	atomic_store(&node->mounted, instance);
	leases_changed(&instance->vfs->leases, LEASE_EPOCH);
}

static void cover_all(struct vfs *vfs)
{
	/* Outer ones first: an inner one's path may lead through them. */
	for (size_t len = 0, next;; len = next) {
		next = SIZE_MAX;
		for (struct vfs_instance *i = vfs->instances; i; i = i->next) {
			size_t n = strlen(i->target);

			if (n == len)
				cover(i);
			else if (n > len && n < next)
				next = n;
		}
		if (next == SIZE_MAX)
			return;
	}
}

static void instance_free(struct vfs_instance *instance)
{
	for (unsigned i = 0; i < NAME_LOCKS; i++)
		pthread_mutex_destroy(&instance->name_lock[i]);
	free(instance->scope);
	free(instance->target);
	free(instance);
}
DEFINE_CLEANUP(instance, struct vfs_instance *, instance_free)

static int check_target(struct vfs *vfs, const char *scope, const char *target, struct err *err)
{
	if (target[0] != '/' || strlen(target) >= PATH_BYTES)
		return err_set(err, -EINVAL, "the target \"%s\" is not an absolute path", target);
	for (struct vfs_instance *i = vfs->instances; i; i = i->next) {
		if (!strcmp(i->scope, scope) && !strcmp(i->target, target))
			return err_set(err, -EEXIST, "two volumes have the target \"%s\"", target);
	}
	return 0;
}

int vfs_instance_add(struct vfs *vfs, const char *scope, const char *target, struct libservice *ls,
		     struct vfs_instance **ret, struct err *err)
{
	__attribute__((cleanup(cleanup_instance))) struct vfs_instance *instance =
	    calloc(1, sizeof(*instance));
	struct ls_node *root;
	struct statvfs fs;
	struct attr attr;
	uint64_t type;
	int r;

	if (!instance)
		return -ENOMEM;
	for (unsigned i = 0; i < NAME_LOCKS; i++)
		pthread_mutex_init(&instance->name_lock[i], NULL);
	instance->vfs = vfs;
	instance->ls = ls;
	instance->scope = strdup(scope);
	instance->target = strdup(target);
	if (!instance->scope || !instance->target)
		return -ENOMEM;
	pthread_mutex_lock(&vfs->mounts);
	r = check_target(vfs, scope, target, err);
	if (!r) {
		r = ls_root(ls, &root, &attr);
		if (r < 0)
			err_set(err, r, "cannot open the source of \"%s\": %s", target,
				strerror(-r));
	}
	if (!r) {
		instance->ls_dev = attr.dev;
		if (!ls_statfs(ls, root, &fs, &type)) {
			instance->host_ro = fs.f_flag & ST_RDONLY;
			instance->no_atime = fs.f_flag & ST_NOATIME;
			/* A libservice without mount flags says 0. */
			instance->strict_atime =
			    fs.f_flag && !(fs.f_flag & (ST_NOATIME | ST_RELATIME));
		}
		r = vnode_of(instance, root, &attr, NULL, 0, clock_coarse_ns(), &instance->root);
	}
	if (r < 0) {
		pthread_mutex_unlock(&vfs->mounts);
		return r;
	}
	instance->next = vfs->instances;
	vfs->instances = instance;
	*ret = STEAL_PTR(instance);
	cover_all(vfs);
	pthread_mutex_unlock(&vfs->mounts);
	return 0;
}

/* Nodes that still know their parents after everything else let go. */
static void drop_parents(struct vfs_instance *instance)
{
	struct vfs *vfs = instance->vfs;

	for (unsigned c = 0; c < NODE_CHAINS; c++) {
		struct vnode *node, *parent;

		do {
			pthread_mutex_lock(&vfs->node_stripe[c % STRIPES]);
			parent = NULL;
			for (node = vfs->nodes[c]; node; node = node->chain) {
				if (node->instance != instance)
					continue;
				parent = atomic_exchange(&node->parent, NULL);
				if (parent)
					break;
			}
			pthread_mutex_unlock(&vfs->node_stripe[c % STRIPES]);
			vnode_unref(parent);
		} while (node);
	}
}

static bool has_nodes(struct vfs_instance *instance)
{
	struct vfs *vfs = instance->vfs;
	bool some = false;

	for (unsigned c = 0; c < NODE_CHAINS && !some; c++) {
		pthread_mutex_lock(&vfs->node_stripe[c % STRIPES]);
		for (struct vnode *node = vfs->nodes[c]; node; node = node->chain)
			some = some || node->instance == instance;
		pthread_mutex_unlock(&vfs->node_stripe[c % STRIPES]);
	}
	return some;
}

void vfs_instance_remove(struct vfs_instance *instance)
{
	struct vfs *vfs = instance->vfs;
	struct vfs_instance **p, *i;
	int r;

	pthread_mutex_lock(&vfs->mounts);
	for (p = &vfs->instances; *p != instance; p = &(*p)->next)
		;
	*p = instance->next;
	uncover(instance);
	for (i = vfs->instances; i; i = i->next) {
		struct vnode *covered = atomic_load(&i->covered);

		if (covered && covered->instance == instance)
			uncover(i);
	}
	cover_all(vfs);
	pthread_mutex_unlock(&vfs->mounts);

	atomic_store(&instance->dying, true);
	leases_changed(&vfs->leases, LEASE_EPOCH);
	r = ls_syncfs(instance->ls);
	if (r < 0 && r != -EOPNOTSUPP && r != -EROFS)
		log_error("%s: flushing at the end: %s", instance->target, strerror(-r));
	vfs_unrest(vfs, true);
	dentry_purge(instance);
	vnode_unref(instance->root);
	drop_parents(instance);
	vfs_reclaim(vfs, true);
	rcu_wait();
	if (has_nodes(instance)) {
		/* Freeing what a door still uses would be worse than keeping it. */
		log_error("%s: still in use at its end", instance->target);
		return;
	}
	ls_free(instance->ls);
	instance_free(instance);
}

void vfs_instance_set_dev(struct vfs_instance *instance, dev_t dev)
{
	atomic_store(&instance->dev, dev);
	leases_changed(&instance->vfs->leases, LEASE_EPOCH);
}

dev_t vfs_instance_dev(const struct vfs_instance *instance)
{
	return atomic_load(&instance->dev);
}

struct vnode *vfs_instance_root(struct vfs_instance *instance)
{
	return instance->root;
}

void vfs_instance_set_face(struct vfs_instance *instance, const struct face *face)
{
	if (face)
		instance->face = *face;
	atomic_store(&instance->has_face, face != NULL);
}

static void face_writes(struct vnode *node)
{
	atomic_fetch_add(&node->face_writers, 1);
	/* what a program maps changes without a word */
	window_change_begin(vfs_of(node)->windows, node, 0, UINT64_MAX);
	window_change_end(vfs_of(node)->windows, node, 0, false);
}

/* What is cached of a time that the kernel's reading moves, and leases of it. */
static void face_reads(struct vnode *node)
{
	if (atomic_load(&node->face_beside) && atomic_load(&node->atime_moves))
		vnode_touched(node);
}

void vnode_face_open(struct vnode *node, bool writing)
{
	atomic_fetch_add(&node->face_opens, 1);
	if (writing)
		face_writes(node);
	face_reads(node);
}

void vnode_face_close(struct vnode *node, bool writing)
{
	if (writing)
		atomic_fetch_sub(&node->face_writers, 1);
	atomic_fetch_sub(&node->face_opens, 1);
	face_reads(node);
}

void vnode_face_beside(struct vnode *node, bool writing)
{
	atomic_store(&node->face_beside, true);
	if (!writing)
		return;
	face_writes(node);
	vnode_touched(node);
}

void vnode_face_apart(struct vnode *node, bool writing)
{
	if (writing)
		atomic_fetch_sub(&node->face_writers, 1);
	atomic_store(&node->face_beside, false);
	vnode_touched(node);
}

struct leases *vfs_leases(struct vfs *vfs)
{
	return &vfs->leases;
}

void vfs_set_drop_idle(struct vfs *vfs, void (*drop)(void *arg, struct vnode *node), void *arg)
{
	vfs->drop_idle = drop;
	vfs->drop_arg = arg;
}

void vfs_set_window_budget(struct vfs *vfs, uint64_t bytes)
{
	windows_set_budget(vfs->windows, bytes);
}

void vfs_count(struct vfs *vfs, struct vfs_counts *ret)
{
	pthread_mutex_lock(&vfs->lock_mutex);
	ret->locks = vfs->lock_count;
	pthread_mutex_unlock(&vfs->lock_mutex);
	ret->nodes = atomic_load(&vfs->node_count);
	ret->files = atomic_load(&vfs->file_count);
	ret->bytes_cached = windows_bytes(vfs->windows);
}

void vfs_trim(struct vfs *vfs)
{
	uint64_t now = clock_coarse_ns();

	vfs_unrest(vfs, false);
	if (now > IDLE_NS)
		dentry_evict(vfs, TRIM_NAMES, now - IDLE_NS);
	vfs_reclaim(vfs, true);
}
