/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of annotations. Pure; one thread. */
#include "oci/annotations.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/parse.h"
#include "danaus/base/path.h"
#include "oci/config.h"
#include "oci/state.h"

static int bad(struct err *err, const char *name, const char *value, const char *remedy)
{
	return err_set(err, -EINVAL, "annotation %s=%.200s: %s", name, value, remedy);
}

static int parse_on(struct annotations *a, const char *name, const char *value, struct err *err)
{
	a->on = !strcmp(value, "on");
	if (!a->on && strcmp(value, "off") != 0)
		return bad(err, name, value, "use \"on\" or \"off\"");
	return 0;
}

static int parse_pool(struct annotations *a, const char *name, const char *value, struct err *err)
{
	if (id_check(value, POOL_NAME_MAX / 2) < 0)
		return bad(err, name, value,
			   "a pool's name is at most 63 letters, digits, '_', '.', '-', and starts "
			   "with none of the last two");
	a->pool = strdup(value);
	return a->pool ? 0 : -ENOMEM;
}

static int parse_cpus(struct annotations *a, const char *name, const char *value, struct err *err)
{
	char text[1024];
	cpu_set_t set;

	if (parse_cpulist(value, &set) < 0 || format_cpulist(&set, text, sizeof(text)) < 0)
		return bad(err, name, value, "use a list of CPUs such as 0-3,8");
	a->cpus = strdup(text);
	return a->cpus ? 0 : -ENOMEM;
}

static int parse_cache(struct annotations *a, const char *name, const char *value, struct err *err)
{
	if (parse_size(value, &a->cache_bytes) < 0 || !a->cache_bytes)
		return bad(err, name, value, "use a size such as 512m or 2g");
	return 0;
}

/* One ",OPTION" of a mount. */
static int mount_option(struct annotated_mount *mount, const char *option)
{
	uint64_t seconds;

	if (!strcmp(option, "ro") || !strcmp(option, "rw")) {
		mount->ro = option[1] == 'o';
	} else if (!strncmp(option, "id=", 3) && !id_check(option + 3, CONFIG_IDENTITY_MAX)) {
		free(mount->ceph_id);
		mount->ceph_id = strdup(option + 3);
		return mount->ceph_id ? 0 : -ENOMEM;
	} else if (!strncmp(option, "timeout=", 8) &&
		   !parse_u64(option + 8, CONFIG_TIMEOUT_MAX_S, &seconds) && seconds) {
		mount->timeout_s = seconds;
	} else {
		return -EINVAL;
	}
	return 0;
}

/* podman before 4.4 splits its --annotation at commas: a semicolon stands for one, two for one that
 * is meant. */
static void semicolons(char *text)
{
	char *out = text;

	for (; *text; text++) {
		bool meant = text[0] == ';' && text[1] == ';';

		*out++ = *text == ';' && !meant ? ',' : *text;
		text += meant;
	}
	*out = '\0';
}

static int parse_mount(struct annotations *a, const char *name, const char *value, struct err *err)
{
	CLEANUP_FREE char *copy = strdup(value);
	struct annotated_mount *mount;
	char *source, *options = NULL;
	const char *end;
	int r;

	if (!copy)
		return -ENOMEM;
	semicolons(copy);
	if (a->nmounts == MOUNT_TABLE_MAX)
		return bad(err, name, value, "a container has at most 64 of these");
	source = strchr(copy, '=');
	if (!source)
		return bad(err, name, value, "use TARGET=SOURCE, as in /data=local:/srv/data");
	*source++ = '\0';
	if (path_check(copy, MOUNT_PATH_MAX) < 0 || !strcmp(copy, "/"))
		return bad(
		    err, name, value,
		    "the target must be an absolute path below /, without \"..\" and shorter "
		    "than 256 bytes");
	mount = &a->mount[a->nmounts++];
	r = source_parse(source, &mount->parsed, &end, err);
	if (r < 0)
		return err_prefix(err, r, "annotation %s", name);
	if (*end) {
		options = source + (end - source) + 1;
		options[-1] = '\0';
	}
	mount->annotation = strdup(name);
	mount->target = strdup(copy);
	mount->source = strdup(source);
	if (!mount->annotation || !mount->target || !mount->source)
		return -ENOMEM;
	while (options) {
		char *option = strsep(&options, ",");

		r = mount_option(mount, option);
		if (r == -EINVAL)
			return bad(err, name, value, "options are ro, id=NAME, timeout=SECONDS");
		if (r < 0)
			return r;
	}
	return 0;
}

/* A name that ends in '.' takes any suffix. */
static const struct annotation {
	const char *name;
	int (*parse)(struct annotations *a, const char *name, const char *value, struct err *err);
	const char *by_default, *help;
} table[] = {
    {"danaus", parse_on, "off",
     "on: with nothing else, serve every directory volume of the container"},
    {"danaus.mount", parse_mount, "none",
     "TARGET=SOURCE[;ro][;id=NAME][;timeout=SECONDS]: serve SOURCE at TARGET; ';' or ','"},
    {"danaus.mount.", parse_mount, "none", "the same, for several mounts: danaus.mount.NAME"},
    {"danaus.pool", parse_pool, "the container", "share one service among containers"},
    {"danaus.cpus", parse_cpus, "the container's cpuset", "CPUs of the service"},
    {"danaus.cache", parse_cache, "a quarter of the memory limit, at most 1g", "cache budget"},
};
#define NTABLE (sizeof(table) / sizeof(table[0]))

const char *annotation_help(unsigned i, const char **ret_name, const char **ret_default)
{
	if (i >= NTABLE)
		return NULL;
	*ret_name = table[i].name;
	*ret_default = table[i].by_default;
	return table[i].help;
}

static const struct annotation *find(const char *key)
{
	for (size_t i = 0; i < NTABLE; i++) {
		size_t len = strlen(table[i].name);

		if (table[i].name[len - 1] == '.' ? !strncmp(key, table[i].name, len) && key[len]
						  : !strcmp(key, table[i].name))
			return &table[i];
	}
	return NULL;
}

static int unknown(const char *key, struct err *err)
{
	char known[32 * NTABLE] = "";
	size_t len = 0;

	for (size_t i = 0; i < NTABLE; i++) {
		const char *name = table[i].name;

		len += snprintf(known + len, sizeof(known) - len, "%s%s%s", i ? ", " : "", name,
				name[strlen(name) - 1] == '.' ? "NAME" : "");
	}
	return err_set(err, -EINVAL, "annotation %.200s is unknown; known are %s", key, known);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int annotations_parse(const json_t *object, struct annotations *ret, struct err *err)
{
	const char *on = json_string_value(json_object_get(object, "danaus")), *key;
	CLEANUP_FREE const char **keys = NULL;
	size_t nkeys = 0;
	json_t *value;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (!on)
		return 0;
	r = parse_on(ret, "danaus", on, err);
	if (r < 0 || !ret->on)
		return r;
	keys = calloc(json_object_size(object), sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	json_object_foreach ((json_t *)object, key, value) {
		if (!strncmp(key, "danaus.", strlen("danaus.")))
			keys[nkeys++] = key;
	}
	qsort(keys, nkeys, sizeof(*keys), by_name);
	for (size_t i = 0; i < nkeys; i++) {
		const struct annotation *entry = find(keys[i]);
		const char *text = json_string_value(json_object_get(object, keys[i]));

		if (!entry)
			return unknown(keys[i], err);
		if (!text)
			return err_set(err, -EINVAL, "annotation %.200s is not a string", keys[i]);
		r = entry->parse(ret, keys[i], text, err);
		if (r < 0)
			return r;
	}
	return 0;
}

void annotations_done(struct annotations *a)
{
	for (unsigned i = 0; i < a->nmounts; i++) {
		free(a->mount[i].annotation);
		free(a->mount[i].target);
		free(a->mount[i].source);
		source_free(a->mount[i].parsed);
		free(a->mount[i].ceph_id);
	}
	free(a->pool);
	free(a->cpus);
	memset(a, 0, sizeof(*a));
}
