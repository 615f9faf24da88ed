/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as text: what "." and doubled slashes hide, where a mount's path ends. */
#include "preload/lexical.h"

#include <stddef.h>

static const char *skip_nothing(const char *p)
{
	for (;;) {
		if (*p == '/')
			p++;
		else if (p[0] == '.' && (p[1] == '/' || !p[1]))
			p++;
		else
			return p;
	}
}

/* What follows mount in path, NULL when path does not go there. */
static const char *below(const char *path, const char *mount)
{
	for (;;) {
		path = skip_nothing(path);
		if (!*mount)
			return path;
		mount++;
		while (*mount && *mount != '/')
			if (*path++ != *mount++)
				return NULL;
		if (*path && *path != '/')
			return NULL;
	}
}

const struct mount_entry *path_match(const struct mount_table *table, const char *path,
				     const char **ret_rest)
{
	for (uint32_t i = 0; i < table->count; i++) {
		const struct mount_entry *entry = &table->entry[i];
		const char *rest;

		/* the second byte decides for most paths */
		if (path[1] != entry->path[1] && path[1] != '/' && path[1] != '.')
			continue;
		rest = below(path, entry->path);
		if (rest) {
			*ret_rest = rest;
			return entry;
		}
	}
	return NULL;
}

static const char *after(const char *path, const char *prefix)
{
	while (*prefix)
		if (*path++ != *prefix++)
			return NULL;
	return path;
}

int path_own_fd(const char *path)
{
	const char *digits = after(path, "/proc/self/fd/");
	int n = 0;

	if (!digits)
		digits = after(path, "/dev/fd/");
	if (!digits)
		digits = after(path, "/proc/thread-self/fd/");
	if (!digits || !*digits)
		return -1;
	for (; *digits; digits++) {
		if (*digits < '0' || *digits > '9' || n > 100000000)
			return -1;
		n = n * 10 + (*digits - '0');
	}
	return n;
}
