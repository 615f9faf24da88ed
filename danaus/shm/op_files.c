/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on open files. */
#include "danaus/shm/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>

int op_close(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = handles_take(&call->session->handles, call->request.handle, &file);

	if (r < 0)
		return r;
	r = vfile_flush(file);
	if (!(call->request.flags & 1))
		vfile_close_owner(file, ctx->owner);
	return r;
}

int op_read(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	struct iovec iov = {call->payload, q->size};
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	return r < 0 ? r : counted(call, vfs_read(ctx, file, &iov, 1, q->offset), true);
}

int op_write(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	struct iovec iov;
	int r;

	if (q->offset2 > WIRE_PAYLOAD_MAX - q->len1)
		return -EPROTO;
	iov = (struct iovec){(char *)call->piece1 + q->offset2, q->len1};
	r = file_of(call, q->handle, &file);
	return r < 0
		   ? r
		   : counted(call, vfs_write(ctx, file, &iov, 1, q->offset, q->flags & RWF_APPEND),
			     false);
}

int op_seek(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	return r < 0 ? r : counted(call, vfs_seek(ctx, file, (int64_t)q->offset, q->mode), false);
}

int op_fsync(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_fsync(ctx, file, call->request.flags & 1);
}

int op_syncfs(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_syncfs(ctx, file);
}

int op_allocate(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	if (!r && (q->offset > INT64_MAX || q->size > INT64_MAX))
		r = -EINVAL;
	return r < 0 ? r : vfs_allocate(ctx, file, q->mode, q->offset, q->size);
}

int op_readdir(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	uint64_t next = 0;
	int r = file_of(call, q->handle, &file);

	if (!r)
		r = counted(call, vfs_readdir(ctx, file, q->offset, call->payload, q->size, &next),
			    true);
	if (!r)
		call->reply.value2 = next;
	return r;
}

static int without_wait(int cmd)
{
	return cmd == F_SETLKW ? F_SETLK : cmd == F_OFD_SETLKW ? F_OFD_SETLK : cmd;
}

int op_lock(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	struct wire_lock wire;
	struct flock lock;
	int r, now;

	r = file_of(call, q->handle, &file);
	if (r < 0)
		return r;
	if (q->len1 != sizeof(wire))
		return -EPROTO;
	memcpy(&wire, call->piece1, sizeof(wire));
	lock = (struct flock){.l_type = wire.type,
			      .l_whence = wire.whence,
			      .l_start = wire.start,
			      .l_len = wire.len,
			      .l_pid = wire.pid};
	now = without_wait(q->mode);
	r = vfs_lock(ctx, file, now, &lock);
	if (r == -EAGAIN && container_settle(call->session->container))
		r = vfs_lock(ctx, file, now, &lock);
	if (r == -EAGAIN && now != (int)q->mode) {
		if (call->nowait) {
			call->would_wait = true;
			return 0;
		}
		r = vfs_lock(ctx, file, q->mode, &lock);
	}
	if (r < 0 || (q->mode != F_GETLK && q->mode != F_OFD_GETLK))
		return r;
	wire = (struct wire_lock){.type = lock.l_type,
				  .whence = lock.l_whence,
				  .start = lock.l_start,
				  .len = lock.l_len,
				  .pid = lock.l_pid};
	memcpy(call->payload, &wire, sizeof(wire));
	call->reply.len = sizeof(wire);
	return 0;
}

int op_flock(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int mode = call->request.mode, r = file_of(call, call->request.handle, &file);

	if (r < 0)
		return r;
	r = vfs_flock(ctx, file, mode | LOCK_NB);
	if (r == -EAGAIN && container_settle(call->session->container))
		r = vfs_flock(ctx, file, mode | LOCK_NB);
	if (r == -EAGAIN && !(mode & LOCK_NB)) {
		if (call->nowait) {
			call->would_wait = true;
			return 0;
		}
		r = vfs_flock(ctx, file, mode);
	}
	return r;
}

int op_copy(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *in = NULL, *out = NULL;
	int r = file_of(call, q->handle, &in);

	if (!r)
		r = file_of(call, q->handle2, &out);
	return r < 0 ? r
		     : counted(call, vfs_copy(ctx, in, q->offset, out, q->offset2, q->size), false);
}

int op_getfl(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : counted(call, vfile_flags(file), false);
}

int op_setfl(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_setfl(ctx, file, call->request.flags);
}
