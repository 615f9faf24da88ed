/* SPDX-License-Identifier: Apache-2.0 */
/* Reads at an offset that need no request: from the file's window (proto/window.h), which is asked
 * for when an open file was read so a few times. An open file keeps its window until it is closed;
 * a fork's child has none until it asks for its own. Any thread, any signal handler. */
#pragma once

#include "danaus/proto/window.h"
#include "preload/fdtab.h"

#define WINDOW_AFTER 16u /* reads; then it is worth a mapping */

/* Maps file's window if the service gives one. */
void window_ask(struct ofile *file);
void window_unmap(const struct window *window);

static inline void window_count(size_t len_bytes)
{
	struct shm_channel *channel = atomic_load_explicit(&root.channel, memory_order_relaxed);

	if (!channel)
		return;
	atomic_fetch_add_explicit(&channel->window_reads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&channel->window_bytes, len_bytes, memory_order_relaxed);
}

/* True when buf has it all. */
static inline bool window_take(struct ofile *file, void *buf, size_t len_bytes, uint64_t offset)
{
	const struct window *window = atomic_load_explicit(&file->window, memory_order_acquire);

	if (!window) {
		if (atomic_fetch_add_explicit(&file->reads, 1, memory_order_relaxed) ==
		    WINDOW_AFTER)
			window_ask(file);
		return false;
	}
	if (!window_read(window, buf, len_bytes, offset, memcpy))
		return false;
	window_count(len_bytes);
	return true;
}

/* A read at the position: up to the file's end, as read(2). -1: not from a window. One is worth it
 * only for a file that is read from its beginning again. */
static inline long window_take_some(struct ofile *file, void *buf, size_t len_bytes,
				    uint64_t offset)
{
	const struct window *window = atomic_load_explicit(&file->window, memory_order_acquire);
	long n;

	if (!window) {
		if (atomic_load_explicit(&file->again, memory_order_relaxed) &&
		    atomic_fetch_add_explicit(&file->reads, 1, memory_order_relaxed) ==
			WINDOW_AFTER)
			window_ask(file);
		return -1;
	}
	n = window_read_some(window, buf, len_bytes, offset, memcpy);
	if (n >= 0)
		window_count((size_t)n);
	return n;
}
