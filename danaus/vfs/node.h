/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the vfs share: inodes, names, open files, instances.
 *
 *   instance.c  instances, nesting, trimming     open.c   open files, shared ls_files
 *   node.c      cached inodes and attributes     io.c     data, positions, listings
 *   dentry.c    cached names                     attr.c   attributes, rights asked for
 *   perm.c      rights from cached attributes    xattr.c  extended attributes
 *   walk.c      paths                            names.c  changes of directories
 *   locks.c     record locks and flock           windows.c    pages mapped into programs
 *   text.c      programs that run
 *
 * Locks, in the order in which they are taken: names_lock() (two by address), vnode.lock, then the
 * stripes and lists of struct vfs, which are leaves. A libservice is never called with any but
 * vnode.names held, the face with none.
 *
 * Cached names and attributes are read in RCU sections; whoever wants to keep a node beyond one
 * takes a reference with vnode_tryref(). */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "danaus/base/clock.h"
#include "danaus/base/list.h"
#include "danaus/base/rcu.h"
#include "danaus/vfs/vfs.h"
#include "danaus/vfs/windows.h"

#define PATH_BYTES    4096 /* a path with its NUL */
#define LINKS_MAX     40   /* symlinks in one walk, path_resolution(7) */
#define ATTR_WORDS    (sizeof(struct attr) / sizeof(uint64_t))
#define DENTRY_CHAINS (1u << 14)
#define NODE_CHAINS   (1u << 12)
#define STRIPES	      64u
#define NAME_LOCKS    64     /* of an instance's names, where directories have none */
#define CACHE_NAMES   16384u /* cached names, also negative ones */
#define CACHE_NODES   8192u  /* inodes that only the cache holds */
#define FILES_MAX     262144u
#define LOCKS_MAX     65536u

/* Memory that readers may still look at; freed after a grace period. */
struct retired {
	struct retired *next;
	void (*free)(struct retired *retired);
};

/* An ls_file that any number of open files use. The inode's slot is one reference: it rests there
 * after the last close. */
struct vopen {
	atomic_uint refs;
	struct vfs_instance *instance;
	struct ls_file *file;
};

struct vlock; /* locks.c */

struct vnode {
	struct retired retired; /* first */
	atomic_uint refs;
	struct vfs_instance *instance;
	struct ls_node *ls;
	struct vnode *chain; /* under the stripe */
	uint64_t ino;
	mode_t type;
	_Atomic(struct vnode *) parent; /* of a directory; a reference */
	_Atomic(struct vfs_instance *) mounted;
	_Atomic(char *) link; /* a symlink's content, once read */

	/* Attributes: a sequence lock, odd while lock's holder writes. */
	atomic_uint attr_seq;
	atomic_uint attr_gen;	       /* counts our own changes, each after it was made */
	_Atomic uint64_t attr_until;   /* CLOCK_MONOTONIC ns; 0: not valid */
	_Atomic uint64_t rights_until; /* the same for mode, owner and ACL alone */
	_Atomic uint64_t attr_word[ATTR_WORDS];
	atomic_bool atime_moves; /* a read changes it */
	uint32_t lease;		 /* counter of its attributes; the next one of a directory's names
				  * and rights */
	atomic_uint files;	 /* struct vfile */

	pthread_mutex_t lock;	  /* attr_word, rd, wr, resting */
	pthread_mutex_t names;	  /* held over each change of this directory; see names_lock() */
	atomic_uint names_gen;	  /* counts our own changes of names */
	atomic_bool names_change; /* one is under way in a watched instance */

	struct vopen *rd, *wr;
	atomic_bool rest_used, no_rest;
	struct list rest; /* in vfs->resting while rd or wr is there */

	atomic_uint face_opens, face_writers;
	atomic_bool face_beside; /* the kernel reads and maps the host's file itself */
	atomic_int text;	 /* text.c */
	struct vnode_window window;
	struct vlock *locks; /* under vfs->lock_mutex */
	struct list locked;  /* in vfs->locked while there are any */
	atomic_uint nlocks;
};

struct dentry {
	struct retired retired; /* first */
	_Atomic(struct dentry *) chain;
	struct vnode *dir;  /* a reference */
	struct vnode *node; /* a reference; NULL: there is no such name */
	uint32_t hash;
	uint16_t len;
	bool hashed; /* under the stripe */
	atomic_bool used;
	_Atomic uint64_t until;
	struct list lru;
	char name[];
};

struct vfile {
	atomic_uint refs;
	atomic_int flags;
	struct vnode *node;
	struct vopen *rd, *wr;
	pthread_mutex_t position_lock;
	uint64_t position;
	atomic_int kernel_fd;
	atomic_bool has_locks; /* OFD locks or a flock */
	atomic_bool wrote;     /* since the last vfile_flush() */
	atomic_uint windows;   /* window_use()s */
};

struct vfs_instance {
	struct vfs *vfs;
	struct vfs_instance *next;
	struct libservice *ls;
	char *scope, *target;
	struct vnode *root;
	_Atomic(struct vnode *) covered; /* where it is mounted in another one's tree */
	_Atomic dev_t dev;
	uint64_t ls_dev;
	atomic_bool watched; /* somebody waits for inotify events: opens are not shared, and cached
			      * attributes are no answer, nor are names that are changing */
	bool strict_atime, no_atime;
	bool host_ro; /* not by our own choice: the libservice finds out when asked to write */
	struct face face;
	atomic_bool has_face;
	atomic_bool dying; /* no new names are cached */
	pthread_mutex_t name_lock[NAME_LOCKS];
};

struct vfs {
	pthread_mutex_t mounts; /* instances and nesting */
	struct vfs_instance *instances;

	_Atomic(struct dentry *) dentries[DENTRY_CHAINS];
	pthread_mutex_t dentry_stripe[STRIPES];
	pthread_mutex_t lru_lock;
	struct list lru;
	unsigned names, names_max; /* under lru_lock */
	unsigned nodes_max;

	struct vnode *nodes[NODE_CHAINS];
	pthread_mutex_t node_stripe[STRIPES];

	pthread_mutex_t rest_lock;
	struct list resting;
	unsigned nresting, resting_max;

	pthread_mutex_t lock_mutex; /* all record locks and flocks */
	pthread_cond_t lock_cond;
	struct list locked, waiters;
	unsigned lock_count;

	struct windows *windows;
	struct leases leases;
	void (*drop_idle)(void *arg, struct vnode *node);
	void *drop_arg;
	atomic_uint node_count, file_count;
	_Atomic(struct retired *) retired;
	atomic_uint nretired;
	/* Read when the vfs is made. */
	int protected_symlinks, protected_regular, protected_fifos;
};

static inline struct vfs *vfs_of(const struct vnode *node)
{
	return node->instance->vfs;
}

/* node.c */

/* The cached inode of ls_node, whose one reference it takes over. gen: of the vnode if it was known
 * before attr was asked for, so that attr may be cached; NULL: only a new one takes it. */
int vnode_of(struct vfs_instance *instance, struct ls_node *ls_node, const struct attr *attr,
	     const struct vnode *known, unsigned gen, uint64_t now, struct vnode **ret);
/* False when it is on its way out. */
bool vnode_tryref(struct vnode *node);
void vnode_set_parent(struct vnode *node, struct vnode *dir);
unsigned vnode_gen(struct vnode *node);
/* Caches attr, which was asked for after gen was read. */
void vnode_store(struct vnode *node, const struct attr *attr, unsigned gen, uint64_t now);
/* We changed the inode; attr (may be NULL) is what the change answered. */
void vnode_changed(struct vnode *node, const struct attr *attr, unsigned gen, uint64_t now);
/* Our change was of content only: data, entries, links to it. Its rights are what they were. */
void vnode_touched(struct vnode *node);
/* False when it is not fresh. In an RCU section or with a reference. */
bool vnode_cached(struct vnode *node, uint64_t now, struct attr *ret);
/* The same; only mode, uid, gid and has_acl count. */
bool vnode_cached_rights(struct vnode *node, uint64_t now, struct attr *ret);
int vnode_rights(struct vnode *node, uint64_t now, struct attr *ret);
/* Cached or asked for. */
int vnode_attr(struct vnode *node, uint64_t now, struct attr *ret);
void vfs_retire(struct vfs *vfs, struct retired *retired);
/* Frees what is retired when there is much of it (or all). Outside of sections, and of locks but a
 * directory's names. */
void vfs_reclaim(struct vfs *vfs, bool all);
/* Counts a change: of attributes; of the names in a directory, or of who may search it. */
static inline void lease_attr_changed(struct vnode *node)
{
	leases_changed(&vfs_of(node)->leases, node->lease);
}
static inline void lease_names_changed(struct vnode *dir)
{
	leases_changed(&vfs_of(dir)->leases, dir->lease + 1);
}
/* The answer depends on node's attributes, or on its names and rights. Before they are looked at,
 * in an RCU section or with a reference. */
void lease_on_attr(const struct vctx *ctx, struct vnode *node);
void lease_on_names(const struct vctx *ctx, struct vnode *dir);
/* The answer is that dir has no such name, and depends on nothing else that is not said yet. The
 * counter is that of dir's attributes, which a new name changes as well: what is said of dir's
 * other names stays good. */
void lease_on_absence(const struct vctx *ctx, struct vnode *dir, const char *name, size_t len);
/* For the caller's eyes: the face's device. */
void vnode_present(struct vnode *node, struct attr *attr);

/* dentry.c */

uint32_t dentry_hash(const struct vnode *dir, const char *name, size_t len);
/* In an RCU section: the entry, fresh or not, or NULL. */
struct dentry *dentry_find(struct vnode *dir, const char *name, size_t len, uint32_t hash);
/* Caches what a lookup that began at names_gen gen found; node NULL: nothing. */
void dentry_enter(struct vnode *dir, const char *name, size_t len, struct vnode *node, unsigned gen,
		  uint64_t now);
/* What is held over a change of a name by the libservice and of its entry here, so that the entry
 * is never older than the last change: dir's, or where the libservice can do with that, a lock of
 * this and some other names of the instance. A change may wait for a network, and those of a busy
 * directory need not do so in turn. */
static inline pthread_mutex_t *names_lock(struct vnode *dir, const char *name, size_t len)
{
	struct vfs_instance *instance = dir->instance;

	return instance->ls->distant
		   ? &instance->name_lock[dentry_hash(dir, name, len) % NAME_LOCKS]
		   : &dir->names;
}
/* Around the libservice's change of a name and its dentry_set() or dentry_drop(), names_lock()
 * being held. Who watches hears of the change from the host before we enter it: what he asks
 * meanwhile, the libservice answers. */
void dentry_change_begin(struct vnode *dir, const char *name, size_t len);
void dentry_change_end(struct vnode *dir);
/* We changed the name (names_lock() is held): node NULL: it is gone. */
void dentry_set(struct vnode *dir, const char *name, size_t len, struct vnode *node, uint64_t now);
/* It is not known any more what the name is. */
void dentry_drop(struct vnode *dir, const char *name, size_t len);
/* Evicts up to n entries, unused ones first; older_than: only those whose time was over before. */
void dentry_evict(struct vfs *vfs, unsigned n, uint64_t older_than);
void dentry_purge(struct vfs_instance *instance);

/* perm.c */

/* 1 yes, 0 no, -1 ask the libservice. */
int perm_decide(const struct attr *attr, const struct cred *cred, int mask);
/* -EACCES and so on. node is referenced. */
int perm_may(const struct vctx *ctx, struct vnode *node, int mask, uint64_t now);
/* The owner, or CAP_FOWNER. */
bool perm_owner(const struct cred *cred, const struct attr *attr);
/* protected_symlinks, protected_regular and protected_fifos of proc(5). */
int perm_follow(const struct vctx *ctx, struct vnode *dir, struct vnode *link, uint64_t now);
int perm_create_open(const struct vctx *ctx, struct vnode *dir, const struct attr *attr,
		     uint64_t now);
void perm_read_sysctls(struct vfs *vfs);

/* walk.c */

struct walk {
	struct vnode *node; /* a reference: the object, or of a parent walk its directory */
	/* Of a parent walk: the last component and whether slashes followed it. len 0: the path was
	 * the object itself. */
	char last[NAME_MAX + 1];
	size_t len;
	bool slash;
	bool dots; /* it is "." or ".." */
	uint64_t now;
};

void walk_done(struct walk *walk);
#define CLEANUP_WALK __attribute__((cleanup(walk_done)))
/* All the way; a reference on *ret. */
int walk_full(struct vctx *ctx, const struct vtarget *at, uint64_t now, struct vnode **ret);
/* To the last component's directory, which the caller may search. */
int walk_parent(struct vctx *ctx, const struct vtarget *at, struct walk *walk);
/* In an RCU section, cached things only; NULL when that does not get there, or (*ret_absent) there
 * is no such name. */
struct vnode *walk_cached(struct vctx *ctx, const struct vtarget *at, uint64_t now,
			  bool *ret_absent);
/* One name, mounts crossed (cross) or not; *ret NULL: there is none. */
int walk_lookup(struct vctx *ctx, struct vnode *dir, const char *name, size_t len, uint64_t now,
		bool cross, struct vnode **ret);
/* A symlink's content; it stays node's. */
int walk_link(struct vnode *node, const char **ret);
/* What a call starts at, without a new reference; whether it is what the call is about. */
struct vnode *target_node(const struct vtarget *at);
bool target_is_object(const struct vtarget *at);
/* Frees caches when r says that descriptors are used up: true: try again. */
bool vfs_make_room(struct vfs *vfs, int r);

/* open.c */

/* The last one releases the ls_file. NULL is fine. */
void vopen_put(struct vopen *open);
/* What rests with node, taken from it. forever: nothing will any more, its last name is gone. */
struct rested {
	struct vopen *rd, *wr; /* or NULL */
};
struct rested vnode_take_rest(struct vnode *node, bool forever);
void rested_put(struct rested rested);
/* Both. */
void vnode_unrest(struct vnode *node, bool forever);
/* Lets go of what rested unused since the last call, or of all that is idle. */
void vfs_unrest(struct vfs *vfs, bool all);

/* io.c */

/* After a change of the data, or (len_bytes 0) of attributes, by another door: struct face's
 * changed(). No lock of the vfs is held, as below. */
void face_changed(struct vnode *node, uint64_t offset, uint64_t len_bytes);
/* After a name of node went, or became another inode's: struct face's name_gone(). */
void face_name_lost(struct vnode *dir, const char *name, struct vnode *node);
/* Before a change of the size or of holes by another door: dirty mapped pages go to the libservice
 * first, for they are older than the change. */
void face_flush(struct vnode *node);

/* text.c */

/* Around each way of writing to a regular file that a path leads to. -ETXTBSY. */
int text_write_begin(struct vnode *node);
void text_write_end(struct vnode *node);

/* locks.c */

/* The open file's last reference goes: so do its flock and OFD locks. */
void locks_file_closed(struct vfile *file);
/* The inode leaves the cache; what a door forgot to unlock goes with it. */
void locks_node_gone(struct vnode *node);
