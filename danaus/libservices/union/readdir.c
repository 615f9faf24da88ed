/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the merged listing of directories. A directory that only one branch has is passed through
 * with the branch's own positions; a merged one is read whole when it is read from its start, and
 * positions count in that list, so that they hold while names come and go. */
#include <errno.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>

#include "danaus/libservices/union/internal.h"

/* What one open directory may keep: more names than that are -ENOMEM. */
#define LIST_NAMES_MAX (8u << 20)

struct entry {
	uint64_t ino;
	uint32_t name; /* offset in names */
	unsigned char type;
	bool hidden; /* a whiteout */
};

struct union_list {
	uint32_t n, cap, names_len, names_cap, nhash;
	struct entry *entries;
	char *names;
	uint32_t *hash;	 /* index + 1 of an entry, open addressing */
	bool failed;	 /* out of memory */
	unsigned branch; /* being read */
};

void union_list_free(struct union_list *list)
{
	if (!list)
		return;
	free(list->entries);
	free(list->names);
	free(list->hash);
	free(list);
}

DEFINE_CLEANUP(list, struct union_list *, union_list_free)

/* The place of name in the hash: of its entry, or empty. */
static uint32_t *hash_place(struct union_list *list, const char *name)
{
	uint32_t h = 2166136261u;

	for (const char *p = name; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	for (h %= list->nhash; list->hash[h]; h = (h + 1) % list->nhash)
		if (!strcmp(list->names + list->entries[list->hash[h] - 1].name, name))
			break;
	return &list->hash[h];
}

static bool grow(struct union_list *list, size_t name_bytes)
{
	if (list->names_len + name_bytes > list->names_cap) {
		uint32_t cap = list->names_cap ? list->names_cap * 2 : 4096;
		char *names = cap <= (UINT32_MAX >> 1) ? realloc(list->names, cap) : NULL;

		if (!names)
			return false;
		list->names = names;
		list->names_cap = cap;
	}
	if (list->n == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 64;
		struct entry *entries =
		    cap <= LIST_NAMES_MAX ? realloc(list->entries, cap * sizeof(*entries)) : NULL;
		uint32_t *hash = entries ? calloc(cap * 2, sizeof(*hash)) : NULL;

		if (entries)
			list->entries = entries;
		if (!hash)
			return false;
		free(list->hash);
		list->hash = hash;
		list->nhash = cap * 2;
		list->cap = cap;
		for (uint32_t i = 0; i < list->n; i++)
			*hash_place(list, list->names + list->entries[i].name) = i + 1;
	}
	return true;
}

static bool dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

struct reading {
	struct union_list *list;
	uint64_t next;
	bool any;
};

static bool add(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct reading *reading = arg;
	struct union_list *list = reading->list;
	size_t len = strlen(name) + 1;
	uint32_t *place;

	reading->next = next;
	reading->any = true;
	if (dots(name))
		return true;
	if (!grow(list, len)) {
		list->failed = true;
		return false;
	}
	place = hash_place(list, name);
	if (*place)
		return true;
	memcpy(list->names + list->names_len, name, len);
	list->entries[list->n] = (struct entry){ino, list->names_len, type, false};
	list->names_len += len;
	*place = ++list->n;
	return true;
}

/* -1 not there any more, else whether it is a whiteout. Corrects the type. */
static int entry_whiteout(struct union_fs *fs, struct lower dir, const char *name,
			  unsigned char *type)
{
	struct libservice *ls = fs->branch[dir.branch];
	struct ls_node *node;
	struct attr attr;

	if (*type != DT_CHR && *type != DT_UNKNOWN)
		return 0;
	if (ls_lookup(ls, fs->service, dir.node, name, &node, &attr) < 0)
		return -1;
	ls_forget(ls, node, 1);
	*type = IFTODT(attr.mode);
	return union_is_whiteout(&attr);
}

/* A lower directory that was removed under the union has no entries. */
static bool removed(const struct union_fs *fs, struct lower dir, int r)
{
	return r == -ENOENT && (dir.branch != UPPER || !fs->writable);
}

static int read_branch(struct union_fs *fs, struct unode *n, struct lower dir,
		       struct union_list *list)
{
	struct libservice *ls = fs->branch[dir.branch];
	struct reading reading = {.list = list};
	uint32_t first = list->n;
	struct ls_file *file;
	struct attr attr;
	int r = ls_getattr(ls, dir.node, NULL, &attr);

	if (!r)
		r = ls_open(ls, fs->service, dir.node, O_RDONLY | O_DIRECTORY, &file);
	if (r < 0)
		return removed(fs, dir, r) ? 0 : r;
	do {
		reading.any = false;
		r = ls_readdir(ls, file, reading.next, add, &reading);
	} while (!r && reading.any && !list->failed);
	ls_release(ls, file);
	if (list->failed)
		return -ENOMEM;
	if (r < 0)
		return removed(fs, dir, r) ? 0 : r;
	for (uint32_t i = first; i < list->n; i++) {
		struct entry *e = &list->entries[i];
		const char *name = list->names + e->name;

		e->hidden = entry_whiteout(fs, dir, name, &e->type) != 0 ||
			    union_check_name(fs, n, name) < 0;
		e->ino = union_entry_ino(fs, dir.branch, attr.dev, e->ino);
	}
	return 0;
}

static uint64_t dots_ino(struct union_fs *fs, struct unode *n, const char *name)
{
	uint64_t ino;

	pthread_mutex_lock(&fs->names_lock);
	ino = name[1] && n->parent ? n->parent->ino : n->ino;
	pthread_mutex_unlock(&fs->names_lock);
	return ino;
}

/* dir_lock is held. */
static int read_all(struct union_fs *fs, struct unode *n, struct union_list **ret)
{
	__attribute__((cleanup(cleanup_list))) struct union_list *list = calloc(1, sizeof(*list));
	struct ls_node *upper = atomic_load(&n->upper);
	int r = list ? 0 : -ENOMEM;

	if (!r && upper)
		r = read_branch(fs, n, (struct lower){UPPER, upper}, list);
	for (unsigned i = 0; !r && i < union_nlower(n); i++)
		r = read_branch(fs, n, n->lower[i], list);
	if (!r)
		*ret = STEAL_PTR(list);
	return r;
}

int union_dir_empty(struct union_fs *fs, struct unode *dir, bool *ret_marks)
{
	__attribute__((cleanup(cleanup_list))) struct union_list *list = NULL;
	int r = read_all(fs, dir, &list);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < list->n; i++)
		if (!list->entries[i].hidden)
			return -ENOTEMPTY;
	*ret_marks = list->n > 0;
	return 0;
}

int union_dir_clear(struct union_fs *fs, struct unode *dir)
{
	__attribute__((cleanup(cleanup_list))) struct union_list *list = calloc(1, sizeof(*list));
	struct ls_node *upper = atomic_load(&dir->upper);
	int r = list ? 0 : -ENOMEM;

	if (!r && union_nlower(dir)) {
		r = ls_setxattr(upper_ls(fs), fs->service, upper, OVERLAY_OPAQUE, "y", 1, 0);
		if (!r)
			atomic_store(&dir->opaque, true);
	}
	if (!r)
		r = read_branch(fs, dir, (struct lower){UPPER, upper}, list);
	for (uint32_t i = 0; !r && i < list->n; i++)
		if (list->entries[i].hidden)
			r = ls_unlink(upper_ls(fs), fs->service, upper,
				      list->names + list->entries[i].name, false);
	return r;
}

struct passing {
	struct union_fs *fs;
	struct unode *n;
	struct lower dir;
	uint64_t dev;
	ls_fill_fn fill;
	void *arg;
};

static bool pass(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next)
{
	struct passing *p = arg;

	if (dots(name))
		return p->fill(p->arg, name, dots_ino(p->fs, p->n, name), DT_DIR, next);
	if (union_check_name(p->fs, p->n, name) < 0 || entry_whiteout(p->fs, p->dir, name, &type))
		return true;
	return p->fill(p->arg, name, union_entry_ino(p->fs, p->dir.branch, p->dev, ino), type,
		       next);
}

static int pass_through(struct union_fs *fs, struct ufile *f, uint64_t position, ls_fill_fn fill,
			void *arg)
{
	bool below = f->passing == PASS_LOWER;
	struct lower dir =
	    below ? f->node->lower[0] : (struct lower){UPPER, atomic_load(&f->node->upper)};
	struct libservice *ls = fs->branch[dir.branch];
	struct passing passing = {fs, f->node, dir, 0, fill, arg};
	struct ls_file *file = f->lower;
	struct attr attr;
	int r = below ? 0 : union_upper_file(fs, f, &file);

	if (!r)
		r = ls_getattr(ls, dir.node, NULL, &attr);
	if (r < 0)
		return r;
	passing.dev = attr.dev;
	return ls_readdir(ls, file, position, pass, &passing);
}

/* Position 1 is after ".", 2 after "..", then come the list's entries. */
static void from_list(struct union_fs *fs, struct ufile *f, uint64_t position, ls_fill_fn fill,
		      void *arg)
{
	for (; position < 2; position++) {
		const char *name = &".."[1 - position];

		if (!fill(arg, name, dots_ino(fs, f->node, name), DT_DIR, position + 1))
			return;
	}
	for (; position - 2 < f->list->n; position++) {
		struct entry *e = &f->list->entries[position - 2];

		if (!e->hidden &&
		    !fill(arg, f->list->names + e->name, e->ino, e->type, position + 1))
			return;
	}
}

int union_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
		  void *arg)
{
	struct union_fs *fs = union_of(ls);
	struct ufile *f = (struct ufile *)file;
	struct unode *n = f->node;
	int r = 0;

	pthread_mutex_lock(&f->list_lock);
	if (!position || (!f->list && !f->passing)) {
		union_list_free(f->list);
		f->list = NULL;
		pthread_rwlock_rdlock(&n->dir_lock);
		f->passing = !atomic_load(&n->upper) ? union_nlower(n) == 1 ? PASS_LOWER : 0
			     : union_nlower(n)	     ? 0
						     : PASS_UPPER;
		if (!f->passing)
			r = read_all(fs, n, &f->list);
		pthread_rwlock_unlock(&n->dir_lock);
	}
	if (!r && f->passing)
		r = pass_through(fs, f, position, fill, arg);
	if (!r && f->list)
		from_list(fs, f, position, fill, arg);
	pthread_mutex_unlock(&f->list_lock);
	return r;
}
