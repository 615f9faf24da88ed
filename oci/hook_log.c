/* SPDX-License-Identifier: Apache-2.0 */
/* Owns /run/danaus/hook.log and hook.log.1. Several hooks at a time: each line is one write to a
 * file opened with O_APPEND. */
#include "oci/hook_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "oci/rundir.h"

#define LOG_MAX (1 << 20) /* bytes, then the file becomes hook.log.1 */

int hook_fail(const char *what, const struct err *err, int code)
{
	char line[ERR_TEXT_MAX + 256], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	struct stat st;
	int n;

	strftime(stamp, sizeof(stamp), "%FT%TZ", gmtime_r(&now, &tm));
	n = snprintf(line, sizeof(line), "%s %s: %s\n", stamp, what, err_text(err, code));
	for (char *p = line; p < line + n - 1; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	fd_write_all(STDERR_FILENO, line + strlen(stamp) + 1, n - strlen(stamp) - 1);
	mkdir(RUNDIR, 0711);
	CLEANUP_FD int fd =
	    open(HOOK_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0) {
		fd_write_all(fd, line, n);
		if (fstat(fd, &st) == 0 && st.st_size > LOG_MAX)
			rename(HOOK_LOG, HOOK_LOG ".1");
	}
	return 1;
}
