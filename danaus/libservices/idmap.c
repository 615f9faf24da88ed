/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the translation of ids between a user namespace and the host. Any thread. */
#include "danaus/libservices/cred.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define OVERFLOW_ID   65534u
#define MAP_TEXT_MAX  (64u << 10)
#define PROC_PATH_MAX 64

static int read_extents(int dirfd, const char *name, unsigned *ret_n, struct idmap_extent *extents)
{
	CLEANUP_FREE char *text = NULL;
	char *line, *rest = NULL;
	unsigned n = 0;
	int r = fd_read_file_at(dirfd, name, MAP_TEXT_MAX, &text, NULL);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (n == IDMAP_EXTENTS_MAX)
			return -E2BIG;
		if (sscanf(line, "%u %u %u", &extents[n].inside, &extents[n].outside,
			   &extents[n].count) != 3)
			return -EPROTO;
		n++;
	}
	*ret_n = n;
	return 0;
}

int idmap_read(pid_t pid, struct idmap *ret)
{
	struct idmap map = {0};
	char path[PROC_PATH_MAX];
	struct stat theirs, ours;
	int r;

	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	CLEANUP_FD int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fstatat(dir, "ns/user", &theirs, 0) < 0 || stat("/proc/self/ns/user", &ours) < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	map.ns = theirs.st_ino;
	if (theirs.st_ino != ours.st_ino) {
		r = read_extents(dir, "uid_map", &map.nuid, map.uid);
		if (!r)
			r = read_extents(dir, "gid_map", &map.ngid, map.gid);
		if (r < 0)
			return r;
		if (!map.nuid && !map.ngid) {
			/* Not written yet: nobody has a number. */
			map.nuid = map.ngid = 1;
			map.uid[0] = map.gid[0] = (struct idmap_extent){0};
		}
	}
	*ret = map;
	return 0;
}

static bool find_in(unsigned n, const struct idmap_extent *e, uint32_t host, uint32_t *ret)
{
	for (unsigned i = 0; i < n; i++) {
		if (host >= e[i].outside && host - e[i].outside < e[i].count) {
			*ret = e[i].inside + (host - e[i].outside);
			return true;
		}
	}
	return false;
}

static bool find_out(unsigned n, const struct idmap_extent *e, uint32_t inside, uint32_t *ret)
{
	for (unsigned i = 0; i < n; i++) {
		if (inside >= e[i].inside && inside - e[i].inside < e[i].count) {
			*ret = e[i].outside + (inside - e[i].inside);
			return true;
		}
	}
	return false;
}

static bool identity(const struct idmap *map)
{
	return !map || (!map->nuid && !map->ngid);
}

uid_t idmap_uid_in(const struct idmap *map, uid_t host)
{
	uint32_t id;

	if (identity(map))
		return host;
	return find_in(map->nuid, map->uid, host, &id) ? id : OVERFLOW_ID;
}

gid_t idmap_gid_in(const struct idmap *map, gid_t host)
{
	uint32_t id;

	if (identity(map))
		return host;
	return find_in(map->ngid, map->gid, host, &id) ? id : OVERFLOW_ID;
}

bool idmap_uid_out(const struct idmap *map, uid_t inside, uid_t *ret_host)
{
	if (!identity(map))
		return find_out(map->nuid, map->uid, inside, ret_host);
	*ret_host = inside;
	return true;
}

bool idmap_gid_out(const struct idmap *map, gid_t inside, gid_t *ret_host)
{
	if (!identity(map))
		return find_out(map->ngid, map->gid, inside, ret_host);
	*ret_host = inside;
	return true;
}

bool idmap_uid_known(const struct idmap *map, uid_t host)
{
	uint32_t id;

	return identity(map) || find_in(map->nuid, map->uid, host, &id);
}

bool idmap_gid_known(const struct idmap *map, gid_t host)
{
	uint32_t id;

	return identity(map) || find_in(map->ngid, map->gid, host, &id);
}
