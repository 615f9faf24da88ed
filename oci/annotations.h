/* SPDX-License-Identifier: Apache-2.0 */
/* The danaus annotations of a container: one table of names, parsers, defaults and help. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "danaus/base/err.h"
#include "danaus/proto/mount_table.h"
#include "danaus/proto/source.h"

#define POOL_NAME_MAX 129 /* with its NUL; a container's id is 64 */

struct annotated_mount {
	char *annotation; /* its full name, for messages */
	char *target;	  /* absolute, normalized, not "/" */
	char *source;	  /* its text, without the mount's options */
	struct source *parsed;
	char *ceph_id;	    /* ",id=NAME"; NULL: the configured default */
	unsigned timeout_s; /* ",timeout=S"; 0: the configured default */
	bool ro;
};

struct annotations {
	bool on;
	char *pool;	      /* NULL: the container's own */
	char *cpus;	      /* canonical list; NULL: the container's cpuset */
	uint64_t cache_bytes; /* 0: the default */
	unsigned nmounts;
	struct annotated_mount mount[MOUNT_TABLE_MAX]; /* in the order of their names */
};

/* Reads a config's "annotations" (NULL is fine: off). Without danaus=on nothing else is looked at:
 * on is false and the result 0. An unknown danaus key or a malformed value is -EINVAL, and err
 * names the annotation and the remedy. Source: tenant. The caller ends it with annotations_done(),
 * also after a failure. */
int annotations_parse(const json_t *object, struct annotations *ret, struct err *err);
void annotations_done(struct annotations *annotations);

/* The table, for danausctl: NULL past the end. */
const char *annotation_help(unsigned i, const char **ret_name, const char **ret_default);
