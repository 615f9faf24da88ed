/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice's open files: data, locks. */
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/libservices/ceph/internal.h"

/* libcephfs's low-level calls have no flock(2): it is a record lock on a byte that no record lock
 * of a program reaches. */
#define FLOCK_BYTE (INT64_MAX - 1)

/* What programs know of a storage that does not answer. */
static int64_t data_error(int64_t r)
{
	return r == -ETIMEDOUT || r == -ESHUTDOWN || r == -ENOTCONN ? -EIO : r;
}

/* The caller sees to the file's reference of its node. */
static struct ls_file *file_new(struct ceph_call *at, struct ls_node *node, int flags)
{
	struct ls_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	atomic_init(&file->users, 1);
	file->node = node;
	file->flags = flags & (O_ACCMODE | O_DIRECT);
	file->gen = at->gen;
	file->position = CEPH_NOWHERE;
	pthread_mutex_init(&file->lock, NULL);
	pthread_mutex_init(&file->dir_lock, NULL);
	return file;
}

static void close_handle(struct ceph_mount_info *mount, Fh *fh, struct ceph_dir_result *dir)
{
	if (fh)
		ceph_ll_close(mount, fh);
	if (dir)
		ceph_ll_releasedir(mount, dir);
}

/* A file of a client that is gone is opened again: the rights were decided when it was opened
 * first. Without file->lock, which a client that is cut off would keep. */
int cephls_file_open(struct ceph_call *at, struct ls_file *file)
{
	struct ceph_dir_result *dir = NULL;
	Fh *fh = NULL;
	bool open;
	Inode *in;
	int r;

	pthread_mutex_lock(&file->lock);
	open = file->gen == at->gen && (file->fh || file->dir);
	r = file->gen > at->gen ? -ESHUTDOWN : 0;
	pthread_mutex_unlock(&file->lock);
	if (open || r < 0)
		return r;
	r = cephls_inode(at, file->node, &in);
	if (!r)
		r = file->node->type == S_IFDIR
			? ceph_ll_opendir(at->mount, in, &dir, at->fs->root_perms)
			: ceph_ll_open(at->mount, in, file->flags, &fh, at->fs->root_perms);
	if (r < 0)
		return r;
	pthread_mutex_lock(&file->lock);
	if (file->gen > at->gen) {
		r = -ESHUTDOWN;
	} else if (file->gen < at->gen || !(file->fh || file->dir)) {
		if (file->gen != at->gen && atomic_exchange(&file->dirty, false))
			atomic_store(&file->lost, -EIO);
		file->fh = STEAL_PTR(fh);
		file->dir = STEAL_PTR(dir);
		file->position = CEPH_NOWHERE;
		file->gen = at->gen;
	}
	pthread_mutex_unlock(&file->lock);
	close_handle(at->mount, fh, dir);
	return r;
}

/* A handle whose session was closed by the MDS: its caps, and what was buffered under them, are
 * gone. That it was opened for the purpose is known. */
static int64_t stale(int64_t r)
{
	return r == -EBADF ? -ESHUTDOWN : r;
}

static int file_handle(struct ceph_call *at, struct ls_file *file, Fh **ret)
{
	int r;

	if (file->node->type == S_IFDIR)
		return -EISDIR;
	r = cephls_file_open(at, file);
	pthread_mutex_lock(&file->lock);
	if (!r && file->gen != at->gen)
		r = -ESHUTDOWN;
	*ret = file->fh;
	pthread_mutex_unlock(&file->lock);
	return r;
}

int cephls_op_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		     struct ls_file **ret_file, struct attr *ret_attr)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	UserPerm *perms;
	struct ls_file *file = NULL;
	struct ls_node *node;
	struct ceph_statx stx;
	Inode *parent, *in;
	Fh *fh;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	perms = cephls_perms_of(cred);
	if (!perms)
		return -ENOMEM;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			break;
		cephls_call_umask = umask;
		r = cephls_rights(&call, dir, &stx);
		if (!r)
			r = cephls_may(&call, cred, dir, &stx, W_OK | X_OK);
		if (!r)
			r = cephls_inode(&call, dir, &parent);
		if (!r)
			r = ceph_ll_create(call.mount, parent, name, mode & 07777,
					   (flags & (O_ACCMODE | O_DIRECT)) | O_CREAT | O_EXCL, &in,
					   &fh, &stx, CEPH_WANT, 0, perms);
		if (!r) {
			r = cephls_node_of(&call, in, &stx, &node);
			file = r < 0 ? NULL : file_new(&call, node, flags);
			if (file) {
				file->fh = fh;
				cephls_attr(&call, node, &stx, ret_attr);
			} else {
				ceph_ll_close(call.mount, fh);
				if (!r)
					ls_forget(ls, node, 1);
				r = -ENOMEM;
			}
		}
	} while (cephls_leave(fs, &call, r));
	cephls_perms_done(fs, perms);
	if (r < 0)
		return r;
	cephls_node_ref(fs, node);
	*ret = node;
	*ret_file = file;
	return 0;
}

int cephls_op_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
		   struct ls_file **ret)
{
	static const int masks[] = {[O_RDONLY] = R_OK, [O_WRONLY] = W_OK, [O_RDWR] = R_OK | W_OK};
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	struct ls_file *file;
	int r;

	if (node->type != S_IFREG && node->type != S_IFDIR)
		return -ENXIO;
	if ((flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (node->type == S_IFDIR && (flags & O_ACCMODE) != O_RDONLY)
		return -EISDIR;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		file = NULL;
		r = cephls_rights(&call, node, &stx);
		if (!r)
			r = cephls_may(&call, cred, node, &stx, masks[flags & O_ACCMODE]);
		if (!r && flags & O_NOATIME && !cephls_owns(cred, &stx, CAP_FOWNER))
			r = -EPERM;
		if (!r) {
			file = file_new(&call, node, flags);
			r = file ? cephls_file_open(&call, file) : -ENOMEM;
			if (r < 0) {
				free(file);
				file = NULL;
			}
		}
	} while (cephls_leave(fs, &call, r));
	if (r < 0)
		return r;
	cephls_node_ref(fs, node);
	*ret = file;
	return 0;
}

void cephls_file_unuse(struct ceph *fs, struct ls_file *file)
{
	struct ceph_client *client;

	if (atomic_fetch_sub(&file->users, 1) > 1)
		return;
	client = cephls_client(fs);
	if (file->gen == client->gen)
		close_handle(client->mount, file->fh, file->dir);
	cephls_client_unref(client);
	cephls_op_forget(&fs->base, file->node, 1);
	pthread_mutex_destroy(&file->lock);
	pthread_mutex_destroy(&file->dir_lock);
	free(file->listing);
	free(file);
}

void cephls_op_release(struct libservice *ls, struct ls_file *file)
{
	cephls_file_unuse(ceph_of(ls), file);
}

/* libcephfs asserts that there is something to write. */
static bool is_empty(const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++)
		if (iov[i].iov_len)
			return false;
	return true;
}

ssize_t cephls_op_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
		       int niov, uint64_t offset)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	ssize_t r;
	Fh *fh;

	if (offset > INT64_MAX)
		return -EINVAL;
	if ((file->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	if (is_empty(iov, niov))
		return 0;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = file_handle(&call, file, &fh);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = stale(ceph_ll_readv(call.mount, fh, iov, niov, offset));
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

/* A write takes file capabilities away, as the kernel does; libcephfs sees to set-id bits. */
static void drop_privileges(struct ceph_call *at, struct ls_file *file)
{
	Inode *in;

	if (!atomic_load(&file->no_privileges) && !cephls_inode(at, file->node, &in)) {
		cephls_drop_capability(at, in);
		atomic_store(&file->no_privileges, true);
	}
}

static ssize_t write_at(struct ceph_call *at, struct ls_file *file, Fh *fh, const struct iovec *iov,
			int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	struct ceph_statx stx;
	ssize_t r = 0;

	drop_privileges(at, file);
	if (append) {
		pthread_mutex_lock(cephls_append_lock(at, file->node));
		r = cephls_stat(at, file->node, &stx);
		offset = stx.stx_size;
	}
	if (!r && !is_empty(iov, niov)) {
		atomic_store(&file->dirty, true);
		r = stale(ceph_ll_writev(at->mount, fh, iov, niov, offset));
	}
	if (append)
		pthread_mutex_unlock(cephls_append_lock(at, file->node));
	if (r >= 0 && ret_end)
		*ret_end = offset + r;
	return r;
}

ssize_t cephls_op_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	ssize_t r;
	Fh *fh;

	if (offset > INT64_MAX && !append)
		return -EINVAL;
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = file_handle(&call, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = write_at(&call, file, fh, iov, niov, offset, append, ret_end);
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

int cephls_op_flush(struct libservice *ls, struct ls_file *file)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Fh *fh;
	int r;

	if (!atomic_load(&file->dirty) && !atomic_load(&file->lost))
		return 0;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = file_handle(&call, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		cephls_data(fs, &call, file->node);
		/* An allocation of nothing: whether the client may still write, and has room to. */
		if (!r)
			r = stale(ceph_ll_fallocate(call.mount, fh, FALLOC_FL_KEEP_SIZE, 0, 1));
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

int cephls_op_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Inode *in;
	Fh *fh;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		if (file->node->type == S_IFDIR) {
			r = cephls_inode(&call, file->node, &in);
			if (!r)
				r = ceph_ll_sync_inode(call.mount, in, data_only);
			continue;
		}
		r = file_handle(&call, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		if (!r) {
			bool dirty = atomic_exchange(&file->dirty, false);

			r = stale(ceph_ll_fsync(call.mount, fh, data_only));
			if (r < 0 && dirty)
				atomic_store(&file->dirty, true);
		}
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

/* libcephfs visits every object of a hole, also where the file has none: up to its end, then. */
static int hole_end(struct ceph_call *at, struct ls_file *file, uint64_t offset,
		    uint64_t *len_bytes)
{
	struct ceph_statx stx;
	int r = cephls_stat(at, file->node, &stx);

	if (r < 0)
		return r;
	if (offset >= stx.stx_size)
		*len_bytes = 0;
	else if (*len_bytes > stx.stx_size - offset)
		*len_bytes = stx.stx_size - offset;
	return 0;
}

/* libcephfs minds the file system's max_file_size where it writes, and not where it allocates:
 * asked by a write that cannot come to pass. */
static int fits(struct ceph_call *at, struct ls_file *file, uint64_t end)
{
	Inode *in;
	Fh *fh;
	int r = cephls_inode(at, file->node, &in);

	if (!r)
		r = ceph_ll_open(at->mount, in, O_RDONLY, &fh, at->fs->root_perms);
	if (r < 0)
		return r;
	r = ceph_ll_write(at->mount, fh, end - 1, 1, "");
	ceph_ll_close(at->mount, fh);
	return r == -EFBIG ? r : 0;
}

int cephls_op_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		       uint64_t len_bytes)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Fh *fh;
	int r;

	if (offset > INT64_MAX || len_bytes > INT64_MAX - offset)
		return -EFBIG;
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = file_handle(&call, file, &fh);
		if (!r && mode & FALLOC_FL_PUNCH_HOLE && mode & FALLOC_FL_KEEP_SIZE) {
			r = hole_end(&call, file, offset, &len_bytes);
			if (!r && !len_bytes)
				continue;
		}
		if (!r && len_bytes && !(mode & FALLOC_FL_KEEP_SIZE))
			r = fits(&call, file, offset + len_bytes);
		if (!r)
			atomic_store(&file->dirty, true);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = stale(ceph_ll_fallocate(call.mount, fh, mode, offset, len_bytes));
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

int64_t cephls_op_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	int64_t r;
	Fh *fh;

	if (offset > INT64_MAX)
		return -ENXIO;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = file_handle(&call, file, &fh);
		if (!r)
			r = ceph_ll_lseek(call.mount, fh, offset, whence);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* One for all of the node's locks: libcephfs gives a handle's locks up when it is closed, and the
 * program's own descriptors come and go. NULL when nothing was locked and make is false. */
static int lock_handle(struct ceph_call *at, struct ls_node *node, bool make, Fh **ret)
{
	Fh *fh = NULL;
	bool open;
	Inode *in;
	int r = 0;

	pthread_mutex_lock(&node->lock);
	open = node->lock_gen == at->gen && node->lock_fh;
	pthread_mutex_unlock(&node->lock);
	if (!open && make) {
		r = cephls_inode(at, node, &in);
		if (!r)
			r = ceph_ll_open(at->mount, in, O_RDONLY, &fh, at->fs->root_perms);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&node->lock);
	if (node->lock_gen > at->gen) {
		r = -ESHUTDOWN;
	} else {
		if (node->lock_gen < at->gen)
			node->lock_fh = NULL; /* with its locks */
		node->lock_gen = at->gen;
		if (!node->lock_fh)
			node->lock_fh = STEAL_PTR(fh);
		*ret = node->lock_fh;
	}
	pthread_mutex_unlock(&node->lock);
	close_handle(at->mount, fh, NULL);
	return r;
}

int cephls_op_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		   short type, uint64_t start, uint64_t len_bytes)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	Fh *fh;
	int r;

	if (whole) {
		lock.l_start = FLOCK_BYTE;
		lock.l_len = 1;
	} else {
		if (start >= FLOCK_BYTE)
			return 0;
		lock.l_start = start;
		lock.l_len =
		    !len_bytes || len_bytes > FLOCK_BYTE - start ? FLOCK_BYTE - start : len_bytes;
	}
	if (node->type != S_IFREG)
		return 0;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = lock_handle(&call, node, type != F_UNLCK, &fh);
		if (!r && fh)
			r = ceph_ll_setlk(call.mount, fh, &lock, owner, 0);
	} while (cephls_leave(fs, &call, r));
	return r;
}
