/* SPDX-License-Identifier: Apache-2.0 */
/* The local libservice: a host directory, confined. Owns the tree's descriptors and the table of
 * nodes. Every lookup is of one plain name in one directory and never follows a link; what is
 * mounted below the source when it is opened is there, as in a recursive bind mount. Operations run
 * with the caller's identity, so that the host's kernel itself decides. Any thread. */
#include "danaus/libservices/local/map.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define STATX_WANTED (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

const char *local_proc_name(int fd, char buf[LOCAL_PROC_NAME_MAX])
{
	char *p = buf + LOCAL_PROC_NAME_MAX - 1;

	*p = '\0';
	do {
		*--p = '0' + fd % 10;
		fd /= 10;
	} while (fd);
	return p;
}

uint64_t local_caps(const struct cred *cred, const struct ls_node *node)
{
	struct stat st;

	if (!cred->map || (!cred->map->nuid && !cred->map->ngid))
		return cred->caps;
	if (!cred->caps || fstat(node->fd, &st) < 0)
		return 0;
	return cred_caps_for(cred, st.st_uid, st.st_gid);
}

int local_assume(const struct cred *cred, const struct ls_node *node)
{
	return cred_assume(cred, local_caps(cred, node));
}

void local_umask(mode_t mask)
{
	static __thread mode_t mine = 01000; /* not known */

	mask &= 0777;
	if (mine == mask)
		return;
	if (mine == 01000)
		unshare(CLONE_FS);
	umask(mask);
	mine = mask;
}

static uint64_t nanoseconds(struct statx_timestamp t)
{
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static struct timespec timespec_of(struct statx_timestamp t)
{
	return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

uint64_t local_ino(const struct local *local, const struct ls_node *node, uint64_t ino)
{
	/* One volume is one file system to its programs: keep the numbers of what is mounted below
	 * it apart. */
	if (node->dev == local->dev)
		return ino;
	return ino ^ ((node->dev * 0x9e3779b97f4a7c15u) & ~0xffffffffull);
}

static void attr_of(struct local *local, const struct ls_node *node, const struct statx *stx,
		    struct attr *ret)
{
	uint64_t no_acl = atomic_load_explicit(&node->no_acl_at, memory_order_relaxed);

	*ret = (struct attr){
	    .dev = node->dev,
	    .ino = local_ino(local, node, stx->stx_ino),
	    .size = stx->stx_size,
	    .blocks = stx->stx_blocks,
	    .mode = stx->stx_mode,
	    .nlink = stx->stx_nlink,
	    .uid = stx->stx_uid,
	    .gid = stx->stx_gid,
	    .rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
	    .blksize = stx->stx_blksize,
	    .has_acl = node->type != S_IFLNK && (!no_acl || no_acl != nanoseconds(stx->stx_ctime)),
	    .append_only = stx->stx_attributes & STATX_ATTR_APPEND,
	    .atime = timespec_of(stx->stx_atime),
	    .mtime = timespec_of(stx->stx_mtime),
	    .ctime = timespec_of(stx->stx_ctime),
	    .btime = timespec_of(stx->stx_btime),
	};
}

static unsigned bucket_of(uint64_t mnt, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev << 20 ^ mnt << 40) * 0x9e3779b97f4a7c15u;

	return h >> 54;
}
_Static_assert(LOCAL_BUCKETS == 1u << 10, "bucket_of");

static uint64_t dev_of(const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

static struct ls_node *table_find(struct local *local, const struct statx *stx)
{
	uint64_t dev = dev_of(stx);
	unsigned b = bucket_of(stx->stx_mnt_id, dev, stx->stx_ino);
	struct ls_node *node;

	pthread_mutex_lock(&local->bucket[b].lock);
	for (node = local->bucket[b].first; node; node = node->next) {
		if (node->ino == stx->stx_ino && node->dev == dev && node->mnt == stx->stx_mnt_id) {
			node->refs++;
			break;
		}
	}
	pthread_mutex_unlock(&local->bucket[b].lock);
	return node;
}

static void node_free(struct ls_node *node)
{
	pthread_mutex_destroy(&node->write_lock);
	free(node);
}

int local_node_by(struct local *local, int fd, struct ls_node **ret, struct attr *ret_attr)
{
	struct ls_node *node, *other;
	struct statx stx;
	unsigned b;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_WANTED, &stx) < 0)
		return -errno;
	node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	pthread_mutex_init(&node->write_lock, NULL);
	node->refs = 1;
	node->mnt = stx.stx_mnt_id;
	node->dev = dev_of(&stx);
	node->ino = stx.stx_ino;
	node->type = stx.stx_mode & S_IFMT;
	b = bucket_of(node->mnt, node->dev, node->ino);
	pthread_mutex_lock(&local->bucket[b].lock);
	for (other = local->bucket[b].first; other; other = other->next) {
		if (other->ino == node->ino && other->dev == node->dev && other->mnt == node->mnt)
			break;
	}
	if (other) {
		other->refs++;
		node_free(node);
		node = other;
	} else {
		node->fd = fd;
		node->next = local->bucket[b].first;
		local->bucket[b].first = node;
	}
	pthread_mutex_unlock(&local->bucket[b].lock);
	attr_of(local, node, &stx, ret_attr);
	*ret = node;
	return 0;
}

int local_node_of(struct local *local, int fd, struct ls_node **ret, struct attr *ret_attr)
{
	int r = local_node_by(local, fd, ret, ret_attr);

	if (r < 0 || (*ret)->fd != fd)
		fd_close(fd);
	return r;
}

void local_node_ref(struct local *local, struct ls_node *node)
{
	unsigned b = bucket_of(node->mnt, node->dev, node->ino);

	pthread_mutex_lock(&local->bucket[b].lock);
	node->refs++;
	pthread_mutex_unlock(&local->bucket[b].lock);
}

bool local_node_is_last(struct local *local, struct ls_node *node)
{
	unsigned b = bucket_of(node->mnt, node->dev, node->ino);
	bool last;

	pthread_mutex_lock(&local->bucket[b].lock);
	last = node->refs == 1;
	pthread_mutex_unlock(&local->bucket[b].lock);
	return last;
}

void local_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	struct local *local = (struct local *)ls;
	unsigned b = bucket_of(node->mnt, node->dev, node->ino);

	pthread_mutex_lock(&local->bucket[b].lock);
	node->refs -= count;
	if (node->refs) {
		node = NULL;
	} else {
		struct ls_node **p = &local->bucket[b].first;

		while (*p != node)
			p = &(*p)->next;
		*p = node->next;
	}
	pthread_mutex_unlock(&local->bucket[b].lock);
	if (node) {
		fd_close(node->fd);
		node_free(node);
	}
}

int local_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	static const struct open_how how = {
	    .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	struct local *local = (struct local *)ls;
	struct ls_node *node;
	struct statx stx;
	int r = ls_check_name(name), fd;

	if (!r)
		r = local_assume(cred, dir);
	if (r < 0)
		return r;
	/* Known already, most of the time: then no new descriptor is needed. */
	if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_WANTED, &stx) < 0)
		return -errno;
	node = table_find(local, &stx);
	if (node) {
		attr_of(local, node, &stx, ret_attr);
		*ret = node;
		return 0;
	}
	do {
		fd = syscall(SYS_openat2, dir->fd, name, &how, sizeof(how));
	} while (fd < 0 && errno == EAGAIN);
	if (fd < 0)
		return -errno;
	return local_node_of(local, fd, ret, ret_attr);
}

static int local_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr)
{
	struct local *local = (struct local *)ls;
	int fd = openat(local->root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : local_node_of(local, fd, ret, ret_attr);
}

static int local_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
			 struct attr *ret_attr)
{
	struct statx stx;

	if (statx(file ? file->fd : node->fd, "", AT_EMPTY_PATH, STATX_WANTED, &stx) < 0)
		return -errno;
	attr_of((struct local *)ls, node, &stx, ret_attr);
	return 0;
}

static int local_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			 struct ls_file *file, unsigned set, const struct attr *attr,
			 struct attr *ret_attr)
{
	struct local *local = (struct local *)ls;
	char buf[LOCAL_PROC_NAME_MAX], path[32];
	const char *name = local_proc_name(node->fd, buf);
	int r = local_assume(cred, node);

	if (r < 0)
		return r;
	if (set & ATTR_SIZE) {
		if (attr->size > INT64_MAX)
			return -EINVAL;
		snprintf(path, sizeof(path), "/proc/self/fd/%s", name);
		pthread_mutex_lock(&node->write_lock);
		r = file ? ftruncate(file->fd, attr->size) : truncate(path, attr->size);
		r = r < 0 ? -errno : 0;
		pthread_mutex_unlock(&node->write_lock);
		if (r < 0)
			return r;
	}
	if (set & (ATTR_UID | ATTR_GID) || !set) {
		uid_t uid = set & ATTR_UID ? attr->uid : (uid_t)-1;
		gid_t gid = set & ATTR_GID ? attr->gid : (gid_t)-1;

		if (fchownat(node->fd, "", uid, gid, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	if ((set & ATTR_MODE) && fchmodat(local->proc_fd, name, attr->mode & 07777, 0) < 0)
		return -errno;
	if (set & (ATTR_ATIME | ATTR_MTIME)) {
		const struct timespec omit = {.tv_nsec = UTIME_OMIT};
		const struct timespec times[2] = {
		    set & ATTR_ATIME ? attr->atime : omit,
		    set & ATTR_MTIME ? attr->mtime : omit,
		};

		if (utimensat(node->fd, "", times, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	local_map_expire(node);
	return ret_attr ? local_getattr(ls, node, NULL, ret_attr) : 0;
}

static int local_access(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			int mask)
{
	struct local *local = (struct local *)ls;
	int r = local_assume(cred, node);

	if (r < 0)
		return r;
	local_acl_probe(local, node);
	if (syscall(SYS_faccessat2, node->fd, "", mask, AT_EMPTY_PATH | AT_EACCESS) < 0)
		return -errno;
	return 0;
}

static ssize_t local_readlink(struct libservice *ls, struct ls_node *node, char *buf,
			      size_t cap_bytes)
{
	ssize_t n;

	if (node->type != S_IFLNK)
		return -EINVAL;
	n = readlinkat(node->fd, "", buf, cap_bytes);
	return n < 0 ? -errno : n;
}

static int local_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
			uint64_t *ret_type)
{
	struct statfs fs;

	if (fstatfs(node->fd, &fs) < 0)
		return -errno;
	*ret = (struct statvfs){
	    .f_bsize = fs.f_bsize,
	    .f_frsize = fs.f_frsize,
	    .f_blocks = fs.f_blocks,
	    .f_bfree = fs.f_bfree,
	    .f_bavail = fs.f_bavail,
	    .f_files = fs.f_files,
	    .f_ffree = fs.f_ffree,
	    .f_favail = fs.f_ffree,
	    .f_fsid = (uint32_t)fs.f_fsid.__val[0] | (uint64_t)fs.f_fsid.__val[1] << 32,
	    .f_flag = fs.f_flags & ~0x20u, /* ST_VALID is the kernel's own */
	    .f_namemax = fs.f_namelen,
	};
	*ret_type = fs.f_type;
	return 0;
}

static int local_syncfs(struct libservice *ls)
{
	struct local *local = (struct local *)ls;

	cred_assume_service();
	CLEANUP_FD int fd = openat(local->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		return -errno;
	return 0;
}

static int local_host_fd(struct libservice *ls, struct ls_node *node)
{
	struct local *local = (struct local *)ls;
	char buf[LOCAL_PROC_NAME_MAX];
	int fd;

	atomic_store(&local->watched, true);
	fd = openat(local->proc_fd, local_proc_name(node->fd, buf), O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int local_data_fd(struct libservice *ls, struct ls_node *node)
{
	struct local *local = (struct local *)ls;
	char buf[LOCAL_PROC_NAME_MAX];
	struct statx stx;
	int fd;

	if (node->type != S_IFREG)
		return -EOPNOTSUPP;
	cred_assume_service();
	/* A mapping for writing would be one of the host's file, which chattr +a forbids. */
	if (statx(node->fd, "", AT_EMPTY_PATH, STATX_TYPE, &stx) < 0)
		return -errno;
	if (stx.stx_attributes & STATX_ATTR_APPEND)
		return -EOPNOTSUPP;
	fd = openat(local->proc_fd, local_proc_name(node->fd, buf), O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void local_free(struct libservice *ls)
{
	struct local *local = (struct local *)ls;

	for (unsigned i = 0; i < LOCAL_BUCKETS; i++)
		pthread_mutex_destroy(&local->bucket[i].lock);
	fd_close(local->root_fd);
	fd_close(local->proc_fd);
	free(local);
}

static const struct libservice_ops local_ops = {
    .name = "local",
    .free = local_free,
    .root = local_root,
    .lookup = local_lookup,
    .make = local_make,
    .create = local_create,
    .tmpfile = local_tmpfile,
    .link = local_link,
    .unlink = local_unlink,
    .rename = local_rename,
    .forget = local_forget,
    .getattr = local_getattr,
    .setattr = local_setattr,
    .access = local_access,
    .readlink = local_readlink,
    .open = local_open,
    .release = local_release,
    .read = local_read,
    .write = local_write,
    .fsync = local_fsync,
    .allocate = local_allocate,
    .seek = local_seek,
    .readdir = local_readdir,
    .getxattr = local_getxattr,
    .setxattr = local_setxattr,
    .listxattr = local_listxattr,
    .removexattr = local_removexattr,
    .statfs = local_statfs,
    .syncfs = local_syncfs,
    .host_fd = local_host_fd,
    .data_fd = local_data_fd,
};

/* The source with what is mounted below it now, as a detached tree of our own: what the host mounts
 * or unmounts there later changes nothing, as with a bind mount. Without the right to mount, the
 * directory itself. The config edit has checked where dir leads and resolved its symlinks: one that
 * is there now was put there since, by somebody who may write to a directory on the way. */
static int open_source(const char *dir)
{
	struct mount_attr private = {.propagation = MS_PRIVATE};
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_NO_SYMLINKS};
	CLEANUP_FD int plain = syscall(SYS_openat2, AT_FDCWD, dir, &how, sizeof(how));
	int fd;

	if (plain < 0)
		return -1;
	fd = syscall(SYS_open_tree, plain, "",
		     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
	if (fd >= 0 && syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &private,
			       sizeof(private)) < 0)
		fd = fd_close(fd);
	return fd < 0 ? STEAL_FD(plain) : fd;
}

int local_new(const char *dir, struct libservice **ret, struct err *err)
{
	struct statx stx;

	if (dir[0] != '/')
		return err_set(err, -EINVAL, "the directory \"%s\" must be an absolute path", dir);
	cred_assume_service();
	CLEANUP_FD int root = open_source(dir);
	if (root < 0 || statx(root, "", AT_EMPTY_PATH, STATX_WANTED, &stx) < 0)
		return err_set(err, -errno, "cannot open the directory \"%s\": %m", dir);
	if (!S_ISDIR(stx.stx_mode))
		return err_set(err, -ENOTDIR, "\"%s\" is not a directory", dir);
	CLEANUP_FD int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return err_set(err, -errno, "cannot open /proc/self/fd: %m");
	struct local *local = calloc(1, sizeof(*local));
	if (!local)
		return -ENOMEM;
	local->ls.ops = &local_ops;
	local->ls.cacheable = true;
	local->root_fd = STEAL_FD(root);
	local->proc_fd = STEAL_FD(proc);
	local->dev = dev_of(&stx);
	for (unsigned i = 0; i < LOCAL_BUCKETS; i++)
		pthread_mutex_init(&local->bucket[i].lock, NULL);
	*ret = &local->ls;
	return 0;
}
