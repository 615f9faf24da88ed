/* SPDX-License-Identifier: Apache-2.0 */
/* One request of the kernel: who asks, the call's context, the reply. On the face's threads. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Lock owners outside of the processes that the service knows: the kernel itself, strangers. */
#define OWNER_SERVICE  (1ull << 63)
#define OWNER_STRANGER (1ull << 62)

int face_errno(int64_t result)
{
	switch (-result) {
	case EREMCHG: /* a name alone never leaves the volume, ".." above its root does */
	case VFS_ESPECIAL:
		return ESTALE;
	default:
		return result < 0 ? (int)-result : 0;
	}
}

/* Without a process the caller is somebody of other namespaces than the container's: a root shell
 * on the host, a program in a user namespace of its own, whose capabilities count by its own map.
 */
static int read_cred(struct face_call *call, struct cred **ret)
{
	return call->process ? process_cred(call->process, call->tid, ret)
			     : cred_of_thread(call->tid, &call->face->container->map, ret);
}

static int identify(struct face_call *call)
{
	struct cred *cred = NULL;
	int r;

	/* The service itself, while it makes or ends the container, is nobody of it. */
	r = !call->face->container->processes
		? -EPERM
		: process_get(call->face->container, call->tid, &call->process);
	if (call->face->container->processes && (r == -EPERM || r == -ESRCH)) {
		/* To look at a process that is not known yet takes the service's own rights. */
		cred_assume_service();
		r = process_get(call->face->container, call->tid, &call->process);
	}
	if (r < 0 && r != -EPERM)
		return r;
	call->fresh = r < 0; /* a stranger's identity is never kept */
	r = read_cred(call, &cred);
	if (r < 0)
		return r;
	if (!call->fresh && (cred->fsuid != call->uid || cred->fsgid != call->gid)) {
		cred_unref(cred);
		process_rights_changed(call->process);
		call->fresh = true;
		r = read_cred(call, &cred);
		if (r < 0)
			return r;
	}
	call->ctx.cred = cred;
	if (call->process) {
		call->ctx.owner = process_owner(call->process);
		call->ctx.pid = process_ns_pid(call->process);
	} else {
		call->ctx.owner = OWNER_STRANGER | (uint64_t)call->tid;
		call->ctx.pid = call->tid;
	}
	return 0;
}

bool face_call_again(struct face_call *call, int64_t result)
{
	struct cred *cred;
	bool changed;

	if ((result != -EACCES && result != -EPERM) || !call->process || call->fresh)
		return false;
	call->fresh = true;
	process_rights_changed(call->process);
	if (read_cred(call, &cred) < 0)
		return false;
	changed = !cred_same(cred, call->ctx.cred);
	cred_unref(call->ctx.cred);
	call->ctx.cred = cred;
	return changed;
}

int face_call_begin_raw(struct face_call *call, struct face_mount *face, pid_t tid, uid_t uid,
			gid_t gid, mode_t umask, unsigned op, enum face_as as, uint64_t ino)
{
	int r = 0;

	*call = (struct face_call){
	    .face = face,
	    .op = op,
	    .started = stats_now(),
	    .tid = tid,
	    .uid = uid,
	    .gid = gid,
	    .ctx = {.umask = umask, .owner = OWNER_SERVICE, .fsize_limit = UINT64_MAX},
	};
	if (ino != 0) {
		call->node = face_node_get(&face->nodes, ino);
		if (!call->node)
			return -ESTALE;
	}
	if (as == AS_CALLER && tid != 0)
		r = identify(call);
	else
		call->ctx.cred = cred_ref(face->service);
	return r == -ESRCH || r == -EPROTO || r == -ENOENT ? -EACCES : r;
}

int face_call_begin(struct face_call *call, fuse_req_t req, unsigned op, enum face_as as,
		    fuse_ino_t ino)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int r;

	r = face_call_begin_raw(call, fuse_req_userdata(req), ctx->pid, ctx->uid, ctx->gid,
				ctx->umask, op, as, ino);
	call->req = req;
	return r;
}

void face_call_end(struct face_call *call, int64_t result)
{
	stats_count(DOOR_FACE, call->op, call->started, call->bytes, result < 0 ? (int)result : 0);
	if (call->node)
		vnode_unref(call->node);
	if (call->ctx.cred)
		cred_unref(call->ctx.cred);
	if (call->process)
		process_unref(call->process);
}

void face_call_reply(struct face_call *call, int64_t result)
{
	fuse_reply_err(call->req, face_errno(result));
	face_call_end(call, result);
}

void face_stat_of(const struct attr *attr, struct stat *ret)
{
	*ret = (struct stat){
	    .st_ino = attr->ino,
	    .st_mode = attr->mode,
	    .st_nlink = attr->nlink,
	    .st_uid = attr->uid,
	    .st_gid = attr->gid,
	    .st_rdev = attr->rdev,
	    .st_size = (off_t)attr->size,
	    .st_blksize = attr->blksize,
	    .st_blocks = (blkcnt_t)attr->blocks,
	    .st_atim = attr->atime,
	    .st_mtim = attr->mtime,
	    .st_ctim = attr->ctime,
	};
}

void face_call_reply_attr(struct face_call *call, int64_t result, uint64_t id,
			  const struct attr *attr)
{
	struct stat st;

	if (result < 0) {
		face_call_reply(call, result);
		return;
	}
	face_stat_of(attr, &st);
	face_node_set_size(&call->face->nodes, id, attr->size);
	fuse_reply_attr(call->req, &st, 0);
	face_call_end(call, 0);
}

void face_call_reply_entry(struct face_call *call, int64_t result, struct vnode *node,
			   const struct attr *attr)
{
	struct fuse_entry_param entry = {0};

	if (result == 0)
		result = face_node_enter(&call->face->nodes, node, attr->size, &entry.ino);
	if (result < 0) {
		face_call_reply(call, result);
		return;
	}
	face_stat_of(attr, &entry.attr);
	if (fuse_reply_entry(call->req, &entry) < 0) /* the caller is gone: it holds nothing */
		face_node_forget(&call->face->nodes, entry.ino, 1);
	face_trim(call->face);
	face_call_end(call, 0);
}
