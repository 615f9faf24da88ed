/* SPDX-License-Identifier: Apache-2.0 */
/* The administrator's configuration, /etc/danaus/danaus.json. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "danaus/base/err.h"
#include "danaus/base/log.h"

#define CONFIG_PATH	     DANAUS_SYSCONFDIR "/danaus/danaus.json"
#define CONFIG_TIMEOUT_MAX_S 3600
#define CONFIG_IDENTITY_MAX  129 /* a ceph identity's name here, with its NUL */

/* A cephx identity that containers may be granted. */
struct config_ceph {
	const char *name; /* as in ",id=NAME" */
	const char *conf, *keyring, *id;
	const json_t *allow; /* patterns (fnmatch(3)) of pools that may use it; NULL: none */
	const json_t *paths; /* directories it may mount, and what is below; NULL: all */
};

struct config {
	json_t *document;
	const json_t *runtimes; /* absolute paths, the first that exists counts */
	enum log_level log_level;
	unsigned timeout_s;
	const json_t *local_sources; /* directories; NULL: see config_allows_local() */
};

/* Reads path; a missing file is the defaults. An unknown key or a wrong type is -EINVAL with the
 * key's name. The result is ended with config_done(), also after a failure. */
int config_read(const char *path, struct config *ret, struct err *err);
void config_done(struct config *config);

/* The first configured low-level runtime that can be executed and is not this program itself;
 * borrowed. -ENOENT with what was looked for. */
int config_runtime(const struct config *config, const char **ret, struct err *err);

/* Whether annotations may name the host directory dir. Where "local_sources" is not configured, it
 * depends on who wrote the annotations: trusted when it was somebody who can bind-mount any
 * directory anyway (podman's command line), not so for the annotations of a Kubernetes pod. */
bool config_allows_local(const struct config *config, bool trusted, const char *dir);

/* The identity name (NULL: the only one that is granted to the pool) for mounting path; -EACCES
 * with the reason when it does not exist or is not granted. */
int config_ceph(const struct config *config, const char *name, const char *pool, const char *path,
		struct config_ceph *ret, struct err *err);
