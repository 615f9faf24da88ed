/* SPDX-License-Identifier: Apache-2.0 */
/* What a volume's source names on the host: the leaves of a spec such as
 * "union:[ceph:/t/a,rw][local:/srv/base,ro]". The service builds the stack from the same text
 * (danaus/service/stack.c is the authority); here it is only read to check what it asks for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "danaus/base/err.h"

#define SOURCE_MAX	 8192 /* bytes of a spec */
#define SOURCE_DEPTH_MAX 8

struct source_leaf {
	bool ceph;	  /* else local */
	const char *fs;	  /* the named file system of ceph, "" for the cluster's default */
	const char *path; /* absolute, normalized, escapes taken off */
};

/* Calls visit for each leaf, left to right; a negative result ends the walk and is returned. On a
 * mistake -EINVAL, with its position. Source of spec: tenant. */
int source_walk(const char *spec,
		int (*visit)(void *arg, const struct source_leaf *leaf, struct err *err), void *arg,
		struct err *err);

/* path as a spec has it, each of , [ ] and backslash escaped. ret has room for twice its length. */
void source_escape(const char *path, char *ret);

/* Bytes of spec in front of the options of its outermost source. */
size_t source_length(const char *spec);

/* 0 when path is absolute and normalized: no "." or "..", no empty component, no trailing slash
 * ("/" itself is fine), shorter than max; else -EINVAL. */
int path_check(const char *path, size_t max);

/* path equals dir or lies below it; both as path_check() wants them. */
bool path_below(const char *path, const char *dir);
