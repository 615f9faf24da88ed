/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the ceph libservice share. ceph.c owns mounting and the nodes, calls.c the
 * calls in progress and mounting anew, late.c calls that may wait for an MDS, job.c what those are
 * given, ops.c which they are, alive.c whether an MDS is heard, nudge.c what libcephfs forgets,
 * perm.c rights, node.c names and attributes, file.c open files, listing.c listings. */
#pragma once

#include <cephfs/libcephfs.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/ceph/ceph.h"
#include "danaus/libservices/libservice.h"

#define CEPH_BUCKETS   1024
#define CEPH_CALLS     1024 /* in flight at a time; more are not watched */
#define CEPH_APPENDS   256
#define CEPH_SECOND_NS 1000000000ull

/* What the last call of each kind tells about the next one on the same node. */
enum ceph_quick { QUICK_ATTR, QUICK_OPEN, QUICK_READ, QUICK_WRITE, QUICK_KINDS, QUICK_NEVER };

struct ls_node {
	uint64_t refs; /* the bucket's lock */
	struct ls_node *next;
	uint64_t ino, snap;
	mode_t type;
	pthread_mutex_t lock;
	Inode *in;		 /* of the mount number gen; lock */
	unsigned gen;		 /* lock */
	bool acl_known, has_acl; /* as of acl_ctime; lock */
	struct timespec acl_ctime;
	Fh *lock_fh; /* what all record locks go through, of lock_gen; lock */
	unsigned lock_gen;
	_Atomic uint64_t quick_ns[QUICK_KINDS]; /* when such a call last asked nobody; 0: it did */
	atomic_bool locked;			/* somebody was told that he has a lock */
	atomic_bool listed;			/* libcephfs has all names of it, probably */
	atomic_uint late;			/* calls on it that have a thread of their own */
};

#define CEPH_NOWHERE UINT64_MAX

struct ls_file {
	atomic_uint users; /* its owner, and calls that have a thread of their own */
	struct ls_node *node;
	int flags;
	pthread_mutex_t lock;
	Fh *fh; /* of the mount number gen; lock */
	struct ceph_dir_result *dir;
	unsigned gen;
	pthread_mutex_t dir_lock;		/* dir is in use */
	uint64_t position;			/* of dir; dir_lock */
	bool dotless, whole;			/* listing.c's; dir_lock */
	_Atomic(struct ceph_listing *) listing; /* whose rest the next request goes on with */
	atomic_bool dirty;			/* written and not synced */
	atomic_int lost; /* -errno of a write that was reported done; told once */
	atomic_bool no_privileges;
};

struct ceph_nudge {
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ending, asking;		/* lock */
	uint64_t nudged_ns[CEPH_CALLS]; /* the thread's */
};

/* A connection to the cluster. */
struct ceph_client {
	struct ceph_mount_info *mount;
	unsigned gen;
	atomic_uint refs; /* the libservice's, and its calls': the last one ends it */
	/* By inode: finding the end and writing there is one step. A call that does not come back
	 * keeps its client's. */
	pthread_mutex_t append_lock[CEPH_APPENDS];
};

struct ceph {
	struct libservice base;
	char *conf, *keyring, *id, *fs, *dir, *session;
	uint64_t cache_bytes;
	unsigned timeout_s;
	UserPerm *root_perms;

	pthread_rwlock_t client_lock; /* which one client is */
	struct ceph_client *client;
	pthread_mutex_t recover_lock;
	uint64_t recover_after_ns; /* recover_lock: no attempt before */

	struct ls_node *root;
	struct {
		pthread_mutex_t lock;
		struct ls_node *first;
	} bucket[CEPH_BUCKETS];

	pthread_t watch;
	pthread_mutex_t watch_lock;
	pthread_cond_t watch_end;
	bool watching, ending; /* watch_lock */
	atomic_bool stalled;   /* by one that has no thread of its own */
	/* When each began; 0: free; odd: on a thread for calls. */
	_Atomic uint64_t calls[CEPH_CALLS];
	/* The inode whose data it reads or writes; 0: none. Looked at by nudge. */
	_Atomic uint64_t data_of[CEPH_CALLS];
	struct ceph_nudge nudge;
	atomic_bool called; /* since the watch last looked */

	struct ceph_late *late;
	_Atomic uint64_t heard_ns; /* when client last heard of an MDS */
	_Atomic uint64_t mds_ns;   /* what an MDS takes for a change, lately */
};

static inline struct ceph *ceph_of(struct libservice *ls)
{
	return (struct ceph *)ls;
}

/* A call into libcephfs: for (begin; ...; again while cephls_leave()). The client stays what it is
 * in between, also where another one has taken its place meanwhile. */
struct ceph_call {
	struct ceph *fs;
	struct ceph_client *client;
	struct ceph_mount_info *mount; /* client's, */
	unsigned gen;		       /* and this too */
	unsigned slot, tries;
};
/* -EIO: one has waited for too long. */
int cephls_enter(struct ceph *fs, struct ceph_call *call);
/* True: the client is a new one, do it again. */
bool cephls_leave(struct ceph *fs, struct ceph_call *call, int64_t r);
/* The call is about to read or write node's data. */
static inline void cephls_data(struct ceph *fs, const struct ceph_call *call,
			       const struct ls_node *node)
{
	if (call->slot < CEPH_CALLS)
		atomic_store_explicit(&fs->data_of[call->slot], node->ino, memory_order_relaxed);
}

int cephls_nudge_start(struct ceph *fs);
/* False: a call of its own has not come back within the timeout, so that fs has to stay. */
bool cephls_nudge_end(struct ceph *fs);

/* For what does not wait, also when others do. */
struct ceph_client *cephls_client(struct ceph *fs);
void cephls_client_unref(struct ceph_client *client);
static inline pthread_mutex_t *cephls_append_lock(struct ceph_call *at, struct ls_node *node)
{
	return &at->client->append_lock[node->ino % CEPH_APPENDS];
}
/* Looks after calls in progress, until it is told to end. */
int cephls_watch_start(struct ceph *fs);
void cephls_watch_end(struct ceph *fs);
/* Makes a client of fs; without reclaim, the session that fs had before is left alone. */
int cephls_mount(struct ceph *fs, bool reclaim, struct ceph_client **ret, struct err *err);

/* late.c */
struct ceph_ask;
/* How to do one operation. On a thread of its own unless what it asked last time came from memory.
 */
struct ceph_way {
	int64_t (*run)(struct libservice *ls, struct ceph_ask *ask);
	enum ceph_quick quick;
	bool asks;  /* an MDS, whenever it succeeds */
	bool syncs; /* takes as long as there is to write back */
	bool out;   /* iov is for the answer, of as many bytes as run() returns */
	bool locks; /* what type says */
};

/* What is asked, and the answer. */
struct ceph_ask {
	const struct ceph_way *way;
	const struct cred *cred;
	struct ls_node *node, *node2; /* node or file is there */
	struct ls_file *file;
	const char *name, *name2;
	int flags;
	mode_t mode, umask;
	dev_t rdev;
	unsigned set;
	uint64_t offset, len_bytes, owner;
	short type;
	bool flag;
	const struct iovec *iov;
	int niov;

	struct ls_node *made; /* the asker's */
	struct ls_file *opened;
	struct attr attr; /* also what setattr sets */
	uint64_t value;
};

int cephls_late_init(struct ceph *fs);
/* False: there are calls that have not come back, and fs stays. */
bool cephls_late_done(struct ceph *fs);
/* Does it. -EIO after fs->timeout_s without an answer: what is done for it then is done for nobody,
 * and undone where it would stay (a file open, a lock held). */
int64_t cephls_ask(struct ceph *fs, struct ceph_ask *ask);
/* Whether this thread's call is one that nobody waits for any more. */
bool cephls_is_left(void);
/* Whether this thread is one of those for calls. */
bool cephls_is_late(void);
/* Less than any MDS takes. */
uint64_t cephls_quick_ns(struct ceph *fs);
/* The time that heard_ns is in. */
uint64_t cephls_now_ns(void);
/* An MDS answered what was asked at at_ns. */
static inline void cephls_heard(struct ceph *fs, uint64_t at_ns)
{
	if (at_ns > atomic_load_explicit(&fs->heard_ns, memory_order_relaxed))
		atomic_store_explicit(&fs->heard_ns, at_ns, memory_order_relaxed);
}
/* Calls that nobody waits for any more, and that may come back. */
unsigned cephls_left(struct ceph *fs);
/* Whether ask would overtake one of those: it is about the same, or no MDS is heard of. NULL:
 * whether everything would. */
bool cephls_is_refused(struct ceph *fs, const struct ceph_ask *ask);
/* Whether an MDS answered lately what was asked after since_ns: a call of then waits for something
 * else. */
bool cephls_is_heard(struct ceph *fs, uint64_t since_ns);
/* Each second, on the watch's thread: asks the MDS for a sign of life while there are calls, at
 * once where one of then waits (0: none), and has a client that does not get one replaced. */
void cephls_late_tick(struct ceph *fs, bool calls, uint64_t waits_since_ns);
/* calls.c: another client instead of gen. */
int cephls_recover(struct ceph *fs, unsigned gen);
extern const struct libservice_ops cephls_ops; /* ops.c */
void cephls_op_free(struct libservice *ls);
int cephls_op_root(struct libservice *ls, struct ls_node **ret, struct attr *ret_attr);
int cephls_op_syncfs(struct libservice *ls);
void cephls_op_forget(struct libservice *ls, struct ls_node *node, uint64_t count);

/* Within a call. */
int cephls_inode(struct ceph_call *at, struct ls_node *node, Inode **ret);
/* The node of in, whose reference is consumed. */
int cephls_node_of(struct ceph_call *at, Inode *in, const struct ceph_statx *stx,
		   struct ls_node **ret);
void cephls_node_ref(struct ceph *fs, struct ls_node *node); /* one more reference */
/* The node of the inode number (no snapshot's) with one more reference, or NULL. */
struct ls_node *cephls_node_find(struct ceph *fs, uint64_t ino);
void cephls_attr(struct ceph_call *at, struct ls_node *node, const struct ceph_statx *stx,
		 struct attr *ret);
int cephls_stat(struct ceph_call *at, struct ls_node *node, struct ceph_statx *ret);
/* Only what rights depend on: type, mode, owner, group, and which inode. The MDS is not asked for
 * that after each change of a directory, as it is for the rest. */
int cephls_rights(struct ceph_call *at, struct ls_node *node, struct ceph_statx *ret);

/* Identities. NULL: out of memory. Free when not fs->root_perms. */
UserPerm *cephls_perms_of(const struct cred *cred);
/* For what changes an inode of (uid, gid): the caller's own, or root's where it is by its
 * capabilities that it may. */
UserPerm *cephls_perms_for(struct ceph *fs, const struct cred *cred, uid_t uid, gid_t gid);
void cephls_perms_done(struct ceph *fs, UserPerm *perms);

/* The rights of *_may*() are those of cephls_rights(). Within a call.
 *
 * inode_permission() of fs/namei.c. */
int cephls_may(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
	       const struct ceph_statx *stx, int mask);
bool cephls_owns(const struct cred *cred, const struct ceph_statx *stx, uint64_t cap);
int cephls_may_link(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		    const struct ceph_statx *stx);
/* setattr_prepare() of fs/attr.c; may also clear bits of *mode, as it does. */
int cephls_may_set(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		   const struct ceph_statx *stx, unsigned set, const struct attr *attr, bool file,
		   mode_t *mode);
/* Of a file that is written to, cut or given away. */
void cephls_drop_capability(struct ceph_call *at, Inode *in);
int cephls_may_xattr(struct ceph_call *at, const struct cred *cred, struct ls_node *node,
		     const char *name, bool write);

#define CEPH_WANT   CEPH_STATX_ALL_STATS
#define CEPH_RIGHTS (CEPH_STATX_MODE | CEPH_STATX_UID | CEPH_STATX_GID | CEPH_STATX_INO)
extern __thread mode_t cephls_call_umask;

/* node.c */
int cephls_op_lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node **ret, struct attr *ret_attr);
int cephls_op_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		   const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		   struct ls_node **ret, struct attr *ret_attr);
int cephls_op_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   struct ls_node *dir, const char *name);
int cephls_op_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, bool directory);
int cephls_op_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, struct ls_node *newdir, const char *newname, unsigned flags);
int cephls_op_getattr(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		      struct attr *ret);
int cephls_op_setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      struct ls_file *file, unsigned set, const struct attr *attr,
		      struct attr *ret);
int cephls_op_access(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		     int mask);
ssize_t cephls_op_readlink(struct libservice *ls, struct ls_node *node, char *buf,
			   size_t cap_bytes);
ssize_t cephls_op_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			   const char *name, void *value, size_t cap_bytes);
int cephls_op_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, const void *value, size_t len_bytes, int flags);
ssize_t cephls_op_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			    char *names, size_t cap_bytes);
int cephls_op_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			  const char *name);
int cephls_op_statfs(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		     uint64_t *ret_type);

/* file.c */
int cephls_op_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		     const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		     struct ls_file **ret_file, struct attr *ret_attr);
int cephls_op_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
		   struct ls_file **ret);
void cephls_op_release(struct libservice *ls, struct ls_file *file);
ssize_t cephls_op_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
		       int niov, uint64_t offset);
ssize_t cephls_op_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			int niov, uint64_t offset, bool append, uint64_t *ret_end);
int cephls_op_flush(struct libservice *ls, struct ls_file *file);
int cephls_op_fsync(struct libservice *ls, struct ls_file *file, bool data_only);
int cephls_op_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		       uint64_t len_bytes);
int64_t cephls_op_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence);
/* Opens it anew where its client is gone. */
int cephls_file_open(struct ceph_call *at, struct ls_file *file);
/* One user less; the last one closes it. */
void cephls_file_unuse(struct ceph *fs, struct ls_file *file);
int cephls_op_lock(struct libservice *ls, struct ls_node *node, uint64_t owner, bool whole,
		   short type, uint64_t start, uint64_t len_bytes);

/* listing.c */
int cephls_op_readdir(struct libservice *ls, struct ls_file *file, uint64_t position,
		      ls_fill_fn fill, void *arg);
