/* SPDX-License-Identifier: Apache-2.0 */
/* The edit of a container's config.json and of an exec's process.json: the same for podman's
 * precreate hook and for danaus-runtime. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "danaus/base/err.h"
#include "danaus/proto/guest.h"
#include "oci/config.h"

#define EDIT_LD_PRELOAD "/etc/ld.so.preload"

/* The installed files. */
#define EDIT_INIT_FILE	  DANAUS_LIBEXECDIR "/init"
#define EDIT_LIBRARY_FILE DANAUS_LIBDIR "/libdanaus.so"
#define EDIT_HOOK_FILE	  DANAUS_LIBEXECDIR "/danaus-hook"

struct edit_context {
	const struct config *config;
	const char *bundle;	/* absolute */
	const char *id;		/* the container's, or NULL: found in the config, or made up */
	const char *containers; /* RUNDIR_CONTAINERS, but in tests */
	const char *init, *library, *hook; /* the installed files */
};

/* Edits config in place. *ret_spec is a new reference on what the hooks need (docs/protocol.md,
 * spec.json), with "preload", the content of the container's /etc/ld.so.preload; or NULL when there
 * was nothing to do: no danaus=on, a Kubernetes pod's sandbox, or edited already. On failure config
 * is in an undefined state. Nothing outside of config changes. */
int edit_config(const struct edit_context *context, json_t *config, json_t **ret_spec,
		struct err *err);

/* The same for a process.json of `exec` in an edited container; 0 as well when it was edited. */
int edit_process(json_t *process, struct err *err);

/* Whether a config has been edited. */
bool edit_is_done(const json_t *config);

/* Descriptors >= *ret_base are Danaus's, the client library takes [base, light_limit), the notify
 * door what is up to the hard limit. -EINVAL when the limit leaves too little. */
int edit_fd_base(uint64_t hard_limit, int *ret_base, int *ret_light_limit, struct err *err);
