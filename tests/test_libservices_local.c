/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/vfs_env.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>

struct world {
	char dir[64];
	struct libservice *ls;
	struct ls_node *root;
	struct attr attr;
	struct cred *su, *user, *other;
	unsigned fds;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err err = {""};

	w->su = cred_root();
	w->user = env_cred(1000, 1000, 0, 0, NULL);
	w->other = env_cred(1001, 1001, 0, 0, NULL);
	strcpy(w->dir, "/var/tmp/danaus-local-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chmod(w->dir, 0777), 0);
	w->fds = env_count_fds();
	assert_int_equal(local_new(w->dir, &w->ls, &err), 0);
	assert_int_equal(ls_root(w->ls, &w->root, &w->attr), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	ls_forget(w->ls, w->root, 1);
	ls_free(w->ls);
	cred_assume_service();
	assert_int_equal(env_count_fds(), w->fds);
	env_remove_tree(w->dir);
	cred_unref(w->user);
	cred_unref(w->other);
	free(w);
	return 0;
}

static int create(struct world *w, struct cred *cred, const char *name, mode_t mode, mode_t mask,
		  struct ls_node **ret, struct ls_file **ret_file)
{
	return ls_create(w->ls, cred, w->root, name, O_RDWR, mode, mask, ret, ret_file, &w->attr);
}

static void give_back(struct world *w, struct ls_node *node, struct ls_file *file)
{
	if (file)
		ls_release(w->ls, file);
	ls_forget(w->ls, node, 1);
}

static void the_kernel_decides_by_the_caller(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file, *again;

	assert_int_equal(create(w, w->user, "f", 0666, 027, &node, &file), 0);
	assert_int_equal(w->attr.uid, 1000);
	assert_int_equal(w->attr.mode, S_IFREG | 0640);
	assert_int_equal(ls_open(w->ls, w->other, node, O_RDONLY, &again), -EACCES);
	assert_int_equal(ls_access(w->ls, w->other, node, R_OK), -EACCES);
	assert_int_equal(ls_access(w->ls, w->user, node, R_OK | W_OK), 0);
	assert_int_equal(ls_access(w->ls, w->user, node, X_OK), -EACCES);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDWR, &again), 0);
	ls_release(w->ls, again);
	w->attr.mode = 0777;
	assert_int_equal(ls_setattr(w->ls, w->other, node, NULL, ATTR_MODE, &w->attr, &w->attr),
			 -EPERM);
	w->attr.uid = 1001;
	assert_int_equal(ls_setattr(w->ls, w->user, node, NULL, ATTR_UID, &w->attr, &w->attr),
			 -EPERM);
	give_back(w, node, file);
}

static void one_inode_is_one_node(void **state)
{
	struct world *w = *state;
	struct ls_node *node, *same;
	struct ls_file *file;

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &file), 0);
	assert_int_equal(ls_link(w->ls, w->su, node, w->root, "g"), 0);
	assert_int_equal(ls_lookup(w->ls, w->su, w->root, "g", &same, &w->attr), 0);
	assert_ptr_equal(node, same);
	assert_int_equal(w->attr.nlink, 2);
	ls_forget(w->ls, same, 1);
	give_back(w, node, file);
}

static void a_name_is_one_component(void **state)
{
	static const char *const wrong[] = {"", ".", "..", "a/b", "/etc", "../etc"};
	struct world *w = *state;
	struct ls_node *node;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(ls_lookup(w->ls, w->su, w->root, wrong[i], &node, &w->attr),
				 -EINVAL);
		assert_int_equal(ls_unlink(w->ls, w->su, w->root, wrong[i], false), -EINVAL);
		assert_int_equal(ls_rename(w->ls, w->su, w->root, "x", w->root, wrong[i], 0),
				 -EINVAL);
	}
}

struct attack {
	struct world *w;
	atomic_bool stop;
};

/* The name is a directory, then a symlink out of the volume, and back, all the time. */
static void *swap_forever(void *arg)
{
	struct attack *a = arg;
	char real[128], link[128], hot[128];

	snprintf(real, sizeof(real), "%s/real", a->w->dir);
	snprintf(link, sizeof(link), "%s/link", a->w->dir);
	snprintf(hot, sizeof(hot), "%s/hot", a->w->dir);
	while (!atomic_load(&a->stop)) {
		renameat2(AT_FDCWD, hot, AT_FDCWD, link, RENAME_EXCHANGE);
		renameat2(AT_FDCWD, hot, AT_FDCWD, real, RENAME_EXCHANGE);
	}
	return NULL;
}

static void no_link_leads_out(void **state)
{
	struct world *w = *state;
	struct attack attack = {.w = w};
	char path[128];
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", w->dir, i ? "real" : "hot");
		assert_int_equal(mkdir(path, 0777), 0);
	}
	snprintf(path, sizeof(path), "%s/link", w->dir);
	assert_int_equal(symlink("/etc", path), 0);
	pthread_create(&thread, NULL, swap_forever, &attack);
	for (int i = 0; i < 2000; i++) {
		struct ls_node *node, *inner;
		struct ls_file *file;

		if (ls_lookup(w->ls, w->su, w->root, "hot", &node, &w->attr) < 0)
			continue;
		assert_true(S_ISDIR(w->attr.mode) || S_ISLNK(w->attr.mode));
		assert_true(ls_lookup(w->ls, w->su, node, "passwd", &inner, &w->attr) < 0);
		assert_true(ls_create(w->ls, w->su, node, "danaus-was-here", O_RDWR, 0600, 0,
				      &inner, &file, &w->attr) < 0 ||
			    (ls_release(w->ls, file), ls_forget(w->ls, inner, 1),
			     ls_unlink(w->ls, w->su, node, "danaus-was-here", false) == 0));
		ls_forget(w->ls, node, 1);
	}
	atomic_store(&attack.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(access("/etc/danaus-was-here", F_OK), -1);
}

static void special_files_are_never_opened(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;

	assert_int_equal(
	    ls_make(w->ls, w->su, w->root, "p", S_IFIFO | 0666, 0, 0, NULL, &node, &w->attr), 0);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDONLY, &file), -ENXIO);
	give_back(w, node, NULL);
	assert_int_equal(ls_make(w->ls, w->user, w->root, "d", S_IFCHR | 0666, 0, makedev(1, 3),
				 NULL, &node, &w->attr),
			 -EPERM);
}

static void set_id_bits_go_as_in_the_kernel(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;

	assert_int_equal(create(w, w->user, "f", 0777, 0, &node, &file), 0);
	w->attr.mode = 06777;
	assert_int_equal(ls_setattr(w->ls, w->user, node, NULL, ATTR_MODE, &w->attr, &w->attr), 0);
	assert_int_equal(w->attr.mode & 07777, 06777);
	w->attr.size = 0;
	assert_int_equal(ls_setattr(w->ls, w->user, node, file, ATTR_SIZE, &w->attr, &w->attr), 0);
	assert_int_equal(w->attr.mode & 06000, 0);
	give_back(w, node, file);
}

static size_t acl(char *buf, const struct posix_acl_xattr_entry *entries, size_t n)
{
	uint32_t version = POSIX_ACL_XATTR_VERSION;

	memcpy(buf, &version, sizeof(version));
	memcpy(buf + sizeof(version), entries, n * sizeof(*entries));
	return sizeof(version) + n * sizeof(*entries);
}

static void acls_count_for_access_and_for_new_files(void **state)
{
	static const struct posix_acl_xattr_entry entries[] = {{ACL_USER_OBJ, 7, ACL_UNDEFINED_ID},
							       {ACL_USER, 6, 1001},
							       {ACL_GROUP_OBJ, 0, ACL_UNDEFINED_ID},
							       {ACL_MASK, 6, ACL_UNDEFINED_ID},
							       {ACL_OTHER, 0, ACL_UNDEFINED_ID}};
	struct world *w = *state;
	struct ls_node *dir, *node;
	struct ls_file *file;
	char buf[128];
	size_t len = acl(buf, entries, 5);
	int r;

	assert_int_equal(
	    ls_make(w->ls, w->user, w->root, "d", S_IFDIR | 0755, 0, 0, NULL, &dir, &w->attr), 0);
	r = ls_setxattr(w->ls, w->user, dir, "system.posix_acl_default", buf, len, 0);
	if (r == -EOPNOTSUPP) {
		ls_forget(w->ls, dir, 1);
		skip(); /* no ACLs on this file system */
	}
	assert_int_equal(r, 0);
	/* The default ACL takes the umask's place. */
	assert_int_equal(
	    ls_create(w->ls, w->user, dir, "f", O_RDWR, 0666, 077, &node, &file, &w->attr), 0);
	assert_int_equal(w->attr.mode & 0777, 0660);
	assert_true(w->attr.has_acl);
	assert_int_equal(ls_access(w->ls, w->other, node, R_OK | W_OK), 0);
	assert_int_equal(ls_removexattr(w->ls, w->user, node, "system.posix_acl_access"), 0);
	assert_int_equal(ls_access(w->ls, w->other, node, R_OK), -EACCES);
	give_back(w, node, file);
	ls_forget(w->ls, dir, 1);
}

static void attributes_by_the_callers_rights(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;
	char value[64];

	assert_int_equal(create(w, w->user, "f", 0644, 0, &node, &file), 0);
	assert_int_equal(ls_setxattr(w->ls, w->user, node, "user.a", "1", 1, XATTR_CREATE), 0);
	assert_int_equal(ls_setxattr(w->ls, w->user, node, "user.a", "1", 1, XATTR_CREATE),
			 -EEXIST);
	assert_int_equal(ls_setxattr(w->ls, w->other, node, "user.b", "1", 1, 0), -EACCES);
	assert_int_equal(ls_setxattr(w->ls, w->user, node, "trusted.b", "1", 1, 0), -EPERM);
	assert_int_equal(ls_setxattr(w->ls, w->su, node, "trusted.b", "1", 1, 0), 0);
	assert_int_equal(ls_listxattr(w->ls, w->user, node, value, sizeof(value)), 7);
	assert_string_equal(value, "user.a");
	assert_int_equal(ls_getxattr(w->ls, w->other, node, "user.a", value, sizeof(value)), 1);
	assert_int_equal(ls_getxattr(w->ls, w->user, node, "user.a", NULL, 0), 1);
	assert_int_equal(ls_removexattr(w->ls, w->user, node, "user.a"), 0);
	assert_int_equal(ls_getxattr(w->ls, w->user, node, "user.a", value, 64), -ENODATA);
	give_back(w, node, file);
}

static void read_only_is_read_only(void **state)
{
	struct world *w = *state;
	struct ls_node *node, *made;
	struct ls_file *file;

	assert_int_equal(create(w, w->su, "f", 0666, 0, &node, &file), 0);
	ls_release(w->ls, file);
	w->ls->ro = true;
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDWR, &file), -EROFS);
	assert_int_equal(ls_access(w->ls, w->su, node, W_OK), -EROFS);
	assert_int_equal(ls_access(w->ls, w->su, node, R_OK), 0);
	assert_int_equal(ls_unlink(w->ls, w->su, w->root, "f", false), -EROFS);
	assert_int_equal(create(w, w->su, "g", 0666, 0, &made, &file), -EROFS);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDONLY, &file), 0);
	give_back(w, node, file);
}

static void a_temporary_file_gets_a_name(void **state)
{
	struct world *w = *state;
	struct ls_node *node, *found;
	struct ls_file *file;
	int r = ls_tmpfile(w->ls, w->user, w->root, O_RDWR, 0600, 0, &node, &file, &w->attr);

	if (r == -EOPNOTSUPP)
		skip(); /* not on this file system */
	assert_int_equal(r, 0);
	assert_int_equal(w->attr.nlink, 0);
	assert_int_equal(ls_link(w->ls, w->user, node, w->root, "t"), 0);
	assert_int_equal(ls_lookup(w->ls, w->user, w->root, "t", &found, &w->attr), 0);
	assert_ptr_equal(found, node);
	ls_forget(w->ls, found, 1);
	give_back(w, node, file);
	assert_int_equal(
	    ls_tmpfile(w->ls, w->user, w->root, O_RDWR | O_EXCL, 0600, 0, &node, &file, &w->attr),
	    0);
	assert_int_equal(ls_link(w->ls, w->user, node, w->root, "u"), -ENOENT);
	give_back(w, node, file);
}

static void a_new_files_descriptor_does_not_stay_writable(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;
	char path[128];

	assert_int_equal(create(w, w->su, "program", 0755, 0, &node, &file), 0);
	ls_release(w->ls, file);
	/* A lease for reading is refused while anybody has it open for writing. */
	snprintf(path, sizeof(path), "%s/program", w->dir);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	cred_assume_service();
	assert_int_equal(fcntl(fd, F_SETLEASE, F_RDLCK), 0);
	assert_int_equal(ls_getattr(w->ls, node, NULL, &w->attr), 0);
	ls_forget(w->ls, node, 1);
}

/* One descriptor serves a new inode and its first open file, however the others end. */
static void a_new_file_costs_one_descriptor(void **state)
{
	struct world *w = *state;
	unsigned before = env_count_fds();
	struct ls_file *first, *second;
	struct ls_node *node;
	struct iovec iov = {.iov_base = "x", .iov_len = 1};
	uint64_t end;

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &first), 0);
	assert_int_equal(env_count_fds(), before + 1);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDWR, &second), 0);
	assert_int_equal(ls_write(w->ls, second, &iov, 1, 0, false, &end), 1);
	ls_release(w->ls, second);
	assert_int_equal(ls_write(w->ls, first, &iov, 1, 1, false, &end), 1);
	ls_release(w->ls, first);
	assert_int_equal(ls_getattr(w->ls, node, NULL, &w->attr), 0);
	assert_int_equal(w->attr.size, 2);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDWR, &second), 0);
	assert_int_equal(ls_unlink(w->ls, w->su, w->root, "f", false), 0);
	give_back(w, node, second);

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &first), 0);
	assert_int_equal(ls_unlink(w->ls, w->su, w->root, "f", false), 0);
	ls_release(w->ls, first);
	assert_int_equal(ls_getattr(w->ls, node, NULL, &w->attr), 0);
	assert_int_equal(w->attr.nlink, 0);
	assert_int_equal(env_count_fds(), before + 1);
	ls_forget(w->ls, node, 1);
	assert_int_equal(env_count_fds(), before);
}

static void holes_are_found(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;
	struct iovec iov = {.iov_base = "x", .iov_len = 1};
	uint64_t end;

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &file), 0);
	assert_int_equal(ls_write(w->ls, file, &iov, 1, 1 << 20, false, &end), 1);
	assert_int_equal(end, (1 << 20) + 1);
	assert_int_equal(ls_seek(w->ls, file, 0, SEEK_DATA), 1 << 20);
	assert_int_equal(ls_seek(w->ls, file, 0, SEEK_HOLE), 0);
	assert_int_equal(ls_seek(w->ls, file, 2 << 20, SEEK_DATA), -ENXIO);
	assert_int_equal(ls_write(w->ls, file, &iov, 1, 0, true, &end), 1);
	assert_int_equal(end, (1 << 20) + 2);
	give_back(w, node, file);
}

struct seeker {
	struct world *w;
	struct ls_file *file;
	atomic_bool over;
};

static void *seek_forever(void *arg)
{
	struct seeker *seeker = arg;

	while (!atomic_load(&seeker->over))
		ls_seek(seeker->w->ls, seeker->file, 0, SEEK_DATA);
	return NULL;
}

static void an_append_says_where_it_went_while_others_look_for_holes(void **state)
{
	struct seeker seeker = {.w = *state};
	struct iovec iov = {.iov_base = "x", .iov_len = 1};
	struct ls_node *node;
	pthread_t thread;
	uint64_t end;

	assert_int_equal(create(*state, seeker.w->su, "f", 0600, 0, &node, &seeker.file), 0);
	pthread_create(&thread, NULL, seek_forever, &seeker);
	for (uint64_t i = 1; i <= 20000; i++) {
		assert_int_equal(ls_write(seeker.w->ls, seeker.file, &iov, 1, 0, true, &end), 1);
		assert_int_equal(end, i);
	}
	atomic_store(&seeker.over, true);
	pthread_join(thread, NULL);
	give_back(*state, node, seeker.file);
}

#define LARGE (200u << 10)

struct writer {
	struct world *w;
	struct ls_file *file;
	pthread_barrier_t *turn;
	char data[LARGE];
};

#define ROUNDS 200

static void *write_rounds(void *arg)
{
	struct writer *writer = arg;
	struct iovec iov = {.iov_base = writer->data, .iov_len = LARGE};

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(writer->turn);
		if (ls_write(writer->w->ls, writer->file, &iov, 1, 4711, false, NULL) != LARGE)
			abort();
		pthread_barrier_wait(writer->turn);
	}
	return NULL;
}

static void large_writes_do_not_mix(void **state)
{
	static struct writer writer[2];
	static char got[LARGE];
	struct iovec iov = {.iov_base = got, .iov_len = LARGE};
	pthread_barrier_t turn;
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file, *second;
	pthread_t thread[2];
	unsigned mixed = 0;

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &file), 0);
	assert_int_equal(ls_open(w->ls, w->su, node, O_RDWR, &second), 0);
	pthread_barrier_init(&turn, NULL, 3);
	for (int i = 0; i < 2; i++) {
		writer[i].w = w;
		writer[i].file = i ? second : file;
		writer[i].turn = &turn;
		memset(writer[i].data, 'a' + i, LARGE);
		assert_int_equal(pthread_create(&thread[i], NULL, write_rounds, &writer[i]), 0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
		assert_int_equal(ls_read(w->ls, file, &iov, 1, 4711), LARGE);
		mixed += memcmp(got, got + 1, LARGE - 1) != 0;
	}
	assert_int_equal(mixed, 0);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&turn);
	ls_release(w->ls, second);
	give_back(w, node, file);
}

static void a_large_write_says_how_far_it_came(void **state)
{
	struct world *w = *state;
	struct ls_node *node;
	struct ls_file *file;
	struct iovec iov = {.iov_base = calloc(1, LARGE), .iov_len = LARGE};
	struct rlimit before, small = {150000, 0};
	uint64_t end = 0;

	assert_int_equal(create(w, w->su, "f", 0600, 0, &node, &file), 0);
	assert_int_equal(ls_write(w->ls, file, &iov, 1, 100, false, &end), LARGE);
	assert_int_equal(end, LARGE + 100);
	/* the host refuses the third piece and what follows */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(ls_write(w->ls, file, &iov, 1, 100, false, &end), 150000 - 100);
	assert_int_equal(end, 150000);
	assert_int_equal(ls_write(w->ls, file, &iov, 1, 150000, false, &end), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	free(iov.iov_base);
	give_back(w, node, file);
}

#define MANY 100000

struct seen {
	unsigned n, room;
	uint64_t next;
	unsigned char *bits;
};

static bool note(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct seen *seen = arg;

	if (!seen->room--)
		return false;
	seen->next = next;
	if (name[0] != '.') {
		unsigned i = atoi(name);

		assert_false(seen->bits[i / 8] & 1 << i % 8);
		seen->bits[i / 8] |= 1 << i % 8;
		seen->n++;
	}
	return true;
}

static void a_large_directory_is_listed_in_pieces(void **state)
{
	char dir[64], name[16];
	struct seen seen = {.bits = calloc(1, MANY / 8 + 1)};
	struct cred *su = cred_root();
	struct libservice *ls;
	struct ls_node *root;
	struct ls_file *file;
	struct err err;
	struct attr attr;

	env_mkdir(dir);
	CLEANUP_FD int at = open(dir, O_PATH | O_CLOEXEC);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(mknodat(at, name, S_IFREG | 0600, 0), 0);
	}
	assert_int_equal(local_new(dir, &ls, &err), 0);
	assert_int_equal(ls_root(ls, &root, &attr), 0);
	assert_int_equal(ls_open(ls, su, root, O_RDONLY, &file), 0);
	for (unsigned before = ~0u; before != seen.n;) {
		before = seen.n;
		seen.room = 777;
		assert_int_equal(ls_readdir(ls, file, seen.next, note, &seen), 0);
	}
	assert_int_equal(seen.n, MANY);
	ls_release(ls, file);
	ls_forget(ls, root, 1);
	ls_free(ls);
	free(seen.bits);
	env_remove_tree(dir);
}

/* In a mount namespace of its own. */
static int look_below_a_mount(const char *dir)
{
	struct libservice *ls;
	struct ls_node *root, *sub, *file;
	struct attr root_attr, attr;
	struct cred *su = cred_root();
	struct err err;
	char path[128];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	snprintf(path, sizeof(path), "%s/sub", dir);
	if (mkdir(path, 0755) < 0 || mount("none", path, "tmpfs", 0, NULL) < 0)
		return 77;
	strcat(path, "/below");
	if (close(creat(path, 0600)) < 0 || local_new(dir, &ls, &err) < 0)
		return 1;
	/* What the host does afterwards is not seen. */
	snprintf(path, sizeof(path), "%s/sub", dir);
	if (umount2(path, MNT_DETACH) < 0)
		return 2;
	if (ls_root(ls, &root, &root_attr) < 0 || ls_lookup(ls, su, root, "sub", &sub, &attr) < 0 ||
	    attr.dev == root_attr.dev)
		return 3;
	if (ls_lookup(ls, su, sub, "below", &file, &attr) < 0)
		return 4;
	return 0;
}

static void what_is_mounted_below_is_there(void **state)
{
	struct world *w = *state;
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(look_below_a_mount(w->dir));
	waitpid(pid, &status, 0);
	if (WEXITSTATUS(status) == 77)
		skip(); /* no mount namespaces here */
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(the_kernel_decides_by_the_caller),
	    TEST(one_inode_is_one_node),
	    TEST(a_name_is_one_component),
	    TEST(no_link_leads_out),
	    TEST(special_files_are_never_opened),
	    TEST(set_id_bits_go_as_in_the_kernel),
	    TEST(acls_count_for_access_and_for_new_files),
	    TEST(attributes_by_the_callers_rights),
	    TEST(read_only_is_read_only),
	    TEST(a_temporary_file_gets_a_name),
	    TEST(a_new_files_descriptor_does_not_stay_writable),
	    TEST(a_new_file_costs_one_descriptor),
	    TEST(holes_are_found),
	    TEST(an_append_says_where_it_went_while_others_look_for_holes),
	    TEST(large_writes_do_not_mix),
	    TEST(a_large_write_says_how_far_it_came),
	    cmocka_unit_test(a_large_directory_is_listed_in_pieces),
	    TEST(what_is_mounted_below_is_there),
	};

	return env_run(tests);
}
