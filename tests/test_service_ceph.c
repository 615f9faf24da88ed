/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice against a real cluster: DANAUS_CEPH_CONF names its ceph.conf, with a keyring
 * that has client.admin (integration/ceph-dev-up.sh makes one). Works below a directory of its own,
 * and evicts every client: the cluster is the test's alone. */
#include "danaus/service/libservice.h"

#include <errno.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

static struct stack_limits limits = {.ceph_id = "admin", .timeout_s = 10, .cache_bytes = 32 << 20};
static struct idmap no_map;
static struct cred *root, *user, *other;
static char dir[64];
static struct libservice *ls;
static struct ls_node *top;

static struct cred *plain(uid_t uid)
{
	struct cred *cred = calloc(1, sizeof(*cred));

	cred->refs = 1;
	cred->fsuid = cred->ruid = cred->fsgid = cred->rgid = uid;
	cred->map = &no_map;
	return cred;
}

static struct libservice *open_at(const char *path, int expected)
{
	struct libservice *ret = NULL;
	struct err err = {0};
	char spec[128];
	int r;

	snprintf(spec, sizeof(spec), "ceph:%s", path);
	r = stack_open(spec, &limits, &ret, &err);
	if (r != expected)
		fail_msg("%s: %d %s", spec, r, err.text);
	return ret;
}

static struct ls_node *get(struct libservice *at, struct ls_node *parent, const char *name,
			   struct attr *attr)
{
	struct ls_node *node;
	struct attr a;

	assert_int_equal(ls_lookup(at, root, parent, name, &node, attr ? attr : &a), 0);
	return node;
}

static struct ls_file *create(struct libservice *at, struct ls_node *parent, const char *name,
			      mode_t mode, struct ls_node **ret)
{
	struct ls_file *file;
	struct attr attr;

	assert_int_equal(ls_create(at, root, parent, name, O_RDWR, mode, 0, ret, &file, &attr), 0);
	return file;
}

static ssize_t put(struct libservice *at, struct ls_file *file, const char *text, uint64_t offset)
{
	struct iovec iov = {(char *)text, strlen(text)};
	uint64_t end;

	return ls_write(at, file, &iov, 1, offset, offset == UINT64_MAX, &end);
}

static void expect(struct libservice *at, struct ls_file *file, uint64_t offset, const char *text)
{
	char buf[256] = "";
	struct iovec iov = {buf, sizeof(buf) - 1};

	assert_int_equal(ls_read(at, file, &iov, 1, offset), strlen(text));
	assert_string_equal(buf, text);
}

static struct ls_node *make(struct ls_node *parent, const char *name, mode_t mode)
{
	struct ls_node *node;
	struct attr attr;

	assert_int_equal(ls_make(ls, root, parent, name, mode, 0, 0, NULL, &node, &attr), 0);
	return node;
}

static void files_keep_what_is_written(void **state)
{
	struct ls_node *node;
	struct ls_file *file = create(ls, top, "f", 0644, &node);
	struct attr attr;

	assert_int_equal(put(ls, file, "hello", 0), 5);
	assert_int_equal(put(ls, file, " world", UINT64_MAX), 6);
	expect(ls, file, 0, "hello world");
	expect(ls, file, 11, "");
	assert_int_equal(ls_fsync(ls, file, false), 0);
	attr.size = 5;
	assert_int_equal(ls_setattr(ls, root, node, file, ATTR_SIZE, &attr, &attr), 0);
	assert_int_equal(attr.size, 5);
	expect(ls, file, 0, "hello");
	assert_int_equal(put(ls, file, "end", 1 << 20), 3);
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, (1 << 20) + 3);
	assert_int_equal(ls_seek(ls, file, 0, SEEK_DATA), 0);
	assert_int_equal(ls_seek(ls, file, 0, SEEK_HOLE), (1 << 20) + 3);
	assert_int_equal(ls_allocate(ls, file, 0, 0, 2 << 20), 0);
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 2 << 20);
	ls_release(ls, file);
	assert_int_equal(ls_unlink(ls, root, top, "f", false), 0);
	ls_forget(ls, node, 1);
}

static void what_is_empty_or_endless_ends(void **state)
{
	struct ls_node *node;
	struct ls_file *file = create(ls, top, "empty", 0644, &node);
	char byte;
	struct iovec none[2] = {{&byte, 0}, {NULL, 0}};
	uint64_t end = 0;
	struct attr attr;

	assert_int_equal(put(ls, file, "hello", 0), 5);
	assert_int_equal(ls_write(ls, file, none, 2, 10, false, &end), 0);
	assert_int_equal(end, 10);
	assert_int_equal(ls_write(ls, file, none, 1, 0, true, &end), 0);
	assert_int_equal(end, 5);
	assert_int_equal(ls_read(ls, file, none, 2, 0), 0);
	assert_int_equal(ls_allocate(ls, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4,
				     INT64_MAX - 4),
			 0);
	assert_int_equal(ls_allocate(ls, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20,
				     INT64_MAX - (1 << 20)),
			 0);
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	/* the file system's max_file_size, 1 TiB where nobody set it */
	assert_int_equal(put(ls, file, "x", 1ull << 40), -EFBIG);
	assert_int_equal(ls_allocate(ls, file, 0, 1ull << 40, 1), -EFBIG);
	assert_int_equal(ls_allocate(ls, file, 0, 0, 1ull << 41), -EFBIG);
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(ls, file);
	assert_int_equal(ls_unlink(ls, root, top, "empty", false), 0);
	ls_forget(ls, node, 1);
}

static void names_are_as_posix_has_them(void **state)
{
	struct ls_node *d = make(top, "d", S_IFDIR | 0755), *node, *same;
	struct ls_file *file = create(ls, d, "a", 0600, &node);
	struct statvfs st;
	struct attr attr;
	uint64_t type;
	char buf[64];

	ls_release(ls, file);
	assert_int_equal(ls_link(ls, root, node, d, "b"), 0);
	same = get(ls, d, "b", &attr);
	assert_ptr_equal(same, node);
	assert_int_equal(attr.nlink, 2);
	ls_forget(ls, same, 1);
	assert_int_equal(ls_rename(ls, root, d, "b", top, "c", 0), 0);
	assert_int_equal(ls_rename(ls, root, d, "a", top, "c", RENAME_NOREPLACE), -EINVAL);
	assert_int_equal(ls_lookup(ls, root, d, "b", &same, &attr), -ENOENT);
	assert_int_equal(ls_unlink(ls, root, top, "d", true), -ENOTEMPTY);
	assert_int_equal(ls_unlink(ls, root, top, "d", false), -EISDIR);
	assert_int_equal(ls_unlink(ls, root, d, "a", true), -ENOTDIR);
	assert_int_equal(ls_unlink(ls, root, d, "a", false), 0);
	assert_int_equal(ls_unlink(ls, root, top, "c", false), 0);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), 0);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_make(ls, root, d, "l", S_IFLNK | 0777, 0, 0, "to/there", &node, &attr),
			 0);
	assert_int_equal(ls_readlink(ls, node, buf, sizeof(buf)), 8);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_make(ls, root, d, "w", S_IFCHR, 0, 0, NULL, &node, &attr), 0);
	assert_true(S_ISCHR(attr.mode) && attr.rdev == 0);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_unlink(ls, root, d, "l", false), 0);
	assert_int_equal(ls_unlink(ls, root, d, "w", false), 0);
	assert_int_equal(ls_tmpfile(ls, root, d, O_RDWR, 0600, 0, &node, &file, &attr),
			 -EOPNOTSUPP);
	assert_int_equal(ls_lookup(ls, root, top, "..", &node, &attr), -EINVAL);
	assert_int_equal(ls_lookup(ls, root, d, "a/b", &node, &attr), -EINVAL);
	assert_int_equal(ls_statfs(ls, d, &st, &type), 0);
	assert_int_equal(type, 0x00c36400);
	ls_forget(ls, d, 1);
	assert_int_equal(ls_unlink(ls, root, top, "d", true), 0);
}

struct names {
	unsigned n, room;
	uint64_t next[300];
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
	}
	names->next[names->n++] = next;
	return true;
}

static void listings_go_on_where_they_stopped(void **state)
{
	struct ls_node *d = make(top, "many", S_IFDIR | 0755);
	struct names names = {.room = 1};
	struct ls_file *file;
	char name[16];
	int r;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ls_forget(ls, make(d, name, S_IFREG | 0600), 1);
	}
	assert_int_equal(ls_open(ls, root, d, O_RDONLY | O_DIRECTORY, &file), 0);
	for (uint64_t position = 0;; position = names.next[names.n - 1]) {
		unsigned before = names.n;

		r = ls_readdir(ls, file, position, take, &names);
		assert_int_equal(r, 0);
		if (names.n == before)
			break;
		names.room = names.n + 7; /* stops in the middle of batches */
	}
	assert_int_equal(names.n, 202);
	ls_release(ls, file);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(ls_unlink(ls, root, d, name, false), 0);
	}
	ls_forget(ls, d, 1);
	assert_int_equal(ls_unlink(ls, root, top, "many", true), 0);
}

static void rights_are_the_kernels(void **state)
{
	struct ls_node *d = make(top, "r", S_IFDIR | 0755), *node, *made;
	struct ls_file *file = create(ls, d, "f", 0640, &node);
	struct attr attr, set = {.uid = 1000, .gid = 1000, .mode = 06755};
	/* user::rw- user:1001:r-- group::--- mask::r-- other::--- */
	const unsigned char acl[] = {2, 0, 0, 0,			   //
				     1, 0, 6, 0, 255, 255, 255, 255,	   //
				     2, 0, 4, 0, 0xe9, 3,   0,	 0,	   //
				     4, 0, 0, 0, 255, 255, 255, 255,	   //
				     16, 0, 4, 0, 255, 255, 255, 255,	   //
				     32, 0, 0, 0, 255, 255, 255, 255};
	char names[256];

	ls_release(ls, file);
	assert_int_equal(ls_access(ls, user, node, R_OK), -EACCES);
	assert_int_equal(ls_access(ls, root, node, X_OK), -EACCES);
	assert_int_equal(ls_open(ls, user, node, O_RDONLY, &file), -EACCES);
	assert_int_equal(ls_unlink(ls, user, d, "f", false), -EACCES);
	assert_int_equal(ls_create(ls, user, d, "g", O_RDWR, 0600, 0, &made, &file, &attr),
			 -EACCES);
	assert_int_equal(ls_setattr(ls, user, node, NULL, ATTR_MODE, &set, &attr), -EPERM);
	assert_int_equal(ls_setattr(ls, user, node, NULL, ATTR_UID, &set, &attr), -EPERM);
	/* chown takes set-id bits away, also from root */
	assert_int_equal(ls_setattr(ls, root, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 06755);
	assert_int_equal(ls_setattr(ls, root, node, NULL, ATTR_UID | ATTR_GID, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	/* so does chown(2) that gives it to nobody, and only the owner may do that */
	set.mode = 04755;
	assert_int_equal(ls_setattr(ls, user, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(ls_setattr(ls, other, node, NULL, 0, &set, &attr), -EPERM);
	assert_int_equal(ls_setattr(ls, user, node, NULL, 0, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	assert_int_equal(ls_setattr(ls, other, node, NULL, 0, &set, &attr), 0);
	set.mode = 0600;
	assert_int_equal(ls_setattr(ls, user, node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(ls_access(ls, other, node, R_OK), -EACCES);
	assert_false(attr.has_acl);
	assert_int_equal(ls_setxattr(ls, other, node, "system.posix_acl_access", acl, sizeof(acl), 0),
			 -EPERM);
	assert_int_equal(ls_setxattr(ls, user, node, "system.posix_acl_access", acl, sizeof(acl), 0),
			 0);
	assert_int_equal(ls_getattr(ls, node, NULL, &attr), 0);
	assert_true(attr.has_acl);
	assert_int_equal(ls_access(ls, other, node, R_OK), 0);
	assert_int_equal(ls_access(ls, other, node, W_OK), -EACCES);
	assert_int_equal(ls_setxattr(ls, user, node, "user.k", "v", 1, 0), 0);
	assert_int_equal(ls_setxattr(ls, user, node, "user.k", "v", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(ls_setxattr(ls, user, node, "trusted.k", "v", 1, 0), -EPERM);
	assert_int_equal(ls_setxattr(ls, root, node, "trusted.k", "v", 1, 0), 0);
	assert_int_equal(ls_getxattr(ls, user, node, "trusted.k", names, 9), -ENODATA);
	assert_int_equal(ls_getxattr(ls, user, node, "user.k", names, 9), 1);
	assert_int_equal(ls_listxattr(ls, user, node, names, sizeof(names)),
			 sizeof("user.k") + sizeof("system.posix_acl_access"));
	assert_true(ls_getxattr(ls, user, node, "ceph.file.layout", names, sizeof(names)) > 0);
	ls_forget(ls, node, 1);

	/* sticky, set-group-id directory, umask */
	set.mode = 03777;
	set.gid = 77;
	assert_int_equal(ls_setattr(ls, root, d, NULL, ATTR_MODE | ATTR_GID, &set, &attr), 0);
	assert_int_equal(ls_create(ls, other, d, "g", O_RDWR, 0666, 027, &node, &file, &attr), 0);
	assert_int_equal(attr.uid, 1001);
	assert_int_equal(attr.gid, 77);
	assert_int_equal(attr.mode & 07777, 0640);
	ls_release(ls, file);
	assert_int_equal(ls_unlink(ls, user, d, "g", false), -EPERM);
	assert_int_equal(ls_rename(ls, user, d, "g", d, "h", 0), -EPERM);
	assert_int_equal(ls_link(ls, user, node, d, "h"), -EPERM);
	assert_int_equal(ls_unlink(ls, other, d, "g", false), 0);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_unlink(ls, root, d, "f", false), 0);
	ls_forget(ls, d, 1);
	assert_int_equal(ls_unlink(ls, root, top, "r", true), 0);
}

/* Two services, as on two hosts. */
static void two_services_agree(void **state)
{
	struct libservice *ls2 = open_at(dir, 0);
	struct ls_node *top2, *node, *node2;
	struct ls_file *file = create(ls, top, "shared", 0644, &node), *file2;
	struct attr attr;

	assert_int_equal(ls_root(ls2, &top2, &attr), 0);
	assert_int_equal(put(ls, file, "one", 0), 3);
	node2 = get(ls2, top2, "shared", &attr);
	assert_int_equal(attr.size, 3);
	assert_int_equal(ls_open(ls2, root, node2, O_RDWR, &file2), 0);
	expect(ls2, file2, 0, "one");
	assert_int_equal(put(ls2, file2, "two", UINT64_MAX), 3);
	expect(ls, file, 0, "onetwo");
	assert_int_equal(put(ls, file, "three", UINT64_MAX), 5);
	expect(ls2, file2, 0, "onetwothree");

	assert_int_equal(ls_lock(ls, node, 1, false, F_WRLCK, 0, 10), 0);
	assert_int_equal(ls_lock(ls2, node2, 1, false, F_WRLCK, 5, 0), -EAGAIN);
	assert_int_equal(ls_lock(ls2, node2, 1, true, F_WRLCK, 0, 0), 0);
	assert_int_equal(ls_lock(ls, node, 1, true, F_RDLCK, 0, 0), -EAGAIN);
	assert_int_equal(ls_lock(ls2, node2, 1, true, F_UNLCK, 0, 0), 0);
	assert_int_equal(ls_lock(ls, node, 1, false, F_UNLCK, 0, 0), 0);
	assert_int_equal(ls_lock(ls2, node2, 1, false, F_RDLCK, 5, 0), 0);

	assert_int_equal(ls_rename(ls, root, top, "shared", top, "moved", 0), 0);
	assert_int_equal(ls_lookup(ls2, root, top2, "shared", &node2, &attr), -ENOENT);
	ls_forget(ls2, get(ls2, top2, "moved", NULL), 1);
	ls_release(ls, file);
	ls_release(ls2, file2);
	node2 = get(ls2, top2, "moved", NULL);
	ls_forget(ls2, node2, 2); /* the lookup's before and this one's */
	ls_forget(ls, node, 1);
	assert_int_equal(ls_unlink(ls2, root, top2, "moved", false), 0);
	ls_forget(ls2, top2, 1);
	ls_free(ls2);
}

static void mistakes_are_named(void **state)
{
	static const char down[] = "[global]\nfsid = b1f3ee0f-4eb1-4f7b-8bd5-0c0ab2d6a1d5\n"
				   "mon host = 127.0.0.1:1\nkeyring = /dev/null\n"
				   "auth client required = none\n";
	struct stack_limits all = limits;
	char conf[64];
	double before = time(NULL);

	open_at("/no-such-directory", -ENOENT);
	open_at("nofs:/", -ENOENT);
	open_at("/a/../b", -EINVAL);
	open_at("relative", -EINVAL);
	limits.ceph_id = "nobody";
	open_at("/", -EACCES);
	limits.ceph_id = NULL;
	open_at("/", -EACCES);
	limits = all;
	/* nobody listens there */
	snprintf(conf, sizeof(conf), "/tmp/danaus-ceph-%d.conf", (int)getpid());
	assert_int_equal(fd_replace_file_at(AT_FDCWD, conf, 0600, down, strlen(down)), 0);
	limits.ceph_conf = conf;
	limits.timeout_s = 2;
	open_at("/", -ETIMEDOUT);
	unlink(conf);
	limits.ceph_conf = "/nowhere/ceph.conf";
	open_at("/", -ENOENT);
	limits = all;
	assert_true(time(NULL) - before < 60);
}

static void unions_stack_on_it(void **state)
{
	struct ls_node *l = make(top, "lower", S_IFDIR | 0755), *u = make(top, "upper", S_IFDIR | 0755);
	struct libservice *un;
	struct ls_node *utop, *node, *d;
	struct ls_file *file = create(ls, l, "f", 0644, &node);
	struct err err = {0};
	struct attr attr;
	char spec[256];
	uint64_t ino;

	assert_int_equal(put(ls, file, "below", 0), 5);
	ls_release(ls, file);
	ls_forget(ls, node, 1);
	ls_forget(ls, make(l, "d", S_IFDIR | 0755), 1);
	ls_forget(ls, make(l, "gone", S_IFREG | 0644), 1);
	snprintf(spec, sizeof(spec), "union:[ceph:%s/upper,rw][ceph:%s/lower,ro]", dir, dir);
	if (stack_open(spec, &limits, &un, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(ls_root(un, &utop, &attr), 0);
	node = get(un, utop, "f", &attr);
	ino = attr.ino;
	assert_int_equal(ls_open(un, root, node, O_RDWR, &file), 0);
	assert_int_equal(put(un, file, "B", 0), 1);
	expect(un, file, 0, "Below");
	ls_release(un, file);
	ls_forget(un, node, 1);
	node = get(un, utop, "f", &attr);
	assert_int_equal(attr.ino, ino);
	ls_forget(un, node, 1);
	assert_int_equal(ls_unlink(un, root, utop, "gone", false), 0);
	assert_int_equal(ls_lookup(un, root, utop, "gone", &node, &attr), -ENOENT);
	/* a merged directory that has its own content, removed and made again */
	d = get(un, utop, "d", NULL);
	file = create(un, d, "x", 0644, &node);
	ls_release(un, file);
	ls_forget(un, node, 1);
	assert_int_equal(ls_unlink(un, root, utop, "d", true), -ENOTEMPTY);
	assert_int_equal(ls_unlink(un, root, d, "x", false), 0);
	ls_forget(un, d, 1);
	assert_int_equal(ls_unlink(un, root, utop, "d", true), 0);
	assert_int_equal(ls_make(un, root, utop, "d", S_IFDIR | 0700, 0, 0, NULL, &d, &attr), 0);
	ls_forget(un, d, 1);
	assert_int_equal(ls_rename(un, root, utop, "f", utop, "gone", 0), 0);
	assert_int_equal(ls_lookup(un, root, utop, "f", &node, &attr), -ENOENT);
	assert_int_equal(ls_rename(un, root, utop, "d", utop, "f", 0), 0);
	assert_int_equal(ls_lookup(un, root, utop, "d", &node, &attr), -ENOENT);
	ls_forget(un, utop, 1);
	ls_free(un);
	ls_forget(ls, get(ls, u, "d", &attr), 1);
	assert_true(S_ISCHR(attr.mode) && !attr.rdev);
	ls_forget(ls, get(ls, u, "f", &attr), 1);
	assert_true(S_ISDIR(attr.mode));
	assert_int_equal(ls_lookup(ls, root, u, ".danaus.work", &node, &attr), -ENOENT);
	for (const char *const *n = (const char *const[]){"d", "gone", NULL}; *n; n++)
		assert_int_equal(ls_unlink(ls, root, u, *n, false), 0);
	assert_int_equal(ls_unlink(ls, root, u, "f", true), 0);
	for (const char *const *n = (const char *const[]){"f", "gone", NULL}; *n; n++)
		assert_int_equal(ls_unlink(ls, root, l, *n, false), 0);
	assert_int_equal(ls_unlink(ls, root, l, "d", true), 0);
	ls_forget(ls, u, 1);
	ls_forget(ls, l, 1);
	assert_int_equal(ls_unlink(ls, root, top, "upper", true), 0);
	assert_int_equal(ls_unlink(ls, root, top, "lower", true), 0);
}

static int admin(const char *command)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "CEPH_CONF=%s ceph %s >/dev/null 2>&1", limits.ceph_conf,
		 command);
	return system(cmd);
}

static void a_cut_off_client_comes_back(void **state)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r;

	if (system("command -v ceph >/dev/null 2>&1") != 0)
		skip();
	file = create(ls, top, "cut", 0644, &node);
	assert_int_equal(put(ls, file, "safe", 0), 4);
	assert_int_equal(ls_fsync(ls, file, false), 0);
	assert_int_equal(put(ls, file, "lost?", 0), 5);
	/* every client, so ours too; evicting puts it on the blocklist */
	assert_int_equal(admin("tell mds.0 client evict"), 0);
	/* Who finds it out is a write, on its own thread, and may be a tenant's user just then, to whom
	 * the keyring is closed. What was not synced is said to be lost, once; then all goes on. */
	assert_int_equal(cred_assume(user, 0), 0);
	for (unsigned i = 0; i < 600; i++) {
		struct timespec wait = {0, 100000000};

		r = (int)put(ls, file, "again", 0);
		if (r < 0)
			break;
		nanosleep(&wait, NULL); /* until the client hears of it */
	}
	assert_int_equal(r, -EIO);
	assert_int_equal(put(ls, file, "after", 0), 5);
	cred_assume_service();
	assert_int_equal(ls_fsync(ls, file, false), 0);
	expect(ls, file, 0, "after");
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(ls, file);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_unlink(ls, root, top, "cut", false), 0);
	admin("osd blocklist clear");
}

/* Who closes after a write hears of its loss, though nothing was synced and nobody else asked. */
static void a_close_tells_what_was_lost(void **state)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r = 0;

	if (system("command -v ceph >/dev/null 2>&1") != 0)
		skip();
	file = create(ls, top, "closed", 0644, &node);
	assert_int_equal(ls_flush(ls, file), 0);
	assert_int_equal(put(ls, file, "lost?", 0), 5);
	assert_int_equal(ls_flush(ls, file), 0);
	assert_int_equal(admin("tell mds.0 client evict"), 0);
	for (unsigned i = 0; !r && i < 600; i++) {
		struct timespec wait = {0, 100000000};

		r = ls_flush(ls, file);
		if (!r)
			nanosleep(&wait, NULL); /* until the client hears of it */
	}
	assert_int_equal(r, -EIO);
	assert_int_equal(ls_flush(ls, file), 0);
	assert_int_equal(put(ls, file, "after", 0), 5);
	assert_int_equal(ls_flush(ls, file), 0);
	assert_int_equal(ls_fsync(ls, file, false), 0);
	assert_int_equal(ls_getattr(ls, node, file, &attr), 0);
	assert_int_equal(attr.size, 5);
	ls_release(ls, file);
	ls_forget(ls, node, 1);
	assert_int_equal(ls_unlink(ls, root, top, "closed", false), 0);
	admin("osd blocklist clear");
}

/* A service that was killed left a lock; its successor need not wait for the session's timeout. */
static void a_dead_sessions_locks_are_taken_back(void **state)
{
	struct libservice *next, *dead;
	struct ls_node *dtop, *ntop, *node, *node2;
	struct ls_file *file, *file2;
	struct attr attr;

	limits.session = "container:/data";
	dead = open_at(dir, 0);
	assert_int_equal(ls_root(dead, &dtop, &attr), 0);
	file = create(dead, dtop, "locked", 0644, &node);
	assert_int_equal(ls_lock(dead, node, 7, false, F_WRLCK, 0, 0), 0);
	next = open_at(dir, 0);
	limits.session = NULL;
	assert_int_equal(ls_root(next, &ntop, &attr), 0);
	node2 = get(next, ntop, "locked", NULL);
	assert_int_equal(ls_open(next, root, node2, O_RDWR, &file2), 0);
	assert_int_equal(ls_lock(next, node2, 7, false, F_WRLCK, 0, 0), 0);
	ls_release(next, file2);
	ls_forget(next, node2, 1);
	assert_int_equal(ls_unlink(next, root, ntop, "locked", false), 0);
	ls_forget(next, ntop, 1);
	ls_free(next);
	ls_release(dead, file);
	ls_forget(dead, node, 1);
	ls_forget(dead, dtop, 1);
	ls_free(dead);
}

/* The MDS of integration/ceph-dev-up.sh. */
static int mds_signal(int signal)
{
	char path[PATH_MAX];
	char is = 0;
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "%.*s/run/mds.a.pid",
		 (int)(strrchr(limits.ceph_conf, '/') - limits.ceph_conf), limits.ceph_conf);
	file = fopen(path, "re");
	if (!file)
		return -ENOENT;
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);
	if (pid <= 0 || kill(pid, signal) < 0)
		return -ESRCH;
	while (signal == SIGSTOP && is != 'T') {
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "re");
		if (!file)
			return -ESRCH;
		if (fscanf(file, "%*d (%*[^)]) %c", &is) != 1)
			is = 0;
		fclose(file);
	}
	return 0;
}

struct waiter {
	struct libservice *at;
	struct ls_node *top, *node, *synced_node;
	struct ls_file *file, *synced, *dir; /* synced: which no other call is about */
	int64_t (*ask)(struct waiter *w);
	int64_t r;
	pthread_t thread;
};

static bool any(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	return true;
}

static int64_t ask_make(struct waiter *w)
{
	struct ls_node *node;
	struct attr attr;
	int r = ls_make(w->at, root, w->top, "late-dir", S_IFDIR | 0755, 0, 0, NULL, &node, &attr);

	if (!r)
		ls_forget(w->at, node, 1);
	return r;
}

static int64_t ask_create(struct waiter *w)
{
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr;
	int r = ls_create(w->at, root, w->top, "late", O_RDWR, 0644, 0, &node, &file, &attr);

	if (!r) {
		ls_release(w->at, file);
		ls_forget(w->at, node, 1);
	}
	return r;
}

static int64_t ask_lookup(struct waiter *w)
{
	struct ls_node *node;
	struct attr attr;
	int r = ls_lookup(w->at, root, w->top, "elsewhere", &node, &attr);

	if (!r)
		ls_forget(w->at, node, 1);
	return r;
}

static int64_t ask_link(struct waiter *w)
{
	return ls_link(w->at, root, w->node, w->top, "late-link");
}

static int64_t ask_lock(struct waiter *w)
{
	return ls_lock(w->at, w->node, 7, false, F_WRLCK, 0, 0);
}

static int64_t ask_fsync(struct waiter *w)
{
	return ls_fsync(w->at, w->synced, false);
}

static int64_t ask_xattr(struct waiter *w)
{
	return ls_setxattr(w->at, root, w->node, "user.late", "1", 1, 0);
}

static int64_t ask_list(struct waiter *w)
{
	return ls_readdir(w->at, w->dir, 0, any, NULL);
}

static void *ask_once(void *arg)
{
	struct waiter *w = arg;

	w->r = w->ask(w);
	return NULL;
}

static int64_t (*const asks_an_mds[])(struct waiter *w) = {
    ask_make, ask_create, ask_lookup, ask_link, ask_lock, ask_fsync, ask_xattr, ask_list,
};
#define ASKS (sizeof(asks_an_mds) / sizeof(asks_an_mds[0]))

/* At a directory of its own. */
static void waiter_init(struct waiter *w, struct attr *attr)
{
	char path[sizeof(dir) + 8];

	ls_forget(ls, make(top, "own", S_IFDIR | 0755), 1);
	snprintf(path, sizeof(path), "%s/own", dir);
	limits.timeout_s = 2;
	w->at = open_at(path, 0);
	limits.timeout_s = 10;
	assert_int_equal(ls_root(w->at, &w->top, attr), 0);
	w->file = create(w->at, w->top, "held", 0644, &w->node);
	w->synced = create(w->at, w->top, "synced", 0644, &w->synced_node);
	assert_int_equal(put(w->at, w->file, "safe", 0), 4);
	assert_int_equal(ls_fsync(w->at, w->file, false), 0);
	assert_int_equal(ls_fsync(w->at, w->synced, false), 0);
	assert_int_equal(ls_open(w->at, root, w->top, O_RDONLY, &w->dir), 0);
}

static void waiter_done(struct waiter *w)
{
	ls_release(w->at, w->file);
	ls_release(w->at, w->synced);
	ls_release(w->at, w->dir);
	ls_forget(w->at, w->node, 1);
	ls_forget(w->at, w->synced_node, 1);
	assert_int_equal(ls_unlink(w->at, root, w->top, "synced", false), 0);
	assert_int_equal(ls_unlink(w->at, root, w->top, "held", false), 0);
	assert_int_equal(ls_unlink(w->at, root, w->top, "late", false), 0);
	assert_int_equal(ls_unlink(w->at, root, w->top, "late-link", false), 0);
	assert_int_equal(ls_unlink(w->at, root, w->top, "late-dir", true), 0);
	ls_forget(w->at, w->top, 1);
	ls_free(w->at);
	assert_int_equal(ls_unlink(ls, root, top, "own", true), 0);
}

/* The first call that is served again. */
static void until_served(struct waiter *w)
{
	struct timespec wait = {0, 100000000};
	struct attr attr;
	int r = -EIO;

	for (unsigned i = 0; r == -EIO && i < 900; i++) {
		r = ls_getattr(w->at, w->node, NULL, &attr);
		nanosleep(&wait, NULL);
	}
	assert_int_equal(r, 0);
}

static void ask_all(struct waiter *of, struct waiter w[ASKS])
{
	for (unsigned i = 0; i < ASKS; i++) {
		w[i] = *of;
		w[i].ask = asks_an_mds[i];
		assert_int_equal(pthread_create(&w[i].thread, NULL, ask_once, &w[i]), 0);
	}
	for (unsigned i = 0; i < ASKS; i++)
		pthread_join(w[i].thread, NULL);
}

static void a_call_that_no_mds_answers_ends(void **state)
{
	struct waiter of = {0}, w[ASKS];
	struct ls_node *own, *node;
	struct attr attr;

	if (mds_signal(0) < 0)
		skip();
	waiter_init(&of, &attr);
	assert_int_equal(mds_signal(SIGSTOP), 0);
	assert_int_equal(put(of.at, of.file, "more", 4), 4);
	assert_int_equal(put(of.at, of.synced, "more", 0), 4);
	ask_all(&of, w);
	/* one more is refused at once, however much of the answer is in memory */
	assert_int_equal(ls_getattr(of.at, of.node, NULL, &attr), -EIO);
	assert_int_equal(put(of.at, of.file, "never", 8), -EIO);
	assert_int_equal(mds_signal(SIGCONT), 0);
	for (unsigned i = 0; i < ASKS; i++)
		if (w[i].r != -EIO)
			fail_msg("call %u: %d", i, (int)w[i].r);
	until_served(&of);
	/* the client is the same: nothing is lost, and what nobody waited for holds nothing */
	expect(of.at, of.file, 0, "safemore");
	assert_int_equal(ls_fsync(of.at, of.file, false), 0);
	own = get(ls, top, "own", NULL);
	node = get(ls, own, "held", NULL);
	assert_int_equal(ls_lock(ls, node, 8, false, F_WRLCK, 0, 0), 0);
	assert_int_equal(ls_lock(ls, node, 8, false, F_UNLCK, 0, 0), 0);
	ls_forget(ls, node, 1);
	ls_forget(ls, own, 1);
	ask_all(&of, w);
	assert_int_equal(w[4].r, 0);
	assert_int_equal(w[5].r, 0);
	waiter_done(&of);
}

/* Its MDS has forgotten it and says nothing: no request is ever answered. */
static void a_client_that_is_not_heard_any_more_is_replaced(void **state)
{
	struct waiter of = {0}, w[ASKS];
	char evict[128];
	struct attr attr;
	int r;

	if (system("command -v ceph >/dev/null 2>&1") != 0)
		skip();
	waiter_init(&of, &attr);
	assert_int_equal(put(of.at, of.file, "lost", 0), 4);
	assert_int_equal(put(of.at, of.synced, "lost", 0), 4);
	assert_int_equal(admin("tell mds.0 config set mds_session_blocklist_on_evict false"), 0);
	snprintf(evict, sizeof(evict), "tell mds.0 client evict client_metadata.root=%s/own", dir);
	assert_int_equal(admin(evict), 0);
	assert_int_equal(admin("tell mds.0 config set mds_session_blocklist_on_evict true"), 0);
	ask_all(&of, w);
	/* but fsync where all had been written back before */
	for (unsigned i = 0; i < ASKS; i++)
		if (w[i].r != -EIO && (w[i].r || w[i].ask != ask_fsync))
			fail_msg("call %u: %d", i, (int)w[i].r);
	until_served(&of);
	r = ls_fsync(of.at, of.file, false); /* told by the first who asked, or now */
	assert_true(r == -EIO || r == 0);
	assert_int_equal(put(of.at, of.file, "after", 0), 5);
	assert_int_equal(ls_fsync(of.at, of.file, false), 0);
	expect(of.at, of.file, 0, "after");
	assert_int_equal(put(of.at, of.file, "!", UINT64_MAX), 1);
	ls_release(of.at, of.dir);
	assert_int_equal(ls_open(of.at, root, of.top, O_RDONLY, &of.dir), 0);
	ask_all(&of, w);
	for (unsigned i = 0; i < ASKS; i++)
		if (w[i].r == -EIO)
			fail_msg("call %u again: %d", i, (int)w[i].r);
	waiter_done(&of);
}

static int setup(void **state)
{
	struct libservice *all;
	struct ls_node *node;
	struct attr attr;
	int r;

	limits.ceph_conf = getenv("DANAUS_CEPH_CONF");
	if (!limits.ceph_conf) {
		printf("skipped: DANAUS_CEPH_CONF names no cluster\n");
		exit(77);
	}
	root = cred_root();
	user = plain(1000);
	other = plain(1001);
	snprintf(dir, sizeof(dir), "/test-%d", (int)getpid());
	all = open_at("/", 0);
	r = ls_root(all, &node, &attr);
	if (!r)
		r = ls_make(all, root, node, dir + 1, S_IFDIR | 0755, 0, 0, NULL, &top, &attr);
	if (r < 0)
		return r;
	ls_forget(all, top, 1);
	ls_forget(all, node, 1);
	ls_free(all);
	ls = open_at(dir, 0);
	return ls_root(ls, &top, &attr);
}

static int teardown(void **state)
{
	struct libservice *all;
	struct ls_node *node;
	struct attr attr;
	int r;

	ls_forget(ls, top, 1);
	ls_free(ls);
	all = open_at("/", 0);
	r = ls_root(all, &node, &attr);
	if (!r)
		r = ls_unlink(all, root, node, dir + 1, true);
	ls_forget(all, node, 1);
	ls_free(all);
	free(user);
	free(other);
	return r;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(files_keep_what_is_written),
	    cmocka_unit_test(what_is_empty_or_endless_ends),
	    cmocka_unit_test(names_are_as_posix_has_them),
	    cmocka_unit_test(listings_go_on_where_they_stopped),
	    cmocka_unit_test(rights_are_the_kernels),
	    cmocka_unit_test(two_services_agree),
	    cmocka_unit_test(mistakes_are_named),
	    cmocka_unit_test(unions_stack_on_it),
	    cmocka_unit_test(a_dead_sessions_locks_are_taken_back),
	    cmocka_unit_test(a_cut_off_client_comes_back),
	    cmocka_unit_test(a_close_tells_what_was_lost),
	    cmocka_unit_test(a_call_that_no_mds_answers_ends),
	    cmocka_unit_test(a_client_that_is_not_heard_any_more_is_replaced),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
