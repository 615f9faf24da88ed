/* SPDX-License-Identifier: Apache-2.0 */
/* The local libservice's extended attributes, ACLs included, and what is known about ACLs. Owns
 * nothing; any thread. The host's kernel decides by the caller's identity. */
#include "danaus/libservices/local/map.h"

#include <errno.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

/* How old a change must be for its ctime to tell it from the next one: timestamps are as coarse as
 * the kernel's tick. */
#define CTIME_SETTLED_NS 50000000ull

struct proc_path {
	char text[32];
};

static struct proc_path path_of(const struct ls_node *node)
{
	struct proc_path path;

	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", node->fd);
	return path;
}

void local_acl_probe(struct local *local, struct ls_node *node)
{
	struct proc_path path = path_of(node);
	struct statx stx;
	struct timespec now;
	uint64_t ctime;

	if (statx(node->fd, "", AT_EMPTY_PATH, STATX_CTIME, &stx) < 0)
		return;
	ctime = (uint64_t)stx.stx_ctime.tv_sec * 1000000000u + stx.stx_ctime.tv_nsec;
	if (atomic_load_explicit(&node->no_acl_at, memory_order_relaxed) == ctime)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if ((uint64_t)now.tv_sec * 1000000000u + now.tv_nsec < ctime + CTIME_SETTLED_NS)
		return;
	if (getxattr(path.text, XATTR_NAME_POSIX_ACL_ACCESS, NULL, 0) < 0 &&
	    (errno == ENODATA || errno == EOPNOTSUPP))
		atomic_store_explicit(&node->no_acl_at, ctime, memory_order_relaxed);
}

ssize_t local_getxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		       const char *name, void *value, size_t cap_bytes)
{
	struct proc_path path = path_of(node);
	ssize_t n = local_assume(cred, node);

	if (n < 0)
		return n;
	n = getxattr(path.text, name, value, cap_bytes);
	return n < 0 ? -errno : n;
}

int local_setxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   const char *name, const void *value, size_t len_bytes, int flags)
{
	struct proc_path path = path_of(node);
	int r = local_assume(cred, node);

	if (r < 0)
		return r;
	if (setxattr(path.text, name, value, len_bytes, flags) < 0)
		return -errno;
	local_map_expire(node);
	if (!strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS))
		atomic_store_explicit(&node->no_acl_at, 0, memory_order_relaxed);
	return 0;
}

ssize_t local_listxattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
			char *names, size_t cap_bytes)
{
	struct proc_path path = path_of(node);
	ssize_t n = local_assume(cred, node);

	if (n < 0)
		return n;
	n = listxattr(path.text, names, cap_bytes);
	return n < 0 ? -errno : n;
}

int local_removexattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      const char *name)
{
	struct proc_path path = path_of(node);
	int r = local_assume(cred, node);

	if (r < 0)
		return r;
	return removexattr(path.text, name) < 0 ? -errno : 0;
}
