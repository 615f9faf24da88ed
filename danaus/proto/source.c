/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the grammar of sources. Pure; any thread. */
#include "danaus/proto/source.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/path.h"

static const struct {
	const char *name;
	unsigned max_lower; /* 0: it has a path */
} kinds[SOURCE_KINDS] = {
    [SOURCE_LOCAL] = {"local", 0},
    [SOURCE_CEPH] = {"ceph", 0},
    [SOURCE_UNION] = {"union", SOURCE_LOWER_MAX},
    [SOURCE_CACHE] = {"cache", 1},
};

struct parser {
	const char *text, *p;
	struct err *err;
};

const char *source_kind_name(enum source_kind kind)
{
	return kinds[kind].name;
}

void source_free(struct source *source)
{
	if (!source)
		return;
	for (unsigned i = 0; i < source->nlower; i++)
		source_free(source->lower[i]);
	free(source->path);
	free(source->fs);
	free(source);
}
DEFINE_CLEANUP(source, struct source *, source_free)

static int mistake(const struct parser *ps, const char *at, const char *what)
{
	return err_set(ps->err, -EINVAL, "source \"%.200s\", position %zu: %s", ps->text,
		       (size_t)(at - ps->text) + 1, what);
}

static bool special(char c)
{
	return c && strchr(",[]\\", c);
}

void source_escape(const char *path, char *ret)
{
	for (; *path; path++) {
		if (special(*path))
			*ret++ = '\\';
		*ret++ = *path;
	}
	*ret = '\0';
}

/* Up to a special character that is not escaped; escapes taken off. NULL: no memory. */
static char *take_text(struct parser *ps)
{
	const char *end = ps->p;
	char *ret, *out;

	while (*end && (!special(*end) || *end == '\\'))
		end += *end == '\\' && special(end[1]) ? 2 : 1;
	ret = out = malloc(end - ps->p + 1);
	for (; ret && ps->p < end; ps->p++) {
		if (*ps->p == '\\' && special(ps->p[1]))
			ps->p++;
		*out++ = *ps->p;
	}
	if (ret)
		*out = '\0';
	return ret;
}

/* [FS:]PATH */
static int parse_path(struct parser *ps, struct source *source)
{
	const char *start = ps->p;
	CLEANUP_FREE char *text = take_text(ps);
	const char *path = text;

	if (!text)
		return -ENOMEM;
	if (source->kind == SOURCE_CEPH && text[0] != '/') {
		const char *colon = strchr(text, ':');

		if (!colon || colon == text)
			return mistake(ps, start, "expected ceph:/dir or ceph:FS:/dir");
		source->fs = strndup(text, colon - text);
		if (!source->fs)
			return -ENOMEM;
		path = colon + 1;
		start += path - text;
	}
	if (path_check(path, PATH_MAX) < 0)
		return mistake(
		    ps, start,
		    "expected an absolute directory without \"..\", \"//\" or a final \"/\"");
	source->path = strdup(path);
	return source->path ? 0 : -ENOMEM;
}

static int parse_options(struct parser *ps, struct source *source, bool in_cache)
{
	bool access = false;

	while (*ps->p == ',') {
		const char *name = ps->p + 1;
		size_t len = strcspn(name, ",[]");

		ps->p = name + len;
		if (len == 2 && (!memcmp(name, "ro", 2) || !memcmp(name, "rw", 2))) {
			if (access)
				return mistake(ps, name, "ro or rw is given twice");
			access = true;
			source->ro = name[1] == 'o';
		} else if (in_cache && len == strlen("writeback") &&
			   !memcmp(name, "writeback", len)) {
			if (source->writeback)
				return mistake(ps, name, "writeback is given twice");
			source->writeback = true;
		} else {
			return mistake(
			    ps, name,
			    in_cache
				? "options are ro, rw, writeback (a comma in a path is \\,)"
				: "options are ro, rw, in a cache:[] also writeback (a comma in a "
				  "path is \\,)");
		}
	}
	return 0;
}

static int parse_source(struct parser *ps, unsigned depth, struct source **ret);

/* [SOURCE,rw][SOURCE,ro]... */
static int parse_nested(struct parser *ps, unsigned depth, struct source *source)
{
	while (*ps->p == '[') {
		struct source **lower = &source->lower[source->nlower];
		int r;

		if (source->nlower == kinds[source->kind].max_lower)
			return mistake(ps, ps->p, "too many sources");
		ps->p++;
		r = parse_source(ps, depth + 1, lower);
		if (r < 0)
			return r;
		source->nlower++;
		r = parse_options(ps, *lower, source->kind == SOURCE_CACHE);
		if (r < 0)
			return r;
		if (*ps->p != ']')
			return mistake(ps, ps->p, "expected ]");
		ps->p++;
	}
	return source->nlower ? 0 : mistake(ps, ps->p, "expected [SOURCE]");
}

/* Up to its options. */
static int parse_source(struct parser *ps, unsigned depth, struct source **ret)
{
	__attribute__((cleanup(cleanup_source))) struct source *source = calloc(1, sizeof(*source));
	int r;

	if (!source)
		return -ENOMEM;
	if (depth == SOURCE_DEPTH_MAX)
		return mistake(ps, ps->p, "sources are nested too deep");
	source->position = ps->p - ps->text;
	for (; source->kind < SOURCE_KINDS; source->kind++) {
		size_t len = strlen(kinds[source->kind].name);

		if (!strncmp(ps->p, kinds[source->kind].name, len) && ps->p[len] == ':') {
			ps->p += len + 1;
			break;
		}
	}
	if (source->kind == SOURCE_KINDS)
		return mistake(ps, ps->p,
			       "expected local:/dir, ceph:/dir, union:[...] or cache:[...]");
	r = kinds[source->kind].max_lower ? parse_nested(ps, depth, source)
					  : parse_path(ps, source);
	if (r < 0)
		return r;
	*ret = STEAL_PTR(source);
	return 0;
}

int source_parse(const char *text, struct source **ret, const char **ret_options, struct err *err)
{
	__attribute__((cleanup(cleanup_source))) struct source *source = NULL;
	struct parser ps = {text, text, err};
	int r;

	if (strlen(text) >= SOURCE_MAX)
		return err_set(err, -EINVAL, "the source is longer than %d bytes", SOURCE_MAX - 1);
	r = parse_source(&ps, 0, &source);
	if (!r && !ret_options)
		r = parse_options(&ps, source, false);
	if (r < 0)
		return r;
	if (*ps.p && (!ret_options || *ps.p != ','))
		return mistake(&ps, ps.p,
			       "unexpected text (in a path, [ and ] are written \\[ and \\])");
	if (ret_options)
		*ret_options = ps.p;
	*ret = STEAL_PTR(source);
	return 0;
}
