/* SPDX-License-Identifier: Apache-2.0 */
/* The container state that a runtime gives its hooks on standard input (runtime-spec, "State"). */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "danaus/base/err.h"

#define ID_MAX 256

struct state {
	char id[ID_MAX];
	pid_t pid;	   /* 0 where the runtime gives none (poststop) */
	char bundle[4096]; /* "" where it gives none */
};

/* -EINVAL with the reason. */
int state_parse(const char *text, size_t len_bytes, struct state *ret, struct err *err);

/* A name that is safe as one path component: letters, digits, '_', '.', '-', '+', ':'; not starting
 * with a dot; shorter than max. */
int id_check(const char *id, size_t max);
