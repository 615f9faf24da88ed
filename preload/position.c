/* SPDX-License-Identifier: Apache-2.0 */
/* Moves positions, see position.h. Any thread, any signal handler. */
#include "preload/position.h"

#include "preload/wrap.h"

#define SEEK_SET_  0
#define SEEK_CUR_  1
#define SEEK_END_  2
#define SEEK_HOLE_ 4

static long seek_in_service(struct ofile *file, uint64_t offset, int whence)
{
	struct path_args args = {.op = WIRE_SEEK, .offset = offset, .mode = (uint32_t)whence};
	struct call call;
	long r = file_run(file, &args, &call);

	if (r == 0)
		r = (long)call_reply(&call)->value;
	call_end(&call);
	return r;
}

void position_give(struct ofile *file)
{
	uint64_t signals, at;

	if (atomic_load(&file->position) == POSITION_SERVICE)
		return;
	/* with signals blocked: a handler would wait for its own thread */
	lock_take(&signals);
	at = atomic_exchange(&file->position, POSITION_MOVES);
	if (at && at != POSITION_SERVICE)
		seek_in_service(file, at, SEEK_SET_);
	atomic_store_explicit(&file->position, POSITION_SERVICE, memory_order_release);
	lock_give(&signals);
}

/* Where lseek(2) leads from at; a negative errno. */
static long target_of(struct ofile *file, uint64_t at, long offset, int whence)
{
	struct wire_attr attr;
	long from = (long)at, to, r;

	if (whence > SEEK_END_ && whence <= SEEK_HOLE_)
		return seek_in_service(file, (uint64_t)offset, whence);
	if (whence < 0 || whence > SEEK_HOLE_)
		return -EINVAL;
	if (whence == SEEK_SET_) {
		from = 0;
	} else if (whence == SEEK_END_) {
		r = file_attr(file, &attr);
		if (r < 0)
			return r;
		from = (long)attr.size;
	}
	if (__builtin_add_overflow(from, offset, &to))
		return -EINVAL; /* as the kernel, whatever lseek(2) says */
	return to < 0 ? -EINVAL : to;
}

bool position_seek(struct ofile *file, long offset, int whence, long *ret)
{
	uint64_t at;

	do {
		if (!position_here(file, &at))
			return false;
		*ret = target_of(file, at, offset, whence);
	} while (*ret >= 0 && !position_move(file, at, (uint64_t)*ret));
	return true;
}
