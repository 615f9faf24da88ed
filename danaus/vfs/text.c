/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that run and files that are written exclude each other (ETXTBSY), as i_writecount does
 * it in the kernel: text > 0 counts the open files that can write, text < 0 the running programs.
 * Any thread. */
#include "danaus/vfs/node.h"

#include <time.h>

/* The kernel tells of the end of a program a little after its parent knows: the one who would
 * write again at once (a compiler, run and run again) waits so long at most. */
#define GRACE_TIMES 20
#define GRACE_NS    100000

int text_write_begin(struct vnode *node)
{
	const struct timespec pause = {.tv_nsec = GRACE_NS};
	int count = atomic_load_explicit(&node->text, memory_order_relaxed), times = 0;

	for (;;) {
		if (count < 0) {
			if (times++ == GRACE_TIMES)
				return -ETXTBSY;
			nanosleep(&pause, NULL);
			count = atomic_load(&node->text);
		} else if (atomic_compare_exchange_weak(&node->text, &count, count + 1)) {
			return 0;
		}
	}
}

void text_write_end(struct vnode *node)
{
	atomic_fetch_sub(&node->text, 1);
}

int vnode_exec_begin(struct vnode *node)
{
	int count = atomic_load(&node->text);

	do {
		if (count > 0)
			return -ETXTBSY;
	} while (!atomic_compare_exchange_weak(&node->text, &count, count - 1));
	return 0;
}

void vnode_exec_end(struct vnode *node)
{
	atomic_fetch_add(&node->text, 1);
}
