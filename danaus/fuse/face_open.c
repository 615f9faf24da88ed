/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the service opens through its own mount, and the coherence with the other doors.
 * On the doors' threads, never on the face's own: those would wait for themselves.
 *
 * The service opens by inode number (open_by_handle_at(2): the protocol's numbers are the handle),
 * so that unlinked and unreachable files work and no name of ours shows in the container. The OPEN
 * request carries the thread that asks, and that thread has left word which open file it means. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/base/log.h"

#define HANDLE_INO64_GEN 0x81 /* fs/fuse/inode.c, fuse_encode_fh() */

/* The flags of an open file that the kernel's file has too. */
#define STATUS_FLAGS                                                                               \
	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_SYNC | O_NOATIME | O_DIRECTORY | O_PATH)

int face_open_inode(struct face_mount *face, uint64_t id, int flags)
{
	struct {
		struct file_handle head;
		uint32_t words[3];
	} handle = {
	    .head = {.handle_bytes = sizeof(handle.words), .handle_type = HANDLE_INO64_GEN},
	};
	uint32_t words[3] = {(uint32_t)(id >> 32), (uint32_t)id, 0};
	int fd;

	memcpy(handle.head.f_handle, words, sizeof(words));
	cred_assume_service();
	fd = open_by_handle_at(face->root_fd, &handle.head, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_bound(struct face_mount *face, uint64_t id, struct vfile *file, bool own, int flags)
{
	struct face_binding binding = {
	    .tid = (pid_t)syscall(SYS_gettid), .id = id, .file = vfile_ref(file), .own = own};
	struct face_binding unused;
	int fd;

	pthread_mutex_lock(&face->lock);
	binding.next = face->bindings;
	face->bindings = &binding;
	pthread_mutex_unlock(&face->lock);
	fd = face_open_inode(face, id, flags);
	if (face_binding_take(face, binding.tid, id, &unused)) /* the kernel refused by itself */
		vfile_unref(file);
	return fd;
}

bool face_binding_take(struct face_mount *face, pid_t tid, uint64_t id, struct face_binding *ret)
{
	bool found = false;

	pthread_mutex_lock(&face->lock);
	for (struct face_binding **link = &face->bindings; *link; link = &(*link)->next) {
		if ((*link)->tid != tid || (*link)->id != id)
			continue;
		*ret = **link;
		*link = (*link)->next;
		found = true;
		break;
	}
	pthread_mutex_unlock(&face->lock);
	return found;
}

/* Makes the number of node valid until face_node_forget(id, 1). */
static int pin(struct face_mount *face, struct vnode *node, uint64_t *ret_id)
{
	struct attr attr;
	struct vctx ctx = {.cred = face->service, .owner = 1, .fsize_limit = UINT64_MAX};
	int r;

	r = vfs_stat(&ctx, &(struct vtarget){.dir = node}, &attr);
	if (r < 0)
		return r;
	return face_node_enter(&face->nodes, vnode_ref(node), attr.size, ret_id);
}

int face_kernel_fd(struct face_mount *face, struct vfile *file, int *ret_fd)
{
	int flags = vfile_flags(file) & STATUS_FLAGS, fd = -1, copy, r;
	uint64_t id;

	if ((vfile_flags(file) & O_TMPFILE) == O_TMPFILE) /* one of its bits means a directory */
		flags &= ~O_DIRECTORY;
	r = pin(face, vfile_node(file), &id);
	if (r < 0)
		return r;
	pthread_mutex_lock(&face->kernel_fd_lock);
	if (flags & O_PATH) {
		fd = face_open_inode(face, id, O_PATH | O_NOFOLLOW);
	} else if (vfile_kernel_fd(file) >= 0) {
		fd = fcntl(vfile_kernel_fd(file), F_DUPFD_CLOEXEC, 0);
		fd = fd < 0 ? -errno : fd;
	} else {
		fd = open_bound(face, id, file, false, flags);
		copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy >= 0) {
			vfile_set_kernel_fd(file, copy);
		} else if (fd >= 0) {
			r = -errno;
			close(fd);
			fd = r;
		}
	}
	pthread_mutex_unlock(&face->kernel_fd_lock);
	face_node_forget(&face->nodes, id, 1);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

struct volume *face_volume_of_dev(struct container *container, dev_t dev)
{
	for (unsigned i = 0; i < container->nvolumes; i++) {
		struct volume *volume = &container->volumes[i];

		if (volume->face && volume->face->dev == dev)
			return volume;
	}
	return NULL;
}

/* The kernel's own idea of the size: a mapping beyond it gets SIGBUS, an append's position follows
 * from it. Asking for the attributes makes it right. */
static void refresh_size(struct face_mount *face, uint64_t id)
{
	int fd CLEANUP_FD = face_open_inode(face, id, O_PATH);
	struct statx stx;

	if (fd >= 0)
		statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &stx);
}

/* The kernel asks for attributes and names each time: only pages need to go. Dirty ones among them
 * (of a program that mapped the file before) are written back by that, up to the size that the
 * kernel knows: so the size comes second, or what is new beyond the old one would be overwritten.
 */
static void on_changed(void *arg, struct vnode *vnode, uint64_t offset, uint64_t len_bytes)
{
	struct face_mount *face = arg;
	uint64_t id, size = 0;
	bool beside = false;
	bool to_end = len_bytes == UINT64_MAX || offset + len_bytes < offset;
	struct face_node *node;

	if (len_bytes == 0 || vfs_in_face)
		return;
	pthread_mutex_lock(&face->nodes.lock);
	id = face_node_find_locked(&face->nodes, vnode);
	node = face_node_at(&face->nodes, id);
	if (node) {
		size = node->size;
		beside = node->backing;
	}
	pthread_mutex_unlock(&face->nodes.lock);
	if (!node)
		return;
	if (!beside)
		fuse_lowlevel_notify_inval_inode(face->session, id, (off_t)offset,
						 to_end ? 0 : (off_t)len_bytes);
	if (to_end || offset + len_bytes > size)
		refresh_size(face, id);
}

/* io_fd of node with one more user; -1 */
static int io_use(struct face_node *node)
{
	if (!node || node->writers == 0 || node->io_fd < 0)
		return -1;
	node->io_users++;
	return node->io_fd;
}

static int on_io_fd(void *arg, struct vnode *vnode)
{
	struct face_mount *face = arg;
	struct vctx ctx = {.cred = face->service, .owner = 1, .fsize_limit = UINT64_MAX};
	uint64_t id = face_node_find(&face->nodes, vnode);
	struct face_node *node;
	struct vfile *file;
	int fd, mine, r;
	bool wanted;

	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, id);
	wanted = node && node->writers > 0;
	fd = io_use(node);
	pthread_mutex_unlock(&face->nodes.lock);
	if (fd >= 0 || !wanted || vfs_in_face)
		return fd;
	r = vfs_open(&ctx, &(struct vtarget){.dir = vnode}, O_RDWR, 0, &file, NULL);
	if (r < 0) {
		log_limited(LOG_WARN, "fuse: %s: no descriptor for shared mappings: %s",
			    face->volume->target, strerror(-r));
		return -1;
	}
	mine = open_bound(face, id, file, true, O_RDWR);
	vfile_unref(file);
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, id);
	if (mine >= 0 && node && node->writers > 0 && node->io_fd < 0)
		node->io_fd = STEAL_FD(mine);
	fd = io_use(node);
	pthread_mutex_unlock(&face->nodes.lock);
	if (mine >= 0)
		close(mine);
	return fd;
}

static void on_io_done(void *arg, struct vnode *vnode)
{
	struct face_mount *face = arg;
	struct face_node *node;
	int fd = -1;

	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, face_node_find_locked(&face->nodes, vnode));
	if (node && --node->io_users == 0 && node->writers == 0) {
		fd = node->io_fd;
		node->io_fd = -1;
	}
	pthread_mutex_unlock(&face->nodes.lock);
	if (fd >= 0)
		close(fd);
}

const struct face face_coherence = {
    .changed = on_changed, .io_fd = on_io_fd, .io_done = on_io_done, .name_gone = face_name_gone};
