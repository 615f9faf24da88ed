/* SPDX-License-Identifier: Apache-2.0 */
/* danausd: the service of one pool. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "danaus/base/log.h"
#include "danaus/base/parse.h"
#include "danaus/server/server.h"

static bool inherited(const char *option, const char *text, int *ret)
{
	uint64_t fd;

	if (parse_u64(text, 1 << 20, &fd) < 0 || fcntl(fd, F_GETFD) < 0) {
		fprintf(stderr, "danausd: %s %s: no descriptor\n", option, text);
		return false;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	*ret = fd;
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"pool", required_argument, NULL, 'p'},
	    {"ready-fd", required_argument, NULL, 'r'},
	    {"guard-fd", required_argument, NULL, 'g'},
	    {"cpus", required_argument, NULL, 'c'},
	    {"run-dir", required_argument, NULL, 'd'},
	    {"version", no_argument, NULL, 'V'},
	    {"give-back", no_argument, NULL, 'b'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	static const char usage[] = "usage: danausd --pool NAME [--ready-fd FD] [--guard-fd FD] "
				    "[--cpus LIST] [--run-dir DIR]\n"
				    "       danausd --give-back < SPEC.JSON\n";
	struct server_options chosen = {.run_dir = "/run/danaus", .ready_fd = -1, .guard_fd = -1};
	int c;

	log_open("danausd", LOG_INFO);
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'p':
			chosen.pool = optarg;
			break;
		case 'c':
			chosen.cpus = optarg;
			break;
		case 'd':
			chosen.run_dir = optarg;
			break;
		case 'r':
			if (!inherited("--ready-fd", optarg, &chosen.ready_fd))
				return 2;
			break;
		case 'g':
			if (!inherited("--guard-fd", optarg, &chosen.guard_fd))
				return 2;
			break;
		case 'b':
			return give_back(STDIN_FILENO);
		case 'V':
			printf("danausd %s\n", DANAUS_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (!chosen.pool || optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	return server_run(&chosen);
}
