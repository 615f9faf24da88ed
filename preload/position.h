/* SPDX-License-Identifier: Apache-2.0 */
/* Where the position of an open file is. That of a regular file which is open for reading only is
 * here, until the open file leaves the process: a read at the position is one at an offset then,
 * which a window may answer, and lseek(2) is no request. All others are in the service.
 *
 * No locks: who reads takes the position, reads there, and moves the position on if it is that
 * still; else it reads again where it is now. So several threads get one part after the other, as
 * from the kernel. */
#pragma once

#include "preload/fdtab.h"

#define POSITION_SERVICE UINT64_MAX	  /* or the kernel, for all that this process knows */
#define POSITION_MOVES	 (UINT64_MAX - 1) /* on its way there */

/* A file that was just opened, by nobody else known. */
static inline void position_start(struct ofile *file)
{
	atomic_store_explicit(
	    &file->position,
	    !(file->flags & (O_ACCMODE | O_PATH)) && file->type == S_IFREG ? 0 : POSITION_SERVICE,
	    memory_order_relaxed);
}
/* False: it is not here. */
static inline bool position_here(struct ofile *file, uint64_t *ret)
{
	while (unlikely((*ret = atomic_load_explicit(&file->position, memory_order_acquire)) ==
			POSITION_MOVES))
		SYS(sched_yield, 0, 0, 0);
	return *ret != POSITION_SERVICE;
}
/* False: it has moved meanwhile, or is not here any more. */
static inline bool position_move(struct ofile *file, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong(&file->position, &from, to);
}
/* Others will hold the open file: to the service. */
void position_give(struct ofile *file);
/* lseek(2) of a file whose position is here: *ret. False: it is not. */
bool position_seek(struct ofile *file, long offset, int whence, long *ret);
