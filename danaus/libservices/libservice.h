/* SPDX-License-Identifier: Apache-2.0 */
/* A libservice: one stackable file-system layer. `local` serves a host directory, `ceph` a CephFS
 * directory, `union` and `cache` stack on others, `fault` fails chosen operations in tests.
 *
 * A libservice is a const vtable and a struct that embeds struct libservice first. It knows nothing
 * of doors, descriptors, containers or paths: it is asked for one name in one directory at a time
 * by the vfs above it, which does the walking, caching, offsets, append and locks. A layer that
 * stacks holds its lower libservices and calls them explicitly (ls_*()).
 *
 * Objects: a node is the libservice's own inode object, one per (device, inode number) while
 * anybody holds a reference, made by root/lookup/make/create/link..., given back with forget. A
 * file is an open file of a node, made by open/create/tmpfile, given back with release; it carries
 * no position, and keeps its node: the two are given back in any order.
 *
 * Rights: operations that take a cred act with it: the libservice answers EACCES or EPERM exactly
 * as the host's kernel would on a bind mount. The others were decided when the object was made.
 *
 * Threads: any operation from any worker thread, several at a time on one object. An operation may
 * block; it never calls back into the vfs.
 *
 * Errors: 0 (or a count where said) or a negative errno. An absent operation is -EOPNOTSUPP,
 * decided in libservice.c only. Source: POSIX.1-2017 and the Linux man page of the system call of
 * that name. */
#pragma once

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "danaus/base/err.h"
#include "danaus/libservices/cred.h"

/* Attributes of an inode, with host ids. */
struct attr {
	uint64_t dev; /* distinguishes file systems below one libservice (submounts, snapshots) */
	uint64_t ino; /* stable for the inode's life */
	uint64_t size, blocks; /* bytes; 512-byte blocks */
	mode_t mode;
	uint32_t nlink;
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	uint32_t blksize;
	bool has_acl; /* an access ACL beyond the mode may exist: mode bits alone must not grant or
		       * refuse, ask access() */
	bool append_only; /* chattr(1), a */
	struct timespec atime, mtime, ctime, btime;
	/* Another one than before: what was read of the inode since may be older than that, because
	 * a layer below had kept it for too long. 0 where none keeps data. */
	uint64_t data_epoch;
};

/* setattr: which fields count. None: chown(2) that gives the inode to nobody else, which takes its
 * set-id bits away as any chown(2) does and is refused (-EPERM) to those who may not do that. */
#define ATTR_MODE  1u
#define ATTR_UID   2u
#define ATTR_GID   4u
#define ATTR_SIZE  8u
#define ATTR_ATIME 16u /* tv_nsec may be UTIME_NOW */
#define ATTR_MTIME 32u

struct ls_node; /* each libservice's own */
struct ls_file;
struct libservice;

/* readdir's sink: false when there is no more room (the entry is not consumed). next is the
 * position that continues after this entry. */
typedef bool (*ls_fill_fn)(void *arg, const char *name, uint64_t ino, unsigned char d_type,
			   uint64_t next);

struct libservice_ops {
	const char *name;

	void (*free)(struct libservice *ls); /* after every node and file is back */

	/* Each makes one reference on *ret. */
	int (*root)(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr);
	int (*lookup)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, struct ls_node **ret, struct attr *ret_attr);
	/* mkdir, mknod, mkfifo, symlink: mode carries the type and is as the program gave it. Here
	 * and in create and tmpfile the libservice applies umask as the kernel does: not where the
	 * directory has a default ACL. */
	int (*make)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		    const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		    struct ls_node **ret, struct attr *ret_attr);
	/* O_CREAT|O_EXCL of a regular file. flags: O_ACCMODE bits; the file is open with them even
	 * where mode denies it. */
	int (*create)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		      struct ls_file **ret_file, struct attr *ret_attr);
	/* O_TMPFILE. flags: O_ACCMODE, and O_EXCL: it may never be linked. */
	int (*tmpfile)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		       int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		       struct ls_file **ret_file, struct attr *ret_attr);
	int (*link)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		    struct ls_node *dir, const char *name);
	int (*unlink)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, bool directory);
	int (*rename)(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, struct ls_node *newdir, const char *newname,
		      unsigned flags);
	/* Gives back count references. */
	void (*forget)(struct libservice *ls, struct ls_node *node, uint64_t count);

	/* file may be NULL; when it is not, it is of this node. */
	int (*getattr)(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		       struct attr *ret_attr);
	int (*setattr)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       struct ls_file *file, unsigned set, const struct attr *attr,
		       struct attr *ret_attr);
	/* The authority on rights: R_OK, W_OK, X_OK with cred's fs ids and caps. */
	int (*access)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      int mask);
	/* Bytes, not terminated. */
	ssize_t (*readlink)(struct libservice *ls, struct ls_node *node, char *buf,
			    size_t cap_bytes);

	/* flags: O_ACCMODE, O_DIRECT, O_NOATIME; a directory is opened O_RDONLY. No O_CREAT,
	 * O_TRUNC: the vfs does those, and O_APPEND, which comes only after -EPERM without it: a
	 * file may be there for appending only (chattr(1), a). */
	int (*open)(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
		    struct ls_file **ret);
	void (*release)(struct libservice *ls, struct ls_file *file);
	/* Optional: one more program opens what this open file, which several share, is of. What
	 * the libservice has promised to look at when a file is opened, it looks at now. */
	void (*reopened)(struct libservice *ls, struct ls_file *file);
	/* iovecs, because a door's memory need not be in one piece; short counts as read(2). */
	ssize_t (*read)(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			int niov, uint64_t offset);
	/* append: write at the end whatever offset says, in one step among all writes through this
	 * libservice; against others where the storage can; *ret_end is the position after the last
	 * byte written. */
	ssize_t (*write)(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			 int niov, uint64_t offset, bool append, uint64_t *ret_end);
	/* Optional: a program that wrote through this file, which several may share, closes it.
	 * What became of its writes that is not told yet is told now, once (close(2)): it need not
	 * wait for what is still under way. The file stays open until release. */
	int (*flush)(struct libservice *ls, struct ls_file *file);
	int (*fsync)(struct libservice *ls, struct ls_file *file, bool data_only);
	int (*allocate)(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
			uint64_t len_bytes);
	/* SEEK_DATA and SEEK_HOLE only. */
	int64_t (*seek)(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence);
	/* "." and ".." are among the entries. position 0 is the beginning and sees the directory as
	 * it is now; any other is a `next` that an earlier call gave. 0 at the end and when fill
	 * stopped it. */
	int (*readdir)(struct libservice *ls, struct ls_file *file, uint64_t position,
		       ls_fill_fn fill, void *arg);

	ssize_t (*getxattr)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			    const char *name, void *value, size_t cap_bytes);
	int (*setxattr)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			const char *name, const void *value, size_t len_bytes, int flags);
	ssize_t (*listxattr)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			     char *names, size_t cap_bytes);
	int (*removexattr)(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			   const char *name);

	int (*statfs)(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		      uint64_t *ret_type);
	int (*syncfs)(struct libservice *ls);

	/* Optional: locks that hold beyond this host. They are the node's, whatever file is or was
	 * open. owner is an opaque number per lock owner; the vfs has already granted the lock
	 * among its own. type F_RDLCK/F_WRLCK/F_UNLCK, len 0 to the end; whole: flock(2) rather
	 * than fcntl(2). -EAGAIN when another host holds it. */
	int (*lock)(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		    short type, uint64_t start, uint64_t len_bytes);

	/* Optional: an O_PATH descriptor of the host's inode, for inotify; the caller closes it. */
	int (*host_fd)(struct libservice *ls, struct ls_node *node);
	/* Optional: a descriptor, open for reading, of the host's file whose bytes are this
	 * inode's at all times, whoever writes them; the caller closes it. */
	int (*data_fd)(struct libservice *ls, struct ls_node *node);
};

struct libservice {
	const struct libservice_ops *ops;
	bool ro;	       /* every change is -EROFS (decided in libservice.c) */
	atomic_bool cacheable; /* the vfs may keep file data for VFS_CACHE_NS although it may change
				* from outside of the pool meanwhile. Set by constructors whose
				* storage is this host's; not where the storage itself keeps caches
				* coherent between hosts. May become false at any time */
	bool remote;  /* cacheable, and not this host's: what the vfs keeps is compared at each open
		       * and shared lock, too, and asking takes as long as a network does */
	bool distant; /* a network away, where each open costs, and ordering changes of names
		       * itself: those of different names of one directory may be asked for at once.
		       * Not with host_fd */
};

/* Calls that decide on absent operations and on ro, one per entry of the table, same arguments
 * without ret changes: ls_lookup(ls, cred, dir, name, &node, &attr) and so on. A layer above calls
 * these, never ops-> itself. */
void ls_free(struct libservice *ls);
/* For libservices: -EINVAL, -ENAMETOOLONG for what is not one plain name. */
int ls_check_name(const char *name);
int ls_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr);
int ls_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      struct ls_node **ret, struct attr *ret_attr);
int ls_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	    mode_t mode, mode_t umask, dev_t rdev, const char *target, struct ls_node **ret,
	    struct attr *ret_attr);
int ls_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      int flags, mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
	      struct attr *ret_attr);
int ls_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir, int flags,
	       mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
	       struct attr *ret_attr);
int ls_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	    struct ls_node *dir, const char *name);
int ls_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      bool directory);
int ls_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir, const char *name,
	      struct ls_node *newdir, const char *newname, unsigned flags);
void ls_forget(struct libservice *ls, struct ls_node *node, uint64_t count);
int ls_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
	       struct attr *ret_attr);
int ls_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_file *file, unsigned set, const struct attr *attr, struct attr *ret_attr);
int ls_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask);
ssize_t ls_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes);
int ls_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	    struct ls_file **ret);
void ls_release(struct libservice *ls, struct ls_file *file);
void ls_reopened(struct libservice *ls, struct ls_file *file);
ssize_t ls_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		uint64_t offset);
ssize_t ls_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		 uint64_t offset, bool append, uint64_t *ret_end);
int ls_flush(struct libservice *ls, struct ls_file *file); /* absent: 0 */
int ls_fsync(struct libservice *ls, struct ls_file *file, bool data_only);
int ls_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		uint64_t len_bytes);
int64_t ls_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence);
int ls_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
	       void *arg);
ssize_t ls_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		    const char *name, void *value, size_t cap_bytes);
int ls_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		const char *name, const void *value, size_t len_bytes, int flags);
ssize_t ls_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		     char *names, size_t cap_bytes);
int ls_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name);
int ls_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret, uint64_t *ret_type);
int ls_syncfs(struct libservice *ls);
int ls_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole, short type,
	    uint64_t start, uint64_t len_bytes); /* absent: 0, the vfs's own grant suffices */
int ls_host_fd(struct libservice *ls, struct ls_node *node);
int ls_data_fd(struct libservice *ls, struct ls_node *node);

/* What a stack may use, from the administrator's configuration and the container's annotations. */
struct stack_limits {
	uint64_t cache_bytes;	    /* of a store of its own, and of each client's own cache */
	struct cache_store *caches; /* the pool's (cache.h); NULL: each cache has one of its own */
	const char *ceph_conf, *ceph_keyring, *ceph_id; /* NULL where not granted */
	unsigned timeout_s;
	/* Names the container's mount, the same after a restart of the service and only then: what
	 * a dead service's session held is given up at once. NULL: after the session's timeout. */
	const char *session;
};

/* Builds a stack from its source (danaus/proto/source.h). On a mistake, err names the position in
 * spec. The result is freed with ls_free(), lower layers included. limits may be NULL: nothing
 * granted. */
int stack_open(const char *spec, const struct stack_limits *limits, struct libservice **ret,
	       struct err *err);

/* A host directory. */
int local_new(const char *dir, struct libservice **ret, struct err *err);
