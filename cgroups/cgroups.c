/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the knowledge of the cgroup layouts. Hooks and the service; one thread. */
#include "cgroups/cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/parse.h"

#define TEXT_MAX    (4u << 20)
#define POOL_PREFIX "danaus-"

/* v1 hierarchies that count, and those whose presence in one keeps us out. */
static const char *const wanted[] = {"cpu", "cpuacct", "cpuset", "memory", "blkio"};
static const char *const unwanted[] = {"freezer", "devices", "pids"};

static bool in_list(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list; list += strcspn(list, ","), list += *list == ',') {
		if (strcspn(list, ",") == len && !memcmp(list, name, len))
			return true;
	}
	return false;
}

static bool any_in_list(const char *list, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (in_list(list, names[i]))
			return true;
	}
	return false;
}

/* Undoes mountinfo's octal escapes (proc_pid_mountinfo(5)). */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		unsigned value;

		if (*text == '\\' && sscanf(text + 1, "%3o", &value) == 1 && strlen(text) > 3) {
			*to++ = value;
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* Whether line is the mount of the wanted hierarchy; where it is, and which part of the hierarchy
 * it shows. */
static bool mount_matches(const char *line, size_t len, bool v2, const char *controllers,
			  char ret_mount[256], char ret_root[PATH_MAX])
{
	char copy[PATH_MAX * 2], type[16], options[512], *tail;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, line, len);
	copy[len] = '\0';
	tail = strstr(copy, " - ");
	if (!tail || sscanf(tail, " - %15s %*s %511s", type, options) != 2 ||
	    sscanf(copy, "%*d %*d %*s %4095s %255s", ret_root, ret_mount) != 2)
		return false;
	unescape(ret_root);
	unescape(ret_mount);
	if (v2)
		return !strcmp(type, "cgroup2");
	if (strcmp(type, "cgroup") != 0)
		return false;
	for (const char *c = controllers; *c; c += strcspn(c, ","), c += *c == ',') {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(c, ","), c);
		if (!in_list(options, name))
			return false;
	}
	return true;
}

/* The mount that shows path of the hierarchy, the widest one. */
static bool locate(const char *mountinfo, struct cgroup *group, const char *path)
{
	size_t best = SIZE_MAX;

	for (const char *line = mountinfo; *line;) {
		size_t len = strcspn(line, "\n"), root_len;
		char mount[256], root[PATH_MAX];

		if (mount_matches(line, len, group->v2, group->controllers, mount, root)) {
			root_len = strcmp(root, "/") ? strlen(root) : 0;
			if (root_len < best && !strncmp(path, root, root_len) &&
			    (path[root_len] == '/' || !path[root_len]) &&
			    snprintf(group->dir, sizeof(group->dir), "%s%s", mount,
				     strcmp(path + root_len, "/") ? path + root_len : "") <
				(int)sizeof(group->dir)) {
				best = root_len;
				strcpy(group->mount, mount);
			}
		}
		line += len + (line[len] == '\n');
	}
	return best != SIZE_MAX;
}

int cgroups_parse(const char *cgroup, const char *mountinfo, struct cgroups *ret, struct err *err)
{
	struct cgroups v1 = {0}, v2 = {0};

	for (const char *line = cgroup; *line;) {
		size_t len = strcspn(line, "\n");
		struct cgroup group = {0};
		const char *controllers = memchr(line, ':', len), *path;
		struct cgroups *to;

		path =
		    controllers ? memchr(controllers + 1, ':', line + len - controllers - 1) : NULL;
		if (!path)
			return err_set(err, -EINVAL, "cannot read /proc/PID/cgroup");
		snprintf(group.controllers, sizeof(group.controllers), "%.*s",
			 (int)(path - controllers - 1), controllers + 1);
		group.v2 = !group.controllers[0];
		to = group.v2 ? &v2 : &v1;
		CLEANUP_FREE char *copy = strndup(path + 1, line + len - path - 1);
		if (!copy)
			return -ENOMEM;
		line += len + (line[len] == '\n');
		if (!group.v2 &&
		    (!any_in_list(group.controllers, wanted, sizeof(wanted) / sizeof(wanted[0])) ||
		     any_in_list(group.controllers, unwanted,
				 sizeof(unwanted) / sizeof(unwanted[0]))))
			continue;
		if (locate(mountinfo, &group, copy) && to->n < CGROUPS_MAX)
			to->at[to->n++] = group;
	}
	/* Hybrid: v2 is there for systemd and carries nothing. */
	*ret = v1.n ? v1 : v2;
	return ret->n
		   ? 0
		   : err_set(err, -ENOENT, "no cgroup hierarchy is mounted: mount /sys/fs/cgroup");
}

int cgroups_of(pid_t pid, struct cgroups *ret, struct err *err)
{
	CLEANUP_FREE char *cgroup = NULL, *mountinfo = NULL;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, TEXT_MAX, &cgroup, NULL);
	if (!r)
		r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", TEXT_MAX, &mountinfo, NULL);
	if (r < 0)
		return err_prefix(err, r, "the cgroups of process %d", (int)pid);
	return cgroups_parse(cgroup, mountinfo, ret, err);
}

static int read_value(const char *dir, const char *name, char *buf, size_t cap)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX + 64];
	int r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	r = fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	return snprintf(buf, cap, "%s", text) < (int)cap ? 0 : -ENOSPC;
}

static int write_value(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* A new cpuset group of v1 is empty, and nothing can run in it. */
static int inherit_cpuset(const char *parent, const char *dir)
{
	static const char *const names[] = {"cpuset.cpus", "cpuset.mems"};
	char value[1024];
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(names) / sizeof(names[0]); i++) {
		r = read_value(dir, names[i], value, sizeof(value));
		if (r || value[0])
			continue;
		r = read_value(parent, names[i], value, sizeof(value));
		if (!r)
			r = write_value(dir, names[i], value);
	}
	return r;
}

int cgroups_pool(struct cgroups *groups, const char *name, struct err *err)
{
	for (unsigned i = 0; i < groups->n; i++) {
		struct cgroup *group = &groups->at[i];
		char parent[PATH_MAX];
		int r = 0;

		if (!strcmp(group->dir, group->mount))
			continue;
		strcpy(parent, group->dir);
		*strrchr(parent, '/') = '\0';
		if (snprintf(group->dir, sizeof(group->dir), "%s/" POOL_PREFIX "%s", parent,
			     name) >= (int)sizeof(group->dir))
			return -ENAMETOOLONG;
		if (mkdir(group->dir, 0755) < 0 && errno != EEXIST)
			r = -errno;
		else if (in_list(group->controllers, "cpuset"))
			r = inherit_cpuset(parent, group->dir);
		if (r < 0)
			return err_prefix(err, r, "cannot make the pool's cgroup %s", group->dir);
	}
	return 0;
}

int cgroups_remove_pool(const char *dir)
{
	const char *name = strrchr(dir, '/');

	if (!name || strncmp(name + 1, POOL_PREFIX, strlen(POOL_PREFIX)) != 0)
		return -EINVAL;
	return rmdir(dir) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroups_join(const struct cgroups *groups, struct err *err)
{
	for (unsigned i = 0; i < groups->n; i++) {
		int r = write_value(groups->at[i].dir, "cgroup.procs", "0");

		if (r < 0)
			return err_prefix(err, r, "cannot join the cgroup %s", groups->at[i].dir);
	}
	return 0;
}

void cgroups_leave(void)
{
	struct cgroups groups;

	if (cgroups_of(getpid(), &groups, NULL) < 0)
		return;
	for (unsigned i = 0; i < groups.n; i++) {
		const struct cgroup *group = &groups.at[i];

		if (!strcmp(group->dir, group->mount))
			continue;
		write_value(group->mount, "cgroup.procs", "0");
		cgroups_remove_pool(group->dir);
	}
}

/* "usage_usec N" in cpu.stat. */
static uint64_t v2_cpu_ns(const char *dir)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX + 64], *usage;
	unsigned long long us;

	snprintf(path, sizeof(path), "%s/cpu.stat", dir);
	if (fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return UINT64_MAX;
	usage = strstr(text, "usage_usec ");
	return usage && sscanf(usage, "usage_usec %llu", &us) == 1 ? us * 1000 : UINT64_MAX;
}

void cgroups_usage(const struct cgroups *groups, struct cgroups_usage *ret)
{
	static const struct {
		const char *controller, *file;
	} v1_files[] = {{"memory", "memory.usage_in_bytes"}, {"cpuacct", "cpuacct.usage"}};
	char value[64];

	*ret = (struct cgroups_usage){.memory_bytes = UINT64_MAX, .cpu_ns = UINT64_MAX};
	for (unsigned i = 0; i < groups->n; i++) {
		const struct cgroup *group = &groups->at[i];
		uint64_t *const into[] = {&ret->memory_bytes, &ret->cpu_ns};

		if (group->v2) {
			if (!read_value(group->dir, "memory.current", value, sizeof(value)))
				parse_u64(value, UINT64_MAX, &ret->memory_bytes);
			ret->cpu_ns = v2_cpu_ns(group->dir);
			read_value(group->dir, "cpuset.cpus.effective", ret->cpus,
				   sizeof(ret->cpus));
			continue;
		}
		for (int f = 0; f < 2; f++) {
			if (in_list(group->controllers, v1_files[f].controller) &&
			    !read_value(group->dir, v1_files[f].file, value, sizeof(value)))
				parse_u64(value, UINT64_MAX, into[f]);
		}
		if (in_list(group->controllers, "cpuset"))
			read_value(group->dir, "cpuset.effective_cpus", ret->cpus,
				   sizeof(ret->cpus));
	}
}
