/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the program's own libc, found when they are first needed. */
#pragma once

#include "preload/sys.h"

extern int *__errno_location(void);

/* The next definition of name after this library's, cached in *slot; a function that fails with
 * ENOSYS where this libc has none. */
void *libc_find(void *_Atomic *slot, const char *name);

/* pthread_testcancel(3), where this libc has it. */
void libc_testcancel(void);

#define LIBC(ret_type, name)                                                                       \
	({                                                                                         \
		static void *_Atomic slot_;                                                        \
		(ret_type(*)()) libc_find(&slot_, #name);                                          \
	})

/* The kernel's own function in the vdso, which nothing in between changes, kept in *slot; one that
 * fails with -ENOSYS where there is none. */
void *libc_find_vdso(void *_Atomic *slot, const char *name);

/* The one place where a negative errno becomes -1 and errno. */
static inline long edge(long r)
{
	if (unlikely(failed(r))) {
		*__errno_location() = (int)-r;
		return -1;
	}
	return r;
}
