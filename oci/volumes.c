/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the rules of taking over volumes. Config edit; one thread. */
#include "oci/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/log.h"
#include "danaus/base/path.h"
#include "danaus/proto/guest.h"
#include "oci/document.h"
#include "oci/rootfs.h"

/* Left alone: the kernel's own file systems and the engine's run-time files. */
static const char *const left_alone[] = {"/proc", "/sys", "/dev", "/run", "/var/run", GUEST_DIR};
/* Nothing can be served at or below these. */
static const char *const forbidden[] = {"/proc", "/sys", "/dev", GUEST_DIR};

const struct volume_flag volume_flags[VOLUME_FLAGS] = {
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
};

#define BELOW_ANY(path, list) below_any(path, list, sizeof(list) / sizeof((list)[0]))

static bool below_any(const char *path, const char *const *dirs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (path_below(path, dirs[i]))
			return true;
	}
	return false;
}

static bool has_option(const json_t *mount, const char *option)
{
	const json_t *have;
	size_t i;

	json_array_foreach (json_object_get(mount, "options"), i, have) {
		if (json_is_string(have) && !strcmp(json_string_value(have), option))
			return true;
	}
	return false;
}

/* A mount's destination without doubled and final slashes and "." components. */
static int destination(const json_t *mount, char ret[PATH_MAX], struct err *err)
{
	const char *p = json_string_value(json_object_get(mount, "destination"));
	size_t len = 0;

	if (!p || *p != '/' || strlen(p) >= PATH_MAX - 1)
		return err_set(err, -EINVAL,
			       "a mount's destination (%.200s) is not an absolute path",
			       p ? p : "none");
	while (*p) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n && !(n == 1 && *p == '.')) {
			ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
		}
		p += n;
	}
	if (!len)
		ret[len++] = '/';
	ret[len] = '\0';
	return path_check(ret, PATH_MAX) < 0
		   ? err_set(err, -EINVAL, "mount destination %.200s has \"..\"", ret)
		   : 0;
}

static json_t *find_target(const json_t *volumes, const char *target)
{
	json_t *volume;
	size_t i;

	json_array_foreach (volumes, i, volume) {
		if (!strcmp(json_string_value(json_object_get(volume, "target")), target))
			return volume;
	}
	return NULL;
}

/* Takes flags over. */
static int add(json_t *volumes, const char *target, const char *source, bool ro, json_t *flags,
	       bool make, struct err *err)
{
	CLEANUP_JSON json_t *owned = flags;
	json_t *volume;

	if (find_target(volumes, target))
		return err_set(err, -EINVAL, "two volumes at %s: remove one of them", target);
	if (strlen(target) >= MOUNT_PATH_MAX)
		return err_set(err, -EINVAL, "the volume's path %.64s... is longer than %d bytes",
			       target, MOUNT_PATH_MAX - 1);
	if (json_array_size(volumes) == MOUNT_TABLE_MAX)
		return err_set(err, -EINVAL,
			       "more than %d volumes for Danaus: name those it should "
			       "serve with danaus.mount annotations",
			       MOUNT_TABLE_MAX);
	volume = json_pack("{s:s, s:s, s:b, s:O, s:b}", "target", target, "source", source, "ro",
			   (int)ro, "flags", flags, "make", (int)make);
	return json_array_append_new(volumes, volume) < 0 ? -ENOMEM : 0;
}

/* Whether mount is a directory volume that Danaus takes over; *ret_source is malloc'ed then. */
static int is_volume(const struct volumes_context *c, const json_t *mount, const char *target,
		     char **ret_source, struct err *err)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	const char *source = json_string_value(json_object_get(mount, "source"));
	char path[PATH_MAX];
	struct stat st;

	if ((!type || strcmp(type, "bind") != 0) && !has_option(mount, "bind") &&
	    !has_option(mount, "rbind"))
		return 0;
	/* A mount on a shared one would show on the host as well. */
	if (!source || !strcmp(target, "/") || BELOW_ANY(target, left_alone) ||
	    has_option(mount, "shared") || has_option(mount, "rshared") ||
	    has_option(mount, "idmap") || has_option(mount, "ridmap") ||
	    json_object_get(mount, "uidMappings"))
		return 0;
	if (snprintf(path, sizeof(path), "%s%s%s", *source == '/' ? "" : c->bundle,
		     *source == '/' ? "" : "/", source) >= (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG, "the source of volume %s is too long", target);
	CLEANUP_FREE char *real = realpath(path, NULL);
	if (!real || stat(real, &st) < 0)
		return err_set(err, -errno, "the source %s of volume %s: %s; create the directory",
			       path, target, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return 0;
	*ret_source = STEAL_PTR(real);
	return 1;
}

static int take_binds(const struct volumes_context *c, const json_t *mounts, json_t *volumes,
		      struct err *err)
{
	const json_t *mount;
	size_t i;

	json_array_foreach (mounts, i, mount) {
		char target[PATH_MAX], resolved[PATH_MAX], spec[2 * PATH_MAX + 8] = "local:";
		CLEANUP_FREE char *source = NULL;
		json_t *flags;
		int r = destination(mount, target, err);

		if (!r)
			r = is_volume(c, mount, target, &source, err);
		if (r < 0)
			return r;
		if (!r)
			continue;
		r = rootfs_resolve(c->root, target, resolved);
		if (r < 0)
			return err_prefix(err, r, "volume %s: its path in the image", target);
		source_escape(source, spec + strlen("local:"));
		flags = json_array();
		for (size_t f = 0; !r && f < VOLUME_FLAGS; f++) {
			const char *name = volume_flags[f].name;

			if (has_option(mount, name) &&
			    json_array_append_new(flags, json_string(name)) < 0)
				r = -ENOMEM;
		}
		if (r < 0) {
			json_decref(flags);
			return r;
		}
		r = add(volumes, resolved, spec, has_option(mount, "ro"), flags, false, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct source_check {
	const struct volumes_context *context;
	const struct annotated_mount *mount;
	struct config_ceph *ceph;
};

/* What source and the sources in it name: may the container have it? */
static int check_source(const struct source_check *check, const struct source *source,
			struct err *err)
{
	const struct volumes_context *c = check->context;
	struct config_ceph ceph;
	struct stat st;
	int r = 0;

	for (unsigned i = 0; !r && i < source->nlower; i++)
		r = check_source(check, source->lower[i], err);
	if (r < 0 || !source->path)
		return r;
	if (source->kind == SOURCE_CEPH) {
		r = config_ceph(c->config, check->mount->ceph_id, c->pool, source->path, &ceph,
				err);
		if (r < 0)
			return r;
		if (check->ceph->name && strcmp(check->ceph->name, ceph.name) != 0)
			return err_set(err, -EINVAL,
				       "a container uses one ceph identity, not %s and %s",
				       check->ceph->name, ceph.name);
		*check->ceph = ceph;
		return 0;
	}
	CLEANUP_FREE char *real = realpath(source->path, NULL);
	if (!real || stat(real, &st) < 0)
		return err_set(err, -errno, "local:%s: %s; create the directory", source->path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "local:%s is not a directory", source->path);
	if (strcmp(real, source->path) != 0)
		return err_set(err, -ELOOP, "local:%s goes through a symbolic link: name local:%s",
			       source->path, real);
	if (!config_allows_local(c->config, c->trusted, real))
		return err_set(err, -EACCES,
			       "local:%s is not granted: add the directory to \"local_sources\" "
			       "in " CONFIG_PATH,
			       real);
	return 0;
}

static int take_annotated(const struct volumes_context *c, const json_t *mounts, json_t *volumes,
			  struct config_ceph *ceph, unsigned *timeout_s, struct err *err)
{
	const struct annotations *a = c->annotations;

	for (unsigned i = 0; i < a->nmounts; i++) {
		const struct annotated_mount *m = &a->mount[i];
		char resolved[PATH_MAX], other[PATH_MAX];
		const json_t *mount;
		size_t j;
		int r;

		if (BELOW_ANY(m->target, forbidden))
			return err_set(err, -EINVAL, "annotation %s: nothing can be served at %s",
				       m->annotation, m->target);
		r = rootfs_resolve(c->root, m->target, resolved);
		if (r < 0 || strcmp(resolved, m->target) != 0)
			return err_set(
			    err, r < 0 ? r : -ELOOP,
			    "annotation %s: %s goes through a symbolic link of the image; "
			    "name the place itself%s%s",
			    m->annotation, m->target, r < 0 ? "" : ", ", r < 0 ? "" : resolved);
		json_array_foreach (mounts, j, mount) {
			r = destination(mount, other, err);
			if (r < 0)
				return r;
			if (!strcmp(other, m->target))
				return err_set(err, -EINVAL,
					       "annotation %s: another volume is at %s already: "
					       "remove one of them",
					       m->annotation, m->target);
		}
		r = check_source(&(struct source_check){.context = c, .mount = m, .ceph = ceph},
				 m->parsed, err);
		if (!r)
			r = add(volumes, m->target, m->source, m->ro, json_array(), true, err);
		if (r < 0)
			return err_prefix(err, r, "annotation %s", m->annotation);
		if (m->timeout_s && *timeout_s && *timeout_s != m->timeout_s)
			return err_set(err, -EINVAL, "annotation %s: one timeout for all mounts",
				       m->annotation);
		if (m->timeout_s)
			*timeout_s = m->timeout_s;
	}
	return 0;
}

/* Takes those volumes out again that a foreign mount lies below: the kernel face would hide it.
 * What is taken out is foreign to its own parents in the next round. */
static int leave_covered(const json_t *mounts, json_t *volumes, struct err *err)
{
	bool again = true;

	while (again) {
		const json_t *mount, *volume;
		char dest[PATH_MAX];
		size_t i, j;

		again = false;
		json_array_foreach (mounts, i, mount) {
			int r = destination(mount, dest, err);

			if (r < 0)
				return r;
			if (find_target(volumes, dest))
				continue;
			json_array_foreach (volumes, j, volume) {
				const char *target =
				    json_string_value(json_object_get(volume, "target"));

				if (!strcmp(dest, target) || !path_below(dest, target))
					continue;
				if (json_is_true(json_object_get(volume, "make")))
					return err_set(err, -EINVAL,
						       "the mount at %s lies in %s, which Danaus "
						       "serves: move one of them",
						       dest, target);
				log_info("volume %s is left to the kernel: %s is mounted in it",
					 target, dest);
				json_array_remove(volumes, j);
				again = true;
				break;
			}
		}
	}
	return 0;
}

static int by_target(const void *a, const void *b)
{
	const json_t *const *x = a, *const *y = b;

	return strcmp(json_string_value(json_object_get(*x, "target")),
		      json_string_value(json_object_get(*y, "target")));
}

static int sort(json_t *volumes)
{
	json_t *sorted[MOUNT_TABLE_MAX];
	size_t n = json_array_size(volumes), i;

	for (i = 0; i < n; i++)
		sorted[i] = json_incref(json_array_get(volumes, i));
	qsort(sorted, n, sizeof(sorted[0]), by_target);
	json_array_clear(volumes);
	for (i = 0; i < n; i++) {
		if (json_array_append_new(volumes, sorted[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

int volumes_collect(const struct volumes_context *c, const json_t *mounts, json_t *volumes,
		    struct config_ceph *ret_ceph, unsigned *ret_timeout_s, struct err *err)
{
	struct config_ceph ceph = {0};
	unsigned timeout_s = 0;
	int r = c->annotations->nmounts ? take_annotated(c, mounts, volumes, &ceph, &timeout_s, err)
					: take_binds(c, mounts, volumes, err);

	if (!r)
		r = leave_covered(mounts, volumes, err);
	if (!r)
		r = sort(volumes);
	if (r < 0)
		return r;
	*ret_ceph = ceph;
	*ret_timeout_s = timeout_s ? timeout_s : c->config->timeout_s;
	return 0;
}
