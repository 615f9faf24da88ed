/* SPDX-License-Identifier: Apache-2.0 */
/* What init puts in front of the service's filter: the dynamic loader's own calls on paths go to
 * the kernel without a notification. The loader wants kernel files, to map them, and a program that
 * touches no volume makes hardly another call on a path.
 *
 * A filter sees where a call comes from, but the loader is mapped at a random address. The offset
 * in the page is not random: it is that of the loader's file. So a call is the loader's when it
 * comes from the region of mappings, at a page offset where the loader's file makes that very call.
 * Other code that happens to do so is served by the kernel face, as correct and slower; but never
 * with a descriptor to start at, which could be one that the kernel face knows nothing of.
 *
 * init is the only caller; no libc, one thread. */
#pragma once

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __x86_64__
#define LOADER_PATH "/lib64/ld-linux-x86-64.so.2" /* glibc's; musl's is its libc as well */
#endif
#define LOADER_SITES  16 /* calls that a filter lets by */
#define LOADER_INSNS  35 /* instructions, at most */
#define LOADER_BEFORE 22 /* a piece of the file repeats so many bytes of the one before */

struct loader {
	unsigned nsites;
	uint32_t site[LOADER_SITES]; /* the call's number << 12 | page offset of what follows it */
};

/* Looks for calls on paths in a piece of the loader's file. code: tenant's; any bytes will do.
 * offset_bytes: of the piece in the file. */
void loader_scan(struct loader *loader, const unsigned char *code, size_t len_bytes,
		 uint64_t offset_bytes);

/* Instructions that allow what was found and fall through for everything else; their number, 0 when
 * nothing was found. Calls that are not on paths are decided by number alone. */
unsigned loader_filter(const struct loader *loader, struct sock_filter insns[LOADER_INSNS]);
