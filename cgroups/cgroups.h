/* SPDX-License-Identifier: Apache-2.0 */
/* cgroups v2, v1 and the hybrid layout (cgroups(7)): where a process is, joining it there, a pool's
 * own group. Source of the texts: kernel. One thread. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "danaus/base/err.h"

#define CGROUPS_MAX 16

/* The directory of one hierarchy. */
struct cgroup {
	bool v2;
	char controllers[64]; /* v1: "cpu,cpuacct"; v2: "" */
	char mount[256];      /* the hierarchy's root */
	char dir[PATH_MAX];   /* mount + the process's path */
};

struct cgroups {
	unsigned n;
	struct cgroup at[CGROUPS_MAX];
};

/* The hierarchies of a process that account for CPU, memory and block I/O: v2 where it carries the
 * controllers, else those of v1. Not freezer (a paused container must not freeze its service with
 * calls in flight), devices and pids (the service's threads are not the container's). */
int cgroups_of(pid_t pid, struct cgroups *ret, struct err *err);

/* The same from the text of /proc/PID/cgroup and of /proc/self/mountinfo. */
int cgroups_parse(const char *cgroup, const char *mountinfo, struct cgroups *ret, struct err *err);

/* Makes "danaus-NAME" beside each group of groups, and names these in groups instead: where the
 * containers of a named pool have their service. A process in a hierarchy's root stays there. */
int cgroups_pool(struct cgroups *groups, const char *name, struct err *err);

/* Removes dir, a group that cgroups_pool() has made: 0, also when it is not there. -EBUSY: somebody
 * is in it; -EINVAL: it is another's. */
int cgroups_remove_pool(const char *dir);

/* Moves the calling process into each group. Memory it has touched before stays where it was. */
int cgroups_join(const struct cgroups *groups, struct err *err);

/* Moves the calling process to the hierarchies' roots, so that its container's groups can be
 * removed (and the runtime that removes them kills nothing that still flushes), and removes
 * "danaus-NAME" groups that it was the last in. Best effort. */
void cgroups_leave(void);

struct cgroups_usage {
	uint64_t memory_bytes, cpu_ns; /* UINT64_MAX: not accounted */
	char cpus[256];		       /* the effective cpuset, "" without one */
};

void cgroups_usage(const struct cgroups *groups, struct cgroups_usage *ret);
