/* SPDX-License-Identifier: Apache-2.0 */
/* syscall(2): programs that make their calls by number get the same service. */
#include "preload/interpose.h"

#ifndef __NR_fchmodat2 /* Linux 6.6 */
#define __NR_fchmodat2 452
#endif

#define THEIRS	       sys6(n, a, b, c, d, e, g)
#define OURS(fd, ours) FD_CALL((int)(fd), ours, THEIRS)
#define NAME_FIRST(fd) (fd_export((int)(fd)), THEIRS)
#define FILE_FIRST(fd) (kernel_file((int)(fd)), THEIRS)

/* A descriptor that only the kernel's own files have: ours becomes one first. */
static void kernel_file(int fd)
{
	struct ofile *f;

	if (fd_find(fd, &f) > 0) {
		file_to_kernel(f);
		ofile_put(f);
	}
}

long do_syscall(long n, long a, long b, long c, long d, long e, long g)
{
	switch (n) {
#define NUMBER(name, value)                                                                        \
	case __NR_##name:                                                                          \
		return value;
#include "preload/by_number.def"
#undef NUMBER
	default:
		return THEIRS;
	}
}
