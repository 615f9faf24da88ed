/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the union share. union.c owns nodes and lookup, file.c open files and
 * attributes, copy.c copy-up and the work directory, dir.c changes of names,
 * readdir.c listings.
 *
 * Locks, in this order: tree_lock (whoever locks two directories), a node's copy_lock, directories'
 * dir_lock, names_lock, table_lock. Never two copy_locks. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/libservice.h"
#include "danaus/libservices/union/union.h"

#define UPPER 0 /* the writable branch's number */

#define OVERLAY_PREFIX "trusted.overlay."
#define OVERLAY_OPAQUE OVERLAY_PREFIX "opaque"
#define ACL_ACCESS     "system.posix_acl_access"
#define ACL_DEFAULT    "system.posix_acl_default"

struct lower {
	unsigned branch;
	struct ls_node *node;
};

/* One inode of the union. The lower nodes never change; upper appears at copy-up and stays. */
struct unode {
	uint64_t refs;	    /* table_lock */
	struct unode *next; /* in its bucket; table_lock */
	uint64_t ino;
	mode_t type;
	/* Where it was found. Of use for directories and for what is not copied up yet, whose
	 * place is the only one. names_lock. The parent is referenced. */
	struct unode *parent;
	char *name;
	atomic_bool deleted;	   /* its place is gone: set under the parent's dir_lock */
	atomic_bool opaque;	   /* the lower nodes count no more: it was emptied */
	pthread_mutex_t copy_lock; /* one copy-up at a time */
	pthread_rwlock_t dir_lock; /* the names of a directory, all branches together */
	_Atomic(struct ls_node *) upper;
	unsigned nlower;
	struct lower lower[];
};

struct origin {
	struct origin *next;
	uint64_t dev, upper_ino, ino;
};

#define UNION_BUCKETS  4096
#define UNION_DEVS_MAX 127

struct union_fs {
	struct libservice base;
	struct cred *service; /* the service's own rights */
	struct unode *root;
	bool writable; /* branch[UPPER] takes the changes; else all branches are lower ones */
	uint64_t hash_key;

	pthread_mutex_t table_lock;
	struct unode *nodes[UNION_BUCKETS];
	struct origin *origins[UNION_BUCKETS]; /* copied up: (upper dev, ino) -> ino from before */
	unsigned ndev;
	struct {
		unsigned branch;
		uint64_t dev;
	} devs[UNION_DEVS_MAX];

	pthread_mutex_t tree_lock, names_lock;
	struct ls_node *work; /* the work directory; NULL when nothing is writable */
	atomic_ulong work_seq;
	atomic_bool no_exchange, no_whiteout, no_tmpfile; /* the upper branch cannot: learned */
	int lock_fd;					  /* keeps the upper branch ours */

	unsigned nbranch;
	struct libservice *branch[];
};

/* What all branches say about one name. Holds a reference on each node. */
struct found {
	bool whiteout; /* in the upper branch */
	struct ls_node *upper;
	unsigned nlower;
	struct lower lower[UNION_BRANCHES_MAX];
	struct attr attr; /* of the topmost */
};

static inline struct union_fs *union_of(struct libservice *ls)
{
	return (struct union_fs *)ls;
}

static inline struct unode *unode_of(struct ls_node *node)
{
	return (struct unode *)node;
}

static inline struct libservice *upper_ls(struct union_fs *fs)
{
	return fs->branch[UPPER];
}

/* The branch and node whose attributes are the union's. */
struct lower union_top(struct unode *n);
static inline unsigned union_nlower(struct unode *n)
{
	return atomic_load(&n->opaque) ? 0 : n->nlower;
}

/* A merged or lower directory does not move (overlayfs without redirect_dir). */
static inline bool union_pure_upper(struct unode *n)
{
	return atomic_load(&n->upper) && !union_nlower(n);
}

/* union.c: nodes and lookup. Within a call of the union's; errors are the branches' own, -ENOMEM.
 */

/* A character device 0/0. */
bool union_is_whiteout(const struct attr *attr);
/* -EPERM for the work directory's name in the root, else 0. */
int union_check_name(struct union_fs *fs, struct unode *dir, const char *name);
/* Asks all branches for name: with cred's rights on the topmost directory, which are the union's,
 * with the service's below. *ret is given back with union_found_done(), or consumed. -ENOENT leaves
 * ret->whiteout valid, -EIO: redirect_dir or metacopy. dir's dir_lock is held. */
int union_find(struct union_fs *fs, const struct cred *cred, struct unode *dir, const char *name,
	       struct found *ret);
void union_found_done(struct union_fs *fs, struct found *found);
/* 1 when a branch below the upper one shows the name, 0 when none does. */
int union_lower_positive(struct union_fs *fs, struct unode *dir, const char *name);

/* The node of found (consumed, also on failure), with one reference; *ret_attr are the union's. dir
 * NULL: the root. */
int union_node_get(struct union_fs *fs, struct unode *dir, const char *name, struct found *found,
		   struct unode **ret, struct attr *ret_attr);
/* The same of what the upper branch has just made; upper is consumed, attr in and out. */
int union_node_made(struct union_fs *fs, struct unode *dir, const char *name, struct ls_node *upper,
		    struct attr *attr, struct unode **ret);
void union_node_ref(struct union_fs *fs, struct unode *n);
/* Gives count references back; parents that only children held go as well. */
void union_node_unref(struct union_fs *fs, struct unode *n, uint64_t count);
/* The union's inode number of a branch's inode (dev, ino). */
uint64_t union_entry_ino(struct union_fs *fs, unsigned branch, uint64_t dev, uint64_t ino);
/* From now on the upper branch's inode bears ino, the number of what it is a copy of. -ENOMEM. */
int union_origin_put(struct union_fs *fs, const struct attr *upper, uint64_t ino);
/* It is gone, or it is new: it bears its own. */
void union_origin_drop(struct union_fs *fs, const struct attr *upper);

/* copy.c: the work directory, in which the service acts with its own rights. */

/* Opens or makes it, carries out what a killed service intended, and empties it; with the root's
 * node there and before the first call. An error has err's text. */
int union_work_start(struct union_fs *fs, struct err *err);
/* After the last call: removes it. */
void union_work_stop(struct union_fs *fs);
#define UNION_TEMP_LEN 32
/* A name in it that nobody had. */
void union_temp_name(struct union_fs *fs, char name[UNION_TEMP_LEN]);
/* Removes a name from it, with what is in it; what stays is in the log. */
void union_work_purge(struct union_fs *fs, const char *name);
/* In the upper branch's dir, where there is no such name. -EEXIST. */
int union_whiteout_make(struct union_fs *fs, struct ls_node *dir, const char *name);
/* Until temp is removed again, a start after a crash puts a whiteout at dir/name if nothing is
 * there. */
int union_intent(struct union_fs *fs, struct unode *dir, const char *name,
		 char temp[UNION_TEMP_LEN]);
/* A directory in the work directory that gives what is made in it the owner, mode and ACL that
 * dir would give. */
int union_work_twin(struct union_fs *fs, struct unode *dir, char temp[UNION_TEMP_LEN],
		    struct ls_node **ret);
/* After it n->upper is set, and its parents'. Takes copy_locks and dir_locks: none is held. -EROFS
 * without a writable branch. */
int union_copy_up(struct union_fs *fs, struct unode *n);

/* file.c */

/* Attributes of the topmost branch's node, with the union's number; the rights on it, or, where its
 * own mount is read-only and the union is not, what its mode says. */
int union_getattr_node(struct union_fs *fs, struct unode *n, struct attr *ret);
int union_access_node(struct union_fs *fs, const struct cred *cred, struct unode *n, int mask);

/* As struct libservice_ops. */
int union_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		  struct attr *ret);
int union_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		  struct ls_file *file, unsigned set, const struct attr *attr, struct attr *ret);
int union_access(struct libservice *ls, const struct cred *cred, struct ls_node *node, int mask);
ssize_t union_readlink(struct libservice *ls, struct ls_node *node, char *buf, size_t cap_bytes);
int union_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	       struct ls_file **ret);
void union_release(struct libservice *ls, struct ls_file *file);
ssize_t union_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset);
ssize_t union_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end);
int union_flush(struct libservice *ls, struct ls_file *file);
int union_fsync(struct libservice *ls, struct ls_file *file, bool data_only);
int union_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes);
int64_t union_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence);
ssize_t union_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, void *value, size_t cap_bytes);
int union_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name, const void *value, size_t len_bytes, int flags);
ssize_t union_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			char *names, size_t cap_bytes);
int union_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      const char *name);
int union_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		 uint64_t *ret_type);
int union_syncfs(struct libservice *ls);
int union_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole, short type,
	       uint64_t start, uint64_t len_bytes);
int union_host_fd(struct libservice *ls, struct ls_node *node);
/* The open file of what the upper branch has created and opened (consumed). */
int union_file_made(struct union_fs *fs, struct unode *n, int flags, struct ls_file *upper,
		    struct ls_file **ret);

/* readdir.c */
struct union_list; /* a merged directory, as it was when it was read */
struct ufile {
	struct unode *node;
	int flags;
	unsigned lower_branch;
	/* Only one branch has the directory: positions are its own. list_lock. */
	enum { PASS_UPPER = 1, PASS_LOWER } passing;
	struct ls_file *lower; /* opened before there was an upper node, or NULL */
	_Atomic(struct ls_file *) upper;
	pthread_mutex_t list_lock;
	struct union_list *list; /* list_lock */
};
/* The writable branch's file, opened now if the copy-up came after the open. *ret NULL: there is
 * none. */
int union_upper_file(struct union_fs *fs, struct ufile *f, struct ls_file **ret);
void union_list_free(struct union_list *list);
int union_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
		  void *arg);
/* 0 when the directory shows no entries, else -ENOTEMPTY; *ret_marks: the upper one holds
 * whiteouts. Its dir_lock is held. */
int union_dir_empty(struct union_fs *fs, struct unode *dir, bool *ret_marks);
/* Makes the upper directory of one that shows no entries really empty and opaque, so that it can be
 * removed or replaced. Its dir_lock is held for writing. */
int union_dir_clear(struct union_fs *fs, struct unode *dir);

/* dir.c */
int union_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
	       const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
	       struct ls_node **ret, struct attr *ret_attr);
int union_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		 struct ls_file **ret_file, struct attr *ret_attr);
int union_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir, int flags,
		  mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
		  struct attr *ret_attr);
int union_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_node *dir, const char *name);
int union_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, bool directory);
int union_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node *newdir, const char *newname, unsigned flags);
