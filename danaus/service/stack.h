/* SPDX-License-Identifier: Apache-2.0 */
/* The spec of a stack, and what a libservice that wants to be named in one provides.
 *
 *   SPEC    = NAME ":" (PATH | "[" SPEC "]" ...) ["," OPTION ...]
 *   OPTION  = "ro" | "rw" | "writeback" | KEY "=" VALUE
 *
 * "local:/srv/a,ro", "ceph:FS:/dir,id=tenant-a", "union:[ceph:/t/a,rw][local:/srv/base,ro]",
 * "cache:[local:/srv/a]". writeback is for the source of a cache, cache.h says what it does. In
 * PATH and VALUE a backslash takes the meaning off the next of , [ ] \  and is itself otherwise.
 * The canonical form has ro or rw first in each nested source, and no other rw.
 *
 * Source: annotations, which a tenant may have written, checked once here. */
#pragma once

#include "danaus/service/libservice.h"

#define STACK_DEPTH_MAX	  8
#define STACK_LOWER_MAX	  64
#define STACK_OPTIONS_MAX 8

struct stack_source {
	size_t position; /* of its name in the spec, for messages */
	char *name;
	char *path; /* NULL when it stacks on others */
	bool ro, writeback;
	unsigned noptions, nlower;
	struct {
		char *key, *value;
	} options[STACK_OPTIONS_MAX];
	struct stack_source *lower[STACK_LOWER_MAX];
};

/* What spec says; nothing is opened. -EINVAL: err names the position of the mistake. */
int stack_parse(const char *spec, struct stack_source **ret, struct err *err);
void stack_source_free(struct stack_source *source);
/* The value of an option, or NULL. */
const char *stack_option(const struct stack_source *source, const char *key);

/* One line of the table in stack.c. */
struct stack_layer {
	const char *name;
	unsigned min_lower, max_lower; /* max 0: it takes a path */
	const char *const *options;    /* NULL-terminated keys that it knows; NULL: none */
	/* lower[] are open already, nlower == source->nlower, ro set on each as the source says; on
	 * success they belong to *ret, on failure to the caller. err's text is about the source;
	 * the position is put in front of it. */
	int (*open)(const struct stack_source *source, const struct stack_limits *limits,
		    struct libservice **lower, struct libservice **ret, struct err *err);
};
