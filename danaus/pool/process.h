/* SPDX-License-Identifier: Apache-2.0 */
/* The processes and containers that the service knows: identities and lock owners, the same for
 * every door. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "danaus/proto/mount_table.h"
#include "danaus/vfs/vfs.h"

struct pool;

/* One mounted stack of one container. */
struct volume {
	char target[MOUNT_PATH_MAX]; /* container path */
	char *spec;		     /* of its stack, as the config edit gave it */
	bool ro;
	struct vfs_instance *instance;
	struct face_mount *face; /* fuse/face.h; NULL before it is attached */
};

struct container {
	struct pool *pool;
	char *id;
	char *dir;	/* /run/danaus/containers/ID on the host: spec.json, guest/ */
	pid_t init_pid; /* host pid of the container's first process */
	ino_t user_ns, mnt_ns, pid_ns; /* of the first process: who belongs here */
	struct idmap map;
	unsigned nvolumes;
	struct volume volumes[MOUNT_TABLE_MAX]; /* index = WIRE_INSTANCE; longest target first */
	int fd_base, light_limit;
	struct mount_table *table;   /* what the clients see */
	struct processes *processes; /* process.c */
	_Atomic uint32_t filters;    /* seccomp filters of a process that the notify door hears; 0:
				      * none does (yet) */
	struct attach *attach;	     /* attach.h: its clients */
	void *notify;		     /* the notify door's own */
};

/* A process of a container, found by any door; reference counted; dropped when its pidfd says it is
 * gone (then vfs_owner_gone()). Identities are read from the kernel on first use of a thread and
 * kept until process_rights_changed(). */
struct process;

/* host_tid may be any of its threads. -ESRCH gone, -EPERM not of this container. */
int process_get(struct container *container, pid_t host_tid, struct process **ret);
/* The same of a thread that waits for an answer of ours, which it did in this millisecond: mostly
 * without asking the kernel. */
int process_get_waiting(struct container *container, pid_t host_tid, struct process **ret);
/* Only a process that is in the table already; -ESRCH when it is not. */
int process_find(struct container *container, pid_t host_tid, struct process **ret);
int processes_new(struct container *container);
void processes_free(struct container *container);
bool process_ended(const struct process *process);     /* all of its threads have */
struct process *process_hold(struct process *process); /* a new reference */
void process_unref(struct process *process);
pid_t process_pid(const struct process *process);      /* host tgid */
pid_t process_ns_pid(const struct process *process);   /* in the container's pid namespace */
uint64_t process_owner(const struct process *process); /* for vctx.owner */
int process_pidfd(const struct process *process);      /* still the process's */
struct container *process_container(const struct process *process);
/* Of its first thread (proc(5)): the number of seccomp filters that it obeys, 0 where there is none
 * or the kernel does not tell, and its file creation mask. -ESRCH: gone. */
int process_status(const struct process *process, uint32_t *ret_filters, uint32_t *ret_umask);
/* The owner of the process with that host pid, when it is known already; false. */
bool process_owner_of(struct container *container, pid_t pid, uint64_t *ret);
/* A new reference on the identity of one of its threads, by host tid. */
int process_cred(struct process *process, pid_t host_tid, struct cred **ret);
/* A thread's number in its own pid namespace -> host tid; -ESRCH when it is not of this process. */
int process_host_tid(struct process *process, pid_t ns_tid, pid_t *ret);
/* The process changed its ids, or is about to (also before execve): forget what is cached, and
 * cache nothing for the next second, so that a change which comes a little later is seen. */
void process_rights_changed(struct process *process);
/* The change that process_rights_changed() announced is done, or an execve is: forget what is
 * cached, and cache again. */
void process_rights_settled(struct process *process);
/* Changes with each process_rights_changed(): whoever keeps a cred keeps this number too. 0: keep
 * nothing now. */
uint32_t process_rights_version(const struct process *process);
/* The counter of its identity in the pool's leases (vfs/leases.h). What is answered by a cred
 * of it and then leased depends on that counter, which is looked at before the version is. */
uint32_t process_lease_counter(const struct process *process);
/* A number for the program image (address-space layout) that the process runs now: differs after
 * an execve. A channel speaks for the image that attached, never for a later set-user-id one. */
int process_image(const struct process *process, uint64_t *ret);
/* Whether that thread is in the container's own mount namespace, where the volumes' paths are what
 * the service takes them for. In another one something may be mounted over them, to hide them. */
bool process_in_mounts(const struct process *process, pid_t host_tid);
/* Whether the program that it runs now has mapped that inode, shared and to write to. An execve
 * leaves no mapping: what a program has mapped so was handed to itself. Reads all of its maps: not
 * for each call. */
bool process_maps(const struct process *process, dev_t dev, ino_t ino);

/* Longest volume whose target is a prefix of path (absolute, as the program gave it, no ".." in
 * it); *ret_rest points into path after the prefix and its slashes. NULL: not in a volume. */
struct volume *container_volume_of(struct container *container, const char *path,
				   const char **ret_rest);

/* A lock may only seem held: its process ended, or the last copy of its descriptor was closed, a
 * moment ago, and the kernel's word of it is still to be read. Doors call this on a conflict and
 * try once more. Reads all such words; true. */
bool container_settle(struct container *container);
