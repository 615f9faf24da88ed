/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl stats. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	json_object_foreach(json_object_get(answer, "stats"), door, ops)
	{
		json_object_foreach(ops, name, op)
		    printf("  %-7s %-12s %12lld %9lld %15lld %10.1f %10.1f %10.1f\n", door, name,
			   (long long)json_integer_value(json_object_get(op, "count")),
			   (long long)json_integer_value(json_object_get(op, "errors")),
			   (long long)json_integer_value(json_object_get(op, "bytes")),
			   us(op, "p50_ns"), us(op, "p90_ns"), us(op, "p99_ns"));
	}
}

static void collect_pool(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	json_object_set_new(arg, pool,
			    answer ? json_incref(json_object_get(answer, "stats"))
				   : json_pack("{s:s}", "error", err->text));
}

int verb_stats(int argc, char **argv)
{
	const char *run_dir = "/run/danaus", *pool = NULL;
	int json = 0, r;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			json = 1;
		} else if (!strcmp(argv[i], "--run-dir") && i + 1 < argc) {
			run_dir = argv[++i];
		} else if (argv[i][0] == '-' || pool) {
			fprintf(stderr, "danausctl stats: unexpected %s\n", argv[i]);
			return 2;
		} else {
			pool = argv[i];
		}
	}
	if (json) {
		json_t *all = json_object();

		r = ctl_each_pool(run_dir, pool, "stats", collect_pool, all);
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		r = ctl_each_pool(run_dir, pool, "stats", print_pool, NULL);
	}
	if (r == -ENOENT && pool)
		fprintf(stderr, "danausctl stats: no pool named %s\n", pool);
	else if (r < 0)
		fprintf(stderr, "danausctl stats: %s: %s\n", run_dir, strerror(-r));
	return r ? 1 : 0;
}
