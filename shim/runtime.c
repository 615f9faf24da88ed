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

/* Options that take their value in the next argument: of crun and runc, before the verb, then of
 * the verbs that are edited. Those written --name=value need no entry. */
static const char *const global_values[] = {"--log",	   "--log-format", "--log-level", "--root",
					    "--criu",	   "--rootless",   "--cgroup-manager",
					    "--rootless", NULL};
static const char *const create_values[] = {"-b", "--bundle", "-f", "--config", "--console-socket",
					    "--pid-file", "--preserve-fds", "--pidfd-socket", NULL};
static const char *const exec_values[] = {
    "-p",	"--process",	  "--console-socket", "--pid-file", "--pidfile",  "--cwd",
    "-e",	"--env",	  "-u",		      "--user",	    "-g",	  "--additional-gids",
    "-a",	"--apparmor",	  "-c",		      "--cap",	    "--preserve-fds", "--cgroup",
    "--process-label", NULL};

static bool takes_value(const char *const *list, const char *arg)
{
	for (; *list; list++) {
		if (!strcmp(*list, arg))
			return true;
	}
	return false;
}

/* The index of the next argument that is no option, from i on; argc when there is none. */
static int skip_options(int argc, char **argv, int i, const char *const *values)
{
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--"))
			return i + 1;
		i += takes_value(values, argv[i]);
	}
	return i < argc ? i : argc;
}

/* The value of an option between from and to, by its long or short name; NULL. */
static const char *option_value(char **argv, int from, int to, const char *name, const char *brief)
{
	size_t len = strlen(name);

	for (int i = from; i < to; i++) {
		if ((!strcmp(argv[i], name) || !strcmp(argv[i], brief)) && i + 1 < to)
			return argv[i + 1];
		if (!strncmp(argv[i], name, len) && argv[i][len] == '=')
			return argv[i] + len + 1;
	}
	return NULL;
}

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
	if (asprintf(&path, "%s%s%s", *file == '/' ? "" : real, *file == '/' ? "" : "/", file) < 0 ||
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
		r = stat(path, &st) < 0 ? -errno
					: document_write_at(AT_FDCWD, path, st.st_mode & 0777,
							    document, err);
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
	longer[id + 1] = (char *)EDIT_INIT;
	longer[id + 2] = text;
	memcpy(longer + id + 3, *argv + id + 1, (argc - id - 1) * sizeof(*longer));
	*argv = longer; /* for execv() */
	return 0;
}

static int edit_exec(int argc, char ***argv, int verb, struct err *err)
{
	int id = skip_options(argc, *argv, verb + 1, exec_values);
	const char *process = option_value(*argv, verb, id, "--process", "-p");
	char dir[PATH_MAX - 16];
	struct stat st;

	if (id == argc || id_check((*argv)[id], ID_MAX) < 0 ||
	    snprintf(dir, sizeof(dir), RUNDIR_CONTAINERS "/%s", (*argv)[id]) >= (int)sizeof(dir) ||
	    stat(dir, &st) < 0)
		return 0; /* no container of ours */
	if (process)
		return edit_process_file(process, err);
	if (id + 1 == argc || option_value(*argv, verb, id, "--cap", "-c"))
		return 0; /* nothing to run; or whoever asks for capabilities gets them */
	return prefix_command(dir, argc, argv, id, err);
}

static int edit(const struct config *config, int argc, char ***argvp, struct err *err)
{
	char **argv = *argvp;
	int verb = skip_options(argc, argv, 1, global_values), id;
	const char *bundle, *file;

	if (verb == argc)
		return 0;
	if (!strcmp(argv[verb], "create") || !strcmp(argv[verb], "run")) {
		id = skip_options(argc, argv, verb + 1, create_values);
		bundle = option_value(argv, verb, id, "--bundle", "-b");
		file = option_value(argv, verb, id, "--config", "-f");
		return id == argc ? 0
				  : edit_bundle(config, bundle ? bundle : ".",
						file ? file : "config.json", argv[id], err);
	}
	if (!strcmp(argv[verb], "exec"))
		return edit_exec(argc, argvp, verb, err);
	return 0;
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
