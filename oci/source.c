/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing; pure. */
#include "oci/source.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

int path_check(const char *path, size_t max)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len >= max)
		return -EINVAL;
	for (const char *p = path + 1; len > 1;) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return -EINVAL;
		if (!p[n])
			break;
		p += n + 1;
	}
	return 0;
}

bool path_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (len == 1)
		return true;
	return !strncmp(path, dir, len) && (path[len] == '/' || !path[len]);
}

struct walk {
	const char *spec;
	int (*visit)(void *arg, const struct source_leaf *leaf, struct err *err);
	void *arg;
	struct err *err;
};

static int mistake(const struct walk *w, const char *at, const char *what)
{
	return err_set(w->err, -EINVAL, "\"%.200s\": position %zu: %s", w->spec,
		       (size_t)(at - w->spec) + 1, what);
}

static bool special(char c)
{
	return c && strchr(",[]\\", c);
}

static bool escaped(const char *p, const char *end)
{
	return *p == '\\' && p + 1 < end && special(p[1]);
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

/* The first c from p to end that is neither escaped nor in brackets, or end. */
static const char *find_outside(const char *p, const char *end, char c)
{
	int depth = 0;

	for (; p < end; p++) {
		if (escaped(p, end)) {
			p++;
			continue;
		}
		if (*p == c && depth <= 0)
			return p;
		depth += *p == '[';
		depth -= *p == ']';
	}
	return end;
}

size_t source_length(const char *spec)
{
	return find_outside(spec, spec + strlen(spec), ',') - spec;
}

/* One leaf: [FS:]/path up to end. */
static int leaf(const struct walk *w, bool ceph, const char *p, const char *end)
{
	char text[SOURCE_MAX];
	struct source_leaf leaf = {.ceph = ceph, .fs = "", .path = text};
	size_t n = 0;

	for (const char *from = p; from < end; from++) {
		if (escaped(from, end))
			from++;
		else if (special(*from) && *from != '\\')
			return mistake(w, from, "in a path, this is written with a \\ in front");
		text[n++] = *from;
	}
	text[n] = '\0';
	if (ceph && text[0] != '/') {
		char *colon = strchr(text, ':');

		if (!colon || colon == text)
			return mistake(w, p, "expected ceph:/dir or ceph:FS:/dir");
		*colon = '\0';
		leaf.fs = text;
		leaf.path = colon + 1;
	}
	if (path_check(leaf.path, PATH_MAX) < 0)
		return mistake(
		    w, p + (leaf.path - text),
		    "expected an absolute directory without \"..\", \"//\" or a final \"/\"");
	return w->visit(w->arg, &leaf, w->err);
}

static int spec_walk(const struct walk *w, const char *p, const char *end, int depth);

/* The options of a nested source, each with its comma in front, up to end. */
static int nested_options(const struct walk *w, const char *p, const char *end, bool in_cache)
{
	while (p < end) {
		const char *name = p + 1;

		p = find_outside(name, end, ',');
		if (p - name == 2 && name[0] == 'r' && (name[1] == 'w' || name[1] == 'o'))
			continue;
		if (in_cache && (size_t)(p - name) == strlen("writeback") &&
		    !memcmp(name, "writeback", p - name))
			continue;
		return mistake(w, name,
			       in_cache ? "options are ro, rw, writeback (a comma in a path is \\,)"
					: "options are ro, rw (a comma in a path is \\,)");
	}
	return 0;
}

/* [SPEC,rw][SPEC,ro]... */
static int branches(const struct walk *w, const char *p, const char *end, int depth, bool in_cache)
{
	if (p == end)
		return mistake(w, p, "expected [SOURCE]");
	while (p < end) {
		const char *close, *options;
		int r;

		if (*p != '[')
			return mistake(w, p, "expected [");
		close = find_outside(p + 1, end, ']');
		if (close == end)
			return mistake(w, p, "this [ has no ]");
		options = find_outside(p + 1, close, ',');
		r = spec_walk(w, p + 1, options, depth + 1);
		if (!r)
			r = nested_options(w, options, close, in_cache);
		if (r < 0)
			return r;
		p = close + 1;
	}
	return 0;
}

static int spec_walk(const struct walk *w, const char *p, const char *end, int depth)
{
	static const struct {
		const char *prefix;
		enum { LOCAL, CEPH, UNION, CACHE } kind;
	} kinds[] = {
	    {"local:", LOCAL},
	    {"ceph:", CEPH},
	    {"union:", UNION},
	    {"cache:", CACHE},
	};

	if (depth > SOURCE_DEPTH_MAX)
		return mistake(w, p, "nested too deeply");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i].prefix);

		if ((size_t)(end - p) < len || memcmp(p, kinds[i].prefix, len) != 0)
			continue;
		if (kinds[i].kind < UNION)
			return leaf(w, kinds[i].kind == CEPH, p + len, end);
		return branches(w, p + len, end, depth, kinds[i].kind == CACHE);
	}
	return mistake(w, p, "expected local:/dir, ceph:/dir, union:[...] or cache:[...]");
}

int source_walk(const char *spec,
		int (*visit)(void *arg, const struct source_leaf *leaf, struct err *err), void *arg,
		struct err *err)
{
	const struct walk w = {spec, visit, arg, err};

	if (strlen(spec) >= SOURCE_MAX)
		return err_set(err, -EINVAL, "the source is longer than %d bytes", SOURCE_MAX - 1);
	return spec_walk(&w, spec, spec + strlen(spec), 0);
}
