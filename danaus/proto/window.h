/* SPDX-License-Identifier: Apache-2.0 */
/* A window: one file's cached pages, mapped read-only into a program that has the file open for
 * reading, so that a cached read is a copy and no request (the client library includes this; no
 * code that needs a libc). One memfd: struct window, its bits, then the pages. Sealed
 * (F_SEAL_FUTURE_WRITE): only the service's own mapping writes it.
 *
 * A reader takes `changes`, looks at the pages' bits, copies, and looks at `changes` again: when it
 * moved, or a bit is missing, the copy is void and the reader asks the service. A writer moves
 * `changes` after it has cleared the bits and before the data changes, so a request that was
 * answered is seen by every reader that starts after it.
 *
 * That the file ends at `size` is what the bit of its last page says, too.
 *
 * Per file, never the whole cache: two users of one container must not read each other's files. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_PAGE 4096u

struct window {
	uint64_t capacity;     /* bytes of pages; never changes */
	uint64_t pages_offset; /* where the pages start */
	_Atomic uint32_t dead; /* never valid again: unmap it */
	uint32_t pad;
	_Atomic uint64_t changes;
	_Atomic uint64_t size;	  /* the file's; pages beyond it are never valid */
	_Atomic uint64_t valid[]; /* a bit per page */
};

/* Where the pages start for a capacity (a multiple of WINDOW_PAGE). */
static inline uint64_t window_pages_offset(uint64_t capacity)
{
	uint64_t words = (capacity / WINDOW_PAGE + 63) / 64;

	return (sizeof(struct window) + words * 8 + WINDOW_PAGE - 1) & ~(uint64_t)(WINDOW_PAGE - 1);
}

/* Up to len_bytes from offset, as many as the file has: how many, when all of them are valid; buf
 * has them then. -1: the service has to be asked. copy is memcpy's like. */
static inline long window_read_some(const struct window *window, void *buf, size_t len,
				    uint64_t offset, void *(*copy)(void *, const void *, size_t))
{
	uint64_t changes = atomic_load_explicit(&window->changes, memory_order_acquire);
	uint64_t size = atomic_load_explicit(&window->size, memory_order_acquire);

	uint64_t first, last;

	if (!len || !size || size > window->capacity)
		return -1;
	/* where the file ends, its last page vouches for that */
	len = offset >= size ? 0 : len > size - offset ? size - offset : len;
	first = (len ? offset : size - 1) / WINDOW_PAGE;
	last = (len ? offset + len - 1 : size - 1) / WINDOW_PAGE;
	for (uint64_t page = first; page <= last; page++) {
		if (!(atomic_load_explicit(&window->valid[page / 64], memory_order_acquire) >>
			  (page % 64) &
		      1))
			return -1;
	}
	if (len)
		copy(buf, (const char *)window + window->pages_offset + offset, len);
#ifndef __SANITIZE_THREAD__ /* which does not know fences */
	atomic_thread_fence(memory_order_acquire);
#endif
	return atomic_load_explicit(&window->changes, memory_order_relaxed) == changes ? (long)len
										       : -1;
}

/* True when all of [offset, offset + len) is valid: then buf has it. */
static inline _Bool window_read(const struct window *window, void *buf, size_t len, uint64_t offset,
				void *(*copy)(void *, const void *, size_t))
{
	uint64_t size = atomic_load_explicit(&window->size, memory_order_acquire);

	return len && offset < size && len <= size - offset &&
	       window_read_some(window, buf, len, offset, copy) == (long)len;
}
