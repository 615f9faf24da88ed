/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice's open files: data, directories, locks. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/service/ceph_internal.h"

#define BATCH	   32
#define NOWHERE	   UINT64_MAX
/* libcephfs's low-level calls have no flock(2): it is a record lock on a byte that no record lock
 * of a program reaches. */
#define FLOCK_BYTE (INT64_MAX - 1)

/* What programs know of a storage that does not answer. */
static int64_t data_error(int64_t r)
{
	return r == -ETIMEDOUT || r == -ESHUTDOWN || r == -ENOTCONN ? -EIO : r;
}

/* The caller sees to the file's reference of its node. */
static struct ls_file *file_new(struct ceph *fs, struct ls_node *node, int flags)
{
	struct ls_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->node = node;
	file->flags = flags & (O_ACCMODE | O_DIRECT);
	file->gen = fs->gen;
	file->position = NOWHERE;
	pthread_mutex_init(&file->lock, NULL);
	return file;
}

/* file->lock is held. A file of a mount that is gone is opened again: the rights were decided when
 * it was opened first. */
static int file_open(struct ceph *fs, struct ls_file *file)
{
	Inode *in;
	int r;

	if (file->gen == fs->gen && (file->fh || file->dir))
		return 0;
	r = cephls_inode(fs, file->node, &in);
	if (r < 0)
		return r;
	file->fh = NULL;
	file->dir = NULL;
	file->position = NOWHERE;
	r = file->node->type == S_IFDIR
		? ceph_ll_opendir(fs->mount, in, &file->dir, fs->root_perms)
		: ceph_ll_open(fs->mount, in, file->flags, &file->fh, fs->root_perms);
	if (r < 0)
		return r;
	if (file->gen != fs->gen && atomic_exchange(&file->dirty, false))
		atomic_store(&file->lost, -EIO);
	file->gen = fs->gen;
	return 0;
}

/* A handle whose session was closed by the MDS: its caps, and what was buffered under them, are gone.
 * That it was opened for the purpose is known. */
static int64_t stale(int64_t r)
{
	return r == -EBADF ? -ESHUTDOWN : r;
}

static int file_handle(struct ceph *fs, struct ls_file *file, Fh **ret)
{
	int r;

	if (file->node->type == S_IFDIR)
		return -EISDIR;
	pthread_mutex_lock(&file->lock);
	r = file_open(fs, file);
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
	int r;

	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
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
		r = cephls_rights(fs, dir, &stx);
		if (!r)
			r = cephls_may(fs, cred, dir, &stx, W_OK | X_OK);
		if (!r)
			r = cephls_inode(fs, dir, &parent);
		if (!r)
			r = ceph_ll_create(fs->mount, parent, name, mode & 07777,
					   (flags & (O_ACCMODE | O_DIRECT)) | O_CREAT | O_EXCL,
					   &in, &fh, &stx, CEPH_WANT, 0, perms);
		if (!r) {
			r = cephls_node_of(fs, in, &stx, &node);
			file = r < 0 ? NULL : file_new(fs, node, flags);
			if (file) {
				file->fh = fh;
				cephls_attr(fs, node, &stx, ret_attr);
			} else {
				ceph_ll_close(fs->mount, fh);
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
		r = cephls_rights(fs, node, &stx);
		if (!r)
			r = cephls_may(fs, cred, node, &stx, masks[flags & O_ACCMODE]);
		if (!r && flags & O_NOATIME && !cephls_owns(cred, &stx, CAP_FOWNER))
			r = -EPERM;
		if (!r) {
			file = file_new(fs, node, flags);
			r = file ? file_open(fs, file) : -ENOMEM;
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

void cephls_op_release(struct libservice *ls, struct ls_file *file)
{
	struct ceph *fs = ceph_of(ls);

	pthread_rwlock_rdlock(&fs->mount_lock); /* also when stalled */
	if (file->gen == fs->gen && file->fh)
		ceph_ll_close(fs->mount, file->fh);
	else if (file->gen == fs->gen && file->dir)
		ceph_ll_releasedir(fs->mount, file->dir);
	pthread_rwlock_unlock(&fs->mount_lock);
	ls->ops->forget(ls, file->node, 1);
	pthread_mutex_destroy(&file->lock);
	free(file);
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
		r = file_handle(fs, file, &fh);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = stale(ceph_ll_readv(fs->mount, fh, iov, niov, offset));
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

/* A write takes file capabilities away, as the kernel does; libcephfs sees to set-id bits. */
static void drop_privileges(struct ceph *fs, struct ls_file *file)
{
	Inode *in;

	if (!atomic_load(&file->no_privileges) && !cephls_inode(fs, file->node, &in)) {
		cephls_drop_capability(fs, in);
		atomic_store(&file->no_privileges, true);
	}
}

static ssize_t write_at(struct ceph *fs, struct ls_file *file, Fh *fh, const struct iovec *iov,
			int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	struct ceph_statx stx;
	ssize_t r = 0;

	drop_privileges(fs, file);
	if (append) {
		pthread_mutex_lock(&file->node->append_lock);
		r = cephls_stat(fs, file->node, &stx);
		offset = stx.stx_size;
	}
	if (!r && !is_empty(iov, niov)) {
		atomic_store(&file->dirty, true);
		r = stale(ceph_ll_writev(fs->mount, fh, iov, niov, offset));
	}
	if (append)
		pthread_mutex_unlock(&file->node->append_lock);
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
		r = file_handle(fs, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = write_at(fs, file, fh, iov, niov, offset, append, ret_end);
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
		r = file_handle(fs, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		cephls_data(fs, &call, file->node);
		/* An allocation of nothing: whether the client may still write, and has room to. */
		if (!r)
			r = stale(ceph_ll_fallocate(fs->mount, fh, FALLOC_FL_KEEP_SIZE, 0, 1));
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
			r = cephls_inode(fs, file->node, &in);
			if (!r)
				r = ceph_ll_sync_inode(fs->mount, in, data_only);
			continue;
		}
		r = file_handle(fs, file, &fh);
		if (!r)
			r = atomic_exchange(&file->lost, 0);
		if (!r) {
			bool dirty = atomic_exchange(&file->dirty, false);

			r = stale(ceph_ll_fsync(fs->mount, fh, data_only));
			if (r < 0 && dirty)
				atomic_store(&file->dirty, true);
		}
	} while (cephls_leave(fs, &call, r));
	return data_error(r);
}

/* libcephfs visits every object of a hole, also where the file has none: up to its end, then. */
static int hole_end(struct ceph *fs, struct ls_file *file, uint64_t offset, uint64_t *len_bytes)
{
	struct ceph_statx stx;
	int r = cephls_stat(fs, file->node, &stx);

	if (r < 0)
		return r;
	if (offset >= stx.stx_size)
		*len_bytes = 0;
	else if (*len_bytes > stx.stx_size - offset)
		*len_bytes = stx.stx_size - offset;
	return 0;
}

/* libcephfs minds the file system's max_file_size where it writes, and not where it allocates: asked
 * by a write that cannot come to pass. */
static int fits(struct ceph *fs, struct ls_file *file, uint64_t end)
{
	Inode *in;
	Fh *fh;
	int r = cephls_inode(fs, file->node, &in);

	if (!r)
		r = ceph_ll_open(fs->mount, in, O_RDONLY, &fh, fs->root_perms);
	if (r < 0)
		return r;
	r = ceph_ll_write(fs->mount, fh, end - 1, 1, "");
	ceph_ll_close(fs->mount, fh);
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
		r = file_handle(fs, file, &fh);
		if (!r && mode & FALLOC_FL_PUNCH_HOLE && mode & FALLOC_FL_KEEP_SIZE) {
			r = hole_end(fs, file, offset, &len_bytes);
			if (!r && !len_bytes)
				continue;
		}
		if (!r && len_bytes && !(mode & FALLOC_FL_KEEP_SIZE))
			r = fits(fs, file, offset + len_bytes);
		if (!r)
			atomic_store(&file->dirty, true);
		cephls_data(fs, &call, file->node);
		if (!r)
			r = stale(ceph_ll_fallocate(fs->mount, fh, mode, offset, len_bytes));
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
		r = file_handle(fs, file, &fh);
		if (!r)
			r = ceph_ll_lseek(fs->mount, fh, offset, whence);
	} while (cephls_leave(fs, &call, r));
	return r;
}

struct batch {
	unsigned n;
	bool end;
	struct {
		char name[NAME_MAX + 1];
		uint64_t ino, next;
		unsigned char type;
	} entry[BATCH];
};

static int read_batch(struct ceph *fs, struct ls_file *file, uint64_t position,
		      struct batch *batch)
{
	struct ceph_statx stx;
	struct dirent de;
	int r = file_open(fs, file);

	if (r < 0)
		return r;
	if (!position)
		ceph_rewinddir(fs->mount, file->dir);
	else if (position != file->position)
		ceph_seekdir(fs->mount, file->dir, position);
	file->position = position;
	batch->n = 0;
	batch->end = false;
	while (batch->n < BATCH && !batch->end) {
		r = ceph_readdirplus_r(fs->mount, file->dir, &de, &stx, CEPH_STATX_INO,
				       AT_STATX_DONT_SYNC, NULL);
		if (r < 0)
			return r;
		batch->end = r == 0;
		if (!r)
			break;
		snprintf(batch->entry[batch->n].name, NAME_MAX + 1, "%s", de.d_name);
		batch->entry[batch->n].ino = de.d_ino;
		batch->entry[batch->n].type = de.d_type;
		batch->entry[batch->n].next = de.d_off;
		file->position = de.d_off;
		batch->n++;
	}
	return 0;
}

int cephls_op_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
		    void *arg)
{
	struct ceph *fs = ceph_of(ls);
	CLEANUP_FREE struct batch *batch = malloc(sizeof(*batch));
	int r = 0;

	if (!batch)
		return -ENOMEM;
	if (file->node->type != S_IFDIR)
		return -ENOTDIR;
	pthread_mutex_lock(&file->lock);
	do {
		struct ceph_call call = {0};

		do {
			r = cephls_enter(fs, &call);
			if (r < 0)
				break;
			r = read_batch(fs, file, position, batch);
		} while (cephls_leave(fs, &call, r));
		/* Outside of the call: fill may ask for the entries. */
		for (unsigned i = 0; !r && i < batch->n; i++) {
			if (!fill(arg, batch->entry[i].name, batch->entry[i].ino,
				  batch->entry[i].type, batch->entry[i].next)) {
				batch->end = true;
				break;
			}
			position = batch->entry[i].next;
		}
	} while (!r && !batch->end);
	pthread_mutex_unlock(&file->lock);
	return r;
}

/* One for all of the node's locks: libcephfs gives a handle's locks up when it is closed, and the
 * program's own descriptors come and go. NULL when nothing was locked and make is false. */
static int lock_handle(struct ceph *fs, struct ls_node *node, bool make, Fh **ret)
{
	Inode *in;
	int r = cephls_inode(fs, node, &in);

	if (r < 0)
		return r;
	pthread_mutex_lock(&node->lock);
	if (node->lock_gen != fs->gen)
		node->lock_fh = NULL; /* with its locks */
	if (!node->lock_fh && make)
		r = ceph_ll_open(fs->mount, in, O_RDONLY, &node->lock_fh, fs->root_perms);
	node->lock_gen = fs->gen;
	*ret = node->lock_fh;
	pthread_mutex_unlock(&node->lock);
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
		lock.l_len = !len_bytes || len_bytes > FLOCK_BYTE - start ? FLOCK_BYTE - start
									  : len_bytes;
	}
	if (node->type != S_IFREG)
		return 0;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = lock_handle(fs, node, type != F_UNLCK, &fh);
		if (!r && fh)
			r = ceph_ll_setlk(fs->mount, fh, &lock, owner, 0);
	} while (cephls_leave(fs, &call, r));
	return r;
}
