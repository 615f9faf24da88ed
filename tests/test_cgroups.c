/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroups/cgroups.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define V2_MOUNT "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNTS                                                                                  \
	"31 20 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"     \
	"32 20 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"                        \
	"33 20 0:32 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"                      \
	"34 20 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"                      \
	"35 20 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"           \
	"36 20 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
#define V1_LINES                                                                                   \
	"9:name=systemd:/s\n6:freezer:/p/c\n5:devices:/p/c\n4:memory:/p/c\n1:cpu,cpuacct:/p/c\n"

static void layouts_are_understood(void **state)
{
	static const struct {
		const char *cgroup, *mountinfo, *want;
	} rows[] = {
	    {"0::/a/b\n", V2_MOUNT, "/sys/fs/cgroup/a/b "},
	    {"0::/\n", V2_MOUNT, "/sys/fs/cgroup "},
	    {V1_LINES, V1_MOUNTS, "/sys/fs/cgroup/memory/p/c /sys/fs/cgroup/cpu,cpuacct/p/c "},
	    {V1_LINES "0::/u\n", V1_MOUNTS,
	     "/sys/fs/cgroup/memory/p/c /sys/fs/cgroup/cpu,cpuacct/p/c "},
	    {"4:memory:/p/c d\n", "32 20 0:31 / /sys/fs/cg\\040x rw - cgroup cgroup rw,memory\n",
	     "/sys/fs/cg x/p/c d "},
	    /* A bind mount of a part of the hierarchy shows less than the whole. */
	    {"0::/p/c\n", "1 1 0:1 /p /m rw - cgroup2 x rw\n2 1 0:1 / /n rw - cgroup2 x rw\n",
	     "/n/p/c "},
	    {"0::/p/c\n", "1 1 0:1 /p /m rw - cgroup2 x rw\n", "/m/c "},
	    {"0::/a:b\n", V2_MOUNT, "/sys/fs/cgroup/a:b "},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cgroups *groups = calloc(1, sizeof(*groups));
		char is[1024] = "";
		struct err err = {0};

		if (cgroups_parse(rows[i].cgroup, rows[i].mountinfo, groups, &err) < 0)
			fail_msg("row %zu: %s", i, err.text);
		for (unsigned g = 0; g < groups->n; g++)
			sprintf(is + strlen(is), "%s ", groups->at[g].dir);
		assert_string_equal(is, rows[i].want);
		free(groups);
	}
}

static void nothing_mounted_is_an_error(void **state)
{
	static const char *const rows[][2] = {
	    {"0::/a\n", V1_MOUNTS + 0},
	    {"0::/a\n", "1 1 0:1 / / rw - ext4 x rw\n"},
	    {"0::/a\n", ""},
	    {"", V2_MOUNT},
	    {"nonsense\n", V2_MOUNT},
	    {"0::/other\n", "1 1 0:1 /p /m rw - cgroup2 x rw\n"},
	};
	struct cgroups *groups = calloc(1, sizeof(*groups));

	for (size_t i = 1; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {0};

		assert_true(cgroups_parse(rows[i][0], rows[i][1], groups, &err) < 0);
		assert_true(err.text[0]);
	}
	free(groups);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void a_pool_is_beside_its_container(void **state)
{
	char tmp[] = "/tmp/danaus-test-cgroups-XXXXXX", parent[256], text[64];
	struct cgroups *groups = calloc(1, sizeof(*groups));
	struct err err = {0};
	FILE *f;

	assert_non_null(mkdtemp(tmp));
	snprintf(parent, sizeof(parent), "%s/p", tmp);
	mkdir(parent, 0755);
	groups->n = 2;
	snprintf(groups->at[0].mount, sizeof(groups->at[0].mount), "%s", tmp);
	snprintf(groups->at[0].dir, sizeof(groups->at[0].dir), "%s/p/c", tmp);
	strcpy(groups->at[0].controllers, "memory");
	snprintf(groups->at[1].mount, sizeof(groups->at[1].mount), "%s", tmp);
	snprintf(groups->at[1].dir, sizeof(groups->at[1].dir), "%s", tmp); /* in the root: stays */
	if (cgroups_pool(groups, "web", &err) < 0)
		fail_msg("%s", err.text);
	snprintf(parent, sizeof(parent), "%s/p/danaus-web", tmp);
	assert_string_equal(groups->at[0].dir, parent);
	assert_string_equal(groups->at[1].dir, tmp);
	assert_int_equal(access(parent, F_OK), 0);
	/* Again: it is there already, and a cpuset gets its parent's CPUs. */
	put(parent, "cpuset.cpus", "\n");
	put(parent, "cpuset.mems", "1\n");
	*strrchr(parent, '/') = '\0';
	put(parent, "cpuset.cpus", "0-1\n");
	put(parent, "cpuset.mems", "0\n");
	strcpy(groups->at[0].controllers, "cpuset");
	assert_int_equal(cgroups_pool(groups, "web", &err), 0);
	strcat(parent, "/danaus-web/cpuset.cpus");
	f = fopen(parent, "r");
	assert_non_null(fgets(text, sizeof(text), f));
	assert_int_equal(strncmp(text, "0-1", 3), 0);
	fclose(f);
	/* With somebody in it, and another's, it stays. */
	assert_int_equal(cgroups_remove_pool(groups->at[0].dir), -ENOTEMPTY);
	assert_int_equal(cgroups_remove_pool("/nonexistent/other"), -EINVAL);
	unlink(parent);
	strcpy(strrchr(parent, '/'), "/cpuset.mems");
	unlink(parent);
	assert_int_equal(cgroups_remove_pool(groups->at[0].dir), 0);
	assert_int_equal(cgroups_remove_pool(groups->at[0].dir), 0);
	assert_int_equal(access(groups->at[0].dir, F_OK), -1);
	nftw(tmp, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(groups);
}

static void usage_is_read(void **state)
{
	char tmp[] = "/tmp/danaus-test-cgroups-XXXXXX";
	struct cgroups *groups = calloc(1, sizeof(*groups));
	struct cgroups_usage usage;

	assert_non_null(mkdtemp(tmp));
	put(tmp, "memory.current", "4096\n");
	put(tmp, "cpu.stat", "nr_periods 0\nusage_usec 7\nuser_usec 1\n");
	put(tmp, "cpuset.cpus.effective", "0-1\n");
	put(tmp, "memory.usage_in_bytes", "8192\n");
	put(tmp, "cpuacct.usage", "99\n");
	groups->n = 1;
	groups->at[0].v2 = true;
	strcpy(groups->at[0].dir, tmp);
	cgroups_usage(groups, &usage);
	assert_int_equal(usage.memory_bytes, 4096);
	assert_int_equal(usage.cpu_ns, 7000);
	assert_string_equal(usage.cpus, "0-1");
	groups->at[0].v2 = false;
	strcpy(groups->at[0].controllers, "memory,cpuacct");
	cgroups_usage(groups, &usage);
	assert_int_equal(usage.memory_bytes, 8192);
	assert_int_equal(usage.cpu_ns, 99);
	groups->n = 0;
	cgroups_usage(groups, &usage);
	assert_true(usage.memory_bytes == UINT64_MAX);
	nftw(tmp, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(groups);
}

static void the_machine_is_understood(void **state)
{
	struct cgroups *groups = calloc(1, sizeof(*groups));
	struct err err = {0};

	if (cgroups_of(getpid(), groups, &err) == -ENOENT) {
		free(groups);
		skip(); /* no cgroups here */
	}
	for (unsigned i = 0; i < groups->n; i++) {
		char procs[PATH_MAX + 16];

		snprintf(procs, sizeof(procs), "%s/cgroup.procs", groups->at[i].dir);
		assert_int_equal(access(procs, F_OK), 0);
	}
	free(groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(layouts_are_understood),
	    cmocka_unit_test(nothing_mounted_is_an_error),
	    cmocka_unit_test(a_pool_is_beside_its_container),
	    cmocka_unit_test(usage_is_read),
	    cmocka_unit_test(the_machine_is_understood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
