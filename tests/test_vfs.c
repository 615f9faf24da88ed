/* SPDX-License-Identifier: Apache-2.0 */
/* The vfs's names: walks, what it caches of them; and that any call may fail and threads may meet.
 */
#include "tests/lib/vfs_world.h"

#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

/* Walking */

static void a_path_is_walked_as_the_kernel_does(void **state)
{
	struct vfs_world *w = *state;
	struct attr attr;
	char deep[4200];

	vw_make_dir(w, "a");
	vw_make_dir(w, "a/b");
	vw_make_file(w, "a/b/f", "text");
	vw_make_link(w, "l", "a/b");
	vw_make_link(w, "a/up", "../a/b/f");
	vw_make_link(w, "loop", "loop");
	for (int twice = 0; twice < 2; twice++) { /* cold and cached */
		assert_int_equal(vw_ino(w, "a/b/f"), vw_ino(w, "l/f"));
		assert_int_equal(vw_ino(w, "a/b/f"), vw_ino(w, "a/up"));
		assert_int_equal(vw_ino(w, "a/b/../b/./f"), vw_ino(w, "a//b///f"));
		assert_int_equal(vw_ino(w, "a/b/.."), vw_ino(w, "a"));
		assert_int_equal(vw_ino(w, "l/.."), vw_ino(w, "a"));
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
	struct vfs_world *w = *state;
	struct vtarget old, new;
	struct attr attr;

	vw_make_dir(w, "a");
	vw_make_link(w, "abs", "/etc/x");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/../../other/f", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/other/f");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "..", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "abs", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/etc/x");
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "abs/y/z", &attr), -EREMCHG);
	assert_string_equal(w->leave, "/etc/x/y/z");
	vw_make_file(w, "f", "");
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
	struct vfs_world *w = *state;
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
	vw_make_file(w, "f", "");
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
	struct vfs_world *w = *state;
	struct vtarget a, b;
	struct vfile *file;
	struct attr attr;
	uint64_t d;

	for (int i = 0; i < 50; i++) {
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), -ENOENT);
		vw_make_file(w, "f", "12345");
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
	vw_make_dir(w, "d");
	vw_make_dir(w, "d/e");
	vw_make_file(w, "d/e/f", "");
	d = vw_ino(w, "d/e/f");
	a = env_at(&w->env, "d");
	b = env_at(&w->env, "moved");
	assert_int_equal(vfs_rename(&w->env.ctx, &a, &b, 0), 0);
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "d/e/f", &attr), -ENOENT);
	assert_int_equal(vw_ino(w, "moved/e/f"), d);
	/* ".." of what moved. */
	a = env_at(&w->env, "moved/e");
	b = env_at(&w->env, "e");
	assert_int_equal(vfs_rename(&w->env.ctx, &a, &b, 0), 0);
	assert_int_equal(vw_ino(w, "e/.."), vnode_ino(vfs_instance_root(w->env.instance)));
}

static void wait_a_little(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static void others_changes_are_seen_soon(void **state)
{
	struct vfs_world *w = *state;
	struct attr attr;

	vw_make_file(w, "f", "1");
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
	struct vfs_world *w = *state;
	struct vfs_counts counts;
	struct attr attr;
	char name[32];

	vw_make_dir(w, "d");
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
	struct vfs_world *w = *state;
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

/* Faults */

/* Everything once; errors are expected, leaks are not. */
static void scripted(struct vfs_world *w)
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

static void any_call_may_fail(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC, -ESTALE, -EMFILE};
	struct vfs_world *w = *state;
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

struct worker {
	struct vfs_world *w;
	unsigned number;
};

static void *busy(void *arg)
{
	struct worker *me = arg;
	struct vctx ctx = env_ctx(me->w->env.root, me->number);
	unsigned random = me->number;

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
	struct vfs_world *w = *state;
	struct worker who[4];
	pthread_t threads[4];
	struct attr attr;
	struct stat st;

	vw_make_dir(w, "d0");
	vw_make_dir(w, "d1");
	for (int i = 0; i < 4; i++) {
		who[i] = (struct worker){w, 'a' + i};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    VW_TEST(a_path_is_walked_as_the_kernel_does),
	    VW_TEST(a_walk_leaves_the_volume_with_a_path),
	    VW_TEST(instances_nest_by_their_paths),
	    VW_TEST(our_changes_are_seen_at_once),
	    VW_TEST(others_changes_are_seen_soon),
	    VW_TEST(the_cache_has_a_bound),
	    VW_TEST(used_up_descriptors_come_from_the_cache),
	    VW_TEST(any_call_may_fail),
	    VW_TEST(threads_work_side_by_side),
	};

	return env_run(tests);
}
