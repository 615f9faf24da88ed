/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the kernel face: what its modules share.
 *
 *   face.c        the mount, the session, the threads
 *   face_wire.c   what libfuse does not know: INIT's newer flags, FUSE_TMPFILE, FUSE_STATX
 *   face_node.c   the kernel's inode numbers -> vnodes
 *   face_trim.c   asks the kernel to forget inodes
 *   face_gone.c   names that another door took away
 *   face_call.c   who asks
 *   face_names.c  operations on names and attributes
 *   face_files.c  operations on open files
 *   face_locks.c  record and flock locks
 *   face_beside.c files that the kernel reads and maps by itself
 *   face_open.c   descriptors that the service opens through its own mount; coherence
 *
 * Rights: the mount has default_permissions and POSIX ACLs, so the kernel decides first, with the
 * caller's own credentials in its own user namespace, exactly as on a bind mount; the service
 * checks again with the identity it knows (struct face_call). An identity kept from before the
 * process changed it can therefore only refuse too much, and a refusal reads it anew before it
 * stands. Walking (LOOKUP) and attributes (GETATTR) are answered as the service, because the kernel
 * has decided on the search permission, and a LOOKUP that fails detaches what is mounted there. */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>

#include "danaus/fuse/face.h"
#include "danaus/pool/stats.h"

#define FACE_IO_MAX	 (1u << 20) /* bytes of one read or write */
#define FACE_THREADS_MAX 256
#define FACE_NODES_LIMIT 8192u /* inodes that the kernel may remember without using them */
#define FACE_WAITERS_MAX 128   /* calls blocked on a lock; more are -ENOLCK */

struct face_node {
	uint64_t id;	      /* slot | generation: never reused for another inode; 1 is the root */
	struct vnode *vnode;  /* a reference; NULL in a free slot */
	uint64_t nlookup;     /* the kernel's references and the service's own pins */
	uint64_t size;	      /* as the kernel knows it */
	unsigned writers;     /* open files of programs that may map it shared and writable */
	unsigned io_users;    /* vfs calls that use io_fd now */
	int32_t backing;      /* face_beside.c: the kernel's number of the host's file, or 0 */
	bool backing_written; /* it may be mapped for writing */
	unsigned usual_opens; /* open files that are not so */
	int io_fd;	      /* -1, or for the other doors' data (face_open.c) */
	bool asked;	      /* for since the last look of face_nodes_idle() */
	uint32_t next;	      /* hash chain or free list: slot + 1 */
};

struct face_nodes {
	pthread_mutex_t lock;
	struct face_node *slot;
	uint32_t nslots, used, free;
	uint32_t made;	  /* counts new ones */
	uint32_t hand;	  /* of face_nodes_idle() */
	uint32_t *bucket; /* by vnode: slot + 1 */
	uint32_t nbuckets;
	struct face_mount *face;
};

/* An open file of the kernel: what fi->fh points to. */
struct face_file {
	struct vfile *file;  /* a reference */
	struct vfile *plain; /* NULL or the inode without O_APPEND, for the kernel's writeback */
	uint64_t id;	     /* the inode's */
	int32_t backing;     /* as in struct face_node */
	bool shared;	     /* file is also open at another door (face_kernel_fd()) */
	bool own;	     /* the service's own descriptor: no program's open */
	bool writing;
	bool exec;			/* a program runs from it */
	struct face_file *next, **prev; /* face_mount.files */
};

/* The service opens a descriptor through its own mount: OPEN from this thread is for this file. */
struct face_binding {
	pid_t tid;
	uint64_t id;
	struct vfile *file;
	bool own;
	struct face_binding *next;
};

struct face_mount {
	struct container *container;
	struct volume *volume;
	struct cred *service;
	struct fuse_session *session;
	int root_fd; /* open root directory of the mount */
	dev_t dev;
	uint64_t init_unique;
	atomic_bool beside; /* face_beside.c: the kernel can */

	struct face_nodes nodes;
	_Atomic uint32_t nodes_limit;

	pthread_mutex_t kernel_fd_lock; /* one face_kernel_fd() at a time */
	pthread_mutex_t lock;		/* below here */
	pthread_cond_t ended;
	struct face_file *files;
	struct face_binding *bindings;
	struct face_waiter *waiters;
	unsigned nwaiters, nthreads;
	bool stopping, trimming;
	struct face_gone *gone, **gone_end; /* face_gone.c: names to look at */
	unsigned ngone;

	_Atomic pid_t looker;	     /* the thread that looks at them; 0: none, -1: on its way */
	_Atomic unsigned idle;	     /* threads that wait for a request */
	_Atomic uint32_t trimmed_at; /* nodes.made then */
};

/* face_node.c */
int face_nodes_init(struct face_nodes *nodes, struct face_mount *face, struct vnode *root);
void face_nodes_done(struct face_nodes *nodes);
/* Takes one reference for the kernel on the node of vnode, whose reference is taken over (also on
 * failure). -ENFILE above the limit. */
int face_node_enter(struct face_nodes *nodes, struct vnode *vnode, uint64_t size, uint64_t *ret_id);
void face_node_forget(struct face_nodes *nodes, uint64_t id, uint64_t count);
/* Up to cap numbers that nobody has asked for since the last time around. */
unsigned face_nodes_idle(struct face_nodes *nodes, uint64_t *ids, unsigned cap);
/* A new reference on the node's vnode, or NULL: no such node (a file handle that a privileged
 * program made up). */
struct vnode *face_node_get(struct face_nodes *nodes, uint64_t id);
/* 0 when the kernel does not know vnode. */
uint64_t face_node_find(struct face_nodes *nodes, const struct vnode *vnode);
/* The same with nodes->lock held. */
uint64_t face_node_find_locked(struct face_nodes *nodes, const struct vnode *vnode);
void face_node_set_size(struct face_nodes *nodes, uint64_t id, uint64_t size);
/* Runs with nodes->lock held; NULL. */
struct face_node *face_node_at(struct face_nodes *nodes, uint64_t id);

/* face_call.c: one request. */
enum face_as { AS_SERVICE, AS_CALLER };

struct face_call {
	struct face_mount *face;
	fuse_req_t req; /* NULL for those of face_wire.c */
	unsigned op;	/* WIRE_*, for the statistics */
	uint64_t started, bytes;
	pid_t tid;
	uid_t uid;
	gid_t gid;
	struct vnode *node; /* a reference on the request's inode */
	struct process *process;
	bool fresh; /* the identity was read during this call */
	struct vctx ctx;
};

/* Fills call from req; ino 0: no inode. The caller always ends it. -ESTALE, -EACCES (a caller whose
 * identity cannot be read). */
int face_call_begin(struct face_call *call, fuse_req_t req, unsigned op, enum face_as as,
		    fuse_ino_t ino);
/* The same for a request that libfuse does not know. */
int face_call_begin_raw(struct face_call *call, struct face_mount *face, pid_t tid, uid_t uid,
			gid_t gid, mode_t umask, unsigned op, enum face_as as, uint64_t ino);
/* After a refusal: whether the caller's identity turned out to be another than the one used. */
bool face_call_again(struct face_call *call, int64_t result);
#define CALL(call, expr)                                                                           \
	({                                                                                         \
		__typeof__(expr) call_r_;                                                          \
		do                                                                                 \
			call_r_ = (expr);                                                          \
		while (face_call_again((call), call_r_));                                          \
		call_r_;                                                                           \
	})
/* Counts and gives back; the reply has been sent. */
void face_call_end(struct face_call *call, int64_t result);
/* Replies result (0 or a negative errno) and ends. */
void face_call_reply(struct face_call *call, int64_t result);
/* Replies an entry of node, whose reference is taken over, or the error; ends. */
void face_call_reply_entry(struct face_call *call, int64_t result, struct vnode *node,
			   const struct attr *attr);
void face_call_reply_attr(struct face_call *call, int64_t result, uint64_t id,
			  const struct attr *attr);
/* The errno for the kernel. */
int face_errno(int64_t result);
void face_stat_of(const struct attr *attr, struct stat *ret);

/* The operations tables are filled by the modules. */
void face_names_ops(struct fuse_lowlevel_ops *ops);
void face_files_ops(struct fuse_lowlevel_ops *ops);
void face_locks_ops(struct fuse_lowlevel_ops *ops);

/* face_files.c */
/* Makes the kernel's open file; takes file over also on failure. */
int face_file_new(struct face_mount *face, uint64_t id, struct vfile *file,
		  const struct face_binding *binding, bool exec, struct face_file **ret);
void face_file_free(struct face_mount *face, struct face_file *file);
/* open(2) flags that the vfs is asked for. The kernel's own flags say at each write whether it
 * appends, so O_APPEND is not kept in the open file. */
int face_open_flags(int flags);

/* face_locks.c: everybody who waits for a lock gets -EINTR. */
void face_locks_cancel(struct face_mount *face);

/* face_wire.c */
extern const struct fuse_custom_io face_wire_io;
/* Looks at a request as it came from the kernel; true when it has been served. */
bool face_wire_serve(struct face_mount *face, const void *request, size_t len_bytes);
/* fuse_reply_open() and fuse_reply_create() (entry) of file. */
int face_reply_open(fuse_req_t req, const struct fuse_entry_param *entry, struct fuse_file_info *fi,
		    struct face_file *file);

/* face_trim.c: called after each new node. */
void face_trim(struct face_mount *face);

/* face_beside.c */
/* How the kernel is to open file, an open file of inode id: beside (> 0, its number of the host's
 * file), or by asking (0). Once per struct face_file; leave() ends it. */
int32_t face_beside_enter(struct face_mount *face, uint64_t id, struct vfile *file);
void face_beside_leave(struct face_mount *face, const struct face_file *file);
void face_backing_close(struct face_mount *face, int32_t backing);

/* face_gone.c */
/* The kernel is to ask what dir's name is now; some time later. On a thread of the face only when
 * that may as well not happen. */
void face_look_again(struct face_mount *face, uint64_t dir, const char *name);
/* struct face's name_gone(). */
void face_name_gone(void *arg, struct vnode *dir, const char *name, struct vnode *node);
void face_gone_free(struct face_mount *face);

/* face_open.c */
/* Opens by the kernel's number. May block; not from a thread of the face. */
int face_open_inode(struct face_mount *face, uint64_t id, int flags);
/* Takes the binding of an OPEN from thread tid of inode id off the list into *ret; false: a
 * program's open. */
bool face_binding_take(struct face_mount *face, pid_t tid, uint64_t id, struct face_binding *ret);
extern const struct face face_coherence; /* arg to be set */
