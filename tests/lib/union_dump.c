/* SPDX-License-Identifier: Apache-2.0 */
/* A tree as text, and lists of names. */
#include "tests/lib/union_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "danaus/base/fd.h"

bool uw_no_times;

bool uw_take_name(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct uw_names *names = arg;

	if (names->stop && names->n == names->stop)
		return false;
	snprintf(names->name[names->n], 64, "%.63s", name);
	names->type[names->n] = type;
	names->ino[names->n] = ino;
	names->next[names->n++] = next;
	return true;
}

int uw_names_count(struct libservice *ls, const struct cred *cred, struct ls_node *node)
{
	struct uw_names *names = calloc(1, sizeof(*names));
	struct ls_file *file;
	int r = ls_open(ls, cred, node, O_RDONLY | O_DIRECTORY, &file);

	if (!r) {
		r = ls_readdir(ls, file, 0, uw_take_name, names);
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
		mtime < UW_OLD * 3ll / 2 && !uw_no_times ? (long long)mtime : 0, what);
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

		assert_int_equal(ls_open(ls, uw_users[0], node, O_RDONLY, &file), 0);
		n = ls_read(ls, file, &iov, 1, 0);
		ls_release(ls, file);
		snprintf(what, sizeof(what), "%zd:%llx", n,
			 (unsigned long long)hash_bytes(1, buf, n > 0 ? n : 0));
	} else if (S_ISLNK(attr->mode)) {
		n = ls_readlink(ls, node, what, sizeof(what) - 1);
		what[n] = '\0';
	}
	n = S_ISLNK(attr->mode)
		? -1
		: ls_getxattr(ls, uw_users[0], node, "user.test", value, sizeof(value));
	if (n >= 0)
		sprintf(what + strlen(what), " x%zd:%llx", n,
			(unsigned long long)hash_bytes(1, value, n));
	line(out, path, attr->mode, attr->nlink, attr->uid, attr->gid, attr->size,
	     attr->mtime.tv_sec, what);
	if (S_ISDIR(attr->mode)) {
		struct uw_names *names = calloc(1, sizeof(*names));

		assert_int_equal(ls_open(ls, uw_users[0], node, O_RDONLY | O_DIRECTORY, &file), 0);
		assert_int_equal(ls_readdir(ls, file, 0, uw_take_name, names), 0);
		ls_release(ls, file);
		qsort(names->name, names->n, sizeof(names->name[0]), compare_names);
		for (unsigned i = 0; i < names->n; i++) {
			char child[PATH_MAX];
			struct ls_node *next;
			struct attr a;

			if (!strcmp(names->name[i], ".") || !strcmp(names->name[i], ".."))
				continue;
			snprintf(child, sizeof(child), "%s/%s", path, names->name[i]);
			if (ls_lookup(ls, uw_users[0], node, names->name[i], &next, &a) < 0)
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
		struct uw_names *names = calloc(1, sizeof(*names));
		DIR *d = opendir(full);

		for (struct dirent *e; (e = readdir(d));)
			uw_take_name(names, e->d_name, e->d_ino, e->d_type, 0);
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

char *uw_dump(struct union_world *w)
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

char *uw_dump_closed(struct union_world *w)
{
	char *text;

	uw_open(w);
	text = uw_dump(w);
	uw_close(w);
	return text;
}
