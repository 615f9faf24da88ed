/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vfs_env.h"

#include <linux/posix_acl.h>
#include <pthread.h>
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

struct world {
	struct env env;
	struct cred *user, *other;
	struct vctx by_user, by_other;
	char leave[4096];
	unsigned fds;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->fds = env_count_fds();
	env_start(&w->env, true);
	w->user = env_cred(1000, 1000, 0, 0, NULL);
	w->other = env_cred(1001, 1001, 0, 0, NULL);
	w->by_user = env_ctx(w->user, 2);
	w->by_other = env_ctx(w->other, 3);
	w->env.ctx.leave = w->leave;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct vfs_counts counts;

	vfs_count(w->env.vfs, &counts);
	assert_int_equal(counts.files, 0);
	assert_int_equal(counts.locks, 0);
	env_stop(&w->env);
	assert_int_equal(env_count_fds(), w->fds);
	cred_unref(w->user);
	cred_unref(w->other);
	free(w);
	return 0;
}

static void make_dir(struct world *w, const char *path)
{
	struct vtarget at = env_at(&w->env, path);

	assert_int_equal(vfs_make(&w->env.ctx, &at, S_IFDIR | 0777, 0, NULL, NULL), 0);
}

static void make_link(struct world *w, const char *path, const char *content)
{
	struct vtarget at = env_at(&w->env, path);

	assert_int_equal(vfs_make(&w->env.ctx, &at, S_IFLNK | 0777, 0, content, NULL), 0);
}

static void make_file(struct world *w, const char *path, const char *text)
{
	struct vfile *file;

	assert_int_equal(
	    env_open(&w->env, &w->env.ctx, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &file), 0);
	assert_int_equal(env_write(&w->env.ctx, file, text, strlen(text), 0), strlen(text));
	vfile_unref(file);
}

static uint64_t ino(struct world *w, const char *path)
{
	struct attr attr;

	assert_int_equal(env_stat(&w->env, &w->env.ctx, path, &attr), 0);
	return attr.ino;
}

/* Walking */

static void a_path_is_walked_as_the_kernel_does(void **state)
{
	struct world *w = *state;
	struct attr attr;
	char deep[4200];

	make_dir(w, "a");
	make_dir(w, "a/b");
	make_file(w, "a/b/f", "text");
	make_link(w, "l", "a/b");
	make_link(w, "a/up", "../a/b/f");
	make_link(w, "loop", "loop");
	for (int twice = 0; twice < 2; twice++) { /* cold and cached */
		assert_int_equal(ino(w, "a/b/f"), ino(w, "l/f"));
		assert_int_equal(ino(w, "a/b/f"), ino(w, "a/up"));
		assert_int_equal(ino(w, "a/b/../b/./f"), ino(w, "a//b///f"));
		assert_int_equal(ino(w, "a/b/.."), ino(w, "a"));
		assert_int_equal(ino(w, "l/.."), ino(w, "a"));
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/b/f/", &attr), -ENOTDIR);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/b/f/x", &attr), -ENOTDIR);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "loop", &attr), -ELOOP);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "none/x", &attr), -ENOENT);
	}
	memset(deep, 'x', 300);
	deep[300] = '\0';
	assert_int_equal(env_stat(&w->env, &w->env.ctx, deep, &attr), -ENAMETOOLONG);
	for (int i = 0; i < 2100; i++)
		memcpy(deep + 2 * i, "./", 2);
	deep[4199] = '\0';
	assert_int_equal(env_stat(&w->env, &w->env.ctx, deep, &attr), -ENAMETOOLONG);
}

static void a_walk_leaves_the_volume_with_a_path(void **state)
{
	struct world *w = *state;
	struct vtarget old, new;
	struct attr attr;

	make_dir(w, "a");
	make_link(w, "abs", "/etc/x");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/../../other/f", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/other/f");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "..", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "abs", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/etc/x");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "abs/y/z", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/etc/x/y/z");
	make_file(w, "f", "");
	old = env_at(&w->env, "f");
	new = env_at(&w->env, "../g");
	assert_int_equal(vfs_rename(&w->env.ctx, &old, &new, 0), -EREMCHG);
	assert_true(w->env.ctx.leave_second);
	assert_int_equal(vfs_rename(&w->env.ctx, &new, &old, 0), -EREMCHG);
	assert_false(w->env.ctx.leave_second);
	assert_string_equal(w->leave, "/g");
}

static void instances_nest_by_their_paths(void **state)
{
	struct world *w = *state;
	char inner_dir[64], path[80];
	struct vfs_instance *inner, *twice;
	struct vtarget at, from;
	struct libservice *ls;
	struct vnode *node;
	struct err err;
	struct attr attr;

	snprintf(inner_dir, sizeof(inner_dir), "%s/danaus-inner-XXXXXX", env_base());
	assert_non_null(mkdtemp(inner_dir));
	snprintf(path, sizeof(path), "%s/deep", inner_dir);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(local_new(inner_dir, &ls, &err), 0);
	assert_int_equal(vfs_instance_add(w->env.vfs, "c", "/data", ls, &twice, &err), -EEXIST);
	assert_int_equal(vfs_instance_add(w->env.vfs, "c", "/data/sub/in", ls, &inner, &err), 0);
	/* The mount point was made, as a container runtime does. */
	assert_int_equal(access(env_host(&w->env, "sub/in"), F_OK), 0);
	at = env_at(&w->env, "sub/in/deep");
	assert_int_equal(vfs_lookup(&w->env.ctx, &at, &node, &attr), 0);
	assert_ptr_equal(vnode_instance(node), inner);
	/* And back up, out of it. */
	from = (struct vtarget){.dir = node, .path = "../../.."};
	assert_int_equal(vfs_stat(&w->env.ctx, &from, &attr), 0);
	assert_int_equal(attr.ino, vnode_ino(vfs_instance_root(w->env.instance)));
	from.path = "../../../..";
	assert_int_equal(vfs_stat(&w->env.ctx, &from, &attr), -EREMCHG);
	vnode_unref(node);
	/* It stays where it is. */
	at = env_at(&w->env, "sub/in");
	from = env_at(&w->env, "elsewhere");
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, true), -EBUSY);
	assert_int_equal(vfs_rename(&w->env.ctx, &at, &from, 0), -EBUSY);
	make_file(w, "f", "");
	from = env_at(&w->env, "f");
	at = env_at(&w->env, "sub/in/f");
	assert_int_equal(vfs_rename(&w->env.ctx, &from, &at, 0), -EXDEV);
	assert_int_equal(vfs_link(&w->env.ctx, &from, &at), -EXDEV);
	/* A rename above it takes it along. */
	at = env_at(&w->env, "sub");
	from = env_at(&w->env, "moved");
	assert_int_equal(vfs_rename(&w->env.ctx, &at, &from, 0), 0);
	at = env_at(&w->env, "moved/in/deep");
	assert_int_equal(vfs_stat(&w->env.ctx, &at, &attr), 0);
	vfs_instance_remove(inner);
	assert_int_equal(vfs_stat(&w->env.ctx, &at, &attr), -ENOENT);
	env_remove_tree(inner_dir);
}

/* Coherence */

static void our_changes_are_seen_at_once(void **state)
{
	struct world *w = *state;
	struct vtarget a, b;
	struct vfile *file;
	struct attr attr;
	uint64_t d;

	for (int i = 0; i < 50; i++) {
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), -ENOENT);
		make_file(w, "f", "12345");
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), 0);
		assert_int_equal(attr.size, 5);
		assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
		env_write(&w->env.ctx, file, "x", 1, 100);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), 0);
		assert_int_equal(attr.size, 101);
		vfile_unref(file);
		a = env_at(&w->env, "f");
		assert_int_equal(vfs_unlink(&w->env.ctx, &a, false), 0);
	}
	make_dir(w, "d");
	make_dir(w, "d/e");
	make_file(w, "d/e/f", "");
	d = ino(w, "d/e/f");
	a = env_at(&w->env, "d");
	b = env_at(&w->env, "moved");
	assert_int_equal(vfs_rename(&w->env.ctx, &a, &b, 0), 0);
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "d/e/f", &attr), -ENOENT);
	assert_int_equal(ino(w, "moved/e/f"), d);
	/* ".." of what moved. */
	a = env_at(&w->env, "moved/e");
	b = env_at(&w->env, "e");
	assert_int_equal(vfs_rename(&w->env.ctx, &a, &b, 0), 0);
	assert_int_equal(ino(w, "e/.."), vnode_ino(vfs_instance_root(w->env.instance)));
}

static void wait_a_little(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static void others_changes_are_seen_soon(void **state)
{
	struct world *w = *state;
	struct attr attr;

	make_file(w, "f", "1");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), 0);
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "g", &attr), -ENOENT);
	assert_int_equal(truncate(env_host(&w->env, "f"), 77), 0);
	assert_int_equal(link(env_host(&w->env, "f"), env_host(&w->env, "g")), 0);
	while (env_stat(&w->env, &w->env.ctx, "g", &attr) == -ENOENT)
		wait_a_little();
	do {
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), 0);
		wait_a_little();
	} while (attr.size != 77 || attr.nlink != 2);
	assert_int_equal(unlink(env_host(&w->env, "g")), 0);
	while (env_stat(&w->env, &w->env.ctx, "g", &attr) == 0)
		wait_a_little();
}

static void the_cache_has_a_bound(void **state)
{
	struct world *w = *state;
	struct vfs_counts counts;
	struct attr attr;
	char name[32];

	make_dir(w, "d");
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		if (i < 9000)
			assert_int_equal(mknod(env_host(&w->env, name), S_IFREG | 0600, 0), 0);
		env_stat(&w->env, &w->env.ctx, name, &attr);
	}
	vfs_count(w->env.vfs, &counts);
	assert_true(counts.nodes <= 8192 + 64);
	vfs_trim(w->env.vfs);
}

static void used_up_descriptors_come_from_the_cache(void **state)
{
	struct world *w = *state;
	struct rlimit old, few;
	struct vfile *file;
	struct attr attr;
	char name[32];

	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(mknod(env_host(&w->env, name), S_IFREG | 0600, 0), 0);
		if (i < 200)
			assert_int_equal(env_stat(&w->env, &w->env.ctx, name, &attr), 0);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = env_count_fds() + 10;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, name, &attr), 0);
		assert_int_equal(env_open(&w->env, &w->env.ctx, name, O_RDWR, 0, &file), 0);
		vfile_unref(file);
		snprintf(name, sizeof(name), "new%d", i);
		assert_int_equal(
		    env_open(&w->env, &w->env.ctx, name, O_RDWR | O_CREAT, 0600, &file), 0);
		vfile_unref(file);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* Open files */

static void unlinked_files_live_until_the_last_close(void **state)
{
	struct world *w = *state;
	struct vtarget at = env_at(&w->env, "f"), self;
	struct vfile *file;
	struct statvfs fs;
	struct attr attr;
	uint64_t type;
	char buf[8];

	make_file(w, "f", "kept");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	self = (struct vtarget){.file = file};
	assert_int_equal(vfs_stat(&w->env.ctx, &self, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 8, 0), 4);
	assert_int_equal(env_write(&w->env.ctx, file, "more", 4, 4), 4);
	make_file(w, "f", "new");
	assert_int_equal(env_read(&w->env.ctx, file, buf, 8, 0), 8);
	assert_memory_equal(buf, "keptmore", 8);
	assert_int_equal(vfs_statfs(&w->env.ctx, &self, &fs, &type), 0);
	vfile_unref(file);
}

static void nothing_of_a_removed_file_rests(void **state)
{
	struct world *w = *state;
	struct vtarget at = env_at(&w->env, "f"), over = env_at(&w->env, "g");
	unsigned before = env_count_fds();

	make_file(w, "f", "text");
	assert_true(env_count_fds() > before); /* the inode, and its file rests */
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	assert_int_equal(env_count_fds(), before);
	make_file(w, "f", "text");
	make_file(w, "g", "text");
	assert_int_equal(vfs_rename(&w->env.ctx, &at, &over, 0), 0);
	assert_int_equal(vfs_unlink(&w->env.ctx, &over, false), 0);
	assert_int_equal(env_count_fds(), before);
}

static void positions_are_the_open_files(void **state)
{
	struct world *w = *state;
	struct vfile *file, *again;
	char buf[8] = "";

	make_file(w, "f", "0123456789");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &again), 0);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 3, VFS_AT_POSITION), 3);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 3, VFS_AT_POSITION), 3);
	assert_memory_equal(buf, "345", 3);
	assert_int_equal(env_read(&w->env.ctx, again, buf, 3, VFS_AT_POSITION), 3);
	assert_memory_equal(buf, "012", 3);
	assert_int_equal(vfs_seek(&w->env.ctx, file, -2, SEEK_END), 8);
	assert_int_equal(vfs_seek(&w->env.ctx, file, -9, SEEK_CUR), -EINVAL);
	assert_int_equal(vfs_seek(&w->env.ctx, file, 0, SEEK_CUR), 8);
	assert_int_equal(env_write(&w->env.ctx, again, "x", 1, 0), -EBADF);
	vfile_unref(again);
	/* With a kernel descriptor, the position is there. */
	int fd = open(env_host(&w->env, "f"), O_RDWR | O_CLOEXEC), mine = dup(fd);
	vfile_ref(file); /* the kernel's file holds one */
	vfile_set_kernel_fd(file, fd);
	assert_int_equal(lseek(mine, 0, SEEK_CUR), 8);
	assert_int_equal(lseek(mine, 5, SEEK_SET), 5);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 2, VFS_AT_POSITION), 2);
	assert_memory_equal(buf, "56", 2);
	assert_int_equal(lseek(mine, 0, SEEK_CUR), 7);
	close(mine);
	vfile_unref(file);
	assert_int_equal(vfile_kernel_fd(file), -1);
	vfile_unref(file);
}

#define APPENDS 300

struct appender {
	struct world *w;
	char letter;
};

static void *append_all(void *arg)
{
	struct appender *me = arg;
	struct vctx ctx = env_ctx(me->w->env.root, me->letter);
	struct vfile *file;
	char text[32];

	memset(text, me->letter, sizeof(text));
	if (env_open(&me->w->env, &ctx, "log", O_WRONLY | O_APPEND, 0, &file) < 0)
		return arg;
	for (int i = 0; i < APPENDS; i++) {
		if (env_write(&ctx, file, text, sizeof(text), VFS_AT_POSITION) != sizeof(text))
			return arg;
	}
	vfile_unref(file);
	return NULL;
}

static void appends_do_not_overwrite(void **state)
{
	struct world *w = *state;
	struct appender who[4];
	pthread_t threads[4];
	struct vfile *file;
	char text[32];
	struct attr attr;

	make_file(w, "log", "");
	for (int i = 0; i < 4; i++) {
		who[i] = (struct appender){w, 'a' + i};
		pthread_create(&threads[i], NULL, append_all, &who[i]);
	}
	for (int i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "log", &attr), 0);
	assert_int_equal(attr.size, 4 * APPENDS * sizeof(text));
	assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_RDONLY, 0, &file), 0);
	while (env_read(&w->env.ctx, file, text, sizeof(text), VFS_AT_POSITION) > 0) {
		for (size_t i = 1; i < sizeof(text); i++)
			assert_int_equal(text[i], text[0]);
	}
	vfile_unref(file);
}

static void files_end_at_the_limit(void **state)
{
	struct world *w = *state;
	struct vctx ctx = w->env.ctx;
	struct vtarget at = env_at(&w->env, "f");
	struct setattr set = {.set = ATTR_SIZE, .attr.size = 101};
	struct vfile *file;

	ctx.fsize_limit = 100;
	assert_int_equal(env_open(&w->env, &ctx, "f", O_RDWR | O_CREAT, 0600, &file), 0);
	assert_int_equal(env_write(&ctx, file, "0123456789", 10, 95), 5);
	assert_int_equal(env_write(&ctx, file, "0123456789", 10, 100), -EFBIG);
	assert_int_equal(vfs_setattr(&ctx, &at, &set, NULL), -EFBIG);
	assert_int_equal(vfs_allocate(&ctx, file, 0, 0, 101), -EFBIG);
	assert_int_equal(vfs_setfl(&ctx, file, O_APPEND), 0);
	assert_int_equal(env_write(&ctx, file, "0", 1, 0), -EFBIG);
	vfile_unref(file);
}

static void opening_again_needs_no_host(void **state)
{
	struct world *w = *state;
	struct vfile *file;
	uint64_t calls;

	make_file(w, "f", "text");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	vfile_unref(file);
	calls = atomic_load(&w->env.plan.calls);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &file), 0);
	vfile_unref(file);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	vfile_unref(file);
	assert_true(atomic_load(&w->env.plan.calls) <= calls + 3); /* the second may be over */
	/* But whoever waits for events gets them. */
	struct vtarget at = env_at(&w->env, "f");
	struct vnode *node;

	assert_int_equal(vfs_lookup(&w->env.ctx, &at, &node, NULL), 0);
	close(vnode_host_fd(node));
	vnode_unref(node);
	unsigned fds = env_count_fds();

	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &file), 0);
	vfile_unref(file);
	assert_int_equal(env_count_fds(), fds);
}

/* Rights */

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

static void try_on_volume(struct world *w, struct vctx *ctx, const uid_t *ids, int *out)
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

static void prepare_volume(struct world *w, const struct matrix *m)
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

static void clear_volume(struct world *w)
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

static void compare_all(struct world *w, struct actor *actor, const char *dir, const uid_t *ids)
{
	static const mode_t dir_modes[] = {0777, 0755, 0771, 01777, 0575, 0700};
	static const mode_t modes[] = {0644, 0600,  0060,  0006, 0711,
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
	struct world *w = *state;
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
	struct world *w = *state;
	struct cred *setuid = env_cred(0, 0, ~0ull, 0, NULL);
	struct vctx ctx = env_ctx(setuid, 4);
	struct vtarget at = env_at(&w->env, "f");

	setuid->ruid = setuid->rgid = 1000;
	make_file(w, "f", "");
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
	struct world *w = *state;
	struct cred *inner = env_cred(100000, 100000, ~0ull, 0, NULL);
	struct vctx ctx = env_ctx(inner, 4);
	struct vtarget at = env_at(&w->env, "f");
	struct vfs_ns_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
	char value[64];

	inner->map = &map;
	caps.data[0].permitted = 0xffff;
	make_file(w, "f", "");
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

/* Listings */

struct record {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

static void a_directory_is_listed_whole(void **state)
{
	struct world *w = *state;
	struct vfile *file;
	char name[32], buf[4096];
	unsigned seen = 0, dots = 0;
	uint64_t next = 0;
	ssize_t n;

	make_dir(w, "d");
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		assert_int_equal(mknod(env_host(&w->env, name), S_IFREG | 0600, 0), 0);
	}
	assert_int_equal(env_open(&w->env, &w->env.ctx, "d", O_RDONLY | O_DIRECTORY, 0, &file), 0);
	while ((n = vfs_readdir(&w->env.ctx, file, VFS_AT_POSITION, buf, sizeof(buf), &next)) > 0) {
		for (ssize_t at = 0; at < n;) {
			struct record *rec = (struct record *)(buf + at);

			if (rec->name[0] == '.')
				dots++;
			else
				seen++;
			at += rec->len;
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(seen, 2000);
	assert_int_equal(dots, 2);
	assert_int_equal(vfs_readdir(&w->env.ctx, file, 0, buf, 8, &next), -EINVAL);
	/* Rewound, it is read anew. */
	make_file(w, "d/late", "");
	assert_int_equal(vfs_seek(&w->env.ctx, file, 0, SEEK_SET), 0);
	for (seen = 0;
	     (n = vfs_readdir(&w->env.ctx, file, VFS_AT_POSITION, buf, sizeof(buf), NULL)) > 0;)
		for (ssize_t at = 0; at < n; at += ((struct record *)(buf + at))->len)
			seen++;
	assert_int_equal(seen, 2003);
	vfile_unref(file);
}

/* The kernel face */

struct fake_face {
	int changes, fd, uses;
	uint64_t offset, len;
};

static void fake_changed(void *arg, struct vnode *node, uint64_t offset, uint64_t len)
{
	struct fake_face *face = arg;

	face->changes++;
	face->offset = offset;
	face->len = len;
}

static int fake_io_fd(void *arg, struct vnode *node)
{
	struct fake_face *face = arg;

	face->uses++;
	return face->fd;
}

static void fake_io_done(void *arg, struct vnode *node)
{
	((struct fake_face *)arg)->uses--;
}

static void the_kernels_view_is_kept_coherent(void **state)
{
	struct world *w = *state;
	struct fake_face fake = {0};
	const struct face face = {fake_changed, fake_io_fd, fake_io_done, &fake};
	struct vfile *file;
	struct vnode *node;
	char buf[8];

	make_file(w, "f", "plain");
	make_file(w, "mapped", "mapped");
	fake.fd = open(env_host(&w->env, "mapped"), O_RDWR | O_CLOEXEC);
	vfs_instance_set_face(w->env.instance, &face);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	node = vfile_node(file);
	env_write(&w->env.ctx, file, "P", 1, 0);
	assert_int_equal(fake.changes, 0);
	vnode_face_open(node, false);
	env_write(&w->env.ctx, file, "P", 1, 3);
	assert_int_equal(fake.changes, 1);
	assert_int_equal(fake.offset, 3);
	assert_int_equal(fake.len, 1);
	/* While it may have dirty pages, the kernel has the newest bytes. */
	vnode_face_open(node, true);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 6, 0), 6);
	assert_memory_equal(buf, "mapped", 6);
	assert_int_equal(env_write(&w->env.ctx, file, "M", 1, 0), 1);
	assert_int_equal(vfs_fsync(&w->env.ctx, file, true), 0);
	assert_int_equal(fake.uses, 0);
	/* But the kernel's own calls are served here. */
	vfs_in_face = true;
	assert_int_equal(env_read(&w->env.ctx, file, buf, 5, 0), 5);
	assert_memory_equal(buf, "PlaPn", 5);
	vfs_in_face = false;
	vnode_face_close(node, true);
	vnode_face_close(node, false);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 5, 0), 5);
	assert_memory_equal(buf, "PlaPn", 5);
	vfile_unref(file);
	close(fake.fd);
}

/* Faults */

/* Everything once; errors are expected, leaks are not. */
static void scripted(struct world *w)
{
	struct vctx *ctx = &w->env.ctx;
	struct vtarget d = env_at(&w->env, "d"), f = env_at(&w->env, "d/f"),
		       g = env_at(&w->env, "d/g"), l = env_at(&w->env, "d/l"),
		       through = env_at(&w->env, "d/l");
	struct setattr set = {.set = ATTR_MODE | ATTR_SIZE, .attr = {.mode = 0640, .size = 3}};
	struct vfile *file, *out;
	struct attr attr;
	struct statvfs fs;
	uint64_t type;
	char buf[512];

	vfs_make(ctx, &d, S_IFDIR | 0755, 0, NULL, NULL);
	vfs_make(ctx, &l, S_IFLNK | 0777, 0, "f", NULL);
	if (!vfs_open(ctx, &f, O_RDWR | O_CREAT | O_TRUNC, 0644, &file, NULL)) {
		env_write(ctx, file, "text", 4, VFS_AT_POSITION);
		env_read(ctx, file, buf, 4, 0);
		vfile_flush(file);
		vfs_fsync(ctx, file, false);
		vfs_allocate(ctx, file, 0, 0, 10);
		vfs_seek(ctx, file, 0, SEEK_HOLE);
		if (!vfs_open(ctx, &d, O_RDWR | O_TMPFILE, 0600, &out, NULL)) {
			vfs_copy(ctx, file, 0, out, 0, 100);
			vfile_unref(out);
		}
		vfile_unref(file);
	}
	vfs_stat(ctx, &through, &attr);
	vfs_access(&w->by_user, &f, R_OK, true);
	vfs_setattr(ctx, &f, &set, &attr);
	vfs_setxattr(ctx, &f, "user.a", "1", 1, 0);
	vfs_getxattr(ctx, &f, "user.a", buf, sizeof(buf));
	vfs_listxattr(ctx, &f, buf, sizeof(buf));
	vfs_removexattr(ctx, &f, "user.a");
	vfs_statfs(ctx, &f, &fs, &type);
	vfs_link(ctx, &f, &g);
	vfs_rename(ctx, &g, &f, 0);
	vfs_rename(ctx, &f, &g, 0);
	if (!vfs_open(ctx, &d, O_RDONLY | O_DIRECTORY, 0, &file, NULL)) {
		vfs_readdir(ctx, file, VFS_AT_POSITION, buf, sizeof(buf), NULL);
		vfile_unref(file);
	}
	vfs_unlink(ctx, &f, false);
	vfs_unlink(ctx, &g, false);
	vfs_unlink(ctx, &l, false);
	vfs_unlink(ctx, &d, true);
}

/* Opens share what is below, but the one that wrote is told, and a close after no write asks nobody. */
static void who_wrote_is_told_at_close(void **state)
{
	struct world *w = *state;
	struct fault_plan *plan = &w->env.plan;
	struct vfile *writer, *other;
	uint64_t calls;

	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR | O_CREAT, 0644, &writer), 0);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &other), 0);
	assert_int_equal(env_write(&w->env.ctx, writer, "text", 4, 0), 4);
	atomic_store(&plan->error, -EIO);
	calls = atomic_load(&plan->calls);
	atomic_store(&plan->first, calls + 1);
	assert_int_equal(vfile_flush(other), 0);
	assert_int_equal(atomic_load(&plan->calls), calls);
	assert_int_equal(vfile_flush(writer), -EIO);
	assert_int_equal(atomic_load(&plan->calls), calls + 1);
	assert_int_equal(vfile_flush(writer), 0);
	assert_int_equal(atomic_load(&plan->calls), calls + 1);
	assert_int_equal(vfs_allocate(&w->env.ctx, other, 0, 0, 10), 0);
	atomic_store(&plan->first, calls + 3);
	assert_int_equal(vfile_flush(other), -EIO);
	atomic_store(&plan->first, 0);
	vfile_unref(writer);
	vfile_unref(other);
}

static void any_call_may_fail(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC, -ESTALE, -EMFILE};
	struct world *w = *state;
	struct vfs_counts counts;
	struct attr attr;

	for (int round = 0; round < 8; round++) {
		uint64_t first = 0, calls = 0;

		atomic_store(&w->env.plan.error, errors[round / 2]);
		atomic_store(&w->env.plan.to_the_end, round % 2);
		do {
			first++;
			atomic_store(&w->env.plan.calls, 0);
			atomic_store(&w->env.plan.first, first);
			scripted(w);
			calls = atomic_load(&w->env.plan.calls);
			atomic_store(&w->env.plan.first, 0);
			scripted(w); /* and afterwards all is well again */
			scripted(w);
			vfs_count(w->env.vfs, &counts);
			assert_int_equal(counts.files, 0);
			assert_int_equal(env_stat(&w->env, &w->env.ctx, "d", &attr), -ENOENT);
		} while (calls >= first);
		assert_true(first > 30);
	}
}

/* Threads */

static void *busy(void *arg)
{
	struct appender *me = arg;
	struct vctx ctx = env_ctx(me->w->env.root, me->letter);
	unsigned random = me->letter;

	for (int i = 0; i < 1500; i++) {
		char a[16], b[16];
		struct vtarget at, to;
		struct vfile *file;
		struct attr attr;

		random = random * 1103515245 + 12345;
		snprintf(a, sizeof(a), "d%u/%u", random >> 8 & 1, random >> 10 & 7);
		snprintf(b, sizeof(b), "d%u/%u", random >> 9 & 1, random >> 13 & 7);
		at = env_at(&me->w->env, a);
		to = env_at(&me->w->env, b);
		switch (random >> 16 & 7) {
		case 0:
			vfs_unlink(&ctx, &at, false);
			break;
		case 1:
			vfs_rename(&ctx, &at, &to, 0);
			break;
		case 2:
			vfs_link(&ctx, &at, &to);
			break;
		case 3:
			if (i % 50 == 0)
				vfs_trim(me->w->env.vfs);
			/* fallthrough */
		case 4:
		case 5:
			if (!vfs_open(&ctx, &at, O_RDWR | O_CREAT, 0600, &file, &attr)) {
				env_write(&ctx, file, "x", 1, VFS_AT_POSITION);
				vfs_flock(&ctx, file, 2 | 4);
				vfile_unref(file);
			}
			break;
		default:
			vfs_stat(&ctx, &at, &attr);
		}
	}
	return NULL;
}

static void threads_work_side_by_side(void **state)
{
	struct world *w = *state;
	struct appender who[4];
	pthread_t threads[4];
	struct attr attr;
	struct stat st;

	make_dir(w, "d0");
	make_dir(w, "d1");
	for (int i = 0; i < 4; i++) {
		who[i] = (struct appender){w, 'a' + i};
		pthread_create(&threads[i], NULL, busy, &who[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	/* What is cached is what is there. */
	for (int i = 0; i < 16; i++) {
		char name[16];
		int there;

		snprintf(name, sizeof(name), "d%d/%d", i / 8, i % 8);
		there = lstat(env_host(&w->env, name), &st);
		assert_int_equal(env_stat(&w->env, &w->env.ctx, name, &attr),
				 there < 0 ? -ENOENT : 0);
		if (!there) {
			assert_int_equal(attr.size, st.st_size);
			assert_int_equal(attr.nlink, st.st_nlink);
			assert_int_equal(attr.ino, st.st_ino);
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_path_is_walked_as_the_kernel_does),
	    TEST(a_walk_leaves_the_volume_with_a_path),
	    TEST(instances_nest_by_their_paths),
	    TEST(our_changes_are_seen_at_once),
	    TEST(others_changes_are_seen_soon),
	    TEST(the_cache_has_a_bound),
	    TEST(used_up_descriptors_come_from_the_cache),
	    TEST(unlinked_files_live_until_the_last_close),
	    TEST(nothing_of_a_removed_file_rests),
	    TEST(positions_are_the_open_files),
	    TEST(appends_do_not_overwrite),
	    TEST(files_end_at_the_limit),
	    TEST(opening_again_needs_no_host),
	    TEST(nobody_may_more_than_on_the_host),
	    TEST(access_asks_with_the_real_ids),
	    TEST(file_capabilities_of_a_namespace_stay_there),
	    TEST(a_directory_is_listed_whole),
	    TEST(the_kernels_view_is_kept_coherent),
	    TEST(who_wrote_is_told_at_close),
	    TEST(any_call_may_fail),
	    TEST(threads_work_side_by_side),
	};

	if (getuid() != 0) {
		fprintf(stderr, "skipped: other identities need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
