/* SPDX-License-Identifier: Apache-2.0 */
/* Data, positions, listings, copies. Owns the rule when data goes through the kernel face: while a
 * program may have dirty mapped pages of the inode. Any thread. */
#include "danaus/vfs/node.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"

#define IO_BYTES_MAX 0x7ffff000ull /* as read(2) */
#define COPY_BYTES   (128u << 10)

__thread bool vfs_in_face;

static bool faced(const struct vnode *node)
{
	return atomic_load_explicit(&node->instance->has_face, memory_order_acquire) &&
	       !vfs_in_face;
}

void face_changed(struct vnode *node, uint64_t offset, uint64_t len_bytes)
{
	const struct face *face = &node->instance->face;

	if (atomic_load_explicit(&node->face_opens, memory_order_relaxed) && faced(node) &&
	    face->changed)
		face->changed(face->arg, node, offset, len_bytes);
}

void face_name_lost(struct vnode *dir, const char *name, struct vnode *node)
{
	const struct face *face = &node->instance->face;

	if (faced(node) && face->name_gone)
		face->name_gone(face->arg, dir, name, node);
}

/* The kernel's descriptor while it may hold newer data than the libservice; -1. */
static int face_fd(struct vnode *node)
{
	const struct face *face = &node->instance->face;

	if (!atomic_load_explicit(&node->face_writers, memory_order_relaxed) ||
	    atomic_load(&node->face_beside) || !faced(node) || !face->io_fd)
		return -1;
	return face->io_fd(face->arg, node);
}

static void face_done(struct vnode *node, int fd)
{
	const struct face *face = &node->instance->face;

	if (fd >= 0 && face->io_done)
		face->io_done(face->arg, node);
}

void face_flush(struct vnode *node)
{
	int fd = face_fd(node);

	if (fd >= 0)
		sync_file_range(fd, 0, 0,
				SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				    SYNC_FILE_RANGE_WAIT_AFTER);
	face_done(node, fd);
}

static bool readable(const struct vfile *file)
{
	return file->rd;
}

/* -EBADF, -EISDIR, as the system calls say it. */
static int check_read(const struct vfile *file)
{
	if ((vfile_flags(file) & O_PATH) || !readable(file))
		return -EBADF;
	return file->node->type == S_IFDIR ? -EISDIR : 0;
}

static int total(const struct iovec *iov, int niov, uint64_t *ret)
{
	uint64_t sum = 0;

	if (niov < 0 || niov > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < niov; i++) {
		if (iov[i].iov_len > INT64_MAX || sum + iov[i].iov_len > INT64_MAX)
			return -EINVAL;
		sum += iov[i].iov_len;
	}
	*ret = sum;
	return 0;
}

/* Takes the position's lock when offset is VFS_AT_POSITION. */
static int begin(struct vfile *file, uint64_t *offset)
{
	int fd;

	if (*offset != VFS_AT_POSITION)
		return *offset > INT64_MAX ? -EINVAL : 0;
	pthread_mutex_lock(&file->position_lock);
	fd = vfile_kernel_fd(file);
	if (fd >= 0) {
		off_t at = lseek(fd, 0, SEEK_CUR);

		if (at >= 0)
			file->position = at;
	}
	*offset = file->position;
	return 1;
}

static void end(struct vfile *file, int locked, bool moved, uint64_t position)
{
	if (!locked)
		return;
	if (moved) {
		int fd = vfile_kernel_fd(file);

		file->position = position;
		if (fd >= 0)
			lseek(fd, position, SEEK_SET);
	}
	pthread_mutex_unlock(&file->position_lock);
}

/* What is read again and again goes into the window, for others as well. Never out of memory that
 * the program may have changed since, and more of it where much is read: it is read once more. */
static void keep_read(struct vfile *file, uint32_t token, uint64_t offset, uint64_t len_bytes)
{
	struct windows *windows = vfs_of(file->node)->windows;
	CLEANUP_FREE char *own = NULL;
	struct iovec iov;

	if (!window_wants(windows, file->node, token, &offset, &len_bytes))
		return;
	own = malloc(len_bytes);
	iov = (struct iovec){own, len_bytes};
	if (own && ls_read(file->node->instance->ls, file->rd->file, &iov, 1, offset) ==
		       (ssize_t)len_bytes)
		window_fill(windows, file->node, token, own, offset, len_bytes);
}

ssize_t vfs_read(struct vctx *ctx, struct vfile *file, const struct iovec *iov, int niov,
		 uint64_t offset)
{
	struct vnode *node = file->node;
	int r = check_read(file), fd, locked;
	uint32_t token;
	ssize_t n;

	if (r < 0)
		return r;
	locked = begin(file, &offset);
	if (locked < 0)
		return locked;
	fd = face_fd(node);
	if (fd >= 0) {
		n = preadv(fd, iov, niov, offset);
		if (n < 0)
			n = -errno;
		face_done(node, fd);
	} else {
		bool quiet = window_fill_begin(&node->window, &token);

		n = ls_read(node->instance->ls, file->rd->file, iov, niov, offset);
		if (n > 0 && quiet &&
		    atomic_load_explicit(&node->window.pane, memory_order_relaxed))
			keep_read(file, token, offset, n);
	}
	end(file, locked, n > 0, offset + (n > 0 ? n : 0));
	if (n > 0 && atomic_load_explicit(&node->atime_moves, memory_order_relaxed) &&
	    !(vfile_flags(file) & O_NOATIME))
		vnode_touched(node);
	return n;
}

/* RLIMIT_FSIZE, getrlimit(2). */
static int limit_size(const struct vctx *ctx, struct vnode *node, uint64_t offset, uint64_t *len)
{
	if (ctx->fsize_limit == UINT64_MAX || !*len)
		return 0;
	if (offset >= ctx->fsize_limit)
		return -EFBIG;
	if (*len > ctx->fsize_limit - offset)
		*len = ctx->fsize_limit - offset;
	return 0;
}

/* The first len bytes of iov. */
static int shorten(const struct iovec *iov, int niov, uint64_t len, struct iovec *out)
{
	int n = 0;

	for (; n < niov && len; n++) {
		out[n] = iov[n];
		if (out[n].iov_len > len)
			out[n].iov_len = len;
		len -= out[n].iov_len;
	}
	return n;
}

/* The libservice, or the kernel under it, takes the set-id bits off as the writer's rights say:
 * write(2). Only the initial user namespace's CAP_FSETID keeps them (should_remove_suid() of Linux
 * fs/attr.c). */
static void become_writer(const struct vctx *ctx, struct vnode *node)
{
	struct attr attr;

	if (ctx->cred->map && (ctx->cred->map->nuid || ctx->cred->map->ngid)) {
		if (vnode_rights(node, clock_coarse_ns(), &attr) < 0)
			attr.uid = attr.gid = (uid_t)-1;
		cred_assume(ctx->cred,
			    cred_caps_for(ctx->cred, attr.uid, attr.gid) & ~(1ull << CAP_FSETID));
	} else {
		cred_assume(ctx->cred, ctx->cred->caps);
	}
}

/* The write into a file that has a window: what few bytes it brings are there for the next reader.
 * The program may change its memory meanwhile: file and window get the same copy of it. */
static ssize_t write_through_window(struct vctx *ctx, struct vfile *file, const struct iovec *iov,
				    uint64_t offset, uint64_t *ret_end)
{
	static __thread char own[WINDOW_WRITE_MAX];
	struct window_write write = {
	    .data = iov->iov_base, .len_bytes = iov->iov_len, .offset = offset};
	struct windows *windows = vfs_of(file->node)->windows;
	struct iovec copy = *iov;
	ssize_t n;

	window_write_begin(windows, file->node, &write);
	if (write.was_valid && ctx->tenant_buffers)
		write.data = copy.iov_base = memcpy(own, iov->iov_base, iov->iov_len);
	n = ls_write(file->node->instance->ls, file->wr->file, &copy, 1, offset, false, ret_end);
	window_write_end(windows, file->node, &write, n > 0 ? n : 0, n > 0 ? *ret_end : 0);
	return n;
}

static ssize_t write_out(struct vctx *ctx, struct vfile *file, const struct iovec *iov, int niov,
			 uint64_t offset, uint64_t len_bytes, bool append, uint64_t *ret_end)
{
	struct vnode *node = file->node;
	struct windows *windows = vfs_of(node)->windows;
	int fd = append ? -1 : face_fd(node);
	uint64_t after = 0;
	ssize_t n;

	if (append)
		face_flush(node);
	become_writer(ctx, node);
	if (fd >= 0) {
		n = pwritev(fd, iov, niov, offset);
		if (n < 0)
			n = -errno;
		else if (ret_end)
			*ret_end = offset + n;
		face_done(node, fd);
		vnode_touched(node);
		return n;
	}
	if (!append && niov == 1 && iov->iov_len <= WINDOW_WRITE_MAX &&
	    atomic_load_explicit(&node->window.pane, memory_order_relaxed)) {
		n = write_through_window(ctx, file, iov, offset, &after);
	} else {
		window_change_begin(windows, node, append ? VFS_AT_POSITION : offset,
				    append ? UINT64_MAX : len_bytes);
		/* where an append went costs a system call: asked for only if somebody wants to
		 * know */
		n = ls_write(node->instance->ls, file->wr->file, iov, niov, offset, append,
			     ret_end || atomic_load(&node->window.pane) ? &after : NULL);
		window_change_end(windows, node, n > 0 ? after : 0, false);
	}
	if (n > 0 && ret_end)
		*ret_end = after;
	vnode_touched(node);
	if (n > 0 && atomic_load_explicit(&node->face_opens, memory_order_relaxed))
		face_changed(node, append ? 0 : offset, append ? UINT64_MAX : (uint64_t)n);
	return n;
}

ssize_t vfs_write(struct vctx *ctx, struct vfile *file, const struct iovec *iov, int niov,
		  uint64_t offset, bool append)
{
	struct vnode *node = file->node;
	struct iovec few[16], *cut = NULL;
	uint64_t len, limited, position;
	int flags = vfile_flags(file), locked, r;
	ssize_t n;

	if ((flags & O_PATH) || !file->wr)
		return -EBADF;
	r = total(iov, niov, &len);
	if (r < 0)
		return r;
	append = append || (flags & O_APPEND);
	locked = begin(file, &offset);
	if (locked < 0)
		return locked;
	limited = len;
	if (ctx->fsize_limit != UINT64_MAX) {
		struct attr attr;

		r = append ? vnode_attr(node, clock_coarse_ns(), &attr) : 0;
		if (!r)
			r = limit_size(ctx, node, append ? attr.size : offset, &limited);
	}
	if (!r && limited < len) {
		cut = niov <= 16 ? few : malloc(niov * sizeof(*cut));
		if (cut)
			niov = shorten(iov, niov, limited, cut);
		else
			r = -ENOMEM;
	}
	position = offset;
	n = r < 0 ? r
		  : write_out(ctx, file, cut ? cut : iov, niov, offset, limited, append,
			      append && !locked ? NULL : &position);
	end(file, locked, n > 0, position);
	if (cut != few)
		free(cut);
	if (n > 0 && !atomic_load_explicit(&file->wrote, memory_order_relaxed))
		atomic_store_explicit(&file->wrote, true, memory_order_relaxed);
	if (n > 0 && (flags & O_DSYNC)) {
		r = ls_fsync(node->instance->ls, file->wr->file, (flags & O_SYNC) != O_SYNC);
		if (r < 0)
			return r;
	}
	return n;
}

int vfs_window(struct vctx *ctx, struct vfile *file, int *ret_fd, uint64_t *ret_bytes)
{
	struct vnode *node = file->node;
	struct attr attr;
	int r = check_read(file);

	if (!r && (vfile_flags(file) & O_DIRECT))
		r = -EOPNOTSUPP;
	if (!r)
		r = vnode_attr(node, clock_coarse_ns(), &attr);
	if (!r)
		r = window_use(vfs_of(node)->windows, node, attr.size, ret_fd, ret_bytes);
	if (!r)
		atomic_fetch_add(&file->windows, 1);
	return r;
}

int64_t vfs_seek(struct vctx *ctx, struct vfile *file, int64_t offset, int whence)
{
	struct vnode *node = file->node;
	uint64_t position = VFS_AT_POSITION;
	struct attr attr;
	int64_t to = -EINVAL;
	int locked;

	if (vfile_flags(file) & O_PATH)
		return -EBADF;
	locked = begin(file, &position);
	switch (whence) {
	case SEEK_SET:
		to = offset < 0 ? -EINVAL : offset;
		break;
	case SEEK_CUR:
		if (__builtin_add_overflow((int64_t)position, offset, &to))
			to = -EINVAL; /* as the kernel, whatever lseek(2) says */
		else if (to < 0)
			to = -EINVAL;
		break;
	case SEEK_END:
		to = node->type == S_IFDIR ? -EINVAL : vnode_attr(node, clock_coarse_ns(), &attr);
		if (to < 0)
			break;
		if (__builtin_add_overflow((int64_t)attr.size, offset, &to))
			to = -EINVAL; /* as the kernel, whatever lseek(2) says */
		else if (to < 0)
			to = -EINVAL;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if (offset < 0)
			to = -ENXIO;
		else if (file->rd || file->wr)
			to = ls_seek(node->instance->ls, (file->rd ? file->rd : file->wr)->file,
				     offset, whence);
		else
			to = -EBADF;
		break;
	}
	end(file, locked, to >= 0, to);
	return to;
}

int vfs_fsync(struct vctx *ctx, struct vfile *file, bool data_only)
{
	struct vopen *open = file->wr ? file->wr : file->rd;

	if ((vfile_flags(file) & O_PATH) || !open)
		return -EBADF;
	face_flush(file->node);
	return ls_fsync(file->node->instance->ls, open->file, data_only);
}

int vfs_syncfs(struct vctx *ctx, struct vfile *file)
{
	if (vfile_flags(file) & O_PATH)
		return -EBADF;
	return ls_syncfs(file->node->instance->ls);
}

int vfs_allocate(struct vctx *ctx, struct vfile *file, int mode, uint64_t offset,
		 uint64_t len_bytes)
{
	struct vnode *node = file->node;
	uint64_t end_at;
	int r;

	if (offset > INT64_MAX || len_bytes > INT64_MAX || !len_bytes)
		return -EINVAL;
	if ((vfile_flags(file) & O_PATH) || !file->wr)
		return -EBADF;
	end_at = offset + len_bytes;
	if (end_at > INT64_MAX || (!(mode & FALLOC_FL_KEEP_SIZE) &&
				   ctx->fsize_limit != UINT64_MAX && end_at > ctx->fsize_limit))
		return -EFBIG;
	face_flush(node);
	become_writer(ctx, node);
	window_change_begin(vfs_of(node)->windows, node, offset, UINT64_MAX);
	r = ls_allocate(node->instance->ls, file->wr->file, mode, offset, len_bytes);
	/* a collapsed or inserted range: the next check says how long the file is */
	window_change_end(vfs_of(node)->windows, node, 0, !r && mode & ~FALLOC_FL_KEEP_SIZE);
	vnode_touched(node);
	if (r < 0)
		return r;
	atomic_store_explicit(&file->wrote, true, memory_order_relaxed);
	face_changed(node, offset, UINT64_MAX);
	return 0;
}

/* getdents64(2) records. */
struct record {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

struct listing {
	char *buf;
	size_t cap, used;
	uint64_t next;
	struct vnode *dir;
	bool full;
};

static bool add_record(void *arg, const char *name, uint64_t ino, unsigned char d_type,
		       uint64_t next)
{
	struct listing *l = arg;
	size_t name_len = strlen(name) + 1;
	size_t len = (offsetof(struct record, name) + name_len + 7) & ~7ul;
	struct record *rec = (struct record *)(l->buf + l->used);

	if (len > l->cap - l->used) {
		l->full = true;
		return false;
	}
	/* Not above the volume's root. */
	if (name[0] == '.' && name[1] == '.' && !name[2] && l->dir == l->dir->instance->root)
		ino = l->dir->ino;
	rec->ino = ino;
	rec->next = next;
	rec->len = len;
	rec->type = d_type;
	memset(rec->name + name_len, 0, len - offsetof(struct record, name) - name_len);
	memcpy(rec->name, name, name_len);
	l->used += len;
	l->next = next;
	return true;
}

ssize_t vfs_readdir(struct vctx *ctx, struct vfile *file, uint64_t position, void *buf,
		    size_t cap_bytes, uint64_t *ret_next)
{
	struct listing l = {.buf = buf, .cap = cap_bytes, .dir = file->node};
	struct vnode *node = file->node;
	int locked, r;

	if ((vfile_flags(file) & O_PATH) || !file->rd)
		return -EBADF;
	if (node->type != S_IFDIR)
		return -ENOTDIR;
	locked = begin(file, &position);
	if (locked < 0)
		return locked;
	l.next = position;
	r = ls_readdir(node->instance->ls, file->rd->file, position, add_record, &l);
	if (l.used)
		r = 0; /* what came before an error counts, the error comes again */
	else if (!r && l.full)
		r = -EINVAL;
	end(file, locked, !r, l.next);
	if (!r && atomic_load_explicit(&node->atime_moves, memory_order_relaxed))
		vnode_touched(node);
	if (r < 0)
		return r;
	if (ret_next)
		*ret_next = l.next;
	return l.used;
}

/* copy_file_range(2), sendfile(2): positions as VFS_AT_POSITION says, per side. */
ssize_t vfs_copy(struct vctx *ctx, struct vfile *in, uint64_t in_offset, struct vfile *out,
		 uint64_t out_offset, size_t len_bytes)
{
	CLEANUP_FREE char *buf = NULL;
	size_t done = 0;
	int r = check_read(in);

	if (r < 0)
		return r;
	if ((vfile_flags(out) & O_PATH) || !out->wr)
		return -EBADF;
	if (len_bytes > IO_BYTES_MAX)
		len_bytes = IO_BYTES_MAX;
	if (in->node == out->node && in_offset != VFS_AT_POSITION &&
	    out_offset != VFS_AT_POSITION && in_offset < out_offset + len_bytes &&
	    out_offset < in_offset + len_bytes)
		return -EINVAL;
	buf = malloc(COPY_BYTES);
	if (!buf)
		return -ENOMEM;
	while (done < len_bytes && !(ctx->cancel && atomic_load(ctx->cancel))) {
		size_t want = len_bytes - done < COPY_BYTES ? len_bytes - done : COPY_BYTES;
		struct iovec iov = {.iov_base = buf, .iov_len = want};
		bool in_own = in_offset == VFS_AT_POSITION, out_own = out_offset == VFS_AT_POSITION;
		ssize_t got, put;

		got = vfs_read(ctx, in, &iov, 1, in_own ? in_offset : in_offset + done);
		if (got <= 0)
			return done ? (ssize_t)done : got;
		iov.iov_len = got;
		put = vfs_write(ctx, out, &iov, 1, out_own ? out_offset : out_offset + done, false);
		if (put < got && in_own)
			vfs_seek(ctx, in, (put > 0 ? put : 0) - got, SEEK_CUR);
		if (put <= 0)
			return done ? (ssize_t)done : put;
		done += put;
		if (put < got)
			break;
	}
	return done;
}
