/* SPDX-License-Identifier: Apache-2.0 */
/* OCI JSON documents as jansson values. What jansson cannot hold goes through unchanged: integers
 * above INT64_MAX (RLIM_INFINITY in rlimits) live as marked strings between parse and dump. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "danaus/base/err.h"

#define DOCUMENT_MAX (16u << 20) /* bytes of a config.json */

/* Parses one JSON object. what ("config.json") is for the message. -EINVAL for anything else. The
 * text comes from the container engine; strings in it may be a tenant's. */
int document_parse(const char *text, size_t len_bytes, const char *what, json_t **ret,
		   struct err *err);
/* The text of a document; *ret is malloc'ed and NUL-terminated. */
int document_dump(const json_t *document, char **ret);

int document_read_at(int dirfd, const char *path, json_t **ret, struct err *err);
/* Replaces the file atomically. */
int document_write_at(int dirfd, const char *path, mode_t mode, const json_t *document,
		      struct err *err);

/* An unsigned number, also one above INT64_MAX. -EINVAL when value is none. */
int document_u64(const json_t *value, uint64_t *ret);

/* object[key], made as an empty object or array where it is missing or null; borrowed. -EINVAL when
 * it is of another type, -ENOMEM. */
int document_object(json_t *object, const char *key, json_t **ret);
int document_array(json_t *object, const char *key, json_t **ret);

static inline void cleanup_json(json_t **value)
{
	json_decref(*value);
}
#define CLEANUP_JSON __attribute__((cleanup(cleanup_json)))
