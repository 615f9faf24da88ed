/* SPDX-License-Identifier: Apache-2.0 */
/* danaus-runtime: an OCI runtime that edits the config of `create` and `run` and the process.json
 * of `exec`, and then becomes the configured low-level runtime (crun, runc). Everything else passes
 * through as it came. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "oci/caps.h"
#include "oci/config.h"
#include "oci/document.h"
#include "oci/edit.h"
#include "oci/hook_log.h"
#include "oci/rundir.h"
#include "oci/state.h"
#include "shim/arguments.h"

/* Edits BUNDLE/config.json. */
static int edit_bundle(const struct config *config, const char *bundle, const char *file,
		       const char *id, struct err *err)
{
	CLEANUP_FREE char *real = realpath(bundle, NULL), *text = NULL, *path = NULL;
	CLEANUP_JSON json_t *document = NULL, *spec = NULL;
	CLEANUP_FD int dir = real ? open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct stat st;
	size_t len;
	int r = dir < 0 ? -errno : fd_read_file_at(dir, file, DOCUMENT_MAX, &text, &len);

	if (!r)
		r = document_parse(text, len, file, &document, err);
	if (r < 0)
		return err_prefix(err, r, "bundle %s", bundle);

	const struct edit_context context = {
	    .config = config,
	    .bundle = real,
	    .id = id,
	    .containers = RUNDIR_CONTAINERS,
	    .init = EDIT_INIT_FILE,
	    .library = EDIT_LIBRARY_FILE,
	    .hook = EDIT_HOOK_FILE,
	};

	r = edit_config(&context, document, &spec, err);
	if (r < 0 || !spec)
		return r;
	if (asprintf(&path, "%s%s%s", *file == '/' ? "" : real, *file == '/' ? "" : "/", file) <
		0 ||
	    json_object_set_new(spec, "config", json_string(path)) < 0)
		return -ENOMEM;
	r = fstatat(dir, file, &st, 0) < 0 ? -errno : rundir_make(spec, text, len, err);
	if (!r)
		r = document_write_at(dir, file, st.st_mode & 0777, document, err);
	return r;
}

static int edit_process_file(const char *path, struct err *err)
{
	CLEANUP_JSON json_t *document = NULL;
	struct stat st;
	int r = document_read_at(AT_FDCWD, path, &document, err);

	if (!r)
		r = edit_process(document, err);
	if (!r)
		r = stat(path, &st) < 0
			? -errno
			: document_write_at(AT_FDCWD, path, st.st_mode & 0777, document, err);
	return r;
}

/* A command line takes its capabilities from the config that the runtime has kept, the edited one:
 * init goes in front of the command here as well, with those of the original. */
static int prefix_command(const char *dir, int argc, char ***argv, int id, struct err *err)
{
	CLEANUP_JSON json_t *config = NULL;
	static char text[CAPS_TEXT_MAX];
	char path[PATH_MAX], **longer;
	struct caps caps;
	int r;

	snprintf(path, sizeof(path), "%s/config.json", dir);
	r = document_read_at(AT_FDCWD, path, &config, err);
	if (r < 0)
		return r;
	caps_of_process(json_object_get(config, "process"), &caps);
	caps_format(&caps, text);
	longer = calloc(argc + 3, sizeof(*longer));
	if (!longer)
		return -ENOMEM;
	memcpy(longer, *argv, (id + 1) * sizeof(*longer));
	longer[id + 1] = (char *)GUEST_INIT;
	longer[id + 2] = text;
	memcpy(longer + id + 3, *argv + id + 1, (argc - id - 1) * sizeof(*longer));
	*argv = longer; /* for execv() */
	return 0;
}

static int edit_exec(int argc, char ***argv, const struct arguments *a, struct err *err)
{
	char dir[PATH_MAX - 16];
	struct stat st;

	if (a->id == argc || id_check((*argv)[a->id], ID_MAX) < 0 ||
	    snprintf(dir, sizeof(dir), RUNDIR_CONTAINERS "/%s", (*argv)[a->id]) >=
		(int)sizeof(dir) ||
	    stat(dir, &st) < 0)
		return 0; /* no container of ours */
	if (a->process)
		return edit_process_file(a->process, err);
	if (a->id + 1 == argc || a->caps)
		return 0; /* nothing to run; or whoever asks for capabilities gets them */
	return prefix_command(dir, argc, argv, a->id, err);
}

static int edit(const struct config *config, int argc, char ***argv, struct err *err)
{
	struct arguments a;

	arguments_read(argc, *argv, &a);
	if (a.verb == VERB_CREATE && a.id < argc)
		return edit_bundle(config, a.bundle ? a.bundle : ".",
				   a.config ? a.config : "config.json", (*argv)[a.id], err);
	return a.verb == VERB_EXEC ? edit_exec(argc, argv, &a, err) : 0;
}

int main(int argc, char **argv)
{
	struct config config;
	struct err err = {0};
	const char *runtime;
	int r = config_read(CONFIG_PATH, &config, &err);

	if (!r)
		r = config_runtime(&config, &runtime, &err);
	if (!r)
		r = edit(&config, argc, &argv, &err);
	if (r < 0)
		return hook_fail("danaus-runtime", &err, r);
	argv[0] = (char *)runtime;
	execv(runtime, argv);
	r = -errno;
	err_set(&err, r, "cannot run %s: %s", runtime, strerror(-r));
	return hook_fail("danaus-runtime", &err, r);
}
