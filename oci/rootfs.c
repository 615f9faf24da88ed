/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing. Config edit and hooks; one thread. */
#include "oci/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"

int rootfs_open(int root, const char *path, int flags, uint64_t resolve, int *ret)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
	int fd;

	path += strspn(path, "/");
	fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static int path_of(int fd, char ret[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, PATH_MAX);
	if (n < 0)
		return -errno;
	if (n >= PATH_MAX)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	return 0;
}

int rootfs_resolve(int root, const char *path, char ret[PATH_MAX])
{
	char prefix[PATH_MAX], base[PATH_MAX], real[PATH_MAX];
	size_t len = strlen(path), base_len;
	int r;

	if (len >= sizeof(prefix))
		return -ENAMETOOLONG;
	memcpy(prefix, path, len + 1);
	for (;;) {
		CLEANUP_FD int fd = -1;

		r = rootfs_open(root, prefix, O_PATH, RESOLVE_IN_ROOT, &fd);
		if (!r) {
			r = path_of(root, base);
			if (!r)
				r = path_of(fd, real);
			break;
		}
		if (r != -ENOENT || len <= 1)
			return r;
		if (!rootfs_open(root, prefix, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT, &fd))
			return -ELOOP; /* a symlink that leads nowhere, or out of the root */
		while (len > 1 && prefix[len - 1] != '/')
			len--;
		while (len > 1 && prefix[len - 1] == '/')
			len--;
		prefix[len] = '\0';
	}
	if (r < 0)
		return r;
	base_len = strcmp(base, "/") ? strlen(base) : 0;
	if (strncmp(real, base, base_len) != 0 || (real[base_len] && real[base_len] != '/'))
		return -EXDEV;
	path += len;
	path += strspn(path, "/");
	r = snprintf(ret, PATH_MAX, "%s%s%s", real[base_len] ? real + base_len : "",
		     *path || !real[base_len] || !strcmp(real + base_len, "/") ? "/" : "", path);
	if (r >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}
