/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's protocol where libfuse 3.14 does not know it: include/uapi/linux/fuse.h of Linux
 * 6.6 and later. Requests come from the kernel: their layout is trusted, the names and values in
 * them are a program's. On the face's threads. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define OPCODE_TMPFILE 51 /* 7.37 */
#define OPCODE_STATX   52 /* 7.39 */
/* INIT flags2, 7.39: shared mappings of files that are opened with FOPEN_DIRECT_IO. */
#define INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))
/* 7.40: open files that are the host's (face_beside.c). Of file systems that are not stacked
 * themselves, so that one may be stacked on ours. */
#define INIT2_PASSTHROUGH (1u << (37 - 32))
#define STACK_DEPTH	  1u
#define OPEN_PASSTHROUGH  (1u << 7)

struct sx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t pad;
};

struct statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct {
		uint32_t mask, blksize;
		uint64_t attributes;
		uint32_t nlink, uid, gid;
		uint16_t mode, pad;
		uint64_t ino, size, blocks, attributes_mask;
		struct sx_time atime, btime, ctime, mtime;
		uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
		uint64_t spare2[14];
	} stat;
};
_Static_assert(offsetof(struct fuse_init_out, flags2) + 2 * sizeof(uint32_t) <=
		   sizeof(struct fuse_init_out),
	       "max_stack_depth follows flags2");
_Static_assert(offsetof(struct fuse_open_out, open_flags) + 2 * sizeof(uint32_t) ==
		   sizeof(struct fuse_open_out),
	       "backing_id follows open_flags");
_Static_assert(sizeof(struct statx_in) == 24, "fuse_statx_in");
_Static_assert(sizeof(struct statx_out) == 32 + 256, "fuse_statx_out");

/* The open file that this thread answers an OPEN or CREATE with. */
static __thread const struct face_file *opening;

/* Behind flags2, where older headers have room. */
static void set_stack_depth(struct fuse_init_out *init, uint32_t depth)
{
	memcpy((char *)&init->flags2 + sizeof(init->flags2), &depth, sizeof(depth));
}

/* struct fuse_open_out ends the answer, wherever that puts it. */
static void set_backing(struct iovec *body, int32_t backing)
{
	struct fuse_open_out open;
	char *at = (char *)body->iov_base + body->iov_len - sizeof(open);

	memcpy(&open, at, sizeof(open));
	open.open_flags |= OPEN_PASSTHROUGH;
	memcpy((char *)&open.open_flags + sizeof(open.open_flags), &backing, sizeof(backing));
	memcpy(at, &open, sizeof(open));
}

/* The answers to INIT, OPEN and CREATE get what the library cannot set. */
static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *arg)
{
	struct face_mount *face = arg;
	const struct fuse_out_header *header = iov[0].iov_base;

	if (count == 2 && face->init_unique != 0 && header->unique == face->init_unique &&
	    header->error == 0 && iov[1].iov_len >= sizeof(struct fuse_init_out)) {
		struct fuse_init_out *init = iov[1].iov_base;

		init->flags |= FUSE_INIT_EXT;
		init->flags2 |= INIT2_DIRECT_IO_ALLOW_MMAP;
		if (face->beside) {
			init->flags2 |= INIT2_PASSTHROUGH;
			set_stack_depth(init, STACK_DEPTH);
		}
		face->init_unique = 0;
	}
	if (opening && opening->backing && count == 2 && header->error == 0)
		set_backing(&iov[1], opening->backing);
	return writev(fd, iov, count);
}

static ssize_t wire_read(int fd, void *buf, size_t len_bytes, void *arg)
{
	return read(fd, buf, len_bytes);
}

const struct fuse_custom_io face_wire_io = {.writev = wire_writev, .read = wire_read};

static int wire_reply(struct face_mount *face, uint64_t unique, int64_t result, const void *body,
		      size_t len_bytes)
{
	struct fuse_out_header header = {.unique = unique, .error = -face_errno(result)};
	struct iovec iov[] = {{&header, sizeof(header)}, {(void *)body, len_bytes}};
	int count = result < 0 ? 1 : 2;

	header.len = (uint32_t)(sizeof(header) + (count == 2 ? len_bytes : 0));
	return writev(fuse_session_fd(face->session), iov, count) < 0 ? -errno : 0;
}

int face_reply_open(fuse_req_t req, const struct fuse_entry_param *entry, struct fuse_file_info *fi,
		    struct face_file *file)
{
	bool reads = (fi->flags & (O_ACCMODE | O_DIRECT)) == O_RDONLY;
	int r;

	fi->fh = (uintptr_t)file;
	/* Beside, this is about read(2) and write(2) alone. */
	fi->direct_io = vnode_type(vfile_node(file->file)) != S_IFDIR && !(file->backing && reads);
	opening = file;
	r = entry ? fuse_reply_create(req, entry, fi) : fuse_reply_open(req, fi);
	opening = NULL;
	return r;
}

static struct sx_time sx_time_of(struct timespec t)
{
	return (struct sx_time){.sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec};
}

static void serve_statx(struct face_mount *face, const struct fuse_in_header *in)
{
	struct statx_out out = {0};
	struct face_call call;
	struct attr attr;
	int r;

	r = face_call_begin_raw(&call, face, 0, 0, 0, 0, WIRE_STAT, AS_SERVICE, in->nodeid);
	if (r == 0)
		r = vfs_stat(&call.ctx, &(struct vtarget){.dir = call.node}, &attr);
	if (r == 0) {
		face_node_set_size(&face->nodes, in->nodeid, attr.size);
		out.stat.mask = STATX_BASIC_STATS;
		if (attr.btime.tv_sec != 0 || attr.btime.tv_nsec != 0)
			out.stat.mask |= STATX_BTIME;
		out.stat.blksize = attr.blksize;
		out.stat.nlink = attr.nlink;
		out.stat.uid = attr.uid;
		out.stat.gid = attr.gid;
		out.stat.mode = (uint16_t)attr.mode;
		out.stat.ino = attr.ino;
		out.stat.size = attr.size;
		out.stat.blocks = attr.blocks;
		out.stat.atime = sx_time_of(attr.atime);
		out.stat.btime = sx_time_of(attr.btime);
		out.stat.ctime = sx_time_of(attr.ctime);
		out.stat.mtime = sx_time_of(attr.mtime);
		out.stat.rdev_major = major(attr.rdev);
		out.stat.rdev_minor = minor(attr.rdev);
	}
	wire_reply(face, in->unique, r, &out, sizeof(out));
	face_call_end(&call, r);
}

static void attr_to_wire(const struct attr *attr, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
	    .ino = attr->ino,
	    .size = attr->size,
	    .blocks = attr->blocks,
	    .atime = (uint64_t)attr->atime.tv_sec,
	    .mtime = (uint64_t)attr->mtime.tv_sec,
	    .ctime = (uint64_t)attr->ctime.tv_sec,
	    .atimensec = (uint32_t)attr->atime.tv_nsec,
	    .mtimensec = (uint32_t)attr->mtime.tv_nsec,
	    .ctimensec = (uint32_t)attr->ctime.tv_nsec,
	    .mode = attr->mode,
	    .nlink = attr->nlink,
	    .uid = attr->uid,
	    .gid = attr->gid,
	    .blksize = attr->blksize,
	};
}

static void serve_tmpfile(struct face_mount *face, const struct fuse_in_header *in)
{
	const struct fuse_create_in *arg = (const struct fuse_create_in *)(in + 1);
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {.open.open_flags = FOPEN_DIRECT_IO};
	int flags = face_open_flags((int)arg->flags) | O_TMPFILE | ((int)arg->flags & O_EXCL);
	struct face_file *file = NULL;
	struct vfile *vfile = NULL;
	struct face_call call;
	struct attr attr;
	uint64_t id = 0;
	int r;

	r = face_call_begin_raw(&call, face, (pid_t)in->pid, in->uid, in->gid, arg->umask,
				WIRE_OPEN, AS_CALLER, in->nodeid);
	if (r == 0)
		r = CALL(&call, vfs_open(&call.ctx, &(struct vtarget){.dir = call.node}, flags,
					 arg->mode & 07777, &vfile, &attr));
	if (r == 0)
		r = face_node_enter(&face->nodes, vnode_ref(vfile_node(vfile)), attr.size, &id);
	if (r == 0)
		r = face_file_new(face, id, vfile, NULL, false, &file);
	else if (vfile)
		vfile_unref(vfile);
	if (r == 0) {
		out.entry.nodeid = id;
		out.open.fh = (uintptr_t)file;
		attr_to_wire(&attr, &out.entry.attr);
	}
	if (wire_reply(face, in->unique, r, &out, sizeof(out)) < 0 && file) {
		face_file_free(face, file);
		r = -EINTR;
	}
	if (r < 0 && id != 0)
		face_node_forget(&face->nodes, id, 1);
	face_call_end(&call, r);
}

static bool offers_passthrough(const struct fuse_in_header *in, size_t len_bytes)
{
	const struct fuse_init_in *init = (const struct fuse_init_in *)(in + 1);

	return len_bytes >= sizeof(*in) + sizeof(*init) && (init->flags & FUSE_INIT_EXT) &&
	       (init->flags2 & INIT2_PASSTHROUGH);
}

bool face_wire_serve(struct face_mount *face, const void *request, size_t len_bytes)
{
	const struct fuse_in_header *in = request;

	if (len_bytes < sizeof(*in))
		return false;
	switch (in->opcode) {
	case FUSE_INIT:
		face->init_unique = in->unique;
		face->beside = offers_passthrough(in, len_bytes);
		return false;
	case OPCODE_STATX:
		if (len_bytes < sizeof(*in) + sizeof(struct statx_in))
			return false;
		serve_statx(face, in);
		return true;
	case OPCODE_TMPFILE:
		if (len_bytes < sizeof(*in) + sizeof(struct fuse_create_in))
			return false;
		serve_tmpfile(face, in);
		return true;
	default:
		return false;
	}
}
