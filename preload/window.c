/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the mappings of windows; see window.h. */
#include "preload/window.h"

void window_unmap(const struct window *window)
{
	SYS(munmap, window, window->pages_offset + window->capacity, 0);
}

void window_ask(struct ofile *file)
{
	const struct window *none = NULL, *window;
	struct wire_request request;
	struct wire_reply reply;
	int fd;
	long p;

	if (file->type != S_IFREG || WIRE_IS_ROOT(file->handle))
		return;
	request_init(&request, WIRE_WINDOW);
	request.handle = file->handle;
	if (socket_request(&request, NULL, -1, &reply, &fd) < 0)
		return;
	p = SYS6(mmap, NULL, reply.value, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	SYS(close, fd, 0, 0);
	if (failed(p))
		return;
	window = (const struct window *)p;
	if (window->pages_offset + window->capacity != reply.value ||
	    SYS(madvise, p, reply.value, MADV_DONTFORK) < 0 ||
	    !atomic_compare_exchange_strong(&file->window, &none, window))
		SYS(munmap, p, reply.value, 0);
}
