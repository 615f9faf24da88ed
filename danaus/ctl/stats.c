/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl stats. */
#include <stdio.h>

#include "danaus/ctl/ctl.h"

static double us(json_t *op, const char *key)
{
	return json_integer_value(json_object_get(op, key)) / 1000.0;
}

static void print_pool(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	const char *door, *name;
	json_t *ops, *op;

	if (!answer) {
		printf("pool %s: %s\n", pool, err->text);
		return;
	}
	printf("pool %s\n  %-7s %-12s %12s %9s %15s %10s %10s %10s\n", pool, "door", "operation",
	       "count", "errors", "bytes", "p50 us", "p90 us", "p99 us");
	json_object_foreach (json_object_get(answer, "stats"), door, ops) {
		json_object_foreach (ops, name, op)
			printf("  %-7s %-12s %12lld %9lld %15lld %10.1f %10.1f %10.1f\n", door,
			       name, (long long)json_integer_value(json_object_get(op, "count")),
			       (long long)json_integer_value(json_object_get(op, "errors")),
			       (long long)json_integer_value(json_object_get(op, "bytes")),
			       us(op, "p50_ns"), us(op, "p90_ns"), us(op, "p99_ns"));
	}
}

int verb_stats(int argc, char **argv)
{
	struct ctl_options options;

	if (!ctl_options(argc, argv, true, &options))
		return 2;
	return ctl_show(options.run_dir, options.pool, "stats", "stats",
			options.json ? NULL : print_pool);
}
