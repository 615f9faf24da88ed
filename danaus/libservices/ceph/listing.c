/* SPDX-License-Identifier: Apache-2.0 */
/* The ceph libservice's listings of directories, in parts: one takes a hand-over to another thread,
 * perhaps, and what of it has no room in one request is there for the next one. Any worker thread.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "danaus/libservices/ceph/internal.h"

#define PART_BYTES  16384
#define SOME	    16 /* entries that libcephfs gives at once */
#define BEHIND_DOTS 2  /* libcephfs's position there */

struct entry {
	uint64_t ino, next;
	uint16_t len_bytes; /* of all of it, so that the next one is aligned */
	unsigned char type;
	char name[];
};

struct ceph_listing {
	uint64_t position; /* of what is at */
	uint32_t at, len;  /* in data */
	bool end;
	char data[PART_BYTES] __attribute__((aligned(8)));
};
_Static_assert(sizeof(struct entry) + NAME_MAX + 1 <= sizeof(struct dirent), "room in a part");

static void add(struct ceph_listing *part, const struct dirent *from)
{
	struct entry *entry = (struct entry *)(part->data + part->len);
	size_t name_bytes = strnlen(from->d_name, NAME_MAX);

	entry->ino = from->d_ino;
	entry->next = from->d_off;
	entry->type = from->d_type;
	entry->len_bytes = (offsetof(struct entry, name) + name_bytes + 1 + 7) & ~7u;
	memcpy(entry->name, from->d_name, name_bytes);
	entry->name[name_bytes] = '\0';
	part->len += entry->len_bytes;
}

static void add_dot(struct ceph_listing *part, const char *name, uint64_t ino, uint64_t next)
{
	struct dirent dot = {.d_ino = ino, .d_off = next, .d_type = DT_DIR};

	strcpy(dot.d_name, name);
	add(part, &dot);
}

static int number_of_parent(struct ceph_call *at, struct ls_node *node, uint64_t *ret)
{
	struct ceph_statx stx;
	Inode *in, *up;
	int r = cephls_inode(at, node, &in);

	if (!r)
		r = ceph_ll_lookup(at->mount, in, "..", &up, &stx, CEPH_STATX_INO,
				   AT_STATX_DONT_SYNC, at->fs->root_perms);
	if (r < 0)
		return r;
	*ret = stx.stx_ino;
	ceph_ll_forget(at->mount, up, 1);
	return 0;
}

/* To position. libcephfs asks the MDS for the attributes of "." and ".." each time that they are
 * read. They are left out where it has all names of the directory itself; where it has not, leaving
 * them out would keep it from noticing, at the end, that it has. */
static void go_to(struct ceph_call *at, struct ls_file *file, uint64_t position,
		  struct ceph_listing *part)
{
	uint64_t parent;

	part->position = position;
	part->at = part->len = 0;
	part->end = false;
	if (position) {
		if (position != file->position) {
			ceph_seekdir(at->mount, file->dir, position);
			file->whole = false;
		}
		file->position = position;
		return;
	}
	ceph_rewinddir(at->mount, file->dir);
	file->position = 0;
	file->dotless =
	    atomic_load(&file->node->listed) && !number_of_parent(at, file->node, &parent);
	file->whole = !file->dotless;
	if (!file->dotless)
		return;
	add_dot(part, ".", file->node->ino, 1);
	add_dot(part, "..", parent, BEHIND_DOTS);
	ceph_seekdir(at->mount, file->dir, BEHIND_DOTS);
	file->position = BEHIND_DOTS;
}

/* Whether libcephfs has all names, as far as one can tell. */
static void learn(struct ceph_call *at, struct ls_file *file, const struct ceph_listing *part,
		  uint64_t began)
{
	struct ls_node *node = file->node;

	if (part->end && file->whole)
		atomic_store(&node->listed, node->snap == at->fs->root->snap);
	if (file->dotless && cephls_now_ns() > began + cephls_quick_ns(at->fs) + part->len)
		atomic_store(&node->listed, false);
}

/* What comes before an error counts, the error comes again. */
static int read_part(struct ceph_call *at, struct ls_file *file, uint64_t position,
		     struct ceph_listing *part)
{
	uint64_t began = cephls_now_ns();
	struct dirent some[SOME];

	if (file->gen != at->gen)
		return -ESHUTDOWN;
	go_to(at, file, position, part);
	while (!part->end && PART_BYTES - part->len >= sizeof(some)) {
		int n = ceph_getdents(at->mount, file->dir, (char *)some, sizeof(some));

		if (n < 0) {
			file->position = CEPH_NOWHERE;
			file->whole = false;
			return part->len ? 0 : n;
		}
		part->end = n == 0;
		for (size_t i = 0; i < n / sizeof(some[0]); i++) {
			add(part, &some[i]);
			file->position = some[i].d_off;
		}
	}
	learn(at, file, part, began);
	return 0;
}

/* One at a time. The one before may be a call of a client that is cut off, which does not end. */
static int enter_dir_handle(struct ceph *fs, struct ls_file *file)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += fs->timeout_s;
	return pthread_mutex_timedlock(&file->dir_lock, &end) ? -EIO : 0;
}

static int64_t run_part(struct libservice *ls, struct ceph_ask *ask)
{
	struct ceph_listing *part = ask->iov->iov_base;
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	int r;

	if (ask->file->node->type != S_IFDIR)
		return -ENOTDIR;
	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = cephls_file_open(&call, ask->file);
		if (!r)
			r = enter_dir_handle(fs, ask->file);
		if (!r) {
			r = read_part(&call, ask->file, ask->offset, part);
			pthread_mutex_unlock(&ask->file->dir_lock);
		}
	} while (cephls_leave(fs, &call, r));
	return r < 0 ? r : (int64_t)(offsetof(struct ceph_listing, data) + part->len);
}

int cephls_op_readdir(struct libservice *ls, struct ls_file *file, uint64_t position,
		      ls_fill_fn fill, void *arg)
{
	static const struct ceph_way way = {.run = run_part, .quick = QUICK_READ, .out = true};
	CLEANUP_FREE struct ceph_listing *part = atomic_exchange(&file->listing, NULL);
	bool go_on = part && position && part->position == position;

	if (!part && !(part = malloc(sizeof(*part))))
		return -ENOMEM;
	do {
		struct iovec iov = {part, sizeof(*part)};
		struct ceph_ask ask = {
		    .way = &way, .file = file, .offset = position, .iov = &iov, .niov = 1};
		int64_t r = go_on ? 0 : cephls_ask(ceph_of(ls), &ask);

		if (r < 0)
			return r;
		while (part->at < part->len) {
			const struct entry *entry = (struct entry *)(part->data + part->at);

			if (!fill(arg, entry->name, entry->ino, entry->type, entry->next)) {
				free(atomic_exchange(&file->listing, STEAL_PTR(part)));
				return 0;
			}
			part->at += entry->len_bytes;
			part->position = position = entry->next;
		}
		go_on = false;
	} while (!part->end);
	free(atomic_exchange(&file->listing, STEAL_PTR(part))); /* the end is known */
	return 0;
}
