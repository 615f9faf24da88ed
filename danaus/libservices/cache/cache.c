/* SPDX-License-Identifier: Apache-2.0 */
/* The cache libservice's volumes and nodes, and the operations that it passes on. Any thread. */
#include "danaus/libservices/cache/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/cache/internal.h"

static struct ls_node **chain_of(struct cache_core *core, const struct ls_node *lower)
{
	return &core->nodes[((uintptr_t)lower * 0x9e3779b97f4a7c15u) >> 54];
}
_Static_assert(CACHE_NODE_BUCKETS == 1u << 10, "chain_of");

/* The node of lower, whose one reference it takes over, also on failure. */
static int node_of(struct cache_core *core, struct ls_node *lower, const struct attr *attr,
		   struct ls_node **ret)
{
	struct ls_node **chain = chain_of(core, lower), *node;
	int r = 0;

	pthread_mutex_lock(&core->nodes_lock);
	for (node = *chain; node && node->lower != lower; node = node->chain)
		;
	if (node) {
		node->refs++;
		pthread_mutex_unlock(&core->nodes_lock);
		ls_forget(core->next, lower, 1);
		*ret = node;
		return 0;
	}
	node = calloc(1, sizeof(*node));
	if (node && S_ISREG(attr->mode)) {
		pthread_mutex_lock(&core->store->lock);
		node->inode = cache_inode_get(core, attr->dev, attr->ino);
		pthread_mutex_unlock(&core->store->lock);
	}
	if (!node || (S_ISREG(attr->mode) && !node->inode)) {
		free(node);
		r = -ENOMEM;
	} else {
		node->lower = lower;
		node->refs = 1;
		node->chain = *chain;
		*chain = node;
	}
	pthread_mutex_unlock(&core->nodes_lock);
	if (r < 0)
		ls_forget(core->next, lower, 1);
	else
		*ret = node;
	return r;
}

void cache_node_ref(struct cache_core *core, struct ls_node *node)
{
	pthread_mutex_lock(&core->nodes_lock);
	node->refs++;
	pthread_mutex_unlock(&core->nodes_lock);
}

void cache_node_unref(struct cache_core *core, struct ls_node *node, uint64_t count)
{
	struct cinode *inode = node->inode;
	struct ls_node **p;
	struct attr attr;
	bool gone = false;

	pthread_mutex_lock(&core->nodes_lock);
	node->refs -= count;
	if (node->refs) {
		pthread_mutex_unlock(&core->nodes_lock);
		return;
	}
	for (p = chain_of(core, node->lower); *p != node; p = &(*p)->chain)
		;
	*p = node->chain;
	pthread_mutex_unlock(&core->nodes_lock);
	if (inode) {
		/* Pages outlive the node, for whoever opens the file next. Where asking could take
		 * long, those of a removed file go when their turn comes. */
		if (core->next->cacheable &&
		    atomic_load_explicit(&inode->npages, memory_order_relaxed))
			gone = ls_getattr(core->next, node->lower, NULL, &attr) < 0 || !attr.nlink;
		pthread_mutex_lock(&core->store->lock);
		if (gone)
			cache_inode_forget_data(core->store, inode);
		cache_inode_put(inode);
		pthread_mutex_unlock(&core->store->lock);
	}
	ls_forget(core->next, node->lower, 1);
	free(node);
}

static void cache_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	cache_node_unref(core_of(ls), node, count);
}

/* attr is what a lookup found below. */
static int shown(struct cache_core *core, struct ls_node *node, struct attr *attr)
{
	bool was_dirty = false;
	int r;

	if (node->inode && core->writeback) {
		pthread_mutex_lock(&core->store->lock);
		was_dirty = node->inode->generation;
		pthread_mutex_unlock(&core->store->lock);
	}
	r = was_dirty ? cache_show(core, node, attr) : 0;
	if (r < 0)
		cache_node_unref(core, node, 1);
	return r;
}

/* The file of what the layer below has opened; it takes lower over, also on failure. */
static int file_of(struct cache_core *core, struct ls_node *node, struct ls_file *lower, int flags,
		   struct ls_file **ret)
{
	struct ls_file *file = calloc(1, sizeof(*file));

	if (!file) {
		ls_release(core->next, lower);
		return -ENOMEM;
	}
	cache_node_ref(core, node);
	file->lower = lower;
	file->node = node;
	atomic_init(&file->refs, 1);
	file->direct = flags & O_DIRECT;
	file->appends = flags & O_APPEND;
	file->readable = (flags & O_ACCMODE) != O_WRONLY;
	if (node->inode) {
		pthread_mutex_lock(&core->store->lock);
		node->inode->opens++;
		/* what nobody was told of yet is told to the next one */
		file->errors = node->inode->errors - (node->inode->untold ? 1 : 0);
		pthread_mutex_unlock(&core->store->lock);
	}
	*ret = file;
	return 0;
}

static int cache_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_node *lower;
	int r = ls_root(core->next, &lower, ret_attr);

	return r < 0 ? r : node_of(core, lower, ret_attr, ret);
}

static int cache_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_node *lower;
	int r = ls_lookup(core->next, cred, dir->lower, name, &lower, ret_attr);

	if (!r)
		r = node_of(core, lower, ret_attr, ret);
	return r < 0 ? r : shown(core, *ret, ret_attr);
}

static int cache_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		      struct ls_node **ret, struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_node *lower;
	int r = ls_make(core->next, cred, dir->lower, name, mode, umask, rdev, target, &lower,
			ret_attr);

	return r < 0 ? r : node_of(core, lower, ret_attr, ret);
}

static int made(struct cache_core *core, struct ls_node *lower, struct ls_file *lower_file,
		const struct attr *attr, int flags, struct ls_node **ret, struct ls_file **ret_file)
{
	struct ls_node *node;
	int r = node_of(core, lower, attr, &node);

	if (r < 0) {
		ls_release(core->next, lower_file);
		return r;
	}
	r = file_of(core, node, lower_file, flags, ret_file);
	if (r < 0) {
		cache_node_unref(core, node, 1);
		return r;
	}
	/* new, so there is nothing that a write would take off */
	if (node->inode) {
		pthread_mutex_lock(&node->inode->change);
		node->inode->plain = !(attr->mode & (S_ISUID | S_ISGID));
		pthread_mutex_unlock(&node->inode->change);
		pthread_mutex_lock(&core->store->lock);
		node->inode->untold = false; /* another file's, which had its number */
		(*ret_file)->errors = node->inode->errors;
		pthread_mutex_unlock(&core->store->lock);
	}
	*ret = node;
	return 0;
}

static int cache_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, int flags, mode_t mode, mode_t umask,
			struct ls_node **ret, struct ls_file **ret_file, struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_file *lower_file;
	struct ls_node *lower;
	int r = ls_create(core->next, cred, dir->lower, name, flags, mode, umask, &lower,
			  &lower_file, ret_attr);

	return r < 0 ? r : made(core, lower, lower_file, ret_attr, flags, ret, ret_file);
}

static int cache_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			 int flags, mode_t mode, mode_t umask, struct ls_node **ret,
			 struct ls_file **ret_file, struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_file *lower_file;
	struct ls_node *lower;
	int r = ls_tmpfile(core->next, cred, dir->lower, flags, mode, umask, &lower, &lower_file,
			   ret_attr);

	return r < 0 ? r : made(core, lower, lower_file, ret_attr, flags, ret, ret_file);
}

static int cache_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      struct ls_node *dir, const char *name)
{
	struct cache_core *core = core_of(ls);

	/* A name leads to what was written before it was given. */
	if (node->inode && core->writeback)
		cache_clean(core, node->inode, false);
	return ls_link(core->next, cred, node->lower, dir->lower, name);
}

static int cache_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, bool directory)
{
	return ls_unlink(core_of(ls)->next, cred, dir->lower, name, directory);
}

/* The way to replace a file is to write another one and to rename that: whoever does not fsync has
 * the old content or the new one, should the service be killed, and not an empty file. */
static void flush_name(struct cache_core *core, struct ls_node *dir, const char *name)
{
	struct ls_node *lower, *node;
	struct attr attr;
	bool some;

	pthread_mutex_lock(&core->store->lock);
	some = core->store->ninodes;
	pthread_mutex_unlock(&core->store->lock);
	if (!some || ls_lookup(core->next, cred_root(), dir->lower, name, &lower, &attr) < 0)
		return;
	pthread_mutex_lock(&core->nodes_lock);
	for (node = *chain_of(core, lower); node && node->lower != lower; node = node->chain)
		;
	if (node)
		node->refs++;
	pthread_mutex_unlock(&core->nodes_lock);
	ls_forget(core->next, lower, 1);
	if (node && node->inode)
		cache_clean(core, node->inode, false);
	if (node)
		cache_node_unref(core, node, 1);
}

static int cache_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, struct ls_node *newdir, const char *newname,
			unsigned flags)
{
	struct cache_core *core = core_of(ls);

	if (core->writeback)
		flush_name(core, dir, name);
	return ls_rename(core->next, cred, dir->lower, name, newdir->lower, newname, flags);
}

static int cache_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
			 struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);

	uint64_t epoch = node->inode ? cache_epoch(core, node) : 0;
	int r;

	if (node->inode && core->writeback)
		r = cache_show(core, node, ret_attr);
	else
		r = ls_getattr(core->next, node->lower, file ? file->lower : NULL, ret_attr);
	if (!r)
		ret_attr->data_epoch = epoch;
	return r;
}

static int cache_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			 struct ls_file *file, unsigned set, const struct attr *attr,
			 struct attr *ret_attr)
{
	struct cache_core *core = core_of(ls);
	struct ls_file *lower_file = file ? file->lower : NULL;
	int r;

	if (!node->inode)
		return ls_setattr(core->next, cred, node->lower, lower_file, set, attr, ret_attr);
	r = cache_change_begin(core, node, set & ATTR_SIZE ? CACHE_REST : CACHE_METADATA,
			       attr->size, 0);
	if (r < 0)
		return r;
	if (set & ~ATTR_SIZE)
		node->inode->plain = false;
	r = ls_setattr(core->next, cred, node->lower, lower_file, set, attr, ret_attr);
	cache_change_end(core, node);
	return r;
}

static int cache_access(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			int mask)
{
	return ls_access(core_of(ls)->next, cred, node->lower, mask);
}

static ssize_t cache_readlink(struct libservice *ls, struct ls_node *node, char *buf,
			      size_t cap_bytes)
{
	return ls_readlink(core_of(ls)->next, node->lower, buf, cap_bytes);
}

static int cache_open_node(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			   int flags, struct ls_file **ret)
{
	struct cache_core *core = core_of(ls);
	struct ls_file *lower;
	int r = ls_open(core->next, cred, node->lower, flags, &lower);

	if (r < 0)
		return r;
	cache_check(core, node);
	return file_of(core, node, lower, flags, ret);
}

static void cache_reopened(struct libservice *ls, struct ls_file *file)
{
	cache_check(core_of(ls), file->node);
}

void cache_file_unref(struct cache_core *core, struct ls_file *file)
{
	if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	ls_release(core->next, file->reader);
	ls_release(core->next, file->lower);
	cache_node_unref(core, file->node, 1);
	free(file);
}

static void cache_release(struct libservice *ls, struct ls_file *file)
{
	struct cache_core *core = core_of(ls);
	struct cinode *inode = file->node->inode;
	bool closed = false;

	if (inode) {
		pthread_mutex_lock(&core->store->lock);
		closed = !--inode->opens && inode->dirty;
		pthread_mutex_unlock(&core->store->lock);
	}
	if (closed)
		cache_dirty_closed(core, file->node);
	cache_file_unref(core, file);
}

static int cache_flush(struct libservice *ls, struct ls_file *file)
{
	struct cache_core *core = core_of(ls);
	int told = 0, r;

	if (file->node->inode && core->writeback) {
		told = cache_take_error(core, file);
		cache_dirty_soon(core, file->node->inode);
	}
	r = ls_flush(core->next, file->lower);
	return told ? told : r;
}

static int cache_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	struct cache_core *core = core_of(ls);
	struct cinode *inode = file->node->inode;
	int r = 0, told = 0;

	if (inode && core->writeback) {
		r = cache_clean(core, inode, true);
		told = cache_take_error(core, file);
		r = r ? r : told;
	}
	return r < 0 ? r : ls_fsync(core->next, file->lower, data_only);
}

static int64_t cache_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	struct cache_core *core = core_of(ls);
	int r =
	    file->node->inode && core->writeback ? cache_clean(core, file->node->inode, false) : 0;

	return r < 0 ? r : ls_seek(core->next, file->lower, offset, whence);
}

static int cache_readdir(struct libservice *ls, struct ls_file *file, uint64_t position,
			 ls_fill_fn fill, void *arg)
{
	return ls_readdir(core_of(ls)->next, file->lower, position, fill, arg);
}

static ssize_t cache_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			      const char *name, void *value, size_t cap_bytes)
{
	return ls_getxattr(core_of(ls)->next, cred, node->lower, name, value, cap_bytes);
}

static int cache_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			  const char *name, const void *value, size_t len_bytes, int flags)
{
	struct cache_core *core = core_of(ls);
	int r;

	if (!node->inode)
		return ls_setxattr(core->next, cred, node->lower, name, value, len_bytes, flags);
	r = cache_change_begin(core, node, CACHE_METADATA, 0, 0);
	if (r < 0)
		return r;
	r = ls_setxattr(core->next, cred, node->lower, name, value, len_bytes, flags);
	cache_change_end(core, node);
	return r;
}

static ssize_t cache_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			       char *names, size_t cap_bytes)
{
	return ls_listxattr(core_of(ls)->next, cred, node->lower, names, cap_bytes);
}

static int cache_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			     const char *name)
{
	struct cache_core *core = core_of(ls);
	int r;

	if (!node->inode)
		return ls_removexattr(core->next, cred, node->lower, name);
	r = cache_change_begin(core, node, CACHE_METADATA, 0, 0);
	if (r < 0)
		return r;
	r = ls_removexattr(core->next, cred, node->lower, name);
	cache_change_end(core, node);
	return r;
}

static int cache_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
			uint64_t *ret_type)
{
	return ls_statfs(core_of(ls)->next, node->lower, ret, ret_type);
}

static int cache_syncfs(struct libservice *ls)
{
	struct cache_core *core = core_of(ls);
	int first = core->writeback ? cache_flush_core(core) : 0, r = ls_syncfs(core->next);

	return first ? first : r;
}

static int cache_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		      short type, uint64_t start, uint64_t len_bytes)
{
	struct cache_core *core = core_of(ls);
	int r = ls_lock(core->next, node->lower, owner, whole, type, start, len_bytes);

	/* Who had it before, on another host, may have written. */
	if (!r && type != F_UNLCK && core->next->ops->lock)
		cache_check(core, node);
	return r;
}

static int cache_host_fd(struct libservice *ls, struct ls_node *node)
{
	struct cache_core *core = core_of(ls);
	int fd = ls_host_fd(core->next, node->lower);

	/* The host's events of a write come when the host is told of it: at once from here on. */
	if (fd >= 0 && node->inode && core->writeback) {
		pthread_mutex_lock(&node->inode->change);
		node->inode->watched = true;
		cache_clean_locked(core, node->inode, false);
		pthread_mutex_unlock(&node->inode->change);
	} else if (fd >= 0) {
		atomic_store(&core->watched, true);
	}
	return fd;
}

static void cache_free(struct libservice *ls)
{
	cache_unshare((struct cache *)ls);
	free(ls);
}

static const struct libservice_ops cache_ops = {
    .name = "cache",
    .free = cache_free,
    .root = cache_root,
    .lookup = cache_lookup,
    .make = cache_make,
    .create = cache_create,
    .tmpfile = cache_tmpfile,
    .link = cache_link,
    .unlink = cache_unlink,
    .rename = cache_rename,
    .forget = cache_forget,
    .getattr = cache_getattr,
    .setattr = cache_setattr,
    .access = cache_access,
    .readlink = cache_readlink,
    .open = cache_open_node,
    .reopened = cache_reopened,
    .release = cache_release,
    .read = cache_read,
    .write = cache_write,
    .flush = cache_flush,
    .fsync = cache_fsync,
    .allocate = cache_allocate,
    .seek = cache_seek,
    .readdir = cache_readdir,
    .getxattr = cache_getxattr,
    .setxattr = cache_setxattr,
    .listxattr = cache_listxattr,
    .removexattr = cache_removexattr,
    .statfs = cache_statfs,
    .syncfs = cache_syncfs,
    .lock = cache_lock,
    .host_fd = cache_host_fd,
};

static bool only_local(const struct source *source)
{
	bool local = source->kind != SOURCE_CEPH;

	for (unsigned i = 0; i < source->nlower; i++)
		local = local && only_local(source->lower[i]);
	return local;
}

int cache_open(const struct source *source, const struct stack_limits *limits,
	       struct libservice **lower, struct libservice **ret, struct err *err)
{
	CLEANUP_FREE struct cache *cache = calloc(1, sizeof(*cache));
	struct cache_store *store = limits->caches;
	bool ro = lower[0]->ro;
	int r = 0;

	if (!cache)
		return -ENOMEM;
	if (!store) {
		r = cache_store_new(limits->cache_bytes, &store);
		if (r < 0)
			return r;
		store->is_private = true;
	}
	/* Whether it may be written is each volume's own, the layer below is for all of them. */
	lower[0]->ro = false;
	cache->base.ops = &cache_ops;
	cache->base.ro = ro;
	/* What is kept here is as old at most as what the vfs may keep. */
	cache->base.cacheable = true;
	cache->base.remote = !lower[0]->cacheable;
	cache->base.distant = lower[0]->distant;
	r = 0;
	if (source->lower[0]->writeback && !only_local(source->lower[0]))
		r = err_set(err, -EINVAL,
			    "writeback: only where all of the source is local (Ceph's "
			    "client writes back by itself, coherently between hosts)");
	if (!r)
		r = cache_share(store, source->lower[0], limits, lower[0], cache, err);
	if (r < 0) {
		lower[0]->ro = ro;
		if (!limits->caches)
			cache_store_free(store);
		return r;
	}
	*ret = &STEAL_PTR(cache)->base;
	return 0;
}
