/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes of a container Danaus serves, decided from its config and annotations. */
#pragma once

#include <jansson.h>

#include "danaus/base/err.h"
#include "oci/annotations.h"
#include "oci/config.h"

struct volumes_context {
	const struct annotations *annotations;
	const struct config *config;
	const char *pool;
	const char *bundle; /* sources of bind mounts may be relative to it */
	int root;	    /* the rootfs, a directory descriptor */
	bool trusted;	    /* config_allows_local() */
};

/* Fills volumes, an empty array, with {"target", "source", "ro", "flags": ["nosuid", ...], "make"}
 * sorted so that a parent comes before what lies below it. flags are the bind mount's own, for the
 * kernel face that takes its place; "make" is true where the config has no mount at target yet
 * (danaus.mount) and the config edit adds one. *ret_ceph is the identity in use (name NULL:
 * none). Mounts that are not Danaus's stay on top of nothing: a bind volume with one below it is
 * left alone, a danaus.mount with one is an error. */
int volumes_collect(const struct volumes_context *context, const json_t *mounts, json_t *volumes,
		    struct config_ceph *ret_ceph, unsigned *ret_timeout_s, struct err *err);
