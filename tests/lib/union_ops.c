/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the union do, through a union or through the kernel. */
#include "tests/lib/union_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

char uw_payload[16384];
static __thread uint64_t rng;

/* CREATE, MKDIR, SYMLINK, MKNOD. */
static int make(struct libservice *ls, const struct cred *cred, const struct uw_op *op,
		struct ls_node *dir, const char *name)
{
	struct iovec iov = {uw_payload, op->n % sizeof(uw_payload)};
	mode_t mode = op->kind == MKDIR	    ? S_IFDIR | 0700 | op->n % 0100
		      : op->kind == SYMLINK ? S_IFLNK | 0777
					    : S_IFIFO | 0644;
	struct ls_node *made;
	struct ls_file *file;
	struct attr attr;
	uint64_t end;
	int r;

	if (op->kind == CREATE)
		r = ls_create(ls, cred, dir, name, O_RDWR, 0600 | op->n % 0200, 022, &made, &file,
			      &attr);
	else
		r = ls_make(ls, cred, dir, name, mode, 022, 0, op->kind == SYMLINK ? op->b : NULL,
			    &made, &attr);
	if (!r && op->kind == CREATE) {
		ls_write(ls, file, &iov, 1, 0, false, &end);
		ls_release(ls, file);
	}
	if (!r)
		ls_forget(ls, made, 1);
	return r;
}

/* RENAME, EXCHANGE, NOREPLACE. */
static int move(struct libservice *ls, const struct cred *cred, const struct uw_op *op,
		struct ls_node *dir, const char *name, struct ls_node *newdir, const char *newname)
{
	return ls_rename(ls, cred, dir, name, newdir, newname,
			 op->kind == EXCHANGE	 ? RENAME_EXCHANGE
			 : op->kind == NOREPLACE ? RENAME_NOREPLACE
						 : 0);
}

/* WRITE, READ. */
static int open_and_use(struct libservice *ls, const struct cred *cred, const struct uw_op *op,
			struct ls_node *node)
{
	struct iovec iov = {uw_payload, op->n % sizeof(uw_payload)};
	struct ls_file *file;
	uint64_t end;
	ssize_t n = 0;
	int r = ls_open(ls, cred, node, op->kind == WRITE ? O_WRONLY : O_RDONLY, &file);

	if (r < 0)
		return r;
	if (op->kind == WRITE)
		n = ls_write(ls, file, &iov, 1, op->n * 37u % 200000, op->n & 1, &end);
	ls_release(ls, file);
	return n < 0 ? n : 0;
}

/* What needs no name but the object's. */
static int use(struct libservice *ls, const struct cred *cred, const struct uw_op *op,
	       struct ls_node *node, mode_t type)
{
	struct attr attr, set = {0};
	int r;

	switch (op->kind) {
	case WRITE:
	case READ:
	case TRUNCATE:
		if (type != S_IFREG)
			return type == S_IFDIR ? -EISDIR : -ELOOP;
		if (op->kind != TRUNCATE)
			return open_and_use(ls, cred, op, node);
		set.size = op->n;
		r = ls_access(ls, cred, node, W_OK);
		return r ? r : ls_setattr(ls, cred, node, NULL, ATTR_SIZE, &set, &attr);
	case CHMOD:
		set.mode = op->n & 07777;
		return type == S_IFLNK ? -EOPNOTSUPP
				       : ls_setattr(ls, cred, node, NULL, ATTR_MODE, &set, &attr);
	case CHOWN:
		set.uid = op->n & 1 ? 1000 : 0;
		set.gid = op->n & 2 ? 1000 : 0;
		return ls_setattr(ls, cred, node, NULL, ATTR_UID | ATTR_GID, &set, &attr);
	case UTIMES:
		set.atime.tv_sec = set.mtime.tv_sec = UW_OLD + op->n;
		return ls_setattr(ls, cred, node, NULL, ATTR_ATIME | ATTR_MTIME, &set, &attr);
	case SETXATTR:
		return ls_setxattr(ls, cred, node, "user.test", uw_payload, op->n % 100, 0);
	case REMOVEXATTR:
		return ls_removexattr(ls, cred, node, "user.test");
	case LIST:
		return type == S_IFDIR ? uw_names_count(ls, cred, node) : -ENOTDIR;
	case ACCESS:
		return type == S_IFLNK ? 0 : ls_access(ls, cred, node, op->n & 7);
	default:
		return -ENOSYS;
	}
}

int uw_op_union(struct union_world *w, const struct uw_op *op)
{
	struct libservice *ls = w->ls;
	const struct cred *cred = uw_users[op->user];
	bool moves = op->kind == RENAME || op->kind == EXCHANGE || op->kind == NOREPLACE;
	bool makes =
	    op->kind == CREATE || op->kind == MKDIR || op->kind == SYMLINK || op->kind == MKNOD;
	bool removes = op->kind == UNLINK || op->kind == RMDIR;
	struct ls_node *node = NULL, *other = NULL;
	const char *name, *newname;
	struct attr attr;
	int r = moves || makes || removes ? uw_walk_dir(ls, cred, op->a, &node, &name)
					  : uw_walk(ls, cred, op->a, &node, &attr);

	if (r < 0)
		return r;
	if (moves || op->kind == LINK)
		r = uw_walk_dir(ls, cred, op->b, &other, &newname);
	if (r < 0) {
		ls_forget(ls, node, 1);
		return r;
	}
	if (makes)
		r = make(ls, cred, op, node, name);
	else if (removes)
		r = ls_unlink(ls, cred, node, name, op->kind == RMDIR);
	else if (moves)
		r = move(ls, cred, op, node, name, other, newname);
	else if (op->kind == LINK)
		r = ls_link(ls, cred, node, other, newname);
	else
		r = use(ls, cred, op, node, attr.mode & S_IFMT);
	ls_forget(ls, node, 1);
	ls_forget(ls, other, 1);
	return r;
}

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

/* -ENOENT for a path through a symlink: all dangle, but protected_symlinks may say EACCES. */
static int through_link(const char *mnt, const char *path)
{
	char dir[PATH_MAX];
	struct stat st;

	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		snprintf(dir, sizeof(dir), "%s/%.*s", mnt, (int)(p - path), path);
		if (lstat(dir, &st) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode))
			return S_ISLNK(st.st_mode) ? -ENOENT : -ENOTDIR;
	}
	return 0;
}

static int do_kernel(struct union_world *w, const struct uw_op *op)
{
	char a[PATH_MAX], b[PATH_MAX];
	struct timespec times[2] = {{UW_OLD + op->n, 0}, {UW_OLD + op->n, 0}};
	struct stat st;
	int fd, r;

	snprintf(a, sizeof(a), "%s/%s", w->mnt, op->a);
	snprintf(b, sizeof(b), "%s/%s", w->mnt, op->b);
	r = through_link(w->mnt, op->a);
	if (!r && op->kind == LINK && lstat(a, &st) < 0)
		r = -errno;
	if (!r && op->kind >= RENAME && op->kind <= LINK)
		r = through_link(w->mnt, op->b);
	if (r < 0)
		return r;
	switch (op->kind) {
	case CREATE:
		fd = open(a, O_RDWR | O_CREAT | O_EXCL, 0600 | op->n % 0200);
		if (fd < 0)
			return -errno;
		r = pwrite(fd, uw_payload, op->n % sizeof(uw_payload), 0);
		close(fd);
		return result(r);
	case MKDIR:
		return result(mkdir(a, 0700 | op->n % 0100));
	case SYMLINK:
		return result(symlink(op->b, a));
	case MKNOD:
		return result(mkfifo(a, 0644));
	case UNLINK:
		return result(unlink(a));
	case RMDIR:
		return result(rmdir(a));
	case RENAME:
	case EXCHANGE:
	case NOREPLACE:
		return result(renameat2(AT_FDCWD, a, AT_FDCWD, b,
					op->kind == EXCHANGE	? RENAME_EXCHANGE
					: op->kind == NOREPLACE ? RENAME_NOREPLACE
								: 0));
	case LINK:
		return result(linkat(AT_FDCWD, a, AT_FDCWD, b, 0));
	default:
		break;
	}
	if (lstat(a, &st) < 0)
		return -errno;
	switch (op->kind) {
	case WRITE:
	case READ:
	case TRUNCATE:
		if (!S_ISREG(st.st_mode))
			return S_ISDIR(st.st_mode) ? -EISDIR : -ELOOP;
		if (op->kind == TRUNCATE)
			return result(truncate(a, op->n));
		fd = open(a, op->kind == READ ? O_RDONLY : O_WRONLY | (op->n & 1 ? O_APPEND : 0));
		if (fd < 0)
			return -errno;
		r = 0;
		if (op->kind == WRITE)
			r = result(op->n & 1 ? write(fd, uw_payload, op->n % sizeof(uw_payload))
					     : pwrite(fd, uw_payload, op->n % sizeof(uw_payload),
						      op->n * 37u % 200000));
		close(fd);
		return r;
	case CHMOD:
		return S_ISLNK(st.st_mode) ? -EOPNOTSUPP : result(chmod(a, op->n & 07777));
	case CHOWN:
		return result(lchown(a, op->n & 1 ? 1000 : 0, op->n & 2 ? 1000 : 0));
	case UTIMES:
		return result(utimensat(AT_FDCWD, a, times, AT_SYMLINK_NOFOLLOW));
	case SETXATTR:
		return result(lsetxattr(a, "user.test", uw_payload, op->n % 100, 0));
	case REMOVEXATTR:
		return result(lremovexattr(a, "user.test"));
	case LIST: {
		DIR *d = S_ISDIR(st.st_mode) ? opendir(a) : NULL;

		r = 0;
		if (!d)
			return S_ISDIR(st.st_mode) ? -errno : -ENOTDIR;
		while (readdir(d))
			r++;
		closedir(d);
		return r;
	}
	case ACCESS:
		return S_ISLNK(st.st_mode) ? 0
					   : result(faccessat(AT_FDCWD, a, op->n & 7, AT_EACCESS));
	default:
		return -ENOSYS;
	}
}

int uw_op(struct union_world *w, const struct uw_op *op)
{
	mode_t mask;
	int r;

	if (w->ls)
		return uw_op_union(w, op);
	cred_assume_service();
	mask = umask(022); /* local keeps books on it */
	if (op->user) {
		assert_int_equal(setegid(1000), 0);
		assert_int_equal(seteuid(1000), 0);
	}
	r = do_kernel(w, op);
	if (op->user) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(setegid(0), 0);
	}
	umask(mask);
	return r;
}

void uw_seed(unsigned seed)
{
	rng = seed * 0x9e3779b97f4a7c15ull + 1;
}

unsigned uw_pick(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng >> 11) % n;
}

static void random_path(char *path)
{
	static const char *names[] = {"a", "b", "c", "d", "e"};
	unsigned depth = 1 + uw_pick(3);

	path[0] = '\0';
	while (depth--) {
		strcat(path, names[uw_pick(5)]);
		if (depth)
			strcat(path, "/");
	}
}

void uw_random_op(struct uw_op *op)
{
	memset(op, 0, sizeof(*op));
	op->kind = uw_pick(KINDS);
	op->user = uw_pick(4) == 0;
	op->n = uw_pick(100000);
	random_path(op->a);
	random_path(op->b);
	if (op->kind == SYMLINK) {
		memmove(op->b + 3, op->b, strlen(op->b) + 1);
		memcpy(op->b, "/-/", 3);
	}
}
