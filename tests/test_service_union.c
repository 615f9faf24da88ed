/* SPDX-License-Identifier: Apache-2.0 */
/* The union over local branches: what overlayfs would do, step by step against the kernel's own
 * overlayfs with random operations (DANAUS_SEEDS=N for more seeds), each mounting what the other
 * wrote; and what a crash at any point leaves. In a tmpfs of its own. */
#include "danaus/service/libservice.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/service/fault.h"
#include "danaus/service/union.h"

#define OLD 1000000000 /* a time that only a copy can have */

static char base[] = "/tmp/danaus-union-XXXXXX";
static struct idmap no_map;
static struct cred *users[2]; /* root, and 1000 without capabilities */
static bool no_times;	       /* dumps leave modification times out */

/* One file system to compare: a union, or a mounted overlayfs. */
struct world {
	char branches[64]; /* directory that holds u, w, a, b */
	char mnt[96];
	struct libservice *ls; /* NULL: through the kernel at mnt */
};

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("%s", cmd);
}

/* Paths to nodes. */

static int walk(struct libservice *ls, const struct cred *cred, const char *path,
		struct ls_node **ret, struct attr *ret_attr)
{
	char copy[PATH_MAX], *save = NULL;
	struct ls_node *node, *next;
	int r = ls_root(ls, &node, ret_attr);

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); !r && name;
	     name = strtok_r(NULL, "/", &save)) {
		if (!S_ISDIR(ret_attr->mode)) {
			r = S_ISLNK(ret_attr->mode) ? -ENOENT : -ENOTDIR; /* all dangle */
			ls_forget(ls, node, 1);
			return r;
		}
		r = ls_lookup(ls, cred, node, name, &next, ret_attr);
		ls_forget(ls, node, 1);
		node = next;
	}
	if (!r)
		*ret = node;
	return r;
}

static int walk_dir(struct libservice *ls, const struct cred *cred, const char *path,
		    struct ls_node **ret, const char **ret_name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	struct attr attr;
	int r;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	*ret_name = slash ? slash + 1 : path;
	r = walk(ls, cred, dir, ret, &attr);
	if (!r && !S_ISDIR(attr.mode)) {
		ls_forget(ls, *ret, 1);
		*ret = NULL;
		r = S_ISLNK(attr.mode) ? -ENOENT : -ENOTDIR;
	}
	return r;
}

static void world_open(struct world *w)
{
	char spec[512];
	struct err err = {0};

	cred_assume_service();
	if (w->mnt[0]) {
		snprintf(spec, sizeof(spec), "lowerdir=%s/a:%s/b,upperdir=%s/u,workdir=%s/w",
			 w->branches, w->branches, w->branches, w->branches);
		if (mount("overlay", w->mnt, "overlay", 0, spec) < 0)
			fail_msg("overlay: %s", strerror(errno));
		return;
	}
	snprintf(spec, sizeof(spec), "union:[local:%s/u,rw][local:%s/a,ro][local:%s/b,ro]",
		 w->branches, w->branches, w->branches);
	if (stack_open(spec, NULL, &w->ls, &err) < 0)
		fail_msg("%s", err.text);
}

static void world_close(struct world *w)
{
	if (w->ls)
		ls_free(w->ls);
	cred_assume_service();
	if (!w->ls)
		assert_int_equal(umount(w->mnt), 0);
	w->ls = NULL;
}

/* Operations. Each returns 0 or -errno; through the kernel with the user's identity. */

enum kind {
	CREATE,
	WRITE,
	TRUNCATE,
	MKDIR,
	SYMLINK,
	MKNOD,
	UNLINK,
	RMDIR,
	RENAME,
	EXCHANGE,
	NOREPLACE,
	LINK,
	CHMOD,
	CHOWN,
	UTIMES,
	SETXATTR,
	REMOVEXATTR,
	READ,
	LIST,
	ACCESS,
	KINDS
};

struct op {
	enum kind kind;
	unsigned user;
	char a[128], b[128];
	unsigned n;
};

static char payload[16384];

static int names_count(struct libservice *ls, const struct cred *cred, struct ls_node *node);

static int do_union(struct world *w, const struct op *op)
{
	struct libservice *ls = w->ls;
	const struct cred *cred = users[op->user];
	struct ls_node *node = NULL, *node2 = NULL, *made;
	struct iovec iov = {payload, op->n % sizeof(payload)};
	struct attr attr, set = {0};
	struct ls_file *file;
	const char *name, *name2;
	uint64_t end;
	int r;

	switch (op->kind) {
	case CREATE:
	case MKDIR:
	case SYMLINK:
	case MKNOD:
		r = walk_dir(ls, cred, op->a, &node, &name);
		if (r < 0)
			return r;
		if (op->kind == CREATE) {
			r = ls_create(ls, cred, node, name, O_RDWR, 0600 | op->n % 0200, 022, &made,
				      &file, &attr);
			if (!r) {
				ls_write(ls, file, &iov, 1, 0, false, &end);
				ls_release(ls, file);
			}
		} else {
			r = ls_make(ls, cred, node, name,
				    op->kind == MKDIR	  ? S_IFDIR | 0700 | op->n % 0100
				    : op->kind == SYMLINK ? S_IFLNK | 0777
							  : S_IFIFO | 0644,
				    022, 0, op->kind == SYMLINK ? op->b : NULL, &made, &attr);
		}
		if (!r)
			ls_forget(ls, made, 1);
		break;
	case UNLINK:
	case RMDIR:
		r = walk_dir(ls, cred, op->a, &node, &name);
		if (!r)
			r = ls_unlink(ls, cred, node, name, op->kind == RMDIR);
		break;
	case RENAME:
	case EXCHANGE:
	case NOREPLACE:
		r = walk_dir(ls, cred, op->a, &node, &name);
		if (!r)
			r = walk_dir(ls, cred, op->b, &node2, &name2);
		if (!r)
			r = ls_rename(ls, cred, node, name, node2, name2,
				      op->kind == EXCHANGE    ? RENAME_EXCHANGE
				      : op->kind == NOREPLACE ? RENAME_NOREPLACE
							      : 0);
		break;
	case LINK:
		r = walk(ls, cred, op->a, &node, &attr);
		if (!r)
			r = walk_dir(ls, cred, op->b, &node2, &name2);
		if (!r)
			r = ls_link(ls, cred, node, node2, name2);
		break;
	default:
		r = walk(ls, cred, op->a, &node, &attr);
		if (r < 0)
			return r;
		if ((op->kind == WRITE || op->kind == TRUNCATE || op->kind == READ) &&
		    !S_ISREG(attr.mode)) {
			r = S_ISDIR(attr.mode) ? -EISDIR : -ELOOP;
			break;
		}
		switch (op->kind) {
		case WRITE:
			r = ls_open(ls, cred, node, O_WRONLY, &file);
			if (!r) {
				ssize_t n = ls_write(ls, file, &iov, 1, op->n * 37u % 200000,
						     op->n & 1, &end);

				r = n < 0 ? n : 0;
				ls_release(ls, file);
			}
			break;
		case READ:
			r = ls_open(ls, cred, node, O_RDONLY, &file);
			if (!r)
				ls_release(ls, file);
			break;
		case TRUNCATE:
			set.size = op->n;
			r = ls_access(ls, cred, node, W_OK);
			if (!r)
				r = ls_setattr(ls, cred, node, NULL, ATTR_SIZE, &set, &attr);
			break;
		case CHMOD:
			set.mode = op->n & 07777;
			r = S_ISLNK(attr.mode) ? -EOPNOTSUPP
					       : ls_setattr(ls, cred, node, NULL, ATTR_MODE, &set,
							    &attr);
			break;
		case CHOWN:
			set.uid = op->n & 1 ? 1000 : 0;
			set.gid = op->n & 2 ? 1000 : 0;
			r = ls_setattr(ls, cred, node, NULL, ATTR_UID | ATTR_GID, &set, &attr);
			break;
		case UTIMES:
			set.atime.tv_sec = set.mtime.tv_sec = OLD + op->n;
			r = ls_setattr(ls, cred, node, NULL, ATTR_ATIME | ATTR_MTIME, &set, &attr);
			break;
		case SETXATTR:
			r = ls_setxattr(ls, cred, node, "user.test", payload, op->n % 100, 0);
			break;
		case REMOVEXATTR:
			r = ls_removexattr(ls, cred, node, "user.test");
			break;
		case LIST:
			r = S_ISDIR(attr.mode) ? names_count(ls, cred, node) : -ENOTDIR;
			break;
		case ACCESS:
			r = S_ISLNK(attr.mode) ? 0 : ls_access(ls, cred, node, op->n & 7);
			break;
		default:
			r = -ENOSYS;
		}
	}
	ls_forget(ls, node, 1);
	ls_forget(ls, node2, 1);
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

static int do_kernel(struct world *w, const struct op *op)
{
	char a[PATH_MAX], b[PATH_MAX];
	struct timespec times[2] = {{OLD + op->n, 0}, {OLD + op->n, 0}};
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
		r = pwrite(fd, payload, op->n % sizeof(payload), 0);
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
			r = result(op->n & 1 ? write(fd, payload, op->n % sizeof(payload))
					     : pwrite(fd, payload, op->n % sizeof(payload),
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
		return result(lsetxattr(a, "user.test", payload, op->n % 100, 0));
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
		return S_ISLNK(st.st_mode)
			   ? 0
			   : result(faccessat(AT_FDCWD, a, op->n & 7, AT_EACCESS));
	default:
		return -ENOSYS;
	}
}

static int do_op(struct world *w, const struct op *op)
{
	mode_t mask;
	int r;

	if (w->ls)
		return do_union(w, op);
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

/* A tree as text. */

struct names {
	unsigned n;
	char name[512][64];
	unsigned char type[512];
	uint64_t ino[512], next[512];
	unsigned stop; /* at most that many a call; 0: all */
};

static bool take_name(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct names *names = arg;

	if (names->stop && names->n == names->stop)
		return false;
	snprintf(names->name[names->n], 64, "%.63s", name);
	names->type[names->n] = type;
	names->ino[names->n] = ino;
	names->next[names->n++] = next;
	return true;
}

static int names_count(struct libservice *ls, const struct cred *cred, struct ls_node *node)
{
	struct names *names = calloc(1, sizeof(*names));
	struct ls_file *file;
	int r = ls_open(ls, cred, node, O_RDONLY | O_DIRECTORY, &file);

	if (!r) {
		r = ls_readdir(ls, file, 0, take_name, names);
		ls_release(ls, file);
	}
	r = r < 0 ? r : (int)names->n;
	free(names);
	return r;
}

static uint64_t hash_bytes(uint64_t h, const char *p, size_t n)
{
	while (n--)
		h = (h ^ (unsigned char)*p++) * 1099511628211ull;
	return h;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void line(FILE *out, const char *path, mode_t mode, unsigned nlink, uid_t uid, gid_t gid,
		 uint64_t size, time_t mtime, const char *what)
{
	fprintf(out, "%s %o %u %u:%u %llu %lld %s\n", path, mode, S_ISDIR(mode) ? 0 : nlink, uid,
		gid, S_ISDIR(mode) ? 0ull : (unsigned long long)size,
		mtime < OLD * 3ll / 2 && !no_times ? (long long)mtime : 0, what);
}

static void dump_union(struct libservice *ls, struct ls_node *node, const struct attr *attr,
		       const char *path, FILE *out)
{
	static char buf[300000];
	char what[300] = "", value[200];
	struct ls_file *file;
	ssize_t n;

	if (S_ISREG(attr->mode)) {
		struct iovec iov = {buf, sizeof(buf)};

		assert_int_equal(ls_open(ls, users[0], node, O_RDONLY, &file), 0);
		n = ls_read(ls, file, &iov, 1, 0);
		ls_release(ls, file);
		snprintf(what, sizeof(what), "%zd:%llx", n,
			 (unsigned long long)hash_bytes(1, buf, n > 0 ? n : 0));
	} else if (S_ISLNK(attr->mode)) {
		n = ls_readlink(ls, node, what, sizeof(what) - 1);
		what[n] = '\0';
	}
	n = S_ISLNK(attr->mode) ? -1
				: ls_getxattr(ls, users[0], node, "user.test", value, sizeof(value));
	if (n >= 0)
		sprintf(what + strlen(what), " x%zd:%llx", n,
			(unsigned long long)hash_bytes(1, value, n));
	line(out, path, attr->mode, attr->nlink, attr->uid, attr->gid, attr->size,
	     attr->mtime.tv_sec, what);
	if (S_ISDIR(attr->mode)) {
		struct names *names = calloc(1, sizeof(*names));

		assert_int_equal(ls_open(ls, users[0], node, O_RDONLY | O_DIRECTORY, &file), 0);
		assert_int_equal(ls_readdir(ls, file, 0, take_name, names), 0);
		ls_release(ls, file);
		qsort(names->name, names->n, sizeof(names->name[0]), compare_names);
		for (unsigned i = 0; i < names->n; i++) {
			char child[PATH_MAX];
			struct ls_node *next;
			struct attr a;

			if (!strcmp(names->name[i], ".") || !strcmp(names->name[i], ".."))
				continue;
			snprintf(child, sizeof(child), "%s/%s", path, names->name[i]);
			if (ls_lookup(ls, users[0], node, names->name[i], &next, &a) < 0)
				fail_msg("%s is listed and not there", child);
			dump_union(ls, next, &a, child, out);
			ls_forget(ls, next, 1);
		}
		free(names);
	}
}

static void dump_kernel(const char *mnt, const char *path, FILE *out)
{
	static char buf[300000];
	char full[PATH_MAX], what[300] = "", value[200];
	struct stat st;
	ssize_t n;

	snprintf(full, sizeof(full), "%s%s", mnt, path);
	assert_int_equal(lstat(full, &st), 0);
	if (S_ISREG(st.st_mode)) {
		CLEANUP_FD int fd = open(full, O_RDONLY);

		n = read(fd, buf, sizeof(buf));
		snprintf(what, sizeof(what), "%zd:%llx", n,
			 (unsigned long long)hash_bytes(1, buf, n > 0 ? n : 0));
	} else if (S_ISLNK(st.st_mode)) {
		n = readlink(full, what, sizeof(what) - 1);
		what[n] = '\0';
	}
	n = lgetxattr(full, "user.test", value, sizeof(value));
	if (n >= 0)
		sprintf(what + strlen(what), " x%zd:%llx", n,
			(unsigned long long)hash_bytes(1, value, n));
	line(out, path, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size,
	     st.st_mtim.tv_sec, what);
	if (S_ISDIR(st.st_mode)) {
		struct names *names = calloc(1, sizeof(*names));
		DIR *d = opendir(full);

		for (struct dirent *e; (e = readdir(d));)
			take_name(names, e->d_name, e->d_ino, e->d_type, 0);
		closedir(d);
		qsort(names->name, names->n, sizeof(names->name[0]), compare_names);
		for (unsigned i = 0; i < names->n; i++) {
			char child[PATH_MAX];

			if (!strcmp(names->name[i], ".") || !strcmp(names->name[i], ".."))
				continue;
			snprintf(child, sizeof(child), "%s/%s", path, names->name[i]);
			dump_kernel(mnt, child, out);
		}
		free(names);
	}
}

static char *dump(struct world *w)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (w->ls) {
		struct ls_node *root;
		struct attr attr;

		assert_int_equal(ls_root(w->ls, &root, &attr), 0);
		dump_union(w->ls, root, &attr, "", out);
		ls_forget(w->ls, root, 1);
	} else {
		cred_assume_service();
		dump_kernel(w->mnt, "", out);
	}
	fclose(out);
	return text;
}

/* The differential. */

static __thread uint64_t rng;

static unsigned pick(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng >> 11) % n;
}

static void random_path(char *path)
{
	static const char *names[] = {"a", "b", "c", "d", "e"};
	unsigned depth = 1 + pick(3);

	path[0] = '\0';
	while (depth--) {
		strcat(path, names[pick(5)]);
		if (depth)
			strcat(path, "/");
	}
}

static void random_op(struct op *op)
{
	memset(op, 0, sizeof(*op));
	op->kind = pick(KINDS);
	op->user = pick(4) == 0;
	op->n = pick(100000);
	random_path(op->a);
	random_path(op->b);
	if (op->kind == SYMLINK) {
		memmove(op->b + 3, op->b, strlen(op->b) + 1);
		memcpy(op->b, "/-/", 3);
	}
}

/* A layer of the given kind, made with plain calls. */
static void random_layer(const char *dir)
{
	char cmd[PATH_MAX];

	for (unsigned i = 0; i < 25; i++) {
		struct world plain = {.mnt = ""};
		struct op op;

		snprintf(plain.mnt, sizeof(plain.mnt), "%s", dir);
		random_op(&op);
		op.user = 0;
		do {
			op.kind = pick(KINDS);
		} while (op.kind == UNLINK || op.kind == RMDIR || op.kind == EXCHANGE ||
			 op.kind == RENAME);
		if (op.kind == SYMLINK && op.b[0] != '/')
			op.kind = LINK;
		if (i < 12)
			op.kind = i % 2 ? CREATE : MKDIR;
		do_op(&plain, &op);
	}
	snprintf(cmd, sizeof(cmd),
		 "chmod 1777 %s; find %s -exec touch -h -d @%u {} +", dir, dir, OLD);
	assert_int_equal(system(cmd), 0);
}

static void compare(const char *what, unsigned seed, const char *expected, const char *got)
{
	const char *a = expected, *b = got;

	if (!strcmp(expected, got))
		return;
	while (*a && *b) {
		const char *ea = strchr(a, '\n'), *eb = strchr(b, '\n');

		if (ea - a != eb - b || memcmp(a, b, ea - a))
			break;
		a = ea + 1;
		b = eb + 1;
	}
	fail_msg("seed %u, %s differs:\n overlayfs %.*s\n union     %.*s", seed, what,
		 (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
}

static void one_seed(unsigned seed)
{
	struct world ours = {.mnt = ""}, theirs = {.mnt = ""}, other;
	unsigned nops = 150;
	struct op op;

	sh("mkdir -p %s/k/u %s/k/w %s/k/a %s/k/b %s/k/mnt", base, base, base, base, base);
	rng = seed * 0x9e3779b97f4a7c15ull + 1;
	snprintf(ours.branches, sizeof(ours.branches), "%s/d", base);
	snprintf(theirs.branches, sizeof(theirs.branches), "%s/k", base);
	snprintf(theirs.mnt, sizeof(theirs.mnt), "%s/k/mnt", base);
	for (const char *l = "ab"; *l; l++) {
		char dir[80];

		snprintf(dir, sizeof(dir), "%s/%c", theirs.branches, *l);
		random_layer(dir);
	}
	sh("chmod 1777 %s/u; touch -d @%u %s/u; cp -a %s %s", theirs.branches, OLD,
	   theirs.branches, theirs.branches, ours.branches);
	world_open(&theirs);
	world_open(&ours);
	for (unsigned i = 0; i < nops; i++) {
		int a, b;

		random_op(&op);
		a = do_op(&theirs, &op);
		b = do_op(&ours, &op);
		/* Which of two refusals comes first depends on fs.protected_hardlinks. */
		if (op.kind == LINK && (a == -EPERM || a == -EACCES) &&
		    (b == -EPERM || b == -EACCES))
			continue;
		if (a != b)
			fail_msg("seed %u op %u: kind %d user %u %s %s n %u: overlayfs %d, union "
				 "%d",
				 seed, i, op.kind, op.user, op.a, op.b, op.n, a, b);
	}
	CLEANUP_FREE char *their_tree = dump(&theirs);
	CLEANUP_FREE char *our_tree = dump(&ours);
	compare("the tree", seed, their_tree, our_tree);
	world_close(&theirs);
	world_close(&ours);
	other = (struct world){0};
	strcpy(other.branches, theirs.branches);
	world_open(&other);
	CLEANUP_FREE char *crossed = dump(&other);
	compare("what overlayfs wrote, read by the union,", seed, their_tree, crossed);
	world_close(&other);
	strcpy(other.branches, ours.branches);
	strcpy(other.mnt, theirs.mnt);
	world_open(&other);
	CLEANUP_FREE char *crossed2 = dump(&other);
	world_close(&other);
	compare("what the union wrote, read by overlayfs,", seed, crossed2, our_tree);
	sh("rm -rf %s/k %s/d", base, base);
}

static void does_what_overlayfs_does(void **state)
{
	const char *seeds = getenv("DANAUS_SEEDS"), *first = getenv("DANAUS_SEED");
	unsigned n = seeds ? atoi(seeds) : 10, from = first ? atoi(first) : 1;

	for (unsigned seed = from; seed < from + n; seed++)
		one_seed(seed);
}

/* Single behaviours, on branches that each case fills by itself. */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* Branches as the shell commands made them, which run once for the cases that ask again. */
static void fresh(struct world *w, const char *commands)
{
	static const char *made;

	cred_assume_service();
	*w = (struct world){.mnt = ""};
	snprintf(w->branches, sizeof(w->branches), "%s/s", base);
	nftw(w->branches, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (made != commands)
		sh("umask 022; cd %s; rm -rf t; mkdir -p t/u t/a t/b; cd t; %s; true", base,
		   commands);
	made = commands;
	sh("exec cp -a %s/t %s", base, w->branches);
}

static struct ls_node *at(struct world *w, const char *path, struct attr *attr)
{
	struct ls_node *node;

	if (walk(w->ls, users[0], path, &node, attr) < 0)
		fail_msg("%s is not there", path);
	return node;
}

static void open_files_follow_a_copy(void **state)
{
	struct world w;
	struct ls_file *reader, *writer;
	struct ls_node *node, *again;
	struct attr attr, after;
	char buf[16] = "";
	struct iovec iov = {buf, sizeof(buf) - 1}, out = {"NEW", 3};
	uint64_t end;

	fresh(&w, "echo old > a/f");
	world_open(&w);
	node = at(&w, "f", &attr);
	assert_int_equal(ls_open(w.ls, users[0], node, O_RDONLY, &reader), 0);
	assert_int_equal(ls_open(w.ls, users[0], node, O_WRONLY, &writer), 0);
	assert_int_equal(ls_write(w.ls, writer, &out, 1, 0, false, &end), 3);
	assert_int_equal(ls_read(w.ls, reader, &iov, 1, 0), 4);
	assert_string_equal(buf, "NEW\n");
	ls_release(w.ls, reader);
	ls_release(w.ls, writer);
	/* the same inode, also for who forgot it meanwhile */
	again = at(&w, "f", &after);
	assert_ptr_equal(again, node);
	ls_forget(w.ls, node, 2);
	node = at(&w, "f", &after);
	assert_int_equal(after.ino, attr.ino);
	ls_forget(w.ls, node, 1);
	world_close(&w);
}

static void copies_keep_what_the_file_has(void **state)
{
	struct world w;
	struct stat st, copy;
	struct ls_node *node;
	struct ls_file *file;
	struct attr attr, set = {.mode = 04711};
	char path[128], value[16];

	fresh(&w, "dd if=/dev/urandom of=a/f bs=64k count=1 status=none; truncate -s 1G a/f; "
		  "printf end | dd of=a/f bs=1 seek=536870912 conv=notrunc status=none; "
		  "chown 5:6 a/f; chmod 4711 a/f; setfattr -n user.k -v v a/f; "
		  "setfattr -n trusted.k -v v a/f; touch -d @1000000000 a/f");
	world_open(&w);
	node = at(&w, "f", &attr);
	snprintf(path, sizeof(path), "%s/a/f", w.branches);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(ls_open(w.ls, users[0], node, O_RDWR, &file), 0);
	ls_release(w.ls, file);
	snprintf(path, sizeof(path), "%s/u/f", w.branches);
	assert_int_equal(stat(path, &copy), 0);
	assert_int_equal(copy.st_size, st.st_size);
	assert_int_equal(copy.st_blocks, st.st_blocks);
	assert_int_equal(copy.st_mode, st.st_mode);
	assert_int_equal(copy.st_uid, 5);
	assert_int_equal(copy.st_gid, 6);
	assert_int_equal(copy.st_mtime, OLD);
	cred_assume_service();
	assert_int_equal(getxattr(path, "user.k", value, sizeof(value)), 1);
	assert_int_equal(getxattr(path, "trusted.k", value, sizeof(value)), 1);
	assert_int_equal(ls_setattr(w.ls, users[0], node, NULL, ATTR_MODE, &set, &attr), 0);
	ls_forget(w.ls, node, 1);
	world_close(&w);
	sh("cmp %s/a/f %s/u/f", w.branches, w.branches);
}

static void chown_to_nobody_takes_the_set_id_bits(void **state)
{
	struct world w;
	struct ls_node *set_id, *plain;
	struct attr attr, unused = {0};

	fresh(&w, "echo x > a/s; chmod 2666 a/s; echo x > a/p; chmod 644 a/p; chown 0:6 a/s a/p");
	world_open(&w);
	set_id = at(&w, "s", &attr);
	plain = at(&w, "p", &attr);
	assert_int_equal(ls_setattr(w.ls, users[1], set_id, NULL, 0, &unused, &attr), -EPERM);
	assert_int_equal(ls_setattr(w.ls, users[1], plain, NULL, 0, &unused, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0644);
	cred_assume_service();
	sh("cd %s && test ! -e u/p && test ! -e u/s && chmod 6755 a/s", w.branches);
	assert_int_equal(ls_setattr(w.ls, users[0], set_id, NULL, 0, &unused, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	ls_forget(w.ls, set_id, 1);
	ls_forget(w.ls, plain, 1);
	world_close(&w);
}

static void inode_numbers_are_unique_and_stay(void **state)
{
	struct world w;
	struct ls_node *a, *b;
	struct attr one, two, after, set = {.mode = 0600};

	fresh(&w, "echo x > a/one; ln a/one a/two; mkdir a/d b/d; echo y > b/low");
	world_open(&w);
	a = at(&w, "one", &one);
	b = at(&w, "two", &two);
	assert_int_not_equal(one.ino, two.ino); /* each will be a file of its own */
	assert_int_equal(ls_setattr(w.ls, users[0], a, NULL, ATTR_MODE, &set, &after), 0);
	assert_int_equal(after.ino, one.ino);
	assert_int_equal(ls_getattr(w.ls, b, NULL, &after), 0);
	assert_int_equal(after.ino, two.ino);
	assert_int_equal(after.mode & 07777, 0644);
	ls_forget(w.ls, a, 1);
	ls_forget(w.ls, b, 1);
	a = at(&w, "d", &one);
	assert_int_equal(one.nlink, 1);
	assert_int_equal(ls_setattr(w.ls, users[0], a, NULL, ATTR_MODE, &set, &after), 0);
	assert_int_equal(after.ino, one.ino);
	ls_forget(w.ls, a, 1);
	a = at(&w, "d", &after);
	assert_int_equal(after.ino, one.ino);
	ls_forget(w.ls, a, 1);
	world_close(&w);
}

static void listings_hold_while_names_change(void **state)
{
	struct names *names = calloc(1, sizeof(*names));
	struct world w;
	struct ls_file *file;
	struct ls_node *d;
	struct attr attr;
	unsigned before;

	fresh(&w, "mkdir u/d a/d b/d; for i in 1 2 3 4 5; do touch u/d/u$i a/d/a$i b/d/b$i; done; "
		  "touch b/d/u1 a/d/gone; mknod u/d/gone c 0 0");
	world_open(&w);
	d = at(&w, "d", &attr);
	assert_int_equal(ls_open(w.ls, users[0], d, O_RDONLY | O_DIRECTORY, &file), 0);
	for (names->stop = 1;; names->stop = names->n + 1) {
		before = names->n;
		assert_int_equal(ls_readdir(w.ls, file, before ? names->next[before - 1] : 0,
					    take_name, names),
				 0);
		if (names->n == before)
			break;
		if (before == 4) {
			assert_int_equal(ls_unlink(w.ls, users[0], d, "a1", false), 0);
			assert_int_equal(ls_unlink(w.ls, users[0], d, "b1", false), 0);
		}
	}
	assert_int_equal(names->n, 17); /* ".", "..", 15: each name once */
	for (unsigned i = 0; i < names->n; i++)
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(names->name[i], names->name[j]);
	names->n = names->stop = 0;
	assert_int_equal(ls_readdir(w.ls, file, 0, take_name, names), 0);
	assert_int_equal(names->n, 15); /* from the start it is read anew */
	ls_release(w.ls, file);
	ls_forget(w.ls, d, 1);
	world_close(&w);
	free(names);
}

static void one_union_writes_a_branch(void **state)
{
	struct libservice *second;
	struct err err = {0};
	struct world w;
	char spec[256];

	fresh(&w, "mkdir a/x");
	world_open(&w);
	snprintf(spec, sizeof(spec), "union:[local:%s/u,rw][local:%s/b,ro]", w.branches, w.branches);
	assert_int_equal(stack_open(spec, NULL, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use"));
	/* reading it is everybody's */
	snprintf(spec, sizeof(spec), "union:[local:%s/u,ro][local:%s/a,ro]", w.branches, w.branches);
	assert_int_equal(stack_open(spec, NULL, &second, &err), 0);
	struct ls_node *root, *made;
	struct attr attr;

	assert_int_equal(ls_root(second, &root, &attr), 0);
	assert_int_equal(ls_make(second, users[0], root, "n", S_IFDIR, 0, 0, NULL, &made, &attr),
			 -EROFS);
	assert_int_equal(ls_lookup(second, users[0], root, UNION_WORK, &made, &attr), -ENOENT);
	ls_forget(second, root, 1);
	ls_free(second);
	world_close(&w);
}

static char *dump_closed(struct world *w)
{
	char *text;

	world_open(w);
	text = dump(w);
	world_close(w);
	return text;
}

struct worker {
	pthread_t thread;
	struct world *world;
	unsigned number;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct op op;

	rng = worker->number * 0x9e3779b97f4a7c15ull + 1;
	for (unsigned i = 0; i < 400; i++) {
		random_op(&op);
		op.user = 0;
		do_union(worker->world, &op);
	}
	return NULL;
}

static void threads_leave_what_the_branches_say(void **state)
{
	struct worker workers[4];
	struct world w;

	fresh(&w, "mkdir -p a/a/b a/b/c b/a/c b/c/a; for d in a/a a/a/b a/b b/a/c b/c; do "
		  "for f in d e; do echo $d > $d/$f; done; done; touch a/e b/e b/d");
	world_open(&w);
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){.world = &w, .number = i + 1};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(workers[i].thread, NULL);
	CLEANUP_FREE char *live = dump(&w);
	world_close(&w);
	CLEANUP_FREE char *left = dump_closed(&w);
	assert_string_equal(live, left);
}

/* Faults and crashes. */

static struct libservice_ops plain_ops, full_ops;

static int plain_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
			const char *name, struct ls_node *newdir, const char *newname,
			unsigned flags)
{
	return flags ? -EINVAL : full_ops.rename(ls, cred, dir, name, newdir, newname, flags);
}

/* A union whose writable branch fails as the plan says; simple: it also has none of what CephFS has
 * not. */
static int open_faulty(struct world *w, struct fault_plan *plan, bool simple)
{
	struct libservice *branch[3] = {NULL}, *upper;
	struct err err = {0};
	char path[80];
	int r;

	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%c", w->branches, "uab"[i]);
		assert_int_equal(local_new(path, &branch[i], &err), 0);
	}
	upper = branch[0];
	full_ops = plain_ops = *upper->ops;
	plain_ops.rename = plain_rename;
	plain_ops.tmpfile = NULL;
	if (simple)
		upper->ops = &plain_ops;
	assert_int_equal(fault_new(upper, plan, &branch[0]), 0);
	r = union_new(branch, 3, true, &w->ls, &err);
	for (unsigned i = 0; r < 0 && i < 3; i++)
		ls_free(branch[i]);
	return r;
}

static void what_the_writable_branch_lost_is_told_at_close(void **state)
{
	const struct cred *cred = users[0];
	struct fault_plan plan = {.error = -EIO};
	struct ls_node *node;
	struct ls_file *file;
	struct iovec iov = {"text", 4};
	struct attr attr;
	struct world w;

	fresh(&w, "echo lower > a/f");
	assert_int_equal(open_faulty(&w, &plan, false), 0);
	assert_int_equal(walk(w.ls, cred, "f", &node, &attr), 0);
	assert_int_equal(ls_open(w.ls, cred, node, O_RDONLY, &file), 0);
	atomic_store(&plan.to_the_end, true);
	atomic_store(&plan.first, 1);
	assert_int_equal(ls_flush(w.ls, file), 0);
	atomic_store(&plan.first, 0);
	ls_release(w.ls, file);
	assert_int_equal(ls_open(w.ls, cred, node, O_RDWR, &file), 0);
	assert_int_equal(ls_write(w.ls, file, &iov, 1, 0, false, NULL), 4);
	assert_int_equal(ls_flush(w.ls, file), 0);
	atomic_store(&plan.first, 1);
	assert_int_equal(ls_flush(w.ls, file), -EIO);
	atomic_store(&plan.first, 0);
	ls_release(w.ls, file);
	ls_forget(w.ls, node, 1);
	world_close(&w);
}

struct crash {
	const char *branches; /* shell */
	struct op op;
};

static void sweep(const struct crash *crash, bool simple, bool to_the_end)
{
	CLEANUP_FREE char *before = NULL;
	CLEANUP_FREE char *after = NULL;
	struct fault_plan plan = {0};
	struct world w;
	int r;

	fresh(&w, crash->branches);
	before = dump_closed(&w);
	world_open(&w);
	r = do_op(&w, &crash->op);
	world_close(&w);
	after = dump_closed(&w);
	if (r < 0)
		fail_msg("the operation on %s by itself: %d", crash->branches, r);
	for (unsigned n = 1;; n++) {
		CLEANUP_FREE char *live = NULL;
		CLEANUP_FREE char *left = NULL;
		uint64_t first, last;

		fresh(&w, crash->branches);
		atomic_store(&plan.first, 0);
		atomic_store(&plan.error, -EIO);
		assert_int_equal(open_faulty(&w, &plan, simple), 0);
		atomic_store(&plan.to_the_end, to_the_end);
		first = atomic_load(&plan.calls) + n;
		atomic_store(&plan.first, first);
		r = do_op(&w, &crash->op);
		last = atomic_load(&plan.calls);
		if (!to_the_end) {
			atomic_store(&plan.first, 0);
			live = dump(&w);
		}
		world_close(&w);
		left = dump_closed(&w);
		if (strcmp(left, before) && strcmp(left, after))
			fail_msg("%s: call %u of the branch fails%s%s: neither before nor after:\n%s",
				 crash->branches, n, to_the_end ? " and all after it" : "",
				 simple ? ", simple branch" : "", left);
		if (live && strcmp(live, left))
			fail_msg("%s: call %u fails: the union shows\n%s and then\n%s",
				 crash->branches, n, live, left);
		if (last < first) {
			assert_int_equal(r, 0);
			break;
		}
	}
}

static void no_fault_shows_half_a_change(void **state)
{
	static const struct crash crashes[] = {
	    {"mkdir a/d; echo x > a/d/f; setfattr -n user.test -v v a/d/f",
	     {.kind = CHMOD, .a = "d/f", .n = 0751}},
	    {"ln -s to a/l", {.kind = CHOWN, .a = "l", .n = 3}},
	    {"mkdir a/d; echo x > a/d/f", {.kind = UNLINK, .a = "d/f"}},
	    {"echo x > a/f; echo y > u/f", {.kind = UNLINK, .a = "f"}},
	    {"mkdir a/d; touch a/d/f", {.kind = RENAME, .a = "d/f", .b = "g"}},
	    {"touch a/f a/g", {.kind = RENAME, .a = "f", .b = "g"}},
	    {"echo x > a/f; mkdir b/d", {.kind = LINK, .a = "f", .b = "d/g"}},
	    {"mkdir a/d u/d; touch a/d/f; mknod u/d/f c 0 0", {.kind = RMDIR, .a = "d"}},
	    {"mkdir a/d", {.kind = RMDIR, .a = "d"}},
	    {"mkdir u/d; mknod u/d/f c 0 0", {.kind = RMDIR, .a = "d"}},
	    {"mkdir a/d; touch a/d/f; mknod u/d c 0 0", {.kind = MKDIR, .a = "d", .n = 7}},
	    {"touch a/f; mknod u/f c 0 0", {.kind = SYMLINK, .a = "f", .b = "/-/x"}},
	    {"touch a/f; mknod u/f c 0 0", {.kind = MKNOD, .a = "f"}},
	    {"touch a/f u/g; mknod u/f c 0 0", {.kind = LINK, .a = "g", .b = "f"}},
	    {"mkdir u/n a/d; touch u/n/x a/d/f; mknod u/d c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n a/n a/d; setfattr -n trusted.overlay.opaque -v y u/n; touch u/n/x a/n/y "
	     "a/d/f; mknod u/d c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n u/d a/d; touch u/n/x a/d/f; mknod u/d/f c 0 0",
	     {.kind = RENAME, .a = "n", .b = "d"}},
	    {"mkdir u/n a/d; touch u/n/x", {.kind = RENAME, .a = "n", .b = "d"}},
	};

	no_times = true;
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		for (unsigned mode = 0; mode < 4; mode++)
			sweep(&crashes[i], mode & 1, mode & 2);
	no_times = false;
}

static void failing_starts_leave_the_branches_alone(void **state)
{
	struct fault_plan plan = {0};
	struct world w;
	int r = -1;

	for (unsigned n = 1; r < 0; n++) {
		fresh(&w, "touch u/x");
		atomic_store(&plan.calls, 0);
		atomic_store(&plan.first, n);
		atomic_store(&plan.error, -ENOMEM);
		r = open_faulty(&w, &plan, false);
		if (r < 0)
			assert_int_equal(r, -ENOMEM);
	}
	atomic_store(&plan.first, 0);
	world_close(&w);
	sh("[ $(ls -A %s/u) = x ]", w.branches);
}

static int setup(void **state)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(base) ||
	    mount("tmpfs", base, "tmpfs", 0, "mode=755,size=512m") < 0) {
		printf("skipped: needs root and a mount namespace: %s\n", strerror(errno));
		exit(77);
	}
	umask(022);
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = i * 7 + i / 251;
	users[0] = cred_root();
	users[1] = calloc(1, sizeof(struct cred));
	users[1]->refs = 1;
	users[1]->fsuid = users[1]->ruid = users[1]->fsgid = users[1]->rgid = 1000;
	users[1]->map = &no_map;
	return setgroups(0, NULL);
}

static int teardown(void **state)
{
	cred_assume_service();
	free(users[1]);
	if (umount2(base, MNT_DETACH) < 0)
		return -1;
	return rmdir(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(does_what_overlayfs_does),
	    cmocka_unit_test(open_files_follow_a_copy),
	    cmocka_unit_test(copies_keep_what_the_file_has),
	    cmocka_unit_test(chown_to_nobody_takes_the_set_id_bits),
	    cmocka_unit_test(inode_numbers_are_unique_and_stay),
	    cmocka_unit_test(listings_hold_while_names_change),
	    cmocka_unit_test(one_union_writes_a_branch),
	    cmocka_unit_test(threads_leave_what_the_branches_say),
	    cmocka_unit_test(what_the_writable_branch_lost_is_told_at_close),
	    cmocka_unit_test(no_fault_shows_half_a_change),
	    cmocka_unit_test(failing_starts_leave_the_branches_alone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
