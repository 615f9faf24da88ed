/* SPDX-License-Identifier: Apache-2.0 */
/* Owns identities: reading them from the kernel, and the identity that the calling thread has on
 * the host's file systems. Any thread; the assumed identity is per thread. */
#include "danaus/libservices/cred.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define STATUS_TEXT_MAX (1u << 20)
#define GROUPS_MAX	65536u

/* What decides on files. The thread keeps its other capabilities: set*id above all. */
#define FILE_CAPS                                                                                  \
	(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_DAC_READ_SEARCH) |           \
	 CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_FSETID) | CAP_BIT(CAP_LINUX_IMMUTABLE) |                \
	 CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_SYS_RESOURCE) | CAP_BIT(CAP_MKNOD) |                 \
	 CAP_BIT(CAP_LEASE) | CAP_BIT(CAP_SETFCAP) | CAP_BIT(CAP_MAC_OVERRIDE) |                   \
	 CAP_BIT(CAP_MAC_ADMIN))
/* What the kernel grants by capable_wrt_inode_uidgid(), so also in a user namespace. */
#define INODE_CAPS                                                                                 \
	(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_DAC_READ_SEARCH) |           \
	 CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_FSETID) | CAP_BIT(CAP_SETFCAP))

static const struct idmap identity_map;
static struct cred root = {
    .refs = 1, .caps = ~0ull, .permitted = ~0ull, .map = &identity_map, .serial = 1};
static _Atomic uint64_t serials = 2;

/* The service's own identity, read once. */
static pthread_once_t service_once = PTHREAD_ONCE_INIT;
static struct {
	uid_t uid;
	gid_t gid;
	int ngroups;
	gid_t groups[64];
	uint64_t permitted, effective, inheritable;
	uint64_t user_ns;
} service;

static __thread struct {
	uint64_t serial, caps;
	bool assumed;
} self;

static void service_read(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	struct stat st;

	service.uid = geteuid();
	service.gid = getegid();
	service.ngroups = getgroups(64, service.groups);
	if (service.ngroups < 0)
		service.ngroups = 0;
	syscall(SYS_capget, &head, data);
	service.permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	service.effective = data[0].effective | (uint64_t)data[1].effective << 32;
	service.inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	if (!stat("/proc/self/ns/user", &st))
		service.user_ns = st.st_ino;
}

static bool is_identity(const struct idmap *map)
{
	return !map || (!map->nuid && !map->ngid);
}

static int set_caps(uint64_t effective)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
	    {effective, service.permitted, service.inheritable},
	    {effective >> 32, service.permitted >> 32, service.inheritable >> 32},
	};

	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int set_ids(uid_t uid, gid_t gid, int ngroups, const gid_t *groups)
{
	if (syscall(SYS_setgroups, ngroups, groups) < 0)
		return -errno;
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
	/* These two have no error: ask. */
	if (syscall(SYS_setfsgid, -1) != (long)gid || syscall(SYS_setfsuid, -1) != (long)uid)
		return -EPERM;
	return 0;
}

int cred_assume(const struct cred *cred, uint64_t caps)
{
	int r;

	caps &= FILE_CAPS;
	if (self.assumed && self.serial && self.serial == cred->serial && self.caps == caps)
		return 0;
	pthread_once(&service_once, service_read);
	if (!self.assumed || !self.serial || self.serial != cred->serial) {
		/* Without the right to change its ids, a service (a test, that is) has one. */
		if (!(service.permitted & CAP_BIT(CAP_SETUID)) && cred->fsuid == service.uid &&
		    cred->fsgid == service.gid)
			return 0;
		self.assumed = true;
		self.serial = 0;
		r = set_ids(cred->fsuid, cred->fsgid, cred->ngroups, cred->groups);
		if (r < 0)
			return r;
	}
	self.serial = 0;
	r = set_caps((service.permitted & ~FILE_CAPS) | (service.permitted & caps));
	if (r < 0)
		return r;
	self.serial = cred->serial;
	self.caps = caps;
	return 0;
}

void cred_assume_service(void)
{
	int saved = errno;

	if (!self.assumed)
		return;
	if (set_ids(service.uid, service.gid, service.ngroups, service.groups) < 0 ||
	    set_caps(service.effective) < 0)
		abort(); /* going on with another's rights would be worse */
	self.assumed = false;
	self.serial = 0;
	errno = saved;
}

struct beginning {
	void *(*main)(void *);
	void *arg;
	bool assumed;
};

static void *begin(void *arg)
{
	struct beginning at = *(struct beginning *)arg;

	free(arg);
	self.assumed = at.assumed;
	cred_assume_service();
	return at.main(at.arg);
}

int cred_thread(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	struct beginning *at = malloc(sizeof(*at));
	int r;

	if (!at)
		return -ENOMEM;
	*at = (struct beginning){.main = main, .arg = arg, .assumed = self.assumed};
	r = pthread_create(ret, attr, begin, at);
	if (r)
		free(at);
	return -r;
}

int cred_keep(struct cred_kept *ret)
{
	struct cred_kept kept = {.assumed = self.assumed, .serial = self.serial, .caps = self.caps};

	if (kept.assumed) {
		kept.fsuid = syscall(SYS_setfsuid, -1);
		kept.fsgid = syscall(SYS_setfsgid, -1);
		kept.ngroups = syscall(SYS_getgroups, 0, NULL);
		if (kept.ngroups > 0) {
			kept.groups = calloc(kept.ngroups, sizeof(gid_t));
			if (!kept.groups)
				return -ENOMEM;
			kept.ngroups = syscall(SYS_getgroups, kept.ngroups, kept.groups);
		}
		if (kept.ngroups < 0) {
			free(kept.groups);
			return -EPERM;
		}
	}
	*ret = kept;
	return 0;
}

void cred_restore(struct cred_kept *kept)
{
	int saved = errno;

	if (!kept->assumed) {
		cred_assume_service();
	} else if (!self.assumed || !self.serial || self.serial != kept->serial ||
		   self.caps != kept->caps) {
		if (set_ids(kept->fsuid, kept->fsgid, kept->ngroups, kept->groups) < 0 ||
		    set_caps((service.permitted & ~FILE_CAPS) | (service.permitted & kept->caps)) <
			0)
			abort(); /* as above */
		self.assumed = true;
		self.serial = kept->serial;
		self.caps = kept->caps;
	}
	free(kept->groups);
	kept->groups = NULL;
	errno = saved;
}

struct cred *cred_root(void)
{
	return cred_ref(&root);
}

struct cred *cred_ref(struct cred *cred)
{
	__atomic_fetch_add(&cred->refs, 1, __ATOMIC_RELAXED);
	return cred;
}

void cred_unref(struct cred *cred)
{
	if (!cred || cred == &root || __atomic_sub_fetch(&cred->refs, 1, __ATOMIC_ACQ_REL))
		return;
	free(cred->own);
	free(cred);
}

bool cred_same(const struct cred *a, const struct cred *b)
{
	return a == b ||
	       (a->fsuid == b->fsuid && a->ruid == b->ruid && a->fsgid == b->fsgid &&
		a->rgid == b->rgid && a->caps == b->caps && a->permitted == b->permitted &&
		a->map == b->map && a->ngroups == b->ngroups &&
		!memcmp(a->groups, b->groups, a->ngroups * sizeof(gid_t)));
}

bool cred_in_group(const struct cred *cred, gid_t gid)
{
	unsigned lo = 0, hi = cred->ngroups;

	if (cred->fsgid == gid)
		return true;
	/* Sorted by cred_of_thread(); hand-made ones are short. */
	if (hi <= 8) {
		while (hi) {
			if (cred->groups[--hi] == gid)
				return true;
		}
		return false;
	}
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (cred->groups[mid] == gid)
			return true;
		if (cred->groups[mid] < gid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

uint64_t cred_caps_for(const struct cred *cred, uid_t uid, gid_t gid)
{
	if (is_identity(cred->map))
		return cred->caps;
	if (!(cred->caps & INODE_CAPS) || !idmap_uid_known(cred->map, uid) ||
	    !idmap_gid_known(cred->map, gid))
		return 0;
	return cred->caps & INODE_CAPS;
}

static int compare_gids(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return x < y ? -1 : x > y;
}

static int parse_status(const char *text, struct cred **ret)
{
	/* The first line is the program's name, which it chooses, escaped: no newline in it. */
	const char *uid, *gid, *groups, *prm, *eff, *p;
	unsigned r, e, s, f, rg, eg, sg, fg, n = 0;
	struct cred *cred;
	char *end;

	uid = strstr(text, "\nUid:");
	gid = strstr(text, "\nGid:");
	groups = strstr(text, "\nGroups:");
	prm = strstr(text, "\nCapPrm:");
	eff = strstr(text, "\nCapEff:");
	if (!uid || !gid || !groups || !prm || !eff ||
	    sscanf(uid + 5, "%u %u %u %u", &r, &e, &s, &f) != 4 ||
	    sscanf(gid + 5, "%u %u %u %u", &rg, &eg, &sg, &fg) != 4)
		return -EPROTO;
	groups += strlen("\nGroups:");
	for (p = groups; *p && *p != '\n'; p++)
		n += *p == ' ' || *p == '\t';
	if (n > GROUPS_MAX)
		return -EPROTO;
	cred = calloc(1, sizeof(*cred) + n * sizeof(gid_t));
	if (!cred)
		return -ENOMEM;
	for (p = groups; cred->ngroups < n; p = end) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (*p == '\n' || !*p)
			break;
		cred->groups[cred->ngroups] = strtoul(p, &end, 10);
		if (end == p) {
			free(cred);
			return -EPROTO;
		}
		cred->ngroups++;
	}
	qsort(cred->groups, cred->ngroups, sizeof(gid_t), compare_gids);
	cred->refs = 1;
	cred->ruid = r;
	cred->fsuid = f;
	cred->rgid = rg;
	cred->fsgid = fg;
	cred->permitted = strtoull(prm + strlen("\nCapPrm:"), NULL, 16);
	cred->caps = strtoull(eff + strlen("\nCapEff:"), NULL, 16);
	*ret = cred;
	return 0;
}

int cred_of_thread(pid_t host_tid, const struct idmap *map, struct cred **ret)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FREE struct idmap *own = NULL;
	struct cred *cred;
	char path[32];
	struct stat ns;
	int r;

	pthread_once(&service_once, service_read);
	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d", (int)host_tid);
	/* One descriptor for all of it: the number may be given to another thread meanwhile. */
	CLEANUP_FD int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = fd_read_file_at(dir, "status", STATUS_TEXT_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	/* After the status: nobody comes back from a user namespace, so capabilities that were
	 * those of a new one are never taken for the container's. */
	if (fstatat(dir, "ns/user", &ns, 0) < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (ns.st_ino != (map && map->ns ? map->ns : service.user_ns)) {
		own = calloc(1, sizeof(*own));
		if (!own)
			return -ENOMEM;
		r = idmap_read(host_tid, own);
		if (!r && own->ns != ns.st_ino)
			r = -ESRCH;
		if (r == -E2BIG) {
			/* Too fine a map to follow: its ids have no number, its capabilities do
			 * not count. */
			memset(own, 0, sizeof(*own));
			own->ns = ns.st_ino;
			own->nuid = own->ngid = 1;
			r = 0;
		}
		if (r < 0)
			return r;
	}
	r = parse_status(text, &cred);
	if (r < 0)
		return r;
	cred->serial = atomic_fetch_add(&serials, 1);
	cred->own = STEAL_PTR(own);
	cred->map = cred->own ? cred->own : map;
	*ret = cred;
	return 0;
}

bool cred_settled(const struct cred *cred)
{
	const struct idmap *own = cred->own;

	return !own || (own->nuid && own->uid[0].count && own->ngid && own->gid[0].count);
}
