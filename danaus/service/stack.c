/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the grammar of stack specs and the table of libservices by name. Called at attach, on any
 * thread; no state. */
#include "danaus/service/stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#ifdef HAVE_CEPH
#include "danaus/service/ceph.h"
#endif
#include "danaus/service/cache.h"
#include "danaus/service/union.h"

static int open_local(const struct stack_source *source, const struct stack_limits *limits,
		      struct libservice **lower, struct libservice **ret, struct err *err)
{
	return local_new(source->path, ret, err);
}

/* The first source takes the changes, unless it is ro; the others are never written. */
static int open_union(const struct stack_source *source, const struct stack_limits *limits,
		      struct libservice **lower, struct libservice **ret, struct err *err)
{
	return union_new(lower, source->nlower, !source->lower[0]->ro, ret, err);
}

#ifdef HAVE_CEPH
/* id is the name of the identity in danaus.json, which whoever fills limits has looked up. */
static const char *const ceph_options[] = {"id", NULL};

static int open_ceph(const struct stack_source *source, const struct stack_limits *limits,
		     struct libservice **lower, struct libservice **ret, struct err *err)
{
	struct stack_limits own = *limits;
	char session[256];

	/* Each source of a stack has a session of its own. */
	if (limits->session && (size_t)snprintf(session, sizeof(session), "%s:%zu", limits->session,
						source->position) < sizeof(session))
		own.session = session;
	else
		own.session = NULL;
	return ceph_new(source->path, &own, ret, err);
}
#endif

static const struct stack_layer layers[] = {
    {"local", 0, 0, NULL, open_local},
#ifdef HAVE_CEPH
    {"ceph", 0, 0, ceph_options, open_ceph},
#endif
    {"union", 1, UNION_BRANCHES_MAX, NULL, open_union},
    {"cache", 1, 1, NULL, cache_open},
};

struct parser {
	const char *spec, *p;
	struct err *err;
};

void stack_source_free(struct stack_source *source)
{
	if (!source)
		return;
	for (unsigned i = 0; i < source->nlower; i++)
		stack_source_free(source->lower[i]);
	for (unsigned i = 0; i < source->noptions; i++) {
		free(source->options[i].key);
		free(source->options[i].value);
	}
	free(source->path);
	free(source->name);
	free(source);
}
DEFINE_CLEANUP(source, struct stack_source *, stack_source_free)

static int mistake(struct parser *ps, size_t position, const char *what)
{
	return err_set(ps->err, -EINVAL, "source \"%.200s\", position %zu: %s", ps->spec,
		       position + 1, what);
}

static int mistake_here(struct parser *ps, const char *what)
{
	return mistake(ps, ps->p - ps->spec, what);
}

static const struct stack_layer *layer_find(const char *name)
{
	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		if (!strcmp(layers[i].name, name))
			return &layers[i];
	}
	return NULL;
}

const char *stack_option(const struct stack_source *source, const char *key)
{
	for (unsigned i = 0; i < source->noptions; i++) {
		if (!strcmp(source->options[i].key, key))
			return source->options[i].value;
	}
	return NULL;
}

static bool special(char c)
{
	return c && strchr(",[]\\", c);
}

/* Text up to a special character (or one of stop), escapes taken off. */
static int parse_text(struct parser *ps, const char *stop, char **ret)
{
	char *out = malloc(strlen(ps->p) + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	while (*ps->p) {
		if (*ps->p == '\\' && special(ps->p[1]))
			ps->p++;
		else if ((special(*ps->p) && *ps->p != '\\') || strchr(stop, *ps->p))
			break;
		out[n++] = *ps->p++;
	}
	out[n] = '\0';
	*ret = out;
	return 0;
}

static bool known_option(const struct stack_layer *layer, const char *key)
{
	for (const char *const *o = layer->options; o && *o; o++) {
		if (!strcmp(*o, key))
			return true;
	}
	return false;
}

static int parse_options(struct parser *ps, const struct stack_layer *layer,
			 const struct stack_layer *above, struct stack_source *source)
{
	bool access = false;

	while (*ps->p == ',') {
		const char *start = ++ps->p;
		CLEANUP_FREE char *key = NULL;
		CLEANUP_FREE char *value = NULL;
		int r = parse_text(ps, "=", &key);

		if (r < 0)
			return r;
		if (!strcmp(key, "ro") || !strcmp(key, "rw")) {
			if (access)
				return mistake(ps, start - ps->spec, "ro or rw is given twice");
			access = true;
			source->ro = key[1] == 'o';
			continue;
		}
		if (!strcmp(key, "writeback")) {
			if (!above || above->open != cache_open)
				return mistake(ps, start - ps->spec,
					       "writeback is for the source in a cache:[...]");
			if (source->writeback)
				return mistake(ps, start - ps->spec, "writeback is given twice");
			source->writeback = true;
			continue;
		}
		if (!known_option(layer, key))
			return mistake(ps, start - ps->spec,
				       "unknown option (a comma in a path is written \\,)");
		if (*ps->p != '=')
			return mistake_here(ps, "this option needs a value");
		ps->p++;
		r = parse_text(ps, "", &value);
		if (r < 0)
			return r;
		if (stack_option(source, key) || source->noptions == STACK_OPTIONS_MAX)
			return mistake(ps, start - ps->spec, "the option is given twice");
		source->options[source->noptions].key = STEAL_PTR(key);
		source->options[source->noptions++].value = STEAL_PTR(value);
	}
	return 0;
}

static int parse_source(struct parser *ps, unsigned depth, const struct stack_layer *above,
			struct stack_source **ret)
{
	__attribute__((cleanup(cleanup_source))) struct stack_source *source =
	    calloc(1, sizeof(*source));
	const struct stack_layer *layer;
	size_t len = strcspn(ps->p, ":,[]\\");
	int r;

	if (!source)
		return -ENOMEM;
	source->position = ps->p - ps->spec;
	if (depth == STACK_DEPTH_MAX)
		return mistake_here(ps, "sources are nested too deep");
	if (ps->p[len] != ':')
		return mistake_here(ps, "a source is NAME:PATH or NAME:[SOURCE]...");
	source->name = strndup(ps->p, len);
	if (!source->name)
		return -ENOMEM;
	layer = layer_find(source->name);
	if (!layer)
		return mistake_here(ps, "no such kind of source is built into this service");
	ps->p += len + 1;
	if (!layer->max_lower) {
		r = parse_text(ps, "", &source->path);
		if (r < 0)
			return r;
		if (!source->path[0])
			return mistake_here(ps, "a path is missing");
	}
	while (layer->max_lower && *ps->p == '[') {
		if (source->nlower == layer->max_lower || source->nlower == STACK_LOWER_MAX)
			return mistake_here(ps, "too many sources");
		ps->p++;
		r = parse_source(ps, depth + 1, layer, &source->lower[source->nlower]);
		if (r < 0)
			return r;
		source->nlower++;
		if (*ps->p != ']')
			return mistake_here(ps, "] is missing");
		ps->p++;
	}
	if (source->nlower < layer->min_lower)
		return mistake_here(ps, "[SOURCE] is missing");
	r = parse_options(ps, layer, above, source);
	if (r < 0)
		return r;
	*ret = STEAL_PTR(source);
	return 0;
}

int stack_parse(const char *spec, struct stack_source **ret, struct err *err)
{
	__attribute__((cleanup(cleanup_source))) struct stack_source *source = NULL;
	struct parser ps = {.spec = spec, .p = spec, .err = err};
	int r = parse_source(&ps, 0, NULL, &source);

	if (r < 0)
		return r;
	if (*ps.p)
		return mistake_here(&ps, "unexpected text (in a path, [ and ] are written \\[ "
					 "and \\])");
	*ret = STEAL_PTR(source);
	return 0;
}

static int open_source(const char *spec, const struct stack_source *source,
		       const struct stack_limits *limits, struct libservice **ret, struct err *err)
{
	const struct stack_layer *layer = layer_find(source->name);
	struct libservice *lower[STACK_LOWER_MAX], *made;
	struct stack_limits below = *limits;
	unsigned n;
	int r = 0;

	/* What a client below a cache keeps as well is the smaller part. */
	if (layer->open == cache_open)
		below.cache_bytes /= 4;
	for (n = 0; n < source->nlower; n++) {
		r = open_source(spec, source->lower[n], &below, &lower[n], err);
		if (r < 0)
			break;
	}
	if (!r) {
		r = layer->open(source, limits, lower, &made, err);
		if (!r) {
			made->ro |= source->ro;
			*ret = made;
			return 0;
		}
		err_prefix(err, r, "source \"%.200s\", position %zu", spec, source->position + 1);
	}
	while (n)
		ls_free(lower[--n]);
	return r;
}

int stack_open(const char *spec, const struct stack_limits *limits, struct libservice **ret,
	       struct err *err)
{
	static const struct stack_limits nothing;
	__attribute__((cleanup(cleanup_source))) struct stack_source *source = NULL;
	int r = stack_parse(spec, &source, err);

	if (r < 0)
		return r;
	return open_source(spec, source, limits ? limits : &nothing, ret, err);
}
