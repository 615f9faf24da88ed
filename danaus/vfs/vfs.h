/* SPDX-License-Identifier: Apache-2.0 */
/* The service node: what is the same for every door and every libservice. Instances (stacks mounted
 * at container paths), cached inodes and names, open files with their positions, rights, locks.
 *
 * The doors call vfs_*(); the vfs calls libservices. One struct vfs per pool. Any worker thread;
 * a call may block. Errors: 0 (or a count) or a negative errno, as the system call of that name
 * documents. Attributes and names are cached for VFS_CACHE_NS for changes made outside of the
 * instance; changes made through it are seen at once (RFC 7530 section 10 describes the contract).
 */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "danaus/base/err.h"
#include "danaus/libservices/cred.h"
#include "danaus/libservices/libservice.h"
#include "danaus/vfs/leases.h"

#define VFS_CACHE_NS	1000000000ull
#define VFS_AT_POSITION UINT64_MAX /* offset: use and advance the open file's position */

struct vfs;
struct vfs_instance;
struct vnode; /* a cached inode, reference counted */
struct vfile; /* an open file description, reference counted */

/* Who calls, for one call. Filled by the door; nothing in it is kept after the call. */
struct vctx {
	struct cred *cred;
	uint64_t owner; /* the process, for POSIX record locks: the same number whatever the
			 * door; never 0 */
	pid_t pid;	/* of the process in its container's pid namespace, for F_GETLK */
	mode_t umask;
	uint64_t fsize_limit; /* RLIMIT_FSIZE; UINT64_MAX: none. Beyond it: -EFBIG (the door sends
			       * SIGXFSZ) */
	atomic_bool *cancel;  /* NULL, or becomes true when the caller went away or got a signal:
			       * a blocked call ends with -EINTR; the one who sets it calls
			       * vfs_cancel() */
	bool tenant_buffers;  /* data is in memory that the program may write at any time: nothing
			       * is kept out of it */
	char *leave;	      /* NULL, or room for WIRE_PATH_MAX bytes: see -EREMCHG below */
	struct lease_draft *lease; /* NULL, or begun: vfs_stat(), vfs_open(), vfs_access() and
				    * vfs_readlink() put into it what their answer depends on,
				    * the last one only where there is no such name */
	bool leave_second; /* out: with -EREMCHG of vfs_link() or vfs_rename(), the path that
			    * leaves is that of `new` */
};

/* What a call works on. path is relative to dir or file (a directory); an absolute or
 * empty-prefixed path is not special: the door has taken the mount's prefix off. path NULL or "" is
 * the object itself. Exactly one of dir and file is set.
 *
 * A walk that goes out of the volume (".." above its root, an absolute symlink) ends with -EREMCHG,
 * and ctx->leave has the path to go on with, absolute in the container. Instances mounted within
 * another one's tree are crossed within the walk. */
struct vtarget {
	struct vnode *dir;
	struct vfile *file;
	const char *path;
	bool nofollow; /* do not follow a symlink in the last component */
};

/* vfs_open(): the inode is a FIFO or a device and the caller may open it; the vfs keeps none of
 * these open: the door lets the program open it through the kernel face. */
#define VFS_ESPECIAL ENOTBLK

struct setattr {
	unsigned set; /* ATTR_*; ATTR_UID and ATTR_GID with host ids */
	struct attr attr;
};

/* Without instances and windows. -ENOMEM. */
int vfs_new(struct vfs **ret);
/* All doors are gone. Flushes and frees everything, instances included. NULL is fine. */
void vfs_free(struct vfs *vfs);

/* Serves ls at the container path target (absolute, normalized). Takes ls over on success. The
 * order of calls does not matter: nested targets are found by their paths; what is missing of one
 * in the outer volume is made, as a container runtime does. dev: the kernel face's st_dev, set
 * later with vfs_instance_set_dev(); attributes have it then. One container's instances share
 * `scope` (its id): nesting and -EREMCHG paths are within a scope. -EINVAL, -EEXIST (a second one
 * at target), -ENOMEM, what the source says. */
int vfs_instance_add(struct vfs *vfs, const char *scope, const char *target, struct libservice *ls,
		     struct vfs_instance **ret, struct err *err);
/* Every file and node reference of its doors is back. Syncs and frees the stack; what a door still
 * uses is kept, with a line in the log. */
void vfs_instance_remove(struct vfs_instance *instance);
void vfs_instance_set_dev(struct vfs_instance *instance, dev_t dev);
dev_t vfs_instance_dev(const struct vfs_instance *instance);
struct vnode *vfs_instance_root(struct vfs_instance *instance); /* no new reference */

/* Giving the last reference back may block; NULL is fine there. */
struct vnode *vnode_ref(struct vnode *node);
void vnode_unref(struct vnode *node);
struct vfs_instance *vnode_instance(struct vnode *node);
uint64_t vnode_ino(const struct vnode *node);
mode_t vnode_type(const struct vnode *node); /* S_IFMT bits */
/* Its last name was taken away, as far as is known here. */
bool vnode_nameless(const struct vnode *node);
/* An O_PATH descriptor of the host's inode or -EOPNOTSUPP. The caller closes it. */
int vnode_host_fd(struct vnode *node);
/* A descriptor, open for reading, of the host's file that has the inode's bytes at all times;
 * -EOPNOTSUPP, or what opening it says. The caller closes it. */
int vnode_data_fd(struct vnode *node);

struct vfile *vfile_ref(struct vfile *file);
/* The last one closes: flushes, drops flock and OFD locks. */
void vfile_unref(struct vfile *file);
static inline void cleanup_vfile(struct vfile **file)
{
	vfile_unref(*file);
}
#define CLEANUP_VFILE __attribute__((cleanup(cleanup_vfile)))
struct vnode *vfile_node(struct vfile *file); /* no new reference */
int vfile_flags(const struct vfile *file);    /* access mode, status flags, O_PATH */
/* A program closes file, though others may keep it open: what is not told yet of what became of its
 * writes, for the program to hear. Doors call it where a close has an answer, before they give the
 * file up. */
int vfile_flush(struct vfile *file);
/* A process closed one of its descriptors of this file: POSIX drops all of owner's record locks on
 * the inode (fcntl(2)). Doors call it for each close they see. */
void vfile_close_owner(struct vfile *file, uint64_t owner);
/* owner's process is gone: all its record locks in the pool. */
void vfs_owner_gone(struct vfs *vfs, uint64_t owner);
/* Wakes blocked calls so that they look at their ctx->cancel. */
void vfs_cancel(struct vfs *vfs);

/* The calls. ctx and what `at` names are the caller's throughout; attributes that are asked for
 * have the face's device. Beside what the system call's page names: -EREMCHG (see above), -EINTR
 * (cancelled), -EROFS, -ENFILE and -ENOLCK at the pool's limits, -EOPNOTSUPP where the stack
 * cannot. */

/* A new reference on *ret. For walking a path to an inode without opening it (the FUSE door, cwd).
 */
int vfs_lookup(struct vctx *ctx, const struct vtarget *at, struct vnode **ret,
	       struct attr *ret_attr);
/* open(2) with all its flags but O_CLOEXEC; *ret is a new reference. ret_attr may be NULL.
 * -VFS_ESPECIAL. */
int vfs_open(struct vctx *ctx, const struct vtarget *at, int flags, mode_t mode, struct vfile **ret,
	     struct attr *ret_attr);
int vfs_stat(struct vctx *ctx, const struct vtarget *at, struct attr *ret_attr);
int vfs_setattr(struct vctx *ctx, const struct vtarget *at, const struct setattr *set,
		struct attr *ret_attr);
/* mask R_OK|W_OK|X_OK; effective: AT_EACCESS. */
int vfs_access(struct vctx *ctx, const struct vtarget *at, int mask, bool effective);
/* Bytes, not terminated. */
ssize_t vfs_readlink(struct vctx *ctx, const struct vtarget *at, char *buf, size_t cap_bytes);
/* mkdir, mknod, symlink (content non-NULL), mkfifo: mode has the type. */
int vfs_make(struct vctx *ctx, const struct vtarget *at, mode_t mode, dev_t rdev,
	     const char *content, struct attr *ret_attr);
int vfs_link(struct vctx *ctx, const struct vtarget *old, const struct vtarget *new);
int vfs_unlink(struct vctx *ctx, const struct vtarget *at, bool directory); /* AT_REMOVEDIR */
/* flags: RENAME_*. */
int vfs_rename(struct vctx *ctx, const struct vtarget *old, const struct vtarget *new,
	       unsigned flags);
/* *ret_type: statfs(2)'s f_type, which statvfs(3) lacks. */
int vfs_statfs(struct vctx *ctx, const struct vtarget *at, struct statvfs *ret, uint64_t *ret_type);
/* As the system calls: cap_bytes 0 asks for the size. */
ssize_t vfs_getxattr(struct vctx *ctx, const struct vtarget *at, const char *name, void *value,
		     size_t cap_bytes);
int vfs_setxattr(struct vctx *ctx, const struct vtarget *at, const char *name, const void *value,
		 size_t len_bytes, int flags);
ssize_t vfs_listxattr(struct vctx *ctx, const struct vtarget *at, char *names, size_t cap_bytes);
int vfs_removexattr(struct vctx *ctx, const struct vtarget *at, const char *name);

/* Short counts as read(2) and write(2); offset may be VFS_AT_POSITION. */
ssize_t vfs_read(struct vctx *ctx, struct vfile *file, const struct iovec *iov, int niov,
		 uint64_t offset);
/* append: RWF_APPEND. An O_APPEND file appends whatever offset says. */
ssize_t vfs_write(struct vctx *ctx, struct vfile *file, const struct iovec *iov, int niov,
		  uint64_t offset, bool append);
/* The new position. whence: all of lseek(2)'s. */
int64_t vfs_seek(struct vctx *ctx, struct vfile *file, int64_t offset, int whence);
int vfs_fsync(struct vctx *ctx, struct vfile *file, bool data_only);
/* The whole stack that file is of. */
int vfs_syncfs(struct vctx *ctx, struct vfile *file);
/* mode: FALLOC_FL_*. */
int vfs_allocate(struct vctx *ctx, struct vfile *file, int mode, uint64_t offset,
		 uint64_t len_bytes);
/* getdents64(2) records into buf; *ret_next the position after the last one. "." and ".." are in.
 * 0 at the end, -EINVAL when not even one entry fits. */
ssize_t vfs_readdir(struct vctx *ctx, struct vfile *file, uint64_t position, void *buf,
		    size_t cap_bytes, uint64_t *ret_next);
/* F_SETFL; what it cannot change stays. */
int vfs_setfl(struct vctx *ctx, struct vfile *file, int flags);
/* cmd: F_GETLK, F_SETLK, F_SETLKW or F_OFD_*. lock as in fcntl(2), whence resolved inside;
 * deadlock: -EDEADLK. */
int vfs_lock(struct vctx *ctx, struct vfile *file, int cmd, struct flock *lock);
/* operation: LOCK_*, with LOCK_NB for not waiting. */
int vfs_flock(struct vctx *ctx, struct vfile *file, int operation);
/* copy_file_range(2), sendfile(2): bytes, 0 at the end of in; each offset may be VFS_AT_POSITION.
 */
ssize_t vfs_copy(struct vctx *ctx, struct vfile *in, uint64_t in_offset, struct vfile *out,
		 uint64_t out_offset, size_t len_bytes);

/* A window of file (proto/window.h): a read-only descriptor to map *ret_bytes of; the caller closes
 * it. The open file uses it until its end. -EBADF when it is not open for reading, else as
 * window_use() (windows.h). */
int vfs_window(struct vctx *ctx, struct vfile *file, int *ret_fd, uint64_t *ret_bytes);
/* Bytes that windows may hold; 0 (the default): none. */
void vfs_set_window_budget(struct vfs *vfs, uint64_t bytes);

/* The pool's leases, for doors that give them and for what else an answer depends on. */
struct leases *vfs_leases(struct vfs *vfs);
/* Doors may keep open for a while what programs have closed, so that opening it again needs no
 * request. drop is called, with no lock of the vfs held, when the last name of such a file is gone:
 * close what is so kept of node; and with NULL, for all, when descriptors are used up or somebody
 * begins to watch, who is not to hear of closes that were before. One door; before the first call.
 */
void vfs_set_drop_idle(struct vfs *vfs, void (*drop)(void *arg, struct vnode *node), void *arg);

/* The kernel face's side of coherence. The FUSE door registers one struct face per instance.
 *
 * While an inode is open in the kernel (vnode_face_open() > 0), the vfs tells the face about each
 * change that another door made. While it is open there for writing, a shared mapping may hold
 * dirty pages: the vfs reads and writes it through the face's own descriptor (io_fd). */
struct face {
	/* Drop cached pages [offset, offset+len) and attributes; len 0: attributes only; len
	 * UINT64_MAX: to the end. Never called with a vfs lock held; must not wait for the
	 * program. */
	void (*changed)(void *arg, struct vnode *node, uint64_t offset, uint64_t len_bytes);
	/* A kernel face descriptor of node that the service itself has opened O_RDWR, or -1 while
	 * there is none; it stays the face's and is good until io_done(). Opens one when needed:
	 * never called with a vfs lock held, nor with vfs_in_face. May be NULL. */
	int (*io_fd)(void *arg, struct vnode *node);
	/* Ends the use of what io_fd() returned, when that was not -1. */
	void (*io_done)(void *arg, struct vnode *node);
	/* Another door took this name of node away, or made it one of another inode. Whether or not
	 * the inode is open in the kernel, which may have the name. Never called with a vfs lock
	 * held. May be NULL. */
	void (*name_gone)(void *arg, struct vnode *dir, const char *name, struct vnode *node);
	void *arg;
};
void vfs_instance_set_face(struct vfs_instance *instance, const struct face *face);
/* Counts the kernel's opens of the inode. */
void vnode_face_open(struct vnode *node, bool writing);
void vnode_face_close(struct vnode *node, bool writing);
/* From now on, until vnode_face_apart(), what is open in the kernel reads and maps the host's file
 * (vnode_data_fd()) without a word to anybody; and, with writing, may have it mapped for writing,
 * whether open or not. There is no other data in the kernel then, and io_fd() is not asked for. */
void vnode_face_beside(struct vnode *node, bool writing);
void vnode_face_apart(struct vnode *node, bool writing);
/* A program runs from node, from begin to end: nobody may write it. -ETXTBSY when somebody has it
 * open for writing. */
int vnode_exec_begin(struct vnode *node);
void vnode_exec_end(struct vnode *node);
/* Moves the position into the kernel: from now on file's position is fd's (lseek(2)), because the
 * program also holds kernel descriptors of it. Takes fd over. The kernel's file holds a reference
 * on this one: when that is the last, vfile_unref() closes fd, and the kernel's file lives on for
 * as long as a program has a descriptor of it. */
void vfile_set_kernel_fd(struct vfile *file, int fd);
/* The kernel descriptor of this open file, or -1. Still the vfs's. */
int vfile_kernel_fd(const struct vfile *file);
/* True inside a call that comes from the kernel face: such a call must be served directly, never
 * through the kernel again. The FUSE door sets it on its threads. */
extern __thread bool vfs_in_face;

/* For danausctl. */
struct vfs_counts {
	uint64_t nodes, files, locks, bytes_cached;
};
void vfs_count(struct vfs *vfs, struct vfs_counts *ret);
/* Gives back what has not been used for a while (resting descriptors, cached inodes); called from
 * a timer. */
void vfs_trim(struct vfs *vfs);
