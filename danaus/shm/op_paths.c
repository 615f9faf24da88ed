/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on what a path names. */
#include "danaus/shm/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/base/clock.h"
#include "danaus/pool/pool.h"

static struct wire_time time_out(struct timespec time)
{
	return (struct wire_time){.sec = time.tv_sec, .nsec = time.tv_nsec};
}

void reply_attr(struct call *call, const struct attr *attr)
{
	const struct idmap *map = call->known->cred->map;
	struct wire_attr *out = &call->reply.attr;

	*out = (struct wire_attr){
	    .ino = attr->ino,
	    .size = attr->size,
	    .blocks = attr->blocks,
	    .mode = attr->mode,
	    .nlink = attr->nlink,
	    .uid = idmap_uid_in(map, attr->uid),
	    .gid = idmap_gid_in(map, attr->gid),
	    .rdev_major = major(attr->rdev),
	    .rdev_minor = minor(attr->rdev),
	    .dev_major = major(attr->dev),
	    .dev_minor = minor(attr->dev),
	    .blksize = attr->blksize,
	    .atime = time_out(attr->atime),
	    .mtime = time_out(attr->mtime),
	    .ctime = time_out(attr->ctime),
	    .btime = time_out(attr->btime),
	};
	call->has_attr = true;
}

/* A lease of the answer, if the client wants one: of what is answered to this identity. Where
 * nobody tells of its changes, for as long as it is believed in. */
static void lease_start(struct call *call, struct vctx *ctx, struct lease_draft *draft)
{
	struct session *session = call->session;
	const struct known_identity *known = call->known;
	uint64_t age = stats_now() - known->read_ns;

	if (call->request.size < sizeof(struct lease))
		return;
	lease_begin(draft, session->container->pool->leases);
	lease_depend(draft, process_lease_counter(session->process));
	/* in this order: who changes the version moves the counter after it; 0 is for nothing to be
	 * kept */
	if (!known->version || process_rights_version(session->process) != known->version)
		return;
	if (!atomic_load_explicit(&session->heard, memory_order_relaxed)) {
		if (age >= SESSION_UNHEARD_NS)
			return;
		lease_until(draft, clock_coarse_ns() + SESSION_UNHEARD_NS - age);
	}
	ctx->lease = draft;
}

/* r: what is answered; for few errors there are leases. */
static void reply_lease(struct call *call, struct lease_draft *draft, int r)
{
	struct lease lease;

	if (!draft || r != draft->answer || !lease_end(draft, clock_coarse_ns(), &lease))
		return;
	memcpy(call->payload, &lease, sizeof(lease));
	call->reply.len = sizeof(lease);
	call->leased = true;
}

int op_open(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	CLEANUP_VFILE struct vfile *file = NULL;
	struct lease_draft draft;
	struct attr attr;
	int r = target(call, q->handle, call->piece1, q->flags & O_NOFOLLOW, &at);

	lease_start(call, ctx, &draft);
	if (!r)
		r = vfs_open(ctx, &at, q->flags & ~O_CLOEXEC, q->mode, &file, &attr);
	if (!r)
		r = reply_file(call, &file, &attr);
	reply_lease(call, ctx->lease, r);
	return r;
}

int op_stat(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct lease_draft draft;
	struct attr attr;
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	lease_start(call, ctx, &draft);
	if (!r)
		r = vfs_stat(ctx, &at, &attr);
	if (!r)
		reply_attr(call, &attr);
	reply_lease(call, ctx->lease, r);
	return r;
}

_Static_assert(WIRE_SET_MODE == ATTR_MODE && WIRE_SET_UID == ATTR_UID && WIRE_SET_GID == ATTR_GID &&
		   WIRE_SET_SIZE == ATTR_SIZE && WIRE_SET_ATIME == ATTR_ATIME &&
		   WIRE_SET_MTIME == ATTR_MTIME,
	       "the wire's set bits are the libservice's");

static bool time_in(struct wire_time in, struct timespec *ret)
{
	if (in.nsec >= 1000000000u && in.nsec != UTIME_NOW)
		return false;
	*ret = (struct timespec){.tv_sec = in.sec, .tv_nsec = in.nsec};
	return true;
}

int op_setattr(struct call *call, struct vctx *ctx)
{
	const struct idmap *map = call->known->cred->map;
	const struct wire_request *q = &call->request;
	const struct wire_attr *in = &q->set_attr;
	CLEANUP_TARGET struct vtarget at = {0};
	struct setattr set = {.set = q->set, .attr = {.mode = in->mode, .size = in->size}};
	struct attr attr;
	int r;

	if (q->set & ~(ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE | ATTR_ATIME | ATTR_MTIME))
		return -EINVAL;
	if (((q->set & ATTR_UID) && !idmap_uid_out(map, in->uid, &set.attr.uid)) ||
	    ((q->set & ATTR_GID) && !idmap_gid_out(map, in->gid, &set.attr.gid)) ||
	    ((q->set & ATTR_ATIME) && !time_in(in->atime, &set.attr.atime)) ||
	    ((q->set & ATTR_MTIME) && !time_in(in->mtime, &set.attr.mtime)) ||
	    ((q->set & ATTR_SIZE) && in->size > INT64_MAX))
		return -EINVAL;
	r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);
	if (!r)
		r = vfs_setattr(ctx, &at, &set, &attr);
	if (!r)
		reply_attr(call, &attr);
	return r;
}

int op_access(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct lease_draft draft;
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	if (!r && (q->mode & ~(R_OK | W_OK | X_OK)))
		r = -EINVAL;
	lease_start(call, ctx, &draft);
	if (!r)
		r = vfs_access(ctx, &at, q->mode, q->flags & AT_EACCESS);
	reply_lease(call, ctx->lease, r);
	return r;
}

int op_readlink(struct call *call, struct vctx *ctx)
{
	CLEANUP_TARGET struct vtarget at = {0};
	struct lease_draft draft;
	int r = target(call, call->request.handle, call->piece1, true, &at);

	lease_start(call, ctx, &draft);
	if (!r)
		r = counted(call, vfs_readlink(ctx, &at, call->payload, PATH_MAX), true);
	if (r < 0) /* else the content is what it answers with */
		reply_lease(call, ctx->lease, r);
	return r;
}

int op_make(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct attr attr;
	int r = target(call, q->handle, call->piece1, true, &at);

	if (!r)
		r = vfs_make(ctx, &at, q->mode, (dev_t)q->offset, q->len2 ? call->piece2 : NULL,
			     &attr);
	if (!r)
		reply_attr(call, &attr);
	return r;
}

int op_link(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget old = {0}, new = {0};
	int r = target(call, q->handle, call->piece1, !(q->flags & AT_SYMLINK_FOLLOW), &old);

	if (!r && !call->piece1[0] && !(q->flags & AT_EMPTY_PATH))
		r = -ENOENT;
	if (!r)
		r = target(call, q->handle2, call->piece2, true, &new);
	return r < 0 ? r : vfs_link(ctx, &old, &new);
}

int op_unlink(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, true, &at);

	return r < 0 ? r : vfs_unlink(ctx, &at, q->flags & AT_REMOVEDIR);
}

int op_rename(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget old = {0}, new = {0};
	int r = target(call, q->handle, call->piece1, true, &old);

	if (!r)
		r = target(call, q->handle2, call->piece2, true, &new);
	return r < 0 ? r : vfs_rename(ctx, &old, &new, q->flags);
}

int op_statfs(struct call *call, struct vctx *ctx)
{
	CLEANUP_TARGET struct vtarget at = {0};
	struct wire_statfs out;
	struct statvfs in;
	uint64_t type = 0;
	int r = target(call, call->request.handle, call->piece1, false, &at);

	if (!r)
		r = vfs_statfs(ctx, &at, &in, &type);
	if (r < 0)
		return r;
	out = (struct wire_statfs){
	    .type = type,
	    .bsize = in.f_bsize,
	    .blocks = in.f_blocks,
	    .bfree = in.f_bfree,
	    .bavail = in.f_bavail,
	    .files = in.f_files,
	    .ffree = in.f_ffree,
	    .namelen = in.f_namemax,
	    .frsize = in.f_frsize,
	    .flags = in.f_flag,
	    .fsid = in.f_fsid,
	};
	memcpy(call->payload, &out, sizeof(out));
	call->reply.len = sizeof(out);
	return 0;
}

int op_getxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r
		     : counted(call, vfs_getxattr(ctx, &at, call->piece2, call->payload, q->size),
			       q->size);
}

int op_setxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	size_t name_bytes = strlen(call->piece2) + 1; /* wire_check(): it ends within the piece */
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r
		     : vfs_setxattr(ctx, &at, call->piece2, call->piece2 + name_bytes,
				    q->len2 - name_bytes, q->mode);
}

int op_listxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r : counted(call, vfs_listxattr(ctx, &at, call->payload, q->size), q->size);
}

int op_removexattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r : vfs_removexattr(ctx, &at, call->piece2);
}
