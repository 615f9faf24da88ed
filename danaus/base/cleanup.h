/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound ownership for heap memory. See fd.h for descriptors. */
#pragma once

#include <stdlib.h>

static inline void cleanup_free(void *pp)
{
	free(*(void **)pp);
}

/* Freed at the end of the scope unless stolen. */
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))

/* Takes the pointer out of a CLEANUP_ variable: the caller owns it from here on. */
#define STEAL_PTR(p)                                                                               \
	({                                                                                         \
		__typeof__(p) steal_ptr_ = (p);                                                    \
		(p) = NULL;                                                                        \
		steal_ptr_;                                                                        \
	})

/* Declares cleanup_TYPE for `TYPE_free(struct TYPE *)`-like destructors:
 * DEFINE_CLEANUP(instance, struct instance *, instance_free) then
 * `__attribute__((cleanup(cleanup_instance))) struct instance *i = NULL;` */
#define DEFINE_CLEANUP(name, type, destroy)                                                        \
	static inline void cleanup_##name(type *p)                                                 \
	{                                                                                          \
		if (*p)                                                                            \
			destroy(*p);                                                               \
	}
