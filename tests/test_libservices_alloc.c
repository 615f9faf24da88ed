/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is not there: the Nth allocation of a program's life on a volume fails, for each N.
 * Nothing crashes or leaks, the one call says -ENOMEM or does without, the next ones work. */
#include "tests/lib/fail_alloc.h"
#include "tests/lib/vfs_env.h"

#include <sys/uio.h>

struct life {
	struct env env;
	int first_error;
	unsigned fds;
};

/* What a call answered; true: it worked. */
static bool worked(struct life *life, int64_t r)
{
	if (r < 0 && !life->first_error)
		life->first_error = r;
	return r >= 0;
}

static struct vfile *opened(struct life *life, const char *path, int flags)
{
	struct vfile *file = NULL;

	return worked(life, env_open(&life->env, &life->env.ctx, path, flags, 0644, &file)) ? file
											    : NULL;
}

static void use_file(struct life *life, struct vfile *file)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
	struct vctx *ctx = &life->env.ctx;
	char data[9000];
	uint64_t bytes;
	int fd;

	memset(data, 'x', sizeof(data));
	worked(life, env_write(ctx, file, data, sizeof(data), 0));
	worked(life, env_read(ctx, file, data, sizeof(data), 0));
	worked(life, vfs_lock(ctx, file, F_SETLK, &lock));
	worked(life, vfs_flock(ctx, file, LOCK_EX));
	if (worked(life, vfs_window(ctx, file, &fd, &bytes))) {
		close(fd);
		env_read(ctx, file, data, 4096, 0);
		env_read(ctx, file, data, 4096, 0);
		worked(life, env_write(ctx, file, "y", 1, 5));
	}
	worked(life, vfs_fsync(ctx, file, false));
}

static void use_names(struct life *life)
{
	struct env *env = &life->env;
	struct vctx *ctx = &env->ctx;
	struct vtarget dir = env_at(env, "d"), in = env_at(env, "d/f"), out = env_at(env, "d/g");
	struct vtarget link = env_at(env, "d/l"), below = env_at(env, "low");
	struct setattr mode = {.set = ATTR_MODE, .attr = {.mode = 0600}};
	struct attr attr;
	struct vfile *file;
	char text[4096];

	worked(life, vfs_make(ctx, &dir, S_IFDIR | 0755, 0, NULL, &attr));
	file = opened(life, "d/f", O_RDWR | O_CREAT);
	if (file) {
		use_file(life, file);
		vfile_unref(file);
	}
	/* copied up where it lies in a lower branch */
	file = opened(life, "low", O_RDWR | O_APPEND);
	if (file) {
		worked(life, env_write(ctx, file, "more", 4, 0));
		vfile_unref(file);
	}
	worked(life, vfs_setxattr(ctx, &below, "user.a", "1", 1, 0));
	worked(life, vfs_make(ctx, &link, S_IFLNK | 0777, 0, "f", &attr));
	worked(life, vfs_readlink(ctx, &link, text, sizeof(text)));
	worked(life, vfs_stat(ctx, &link, &attr));
	worked(life, vfs_setattr(ctx, &in, &mode, &attr));
	worked(life, vfs_rename(ctx, &in, &out, 0));
	file = opened(life, "d", O_RDONLY | O_DIRECTORY);
	if (file) {
		worked(life, vfs_readdir(ctx, file, 0, text, sizeof(text), NULL));
		vfile_unref(file);
	}
	worked(life, vfs_unlink(ctx, &link, false));
	worked(life, vfs_unlink(ctx, &out, false));
	worked(life, vfs_unlink(ctx, &dir, true));
	worked(life, vfs_unlink(ctx, &below, false));
}

static void prepare(struct life *life)
{
	static const char *const dirs[] = {"up", "down"};
	FILE *f;

	memset(life, 0, sizeof(*life));
	env_mkdir(life->env.dir);
	for (int i = 0; i < 2; i++)
		assert_int_equal(mkdir(env_host(&life->env, dirs[i]), 0755), 0);
	f = fopen(env_host(&life->env, "down/low"), "we");
	assert_non_null(f);
	fputs("below", f);
	fclose(f);
	life->fds = env_count_fds();
}

/* format: a spec with the directory for each %1$s. True: an allocation failed. */
static bool live(const char *format, unsigned n)
{
	struct libservice *ls = NULL;
	struct err err = {""};
	struct life life;
	char spec[256];
	bool failed, added = false;
	struct vfile *file;
	struct attr attr;

	prepare(&life);
	snprintf(spec, sizeof(spec), format, life.env.dir);
	life.env.root = cred_root();
	life.env.ctx = env_ctx(life.env.root, 1);
	fail_alloc_at(n);
	if (worked(&life, vfs_new(&life.env.vfs))) {
		if (worked(&life, stack_open(spec, NULL, &ls, &err))) {
			vfs_set_window_budget(life.env.vfs, 1 << 20);
			added = worked(&life, vfs_instance_add(life.env.vfs, "c", "/data", ls,
							       &life.env.instance, &err));
			if (!added)
				ls_free(ls);
		}
		if (added)
			use_names(&life);
	}
	failed = fail_alloc_done();
	fail_alloc_at(0);
	if (life.first_error && life.first_error != -ENOMEM && life.first_error != -EOPNOTSUPP)
		fail_msg("%s, allocation %u: %s", format, n, strerror(-life.first_error));
	if (!failed && life.first_error == -ENOMEM)
		fail_msg("%s: -ENOMEM without reason", format);
	if (added) { /* all is well again */
		assert_int_equal(
		    env_open(&life.env, &life.env.ctx, "after", O_RDWR | O_CREAT, 0644, &file), 0);
		assert_int_equal(env_write(&life.env.ctx, file, "abc", 3, 0), 3);
		vfile_unref(file);
		assert_int_equal(env_stat(&life.env, &life.env.ctx, "after", &attr), 0);
		assert_int_equal(attr.size, 3);
	}
	vfs_free(life.env.vfs);
	cred_assume_service();
	cred_unref(life.env.root);
	assert_int_equal(env_count_fds(), life.fds);
	env_remove_tree(life.env.dir);
	return failed;
}

static void sweep(const char *format)
{
	unsigned n = 0;

	while (live(format, ++n))
		;
	assert_true(n > 20);
}

static void on_a_directory(void **state)
{
	sweep("local:%1$s/down");
}

static void on_a_union(void **state)
{
	sweep("union:[local:%1$s/up,rw][local:%1$s/down,ro]");
}

static void on_a_cache(void **state)
{
	sweep("cache:[local:%1$s/down]");
}

static void on_a_cache_that_writes_back(void **state)
{
	sweep("cache:[local:%1$s/down,writeback]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(on_a_directory),
	    cmocka_unit_test(on_a_union),
	    cmocka_unit_test(on_a_cache),
	    cmocka_unit_test(on_a_cache_that_writes_back),
	};

	if (!env_possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
