/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-shim-danaus-v2: what containerd starts for the runtime type io.containerd.danaus.v2.
 * It puts a directory whose `runc` is danaus-runtime first in PATH and becomes
 * containerd-shim-runc-v2, which keeps the whole shim protocol. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHIM	  "containerd-shim-runc-v2"
#define OUR_RUNC  DANAUS_LIBEXECDIR "/shim"
#define SAFE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int main(int argc, char **argv)
{
	const char *old = getenv("PATH");
	char *path;

	if (!old || !*old)
		old = SAFE_PATH;
	/* Started again by itself, PATH has the directory already. */
	if (strncmp(old, OUR_RUNC ":", strlen(OUR_RUNC) + 1) != 0) {
		if (asprintf(&path, OUR_RUNC ":%s", old) < 0 || setenv("PATH", path, 1) < 0) {
			perror("containerd-shim-danaus-v2");
			return 1;
		}
	}
	argv[0] = (char *)SHIM;
	execvp(SHIM, argv);
	fprintf(stderr, "containerd-shim-danaus-v2: cannot run " SHIM ": %s; install containerd\n",
		strerror(errno));
	return 1;
}
