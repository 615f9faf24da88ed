/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of libservices that a source may name, and builds the stack of one. Called at
 * attach, on any thread; no state. */
#include <errno.h>
#include <stdio.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/cache/cache.h"
#ifdef HAVE_CEPH
#include "danaus/libservices/ceph/ceph.h"
#endif
#include "danaus/libservices/union/union.h"

_Static_assert(SOURCE_LOWER_MAX <= UNION_BRANCHES_MAX, "a union takes what a source may name");

DEFINE_CLEANUP(source, struct source *, source_free)

static int open_local(const struct source *source, const struct stack_limits *limits,
		      struct libservice **lower, struct libservice **ret, struct err *err)
{
	return local_new(source->path, ret, err);
}

/* The first source takes the changes, unless it is ro; the others are never written. */
static int open_union(const struct source *source, const struct stack_limits *limits,
		      struct libservice **lower, struct libservice **ret, struct err *err)
{
	return union_new(lower, source->nlower, !source->lower[0]->ro, ret, err);
}

static int open_ceph(const struct source *source, const struct stack_limits *limits,
		     struct libservice **lower, struct libservice **ret, struct err *err)
{
#ifdef HAVE_CEPH
	struct stack_limits own = *limits;
	char session[256];

	/* Each source of a stack has a session of its own. */
	if (limits->session && (size_t)snprintf(session, sizeof(session), "%s:%zu", limits->session,
						source->position) < sizeof(session))
		own.session = session;
	else
		own.session = NULL;
	return ceph_new(source->fs, source->path, &own, ret, err);
#else
	return err_set(err, -EINVAL, "this service is built without ceph");
#endif
}

/* lower[] are open already, as many as source has, ro set on each as source says; on success they
 * belong to *ret, on failure to the caller. err's text is about the source; the position is put in
 * front of it. */
static int (*const openers[SOURCE_KINDS])(const struct source *source,
					  const struct stack_limits *limits,
					  struct libservice **lower, struct libservice **ret,
					  struct err *err) = {
    [SOURCE_LOCAL] = open_local,
    [SOURCE_CEPH] = open_ceph,
    [SOURCE_UNION] = open_union,
    [SOURCE_CACHE] = cache_open,
};

static int open_source(const char *spec, const struct source *source,
		       const struct stack_limits *limits, struct libservice **ret, struct err *err)
{
	struct libservice *lower[SOURCE_LOWER_MAX], *made;
	struct stack_limits below = *limits;
	unsigned n;
	int r = 0;

	/* What a client below a cache keeps as well is the smaller part. */
	if (source->kind == SOURCE_CACHE)
		below.cache_bytes /= 4;
	for (n = 0; n < source->nlower; n++) {
		r = open_source(spec, source->lower[n], &below, &lower[n], err);
		if (r < 0)
			break;
	}
	if (!r) {
		r = openers[source->kind](source, limits, lower, &made, err);
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
	__attribute__((cleanup(cleanup_source))) struct source *source = NULL;
	int r = source_parse(spec, &source, NULL, err);

	if (r < 0)
		return r;
	return open_source(spec, source, limits ? limits : &nothing, ret, err);
}
