/* SPDX-License-Identifier: Apache-2.0 */
/* Owns which caches a store has: one per source, whatever number of volumes are on it, and none
 * that could write below another one's feet. Called at attach and at a volume's end, any thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#include "danaus/libservices/cache/internal.h"

static void core_free(struct cache_core *core)
{
	for (unsigned i = 0; i < core->nleaves; i++)
		free(core->leaf[i].text);
	pthread_mutex_destroy(&core->nodes_lock);
	free(core->key);
	free(core);
}
DEFINE_CLEANUP(core, struct cache_core *, core_free)

/* What two volumes must have in common to be on one cache. Whether a volume is read-only is its
 * own; what the layers below do with their own sources is not. */
static void print_source(FILE *out, const struct source *source, bool top)
{
	fprintf(out, "%s:", source_kind_name(source->kind));
	if (source->path)
		fprintf(out, "%s:%s", source->fs ? source->fs : "", source->path);
	for (unsigned i = 0; i < source->nlower; i++) {
		fputc('[', out);
		print_source(out, source->lower[i], false);
		fputc(']', out);
	}
	if (source->ro && !top)
		fputs("\nro", out);
	if (source->writeback)
		fputs("\nwriteback", out);
}

static int key_of(const struct source *lower, const struct stack_limits *limits, char **ret)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return -ENOMEM;
	print_source(out, lower, true);
	/* Nobody gets at a source with another one's identity. */
	fprintf(out, "\n%s\n%s\n%s", limits->ceph_conf ? limits->ceph_conf : "",
		limits->ceph_keyring ? limits->ceph_keyring : "",
		limits->ceph_id ? limits->ceph_id : "");
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}

static int add_leaves(struct cache_core *core, const struct source *source, bool writable)
{
	bool one_is_written = source->kind == SOURCE_UNION;
	int r = 0;

	if (source->path) {
		struct cache_leaf *leaf = &core->leaf[core->nleaves];

		if (core->nleaves == CACHE_LEAVES_MAX)
			return -E2BIG;
		if (asprintf(&leaf->text, "%s:%s%s%s", source_kind_name(source->kind),
			     source->fs ? source->fs : "", source->fs ? ":" : "", source->path) < 0)
			return -ENOMEM;
		leaf->writable = writable;
		core->nleaves++;
	}
	for (unsigned i = 0; !r && i < source->nlower; i++)
		r = add_leaves(core, source->lower[i],
			       writable && !source->lower[i]->ro && (!one_is_written || !i));
	return r;
}

static bool below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) &&
	       (!path[len] || path[len] == '/' || (len && dir[len - 1] == '/'));
}

static const struct cache_leaf *overlap(const struct cache_core *a, const struct cache_core *b)
{
	for (unsigned i = 0; i < a->nleaves; i++) {
		for (unsigned j = 0; j < b->nleaves; j++) {
			const struct cache_leaf *x = &a->leaf[i], *y = &b->leaf[j];

			if ((x->writable || y->writable) &&
			    (below(x->text, y->text) || below(y->text, x->text)))
				return x;
		}
	}
	return NULL;
}

/* What is behind the same words may be another directory by now. */
static bool same_root(struct libservice *a, struct libservice *b)
{
	struct ls_node *node;
	struct attr x, y;

	if (ls_root(a, &node, &x) < 0)
		return false;
	ls_forget(a, node, 1);
	if (ls_root(b, &node, &y) < 0)
		return false;
	ls_forget(b, node, 1);
	return x.dev == y.dev && x.ino == y.ino;
}

/* With cores_lock. *ret: the cache that source has, or made, which is in the list from here on. */
static int join(struct cache_store *store, struct cache_core *made, struct libservice *lower,
		struct cache_core **ret, struct err *err)
{
	for (struct cache_core *core = store->cores; core; core = core->next_core) {
		const struct cache_leaf *leaf;

		if (!strcmp(core->key, made->key)) {
			if (!same_root(core->next, lower))
				return err_set(err, -EBUSY,
					       "another directory than the pool's cache of the "
					       "same name is in its place now");
			*ret = core;
			return 0;
		}
		leaf = overlap(made, core);
		if (leaf)
			return err_set(err, -EBUSY,
				       "%.200s: another cache of the pool has it, or a part of it, "
				       "and one of them may write",
				       leaf->text);
	}
	made->next_core = store->cores;
	store->cores = made;
	atomic_fetch_add(&store->ncores, 1);
	*ret = made;
	return 0;
}

int cache_share(struct cache_store *store, const struct source *source,
		const struct stack_limits *limits, struct libservice *lower, struct cache *view,
		struct err *err)
{
	__attribute__((cleanup(cleanup_core))) struct cache_core *made = calloc(1, sizeof(*made));
	struct cache_core *core = NULL;
	int r;

	if (!made)
		return -ENOMEM;
	pthread_mutex_init(&made->nodes_lock, NULL);
	made->store = store;
	made->next = lower;
	made->writeback = source->writeback;
	r = key_of(source, limits, &made->key);
	if (!r)
		r = add_leaves(made, source, true);
	if (r < 0)
		return r;
	pthread_mutex_lock(&store->cores_lock);
	if (made->writeback)
		r = cache_flusher_start(store);
	if (!r)
		r = join(store, made, lower, &core, err);
	if (!r) {
		view->core = core;
		view->next_view = core->views;
		core->views = view;
		/* What the vfs keeps of one volume does not know of the other's changes. */
		for (struct cache *v = view; view->next_view && v; v = v->next_view)
			v->base.cacheable = false;
	}
	pthread_mutex_unlock(&store->cores_lock);
	if (r < 0)
		return r;
	if (core == made)
		made = NULL;
	else
		ls_free(lower);
	return 0;
}

void cache_unshare(struct cache *view)
{
	struct cache_core *core = view->core, **p;
	struct cache_store *store = core->store;
	struct cache **v;
	bool last;

	pthread_mutex_lock(&store->cores_lock);
	for (v = &core->views; *v != view; v = &(*v)->next_view)
		;
	*v = view->next_view;
	last = !core->views;
	if (last) {
		for (p = &store->cores; *p != core; p = &(*p)->next_core)
			;
		*p = core->next_core;
		atomic_fetch_sub(&store->ncores, 1);
	}
	pthread_mutex_unlock(&store->cores_lock);
	if (!last)
		return;
	cache_flush_last(core);
	cache_core_drop(core);
	ls_free(core->next);
	core_free(core);
	if (store->is_private)
		cache_store_free(store);
}
