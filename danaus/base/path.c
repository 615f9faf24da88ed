/* SPDX-License-Identifier: Apache-2.0 */
/* Pure functions on hostile text. Any thread. */
#include "danaus/base/path.h"

#include <errno.h>
#include <string.h>

int path_check(const char *path, size_t max)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len >= max)
		return -EINVAL;
	for (const char *p = path + 1; len > 1;) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return -EINVAL;
		if (!p[n])
			break;
		p += n + 1;
	}
	return 0;
}

bool path_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (len == 1)
		return true;
	return !strncmp(path, dir, len) && (path[len] == '/' || !path[len]);
}
