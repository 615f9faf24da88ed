/* SPDX-License-Identifier: Apache-2.0 */
/* The table of operations: each handler turns wire fields into a vfs call and its result into a
 * reply. Owns nothing beyond the call. Source of everything in call->request and the pieces:
 * tenant; call_take() has copied and checked their shape, the vfs checks their meaning. */
#include "danaus/shm/dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <linux/limits.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/fuse/face.h"
#include "danaus/server/anchor.h"
#include "danaus/server/pool.h"
#include "danaus/server/stats.h"

#define TEXT_BIG_MAX	(XATTR_SIZE_MAX + 2 * WIRE_PATH_MAX)
#define UNHEARD_KEEP_NS 100000000ull /* an identity whose changes nobody tells of */

int session_init(struct session *session, struct process *process)
{
	int r = process_image(process, &session->image);

	if (r < 0)
		return r;
	session->container = process_container(process);
	session->process = process_hold(process);
	atomic_init(&session->revoked, false);
	atomic_init(&session->channel_dev, 0);
	atomic_init(&session->channel_ino, 0);
	atomic_init(&session->mapped, false);
	atomic_init(&session->heard, false);
	handles_init(&session->handles);
	return 0;
}

void session_done(struct session *session)
{
	uint64_t owner = process_owner(session->process);

	for (uint32_t i = 1; i < session->handles.used; i++) {
		if (session->handles.entry[i].file)
			vfile_close_owner(session->handles.entry[i].file, owner);
	}
	handles_done(&session->handles);
	process_unref(session->process);
}

int session_channel(struct session *session, int memfd, bool heard)
{
	struct stat st;

	if (fstat(memfd, &st) < 0)
		return -errno;
	atomic_store(&session->channel_dev, st.st_dev);
	atomic_store(&session->channel_ino, st.st_ino);
	atomic_store(&session->heard, heard);
	return 0;
}

/* Whether the process still runs the program that attached, and whether that program is the one
 * that holds the channel: somebody else may have said hello on a connection that the process made
 * before it became another program. */
static int check_image(struct session *session)
{
	uint64_t image;
	int r;

	if (atomic_load(&session->channel_ino) && !atomic_load(&session->mapped)) {
		if (!process_maps(session->process, session->channel_dev, session->channel_ino))
			return -EPERM;
		/* by the image that is compared below */
		atomic_store(&session->mapped, true);
	}
	r = process_image(session->process, &image);
	return r < 0 || image != session->image ? -EPERM : 0;
}

/* Whose rights count: the thread's that the request names, if it is one of the client's process and
 * the process still runs the program that attached. A set-user-id program that the process has
 * become since must not lend its rights to whoever still holds the old memory. */
static int identify(struct call *call)
{
	struct session *session = call->session;
	struct known_identity *known = call->known;
	uint32_t version = process_rights_version(session->process);
	struct cred *cred;
	uint64_t now;
	pid_t tid;
	int r;

	if (known->cred && version && known->version == version &&
	    known->tid == call->request.tid &&
	    (atomic_load_explicit(&session->heard, memory_order_relaxed) ||
	     stats_now() - known->read_ns < UNHEARD_KEEP_NS))
		return 0;
	now = stats_now();
	r = process_host_tid(session->process, call->request.tid, &tid);
	if (r < 0)
		return r;
	r = process_cred(session->process, tid, &cred);
	if (r < 0)
		return r;
	/* execve replaces the memory before the identity: read in the other order */
	if (check_image(session) < 0) {
		cred_unref(cred);
		atomic_store(&session->revoked, true);
		return -EPERM;
	}
	if (known->cred)
		cred_unref(known->cred);
	*known = (struct known_identity){call->request.tid, version, cred, now};
	return 0;
}

static int target(struct call *call, uint32_t handle, const char *path, bool nofollow,
		  struct vtarget *ret)
{
	struct container *container = call->session->container;

	*ret = (struct vtarget){.path = path, .nofollow = nofollow};
	if (!WIRE_IS_ROOT(handle))
		return handles_get(&call->session->handles, handle, &ret->file);
	if (WIRE_INSTANCE(handle) >= container->nvolumes)
		return -EBADF;
	ret->dir = vfs_instance_root(container->volumes[WIRE_INSTANCE(handle)].instance);
	return 0;
}

static void target_done(struct vtarget *at)
{
	vfile_unref(at->file);
}
#define CLEANUP_TARGET __attribute__((cleanup(target_done)))

static void cleanup_vfile(struct vfile **file)
{
	vfile_unref(*file);
}
#define CLEANUP_VFILE __attribute__((cleanup(cleanup_vfile)))

static int file_of(struct call *call, uint32_t handle, struct vfile **ret)
{
	return handles_get(&call->session->handles, handle, ret);
}

static struct wire_time time_out(struct timespec time)
{
	return (struct wire_time){.sec = time.tv_sec, .nsec = time.tv_nsec};
}

static void attr_out(struct call *call, const struct attr *attr)
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

/* A count, or a negative errno, that a vfs call returned. */
static int counted(struct call *call, int64_t n, bool payload)
{
	if (n < 0)
		return n;
	call->reply.value = n;
	call->reply.len = payload ? n : 0;
	return 0;
}

static int op_open(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	CLEANUP_VFILE struct vfile *file = NULL;
	uint32_t handle;
	struct attr attr;
	int r = target(call, q->handle, call->piece1, q->flags & O_NOFOLLOW, &at);

	if (!r)
		r = vfs_open(ctx, &at, q->flags & ~O_CLOEXEC, q->mode, &file, &attr);
	if (!r)
		r = handles_add(&call->session->handles, file, &handle);
	if (r < 0)
		return r;
	file = NULL;
	attr_out(call, &attr);
	call->reply.value = handle;
	return 0;
}

static int op_close(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = handles_take(&call->session->handles, call->request.handle, &file);

	if (r < 0)
		return r;
	r = vfile_flush(file);
	vfile_close_owner(file, ctx->owner);
	return r;
}

static int op_read(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	struct iovec iov = {call->payload, q->size};
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	return r < 0 ? r : counted(call, vfs_read(ctx, file, &iov, 1, q->offset), true);
}

static int op_write(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	struct iovec iov = {(void *)call->piece1, q->len1};
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	return r < 0
		   ? r
		   : counted(call, vfs_write(ctx, file, &iov, 1, q->offset, q->flags & RWF_APPEND),
			     false);
}

static int op_stat(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct attr attr;
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	if (!r)
		r = vfs_stat(ctx, &at, &attr);
	if (!r)
		attr_out(call, &attr);
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

static int op_setattr(struct call *call, struct vctx *ctx)
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
		attr_out(call, &attr);
	return r;
}

static int op_access(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	if (!r && (q->mode & ~(R_OK | W_OK | X_OK)))
		r = -EINVAL;
	return r < 0 ? r : vfs_access(ctx, &at, q->mode, q->flags & AT_EACCESS);
}

static int op_readlink(struct call *call, struct vctx *ctx)
{
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, call->request.handle, call->piece1, true, &at);

	return r < 0 ? r : counted(call, vfs_readlink(ctx, &at, call->payload, PATH_MAX), true);
}

static int op_make(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	struct attr attr;
	int r = target(call, q->handle, call->piece1, true, &at);

	if (!r)
		r = vfs_make(ctx, &at, q->mode, (dev_t)q->offset, q->len2 ? call->piece2 : NULL,
			     &attr);
	if (!r)
		attr_out(call, &attr);
	return r;
}

static int op_link(struct call *call, struct vctx *ctx)
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

static int op_unlink(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, true, &at);

	return r < 0 ? r : vfs_unlink(ctx, &at, q->flags & AT_REMOVEDIR);
}

static int op_rename(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget old = {0}, new = {0};
	int r = target(call, q->handle, call->piece1, true, &old);

	if (!r)
		r = target(call, q->handle2, call->piece2, true, &new);
	return r < 0 ? r : vfs_rename(ctx, &old, &new, q->flags);
}

static int op_statfs(struct call *call, struct vctx *ctx)
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

static int op_getxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	r = r < 0 ? r
		  : counted(call, vfs_getxattr(ctx, &at, call->piece2, call->payload, q->size),
			    q->size);
	return r;
}

static int op_setxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	size_t name_bytes = strlen(call->piece2) + 1; /* wire_check(): it ends within the piece */
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r
		     : vfs_setxattr(ctx, &at, call->piece2, call->piece2 + name_bytes,
				    q->len2 - name_bytes, q->mode);
}

static int op_listxattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r : counted(call, vfs_listxattr(ctx, &at, call->payload, q->size), q->size);
}

static int op_removexattr(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_TARGET struct vtarget at = {0};
	int r = target(call, q->handle, call->piece1, q->flags & AT_SYMLINK_NOFOLLOW, &at);

	return r < 0 ? r : vfs_removexattr(ctx, &at, call->piece2);
}

static int op_seek(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	return r < 0 ? r : counted(call, vfs_seek(ctx, file, (int64_t)q->offset, q->mode), false);
}

static int op_fsync(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_fsync(ctx, file, call->request.flags & 1);
}

static int op_syncfs(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_syncfs(ctx, file);
}

static int op_allocate(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, q->handle, &file);

	if (!r && (q->offset > INT64_MAX || q->size > INT64_MAX))
		r = -EINVAL;
	return r < 0 ? r : vfs_allocate(ctx, file, q->mode, q->offset, q->size);
}

static int op_readdir(struct call *call, struct vctx *ctx)
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

static int op_lock(struct call *call, struct vctx *ctx)
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

static int op_flock(struct call *call, struct vctx *ctx)
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

static int op_copy(struct call *call, struct vctx *ctx)
{
	const struct wire_request *q = &call->request;
	CLEANUP_VFILE struct vfile *in = NULL, *out = NULL;
	int r = file_of(call, q->handle, &in);

	if (!r)
		r = file_of(call, q->handle2, &out);
	return r < 0 ? r
		     : counted(call, vfs_copy(ctx, in, q->offset, out, q->offset2, q->size), false);
}

static int op_getfl(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : counted(call, vfile_flags(file), false);
}

static int op_setfl(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_setfl(ctx, file, call->request.flags);
}

static int op_rights(struct call *call, struct vctx *ctx)
{
	process_rights_settled(call->session->process);
	return 0;
}

static struct volume *volume_of(struct container *container, struct vfile *file)
{
	struct vfs_instance *instance = vnode_instance(vfile_node(file));

	for (unsigned i = 0; i < container->nvolumes; i++) {
		if (container->volumes[i].instance == instance)
			return &container->volumes[i];
	}
	return NULL;
}

static int op_name(struct call *call, struct vctx *ctx)
{
	struct anchors *anchors = call->session->container->pool->anchors;
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : anchor_give(anchors, file, 0, &call->fd_out);
}

/* Only files of the own container's volumes: another one's instances may go while this client
 * lives. */
static int op_adopt(struct call *call, struct vctx *ctx)
{
	struct container *container = call->session->container;
	CLEANUP_VFILE struct vfile *file = NULL;
	struct vtarget at = {0};
	uint32_t handle;
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
		r = handles_add(&call->session->handles, file, &handle);
	if (r < 0)
		return r;
	file = NULL;
	attr_out(call, &attr);
	call->reply.value = handle;
	call->reply.value2 = flags;
	return 0;
}

static int op_kernel_file(struct call *call, struct vctx *ctx)
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

static int op_window(struct call *call, struct vctx *ctx)
{
	CLEANUP_VFILE struct vfile *file = NULL;
	int r = file_of(call, call->request.handle, &file);

	return r < 0 ? r : vfs_window(ctx, file, &call->fd_out, &call->reply.value);
}

/* The host's inode, so that changes through every door are seen; inotify_add_watch(2) asks for read
 * permission, and here the service asks for the caller. */
static int op_watch(struct call *call, struct vctx *ctx)
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

static int (*const handler[])(struct call *call, struct vctx *ctx) = {
#define OP(NAME, name, flags, first, second) [WIRE_##NAME] = op_##name,
#include "danaus/proto/ops.def"
#undef OP
};

int call_take(struct call *call, struct session *session, const struct wire_request *request,
	      char *payload, size_t payload_bytes)
{
	struct wire_request *q = &call->request;
	size_t len;

	call->session = session;
	call->payload = payload;
	call->cancel = NULL;
	call->nowait = call->would_wait = call->has_attr = false;
	call->fd_in = call->fd_out = -1;
	call->big = NULL;
	call->reply.error = 0;
	call->reply.len = 0;
	call->reply.value = call->reply.value2 = 0;
	memcpy(q, request, offsetof(struct wire_request, set_attr));
	/* from here on the compiler must not look into the shared memory again */
	__asm__ volatile("" : "+m"(*q) : : "memory");
	if (q->op == WIRE_SETATTR)
		memcpy(&q->set_attr, &request->set_attr, sizeof(q->set_attr));
	if (q->len1 > payload_bytes || q->len2 > payload_bytes - q->len1)
		return -EPROTO;
	call->piece1 = payload;
	call->piece2 = payload + q->len1;
	len = q->len1 + q->len2;
	if (q->op != WIRE_WRITE && len) {
		char *text = call->text;

		if (len > sizeof(call->text)) {
			if (len > TEXT_BIG_MAX)
				return q->op == WIRE_SETXATTR ? -E2BIG : -ENAMETOOLONG;
			text = call->big = malloc(len);
			if (!text)
				return -ENOMEM;
		}
		memcpy(text, payload, len);
		__asm__ volatile("" : : "r"(text) : "memory");
		call->piece1 = text;
		call->piece2 = text + q->len1;
	}
	return wire_check(q, call->piece1, payload_bytes);
}

int call_run(struct call *call)
{
	const struct wire_request *q = &call->request;
	struct session *session = call->session;
	struct vctx ctx;
	char leave[WIRE_PATH_MAX];
	int r;

	r = atomic_load_explicit(&session->revoked, memory_order_relaxed) ? -EPERM : identify(call);
	if (!r) {
		ctx = (struct vctx){
		    .cred = call->known->cred,
		    .owner = process_owner(session->process),
		    .pid = process_ns_pid(session->process),
		    .umask = q->umask & 0777,
		    .fsize_limit = q->fsize_limit,
		    .cancel = call->cancel,
		    .tenant_buffers = true,
		    .leave = leave,
		};
		leave[0] = '\0';
		r = handler[q->op](call, &ctx);
	}
	if (r == -EREMCHG) {
		size_t len = strnlen(leave, sizeof(leave) - 1) + 1;

		memcpy(call->payload, leave, len - 1);
		call->payload[len - 1] = '\0';
		call->reply.len = len;
		call->reply.value = ctx.leave_second;
	} else if (r < 0) {
		call->reply.len = 0;
	}
	if (r < 0)
		call->has_attr = false;
	return call->reply.error = r;
}

void call_done(struct call *call)
{
	free(call->big);
	call->big = NULL;
}
