/* SPDX-License-Identifier: Apache-2.0 */
/* Owns copy-up and the work directory. What is copied is built in the work directory, made durable
 * and moved to its place by one rename or link, so that a crash never shows a part of it. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "danaus/base/log.h"
#include "danaus/libservices/union/internal.h"

#define COPY_BYTES  (256 * 1024)
#define XATTR_BYTES 65536
#define INTENT	    "intent."

static bool unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL;
}

/* The work directory. */

/* The root keeps its times: the work directory is none of its names. */
static int work_name(struct union_fs *fs, bool make, struct ls_node **ret)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *root = atomic_load(&fs->root->upper);
	struct attr times, out;
	int r = ls_getattr(ls, root, NULL, &times);

	if (!r)
		r = make ? ls_make(ls, fs->service, root, UNION_WORK, S_IFDIR | 0700, 0, 0, NULL,
				   ret, &out)
			 : ls_unlink(ls, fs->service, root, UNION_WORK, true);
	if (!r)
		ls_setattr(ls, fs->service, root, NULL, ATTR_ATIME | ATTR_MTIME, &times, &out);
	return r;
}

static int work_open(struct union_fs *fs)
{
	struct libservice *ls = upper_ls(fs);
	struct attr attr = {.mode = 0700}, out;
	int r =
	    ls_lookup(ls, fs->service, atomic_load(&fs->root->upper), UNION_WORK, &fs->work, &out);

	if (!r && !S_ISDIR(out.mode))
		r = -ENOTDIR;
	if (r == -ENOENT)
		r = work_name(fs, true, &fs->work);
	if (r < 0)
		return r;
	/* Nothing of the root's ACL or group may reach what is made in here. */
	ls_removexattr(ls, fs->service, fs->work, ACL_DEFAULT);
	ls_removexattr(ls, fs->service, fs->work, ACL_ACCESS);
	r = ls_setattr(ls, fs->service, fs->work, NULL, ATTR_UID | ATTR_GID, &attr, &out);
	if (!r)
		r = ls_setattr(ls, fs->service, fs->work, NULL, ATTR_MODE, &attr, &out);
	return r;
}

void union_temp_name(struct union_fs *fs, char name[UNION_TEMP_LEN])
{
	snprintf(name, UNION_TEMP_LEN, "%lx", atomic_fetch_add(&fs->work_seq, 1) + 1);
}

struct name_list {
	size_t len_bytes;
	char names[16384];
};

static bool list_names(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct name_list *list = arg;
	size_t n = strlen(name) + 1;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return true;
	if (list->len_bytes + n > sizeof(list->names))
		return false;
	memcpy(list->names + list->len_bytes, name, n);
	list->len_bytes += n;
	return true;
}

/* Some names of a directory; 0 when there are none. */
static int some_names(struct union_fs *fs, struct ls_node *dir, struct name_list *list)
{
	struct ls_file *file;
	int r = ls_open(upper_ls(fs), fs->service, dir, O_RDONLY | O_DIRECTORY, &file);

	if (r < 0)
		return r;
	list->len_bytes = 0;
	r = ls_readdir(upper_ls(fs), file, 0, list_names, list);
	ls_release(upper_ls(fs), file);
	return r < 0 ? r : list->len_bytes > 0;
}

static int remove_tree(struct union_fs *fs, struct ls_node *dir, const char *name, unsigned depth)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *node;
	struct attr attr;
	int r = ls_lookup(ls, fs->service, dir, name, &node, &attr);

	if (r < 0)
		return r;
	if (S_ISDIR(attr.mode)) {
		struct name_list *list = malloc(sizeof(*list));

		r = !list ? -ENOMEM : depth > 8 ? -ELOOP : 0;
		while (!r && (r = some_names(fs, node, list)) > 0) {
			r = 0;
			for (char *p = list->names; !r && p < list->names + list->len_bytes;
			     p += strlen(p) + 1)
				r = remove_tree(fs, node, p, depth + 1);
		}
		free(list);
	}
	ls_forget(ls, node, 1);
	return r < 0 ? r : ls_unlink(ls, fs->service, dir, name, S_ISDIR(attr.mode));
}

void union_work_purge(struct union_fs *fs, const char *name)
{
	int r = remove_tree(fs, fs->work, name, 0);

	if (r < 0 && r != -ENOENT)
		log_limited(LOG_WARN, "union: %s/%s stays behind: %s", UNION_WORK, name,
			    strerror(-r));
}

int union_whiteout_make(struct union_fs *fs, struct ls_node *dir, const char *name)
{
	struct ls_node *node;
	struct attr attr;
	int r = ls_make(upper_ls(fs), fs->service, dir, name, S_IFCHR, 0, 0, NULL, &node, &attr);

	if (!r)
		ls_forget(upper_ls(fs), node, 1);
	return r;
}

int union_intent(struct union_fs *fs, struct unode *dir, const char *name,
		 char temp[UNION_TEMP_LEN])
{
	char path[PATH_MAX], *p = path + sizeof(path) - strlen(name) - 1;
	struct ls_node *node;
	struct attr attr;
	int r = 0;

	strcpy(p, name);
	pthread_mutex_lock(&fs->names_lock);
	for (; dir != fs->root && !r; dir = dir->parent) {
		size_t n = strlen(dir->name);

		if (n + 1 > (size_t)(p - path)) {
			r = -ENAMETOOLONG;
			break;
		}
		*--p = '/';
		p -= n;
		memcpy(p, dir->name, n);
	}
	pthread_mutex_unlock(&fs->names_lock);
	if (r < 0)
		return r;
	snprintf(temp, UNION_TEMP_LEN, INTENT "%lx", atomic_fetch_add(&fs->work_seq, 1) + 1);
	r = ls_make(upper_ls(fs), fs->service, fs->work, temp, S_IFLNK | 0777, 0, 0, p, &node,
		    &attr);
	if (!r)
		ls_forget(upper_ls(fs), node, 1);
	return r;
}

/* Carries an intent out: a whiteout at its path if nothing is there and the directory is. */
static int redo(struct union_fs *fs, const char *intent)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *dir = fs->work, *node;
	struct attr attr;
	char path[PATH_MAX], *name, *slash;
	ssize_t n;
	int r = ls_lookup(ls, fs->service, dir, intent, &node, &attr);

	if (r < 0)
		return r;
	n = ls_readlink(ls, node, path, sizeof(path) - 1);
	ls_forget(ls, node, 1);
	if (n < 0)
		return n;
	path[n] = '\0';
	r = ls_root(ls, &dir, &attr);
	for (name = path; !r && (slash = strchr(name, '/')); name = slash + 1) {
		*slash = '\0';
		r = ls_lookup(ls, fs->service, dir, name, &node, &attr);
		ls_forget(ls, dir, 1);
		dir = node;
	}
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	r = ls_lookup(ls, fs->service, dir, name, &node, &attr);
	if (!r)
		ls_forget(ls, node, 1);
	else if (r == -ENOENT)
		r = union_whiteout_make(fs, dir, name);
	ls_forget(ls, dir, 1);
	return r;
}

static int work_empty(struct union_fs *fs)
{
	CLEANUP_FREE struct name_list *list = malloc(sizeof(*list));
	int r = list ? 0 : -ENOMEM;

	while (!r && (r = some_names(fs, fs->work, list)) > 0) {
		r = 0;
		for (char *p = list->names; !r && p < list->names + list->len_bytes;
		     p += strlen(p) + 1) {
			if (!strncmp(p, INTENT, strlen(INTENT)))
				r = redo(fs, p);
			if (!r)
				r = remove_tree(fs, fs->work, p, 0);
		}
	}
	return r;
}

int union_work_start(struct union_fs *fs, struct err *err)
{
	int r = work_open(fs);

	if (!r)
		r = work_empty(fs);
	if (r < 0 && fs->work) {
		ls_forget(upper_ls(fs), fs->work, 1);
		fs->work = NULL;
	}
	return r < 0 ? err_set(err, r, "%s in the writable branch cannot be used: %s", UNION_WORK,
			       strerror(-r))
		     : 0;
}

void union_work_stop(struct union_fs *fs)
{
	ls_forget(upper_ls(fs), fs->work, 1);
	work_name(fs, false, NULL);
}

static int copy_xattr(struct union_fs *fs, struct lower from, const char *name, struct ls_node *to,
		      char *value)
{
	ssize_t n =
	    ls_getxattr(fs->branch[from.branch], fs->service, from.node, name, value, XATTR_BYTES);
	int r;

	if (n < 0)
		return n == -ENODATA || n == -EOPNOTSUPP ? 0 : n;
	r = ls_setxattr(upper_ls(fs), fs->service, to, name, value, n, 0);
	/* As overlayfs: what the branch has no room for is left, rights are not. */
	if (r == -EOPNOTSUPP && strcmp(name, ACL_ACCESS) && strcmp(name, ACL_DEFAULT))
		return 0;
	return r;
}

int union_work_twin(struct union_fs *fs, struct unode *dir, char temp[UNION_TEMP_LEN],
		    struct ls_node **ret)
{
	struct libservice *ls = upper_ls(fs);
	struct lower from = {UPPER, atomic_load(&dir->upper)};
	CLEANUP_FREE char *value = malloc(XATTR_BYTES);
	struct ls_node *node;
	struct attr attr, out;
	int r = value ? ls_getattr(ls, from.node, NULL, &attr) : -ENOMEM;

	if (r < 0)
		return r;
	union_temp_name(fs, temp);
	r = ls_make(ls, fs->service, fs->work, temp, S_IFDIR | 0700, 0, 0, NULL, &node, &out);
	if (r < 0)
		return r;
	r = ls_setattr(ls, fs->service, node, NULL, ATTR_UID | ATTR_GID, &attr, &out);
	if (!r)
		r = copy_xattr(fs, from, ACL_ACCESS, node, value);
	if (!r)
		r = copy_xattr(fs, from, ACL_DEFAULT, node, value);
	if (!r)
		r = ls_setattr(ls, fs->service, node, NULL, ATTR_MODE, &attr, &out);
	if (r < 0) {
		ls_forget(ls, node, 1);
		union_work_purge(fs, temp);
		return r;
	}
	*ret = node;
	return 0;
}

/* Copy-up. */

static int copy_range(struct union_fs *fs, struct libservice *from_ls, struct ls_file *from,
		      struct ls_file *to, char *buf, uint64_t offset, uint64_t end)
{
	while (offset < end) {
		struct iovec iov = {buf, end - offset < COPY_BYTES ? end - offset : COPY_BYTES};
		ssize_t n = ls_read(from_ls, from, &iov, 1, offset);

		if (n <= 0)
			return n;
		for (char *p = buf; n;) {
			struct iovec out = {p, n};
			uint64_t at;
			ssize_t w = ls_write(upper_ls(fs), to, &out, 1, offset, false, &at);

			if (w <= 0)
				return w ? w : -EIO;
			p += w;
			n -= w;
			offset += w;
		}
	}
	return 0;
}

static int copy_data(struct union_fs *fs, struct lower from, const struct attr *attr,
		     struct ls_file *to)
{
	struct libservice *ls = fs->branch[from.branch];
	CLEANUP_FREE char *buf = malloc(COPY_BYTES);
	struct ls_file *file;
	int64_t data = 0, hole = 0;
	int r;

	if (!buf)
		return -ENOMEM;
	r = ls_open(ls, fs->service, from.node, O_RDONLY, &file);
	if (r < 0)
		return r;
	while (!r && (uint64_t)hole < attr->size) {
		data = ls_seek(ls, file, hole, SEEK_DATA);
		if (data == -ENXIO)
			break;
		if (data == -EOPNOTSUPP || data == -EINVAL) {
			r = copy_range(fs, ls, file, to, buf, hole, attr->size);
			break;
		}
		hole = data < 0 ? data : ls_seek(ls, file, data, SEEK_HOLE);
		r = hole < 0 ? hole : copy_range(fs, ls, file, to, buf, data, hole);
	}
	ls_release(ls, file);
	return r;
}

static int copy_meta(struct union_fs *fs, struct lower from, const struct attr *attr,
		     struct ls_node *to, struct attr *ret)
{
	struct libservice *ls = fs->branch[from.branch];
	CLEANUP_FREE char *names = malloc(XATTR_BYTES);
	CLEANUP_FREE char *value = malloc(XATTR_BYTES);
	ssize_t n;
	int r;

	if (!names || !value)
		return -ENOMEM;
	r = ls_setattr(upper_ls(fs), fs->service, to, NULL, ATTR_UID | ATTR_GID, attr, ret);
	if (r < 0)
		return r;
	n = ls_listxattr(ls, fs->service, from.node, names, XATTR_BYTES);
	if (n < 0 && n != -EOPNOTSUPP)
		return n;
	for (char *p = names; !r && p < names + n; p += strlen(p) + 1)
		if (strncmp(p, OVERLAY_PREFIX, strlen(OVERLAY_PREFIX)))
			r = copy_xattr(fs, from, p, to, value);
	if (!r && !S_ISLNK(attr->mode))
		r = ls_setattr(upper_ls(fs), fs->service, to, NULL, ATTR_MODE, attr, ret);
	if (!r)
		r = ls_setattr(upper_ls(fs), fs->service, to, NULL, ATTR_ATIME | ATTR_MTIME, attr,
			       ret);
	return r;
}

/* A regular file without a name where the branch can, else with one in the work directory. */
static int make_file(struct union_fs *fs, const char *temp, bool *ret_named, struct ls_node **ret,
		     struct ls_file **ret_file)
{
	struct attr out;
	int r = -EOPNOTSUPP;

	if (!atomic_load(&fs->no_tmpfile))
		r = ls_tmpfile(upper_ls(fs), fs->service, fs->work, O_RDWR, 0600, 0, ret, ret_file,
			       &out);
	*ret_named = unsupported(r) || r == -EISDIR;
	if (!*ret_named)
		return r;
	atomic_store(&fs->no_tmpfile, true);
	return ls_create(upper_ls(fs), fs->service, fs->work, temp, O_RDWR, 0600, 0, ret, ret_file,
			 &out);
}

static int make_copy(struct union_fs *fs, struct lower from, const struct attr *attr,
		     const char *temp, bool *ret_named, struct ls_node **ret, struct attr *ret_attr)
{
	struct libservice *ls = upper_ls(fs);
	char target[PATH_MAX];
	struct ls_file *file = NULL;
	struct ls_node *node;
	int r;

	*ret_named = true;
	if (S_ISREG(attr->mode)) {
		r = make_file(fs, temp, ret_named, &node, &file);
	} else {
		if (S_ISLNK(attr->mode)) {
			ssize_t n = ls_readlink(fs->branch[from.branch], from.node, target,
						sizeof(target) - 1);

			if (n < 0)
				return n;
			target[n] = '\0';
		}
		r = ls_make(ls, fs->service, fs->work, temp, attr->mode & (S_IFMT | 0777), 0,
			    attr->rdev, S_ISLNK(attr->mode) ? target : NULL, &node, ret_attr);
	}
	if (r < 0)
		return r;
	if (file) {
		struct attr size = {.size = attr->size};

		r = copy_data(fs, from, attr, file);
		if (!r)
			r = ls_setattr(ls, fs->service, node, file, ATTR_SIZE, &size, ret_attr);
	}
	if (!r)
		r = copy_meta(fs, from, attr, node, ret_attr);
	if (file) {
		if (!r)
			r = ls_fsync(ls, file, false);
		ls_release(ls, file);
	}
	if (r < 0) {
		ls_forget(ls, node, 1);
		if (*ret_named)
			union_work_purge(fs, temp);
		return r;
	}
	*ret = node;
	return 0;
}

/* Gives the copy its place, unless that is gone: then it stays a file without a name. */
static int publish(struct union_fs *fs, struct unode *n, const char *temp, bool named,
		   struct ls_node *copy)
{
	struct libservice *ls = upper_ls(fs);
	struct ls_node *dir = atomic_load(&n->parent->upper);
	struct attr times, out;
	int r, got;

	pthread_rwlock_wrlock(&n->parent->dir_lock);
	if (atomic_load(&n->deleted)) {
		r = S_ISDIR(n->type) ? -ENOENT : 0;
		if (named)
			union_work_purge(fs, temp);
		if (!r)
			atomic_store(&n->upper, copy);
	} else {
		got = ls_getattr(ls, dir, NULL, &times);
		r = named ? ls_rename(ls, fs->service, fs->work, temp, dir, n->name, 0)
			  : ls_link(ls, fs->service, copy, dir, n->name);
		if (r < 0 && named)
			union_work_purge(fs, temp);
		if (!r) /* before anybody can find it: it must be this node */
			atomic_store(&n->upper, copy);
		if (!r && !got) /* a copy is no change of the directory */
			ls_setattr(ls, fs->service, dir, NULL, ATTR_ATIME | ATTR_MTIME, &times,
				   &out);
	}
	pthread_rwlock_unlock(&n->parent->dir_lock);
	return r;
}

static int copy_up_one(struct union_fs *fs, struct unode *n)
{
	struct lower from = n->lower[0];
	struct ls_node *copy;
	char temp[UNION_TEMP_LEN];
	struct attr attr, out;
	bool named;
	int r = ls_getattr(fs->branch[from.branch], from.node, NULL, &attr);

	if (r < 0)
		return r;
	union_temp_name(fs, temp);
	r = make_copy(fs, from, &attr, temp, &named, &copy, &out);
	if (r < 0)
		return r;
	r = union_origin_put(fs, &out, n->ino);
	if (r < 0) {
		if (named)
			union_work_purge(fs, temp);
	} else {
		r = publish(fs, n, temp, named, copy);
		if (r < 0)
			union_origin_drop(fs, &out);
	}
	if (r < 0)
		ls_forget(upper_ls(fs), copy, 1);
	return r;
}

int union_copy_up(struct union_fs *fs, struct unode *n)
{
	int r = 0;

	while (!r && !atomic_load(&n->upper)) {
		struct unode *top = n;

		if (!fs->writable)
			return -EROFS;
		while (!atomic_load(&top->parent->upper))
			top = top->parent;
		pthread_mutex_lock(&top->copy_lock);
		if (!atomic_load(&top->upper))
			r = copy_up_one(fs, top);
		pthread_mutex_unlock(&top->copy_lock);
	}
	return r;
}
