/* SPDX-License-Identifier: Apache-2.0 */
/* The union over local branches: single behaviours, on branches that each case fills by itself. */
#include "tests/lib/union_world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/union/union.h"

static void open_files_follow_a_copy(void **state)
{
	struct union_world w;
	struct ls_file *reader, *writer;
	struct ls_node *node, *again;
	struct attr attr, after;
	char buf[16] = "";
	struct iovec iov = {buf, sizeof(buf) - 1}, out = {"NEW", 3};
	uint64_t end;

	uw_fresh(&w, "echo old > a/f");
	uw_open(&w);
	node = uw_at(&w, "f", &attr);
	assert_int_equal(ls_open(w.ls, uw_users[0], node, O_RDONLY, &reader), 0);
	assert_int_equal(ls_open(w.ls, uw_users[0], node, O_WRONLY, &writer), 0);
	assert_int_equal(ls_write(w.ls, writer, &out, 1, 0, false, &end), 3);
	assert_int_equal(ls_read(w.ls, reader, &iov, 1, 0), 4);
	assert_string_equal(buf, "NEW\n");
	ls_release(w.ls, reader);
	ls_release(w.ls, writer);
	/* the same inode, also for who forgot it meanwhile */
	again = uw_at(&w, "f", &after);
	assert_ptr_equal(again, node);
	ls_forget(w.ls, node, 2);
	node = uw_at(&w, "f", &after);
	assert_int_equal(after.ino, attr.ino);
	ls_forget(w.ls, node, 1);
	uw_close(&w);
}

static void copies_keep_what_the_file_has(void **state)
{
	struct union_world w;
	struct stat st, copy;
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr, set = {.mode = 04711};
	char path[128], value[16];

	uw_fresh(&w, "dd if=/dev/urandom of=a/f bs=64k count=1 status=none; truncate -s 1G a/f; "
		     "printf end | dd of=a/f bs=1 seek=536870912 conv=notrunc status=none; "
		     "chown 5:6 a/f; chmod 4711 a/f; setfattr -n user.k -v v a/f; "
		     "setfattr -n trusted.k -v v a/f; touch -d @1000000000 a/f");
	uw_open(&w);
	node = uw_at(&w, "f", &attr);
	snprintf(path, sizeof(path), "%s/a/f", w.branches);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(ls_open(w.ls, uw_users[0], node, O_RDWR, &file), 0);
	ls_release(w.ls, file);
	snprintf(path, sizeof(path), "%s/u/f", w.branches);
	assert_int_equal(stat(path, &copy), 0);
	assert_int_equal(copy.st_size, st.st_size);
	assert_int_equal(copy.st_blocks, st.st_blocks);
	assert_int_equal(copy.st_mode, st.st_mode);
	assert_int_equal(copy.st_uid, 5);
	assert_int_equal(copy.st_gid, 6);
	assert_int_equal(copy.st_mtime, UW_OLD);
	cred_assume_service();
	assert_int_equal(getxattr(path, "user.k", value, sizeof(value)), 1);
	assert_int_equal(getxattr(path, "trusted.k", value, sizeof(value)), 1);
	assert_int_equal(ls_setattr(w.ls, uw_users[0], node, NULL, ATTR_MODE, &set, &attr), 0);
	ls_forget(w.ls, node, 1);
	uw_close(&w);
	uw_sh("cmp %s/a/f %s/u/f", w.branches, w.branches);
}

static void a_link_that_is_refused_copies_nothing(void **state)
{
	struct union_world w;
	struct ls_node *from, *root;
	struct attr attr;

	uw_fresh(&w, "echo x > a/f; ln a/f a/g; echo y > a/there; mkdir a/d");
	uw_open(&w);
	from = uw_at(&w, "f", &attr);
	root = uw_at(&w, "", &attr);
	assert_int_equal(ls_link(w.ls, uw_users[0], from, root, "there"), -EEXIST);
	assert_int_equal(ls_getattr(w.ls, from, NULL, &attr), 0);
	assert_int_equal(attr.nlink, 2); /* a copy would be a file of its own */
	uw_sh("test ! -e %s/u/f", w.branches);
	assert_int_equal(ls_link(w.ls, uw_users[0], from, root, "new"), 0);
	ls_forget(w.ls, from, 1);
	ls_forget(w.ls, root, 1);
	uw_close(&w);
	uw_sh("cmp %s/a/f %s/u/new", w.branches, w.branches);
}

static void chown_to_nobody_takes_the_set_id_bits(void **state)
{
	struct union_world w;
	struct ls_node *set_id, *plain;
	struct attr attr, unused = {0};

	uw_fresh(&w,
		 "echo x > a/s; chmod 2666 a/s; echo x > a/p; chmod 644 a/p; chown 0:6 a/s a/p");
	uw_open(&w);
	set_id = uw_at(&w, "s", &attr);
	plain = uw_at(&w, "p", &attr);
	assert_int_equal(ls_setattr(w.ls, uw_users[1], set_id, NULL, 0, &unused, &attr), -EPERM);
	assert_int_equal(ls_setattr(w.ls, uw_users[1], plain, NULL, 0, &unused, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0644);
	cred_assume_service();
	uw_sh("cd %s && test ! -e u/p && test ! -e u/s && chmod 6755 a/s", w.branches);
	assert_int_equal(ls_setattr(w.ls, uw_users[0], set_id, NULL, 0, &unused, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	ls_forget(w.ls, set_id, 1);
	ls_forget(w.ls, plain, 1);
	uw_close(&w);
}

static void inode_numbers_are_unique_and_stay(void **state)
{
	struct union_world w;
	struct ls_node *a, *b;
	struct attr one, two, after, set = {.mode = 0600};

	uw_fresh(&w, "echo x > a/one; ln a/one a/two; mkdir a/d b/d; echo y > b/low");
	uw_open(&w);
	a = uw_at(&w, "one", &one);
	b = uw_at(&w, "two", &two);
	assert_int_not_equal(one.ino, two.ino); /* each will be a file of its own */
	assert_int_equal(ls_setattr(w.ls, uw_users[0], a, NULL, ATTR_MODE, &set, &after), 0);
	assert_int_equal(after.ino, one.ino);
	assert_int_equal(ls_getattr(w.ls, b, NULL, &after), 0);
	assert_int_equal(after.ino, two.ino);
	assert_int_equal(after.mode & 07777, 0644);
	ls_forget(w.ls, a, 1);
	ls_forget(w.ls, b, 1);
	a = uw_at(&w, "d", &one);
	assert_int_equal(one.nlink, 1);
	assert_int_equal(ls_setattr(w.ls, uw_users[0], a, NULL, ATTR_MODE, &set, &after), 0);
	assert_int_equal(after.ino, one.ino);
	ls_forget(w.ls, a, 1);
	a = uw_at(&w, "d", &after);
	assert_int_equal(after.ino, one.ino);
	ls_forget(w.ls, a, 1);
	uw_close(&w);
}

static void a_removed_lower_directory_is_empty(void **state)
{
	struct ls_node *d, *node;
	struct union_world w;
	struct attr attr;

	uw_fresh(&w, "mkdir u/d a/d b/d; echo u > u/d/u; echo a > a/d/a; echo b > b/d/b");
	uw_open(&w);
	d = uw_at(&w, "d", &attr);
	uw_sh("rm -r %s/a/d", w.branches);
	assert_int_equal(uw_names_count(w.ls, uw_users[0], d), 4); /* ".", "..", u, b */
	assert_int_equal(ls_lookup(w.ls, uw_users[0], d, "a", &node, &attr), -ENOENT);
	ls_forget(w.ls, uw_at(&w, "d/b", &attr), 1);
	assert_int_equal(
	    ls_make(w.ls, uw_users[0], d, "new", S_IFDIR | 0755, 0, 0, NULL, &node, &attr), 0);
	ls_forget(w.ls, node, 1);
	assert_int_equal(ls_unlink(w.ls, uw_users[0], d, "new", true), 0);
	assert_int_equal(ls_unlink(w.ls, uw_users[0], d, "u", false), 0);
	ls_forget(w.ls, d, 1);
	uw_close(&w);
}

static void listings_hold_while_names_change(void **state)
{
	struct uw_names *names = calloc(1, sizeof(*names));
	struct union_world w;
	struct ls_file *file;
	struct ls_node *d;
	struct attr attr;
	unsigned before;

	uw_fresh(&w,
		 "mkdir u/d a/d b/d; for i in 1 2 3 4 5; do touch u/d/u$i a/d/a$i b/d/b$i; done; "
		 "touch b/d/u1 a/d/gone; mknod u/d/gone c 0 0");
	uw_open(&w);
	d = uw_at(&w, "d", &attr);
	assert_int_equal(ls_open(w.ls, uw_users[0], d, O_RDONLY | O_DIRECTORY, &file), 0);
	for (names->stop = 1;; names->stop = names->n + 1) {
		before = names->n;
		assert_int_equal(ls_readdir(w.ls, file, before ? names->next[before - 1] : 0,
					    uw_take_name, names),
				 0);
		if (names->n == before)
			break;
		if (before == 4) {
			assert_int_equal(ls_unlink(w.ls, uw_users[0], d, "a1", false), 0);
			assert_int_equal(ls_unlink(w.ls, uw_users[0], d, "b1", false), 0);
		}
	}
	assert_int_equal(names->n, 17); /* ".", "..", 15: each name once */
	for (unsigned i = 0; i < names->n; i++)
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(names->name[i], names->name[j]);
	names->n = names->stop = 0;
	assert_int_equal(ls_readdir(w.ls, file, 0, uw_take_name, names), 0);
	assert_int_equal(names->n, 15); /* from the start it is read anew */
	ls_release(w.ls, file);
	ls_forget(w.ls, d, 1);
	uw_close(&w);
	free(names);
}

static void one_union_writes_a_branch(void **state)
{
	struct libservice *second;
	struct err err = {0};
	struct union_world w;
	char spec[256];

	uw_fresh(&w, "mkdir a/x");
	uw_open(&w);
	snprintf(spec, sizeof(spec), "union:[local:%s/u,rw][local:%s/b,ro]", w.branches,
		 w.branches);
	assert_int_equal(stack_open(spec, NULL, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use"));
	/* reading it is everybody's */
	snprintf(spec, sizeof(spec), "union:[local:%s/u,ro][local:%s/a,ro]", w.branches,
		 w.branches);
	assert_int_equal(stack_open(spec, NULL, &second, &err), 0);
	struct ls_node *root, *made;
	struct attr attr;

	assert_int_equal(ls_root(second, &root, &attr), 0);
	assert_int_equal(ls_make(second, uw_users[0], root, "n", S_IFDIR, 0, 0, NULL, &made, &attr),
			 -EROFS);
	assert_int_equal(ls_lookup(second, uw_users[0], root, UNION_WORK, &made, &attr), -ENOENT);
	ls_forget(second, root, 1);
	ls_free(second);
	uw_close(&w);
}

struct worker {
	pthread_t thread;
	struct union_world *world;
	unsigned number;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct uw_op op;

	uw_seed(worker->number);
	for (unsigned i = 0; i < 400; i++) {
		uw_random_op(&op);
		op.user = 0;
		uw_op_union(worker->world, &op);
	}
	return NULL;
}

static void threads_leave_what_the_branches_say(void **state)
{
	struct worker workers[4];
	struct union_world w;

	uw_fresh(&w, "mkdir -p a/a/b a/b/c b/a/c b/c/a; for d in a/a a/a/b a/b b/a/c b/c; do "
		     "for f in d e; do echo $d > $d/$f; done; done; touch a/e b/e b/d");
	uw_open(&w);
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){.world = &w, .number = i + 1};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(workers[i].thread, NULL);
	CLEANUP_FREE char *live = uw_dump(&w);
	uw_close(&w);
	CLEANUP_FREE char *left = uw_dump_closed(&w);
	assert_string_equal(live, left);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(open_files_follow_a_copy),
	    cmocka_unit_test(copies_keep_what_the_file_has),
	    cmocka_unit_test(a_link_that_is_refused_copies_nothing),
	    cmocka_unit_test(chown_to_nobody_takes_the_set_id_bits),
	    cmocka_unit_test(inode_numbers_are_unique_and_stay),
	    cmocka_unit_test(a_removed_lower_directory_is_empty),
	    cmocka_unit_test(listings_hold_while_names_change),
	    cmocka_unit_test(one_union_writes_a_branch),
	    cmocka_unit_test(threads_leave_what_the_branches_say),
	};

	return cmocka_run_group_tests(tests, uw_setup, uw_teardown);
}
