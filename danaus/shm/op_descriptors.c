/* SPDX-License-Identifier: Apache-2.0 */
/* Operations by which descriptors travel; the attach socket alone carries them. */
#include "danaus/shm/operations.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/fuse/face.h"
#include "danaus/pool/anchor.h"
#include "danaus/pool/pool.h"

static struct volume *volume_of(struct container *container, struct vfile *file)
{
	struct vfs_instance *instance = vnode_instance(vfile_node(file));

	for (unsigned i = 0; i < container->nvolumes; i++) {
		if (container->volumes[i].instance == instance)
			return &container->volumes[i];
	}
	return NULL;
}

int op_name(struct call *call, struct vctx *ctx)
{
	struct anchors *anchors = call->session->container->pool->anchors;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : anchor_give(anchors, file, 0, &call->fd_out);
}

/* Only files of the own container's volumes: another one's instances may go while this client
 * lives. */
int op_adopt(struct call *call, struct vctx *ctx)
{
	struct container *container = call->session->container;
	CLEANUP_VFILE struct vfile *file = NULL;
	struct vtarget at = {0};
	struct attr attr;
	int flags, r;

	if (call->fd_in < 0)
		return -EPROTO;
	r = anchor_find(container->pool->anchors, call->fd_in, &file);
	if (r < 0)
		return r;
	if (!volume_of(container, file))
		return -EBADF;
	at.file = file;
	flags = vfile_flags(file);
	r = vfs_stat(ctx, &at, &attr);
	if (!r)
		r = reply_file(call, &file, &attr);
	if (!r)
		call->reply.value2 = flags;
	return r;
}

int op_kernel_file(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	struct volume *volume;
	int r = file_of(call, call->request.handle, &file);

	if (r < 0)
		return r;
	volume = volume_of(call->session->container, file);
	if (!volume || !volume->face)
		return -EOPNOTSUPP;
	return face_kernel_fd(volume->face, file, &call->fd_out);
}

int op_window(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_window(ctx, file, &call->fd_out, &call->reply.value);
}

int op_leases(struct call *call, struct vctx *ctx)
{
	call->reply.value = sizeof(struct lease_table);
	return leases_open(call->session->container->pool->leases, &call->fd_out);
}

/* The host's inode, so that changes through every door are seen; inotify_add_watch(2) asks for read
 * permission, and here the service asks for the caller. */
int op_watch(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct vnode *node = NULL;
	CLEANUP_FD int fd = -1;
	struct attr attr;
	char path[64];
	int r;

	if (call->fd_in < 0 || q->size > UINT32_MAX)
		return -EPROTO;
	r = target(call, q->handle, call->piece1, q->size & IN_DONT_FOLLOW, &at);
	if (!r)
		r = vfs_lookup(ctx, &at, &node, &attr);
	if (r < 0)
		return r;
	/* of what was found: the path may lead elsewhere by now */
	r = vfs_access(ctx, &(struct vtarget){.dir = node}, R_OK, true);
	fd = r < 0 ? r : vnode_host_fd(node);
	vnode_unref(node);
	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cred_assume_service();
	r = inotify_add_watch(call->fd_in, path, (uint32_t)q->size & ~IN_DONT_FOLLOW);
	return r < 0 ? -errno : counted(call, r, false);
}
