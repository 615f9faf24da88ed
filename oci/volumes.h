/* SPDX-License-Identifier: Apache-2.0 */
/* Which volumes of a container Danaus serves, decided from its config and annotations. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "danaus/base/err.h"
#include "oci/annotations.h"
#include "oci/config.h"

/* Options of a bind mount that hold for the kernel face as well: attributes to set and to clear
 * (mount_setattr(2)). */
#define VOLUME_FLAGS 7
extern const struct volume_flag {
	const char *name;
	uint64_t set, clear;
} volume_flags[VOLUME_FLAGS];

struct volumes_context {
	const struct annotations *annotations;
	const struct config *config;
	const char *pool;
	const char *bundle; /* sources of bind mounts may be relative to it */
	int root;	    /* the rootfs, a directory descriptor */
	bool trusted;	    /* config_allows_local() */
};

/* Fills volumes, an empty array, with {"target", "source", "ro", "flags": ["nosuid", ...], "make"}
 * sorted so that a parent comes before what lies below it. flags are the bind mount's own, by their
 * names; "make" is true where the config has no mount at target yet (danaus.mount) and the config
 * edit adds one. *ret_ceph is the identity in use (name NULL: none). Mounts that are not Danaus's
 * stay on top of nothing: a bind volume with one below it is left alone, a danaus.mount with one is
 * an error. */
int volumes_collect(const struct volumes_context *context, const json_t *mounts, json_t *volumes,
		    struct config_ceph *ret_ceph, unsigned *ret_timeout_s, struct err *err);
