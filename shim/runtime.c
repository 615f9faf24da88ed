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
#include "oci/hook_log.h"
#include "oci/config.h"
#include "oci/document.h"
#include "oci/edit.h"
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
	CLEANUP_FREE char *real = realpath(bundle, NULL);
	CLEANUP_JSON json_t *document = NULL, *spec = NULL;
	CLEANUP_FD int dir = real ? open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct stat st;
	int r = dir < 0 ? -errno : document_read_at(dir, file, &document, err);

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
	r = fstatat(dir, file, &st, 0) < 0 ? -errno : rundir_make(spec, err);
	if (!r)
		r = document_write_at(dir, file, st.st_mode & 0777, document, err);
	return r;
}

static int edit_exec(const char *process, const char *id, struct err *err)
{
	CLEANUP_JSON json_t *document = NULL, *spec = NULL;
	char dir[PATH_MAX];
	struct stat st;
	int r;

	if (!process || id_check(id, ID_MAX) < 0 ||
	    snprintf(dir, sizeof(dir), RUNDIR_CONTAINERS "/%s", id) >= (int)sizeof(dir) ||
	    stat(dir, &st) < 0)
		return 0; /* no container of ours; or a command line, which the kernel face serves */
	r = document_read_at(AT_FDCWD, process, &document, err);
	if (!r)
		r = edit_process(document, err);
	if (!r)
		r = stat(process, &st) < 0 ? -errno
					   : document_write_at(AT_FDCWD, process, st.st_mode & 0777,
							       document, err);
	return r;
}

static int edit(const struct config *config, int argc, char **argv, struct err *err)
{
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
	if (!strcmp(argv[verb], "exec")) {
		id = skip_options(argc, argv, verb + 1, exec_values);
		return id == argc ? 0
				  : edit_exec(option_value(argv, verb, id, "--process", "-p"),
					      argv[id], err);
	}
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
		r = edit(&config, argc, argv, &err);
	if (r < 0)
		return hook_fail("danaus-runtime", &err, r);
	argv[0] = (char *)runtime;
	execv(runtime, argv);
	r = -errno;
	err_set(&err, r, "cannot run %s: %s", runtime, strerror(-r));
	return hook_fail("danaus-runtime", &err, r);
}
