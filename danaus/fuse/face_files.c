/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face's operations on open files and directories. On the face's threads. */
#include "danaus/fuse/face_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"

/* execve(2) opens with this in the flags (include/linux/fs.h, __FMODE_EXEC). */
#define OPEN_FOR_EXEC 0x20

/* One transfer's buffer per thread, page-aligned because a file may be open with O_DIRECT. */
static __thread char *io_buffer;

static void io_buffer_free(void *buffer)
{
	munmap(buffer, FACE_IO_MAX);
}

static pthread_key_t io_buffer_key;

static void io_buffer_key_make(void)
{
	pthread_key_create(&io_buffer_key, io_buffer_free);
}

static char *io_buffer_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (io_buffer)
		return io_buffer;
	pthread_once(&once, io_buffer_key_make);
	io_buffer =
	    mmap(NULL, FACE_IO_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (io_buffer == MAP_FAILED)
		return io_buffer = NULL;
	pthread_setspecific(io_buffer_key, io_buffer);
	return io_buffer;
}

static struct face_file *file_of(const struct fuse_file_info *fi)
{
	return (struct face_file *)(uintptr_t)fi->fh;
}

int face_open_flags(int flags)
{
	return flags & (O_ACCMODE | O_TRUNC | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_SYNC);
}

/* Programs' opens are counted at the inode: the vfs tells the face of changes while there are any,
 * and goes through the kernel while one may have a writable shared mapping (mmap(2) needs O_RDWR
 * for it). */
static void count_open(struct face_mount *face, struct face_file *file)
{
	struct face_node *node;

	if (file->own)
		return;
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, file->id);
	if (node && file->writing)
		node->writers++;
	pthread_mutex_unlock(&face->nodes.lock);
	vnode_face_open(vfile_node(file->file), file->writing);
}

static void uncount_open(struct face_mount *face, struct face_file *file)
{
	struct face_node *node;
	int io_fd = -1;

	if (file->own)
		return;
	vnode_face_close(vfile_node(file->file), file->writing);
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, file->id);
	if (node && file->writing && --node->writers == 0 && node->io_users == 0) {
		io_fd = node->io_fd;
		node->io_fd = -1;
	}
	pthread_mutex_unlock(&face->nodes.lock);
	if (io_fd >= 0)
		close(io_fd);
}

/* Who wrote the program may have closed it a moment ago: the kernel's word of it is read then. */
static int exec_begin(struct face_mount *face, struct vnode *node)
{
	int r = vnode_exec_begin(node);

	if (r == -ETXTBSY) {
		anchors_closed(face->container->pool->anchors);
		r = vnode_exec_begin(node);
	}
	return r;
}

int face_file_new(struct face_mount *face, uint64_t id, struct vfile *vfile,
		  const struct face_binding *binding, bool exec, struct face_file **ret)
{
	struct face_file *file = calloc(1, sizeof(*file));
	int r = !file ? -ENOMEM : exec ? exec_begin(face, vfile_node(vfile)) : 0;

	if (r < 0) {
		vfile_unref(vfile);
		free(file);
		return r;
	}
	file->exec = exec;
	file->file = vfile;
	file->id = id;
	file->shared = binding && !binding->own;
	file->own = binding && binding->own;
	file->backing = face_beside_enter(face, id, vfile);
	file->writing = !file->backing && (vfile_flags(vfile) & O_ACCMODE) == O_RDWR;
	count_open(face, file);
	pthread_mutex_lock(&face->lock);
	file->next = face->files;
	file->prev = &face->files;
	if (file->next)
		file->next->prev = &file->next;
	face->files = file;
	pthread_mutex_unlock(&face->lock);
	*ret = file;
	return 0;
}

void face_file_free(struct face_mount *face, struct face_file *file)
{
	pthread_mutex_lock(&face->lock);
	*file->prev = file->next;
	if (file->next)
		file->next->prev = file->prev;
	pthread_mutex_unlock(&face->lock);
	uncount_open(face, file);
	face_beside_leave(face, file);
	if (file->exec)
		vnode_exec_end(vfile_node(file->file));
	if (file->plain)
		vfile_unref(file->plain);
	vfile_unref(file->file);
	free(file);
}

/* An executable needs not be readable: the kernel reads it for the program. */
static int open_for_exec(struct face_call *call, const struct vtarget *at, struct vfile **ret)
{
	struct vctx service = call->ctx;
	int r;

	r = CALL(call, vfs_access(&call->ctx, at, X_OK, true));
	if (r < 0)
		return r;
	service.cred = call->face->service;
	return vfs_open(&service, at, O_RDONLY, 0, ret, NULL);
}

static void open_inode(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int add_flags)
{
	int flags = face_open_flags(fi->flags) | add_flags;
	struct face_binding binding, *bound = NULL;
	struct face_file *file = NULL;
	struct vfile *vfile = NULL;
	struct face_call call;
	struct vtarget at;
	int r = 0;

	if (face_binding_take(fuse_req_userdata(req), fuse_req_ctx(req)->pid, ino, &binding))
		bound = &binding;
	r = face_call_begin(&call, req, WIRE_OPEN, bound ? AS_SERVICE : AS_CALLER, ino);
	at = (struct vtarget){.dir = call.node};
	if (bound)
		vfile = binding.file;
	else if (r == 0 && (fi->flags & OPEN_FOR_EXEC))
		r = open_for_exec(&call, &at, &vfile);
	else if (r == 0)
		r = CALL(&call, vfs_open(&call.ctx, &at, flags, 0, &vfile, NULL));
	/* One that can be opened for nothing but appending (chattr(1), a) says so. */
	if (r == -EPERM && !bound && (fi->flags & O_APPEND))
		r = CALL(&call, vfs_open(&call.ctx, &at, flags | O_APPEND, 0, &vfile, NULL));
	if (r == 0)
		r = face_file_new(call.face, ino, vfile, bound,
				  !bound && (fi->flags & OPEN_FOR_EXEC), &file);
	else if (vfile)
		vfile_unref(vfile);
	if (r < 0) {
		face_call_reply(&call, r);
		return;
	}
	/* The service keeps descriptors of these. Should it die, the kernel would wait for its
	 * answer to their FLUSH, and it could not end. A record lock is gone when the process or
	 * its last other descriptor is. */
	fi->noflush = bound != NULL;
	if (face_reply_open(req, NULL, fi, file) < 0)
		face_file_free(call.face, file);
	face_call_end(&call, 0);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	open_inode(req, ino, fi, 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	open_inode(req, ino, fi, O_DIRECTORY);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	int flags = face_open_flags(fi->flags) | O_CREAT | (fi->flags & O_EXCL);
	struct fuse_entry_param entry = {0};
	struct face_file *file = NULL;
	struct vfile *vfile = NULL;
	struct face_call call;
	struct attr attr;
	int r;

	r = face_call_begin(&call, req, WIRE_OPEN, AS_CALLER, parent);
	if (r == 0)
		r = CALL(&call, vfs_open(&call.ctx,
					 &(struct vtarget){
					     .dir = call.node, .path = name, .nofollow = true},
					 flags | O_NOFOLLOW, mode & 07777, &vfile, &attr));
	if (r == 0 && !S_ISREG(attr.mode)) /* somebody was faster: the kernel looks again */
		r = -ESTALE;
	if (r == 0)
		r = face_node_enter(&call.face->nodes, vnode_ref(vfile_node(vfile)), attr.size,
				    &entry.ino);
	if (r == 0)
		r = face_file_new(call.face, entry.ino, vfile, NULL, false, &file);
	else if (vfile)
		vfile_unref(vfile);
	if (r < 0) {
		if (entry.ino)
			face_node_forget(&call.face->nodes, entry.ino, 1);
		face_call_reply(&call, r == -ELOOP ? -ESTALE : r);
		return;
	}
	face_stat_of(&attr, &entry.attr);
	if (face_reply_open(req, &entry, fi, file) < 0) {
		face_file_free(call.face, file);
		face_node_forget(&call.face->nodes, entry.ino, 1);
	}
	face_call_end(&call, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct face_call call;

	face_call_begin(&call, req, WIRE_CLOSE, AS_SERVICE, 0);
	face_file_free(call.face, file_of(fi));
	face_call_reply(&call, 0);
}

/* One per close(2) of one process: POSIX drops all of its record locks on the inode. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct face_call call;

	if (face_call_begin(&call, req, WIRE_CLOSE, AS_CALLER, 0) == 0)
		vfile_close_owner(file_of(fi)->file, call.ctx.owner);
	face_call_reply(&call, vfile_flush(file_of(fi)->file));
}

/* The page cache takes a short answer for the end of the file. */
static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	char *buffer = io_buffer_get();
	struct face_call call;
	size_t done = 0;
	ssize_t n;

	n = face_call_begin(&call, req, WIRE_READ, AS_SERVICE, 0);
	if (n == 0 && (!buffer || size > FACE_IO_MAX))
		n = -ENOMEM;
	while (n >= 0 && done < size) {
		struct iovec iov = {buffer + done, size - done};

		n = vfs_read(&call.ctx, file_of(fi)->file, &iov, 1, (uint64_t)offset + done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && done == 0) {
		face_call_reply(&call, n);
		return;
	}
	fuse_reply_buf(req, buffer, done);
	call.bytes = done;
	face_call_end(&call, 0);
}

/* The kernel writes dirty pages back at their own offset, whatever the open file's flags say. */
static int file_without_append(struct face_call *call, struct face_file *file, struct vfile **ret)
{
	struct vnode *node = vfile_node(file->file);
	struct vfile *plain = NULL;
	int r = 0;

	*ret = file->file;
	if (!(vfile_flags(file->file) & O_APPEND))
		return 0;
	pthread_mutex_lock(&call->face->lock);
	*ret = file->plain;
	pthread_mutex_unlock(&call->face->lock);
	if (*ret)
		return 0;
	r = vfs_open(&call->ctx, &(struct vtarget){.dir = node}, O_WRONLY, 0, &plain, NULL);
	if (r < 0)
		return r;
	pthread_mutex_lock(&call->face->lock);
	if (!file->plain)
		file->plain = STEAL_PTR(plain);
	*ret = file->plain;
	pthread_mutex_unlock(&call->face->lock);
	if (plain)
		vfile_unref(plain);
	return 0;
}

/* fcntl(F_SETFL) on a kernel descriptor is seen here first: the kernel sends its flags with each
 * write. */
static int follow_append_flag(struct face_call *call, struct face_file *file, int flags)
{
	int have = vfile_flags(file->file);

	if (!file->shared || ((have ^ flags) & O_APPEND) == 0)
		return 0;
	return vfs_setfl(&call->ctx, file->file, have ^ O_APPEND);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct face_file *file = file_of(fi);
	bool append = (fi->flags & O_APPEND) && !fi->writepage;
	struct vfile *vfile = file->file;
	struct face_call call;
	size_t done = 0;
	ssize_t n;

	n = face_call_begin(&call, req, WIRE_WRITE, fi->writepage ? AS_SERVICE : AS_CALLER, 0);
	if (n == 0)
		n = fi->writepage ? file_without_append(&call, file, &vfile)
				  : follow_append_flag(&call, file, fi->flags);
	if (n == 0 && vfile_flags(vfile) & O_DIRECT) { /* libfuse's data is not aligned */
		char *buffer = size <= FACE_IO_MAX ? io_buffer_get() : NULL;

		n = buffer ? 0 : -ENOMEM;
		data = buffer ? memcpy(buffer, data, size) : data;
	}
	while (n >= 0 && done < size) {
		struct iovec iov = {(char *)data + done, size - done};

		n = vfs_write(&call.ctx, vfile, &iov, 1, (uint64_t)offset + done, append);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && done == 0) {
		face_call_reply(&call, n);
		return;
	}
	fuse_reply_write(req, done);
	call.bytes = done;
	face_call_end(&call, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_FSYNC, AS_SERVICE, 0);
	if (r == 0)
		r = vfs_fsync(&call.ctx, file_of(fi)->file, datasync != 0);
	face_call_reply(&call, r);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct face_call call;
	int r;

	r = face_call_begin(&call, req, WIRE_ALLOCATE, AS_CALLER, 0);
	if (r == 0)
		r = vfs_allocate(&call.ctx, file_of(fi)->file, mode, (uint64_t)offset,
				 (uint64_t)length);
	face_call_reply(&call, r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	struct face_call call;
	int64_t r;

	r = face_call_begin(&call, req, WIRE_SEEK, AS_SERVICE, 0);
	if (r == 0)
		r = vfs_seek(&call.ctx, file_of(fi)->file, offset, whence);
	if (r < 0) {
		face_call_reply(&call, r);
		return;
	}
	fuse_reply_lseek(req, r);
	face_call_end(&call, 0);
}

static void op_copy(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
		    fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len,
		    int flags)
{
	struct face_call call;
	ssize_t n;

	n = face_call_begin(&call, req, WIRE_COPY, AS_CALLER, 0);
	if (len > 1u << 30) /* the answer has 32 bits */
		len = 1u << 30;
	if (n == 0 && fi_out->flags & O_APPEND)
		n = -EBADF;
	if (n == 0)
		n = vfs_copy(&call.ctx, file_of(fi_in)->file, (uint64_t)off_in,
			     file_of(fi_out)->file, (uint64_t)off_out, len);
	if (n < 0) {
		face_call_reply(&call, n);
		return;
	}
	fuse_reply_write(req, (size_t)n);
	call.bytes = (uint64_t)n;
	face_call_end(&call, 0);
}

struct dirent_head { /* getdents64(2) */
	uint64_t ino;
	int64_t next;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* The vfs writes getdents64(2) records, whose head is 5 bytes shorter than the kernel protocol's:
 * three quarters of the room always fit after the conversion. */
static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	char *records = io_buffer_get(), *out = NULL;
	struct face_call call;
	size_t used = 0;
	uint64_t next;
	ssize_t n;

	n = face_call_begin(&call, req, WIRE_READDIR, AS_SERVICE, 0);
	if (size > FACE_IO_MAX)
		size = FACE_IO_MAX;
	if (n == 0 && (!records || !(out = malloc(size))))
		n = -ENOMEM;
	if (n == 0)
		n = vfs_readdir(&call.ctx, file_of(fi)->file, (uint64_t)offset, records,
				size / 4 * 3, &next);
	for (ssize_t at = 0; at < n;) {
		struct dirent_head *head = (struct dirent_head *)(records + at);
		struct stat st = {.st_ino = head->ino, .st_mode = DTTOIF(head->type)};

		used += fuse_add_direntry(req, out + used, size - used, head->name, &st,
					  (off_t)head->next);
		at += head->reclen;
	}
	if (n < 0) {
		face_call_reply(&call, n);
	} else {
		fuse_reply_buf(req, out, used);
		call.bytes = used;
		face_call_end(&call, 0);
	}
	free(out);
}

void face_files_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->flush = op_flush;
	ops->read = op_read;
	ops->write = op_write;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
	ops->copy_file_range = op_copy;
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->releasedir = op_release;
	ops->fsyncdir = op_fsync;
}
