/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl: the administrator's view. A verb is a line in the table. */
#include <stdio.h>
#include <string.h>

#include "danaus/ctl/ctl.h"

static const struct verb {
	const char *name, *args, *help;
	int (*run)(int argc, char **argv);
} verbs[] = {
    {"list", "[--json] [--run-dir DIR]", "the pools, their containers and volumes", verb_list},
    {"stats", "[POOL] [--json] [--run-dir DIR]", "operations, bytes and latencies per door",
     verb_stats},
    {"annotations", "", "what may be asked for a container, and the defaults", verb_annotations},
    {"check", "", "what this machine lacks, and what to do", verb_check},
    {"configure", "--runtime=NAME [--dry-run] [--remove] [--root=DIR]",
     "podman, containerd or crio: drop-in files", verb_configure},
};

static void usage(FILE *out)
{
	fprintf(out, "usage: danausctl VERB\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(out, "  %-11s %-50s %s\n", verbs[i].name, verbs[i].args, verbs[i].help);
	fprintf(out, "  --version\n");
}

static bool wants_help(int argc, char **argv)
{
	return argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
}

int main(int argc, char **argv)
{
	if (argc >= 2 && !strcmp(argv[1], "--version")) {
		printf("danausctl %s\n", DANAUS_VERSION);
		return 0;
	}
	if (wants_help(argc, argv) || (argc == 2 && !strcmp(argv[1], "help"))) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(argv[1], verbs[i].name))
			continue;
		if (!wants_help(argc - 1, argv + 1))
			return verbs[i].run(argc - 1, argv + 1);
		printf("usage: danausctl %s%s%s\n  %s\n", verbs[i].name,
		       verbs[i].args[0] ? " " : "", verbs[i].args, verbs[i].help);
		return 0;
	}
	if (argc >= 2)
		fprintf(stderr, "danausctl: no such verb: %s\n", argv[1]);
	usage(stderr);
	return 2;
}
