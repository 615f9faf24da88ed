/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the runtime's command line. danaus-runtime; owns nothing. */
#include "shim/arguments.h"

#include <stddef.h>
#include <string.h>

/* Options that take their value in the next argument: of crun and runc, before the verb, then of
 * the verbs that are edited. Those written --name=value need no entry. */
static const char *const global_values[] = {"--log",  "--log-format", "--log-level",	  "--root",
					    "--criu", "--rootless",   "--cgroup-manager", NULL};
static const char *const create_values[] = {"-b",
					    "--bundle",
					    "-f",
					    "--config",
					    "--console-socket",
					    "--pid-file",
					    "--preserve-fds",
					    "--pidfd-socket",
					    NULL};
static const char *const exec_values[] = {"-p",
					  "--process",
					  "--console-socket",
					  "--pid-file",
					  "--pidfile",
					  "--cwd",
					  "-e",
					  "--env",
					  "-u",
					  "--user",
					  "-g",
					  "--additional-gids",
					  "-a",
					  "--apparmor",
					  "-c",
					  "--cap",
					  "--preserve-fds",
					  "--cgroup",
					  "--process-label",
					  NULL};

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
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		i += takes_value(values, argv[i]);
	}
	return i < argc ? i : argc;
}

/* The value of an option between from and to, by its long or short name; NULL. The last one counts,
 * and what is an option's value is no option. */
static const char *option_value(char **argv, int from, int to, const char *const *values,
				const char *name, const char *brief)
{
	const char *found = NULL;
	size_t len = strlen(name);

	for (int i = from; i < to; i++) {
		if ((!strcmp(argv[i], name) || !strcmp(argv[i], brief)) && i + 1 < to)
			found = argv[i + 1];
		if (!strncmp(argv[i], name, len) && argv[i][len] == '=')
			found = argv[i] + len + 1;
		i += takes_value(values, argv[i]);
	}
	return found;
}

void arguments_read(int argc, char **argv, struct arguments *ret)
{
	int verb = skip_options(argc, argv, 1, global_values), from = verb + 1;

	*ret = (struct arguments){.verb = VERB_OTHER, .id = argc};
	if (verb == argc)
		return;
	if (!strcmp(argv[verb], "create") || !strcmp(argv[verb], "run")) {
		ret->verb = VERB_CREATE;
		ret->id = skip_options(argc, argv, from, create_values);
		ret->bundle = option_value(argv, from, ret->id, create_values, "--bundle", "-b");
		ret->config = option_value(argv, from, ret->id, create_values, "--config", "-f");
	} else if (!strcmp(argv[verb], "exec")) {
		ret->verb = VERB_EXEC;
		ret->id = skip_options(argc, argv, from, exec_values);
		ret->process = option_value(argv, from, ret->id, exec_values, "--process", "-p");
		ret->caps = option_value(argv, from, ret->id, exec_values, "--cap", "-c") != NULL;
	}
}
