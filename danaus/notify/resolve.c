/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing. What is not surely in a volume goes to the kernel, whose own walk ends in the same
 * inodes through the kernel face; so every doubt here is answered with CALL_CONTINUE. */
#include "danaus/notify/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/notify/descriptor.h"

#define LINKS_MAX 40

void place_done(struct place *place)
{
	if (place->node)
		vnode_unref(place->node);
	if (place->file)
		vfile_unref(place->file);
	*place = (struct place){0};
}

static const char *after(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(path, prefix, len) ? NULL : path + len;
}

int path_descriptor(const char *path, pid_t own_pid, const char **ret_rest)
{
	const char *at;
	char own[40];
	long number = 0;
	unsigned digits = 0;

	snprintf(own, sizeof(own), "/proc/%d/fd/", own_pid);
	if (!(at = after(path, "/proc/self/fd/")) && !(at = after(path, "/dev/fd/")) &&
	    !(at = after(path, "/proc/thread-self/fd/")) && !(at = after(path, own)))
		return -1;
	if (*at == '0' && at[1] >= '0' && at[1] <= '9')
		return -1;
	for (; *at >= '0' && *at <= '9'; at++, digits++)
		if ((number = number * 10 + (*at - '0')) > INT_MAX)
			return -1;
	if (!digits || (*at && *at != '/'))
		return -1;
	*ret_rest = at + strspn(at, "/");
	return (int)number;
}

static int64_t start_at_root(struct call *call, struct place *place, struct volume *volume,
			     const char *rest, unsigned flags)
{
	if (!*rest && (flags & PLACE_NAME))
		return CALL_CONTINUE;
	place->target.dir = vfs_instance_root(volume->instance);
	place->target.path = rest;
	return 0;
}

static int64_t start_absolute(struct call *call, const char *path, unsigned flags,
			      struct place *place)
{
	const char *rest;
	struct volume *volume = container_volume_of(call->container, path, &rest);
	int64_t r;
	int fd;

	if (volume) {
		r = ncall_caller(call);
		if (r)
			return r;
		if (!caller_root_plain(call))
			return CALL_CONTINUE;
		return start_at_root(call, place, volume, rest, flags);
	}
	/* A link to one of its own descriptors: the kernel would open the anchor. */
	if (strncmp(path, "/proc/", 6) && strncmp(path, "/dev/fd/", 8))
		return CALL_CONTINUE;
	if (path_descriptor(path, 0, &rest) < call->container->fd_base && path[1] == 'd')
		return CALL_CONTINUE;
	r = ncall_caller(call);
	if (r)
		return r;
	fd = path_descriptor(path, process_ns_pid(call->caller->process), &rest);
	if (fd < call->container->fd_base ||
	    (!*rest && (flags & (PLACE_NAME | AT_SYMLINK_NOFOLLOW))))
		return CALL_CONTINUE;
	r = descriptor_find(call, fd, &place->file);
	if (r)
		return r;
	place->target.file = place->file;
	place->target.path = rest;
	return 0;
}

static int64_t start_at_cwd(struct call *call, char *path, unsigned flags, struct place *place)
{
	struct scratch *scratch = ncall_scratch(call);
	char above[MOUNT_PATH_MAX];
	struct volume *volume;
	const char *rest;
	int64_t r = ncall_caller(call);

	if (r)
		return r;
	if (!caller_root_plain(call))
		return CALL_CONTINUE;
	switch (caller_cwd(call, &place->node, above)) {
	case CWD_INSIDE:
		place->target.dir = place->node;
		place->target.path = path;
		return 0;
	case CWD_ABOVE:
		snprintf(scratch->joined, sizeof(scratch->joined), "%s/%s", above, path);
		volume = container_volume_of(call->container, scratch->joined, &rest);
		if (!volume)
			return CALL_CONTINUE;
		/* The rest is the path's own end. */
		return start_at_root(call, place, volume, path + strlen(path) - strlen(rest),
				     flags);
	default:
		return CALL_CONTINUE;
	}
}

int64_t place_resolve(struct call *call, int dirfd, uint64_t path_addr, unsigned flags, char *buf,
		      struct place *place)
{
	ssize_t len = 0;
	int64_t r;

	place->target.nofollow = flags & AT_SYMLINK_NOFOLLOW;
	if (path_addr || !(flags & AT_EMPTY_PATH)) {
		len = memory_string(call->tid, path_addr, buf, WIRE_PATH_MAX);
		if (len < 0)
			return len == -ESRCH ? CALL_GONE : CALL_CONTINUE;
	} else {
		buf[0] = '\0';
	}
	if (buf[0] == '/')
		return start_absolute(call, buf, flags, place);
	if (!len && !(flags & AT_EMPTY_PATH))
		return CALL_CONTINUE; /* ENOENT */
	if (dirfd == AT_FDCWD)
		return start_at_cwd(call, buf, flags, place);
	if (dirfd < call->container->fd_base)
		return CALL_CONTINUE;
	r = descriptor_find(call, dirfd, &place->file);
	if (r)
		return r;
	call->dirfd[call->dirfd[0] != 0] = dirfd;
	place->target.file = place->file;
	place->target.path = buf;
	return 0;
}

bool place_again(struct call *call, char *buf, struct place *place)
{
	bool nofollow = place->target.nofollow;
	struct volume *volume;
	const char *rest;

	place_done(place);
	memcpy(buf, call->ctx.leave, WIRE_PATH_MAX);
	buf[WIRE_PATH_MAX - 1] = '\0';
	volume = container_volume_of(call->container, buf, &rest);
	if (!volume)
		return false;
	place->target = (struct vtarget){
	    .dir = vfs_instance_root(volume->instance), .path = rest, .nofollow = nofollow};
	return true;
}

int64_t place_run(struct call *call, char *buf, struct place *place, place_fn fn, void *arg)
{
	for (int i = 0; i < LINKS_MAX; i++) {
		int64_t r = fn(call, &place->target, arg);

		if (r != -EREMCHG)
			return r;
		if (!place_again(call, buf, place))
			return CALL_CONTINUE;
	}
	return -ELOOP;
}

int64_t place_call(struct call *call, int dirfd, uint64_t path_addr, unsigned flags, place_fn fn,
		   void *arg)
{
	struct scratch *scratch = ncall_scratch(call);
	CLEANUP_PLACE struct place place = {0};
	int64_t r;

	if (!scratch)
		return CALL_CONTINUE;
	r = place_resolve(call, dirfd, path_addr, flags, scratch->path, &place);
	if (!r)
		r = ncall_begin(call);
	return r ? r : place_run(call, scratch->path, &place, fn, arg);
}
