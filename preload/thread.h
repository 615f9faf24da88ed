/* SPDX-License-Identifier: Apache-2.0 */
/* What the client library keeps per thread: a few words of initial-exec TLS. */
#pragma once

#include <stdint.h>

struct thread {
	/* 1 in a vfork child until it execs: it shares this memory, TLS included, with its parent,
	 * whose thread sleeps and clears it when it goes on. Such a child touches no state of the
	 * library; all its calls go to the kernel, where the notify door or the kernel face
	 * serves them. */
	uint32_t vfork_child;
	uint32_t tid; /* valid while generation is the root's */
	uint32_t generation;
	uint32_t slot;	/* where the last call was: warm in the cache */
	uint32_t calls; /* under way, or left by siglongjmp(3): channel.c */
};
extern __thread struct thread thread __attribute__((tls_model("initial-exec")));
