/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the tmpfs of the tests of the union, their users and branches. */
#include "tests/lib/union_world.h"

#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

char uw_base[] = "/tmp/danaus-union-XXXXXX";
struct cred *uw_users[2];
static struct idmap no_map;

void uw_sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("%s", cmd);
}

int uw_walk(struct libservice *ls, const struct cred *cred, const char *path, struct ls_node **ret,
	    struct attr *ret_attr)
{
	char copy[PATH_MAX], *save = NULL;
	struct ls_node *node, *next;
	int r = ls_root(ls, &node, ret_attr);

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); !r && name;
	     name = strtok_r(NULL, "/", &save)) {
		if (!S_ISDIR(ret_attr->mode)) {
			r = S_ISLNK(ret_attr->mode) ? -ENOENT : -ENOTDIR; /* all dangle */
			ls_forget(ls, node, 1);
			return r;
		}
		r = ls_lookup(ls, cred, node, name, &next, ret_attr);
		ls_forget(ls, node, 1);
		node = next;
	}
	if (!r)
		*ret = node;
	return r;
}

int uw_walk_dir(struct libservice *ls, const struct cred *cred, const char *path,
		struct ls_node **ret, const char **ret_name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	struct attr attr;
	int r;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	*ret_name = slash ? slash + 1 : path;
	r = uw_walk(ls, cred, dir, ret, &attr);
	if (!r && !S_ISDIR(attr.mode)) {
		ls_forget(ls, *ret, 1);
		*ret = NULL;
		r = S_ISLNK(attr.mode) ? -ENOENT : -ENOTDIR;
	}
	return r;
}

void uw_open(struct union_world *w)
{
	char spec[512];
	struct err err = {0};

	cred_assume_service();
	if (w->mnt[0]) {
		snprintf(spec, sizeof(spec), "lowerdir=%s/a:%s/b,upperdir=%s/u,workdir=%s/w",
			 w->branches, w->branches, w->branches, w->branches);
		if (mount("overlay", w->mnt, "overlay", 0, spec) < 0)
			fail_msg("overlay: %s", strerror(errno));
		return;
	}
	snprintf(spec, sizeof(spec), "union:[local:%s/u,rw][local:%s/a,ro][local:%s/b,ro]",
		 w->branches, w->branches, w->branches);
	if (stack_open(spec, NULL, &w->ls, &err) < 0)
		fail_msg("%s", err.text);
}

void uw_close(struct union_world *w)
{
	if (w->ls)
		ls_free(w->ls);
	cred_assume_service();
	if (!w->ls)
		assert_int_equal(umount(w->mnt), 0);
	w->ls = NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* Branches as the shell commands made them, which run once for the cases that ask again. */
void uw_fresh(struct union_world *w, const char *commands)
{
	static const char *made;

	cred_assume_service();
	*w = (struct union_world){.mnt = ""};
	snprintf(w->branches, sizeof(w->branches), "%s/s", uw_base);
	nftw(w->branches, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (made != commands)
		uw_sh("umask 022; cd %s; rm -rf t; mkdir -p t/u t/a t/b; cd t; %s; true", uw_base,
		      commands);
	made = commands;
	uw_sh("exec cp -a %s/t %s", uw_base, w->branches);
}

struct ls_node *uw_at(struct union_world *w, const char *path, struct attr *attr)
{
	struct ls_node *node;

	if (uw_walk(w->ls, uw_users[0], path, &node, attr) < 0)
		fail_msg("%s is not there", path);
	return node;
}

int uw_setup(void **state)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(uw_base) ||
	    mount("tmpfs", uw_base, "tmpfs", 0, "mode=755,size=512m") < 0) {
		printf("skipped: needs root and a mount namespace: %s\n", strerror(errno));
		exit(77);
	}
	umask(022);
	for (size_t i = 0; i < sizeof(uw_payload); i++)
		uw_payload[i] = i * 7 + i / 251;
	uw_users[0] = cred_root();
	uw_users[1] = calloc(1, sizeof(struct cred));
	uw_users[1]->refs = 1;
	uw_users[1]->fsuid = uw_users[1]->ruid = uw_users[1]->fsgid = uw_users[1]->rgid = 1000;
	uw_users[1]->map = &no_map;
	return setgroups(0, NULL);
}

int uw_teardown(void **state)
{
	cred_assume_service();
	free(uw_users[1]);
	if (umount2(uw_base, MNT_DETACH) < 0)
		return -1;
	return rmdir(uw_base);
}
