/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the attaching of mounts. createRuntime hook; one thread. */
#include "hooks/attach_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/proto/guest.h"
#include "oci/rootfs.h"
#include "oci/volumes.h"

#define RESOLVE_STRICT (RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

static const json_t *find_volume(const json_t *spec, const char *target)
{
	const json_t *volume;
	size_t i;

	json_array_foreach (json_object_get(spec, "volumes"), i, volume) {
		if (!strcmp(json_string_value(json_object_get(volume, "target")), target))
			return volume;
	}
	return NULL;
}

/* The face's mount takes the place of the one at on, and allows what that one allows: set-user-id
 * programs, devices, programs at all. */
static int set_flags(int mount, int on, const json_t *volume)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	struct statvfs covered;
	const json_t *flag;
	size_t i;

	if (fstatvfs(on, &covered) < 0)
		return -errno;
	attr.attr_set = (covered.f_flag & ST_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
			(covered.f_flag & ST_NODEV ? MOUNT_ATTR_NODEV : 0) |
			(covered.f_flag & ST_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
	if (json_is_true(json_object_get(volume, "ro")))
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	json_array_foreach (json_object_get(volume, "flags"), i, flag) {
		for (size_t f = 0; f < VOLUME_FLAGS; f++) {
			if (strcmp(json_string_value(flag), volume_flags[f].name) != 0)
				continue;
			attr.attr_set |= volume_flags[f].set;
			attr.attr_clr |= volume_flags[f].clear;
		}
	}
	return syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0
		   ? -errno
		   : 0;
}

/* The directory to mount on. A missing one is made, as a runtime does for a bind mount: it lies in
 * a volume that was attached before. */
static int open_target(int root, const char *target, int *ret)
{
	int r = rootfs_open(root, target, O_PATH | O_DIRECTORY, RESOLVE_STRICT, ret);
	const char *name = strrchr(target, '/') + 1;
	CLEANUP_FD int parent = -1;
	char path[4096];

	if (r != -ENOENT || (size_t)(name - target) >= sizeof(path))
		return r;
	snprintf(path, sizeof(path), "%.*s", (int)(name - target), target);
	r = rootfs_open(root, path, O_PATH | O_DIRECTORY, RESOLVE_STRICT, &parent);
	if (r < 0)
		return r;
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return rootfs_open(root, target, O_PATH | O_DIRECTORY, RESOLVE_STRICT, ret);
}

static int attach(int root, const json_t *spec, const char *target, int mount, struct err *err)
{
	const json_t *volume = find_volume(spec, target);
	CLEANUP_FD int on = -1;
	int r = volume ? open_target(root, target, &on) : -EPROTO;

	if (r == -ELOOP)
		return err_set(err, r,
			       "volume %s: its path goes through a symbolic link: name the "
			       "place itself",
			       target);
	if (!r)
		r = set_flags(mount, on, volume);
	if (!r && syscall(SYS_move_mount, mount, "", on, "",
			  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		r = -errno;
	return r < 0 ? err_prefix(err, r, "volume %s: cannot attach it", target) : 0;
}

static int check_init(int root, const struct stat *installed, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct stat st;
	int r = rootfs_open(root, GUEST_INIT, O_PATH, RESOLVE_STRICT, &fd);

	if (!r && (fstat(fd, &st) < 0 || st.st_dev != installed->st_dev ||
		   st.st_ino != installed->st_ino))
		r = -EPERM;
	return r < 0 ? err_prefix(err, r, GUEST_INIT " in the container is not the installed one")
		     : 0;
}

int attach_mounts(pid_t pid, const json_t *spec, const char *init, const json_t *targets,
		  const int *fds, unsigned nfds, struct err *err)
{
	const char *rootfs = json_string_value(json_object_get(spec, "rootfs"));
	CLEANUP_FD int ns = -1, root = -1;
	struct stat installed;
	char path[64];
	int r = 0;

	if (json_array_size(targets) != nfds)
		return err_set(err, -EPROTO, "the service sent %u mounts for %zu volumes", nfds,
			       json_array_size(targets));
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || stat(init, &installed) < 0 || setns(ns, CLONE_NEWNS) < 0)
		return err_set(err, -errno, "cannot enter the mounts of process %d: %s", (int)pid,
			       strerror(errno));
	root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(err, -errno, "cannot open %s: %s", rootfs, strerror(errno));
	r = check_init(root, &installed, err);
	/* Shorter first: a parent is there before what lies below it. */
	for (unsigned done = 0, len = 1; !r && done < nfds && len < 4096; len++) {
		for (unsigned i = 0; !r && i < nfds; i++) {
			const char *target = json_string_value(json_array_get(targets, i));

			if (!target || target[0] != '/')
				return err_set(err, -EPROTO, "the service sent a wrong target");
			if (strlen(target) == len) {
				r = attach(root, spec, target, fds[i], err);
				done++;
			}
		}
	}
	return r;
}
