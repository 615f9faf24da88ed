/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the local libservice share: local.c (tree, nodes, attributes), names.c
 * (changes of directories), file.c (data and listings), map.c (writes in place),
 * xattr.c. */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "danaus/libservices/libservice.h"

#define LOCAL_PROC_NAME_MAX 16

/* One inode of the host, seen through one mount. The descriptor pins it, so the triple is unique
 * while the node lives. */
struct ls_node {
	struct ls_node *next; /* in its bucket */
	uint64_t refs;	      /* under the bucket's lock */
	uint64_t mnt, dev, ino;
	int fd;		      /* O_PATH, or its first file's */
	atomic_bool borrowed; /* a file's that is closed */
	mode_t type;	      /* S_IFMT bits */
	/* The ctime (ns) at which there was no access ACL; 0: not known. */
	_Atomic uint64_t no_acl_at;
	/* Writes: those that reach the host in several pieces or through a mapping are one to all
	 * others. */
	pthread_mutex_t write_lock;
	/* The kernel's clock before the last small write(2); 0: the next one must be one, too. */
	_Atomic uint64_t written_at;
};

struct ls_file {
	int fd;
	bool lent;	      /* its descriptor is the node's, too */
	struct ls_node *node; /* one reference */
	bool direct;	      /* O_DIRECT */
	/* Listings use the descriptor's own position; appends do under node->write_lock. */
	pthread_mutex_t lock;
	char *entries; /* getdents64(2) records not yet delivered */
	size_t entries_len, entries_at;
	uint64_t position; /* of the next entry */
	/* map.c's, under node->write_lock */
	struct local_map *map;
	uint32_t small_writes;
};

#define LOCAL_BUCKETS 1024

struct local {
	struct libservice ls;
	int root_fd; /* the detached copy of the source's mounts */
	int proc_fd; /* /proc/self/fd: reopening what an O_PATH descriptor names */
	uint64_t dev;
	atomic_bool watched; /* a program wants to hear of each write, inotify(7) */
	/* map.c's: addresses and mappings of the process that this volume's files have */
	_Atomic uint64_t map_bytes;
	atomic_uint maps;
	struct {
		pthread_mutex_t lock;
		struct ls_node *first;
	} bucket[LOCAL_BUCKETS];
};

/* A name for proc_fd's directory. */
const char *local_proc_name(int fd, char buf[LOCAL_PROC_NAME_MAX]);
/* The number that programs see for ino on node's file system. */
uint64_t local_ino(const struct local *local, const struct ls_node *node, uint64_t ino);
/* The capabilities of cred that count for this inode. */
uint64_t local_caps(const struct cred *cred, const struct ls_node *node);
/* Acts as cred on node. */
int local_assume(const struct cred *cred, const struct ls_node *node);
/* The calling thread's umask, which it shares with no other from then on. */
void local_umask(mode_t umask);

/* The node of a descriptor's inode; one reference. The descriptor stays the caller's, unless it has
 * become (*ret)->fd. */
int local_node_by(struct local *local, int fd, struct ls_node **ret, struct attr *ret_attr);
/* The same of an O_PATH descriptor, which it takes over also on failure. */
int local_node_of(struct local *local, int fd, struct ls_node **ret, struct attr *ret_attr);
int local_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node **ret, struct attr *ret_attr);
void local_forget(struct libservice *ls, struct ls_node *node, uint64_t count);
/* One more reference. */
void local_node_ref(struct local *local, struct ls_node *node);
/* Whether the caller has the only one. It may be found again meanwhile. */
bool local_node_is_last(struct local *local, struct ls_node *node);
/* Takes fd over, also on failure. The node, with a reference, is the caller's to set. -ENOMEM. */
int local_file_new(int fd, struct ls_file **ret);
void local_file_free(struct ls_file *file);

/* names.c, file.c, xattr.c: as struct libservice_ops. */

int local_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
	       const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
	       struct ls_node **ret, struct attr *ret_attr);
int local_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		 struct ls_file **ret_file, struct attr *ret_attr);
int local_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir, int flags,
		  mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
		  struct attr *ret_attr);
int local_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_node *dir, const char *name);
int local_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, bool directory);
int local_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node *newdir, const char *newname, unsigned flags);

int local_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	       struct ls_file **ret);
void local_release(struct libservice *ls, struct ls_file *file);
ssize_t local_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset);
ssize_t local_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end);
int local_fsync(struct libservice *ls, struct ls_file *file, bool data_only);
int local_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes);
int64_t local_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence);
int local_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
		  void *arg);

ssize_t local_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, void *value, size_t cap_bytes);
int local_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name, const void *value, size_t len_bytes, int flags);
ssize_t local_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			char *names, size_t cap_bytes);
int local_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      const char *name);
/* Whether an access ACL may exist on an inode with this ctime, asking the host only when it
 * changed since somebody asked. */
void local_acl_probe(struct local *local, struct ls_node *node);
