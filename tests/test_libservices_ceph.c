/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice against a real cluster (tests/lib/ceph_world.h): what each operation does. */
#include "tests/lib/ceph_world.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"

static void files_keep_what_is_written(void **state)
{
	struct ls_node *node;
	struct ls_file *file = cf_create(cf_ls, cf_top, "f", 0644, &node);
	struct attr attr;

	assert_int_equal(cf_put(cf_ls, file, "hello", 0), 5);
	assert_int_equal(cf_put(cf_ls, file, " world", UINT64_MAX), 6);
	cf_expect(cf_ls, file, 0, "hello world");
	cf_expect(cf_ls, file, 11, "");
	assert_int_equal(ls_fsync(cf_ls, file, false), 0);
	attr.size = 5;
	assert_int_equal(ls_setattr(cf_ls, cf_root, node, file, ATTR_SIZE, &attr, &attr), 0);
	assert_int_equal(attr.size, 5);
	cf_expect(cf_ls, file, 0, "hello");
	assert_int_equal(cf_put(cf_ls, file, "end", 1 << 20), 3);
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, (1 << 20) + 3);
	assert_int_equal(ls_seek(cf_ls, file, 0, SEEK_DATA), 0);
	assert_int_equal(ls_seek(cf_ls, file, 0, SEEK_HOLE), (1 << 20) + 3);
	assert_int_equal(ls_allocate(cf_ls, file, 0, 0, 2 << 20), 0);
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 2 << 20);
	ls_release(cf_ls, file);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "f", false), 0);
	ls_forget(cf_ls, node, 1);
}

static void what_is_empty_or_endless_ends(void **state)
{
	struct ls_node *node;
	struct ls_file *file = cf_create(cf_ls, cf_top, "empty", 0644, &node);
	char byte;
	struct iovec none[2] = {{&byte, 0}, {NULL, 0}};
	uint64_t end = 0;
	struct attr attr;

	assert_int_equal(cf_put(cf_ls, file, "hello", 0), 5);
	assert_int_equal(ls_write(cf_ls, file, none, 2, 10, false, &end), 0);
	assert_int_equal(end, 10);
	assert_int_equal(ls_write(cf_ls, file, none, 1, 0, true, &end), 0);
	assert_int_equal(end, 5);
	assert_int_equal(ls_read(cf_ls, file, none, 2, 0), 0);
	assert_int_equal(
	    ls_allocate(cf_ls, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4, INT64_MAX - 4),
	    0);
	assert_int_equal(ls_allocate(cf_ls, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     1 << 20, INT64_MAX - (1 << 20)),
			 0);
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	/* the file system's max_file_size, 1 TiB where nobody set it */
	assert_int_equal(cf_put(cf_ls, file, "x", 1ull << 40), -EFBIG);
	assert_int_equal(ls_allocate(cf_ls, file, 0, 1ull << 40, 1), -EFBIG);
	assert_int_equal(ls_allocate(cf_ls, file, 0, 0, 1ull << 41), -EFBIG);
	assert_int_equal(ls_getattr(cf_ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(cf_ls, file);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "empty", false), 0);
	ls_forget(cf_ls, node, 1);
}

static void names_are_as_posix_has_them(void **state)
{
	struct ls_node *d = cf_make(cf_top, "d", S_IFDIR | 0755), *node, *same;
	struct ls_file *file = cf_create(cf_ls, d, "a", 0600, &node);
	struct statvfs st;
	struct attr attr;
	uint64_t type;
	char buf[64];

	ls_release(cf_ls, file);
	assert_int_equal(ls_link(cf_ls, cf_root, node, d, "b"), 0);
	same = cf_get(cf_ls, d, "b", &attr);
	assert_ptr_equal(same, node);
	assert_int_equal(attr.nlink, 2);
	ls_forget(cf_ls, same, 1);
	assert_int_equal(ls_rename(cf_ls, cf_root, d, "b", cf_top, "c", 0), 0);
	assert_int_equal(ls_rename(cf_ls, cf_root, d, "a", cf_top, "c", RENAME_NOREPLACE), -EINVAL);
	assert_int_equal(ls_lookup(cf_ls, cf_root, d, "b", &same, &attr), -ENOENT);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "d", true), -ENOTEMPTY);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "d", false), -EISDIR);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "a", true), -ENOTDIR);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "a", false), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "c", false), 0);
	assert_int_equal(ls_getattr(cf_ls, node, NULL, &attr), 0);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(
	    ls_make(cf_ls, cf_root, d, "l", S_IFLNK | 0777, 0, 0, "to/there", &node, &attr), 0);
	assert_int_equal(ls_readlink(cf_ls, node, buf, sizeof(buf)), 8);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_make(cf_ls, cf_root, d, "w", S_IFCHR, 0, 0, NULL, &node, &attr), 0);
	assert_true(S_ISCHR(attr.mode) && attr.rdev == 0);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "l", false), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "w", false), 0);
	assert_int_equal(ls_tmpfile(cf_ls, cf_root, d, O_RDWR, 0600, 0, &node, &file, &attr),
			 -EOPNOTSUPP);
	assert_int_equal(ls_lookup(cf_ls, cf_root, cf_top, "..", &node, &attr), -EINVAL);
	assert_int_equal(ls_lookup(cf_ls, cf_root, d, "a/b", &node, &attr), -EINVAL);
	assert_int_equal(ls_statfs(cf_ls, d, &st, &type), 0);
	assert_int_equal(type, 0x00c36400);
	ls_forget(cf_ls, d, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "d", true), 0);
}

struct names {
	unsigned n, room;
	uint64_t next[300], dots[2];
	bool seen[300];
};

static bool take(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct names *names = arg;

	if (names->n == names->room)
		return false;
	if (name[0] != '.') {
		assert_false(names->seen[atoi(name)]);
		names->seen[atoi(name)] = true;
	} else {
		assert_int_equal(type, DT_DIR);
		names->dots[name[1] == '.'] = ino;
	}
	names->next[names->n++] = next;
	return true;
}

static unsigned list(struct ls_file *file, uint64_t position)
{
	struct names names = {.room = 300};

	assert_int_equal(ls_readdir(cf_ls, file, position, take, &names), 0);
	return names.n;
}

/* Those of libcephfs the first time, ours where it has the names. */
static void dots_are_directories_each_time(void **state)
{
	struct ls_node *d = cf_make(cf_top, "dots", S_IFDIR | 0755);
	struct attr attr, top;
	struct ls_file *file;

	assert_int_equal(ls_getattr(cf_ls, d, NULL, &attr), 0);
	assert_int_equal(ls_getattr(cf_ls, cf_top, NULL, &top), 0);
	assert_int_equal(ls_open(cf_ls, cf_root, d, O_RDONLY | O_DIRECTORY, &file), 0);
	for (int i = 0; i < 4; i++) {
		struct names names = {.room = 300};

		assert_int_equal(ls_readdir(cf_ls, file, 0, take, &names), 0);
		assert_int_equal(names.n, 2);
		assert_int_equal(names.dots[0], attr.ino);
		assert_int_equal(names.dots[1], top.ino);
	}
	ls_release(cf_ls, file);
	ls_forget(cf_ls, d, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "dots", true), 0);
}

/* What was read and not given out is no answer for another position. */
static void listings_are_read_anew_from_elsewhere(void **state)
{
	struct ls_node *d = cf_make(cf_top, "again", S_IFDIR | 0755);
	struct names names = {.room = 10};
	struct ls_file *file;
	char name[16];

	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ls_forget(cf_ls, cf_make(d, name, S_IFREG | 0600), 1);
	}
	assert_int_equal(ls_open(cf_ls, cf_root, d, O_RDONLY | O_DIRECTORY, &file), 0);
	assert_int_equal(ls_readdir(cf_ls, file, 0, take, &names), 0);
	assert_int_equal(names.n, 10);
	assert_int_equal(list(file, names.next[4]), 52 - 5);
	assert_int_equal(list(file, names.next[9]), 52 - 10);
	assert_int_equal(ls_readdir(cf_ls, file, 0, take, &(struct names){.room = 10}), 0);
	for (unsigned i = 1; i < 50; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(ls_unlink(cf_ls, cf_root, d, name, false), 0);
	}
	assert_int_equal(list(file, 0), 3);
	ls_forget(cf_ls, cf_make(d, "50", S_IFREG | 0600), 1);
	assert_int_equal(list(file, 0), 4);
	ls_release(cf_ls, file);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "0", false), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "50", false), 0);
	ls_forget(cf_ls, d, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "again", true), 0);
}

static void listings_go_on_where_they_stopped(void **state)
{
	struct ls_node *d = cf_make(cf_top, "many", S_IFDIR | 0755);
	struct names names = {.room = 1};
	struct ls_file *file;
	char name[16];
	int r;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ls_forget(cf_ls, cf_make(d, name, S_IFREG | 0600), 1);
	}
	assert_int_equal(ls_open(cf_ls, cf_root, d, O_RDONLY | O_DIRECTORY, &file), 0);
	for (uint64_t position = 0;; position = names.next[names.n - 1]) {
		unsigned before = names.n;

		r = ls_readdir(cf_ls, file, position, take, &names);
		assert_int_equal(r, 0);
		if (names.n == before)
			break;
		names.room = names.n + 7; /* stops in the middle of batches */
	}
	assert_int_equal(names.n, 202);
	ls_release(cf_ls, file);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(ls_unlink(cf_ls, cf_root, d, name, false), 0);
	}
	ls_forget(cf_ls, d, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "many", true), 0);
}

static void rights_are_the_kernels(void **state)
{
	struct ls_node *d = cf_make(cf_top, "r", S_IFDIR | 0755), *node, *made;
	struct ls_file *file = cf_create(cf_ls, d, "f", 0640, &node);
	struct attr attr, set = {.uid = 1000, .gid = 1000, .mode = 06755};
	/* user::rw- user:1001:r-- group::--- mask::r-- other::--- */
	const unsigned char acl[] = {2,	 0, 0, 0,		       //
				     1,	 0, 6, 0, 255,	255, 255, 255, //
				     2,	 0, 4, 0, 0xe9, 3,   0,	  0,   //
				     4,	 0, 0, 0, 255,	255, 255, 255, //
				     16, 0, 4, 0, 255,	255, 255, 255, //
				     32, 0, 0, 0, 255,	255, 255, 255};
	char names[256];

	ls_release(cf_ls, file);
	assert_int_equal(ls_access(cf_ls, cf_user, node, R_OK), -EACCES);
	assert_int_equal(ls_access(cf_ls, cf_root, node, X_OK), -EACCES);
	assert_int_equal(ls_open(cf_ls, cf_user, node, O_RDONLY, &file), -EACCES);
	assert_int_equal(ls_unlink(cf_ls, cf_user, d, "f", false), -EACCES);
	assert_int_equal(ls_create(cf_ls, cf_user, d, "g", O_RDWR, 0600, 0, &made, &file, &attr),
			 -EACCES);
	assert_int_equal(ls_setattr(cf_ls, cf_user, node, NULL, ATTR_MODE, &set, &attr), -EPERM);
	assert_int_equal(ls_setattr(cf_ls, cf_user, node, NULL, ATTR_UID, &set, &attr), -EPERM);
	/* chown takes set-id bits away, also from root */
	assert_int_equal(ls_setattr(cf_ls, cf_root, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 06755);
	assert_int_equal(ls_setattr(cf_ls, cf_root, node, NULL, ATTR_UID | ATTR_GID, &set, &attr),
			 0);
	assert_int_equal(attr.mode & 07777, 0755);
	/* so does chown(2) that gives it to nobody, and only the owner may do that */
	set.mode = 04755;
	assert_int_equal(ls_setattr(cf_ls, cf_user, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(ls_setattr(cf_ls, cf_other, node, NULL, 0, &set, &attr), -EPERM);
	assert_int_equal(ls_setattr(cf_ls, cf_user, node, NULL, 0, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	assert_int_equal(ls_setattr(cf_ls, cf_other, node, NULL, 0, &set, &attr), 0);
	set.mode = 0600;
	assert_int_equal(ls_setattr(cf_ls, cf_user, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(ls_access(cf_ls, cf_other, node, R_OK), -EACCES);
	assert_false(attr.has_acl);
	assert_int_equal(
	    ls_setxattr(cf_ls, cf_other, node, "system.posix_acl_access", acl, sizeof(acl), 0),
	    -EPERM);
	assert_int_equal(
	    ls_setxattr(cf_ls, cf_user, node, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
	assert_int_equal(ls_getattr(cf_ls, node, NULL, &attr), 0);
	assert_true(attr.has_acl);
	assert_int_equal(ls_access(cf_ls, cf_other, node, R_OK), 0);
	assert_int_equal(ls_access(cf_ls, cf_other, node, W_OK), -EACCES);
	assert_int_equal(ls_setxattr(cf_ls, cf_user, node, "user.k", "v", 1, 0), 0);
	assert_int_equal(ls_setxattr(cf_ls, cf_user, node, "user.k", "v", 1, XATTR_CREATE),
			 -EEXIST);
	assert_int_equal(ls_setxattr(cf_ls, cf_user, node, "trusted.k", "v", 1, 0), -EPERM);
	assert_int_equal(ls_setxattr(cf_ls, cf_root, node, "trusted.k", "v", 1, 0), 0);
	assert_int_equal(ls_getxattr(cf_ls, cf_user, node, "trusted.k", names, 9), -ENODATA);
	assert_int_equal(ls_getxattr(cf_ls, cf_user, node, "user.k", names, 9), 1);
	assert_int_equal(ls_listxattr(cf_ls, cf_user, node, names, sizeof(names)),
			 sizeof("user.k") + sizeof("system.posix_acl_access"));
	assert_true(ls_getxattr(cf_ls, cf_user, node, "ceph.file.layout", names, sizeof(names)) >
		    0);
	ls_forget(cf_ls, node, 1);

	/* sticky, set-group-id directory, umask */
	set.mode = 03777;
	set.gid = 77;
	assert_int_equal(ls_setattr(cf_ls, cf_root, d, NULL, ATTR_MODE | ATTR_GID, &set, &attr), 0);
	assert_int_equal(ls_create(cf_ls, cf_other, d, "g", O_RDWR, 0666, 027, &node, &file, &attr),
			 0);
	assert_int_equal(attr.uid, 1001);
	assert_int_equal(attr.gid, 77);
	assert_int_equal(attr.mode & 07777, 0640);
	ls_release(cf_ls, file);
	assert_int_equal(ls_unlink(cf_ls, cf_user, d, "g", false), -EPERM);
	assert_int_equal(ls_rename(cf_ls, cf_user, d, "g", d, "h", 0), -EPERM);
	assert_int_equal(ls_link(cf_ls, cf_user, node, d, "h"), -EPERM);
	assert_int_equal(ls_unlink(cf_ls, cf_other, d, "g", false), 0);
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, d, "f", false), 0);
	ls_forget(cf_ls, d, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "r", true), 0);
}

/* Two services, as on two hosts. */
static void two_services_agree(void **state)
{
	struct libservice *ls2 = cf_open_at(cf_dir, 0);
	struct ls_node *top2, *node, *node2;
	struct ls_file *file = cf_create(cf_ls, cf_top, "shared", 0644, &node), *file2;
	struct attr attr;

	assert_int_equal(ls_root(ls2, &top2, &attr), 0);
	assert_int_equal(cf_put(cf_ls, file, "one", 0), 3);
	node2 = cf_get(ls2, top2, "shared", &attr);
	assert_int_equal(attr.size, 3);
	assert_int_equal(ls_open(ls2, cf_root, node2, O_RDWR, &file2), 0);
	cf_expect(ls2, file2, 0, "one");
	assert_int_equal(cf_put(ls2, file2, "two", UINT64_MAX), 3);
	cf_expect(cf_ls, file, 0, "onetwo");
	assert_int_equal(cf_put(cf_ls, file, "three", UINT64_MAX), 5);
	cf_expect(ls2, file2, 0, "onetwothree");

	assert_int_equal(ls_lock(cf_ls, node, 1, false, F_WRLCK, 0, 10), 0);
	assert_int_equal(ls_lock(ls2, node2, 1, false, F_WRLCK, 5, 0), -EAGAIN);
	assert_int_equal(ls_lock(ls2, node2, 1, true, F_WRLCK, 0, 0), 0);
	assert_int_equal(ls_lock(cf_ls, node, 1, true, F_RDLCK, 0, 0), -EAGAIN);
	assert_int_equal(ls_lock(ls2, node2, 1, true, F_UNLCK, 0, 0), 0);
	assert_int_equal(ls_lock(cf_ls, node, 1, false, F_UNLCK, 0, 0), 0);
	assert_int_equal(ls_lock(ls2, node2, 1, false, F_RDLCK, 5, 0), 0);

	assert_int_equal(ls_rename(cf_ls, cf_root, cf_top, "shared", cf_top, "moved", 0), 0);
	assert_int_equal(ls_lookup(ls2, cf_root, top2, "shared", &node2, &attr), -ENOENT);
	ls_forget(ls2, cf_get(ls2, top2, "moved", NULL), 1);
	ls_release(cf_ls, file);
	ls_release(ls2, file2);
	node2 = cf_get(ls2, top2, "moved", NULL);
	ls_forget(ls2, node2, 2); /* the lookup's before and this one's */
	ls_forget(cf_ls, node, 1);
	assert_int_equal(ls_unlink(ls2, cf_root, top2, "moved", false), 0);
	ls_forget(ls2, top2, 1);
	ls_free(ls2);
}

static void mistakes_are_named(void **state)
{
	static const char down[] = "[global]\nfsid = b1f3ee0f-4eb1-4f7b-8bd5-0c0ab2d6a1d5\n"
				   "mon host = 127.0.0.1:1\nkeyring = /dev/null\n"
				   "auth client required = none\n";
	struct stack_limits all = cf_limits;
	char conf[64];
	double before = time(NULL);

	cf_open_at("/no-such-directory", -ENOENT);
	cf_open_at("nofs:/", -ENOENT);
	cf_open_at("/a/../b", -EINVAL);
	cf_open_at("relative", -EINVAL);
	cf_limits.ceph_id = "nobody";
	cf_open_at("/", -EACCES);
	cf_limits.ceph_id = NULL;
	cf_open_at("/", -EACCES);
	cf_limits = all;
	/* nobody listens there */
	snprintf(conf, sizeof(conf), "/tmp/danaus-ceph-%d.conf", (int)getpid());
	assert_int_equal(fd_replace_file_at(AT_FDCWD, conf, 0600, down, strlen(down)), 0);
	cf_limits.ceph_conf = conf;
	cf_limits.timeout_s = 2;
	cf_open_at("/", -ETIMEDOUT);
	unlink(conf);
	cf_limits.ceph_conf = "/nowhere/ceph.conf";
	cf_open_at("/", -ENOENT);
	cf_limits = all;
	assert_true(time(NULL) - before < 60);
}

static void unions_stack_on_it(void **state)
{
	struct ls_node *l = cf_make(cf_top, "lower", S_IFDIR | 0755),
		       *u = cf_make(cf_top, "upper", S_IFDIR | 0755);
	struct libservice *un;
	struct ls_node *utop, *node, *d;
	struct ls_file *file = cf_create(cf_ls, l, "f", 0644, &node);
	struct err err = {0};
	struct attr attr;
	char spec[256];
	uint64_t ino;

	assert_int_equal(cf_put(cf_ls, file, "below", 0), 5);
	ls_release(cf_ls, file);
	ls_forget(cf_ls, node, 1);
	ls_forget(cf_ls, cf_make(l, "d", S_IFDIR | 0755), 1);
	ls_forget(cf_ls, cf_make(l, "gone", S_IFREG | 0644), 1);
	snprintf(spec, sizeof(spec), "union:[ceph:%s/upper,rw][ceph:%s/lower,ro]", cf_dir, cf_dir);
	if (stack_open(spec, &cf_limits, &un, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(ls_root(un, &utop, &attr), 0);
	node = cf_get(un, utop, "f", &attr);
	ino = attr.ino;
	assert_int_equal(ls_open(un, cf_root, node, O_RDWR, &file), 0);
	assert_int_equal(cf_put(un, file, "B", 0), 1);
	cf_expect(un, file, 0, "Below");
	ls_release(un, file);
	ls_forget(un, node, 1);
	node = cf_get(un, utop, "f", &attr);
	assert_int_equal(attr.ino, ino);
	ls_forget(un, node, 1);
	assert_int_equal(ls_unlink(un, cf_root, utop, "gone", false), 0);
	assert_int_equal(ls_lookup(un, cf_root, utop, "gone", &node, &attr), -ENOENT);
	/* a merged directory that has its own content, removed and made again */
	d = cf_get(un, utop, "d", NULL);
	file = cf_create(un, d, "x", 0644, &node);
	ls_release(un, file);
	ls_forget(un, node, 1);
	assert_int_equal(ls_unlink(un, cf_root, utop, "d", true), -ENOTEMPTY);
	assert_int_equal(ls_unlink(un, cf_root, d, "x", false), 0);
	ls_forget(un, d, 1);
	assert_int_equal(ls_unlink(un, cf_root, utop, "d", true), 0);
	assert_int_equal(ls_make(un, cf_root, utop, "d", S_IFDIR | 0700, 0, 0, NULL, &d, &attr), 0);
	ls_forget(un, d, 1);
	assert_int_equal(ls_rename(un, cf_root, utop, "f", utop, "gone", 0), 0);
	assert_int_equal(ls_lookup(un, cf_root, utop, "f", &node, &attr), -ENOENT);
	assert_int_equal(ls_rename(un, cf_root, utop, "d", utop, "f", 0), 0);
	assert_int_equal(ls_lookup(un, cf_root, utop, "d", &node, &attr), -ENOENT);
	ls_forget(un, utop, 1);
	ls_free(un);
	ls_forget(cf_ls, cf_get(cf_ls, u, "d", &attr), 1);
	assert_true(S_ISCHR(attr.mode) && !attr.rdev);
	ls_forget(cf_ls, cf_get(cf_ls, u, "f", &attr), 1);
	assert_true(S_ISDIR(attr.mode));
	assert_int_equal(ls_lookup(cf_ls, cf_root, u, ".danaus.work", &node, &attr), -ENOENT);
	for (const char *const *n = (const char *const[]){"d", "gone", NULL}; *n; n++)
		assert_int_equal(ls_unlink(cf_ls, cf_root, u, *n, false), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, u, "f", true), 0);
	for (const char *const *n = (const char *const[]){"f", "gone", NULL}; *n; n++)
		assert_int_equal(ls_unlink(cf_ls, cf_root, l, *n, false), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, l, "d", true), 0);
	ls_forget(cf_ls, u, 1);
	ls_forget(cf_ls, l, 1);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "upper", true), 0);
	assert_int_equal(ls_unlink(cf_ls, cf_root, cf_top, "lower", true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(files_keep_what_is_written),
	    cmocka_unit_test(what_is_empty_or_endless_ends),
	    cmocka_unit_test(names_are_as_posix_has_them),
	    cmocka_unit_test(listings_go_on_where_they_stopped),
	    cmocka_unit_test(listings_are_read_anew_from_elsewhere),
	    cmocka_unit_test(dots_are_directories_each_time),
	    cmocka_unit_test(rights_are_the_kernels),
	    cmocka_unit_test(two_services_agree),
	    cmocka_unit_test(mistakes_are_named),
	    cmocka_unit_test(unions_stack_on_it),
	};

	return cmocka_run_group_tests(tests, cf_setup, cf_teardown);
}
