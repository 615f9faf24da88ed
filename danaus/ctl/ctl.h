/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl: one function per verb, and how it talks to the pools' services. A verb's argv[0] is
 * its own name; it prints to standard output and returns the program's exit code. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "danaus/base/err.h"

int verb_annotations(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_stats(int argc, char **argv);
int verb_check(int argc, char **argv);
int verb_configure(int argc, char **argv);

#define CTL_TIMEOUT_MS	   3000
#define CTL_PODMAN_DROP_IN "/etc/containers/containers.conf.d/50-danaus.conf"
#define CTL_PODMAN_HOOKS   DANAUS_LIBEXECDIR "/hooks.d"
#define CTL_CRIO_DROP_IN   "/etc/crio/crio.conf.d/50-danaus.conf"

/* The value of option name where argv[*i] is that, "--name=VALUE" or "--name VALUE", of which *i
 * becomes the last word; NULL: it is something else, or without a value. */
const char *ctl_value(int argc, char **argv, int *i, const char *name);

/* What list and stats take. */
struct ctl_options {
	const char *run_dir, *pool; /* pool NULL: all */
	bool json;
};

/* False: something else was given, which standard error names. */
bool ctl_options(int argc, char **argv, bool takes_pool, struct ctl_options *ret);

/* Gets a pool's answer, or NULL and the reason. */
typedef void ctl_pool_fn(const char *pool, json_t *answer, const struct err *err, void *arg);

/* Calls fn for each pool below run_dir in the order of their names, with the answer to {"op": op}:
 * a dead or hung service is waited for at most CTL_TIMEOUT_MS. only: that pool alone, or NULL.
 * Returns the number of pools without an answer, or -errno (-ENOENT: no pool of that name). */
int ctl_each_pool(const char *run_dir, const char *only, const char *op, ctl_pool_fn *fn,
		  void *arg);
/* What a verb called op does: each pool's answer by print_pool, or, that being NULL, all of them as
 * one JSON object; of each answer the member `part`, or all of it for NULL. Standard error says
 * when there is no pool to print. Returns the exit code. */
int ctl_show(const char *run_dir, const char *only, const char *op, const char *part,
	     ctl_pool_fn *print_pool);
/* One request to one pool; *ret is a new reference. */
int ctl_ask(const char *run_dir, const char *pool, const char *op, json_t **ret, struct err *err);
