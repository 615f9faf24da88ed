/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the union's nodes, their inode numbers and the lookup over all branches. Called by the vfs
 * through the libservice table; any worker thread. See union.h for the format. */
#include "danaus/libservices/union/union.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/libservices/union/internal.h"

#define LIST_MAX     65536
#define KEEP_WAIT_MS 5000
#define KEEP_STEP_MS 50

static const struct libservice_ops ops;

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	return h ^ h >> 29;
}

static unsigned bucket(uint64_t a, uint64_t b)
{
	return mix(a, b) % UNION_BUCKETS;
}

bool union_is_whiteout(const struct attr *attr)
{
	return S_ISCHR(attr->mode) && attr->rdev == 0;
}

int union_check_name(struct union_fs *fs, struct unode *dir, const char *name)
{
	return dir == fs->root && !strcmp(name, UNION_WORK) ? -EPERM : 0;
}

struct lower union_top(struct unode *n)
{
	struct ls_node *upper = atomic_load(&n->upper);

	return upper ? (struct lower){UPPER, upper} : n->lower[0];
}

/* Inode numbers. The branch (and the file system below it) goes into the top byte; what does not
 * fit there is hashed with a secret under the top byte's highest bit. */

static uint64_t fold(struct union_fs *fs, unsigned branch, uint64_t dev, uint64_t ino)
{
	unsigned i;

	for (i = 0; i < fs->ndev; i++)
		if (fs->devs[i].branch == branch && fs->devs[i].dev == dev)
			break;
	if (i == fs->ndev && i < UNION_DEVS_MAX) {
		fs->devs[i].branch = branch;
		fs->devs[i].dev = dev;
		fs->ndev++;
	}
	if (i < UNION_DEVS_MAX && !(ino >> 56))
		return (uint64_t)i << 56 | ino;
	return mix(mix(mix(fs->hash_key, branch), dev), ino) | 1ull << 63;
}

/* A hard link of a lower file: each name becomes a file of its own at copy-up, so each is one from
 * the start. */
static uint64_t fold_name(struct union_fs *fs, unsigned branch, const struct attr *attr,
			  struct unode *dir, const char *name)
{
	uint64_t h = mix(mix(mix(mix(fs->hash_key, branch), attr->dev), attr->ino), dir->ino);

	for (; *name; name++)
		h = mix(h, (unsigned char)*name);
	return h | 1ull << 63;
}

static struct origin **origin_find(struct union_fs *fs, uint64_t dev, uint64_t ino)
{
	struct origin **o = &fs->origins[bucket(dev, ino)];

	while (*o && ((*o)->dev != dev || (*o)->upper_ino != ino))
		o = &(*o)->next;
	return o;
}

static uint64_t upper_ino(struct union_fs *fs, uint64_t dev, uint64_t ino)
{
	struct origin *o = *origin_find(fs, dev, ino);

	return o ? o->ino : fold(fs, UPPER, dev, ino);
}

int union_origin_put(struct union_fs *fs, const struct attr *upper, uint64_t ino)
{
	struct origin *o = malloc(sizeof(*o)), **place;

	if (!o)
		return -ENOMEM;
	pthread_mutex_lock(&fs->table_lock);
	place = origin_find(fs, upper->dev, upper->ino);
	if (*place) {
		(*place)->ino = ino;
		free(o);
	} else {
		*o = (struct origin){NULL, upper->dev, upper->ino, ino};
		*place = o;
	}
	pthread_mutex_unlock(&fs->table_lock);
	return 0;
}

void union_origin_drop(struct union_fs *fs, const struct attr *upper)
{
	struct origin **place, *o;

	pthread_mutex_lock(&fs->table_lock);
	place = origin_find(fs, upper->dev, upper->ino);
	o = *place;
	if (o)
		*place = o->next;
	pthread_mutex_unlock(&fs->table_lock);
	free(o);
}

uint64_t union_entry_ino(struct union_fs *fs, unsigned branch, uint64_t dev, uint64_t ino)
{
	uint64_t r;

	pthread_mutex_lock(&fs->table_lock);
	r = branch == UPPER ? upper_ino(fs, dev, ino) : fold(fs, branch, dev, ino);
	pthread_mutex_unlock(&fs->table_lock);
	return r;
}

/* Nodes. */

static void node_free(struct union_fs *fs, struct unode *n)
{
	struct ls_node *upper = atomic_load(&n->upper);

	if (upper)
		ls_forget(upper_ls(fs), upper, 1);
	for (unsigned i = 0; i < n->nlower; i++)
		ls_forget(fs->branch[n->lower[i].branch], n->lower[i].node, 1);
	pthread_mutex_destroy(&n->copy_lock);
	pthread_rwlock_destroy(&n->dir_lock);
	free(n->name);
	free(n);
}

void union_node_ref(struct union_fs *fs, struct unode *n)
{
	pthread_mutex_lock(&fs->table_lock);
	n->refs++;
	pthread_mutex_unlock(&fs->table_lock);
}

static void unhash(struct union_fs *fs, struct unode *n)
{
	for (struct unode **p = &fs->nodes[bucket(n->ino, 0)]; *p; p = &(*p)->next) {
		if (*p != n)
			continue;
		*p = n->next;
		return;
	}
}

void union_node_unref(struct union_fs *fs, struct unode *n, uint64_t count)
{
	while (n) {
		struct unode *parent;
		uint64_t left;

		pthread_mutex_lock(&fs->table_lock);
		left = n->refs -= count;
		if (!left)
			unhash(fs, n);
		pthread_mutex_unlock(&fs->table_lock);
		if (left)
			return;
		parent = n->parent;
		node_free(fs, n);
		n = parent;
		count = 1;
	}
}

static struct unode *node_new(struct union_fs *fs, struct unode *dir, const char *name,
			      const struct found *found)
{
	struct unode *n = calloc(1, sizeof(*n) + found->nlower * sizeof(n->lower[0]));

	if (!n)
		return NULL;
	if (name && !(n->name = strdup(name))) {
		free(n);
		return NULL;
	}
	n->refs = 1;
	n->type = found->attr.mode & S_IFMT;
	n->parent = dir;
	n->nlower = found->nlower;
	memcpy(n->lower, found->lower, found->nlower * sizeof(n->lower[0]));
	atomic_store(&n->upper, found->upper);
	pthread_mutex_init(&n->copy_lock, NULL);
	pthread_rwlock_init(&n->dir_lock, NULL);
	return n;
}

/* Whether n is the node that found describes. A branch has one node object per inode while it is
 * referenced, so equal pointers are equal inodes. */
static bool same_node(const struct unode *n, const struct found *found)
{
	struct ls_node *upper = atomic_load(&n->upper);

	if (upper && found->upper)
		return upper == found->upper;
	return found->nlower && n->nlower && n->lower[0].branch == found->lower[0].branch &&
	       n->lower[0].node == found->lower[0].node;
}

int union_node_get(struct union_fs *fs, struct unode *dir, const char *name, struct found *found,
		   struct unode **ret, struct attr *ret_attr)
{
	struct unode *fresh = node_new(fs, dir, name, found), *n, *parent = dir;
	uint64_t ino;

	if (!fresh) {
		union_found_done(fs, found);
		return -ENOMEM;
	}
	pthread_mutex_lock(&fs->table_lock);
	if (found->upper)
		ino = upper_ino(fs, found->attr.dev, found->attr.ino);
	else if (found->attr.nlink > 1 && !S_ISDIR(found->attr.mode))
		ino = fold_name(fs, found->lower[0].branch, &found->attr, dir, name);
	else
		ino = fold(fs, found->lower[0].branch, found->attr.dev, found->attr.ino);
	for (n = fs->nodes[bucket(ino, 0)]; n; n = n->next)
		if (n->ino == ino && same_node(n, found))
			break;
	if (n) {
		n->refs++;
	} else {
		fresh->ino = ino;
		fresh->next = fs->nodes[bucket(ino, 0)];
		fs->nodes[bucket(ino, 0)] = fresh;
		if (parent)
			parent->refs++;
	}
	pthread_mutex_unlock(&fs->table_lock);
	if (n)
		node_free(fs, fresh);
	else
		n = fresh;
	*ret = n;
	*ret_attr = found->attr;
	ret_attr->dev = 0;
	ret_attr->ino = n->ino;
	if (S_ISDIR(ret_attr->mode) && (found->upper != NULL) + union_nlower(n) > 1)
		ret_attr->nlink = 1; /* as overlayfs: nobody counts the merged subdirectories */
	return 0;
}

int union_node_made(struct union_fs *fs, struct unode *dir, const char *name, struct ls_node *upper,
		    struct attr *attr, struct unode **ret)
{
	struct found found = {.upper = upper, .attr = *attr};

	/* A number that the branch uses again says nothing of the file that had it before. */
	union_origin_drop(fs, attr);
	return union_node_get(fs, dir, name, &found, ret, attr);
}

/* Lookup. */

void union_found_done(struct union_fs *fs, struct found *found)
{
	if (found->upper)
		ls_forget(upper_ls(fs), found->upper, 1);
	for (unsigned i = 0; i < found->nlower; i++)
		ls_forget(fs->branch[found->lower[i].branch], found->lower[i].node, 1);
	found->upper = NULL;
	found->nlower = 0;
}

static bool has_name(const char *list, size_t len_bytes, const char *name)
{
	for (const char *p = list; p < list + len_bytes; p += strlen(p) + 1)
		if (!strcmp(p, name))
			return true;
	return false;
}

/* 1 when the directory hides what is below it. A branch that somebody wrote with redirect_dir or
 * metacopy would be shown wrong: -EIO. */
static int marks(struct union_fs *fs, unsigned branch, struct ls_node *node,
		 const struct attr *attr)
{
	struct libservice *ls = fs->branch[branch];
	char small[1024], value = 0, *names = small;
	CLEANUP_FREE char *large = NULL;
	ssize_t n;

	if (S_ISREG(attr->mode) && (attr->blocks || !attr->size))
		return 0; /* a metacopy file has a size and no data */
	if (!S_ISREG(attr->mode) && !S_ISDIR(attr->mode))
		return 0;
	n = ls_listxattr(ls, fs->service, node, small, sizeof(small));
	if (n == -ERANGE) {
		names = large = malloc(LIST_MAX);
		if (!large)
			return -ENOMEM;
		n = ls_listxattr(ls, fs->service, node, large, LIST_MAX);
	}
	if (n == -EOPNOTSUPP || n == -ENODATA)
		return 0;
	if (n < 0)
		return n;
	if (has_name(names, n, OVERLAY_PREFIX "redirect") ||
	    has_name(names, n, OVERLAY_PREFIX "metacopy"))
		return -EIO;
	if (!S_ISDIR(attr->mode) || !has_name(names, n, OVERLAY_OPAQUE))
		return 0;
	n = ls_getxattr(ls, fs->service, node, OVERLAY_OPAQUE, &value, 1);
	if (n < 0 && n != -ERANGE)
		return n == -ENODATA ? 0 : n;
	return n == 1 && value == 'y';
}

/* One branch: 1 the search goes on below, 0 it ends here, or an error. */
static int find_in(struct union_fs *fs, const struct cred *cred, struct lower dir, const char *name,
		   struct found *ret)
{
	struct ls_node *node;
	struct attr attr;
	bool first = !ret->upper && !ret->nlower;
	int r = ls_lookup(fs->branch[dir.branch], cred, dir.node, name, &node, &attr);

	if (r == -ENOENT || (r == -ENAMETOOLONG && dir.branch != UPPER))
		return 1;
	if (r < 0)
		return r;
	if (union_is_whiteout(&attr)) {
		if (dir.branch == UPPER)
			ret->whiteout = fs->writable;
		ls_forget(fs->branch[dir.branch], node, 1);
		return 0;
	}
	if (!first && !S_ISDIR(attr.mode)) {
		ls_forget(fs->branch[dir.branch], node, 1);
		return 0;
	}
	r = marks(fs, dir.branch, node, &attr);
	if (r < 0) {
		ls_forget(fs->branch[dir.branch], node, 1);
		return r;
	}
	if (dir.branch == UPPER && fs->writable)
		ret->upper = node;
	else
		ret->lower[ret->nlower++] = (struct lower){dir.branch, node};
	if (first)
		ret->attr = attr;
	return S_ISDIR(attr.mode) && !r;
}

int union_find(struct union_fs *fs, const struct cred *cred, struct unode *dir, const char *name,
	       struct found *ret)
{
	struct ls_node *upper = atomic_load(&dir->upper);
	int r = 1;

	ret->whiteout = false;
	ret->upper = NULL;
	ret->nlower = 0;
	if (upper) {
		r = find_in(fs, cred, (struct lower){UPPER, upper}, name, ret);
		cred = fs->service; /* the topmost directory's rights are the union's */
	}
	for (unsigned i = 0; r == 1 && i < union_nlower(dir); i++) {
		r = find_in(fs, cred, dir->lower[i], name, ret);
		cred = fs->service;
	}
	if (r < 0) {
		union_found_done(fs, ret);
		return r;
	}
	return ret->upper || ret->nlower ? 0 : -ENOENT;
}

int union_lower_positive(struct union_fs *fs, struct unode *dir, const char *name)
{
	for (unsigned i = 0; i < union_nlower(dir); i++) {
		struct libservice *ls = fs->branch[dir->lower[i].branch];
		struct ls_node *node;
		struct attr attr;
		int r = ls_lookup(ls, fs->service, dir->lower[i].node, name, &node, &attr);

		if (r == -ENOENT || r == -ENAMETOOLONG)
			continue;
		if (r < 0)
			return r;
		ls_forget(ls, node, 1);
		return !union_is_whiteout(&attr);
	}
	return 0;
}

static int union_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	struct union_fs *fs = union_of(ls);
	int r = union_getattr_node(fs, fs->root, ret_attr);

	if (r < 0)
		return r;
	union_node_ref(fs, fs->root);
	*ret = (struct ls_node *)fs->root;
	return 0;
}

static int union_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir_node,
			const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	struct union_fs *fs = union_of(ls);
	struct unode *dir = unode_of(dir_node), *n;
	struct found found;
	int r;

	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (union_check_name(fs, dir, name) < 0)
		return -ENOENT;
	pthread_rwlock_rdlock(&dir->dir_lock);
	r = union_find(fs, cred, dir, name, &found);
	if (!r)
		r = union_node_get(fs, dir, name, &found, &n, ret_attr);
	pthread_rwlock_unlock(&dir->dir_lock);
	if (!r)
		*ret = (struct ls_node *)n;
	return r;
}

static void union_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	union_node_unref(union_of(ls), unode_of(node), count);
}

/* Setting up. */

/* Everything but the branches and the nodes. */
static void dispose(struct union_fs *fs)
{
	for (unsigned i = 0; i < UNION_BUCKETS; i++) {
		while (fs->origins[i]) {
			struct origin *o = fs->origins[i];

			fs->origins[i] = o->next;
			free(o);
		}
	}
	fd_close(fs->lock_fd);
	cred_unref(fs->service);
	pthread_mutex_destroy(&fs->table_lock);
	pthread_mutex_destroy(&fs->tree_lock);
	pthread_mutex_destroy(&fs->names_lock);
	free(fs);
}

static void union_free(struct libservice *ls)
{
	struct union_fs *fs = union_of(ls);

	if (fs->writable)
		union_work_stop(fs);
	union_node_unref(fs, fs->root, 1);
	for (unsigned i = 0; i < fs->nbranch; i++)
		ls_free(fs->branch[i]);
	dispose(fs);
}

/* Two unions that write one branch would each take the other's work for its own. The service of a
 * container that has just ended may still be flushing: it gets some time. */
static int keep_branch(struct union_fs *fs, struct ls_node *root, struct err *err)
{
	static const struct timespec step = {.tv_nsec = KEEP_STEP_MS * 1000000};
	char path[64];
	CLEANUP_FD int fd = ls_host_fd(upper_ls(fs), root);

	if (fd == -EOPNOTSUPP) {
		fd = -1;
		return 0;
	}
	if (fd < 0) {
		int r = fd;

		fd = -1;
		return err_set(err, r, "the writable branch's root cannot be opened");
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fs->lock_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs->lock_fd < 0)
		return err_set(err, -errno, "the writable branch's root cannot be opened");
	for (unsigned i = 0; flock(fs->lock_fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i < KEEP_WAIT_MS / KEEP_STEP_MS) {
			nanosleep(&step, NULL);
			continue;
		}
		return err_set(
		    err, -EBUSY,
		    "the writable branch is in use by another union; give each container "
		    "its own, or one pool and one mount");
	}
	return 0;
}

static int open_roots(struct union_fs *fs, struct err *err)
{
	struct found found = {0};
	int r = 0;

	for (unsigned i = 0; i < fs->nbranch && !r; i++) {
		struct ls_node *node;
		struct attr attr;

		r = ls_root(fs->branch[i], &node, &attr);
		if (r < 0) {
			err_set(err, r, "branch %u cannot be opened: %s", i + 1, strerror(-r));
			break;
		}
		if (i == UPPER && fs->writable)
			found.upper = node;
		else
			found.lower[found.nlower++] = (struct lower){i, node};
		if (i == 0)
			found.attr = attr;
		if (!S_ISDIR(attr.mode))
			r = err_set(err, -ENOTDIR, "branch %u is not a directory", i + 1);
	}
	if (r < 0) {
		union_found_done(fs, &found);
		return r;
	}
	r = union_node_get(fs, NULL, NULL, &found, &fs->root, &found.attr);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

int union_new(struct libservice **branches, unsigned nbranch, bool writable,
	      struct libservice **ret, struct err *err)
{
	struct union_fs *fs;
	int r;

	if (!nbranch || nbranch > UNION_BRANCHES_MAX)
		return err_set(err, -EINVAL, "a union has 1 to %d branches", UNION_BRANCHES_MAX);
	fs = calloc(1, sizeof(*fs) + nbranch * sizeof(fs->branch[0]));
	if (!fs)
		return err_set(err, -ENOMEM, "out of memory");
	fs->base.ops = &ops;
	fs->base.ro = !writable;
	fs->writable = writable;
	fs->lock_fd = -1;
	pthread_mutex_init(&fs->table_lock, NULL);
	pthread_mutex_init(&fs->tree_lock, NULL);
	pthread_mutex_init(&fs->names_lock, NULL);
	fs->service = cred_root();
	memcpy(fs->branch, branches, nbranch * sizeof(branches[0]));
	for (unsigned i = writable; i < nbranch; i++)
		branches[i]->ro = false; /* never written; asked for rights as if it could be */
	fs->nbranch = nbranch;
	r = fs->service ? 0 : err_set(err, -ENOMEM, "out of memory");
	if (!r && getrandom(&fs->hash_key, sizeof(fs->hash_key), 0) < 0)
		r = err_set(err, -errno, "no random numbers");
	if (!r)
		r = open_roots(fs, err);
	if (!r && writable)
		r = keep_branch(fs, atomic_load(&fs->root->upper), err);
	if (!r && writable)
		r = union_work_start(fs, err);
	if (r < 0) {
		if (fs->root)
			union_node_unref(fs, fs->root, 1);
		dispose(fs);
		return r;
	}
	*ret = &fs->base;
	return 0;
}

static const struct libservice_ops ops = {
    .name = "union",
    .free = union_free,
    .root = union_root,
    .lookup = union_lookup,
    .make = union_make,
    .create = union_create,
    .tmpfile = union_tmpfile,
    .link = union_link,
    .unlink = union_unlink,
    .rename = union_rename,
    .forget = union_forget,
    .getattr = union_getattr,
    .setattr = union_setattr,
    .access = union_access,
    .readlink = union_readlink,
    .open = union_open,
    .release = union_release,
    .read = union_read,
    .write = union_write,
    .flush = union_flush,
    .fsync = union_fsync,
    .allocate = union_allocate,
    .seek = union_seek,
    .readdir = union_readdir,
    .getxattr = union_getxattr,
    .setxattr = union_setxattr,
    .listxattr = union_listxattr,
    .removexattr = union_removexattr,
    .statfs = union_statfs,
    .syncfs = union_syncfs,
    .lock = union_lock,
    .host_fd = union_host_fd,
};
