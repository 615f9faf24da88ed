/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a door's thread that serves several callers when a call is about to wait for a network, so
 * that another thread serves them meanwhile. Owns a pointer per thread. */
#pragma once

/* What to do once, at the call's first wait. It may be called with a directory's names held. */
struct patience {
	void (*waits)(void *arg);
	void *arg;
};

/* Of this thread's call, NULL: nobody wants to know. */
extern __thread const struct patience *patience;

static inline void patience_waits(void)
{
	const struct patience *told = patience;

	patience = NULL;
	if (told)
		told->waits(told->arg);
}
