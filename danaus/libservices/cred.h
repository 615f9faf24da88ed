/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks: an identity as the host's kernel knows it, taken from the kernel (/proc/TID/status read
 * in the host's namespaces), never from a message. Immutable once made; shared by reference.
 *
 * Ids in here are the host's (kuid as the initial user namespace shows it). A container in its own
 * user namespace sees other numbers: struct idmap translates at the edges (attributes out, chown
 * and ACLs in). */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define IDMAP_EXTENTS_MAX 32
#define CAP_BIT(cap)	  (1ull << (cap)) /* of <linux/capability.h> */

struct idmap_extent {
	uint32_t inside, outside, count;
};

/* user_namespaces(7), uid_map and gid_map. nuid == 0 && ngid == 0: the service's own user
 * namespace, the identity. */
struct idmap {
	uint64_t ns; /* inode number of the user namespace; 0: the service's own */
	unsigned nuid, ngid;
	struct idmap_extent uid[IDMAP_EXTENTS_MAX], gid[IDMAP_EXTENTS_MAX];
};

/* From /proc/PID/{uid,gid}_map. -E2BIG above IDMAP_EXTENTS_MAX extents. */
int idmap_read(pid_t pid, struct idmap *ret);
/* Host id -> the container's; the overflow id 65534 when it has none there. */
uid_t idmap_uid_in(const struct idmap *map, uid_t host);
gid_t idmap_gid_in(const struct idmap *map, gid_t host);
/* The container's id -> host id; false when it has none (the caller says EINVAL, chown(2)). */
bool idmap_uid_out(const struct idmap *map, uid_t inside, uid_t *ret_host);
bool idmap_gid_out(const struct idmap *map, gid_t inside, gid_t *ret_host);
/* Whether the host id has a number in the container: capabilities in a user namespace count only
 * for inodes whose owner and group both have one (capable_wrt_inode_uidgid()). */
bool idmap_uid_known(const struct idmap *map, uid_t host);
bool idmap_gid_known(const struct idmap *map, gid_t host);

struct cred {
	uint32_t refs;	   /* atomic */
	uid_t fsuid, ruid; /* file system and real ids */
	gid_t fsgid, rgid;
	uint64_t caps;		 /* effective (capabilities(7)), in the caller's user namespace */
	uint64_t permitted;	 /* for access(2), which asks with the real ids */
	const struct idmap *map; /* of the caller's user namespace: the container's, which outlives
				  * the cred, or own */
	struct idmap *own;	 /* of a user namespace that the program made itself; else NULL */
	uint64_t serial; /* distinguishes creds for cred_assume(); 0: never equal to another */
	unsigned ngroups;
	gid_t groups[];
};

/* Reads a live thread's identity. map is the container's. A thread in another user namespace has
 * its capabilities only over what that one maps. -ESRCH when it is gone, -EPROTO when the kernel's
 * text is not understood. */
int cred_of_thread(pid_t host_tid, const struct idmap *map, struct cred **ret);
/* False: it is in a user namespace whose map somebody has still to write, so it may be another one
 * the next time it is looked at, and nothing tells when. */
bool cred_settled(const struct cred *cred);
struct cred *cred_ref(struct cred *cred);
void cred_unref(struct cred *cred);
bool cred_same(const struct cred *a, const struct cred *b);
/* For tests and for the service's own work: uid 0 with all capabilities, identity map. */
struct cred *cred_root(void);
bool cred_in_group(const struct cred *cred, gid_t gid);

/* The capabilities of cred that count for inodes owned by (uid, gid). In the service's own user
 * namespace all; in another one the file capabilities when both ids have a number there, none
 * otherwise. */
uint64_t cred_caps_for(const struct cred *cred, uid_t uid, gid_t gid);

/* Makes the calling thread act on the host's file systems as cred, with the capabilities in caps
 * only (a subset of CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP, MKNOD,
 * LINUX_IMMUTABLE, SYS_RESOURCE, LEASE; others are ignored): raw setfsuid, setfsgid, setgroups and
 * capset, which the kernel keeps per thread. Free when the thread is that already. Linux 6.x,
 * credentials(7). Holds until the next call: call it before each libservice operation that checks
 * rights. */
int cred_assume(const struct cred *cred, uint64_t caps);
/* Back to the service's own identity, before reading other processes' /proc files, for example.
 * Free when the thread has it. */
void cred_assume_service(void);

/* As pthread_create(3), but main begins with the service's own identity: a thread has that of who
 * made it, which may be a caller's just then. Every thread of the service is made by it. 0 or
 * -errno. */
int cred_thread(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg);

/* The calling thread's identity, to come back to after it was another one for a while. -ENOMEM. */
struct cred_kept {
	bool assumed;
	uint64_t serial, caps;
	uid_t fsuid;
	gid_t fsgid;
	int ngroups;
	gid_t *groups;
};
int cred_keep(struct cred_kept *ret);
/* Frees what cred_keep() took. */
void cred_restore(struct cred_kept *kept);
