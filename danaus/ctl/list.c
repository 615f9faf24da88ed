/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl list. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "danaus/ctl/ctl.h"

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

static bool is_first(json_t *cgroups, const char *controller, json_t *path)
{
	const char *other;
	json_t *value;

	json_object_foreach (cgroups, other, value) {
		if (json_equal(value, path))
			break;
	}
	return !strcmp(other, controller);
}

/* One line for all controllers of one group. */
static void print_cgroups(json_t *cgroups)
{
	const char *controller, *other;
	json_t *path, *value;

	json_object_foreach (cgroups, controller, path) {
		const char *before = "  cgroup ";

		if (!is_first(cgroups, controller, path))
			continue;
		json_object_foreach (cgroups, other, value) {
			if (!json_equal(value, path))
				continue;
			printf("%s%s", before, *other ? other : "v2");
			before = ",";
		}
		printf(" %s\n", json_string_value(path));
	}
}

static void print_pool(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	json_t *containers = json_object_get(answer, "containers"), *container, *volume;
	size_t i, j;

	if (!answer) {
		printf("pool %s: %s\n", pool, err->text);
		return;
	}
	printf("pool %s  pid %lld  cpus %s  memory %.1f MiB\n", pool,
	       (long long)json_integer_value(json_object_get(answer, "pid")),
	       text_of(answer, "cpus"),
	       json_integer_value(json_object_get(answer, "memory_bytes")) / 1048576.0);
	print_cgroups(json_object_get(answer, "cgroup"));
	json_array_foreach (containers, i, container) {
		printf("  container %s  pid %lld\n", text_of(container, "id"),
		       (long long)json_integer_value(json_object_get(container, "pid")));
		json_array_foreach (json_object_get(container, "volumes"), j, volume)
			printf("    %s = %s%s\n", text_of(volume, "target"),
			       text_of(volume, "source"),
			       json_is_true(json_object_get(volume, "ro")) ? ",ro" : "");
	}
}

int verb_list(int argc, char **argv)
{
	struct ctl_options options;

	if (!ctl_options(argc, argv, false, &options))
		return 2;
	return ctl_show(options.run_dir, NULL, "list", NULL, options.json ? NULL : print_pool);
}
