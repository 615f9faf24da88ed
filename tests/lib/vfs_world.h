/* SPDX-License-Identifier: Apache-2.0 */
/* The vfs over fault over local with root and two users, and a check that a test leaves nothing,
 * for the tests of the vfs. */
#pragma once

#include "tests/lib/vfs_env.h"

struct vfs_world {
	struct env env;
	struct cred *user, *other;
	struct vctx by_user, by_other;
	char leave[4096];
	unsigned fds;
};

static inline int vw_setup_on(void **state, bool fault)
{
	struct vfs_world *w = calloc(1, sizeof(*w));

	w->fds = env_count_fds();
	env_start(&w->env, fault);
	w->user = env_cred(1000, 1000, 0, 0, NULL);
	w->other = env_cred(1001, 1001, 0, 0, NULL);
	w->by_user = env_ctx(w->user, 2);
	w->by_other = env_ctx(w->other, 3);
	w->env.ctx.leave = w->leave;
	*state = w;
	return 0;
}

static inline int vw_setup(void **state)
{
	return vw_setup_on(state, true);
}

static inline int vw_teardown(void **state)
{
	struct vfs_world *w = *state;
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

static inline void vw_make_dir(struct vfs_world *w, const char *path)
{
	struct vtarget at = env_at(&w->env, path);

	assert_int_equal(vfs_make(&w->env.ctx, &at, S_IFDIR | 0777, 0, NULL, NULL), 0);
}

static inline void vw_make_link(struct vfs_world *w, const char *path, const char *content)
{
	struct vtarget at = env_at(&w->env, path);

	assert_int_equal(vfs_make(&w->env.ctx, &at, S_IFLNK | 0777, 0, content, NULL), 0);
}

static inline void vw_make_file(struct vfs_world *w, const char *path, const char *text)
{
	struct vfile *file;

	assert_int_equal(
	    env_open(&w->env, &w->env.ctx, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &file), 0);
	assert_int_equal(env_write(&w->env.ctx, file, text, strlen(text), 0), strlen(text));
	vfile_unref(file);
}

static inline uint64_t vw_ino(struct vfs_world *w, const char *path)
{
	struct attr attr;

	assert_int_equal(env_stat(&w->env, &w->env.ctx, path, &attr), 0);
	return attr.ino;
}

#define VW_TEST(name) cmocka_unit_test_setup_teardown(name, vw_setup, vw_teardown)
