/* SPDX-License-Identifier: Apache-2.0 */
/* Windows on the vfs's side: which inodes have one, what is in it, when it is void.
 *
 * Filled by reads that went the whole way: a page goes in when it is read the second time, so a
 * scan leaves the budget alone. Voided before each change of the data that the vfs makes. Changes
 * from outside of the pool void it within WINDOWS_CHECK_NS: a thread compares the attributes (as
 * vfs.h promises for what is cached). Another thread does so for those whose storage is remote;
 * when it gets no answer, the first one voids them. */
#pragma once

#include "danaus/proto/window.h"
#include "danaus/vfs/vfs.h"

#define WINDOWS_CHECK_NS 500000000u
#define WINDOWS_MAX	 256u	       /* windows of a pool */
#define WINDOW_MAX_BYTES (16ull << 30) /* a larger file gets none */

struct windows;

/* Without windows until it has a budget. -ENOMEM. */
int windows_new(struct windows **ret);
/* Every inode is gone. NULL is fine. */
void windows_free(struct windows *windows);
/* Bytes of pages; less than it holds takes the coldest away. 0: no windows. */
void windows_set_budget(struct windows *windows, uint64_t bytes);
/* Of pages, now. */
uint64_t windows_bytes(struct windows *windows);

/* Per inode; embedded in struct vnode. */
struct pane;
struct vnode_window {
	_Atomic(struct pane *) pane;
	/* Changes of the inode's data that began and that ended, with or without a window: a fill
	 * counts only if none was under way. */
	_Atomic uint32_t begun, ended;
};

/* A read-only descriptor of node's window, made if need be; the caller closes it, and maps
 * *ret_bytes of it. Each success is one user, given back with window_unuse(). node is referenced;
 * size is its file's. May block. -EOPNOTSUPP: no regular file, or its libservice does not allow it.
 * -EFBIG: over WINDOW_MAX_BYTES. -ENOSPC: no budget, or WINDOWS_MAX of them. -ENOMEM, what getattr
 * says. */
int window_use(struct windows *windows, struct vnode *node, uint64_t size, int *ret_fd,
	       uint64_t *ret_bytes);
/* The last one's takes the window away. */
void window_unuse(struct windows *windows, struct vnode *node);

/* The file is opened once more, or a lock that hosts share was taken: where the storage is remote,
 * the window is compared now, which asks the storage. */
void window_reopened(struct windows *windows, struct vnode *node);

/* What follows never blocks (but for the windows' own mutex, a leaf), and is fine for an inode
 * without a window. */

/* Around a read: the token before, and what was read after. False: a change is under way, what is
 * read now may be from before it. (ended is never ahead of begun, so loaded first and equal means
 * that nothing was under way in between.) */
static inline bool window_fill_begin(struct vnode_window *w, uint32_t *ret_token)
{
	uint32_t ended = atomic_load(&w->ended);

	*ret_token = atomic_load(&w->begun);
	return *ret_token == ended;
}
/* Keeps whole pages of [offset, offset + len_bytes), or what the file has of its last one, unless a
 * change began since token. data is memory that nobody else writes: others will read what is in it.
 */
void window_fill(struct windows *windows, struct vnode *node, uint32_t token, const void *data,
		 uint64_t offset, uint64_t len_bytes);
/* Whether window_fill() would keep something of that read; if not, the read is remembered. The
 * range becomes what it would rather have: more, where much was read around it. */
bool window_wants(struct windows *windows, struct vnode *node, uint32_t token, uint64_t *offset,
		  uint64_t *len_bytes);

/* Around each change of the data in [offset, offset + len_bytes) (len_bytes UINT64_MAX: to the end;
 * offset VFS_AT_POSITION: at the end, an append), also of one that fails. size_after: the file's
 * size is at least that now, or exactly (truncate), or unchanged (0, false). */
void window_change_begin(struct windows *windows, struct vnode *node, uint64_t offset,
			 uint64_t len_bytes);
void window_change_end(struct windows *windows, struct vnode *node, uint64_t size_after,
		       bool exactly);

/* A write of few bytes, which goes into the window as well: what others read next is what one
 * writes most. */
#define WINDOW_WRITE_MAX (4 * WINDOW_PAGE)
struct window_write {
	/* In: memory that nobody else writes, and where it goes. */
	const void *data;
	size_t len_bytes; /* at most WINDOW_WRITE_MAX */
	uint64_t offset;
	/* windows.c's own. */
	uint64_t pane_serial;
	uint32_t begun;
	uint32_t was_valid; /* 0: data is not looked at; a bit per page, from the first touched */
};

/* As the two above; write is the same for both. written_bytes: what of data was written. */
void window_write_begin(struct windows *windows, struct vnode *node, struct window_write *write);
void window_write_end(struct windows *windows, struct vnode *node, const struct window_write *write,
		      size_t written_bytes, uint64_t size_after);
/* The inode goes: its window is void for whoever has it mapped. */
void window_drop(struct windows *windows, struct vnode *node);
