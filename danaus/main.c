/* SPDX-License-Identifier: Apache-2.0 */
/* danausd: the service of one pool. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "danaus/base/log.h"
#include "danaus/base/parse.h"
#include "danaus/server/server.h"

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"pool", required_argument, NULL, 'p'},
	    {"ready-fd", required_argument, NULL, 'r'},
	    {"cpus", required_argument, NULL, 'c'},
	    {"run-dir", required_argument, NULL, 'd'},
	    {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	static const char usage[] =
	    "usage: danausd --pool NAME [--ready-fd FD] [--cpus LIST] [--run-dir DIR]\n";
	struct server_options chosen = {.run_dir = "/run/danaus", .ready_fd = -1};
	uint64_t fd;
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
			if (parse_u64(optarg, 1 << 20, &fd) < 0 || fcntl(fd, F_GETFD) < 0) {
				fprintf(stderr, "danausd: --ready-fd %s: no descriptor\n", optarg);
				return 2;
			}
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			chosen.ready_fd = fd;
			break;
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
