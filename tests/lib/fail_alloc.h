/* SPDX-License-Identifier: Apache-2.0 */
/* Makes one allocation of what the test links fail: malloc, calloc, realloc, strdup and strndup,
 * called by anything but libc itself. Linked with fail_alloc_args of tests/meson.build. */
#pragma once

#include <stdbool.h>

/* The nth from now on (1 is the next) fails, once; 0: none. */
void fail_alloc_at(unsigned n);
/* Whether it has, since fail_alloc_at(). */
bool fail_alloc_done(void);
