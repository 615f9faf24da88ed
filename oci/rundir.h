/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a container at run time, /run/danaus/containers/ID (docs/protocol.md). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "danaus/base/err.h"

#define RUNDIR		  "/run/danaus"
#define RUNDIR_POOLS	  RUNDIR "/pools"
#define RUNDIR_CONTAINERS RUNDIR "/containers"

/* Makes the directory that spec["dir"] names, with spec.json, config.json (original, the config
 * before the edit), guest/ (init, libdanaus.so: empty files to bind on; ld.so.preload) and empty/,
 * in place of an old one. Takes those away that were made two minutes ago and more, and of which
 * no hook has come: a runtime refused the container. */
int rundir_make(const json_t *spec, const char *original, size_t len_bytes, struct err *err);

/* Puts the original config.json back into the bundle, once the runtime has read the edited one:
 * engines take an exec's capabilities from it, and init's are for init alone. bundle is the
 * runtime's word for it; spec["config"] names another file. */
int rundir_restore(const char *dir, const json_t *spec, const char *bundle, struct err *err);

/* spec.json of dir; dir must be a directory below containers. */
int rundir_spec(const char *dir, json_t **ret_spec, struct err *err);

/* Notes that the container's first process is there; from then on the directory lives as long as
 * the process, or until rundir_remove(). */
int rundir_started(const char *dir, pid_t pid, struct err *err);

/* Removes dir and all that is in it; a missing one is fine. */
int rundir_remove(const char *dir);

/* Removes from containers ("/run/danaus/containers") what belongs to no living process: such
 * directories stay when a runtime fails before or after its hooks. pool: only what is of that one;
 * NULL: all. is_left (may be NULL) is asked about the pool and the name of each; it may take long.
 */
void rundir_sweep(const char *containers, const char *pool,
		  bool (*is_left)(const char *pool, const char *name));
