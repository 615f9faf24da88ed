/* SPDX-License-Identifier: Apache-2.0 */
/* Who may what: each identity's attempts on a volume beside those of a process on the host. */
#include "tests/lib/vfs_world.h"

#include <grp.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OUTCOMES 19

/* What somebody may do with "x" in "dir", as errnos. ids: what he may try to give x to. */
static void try_on_host(const char *dir, const uid_t *ids, int *out)
{
	const struct timespec then[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	char path[128], other[160];
	int fd, n = 0;

	snprintf(path, sizeof(path), "%s/x", dir);
	snprintf(other, sizeof(other), "%s/new", dir);
#define TRY(expression) out[n++] = (expression) < 0 ? errno : 0
	TRY(fd = open(path, O_RDONLY | O_CLOEXEC));
	if (fd >= 0)
		close(fd);
	TRY(fd = open(path, O_WRONLY | O_CLOEXEC));
	if (fd >= 0)
		close(fd);
	TRY(fd = open(path, O_RDONLY | O_NOATIME | O_CLOEXEC));
	if (fd >= 0)
		close(fd);
	TRY(faccessat(AT_FDCWD, path, X_OK, AT_EACCESS));
	TRY(faccessat(AT_FDCWD, path, R_OK | W_OK, 0));
	TRY(chown(path, -1, -1));
	TRY(chmod(path, 02755));
	TRY(utimensat(AT_FDCWD, path, then, 0));
	TRY(utimensat(AT_FDCWD, path, NULL, 0));
	TRY(setxattr(path, "user.a", "1", 1, 0));
	TRY(chown(path, -1, ids[1]));
	TRY(chown(path, ids[0], -1));
	TRY(truncate(path, 1));
	TRY(fd = open(other, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
	if (fd >= 0) {
		close(fd);
		unlink(other);
	}
	TRY(mknod(other, S_IFCHR | 0600, makedev(1, 3)));
	if (!out[n - 1])
		unlink(other);
	TRY(fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd >= 0)
		close(fd);
	TRY(rename(path, other));
	if (!out[n - 1])
		rename(other, path);
	TRY(link(path, other));
	if (!out[n - 1])
		unlink(other);
	TRY(unlink(path));
#undef TRY
}

static void try_on_volume(struct vfs_world *w, struct vctx *ctx, const uid_t *ids, int *out)
{
	struct vtarget x = env_at(&w->env, "dir/x"), dir = env_at(&w->env, "dir"),
		       other = env_at(&w->env, "dir/new");
	struct setattr mode = {.set = ATTR_MODE, .attr.mode = 02755},
		       size = {.set = ATTR_SIZE, .attr.size = 1},
		       then = {.set = ATTR_ATIME | ATTR_MTIME},
		       now = {.set = ATTR_ATIME | ATTR_MTIME}, group = {.set = ATTR_GID},
		       owner = {.set = ATTR_UID}, nobody = {.set = 0};
	struct vfile *file;
	int n = 0;

	then.attr.atime.tv_sec = then.attr.mtime.tv_sec = 1;
	now.attr.atime.tv_nsec = now.attr.mtime.tv_nsec = UTIME_NOW;
	group.attr.gid = -1;
	owner.attr.uid = -1;
	idmap_gid_out(ctx->cred->map, ids[1], &group.attr.gid);
	idmap_uid_out(ctx->cred->map, ids[0], &owner.attr.uid);
#define TRY(expression) out[n++] = -(expression)
	TRY(vfs_open(ctx, &x, O_RDONLY, 0, &file, NULL));
	if (!out[n - 1])
		vfile_unref(file);
	TRY(vfs_open(ctx, &x, O_WRONLY, 0, &file, NULL));
	if (!out[n - 1])
		vfile_unref(file);
	TRY(vfs_open(ctx, &x, O_RDONLY | O_NOATIME, 0, &file, NULL));
	if (!out[n - 1])
		vfile_unref(file);
	TRY(vfs_access(ctx, &x, X_OK, true));
	TRY(vfs_access(ctx, &x, R_OK | W_OK, false));
	TRY(vfs_setattr(ctx, &x, &nobody, NULL));
	TRY(vfs_setattr(ctx, &x, &mode, NULL));
	TRY(vfs_setattr(ctx, &x, &then, NULL));
	TRY(vfs_setattr(ctx, &x, &now, NULL));
	TRY(vfs_setxattr(ctx, &x, "user.a", "1", 1, 0));
	TRY(vfs_setattr(ctx, &x, &group, NULL));
	TRY(vfs_setattr(ctx, &x, &owner, NULL));
	TRY(vfs_setattr(ctx, &x, &size, NULL));
	TRY(vfs_open(ctx, &other, O_CREAT | O_EXCL | O_WRONLY, 0600, &file, NULL));
	if (!out[n - 1]) {
		vfile_unref(file);
		vfs_unlink(ctx, &other, false);
	}
	TRY(vfs_make(ctx, &other, S_IFCHR | 0600, makedev(1, 3), NULL, NULL));
	if (!out[n - 1])
		vfs_unlink(ctx, &other, false);
	TRY(vfs_open(ctx, &dir, O_RDONLY | O_DIRECTORY, 0, &file, NULL));
	if (!out[n - 1])
		vfile_unref(file);
	TRY(vfs_rename(ctx, &x, &other, 0));
	if (!out[n - 1])
		vfs_rename(ctx, &other, &x, 0);
	TRY(vfs_link(ctx, &x, &other));
	if (!out[n - 1])
		vfs_unlink(ctx, &other, false);
	TRY(vfs_unlink(ctx, &x, false));
#undef TRY
}

struct matrix {
	mode_t dir_mode, mode;
	uid_t dir_owner, owner;
};

static void prepare(const char *dir, const struct matrix *m)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/x", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(mknod(path, S_IFREG | 0600, 0), 0);
	assert_int_equal(chown(path, m->owner, m->owner), 0);
	assert_int_equal(chmod(path, m->mode), 0);
	assert_int_equal(chown(dir, m->dir_owner, 1001), 0);
	assert_int_equal(chmod(dir, m->dir_mode), 0);
}

static void prepare_volume(struct vfs_world *w, const struct matrix *m)
{
	struct vtarget dir = env_at(&w->env, "dir"), x = env_at(&w->env, "dir/x");
	struct setattr set = {.set = ATTR_UID | ATTR_GID | ATTR_MODE};
	struct vctx *ctx = &w->env.ctx;

	assert_int_equal(vfs_make(ctx, &dir, S_IFDIR | 0700, 0, NULL, NULL), 0);
	assert_int_equal(vfs_make(ctx, &x, S_IFREG | 0600, 0, NULL, NULL), 0);
	set.attr = (struct attr){.uid = m->owner, .gid = m->owner, .mode = m->mode};
	assert_int_equal(vfs_setattr(ctx, &x, &set, NULL), 0);
	set.attr = (struct attr){.uid = m->dir_owner, .gid = 1001, .mode = m->dir_mode};
	assert_int_equal(vfs_setattr(ctx, &dir, &set, NULL), 0);
	cred_assume_service();
}

static void clear_volume(struct vfs_world *w)
{
	struct vtarget dir = env_at(&w->env, "dir"), x = env_at(&w->env, "dir/x"),
		       left = env_at(&w->env, "dir/new");

	/* Through the volume, so that its cache knows. */
	vfs_unlink(&w->env.ctx, &x, false);
	vfs_unlink(&w->env.ctx, &left, false);
	assert_int_equal(vfs_unlink(&w->env.ctx, &dir, true), 0);
	cred_assume_service();
}

/* The identities, each taken on by a process that then does what it is told. */

static int be_user(void)
{
	return setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000);
}

static int be_other(void)
{
	static const gid_t groups[] = {1000};

	return setgroups(1, groups) || setresgid(1001, 1001, 1001) || setresuid(1001, 1001, 1001);
}

static int keep_caps(uint64_t keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{keep, keep, 0}, {keep >> 32, keep >> 32, 0}};

	return syscall(SYS_capset, &head, data);
}

static int be_bare_root(void)
{
	return setgroups(0, NULL) || keep_caps(0);
}

static int be_container_root(void)
{
	return setgroups(0, NULL) ||
	       keep_caps(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_FSETID) |
			 CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_SETFCAP));
}

static int be_reader(void)
{
	return setgroups(0, NULL) || keep_caps(CAP_BIT(CAP_DAC_READ_SEARCH));
}

static int be_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

struct actor {
	pid_t pid;
	int to, from;
};

static bool map_ids(pid_t pid)
{
	static const char *const names[] = {"uid_map", "gid_map"};
	char path[64];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, names[i]);
		CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "0 100000 65536", 14) != 14)
			return false;
	}
	return true;
}

/* False when the identity is not to be had here. */
static bool actor_start(int (*be)(void), const char *dir, const uid_t *ids, struct actor *ret)
{
	int to[2], from[2], out[OUTCOMES];
	char c = 0;

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	ret->pid = fork();
	if (!ret->pid) {
		close(to[1]);
		close(from[0]);
		umask(022);
		c = !be();
		if (write(from[1], &c, 1) != 1 || read(to[0], &c, 1) != 1)
			_exit(1);
		/* Its ids are mapped now. */
		if (be == be_namespace &&
		    (setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0)))
			_exit(1);
		for (;;) {
			if (write(from[1], &c, 1) != 1 || read(to[0], &c, 1) != 1)
				_exit(0);
			try_on_host(dir, ids, out);
			if (write(from[1], out, sizeof(out)) != sizeof(out))
				_exit(1);
		}
	}
	close(to[0]);
	close(from[1]);
	ret->to = to[1];
	ret->from = from[0];
	return read(ret->from, &c, 1) == 1 && c && (be != be_namespace || map_ids(ret->pid)) &&
	       write(ret->to, &c, 1) == 1 && read(ret->from, &c, 1) == 1;
}

static void actor_end(struct actor *actor)
{
	close(actor->to);
	close(actor->from);
	waitpid(actor->pid, NULL, 0);
}

static void compare_all(struct vfs_world *w, struct actor *actor, const char *dir, const uid_t *ids)
{
	static const mode_t dir_modes[] = {0777, 0755, 0771, 01777, 0575, 0700};
	static const mode_t modes[] = {0644, 0600, 0060,  0006,	 0711,
				       0000, 0464, 02666, 04755, 02755};
	enum { N_DIR_MODES = 6, N_MODES = 10, N_OWNERS = 3 };
	static const uid_t owners[] = {1000, 0, 100005};
	struct cred *cred = NULL;
	struct vctx ctx;
	char c = 1;

	assert_int_equal(cred_of_thread(actor->pid, NULL, &cred), 0);
	ctx = env_ctx(cred, 5);
	for (unsigned i = 0; i < N_DIR_MODES * N_MODES * N_OWNERS; i++) {
		const struct matrix m = {dir_modes[i % N_DIR_MODES],
					 modes[i / N_DIR_MODES % N_MODES], i % 4 ? 0 : 100000,
					 owners[i / (N_DIR_MODES * N_MODES)]};
		int ours[OUTCOMES], theirs[OUTCOMES];

		prepare_volume(w, &m);
		prepare(dir, &m);
		assert_int_equal(write(actor->to, &c, 1), 1);
		assert_int_equal(read(actor->from, theirs, sizeof(theirs)), sizeof(theirs));
		assert_int_equal(read(actor->from, &c, 1), 1);
		try_on_volume(w, &ctx, ids, ours);
		cred_assume_service();
		for (int n = 0; n < OUTCOMES; n++) {
			if (ours[n] != theirs[n])
				print_error("directory %o of %u, file %o of %u, by %u with %lx, "
					    "try %d: volume %d, host %d\n",
					    m.dir_mode, m.dir_owner, m.mode, m.owner, cred->fsuid,
					    cred->caps, n, ours[n], theirs[n]);
			assert_int_equal(ours[n], theirs[n]);
		}
		env_remove_tree(dir);
		clear_volume(w);
	}
	cred_unref(cred);
}

static void nobody_may_more_than_on_the_host(void **state)
{
	static int (*const identities[])(void) = {be_user,   be_other,	   be_bare_root,
						  be_reader, be_namespace, be_container_root};
	static const uid_t ids[] = {7, 1001};
	struct vfs_world *w = *state;
	char plain[64], dir[80];

	snprintf(plain, sizeof(plain), "%s/danaus-matrix-XXXXXX", env_base());
	assert_non_null(mkdtemp(plain));
	assert_int_equal(chmod(plain, 0755), 0);
	snprintf(dir, sizeof(dir), "%s/dir", plain);
	for (size_t i = 0; i < sizeof(identities) / sizeof(identities[0]); i++) {
		struct actor actor;

		if (actor_start(identities[i], dir, ids, &actor))
			compare_all(w, &actor, dir, ids);
		actor_end(&actor);
	}
	env_remove_tree(plain);
}

static void access_asks_with_the_real_ids(void **state)
{
	struct vfs_world *w = *state;
	struct cred *setuid = env_cred(0, 0, ~0ull, 0, NULL);
	struct vctx ctx = env_ctx(setuid, 4);
	struct vtarget at = env_at(&w->env, "f");

	setuid->ruid = setuid->rgid = 1000;
	vw_make_file(w, "f", "");
	chmod(env_host(&w->env, "f"), 0600);
	vfs_trim(w->env.vfs);
	struct setattr set = {.set = ATTR_MODE, .attr.mode = 0600};

	assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
	assert_int_equal(vfs_access(&ctx, &at, R_OK, false), -EACCES);
	assert_int_equal(vfs_access(&ctx, &at, R_OK, true), 0);
	cred_unref(setuid);
}

static void file_capabilities_of_a_namespace_stay_there(void **state)
{
	const struct idmap map = {.ns = 1,
				  .nuid = 1,
				  .ngid = 1,
				  .uid = {{0, 100000, 65536}},
				  .gid = {{0, 100000, 65536}}};
	struct vfs_world *w = *state;
	struct cred *inner = env_cred(100000, 100000, ~0ull, 0, NULL);
	struct vctx ctx = env_ctx(inner, 4);
	struct vtarget at = env_at(&w->env, "f");
	struct vfs_ns_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
	char value[64];

	inner->map = &map;
	caps.data[0].permitted = 0xffff;
	vw_make_file(w, "f", "");
	assert_int_equal(chown(env_host(&w->env, "f"), 100000, 100000), 0);
	struct setattr set = {.set = ATTR_MODE, .attr.mode = 0755};

	assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
	assert_int_equal(vfs_setxattr(&ctx, &at, "security.capability", &caps, XATTR_CAPS_SZ_2, 0),
			 0);
	cred_assume_service();
	/* On the host it is bound to the namespace's root, inside it is plain. */
	assert_int_equal(getxattr(env_host(&w->env, "f"), "security.capability", value, 64),
			 XATTR_CAPS_SZ_3);
	memcpy(&caps, value, sizeof(caps));
	assert_int_equal(caps.rootid, 100000);
	assert_int_equal(vfs_getxattr(&ctx, &at, "security.capability", value, 64),
			 XATTR_CAPS_SZ_2);
	cred_unref(inner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    VW_TEST(nobody_may_more_than_on_the_host),
	    VW_TEST(access_asks_with_the_real_ids),
	    VW_TEST(file_capabilities_of_a_namespace_stay_there),
	};

	return env_run(tests);
}
