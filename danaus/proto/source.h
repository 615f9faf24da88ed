/* SPDX-License-Identifier: Apache-2.0 */
/* What a volume is served from, as text and understood. The config edit checks it, the service
 * opens it: both read it here, so that what was checked is what is opened.
 *
 *   SOURCE  = "local:" PATH | "ceph:" [FS ":"] PATH | "union:" NESTED ... | "cache:" NESTED
 *   NESTED  = "[" SOURCE ["," OPTION] ... "]"
 *   OPTION  = "ro" | "rw" | "writeback"
 *
 * "ceph:FS:/dir", "union:[ceph:/t/a,rw][local:/srv/base,ro]", "cache:[local:/srv/a,writeback]". The
 * outermost source may have ro or rw, too. writeback is for the source of a cache; cache.h says
 * what it does. PATH is absolute and normalized; a backslash takes the meaning off the next of , [
 * ] \ and is itself otherwise.
 *
 * Who made the text: a tenant, by annotations. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "danaus/base/err.h"

#define SOURCE_MAX	 16384 /* bytes of the text */
#define SOURCE_DEPTH_MAX 8     /* a source in a source: 2 */
#define SOURCE_LOWER_MAX 64    /* sources next to each other in one */

enum source_kind { SOURCE_LOCAL, SOURCE_CEPH, SOURCE_UNION, SOURCE_CACHE, SOURCE_KINDS };

struct source {
	enum source_kind kind;
	size_t position; /* in the text, for messages: from 0 */
	char *path;	 /* of local and ceph, escapes taken off; else NULL */
	char *fs;	 /* of ceph: the named file system; NULL: the cluster's default */
	bool ro, writeback;
	unsigned nlower; /* of union, cache */
	struct source *lower[SOURCE_LOWER_MAX];
};

/* The caller ends *ret with source_free(). ret_options NULL: text is all of the source. Otherwise
 * the options of the outermost one are the caller's to read: *ret_options is at the first one's
 * comma, or at the end. -EINVAL: err names the position of the mistake; -ENOMEM. */
int source_parse(const char *text, struct source **ret, const char **ret_options, struct err *err);
void source_free(struct source *source);

/* "local", "ceph", ... */
const char *source_kind_name(enum source_kind kind);

/* path as the text has it. ret has room for twice its length. */
void source_escape(const char *path, char *ret);
