/* SPDX-License-Identifier: Apache-2.0 */
/* A vfs over a temporary directory, for the tests of danaus/vfs. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/libservices/fault.h"
#include "danaus/vfs/vfs.h"

struct env {
	char dir[64]; /* the source, on the host */
	struct vfs *vfs;
	struct vfs_instance *instance;
	struct fault_plan plan;
	struct vctx ctx; /* root's */
	struct cred *root;
};

static int env_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline void env_remove_tree(const char *dir)
{
	nftw(dir, env_remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

/* In memory where that has extended attributes: the disk is slow when others sync it. The process
 * has a /dev/shm of its own where it may: what a test leaves there that aborts goes with it. */
static inline const char *env_base(void)
{
	static const char *base;
	char dir[] = "/dev/shm/danaus-probe-XXXXXX";

	if (!base)
		base = getenv("DANAUS_TEST_DIR");
	if (!base) {
		base = "/var/tmp";
		if (unshare(CLONE_NEWNS) == 0 &&
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
			mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
		if (mkdtemp(dir)) {
			if (!setxattr(dir, "user.a", "1", 1, 0))
				base = "/dev/shm";
			rmdir(dir);
		}
	}
	return base;
}

/* A temporary directory that all identities may use. */
static inline void env_mkdir(char dir[64])
{
	snprintf(dir, 64, "%s/danaus-test-XXXXXX", env_base());
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0777), 0);
}

static inline unsigned env_count_fds(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline struct cred *env_cred(uid_t uid, gid_t gid, uint64_t caps, unsigned ngroups,
				    const gid_t *groups)
{
	struct cred *cred = calloc(1, sizeof(*cred) + ngroups * sizeof(gid_t));

	assert_non_null(cred);
	cred->refs = 1;
	cred->fsuid = cred->ruid = uid;
	cred->fsgid = cred->rgid = gid;
	cred->caps = cred->permitted = caps;
	cred->ngroups = ngroups;
	if (ngroups)
		memcpy(cred->groups, groups, ngroups * sizeof(gid_t));
	return cred;
}

static inline struct vctx env_ctx(struct cred *cred, uint64_t owner)
{
	return (struct vctx){
	    .cred = cred, .owner = owner, .pid = owner, .umask = 022, .fsize_limit = UINT64_MAX};
}

/* The volume /data of ls, with root's context; env->dir is there. */
static inline void env_serve(struct env *env, struct libservice *ls)
{
	struct err err = {""};

	assert_int_equal(vfs_new(&env->vfs), 0);
	assert_int_equal(vfs_instance_add(env->vfs, "c", "/data", ls, &env->instance, &err), 0);
	env->root = cred_root();
	env->ctx = env_ctx(env->root, 1);
}

/* format: a spec with the temporary directory's path for its %s. Caches have 16 MiB. */
static inline void env_start_on(struct env *env, const char *format)
{
	static const struct stack_limits limits = {.cache_bytes = 16 << 20};
	struct libservice *ls;
	struct err err = {""};
	char spec[128];

	memset(env, 0, sizeof(*env));
	env_mkdir(env->dir);
	snprintf(spec, sizeof(spec), format, env->dir);
	assert_int_equal(stack_open(spec, &limits, &ls, &err), 0);
	env_serve(env, ls);
}

static inline void env_start(struct env *env, bool fault)
{
	struct libservice *ls;
	struct err err = {""};

	memset(env, 0, sizeof(*env));
	env_mkdir(env->dir);
	assert_int_equal(local_new(env->dir, &ls, &err), 0);
	if (fault)
		assert_int_equal(fault_new(ls, &env->plan, &ls), 0);
	env_serve(env, ls);
}

static inline void env_stop(struct env *env)
{
	vfs_free(env->vfs);
	cred_assume_service();
	cred_unref(env->root);
	env_remove_tree(env->dir);
}

static inline struct vtarget env_at(struct env *env, const char *path)
{
	return (struct vtarget){.dir = vfs_instance_root(env->instance), .path = path};
}

/* The source's path of a name in it. */
static inline const char *env_host(struct env *env, const char *path)
{
	static __thread char buf[2][256];
	static __thread unsigned turn;

	turn ^= 1;
	snprintf(buf[turn], sizeof(buf[turn]), "%s/%s", env->dir, path);
	return buf[turn];
}

static inline int env_open(struct env *env, struct vctx *ctx, const char *path, int flags,
			   mode_t mode, struct vfile **ret)
{
	struct vtarget at = env_at(env, path);

	return vfs_open(ctx, &at, flags, mode, ret, NULL);
}

static inline ssize_t env_write(struct vctx *ctx, struct vfile *file, const void *data, size_t len,
				uint64_t offset)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};

	return vfs_write(ctx, file, &iov, 1, offset, false);
}

static inline ssize_t env_read(struct vctx *ctx, struct vfile *file, void *data, size_t len,
			       uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};

	return vfs_read(ctx, file, &iov, 1, offset);
}

static inline int env_stat(struct env *env, struct vctx *ctx, const char *path, struct attr *ret)
{
	struct vtarget at = env_at(env, path);

	return vfs_stat(ctx, &at, ret);
}

static inline bool env_possible(void)
{
	if (getuid() == 0)
		return true;
	fprintf(stderr, "skipped: other identities need root\n");
	return false;
}

/* A test's main: 77 without root. */
#define env_run(tests) (env_possible() ? cmocka_run_group_tests(tests, NULL, NULL) : 77)
