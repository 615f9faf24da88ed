/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: what ends one, what does not, and where there is none. */
#include <pthread.h>

#include "tests/lib/vfs_world.h"

#include "danaus/base/clock.h"

/* Without fault, which wants to hear of each open. */
static int setup(void **state)
{
	return vw_setup_on(state, false);
}
#define LEASE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, vw_teardown)

struct given {
	struct lease_draft draft;
	struct lease lease;
};

static struct given *begin(struct vfs_world *w, struct given *given)
{
	lease_begin(&given->draft, vfs_leases(w->env.vfs));
	w->env.ctx.lease = &given->draft;
	return given;
}

static bool end(struct vfs_world *w, struct given *given)
{
	w->env.ctx.lease = NULL;
	return lease_end(&given->draft, clock_coarse_ns(), &given->lease);
}

static bool holds(struct vfs_world *w, const struct given *given)
{
	return lease_holds(vfs_leases(w->env.vfs)->table, &given->lease);
}

/* Of the second answer: the first one is asked for below. */
static bool stat_leased(struct vfs_world *w, const char *path, struct given *given)
{
	struct attr attr;

	env_stat(&w->env, &w->env.ctx, path, &attr);
	begin(w, given);
	env_stat(&w->env, &w->env.ctx, path, &attr);
	return end(w, given);
}

static bool open_leased(struct vfs_world *w, const char *path, int flags, struct given *given)
{
	struct vfile *file;

	vw_ino(w, path);
	begin(w, given);
	if (!env_open(&w->env, &w->env.ctx, path, flags, 0, &file))
		vfile_unref(file);
	return end(w, given);
}

/* That there is no such name, as each of the calls says it. */
static bool absence_leased(struct vfs_world *w, const char *path, int call, struct given *given)
{
	struct vtarget at = env_at(&w->env, path);
	struct vfile *file;
	struct attr attr;
	char link[8];
	int r;

	env_stat(&w->env, &w->env.ctx, path, &attr);
	begin(w, given);
	switch (call) {
	case 0:
		r = env_stat(&w->env, &w->env.ctx, path, &attr);
		break;
	case 1:
		r = env_open(&w->env, &w->env.ctx, path, O_RDONLY, 0, &file);
		break;
	case 2:
		r = vfs_access(&w->env.ctx, &at, W_OK, false);
		break;
	default:
		r = vfs_readlink(&w->env.ctx, &at, link, sizeof(link));
		break;
	}
	assert_int_equal(r, -ENOENT);
	return end(w, given) && given->draft.answer == -ENOENT;
}

static void come_by(struct vfs_world *w, int what)
{
	struct vtarget at = env_at(&w->env, "a/b/f"), from = env_at(&w->env, "a/g");
	struct vfile *file;

	switch (what) {
	case 0:
		assert_int_equal(
		    env_open(&w->env, &w->env.ctx, "a/b/f", O_WRONLY | O_CREAT, 0644, &file), 0);
		vfile_unref(file);
		break;
	case 1:
		assert_int_equal(vfs_make(&w->env.ctx, &at, S_IFIFO | 0644, 0, NULL, NULL), 0);
		break;
	case 2:
		vw_make_dir(w, "a/b/f");
		break;
	case 3:
		vw_make_link(w, "a/b/f", ".");
		break;
	case 4:
		vw_make_file(w, "a/g", "text");
		assert_int_equal(vfs_link(&w->env.ctx, &from, &at), 0);
		break;
	case 5:
		vw_make_file(w, "a/g", "text");
		assert_int_equal(vfs_rename(&w->env.ctx, &from, &at, 0), 0);
		break;
	case 6: /* what is on the way comes */
		from = env_at(&w->env, "z");
		at = env_at(&w->env, "a/b");
		vw_make_dir(w, "z");
		vw_make_file(w, "z/f", "text");
		assert_int_equal(vfs_rename(&w->env.ctx, &from, &at, RENAME_EXCHANGE), 0);
		break;
	case 7: /* or goes */
		at = env_at(&w->env, "a/b");
		assert_int_equal(vfs_unlink(&w->env.ctx, &at, true), 0);
		vw_make_dir(w, "a/b");
		break;
	case 8: /* or must not be searched */
		at = env_at(&w->env, "a");
		assert_int_equal(
		    vfs_setattr(&w->env.ctx, &at,
				&(struct setattr){.set = ATTR_MODE, .attr = {.mode = 0700}}, NULL),
		    0);
		break;
	}
}

static void that_there_is_nothing_ends_when_there_is(void **state)
{
	struct vfs_world *w = *state;
	struct given given[4];
	struct attr attr;

	for (int what = 0; what < 9; what++) {
		char dir[16];

		vw_make_dir(w, "a");
		vw_make_dir(w, "a/b");
		for (int call = 0; call < 4; call++) {
			assert_true(absence_leased(w, "a/b/f", call, &given[call]));
			assert_true(holds(w, &given[call]));
		}
		come_by(w, what);
		for (int call = 0; call < 4; call++)
			assert_false(holds(w, &given[call]));
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/b/f", &attr),
				 what < 7 ? 0 : -ENOENT);
		snprintf(dir, sizeof(dir), "old-%d", what);
		struct vtarget at = env_at(&w->env, "a"), to = env_at(&w->env, dir);

		assert_int_equal(vfs_rename(&w->env.ctx, &at, &to, 0), 0);
	}
	/* what is missing on the way */
	assert_true(absence_leased(w, "none/b/f", 0, &given[0]));
	vw_make_dir(w, "none");
	assert_false(holds(w, &given[0]));
	/* what comes from outside, when it is seen */
	assert_true(absence_leased(w, "outside", 0, &given[0]));
	assert_int_equal(mkdir(env_host(&w->env, "outside"), 0755), 0);
	while (env_stat(&w->env, &w->env.ctx, "outside", &attr))
		;
	assert_false(holds(w, &given[0]));
}

static void what_access_says_ends_with_what_it_depends_on(void **state)
{
	struct vfs_world *w = *state;
	struct vtarget at = env_at(&w->env, "a/f");
	struct setattr set = {.set = ATTR_MODE, .attr = {.mode = 0444}};
	struct given there, rights, refused;

	vw_make_dir(w, "a");
	for (int what = 0; what < 2; what++) {
		vw_make_file(w, "a/f", "text");
		vw_ino(w, "a/f");
		begin(w, &there);
		assert_int_equal(vfs_access(&w->env.ctx, &at, F_OK, false), 0);
		assert_true(end(w, &there));
		begin(w, &rights);
		assert_int_equal(vfs_access(&w->env.ctx, &at, W_OK, false), 0);
		assert_true(end(w, &rights));
		begin(w, &refused);
		assert_int_equal(vfs_access(&w->env.ctx, &at, X_OK, false), -EACCES);
		assert_true(end(w, &refused) && refused.draft.answer == -EACCES);
		if (what)
			assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
		else
			assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
		assert_int_equal(holds(w, &there), !what);
		assert_false(holds(w, &rights) || holds(w, &refused));
	}
}

static void a_lease_ends_with_what_it_depends_on(void **state)
{
	struct vfs_world *w = *state;
	struct given by_stat, by_open;
	struct vtarget at, to;
	struct setattr set = {.set = ATTR_MODE, .attr = {.mode = 0755}};
	struct vfile *file;
	int what;

	vw_make_dir(w, "a");
	vw_make_dir(w, "a/b");
	vw_make_dir(w, "z");
	for (what = 0; what < 8; what++) {
		vw_make_file(w, "a/b/f", "text");
		vw_make_file(w, "a/b/g", "text");
		assert_true(stat_leased(w, "a/b/f", &by_stat));
		assert_true(open_leased(w, "a/b/f", O_RDONLY, &by_open));
		assert_true(by_stat.lease.duration_us > 100000 &&
			    by_stat.lease.duration_us <= 1000000);
		assert_true(holds(w, &by_stat) && holds(w, &by_open));
		at = env_at(&w->env, "a/b/f");
		switch (what) {
		case 0:
			vw_make_file(w, "a/b/f", "other");
			break;
		case 1:
			assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
			break;
		case 2:
			assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
			break;
		case 3:
			to = at;
			at = env_at(&w->env, "a/b/g");
			assert_int_equal(vfs_rename(&w->env.ctx, &at, &to, 0), 0);
			break;
		case 4:
			at = env_at(&w->env, "a");
			assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
			break;
		case 5:
			at = env_at(&w->env, "a/b");
			to = env_at(&w->env, "z/b");
			assert_int_equal(vfs_rename(&w->env.ctx, &at, &to, 0), 0);
			assert_false(holds(w, &by_stat) || holds(w, &by_open));
			assert_int_equal(vfs_rename(&w->env.ctx, &to, &at, 0), 0);
			break;
		case 6:
			assert_int_equal(vfs_setxattr(&w->env.ctx, &at, "user.x", "1", 1, 0), 0);
			break;
		case 7:
			to = env_at(&w->env, "a/second");
			assert_int_equal(vfs_link(&w->env.ctx, &at, &to), 0);
			break;
		}
		assert_false(holds(w, &by_stat));
		assert_false(holds(w, &by_open));
	}
	/* a change by an open file, of what fstat(2) said */
	assert_int_equal(env_open(&w->env, &w->env.ctx, "a/b/f", O_RDWR, 0, &file), 0);
	assert_true(stat_leased(w, "a/b/f", &by_stat));
	assert_int_equal(env_write(&w->env.ctx, file, "x", 1, 0), 1);
	assert_false(holds(w, &by_stat));
	vfile_unref(file);
}

static void others_changes_leave_it(void **state)
{
	struct vfs_world *w = *state;
	struct vtarget at = env_at(&w->env, "a/other");
	struct vtarget to = env_at(&w->env, "a/moved");
	struct given by_stat, by_open;

	vw_make_dir(w, "a");
	vw_make_file(w, "a/f", "text");
	assert_true(stat_leased(w, "a/f", &by_stat));
	assert_true(open_leased(w, "a/f", O_RDONLY, &by_open));
	for (int i = 0; i < 3; i++) {
		vw_make_file(w, "a/other", "text");
		assert_true(holds(w, &by_stat) && holds(w, &by_open));
		/* a name that was something goes: the names of the directory changed */
		assert_int_equal(vfs_rename(&w->env.ctx, &at, &to, 0), 0);
		assert_int_equal(vfs_unlink(&w->env.ctx, &to, false), 0);
		assert_false(holds(w, &by_stat) || holds(w, &by_open));
		assert_true(stat_leased(w, "a/f", &by_stat));
		assert_true(open_leased(w, "a/f", O_RDONLY, &by_open));
	}
}

static void there_is_none_where_more_has_to_be_done(void **state)
{
	struct vfs_world *w = *state;
	struct given given;
	struct attr attr;

	vw_make_dir(w, "a");
	vw_make_file(w, "a/f", "text");
	vw_make_link(w, "l", "a/f");
	assert_true(stat_leased(w, "a/../a/f", &given));
	assert_false(stat_leased(w, "l", &given));
	assert_true(stat_leased(w, "none", &given));
	assert_false(stat_leased(w, "a/f/", &given));
	assert_true(stat_leased(w, "a", &given));
	assert_true(stat_leased(w, "", &given));
	assert_false(open_leased(w, "a", O_RDONLY, &given));
	assert_false(open_leased(w, "a/f", O_WRONLY, &given));
	assert_false(open_leased(w, "a/f", O_RDWR, &given));
	assert_false(open_leased(w, "a/f", O_RDONLY | O_CREAT, &given));
	assert_false(open_leased(w, "a/f", O_RDONLY | O_TRUNC, &given));
	assert_false(open_leased(w, "a/f", O_RDONLY | O_DIRECT, &given));
	assert_false(open_leased(w, "a/f", O_RDONLY | O_NOATIME, &given));
	assert_false(open_leased(w, "a/f", O_PATH, &given));
	assert_true(open_leased(w, "a/f", O_RDONLY | O_NONBLOCK, &given));
	/* asked for below, so not yet */
	vw_make_file(w, "a/new", "text");
	vfs_trim(w->env.vfs);
	begin(w, &given);
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "a/new", &attr), 0);
	assert_false(end(w, &given));
}

static void a_long_path_has_none(void **state)
{
	struct vfs_world *w = *state;
	struct given given;
	char path[64] = "d";

	for (unsigned depth = 1; depth <= LEASE_DEPS_MAX; depth++) {
		vw_make_dir(w, path);
		/* the volume's root, the directories above, the one itself, and the epoch */
		assert_int_equal(stat_leased(w, path, &given), depth + 2 <= LEASE_DEPS_MAX);
		strcat(path, "/d");
	}
}

static void note_all(void *arg, struct vnode *node)
{
	*(bool *)arg = !node;
}

static void watching_ends_all(void **state)
{
	struct vfs_world *w = *state;
	struct given by_stat, by_open;
	struct vtarget at;
	struct vnode *node;
	bool dropped = false;
	int fd;

	vfs_set_drop_idle(w->env.vfs, note_all, &dropped);
	vw_make_file(w, "f", "text");
	vw_make_file(w, "other", "text");
	assert_true(stat_leased(w, "f", &by_stat));
	assert_true(open_leased(w, "f", O_RDONLY, &by_open));
	at = env_at(&w->env, "other");
	assert_int_equal(vfs_lookup(&w->env.ctx, &at, &node, NULL), 0);
	fd = vnode_host_fd(node);
	assert_true(fd >= 0);
	assert_true(dropped);
	fd_close(fd);
	vnode_unref(node);
	assert_false(holds(w, &by_stat) || holds(w, &by_open));
	assert_false(stat_leased(w, "f", &by_stat));
	assert_false(open_leased(w, "f", O_RDONLY, &by_open));
}

static void volumes_that_nest_end_all(void **state)
{
	struct vfs_world *w = *state;
	struct vfs_instance *inner;
	struct libservice *ls;
	struct given given;
	struct err err = {""};
	char dir[64];

	env_mkdir(dir);
	vw_make_dir(w, "in");
	vw_make_file(w, "in/f", "text");
	assert_true(stat_leased(w, "in/f", &given));
	assert_int_equal(local_new(dir, &ls, &err), 0);
	assert_int_equal(vfs_instance_add(w->env.vfs, "c", "/data/in", ls, &inner, &err), 0);
	assert_false(holds(w, &given));
	assert_true(stat_leased(w, "in", &given));
	assert_true(absence_leased(w, "in/f", 0, &given));
	vfs_instance_remove(inner);
	assert_false(holds(w, &given));
	env_remove_tree(dir);
}

/* Who has a lease of an inode that nobody knows any more would not hear of its changes. */
static void an_inode_that_is_forgotten_ends_it(void **state)
{
	struct vfs_world *w = *state;
	struct given given;
	char name[16];

	vw_make_file(w, "f", "text");
	assert_true(stat_leased(w, "f", &given));
	for (int i = 0; i < 40000 && holds(w, &given); i++) {
		struct attr attr;

		snprintf(name, sizeof(name), "none-%d", i);
		env_stat(&w->env, &w->env.ctx, name, &attr);
	}
	assert_false(holds(w, &given));
}

static void a_change_from_outside_ends_it_when_it_is_seen(void **state)
{
	struct vfs_world *w = *state;
	struct given by_stat, again;
	struct attr attr;
	int64_t size = 0;

	vw_make_file(w, "f", "text");
	assert_true(stat_leased(w, "f", &by_stat));
	assert_int_equal(truncate(env_host(&w->env, "f"), 100), 0);
	while (size != 100) {
		assert_int_equal(env_stat(&w->env, &w->env.ctx, "f", &attr), 0);
		size = attr.size;
	}
	assert_false(holds(w, &by_stat));
	assert_true(stat_leased(w, "f", &again));
}

static void drop(void *arg, struct vnode *node)
{
	*(uint64_t *)arg = vnode_ino(node);
}

static void the_last_name_of_an_open_file_is_told(void **state)
{
	struct vfs_world *w = *state;
	struct vtarget at = env_at(&w->env, "f"), second = env_at(&w->env, "g");
	struct vfile *file;
	uint64_t dropped = 0;

	vfs_set_drop_idle(w->env.vfs, drop, &dropped);
	vw_make_file(w, "f", "text");
	assert_int_equal(vfs_link(&w->env.ctx, &at, &second), 0);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &file), 0);
	vw_ino(w, "f");
	assert_int_equal(vfs_unlink(&w->env.ctx, &second, false), 0);
	assert_int_equal(dropped, 0);
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	assert_int_equal(dropped, vnode_ino(vfile_node(file)));
	vfile_unref(file);
	dropped = 0;
	vw_make_file(w, "f", "text");
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	assert_int_equal(dropped, 0);
	vfs_set_drop_idle(w->env.vfs, NULL, NULL);
}

/* With fault below. */
static void descriptors_are_taken_from_idle_files(void **state)
{
	struct vfs_world *w = *state;
	struct vfile *file;
	bool dropped = false;

	vfs_set_drop_idle(w->env.vfs, note_all, &dropped);
	vw_make_file(w, "f", "text");
	vfs_trim(w->env.vfs);
	atomic_store(&w->env.plan.error, -EMFILE);
	for (uint64_t ahead = 1; ahead < 8 && !dropped; ahead++) {
		atomic_store(&w->env.plan.first, atomic_load(&w->env.plan.calls) + ahead);
		if (!env_open(&w->env, &w->env.ctx, "f", O_RDONLY | O_NOATIME, 0, &file))
			vfile_unref(file);
	}
	atomic_store(&w->env.plan.first, 0);
	assert_true(dropped);
	vfs_set_drop_idle(w->env.vfs, NULL, NULL);
}

static void a_cache_looks_at_each_open(void **state)
{
	struct vfs_world w = {0};
	struct given given;

	env_start_on(&w.env, "cache:[local:%s]");
	vw_make_file(&w, "f", "text");
	assert_true(stat_leased(&w, "f", &given));
	assert_false(open_leased(&w, "f", O_RDONLY, &given));
	env_stop(&w.env);
}

/* Two threads take leases while this one changes what they are of; once it has said that a change
 * is made, none that holds is of what was before. */
struct racing {
	struct vctx ctx; /* as it was before the race */
	struct vfs_world *w;
	_Atomic uint64_t made; /* odd: a change is under way; else what there is, by its size, is
				* size_after(made) */
	atomic_bool ends;
};

static uint64_t size_after(uint64_t made)
{
	return 1 + (made / 2 % 2);
}

static void *take_leases(void *arg)
{
	struct racing *racing = arg;
	struct vctx ctx = racing->ctx;
	struct vfs *vfs = racing->w->env.vfs;
	struct lease_draft draft;
	struct lease lease;
	struct attr attr;

	ctx.lease = &draft;
	while (!atomic_load(&racing->ends)) {
		lease_begin(&draft, vfs_leases(vfs));
		if (env_stat(&racing->w->env, &ctx, "d/f", &attr) < 0 ||
		    !lease_end(&draft, clock_coarse_ns(), &lease))
			continue;
		for (unsigned n = 0; n < 100 && lease_holds(vfs_leases(vfs)->table, &lease); n++) {
			uint64_t made = atomic_load(&racing->made);

			if (!(made & 1) && attr.size != size_after(made) &&
			    lease_holds(vfs_leases(vfs)->table, &lease) &&
			    atomic_load(&racing->made) == made)
				abort();
		}
	}
	return NULL;
}

static void race(struct vfs_world *w, void (*change)(struct vfs_world *w, uint64_t size),
		 unsigned times)
{
	struct racing racing = {.w = w, .ctx = w->env.ctx};
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_leases, &racing), 0);
	for (unsigned n = 0; n < times; n++) {
		uint64_t made = atomic_fetch_add(&racing.made, 1) + 2;

		change(w, size_after(made));
		atomic_store(&racing.made, made);
		for (unsigned i = 0; i < n % 8 * 50; i++)
			atomic_load(&racing.made);
	}
	atomic_store(&racing.ends, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

static void exchange_directories(struct vfs_world *w, uint64_t unused)
{
	struct vtarget at = env_at(&w->env, "e"), to = env_at(&w->env, "d");

	assert_int_equal(vfs_rename(&w->env.ctx, &at, &to, RENAME_EXCHANGE), 0);
}

static void cut_or_write(struct vfs_world *w, uint64_t size)
{
	struct vtarget at = env_at(&w->env, "d/f");
	struct setattr set = {.set = ATTR_SIZE, .attr = {.size = size}};
	struct vfile *file;

	if (size == 1) {
		assert_int_equal(vfs_setattr(&w->env.ctx, &at, &set, NULL), 0);
		return;
	}
	assert_int_equal(env_open(&w->env, &w->env.ctx, "d/f", O_WRONLY, 0, &file), 0);
	assert_int_equal(env_write(&w->env.ctx, file, "12", 2, 0), 2);
	vfile_unref(file);
}

static void no_lease_is_of_what_was_before(void **state)
{
	struct vfs_world *w = *state;

	vw_make_dir(w, "d");
	vw_make_dir(w, "e");
	vw_make_file(w, "d/f", "1");
	vw_make_file(w, "e/f", "12");
	race(w, exchange_directories, 60000);
	race(w, cut_or_write, 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    LEASE_TEST(a_lease_ends_with_what_it_depends_on),
	    LEASE_TEST(that_there_is_nothing_ends_when_there_is),
	    LEASE_TEST(what_access_says_ends_with_what_it_depends_on),
	    LEASE_TEST(others_changes_leave_it),
	    LEASE_TEST(there_is_none_where_more_has_to_be_done),
	    LEASE_TEST(a_long_path_has_none),
	    LEASE_TEST(watching_ends_all),
	    LEASE_TEST(volumes_that_nest_end_all),
	    LEASE_TEST(an_inode_that_is_forgotten_ends_it),
	    LEASE_TEST(a_change_from_outside_ends_it_when_it_is_seen),
	    LEASE_TEST(the_last_name_of_an_open_file_is_told),
	    LEASE_TEST(no_lease_is_of_what_was_before),
	    VW_TEST(descriptors_are_taken_from_idle_files),
	    cmocka_unit_test(a_cache_looks_at_each_open),
	};

	return env_run(tests);
}
