/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/ceph_world.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct idmap no_map;
struct stack_limits cf_limits = {.ceph_id = "admin", .timeout_s = 10, .cache_bytes = 32 << 20};
struct cred *cf_root, *cf_user, *cf_other;
char cf_dir[64];
struct libservice *cf_ls;
struct ls_node *cf_top;

static struct cred *plain(uid_t uid)
{
	struct cred *cred = calloc(1, sizeof(*cred));

	cred->refs = 1;
	cred->fsuid = cred->ruid = cred->fsgid = cred->rgid = uid;
	cred->map = &no_map;
	return cred;
}

struct libservice *cf_open_at(const char *path, int expected)
{
	struct libservice *ret = NULL;
	struct err err = {0};
	char spec[128];
	int r;

	snprintf(spec, sizeof(spec), "ceph:%s", path);
	r = stack_open(spec, &cf_limits, &ret, &err);
	if (r != expected)
		fail_msg("%s: %d %s", spec, r, err.text);
	return ret;
}

struct ls_node *cf_get(struct libservice *at, struct ls_node *parent, const char *name,
		       struct attr *attr)
{
	struct ls_node *node;
	struct attr a;

	assert_int_equal(ls_lookup(at, cf_root, parent, name, &node, attr ? attr : &a), 0);
	return node;
}

struct ls_file *cf_create(struct libservice *at, struct ls_node *parent, const char *name,
			  mode_t mode, struct ls_node **ret)
{
	struct ls_file *file;
	struct attr attr;

	assert_int_equal(ls_create(at, cf_root, parent, name, O_RDWR, mode, 0, ret, &file, &attr),
			 0);
	return file;
}

ssize_t cf_put(struct libservice *at, struct ls_file *file, const char *text, uint64_t offset)
{
	struct iovec iov = {(char *)text, strlen(text)};
	uint64_t end;

	return ls_write(at, file, &iov, 1, offset, offset == UINT64_MAX, &end);
}

void cf_expect(struct libservice *at, struct ls_file *file, uint64_t offset, const char *text)
{
	char buf[256] = "";
	struct iovec iov = {buf, sizeof(buf) - 1};

	assert_int_equal(ls_read(at, file, &iov, 1, offset), strlen(text));
	assert_string_equal(buf, text);
}

struct ls_node *cf_make(struct ls_node *parent, const char *name, mode_t mode)
{
	struct ls_node *node;
	struct attr attr;

	assert_int_equal(ls_make(cf_ls, cf_root, parent, name, mode, 0, 0, NULL, &node, &attr), 0);
	return node;
}

bool cf_has_cluster(void)
{
	cf_limits.ceph_conf = getenv("DANAUS_CEPH_CONF");
	if (!cf_limits.ceph_conf)
		printf("skipped: DANAUS_CEPH_CONF names no cluster\n");
	return cf_limits.ceph_conf;
}

int cf_setup(void **state)
{
	struct libservice *all;
	struct ls_node *node;
	struct attr attr;
	int r;

	if (!cf_has_cluster())
		exit(77);
	cf_root = cred_root();
	cf_user = plain(1000);
	cf_other = plain(1001);
	snprintf(cf_dir, sizeof(cf_dir), "/test-%d", (int)getpid());
	all = cf_open_at("/", 0);
	r = ls_root(all, &node, &attr);
	if (!r)
		r = ls_make(all, cf_root, node, cf_dir + 1, S_IFDIR | 0755, 0, 0, NULL, &cf_top,
			    &attr);
	if (r < 0)
		return r;
	ls_forget(all, cf_top, 1);
	ls_forget(all, node, 1);
	ls_free(all);
	cf_ls = cf_open_at(cf_dir, 0);
	return ls_root(cf_ls, &cf_top, &attr);
}

int cf_teardown(void **state)
{
	struct libservice *all;
	struct ls_node *node;
	struct attr attr;
	int r;

	ls_forget(cf_ls, cf_top, 1);
	ls_free(cf_ls);
	all = cf_open_at("/", 0);
	r = ls_root(all, &node, &attr);
	if (!r)
		r = ls_unlink(all, cf_root, node, cf_dir + 1, true);
	ls_forget(all, node, 1);
	ls_free(all);
	free(cf_user);
	free(cf_other);
	return r;
}

bool cf_has_admin(void)
{
	return system("command -v ceph >/dev/null 2>&1") == 0;
}

int cf_admin(const char *command)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "CEPH_CONF=%s ceph %s >/dev/null 2>&1", cf_limits.ceph_conf,
		 command);
	return system(cmd);
}

int cf_signal(const char *daemon, int signal)
{
	char path[PATH_MAX];
	char is = 0;
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "%.*s/run/%s.pid",
		 (int)(strrchr(cf_limits.ceph_conf, '/') - cf_limits.ceph_conf),
		 cf_limits.ceph_conf, daemon);
	file = fopen(path, "re");
	if (!file)
		return -ENOENT;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	if (pid <= 0 || kill(pid, signal) < 0)
		return -ESRCH;
	while (signal == SIGSTOP && is != 'T') {
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "re");
		if (!file)
			return -ESRCH;
		if (fscanf(file, "%*d (%*[^)]) %c", &is) != 1)
			is = 0;
		fclose(file);
	}
	return 0;
}
