/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of names that others overtake: between a call's look at a name and its change of it; and
 * what is seen of a change by who hears of it before the call that made it is over. */
#include "tests/lib/vfs_env.h"

#include <pthread.h>
#include <semaphore.h>

#include "danaus/libservices/libservice.h"

static struct libservice_ops hooked, plain;
static struct {
	struct env *env;
	struct libservice *ls;
	const char *at;		   /* the name that sets it off, once */
	const char *renames[4][2]; /* what others do then */
	bool listens;		   /* somebody looks at all names after each change below */
	unsigned told, lookups;
} hook;

static void move(struct env *env, const char *from, const char *to)
{
	struct vtarget old = env_at(env, from), new = env_at(env, to);

	assert_int_equal(vfs_rename(&env->ctx, &old, &new, 0), 0);
}

static int lookup(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		  const char *name, struct ls_node **ret, struct attr *ret_attr)
{
	int r = plain.lookup(ls, cred, dir, name, ret, ret_attr);
	struct attr attr;

	hook.lookups++;
	if (hook.at && !strcmp(name, hook.at)) {
		hook.at = NULL;
		for (int i = 0; i < 4 && hook.renames[i][0]; i++)
			move(hook.env, hook.renames[i][0], hook.renames[i][1]);
		env_stat(hook.env, &hook.env->ctx, name, &attr);
	}
	return r;
}

static void all_are_as_on_the_host(struct env *env);

static long tell(long r)
{
	if (hook.listens && r >= 0) {
		hook.told++;
		all_are_as_on_the_host(hook.env);
	}
	return r;
}

#define CROWD 8 /* a few of their names may share a lock with "slow" */
static struct {
	sem_t begun, made;
	unsigned overtook;
} crowd;

static void wait_for_crowd(void)
{
	struct timespec end;

	sem_post(&crowd.begun);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	while (crowd.overtook < CROWD / 2 && !sem_timedwait(&crowd.made, &end))
		crowd.overtook++;
}

static int make_below(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		      const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
		      struct ls_node **ret, struct attr *ret_attr)
{
	if (!strcmp(name, "slow"))
		wait_for_crowd();
	return tell(plain.make(ls, cred, dir, name, mode, umask, rdev, target, ret, ret_attr));
}

static int create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		  const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		  struct ls_file **ret_file, struct attr *ret_attr)
{
	return tell(plain.create(ls, cred, dir, name, flags, mode, umask, ret, ret_file, ret_attr));
}

static int link_below(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		      struct ls_node *dir, const char *name)
{
	return tell(plain.link(ls, cred, node, dir, name));
}

static int unlink_below(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, bool directory)
{
	return tell(plain.unlink(ls, cred, dir, name, directory));
}

static int rename_below(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, struct ls_node *newdir, const char *newname,
			unsigned flags)
{
	return tell(plain.rename(ls, cred, dir, name, newdir, newname, flags));
}

static int setattr(struct libservice *ls, const struct cred *cred, struct ls_node *node,
		   struct ls_file *file, unsigned set, const struct attr *attr,
		   struct attr *ret_attr)
{
	return tell(plain.setattr(ls, cred, node, file, set, attr, ret_attr));
}

static ssize_t write_below(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			   int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	return tell(plain.write(ls, file, iov, niov, offset, append, ret_end));
}

static int setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));
	struct libservice *ls;
	struct err err = {""};

	memset(&hook, 0, sizeof(hook));
	hook.env = env;
	env_mkdir(env->dir);
	assert_int_equal(local_new(env->dir, &ls, &err), 0);
	hooked = *ls->ops;
	plain = hooked;
	hooked.lookup = lookup;
	hooked.make = make_below;
	hooked.create = create;
	hooked.link = link_below;
	hooked.unlink = unlink_below;
	hooked.rename = rename_below;
	hooked.setattr = setattr;
	hooked.write = write_below;
	ls->ops = &hooked;
	hook.ls = ls;
	env_serve(env, ls);
	*state = env;
	return 0;
}

static int teardown(void **state)
{
	env_stop(*state);
	free(*state);
	return 0;
}

static struct vfile *make(struct env *env, const char *name)
{
	struct vfile *file;

	assert_int_equal(env_open(env, &env->ctx, name, O_RDWR | O_CREAT, 0644, &file), 0);
	return file;
}

/* What the vfs says of a name is what the host says. */
static void is_as_on_the_host(struct env *env, const char *name)
{
	struct stat st;
	struct attr attr;
	int there = stat(env_host(env, name), &st), r = env_stat(env, &env->ctx, name, &attr);

	assert_int_equal(r, there ? -ENOENT : 0);
	if (r)
		return;
	assert_int_equal(attr.ino, st.st_ino);
	assert_int_equal(attr.mode, st.st_mode);
	assert_int_equal(attr.size, st.st_size);
	assert_int_equal(attr.nlink, st.st_nlink);
}

static void all_are_as_on_the_host(struct env *env)
{
	static const char *const names[] = {"a", "b", "c", "z"};

	for (int i = 0; i < 4; i++)
		is_as_on_the_host(env, names[i]);
}

static void an_overtaken_rename_moves_what_is_there(void **state)
{
	struct env *env = *state;

	vfile_unref(make(env, "a"));
	vfile_unref(make(env, "c"));
	hook.renames[0][0] = "a", hook.renames[0][1] = "z";
	hook.renames[1][0] = "c", hook.renames[1][1] = "a";
	hook.at = "b";
	move(env, "a", "b");
	assert_null(hook.at);
	all_are_as_on_the_host(env);
}

static void two_names_that_were_of_one_inode_count_no_more(void **state)
{
	struct env *env = *state;
	struct vtarget a = env_at(env, "a"), b = env_at(env, "b");

	vfile_unref(make(env, "a"));
	vfile_unref(make(env, "c"));
	assert_int_equal(link(env_host(env, "a"), env_host(env, "b")), 0);
	hook.renames[0][0] = "c", hook.renames[0][1] = "a";
	hook.at = "b";
	assert_int_equal(vfs_rename(&env->ctx, &a, &b, 0), 0);
	assert_null(hook.at);
	all_are_as_on_the_host(env);
}

static void an_overtaken_unlink_takes_what_is_there(void **state)
{
	struct env *env = *state;
	struct vtarget at = env_at(env, "b"), open = {.file = make(env, "c")};
	struct attr attr;

	/* not known to the vfs, so that it is looked up */
	assert_int_equal(mknod(env_host(env, "b"), S_IFREG | 0644, 0), 0);
	assert_int_equal(vfs_stat(&env->ctx, &open, &attr), 0);
	hook.renames[0][0] = "c", hook.renames[0][1] = "b";
	hook.at = "b";
	assert_int_equal(vfs_unlink(&env->ctx, &at, false), 0);
	assert_null(hook.at);
	assert_int_equal(vfs_stat(&env->ctx, &open, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	vfile_unref(open.file);
	is_as_on_the_host(env, "b");
	is_as_on_the_host(env, "c");
}

static void who_is_told_of_a_change_sees_it(void **state)
{
	struct env *env = *state;
	struct vtarget root = env_at(env, ""), a = env_at(env, "a"), b = env_at(env, "b"),
		       c = env_at(env, "c"), z = env_at(env, "z");
	const struct setattr mode = {.set = ATTR_MODE, .attr = {.mode = 0600}},
			     size = {.set = ATTR_SIZE, .attr = {.size = 100}};
	const struct iovec iov = {"text", 4};
	struct vfile *file;
	struct vnode *node;
	struct attr attr;

	assert_int_equal(vfs_lookup(&env->ctx, &root, &node, &attr), 0);
	close(vnode_host_fd(node)); /* inotify_add_watch() would follow */
	vnode_unref(node);
	all_are_as_on_the_host(env);
	hook.listens = true;
	file = make(env, "a");
	assert_int_equal(vfs_write(&env->ctx, file, &iov, 1, 0, false), 4);
	assert_int_equal(vfs_setattr(&env->ctx, &a, &mode, &attr), 0);
	assert_int_equal(vfs_setattr(&env->ctx, &a, &size, &attr), 0);
	assert_int_equal(vfs_make(&env->ctx, &c, S_IFDIR | 0755, 0, NULL, &attr), 0);
	assert_int_equal(vfs_link(&env->ctx, &a, &b), 0);
	assert_int_equal(vfs_rename(&env->ctx, &b, &z, 0), 0);
	assert_int_equal(vfs_unlink(&env->ctx, &a, false), 0);
	assert_int_equal(vfs_unlink(&env->ctx, &c, true), 0);
	assert_int_equal(hook.told, 9);
	hook.listens = false;
	all_are_as_on_the_host(env);
	vfile_unref(file);
}

static void *make_one(void *name)
{
	struct vctx ctx = hook.env->ctx;
	struct vtarget at = env_at(hook.env, name);
	struct attr attr;

	assert_int_equal(vfs_make(&ctx, &at, S_IFREG | 0644, 0, NULL, &attr), 0);
	sem_post(&crowd.made);
	return NULL;
}

static void names_change_at_once_where_the_storage_orders_them(void **state)
{
	char name[CROWD][8];
	pthread_t slow, thread[CROWD];

	hook.ls->distant = true;
	crowd.overtook = 0;
	sem_init(&crowd.begun, 0, 0);
	sem_init(&crowd.made, 0, 0);
	assert_int_equal(pthread_create(&slow, NULL, make_one, "slow"), 0);
	sem_wait(&crowd.begun);
	for (int i = 0; i < CROWD; i++) {
		snprintf(name[i], sizeof(name[i]), "f%d", i);
		assert_int_equal(pthread_create(&thread[i], NULL, make_one, name[i]), 0);
	}
	pthread_join(slow, NULL);
	for (int i = 0; i < CROWD; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(crowd.overtook, CROWD / 2);
	all_are_as_on_the_host(*state);
	sem_destroy(&crowd.begun);
	sem_destroy(&crowd.made);
}

static int make_new(struct env *env, struct cred *cred, const char *name)
{
	struct vctx ctx = env_ctx(cred, 1);
	struct vfile *file;
	int r = env_open(env, &ctx, name, O_WRONLY | O_CREAT | O_EXCL, 0644, &file);

	if (!r)
		vfile_unref(file);
	return r;
}

static void a_new_name_is_not_looked_for_where_that_takes_long(void **state)
{
	struct cred *user = env_cred(1000, 1000, 0, 0, NULL);
	struct env *env = *state;

	hook.ls->distant = true;
	hook.lookups = 0;
	assert_int_equal(make_new(env, env->root, "new"), 0);
	assert_int_equal(hook.lookups, 0);
	assert_int_equal(make_new(env, env->root, "new"), -EEXIST);
	close(open(env_host(env, "theirs"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	assert_int_equal(make_new(env, env->root, "theirs"), -EEXIST);
	assert_int_equal(hook.lookups, 0);
	is_as_on_the_host(env, "new");
	is_as_on_the_host(env, "theirs");
	/* that it is there counts more than that one may not make it */
	assert_int_equal(chmod(env->dir, 0755), 0);
	unlink(env_host(env, "theirs"));
	assert_int_equal(make_new(env, user, "nothing"), -EACCES);
	cred_assume_service();
	close(open(env_host(env, "others"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	assert_int_equal(make_new(env, user, "others"), -EEXIST);
	cred_unref(user);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_overtaken_rename_moves_what_is_there),
	    TEST(two_names_that_were_of_one_inode_count_no_more),
	    TEST(an_overtaken_unlink_takes_what_is_there),
	    TEST(names_change_at_once_where_the_storage_orders_them),
	    TEST(a_new_name_is_not_looked_for_where_that_takes_long),
	    TEST(who_is_told_of_a_change_sees_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
