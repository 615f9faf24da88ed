/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl list. */
#include <stdio.h>

#include "danaus/ctl/ctl.h"

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

static void print_pool(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	json_t *containers = json_object_get(answer, "containers"), *container, *volume;
	json_t *cgroups = json_object_get(answer, "cgroup"), *path;
	const char *controller;
	size_t i, j;

	if (!answer) {
		printf("pool %s: %s\n", pool, err->text);
		return;
	}
	printf("pool %s  pid %lld  cpus %s  memory %.1f MiB\n", pool,
	       (long long)json_integer_value(json_object_get(answer, "pid")),
	       text_of(answer, "cpus"),
	       json_integer_value(json_object_get(answer, "memory_bytes")) / 1048576.0);
	json_object_foreach (cgroups, controller, path)
		printf("  cgroup %s %s\n", *controller ? controller : "v2",
		       json_string_value(path));
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
