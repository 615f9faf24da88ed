/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of programs as the notify door takes them apart: which volume, which descriptor. Whatever
 * is found must be what a plain reading, component by component, finds too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/notify/resolve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct container container;

static void add(const char *target)
{
	strcpy(container.volumes[container.nvolumes++].target, target);
}

/* path without "." and repeated slashes, as far as the first "..". */
static void plain(const char *path, char *out)
{
	size_t n = 0;

	while (*path) {
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 2 && !strncmp(path, "..", 2))
			break;
		if (len && !(len == 1 && *path == '.')) {
			out[n++] = '/';
			memcpy(out + n, path, len);
			n += len;
		}
		path += len;
	}
	out[n] = '\0';
}

static struct volume *expected(const char *path)
{
	char buf[4200];

	plain(path, buf);
	for (unsigned i = 0; i < container.nvolumes; i++) {
		size_t len = strlen(container.volumes[i].target);

		if (!strncmp(buf, container.volumes[i].target, len) &&
		    (!buf[len] || buf[len] == '/'))
			return &container.volumes[i];
	}
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[4098];
	const char *rest = NULL;
	struct volume *volume;
	int fd;

	if (!container.nvolumes) {
		add("/data/sub/deep");
		add("/srv/a.b");
		add("/data");
	}
	if (size > 4095)
		size = 4095;
	path[0] = '/';
	memcpy(path + 1, data, size);
	path[size + 1] = '\0';
	volume = container_volume_of(&container, path, &rest);
	if (volume != expected(path))
		abort();
	if (volume && (rest < path || rest > path + strlen(path) || *rest == '/'))
		abort();
	fd = path_descriptor(path, 7, &rest);
	if (fd < -1)
		abort();
	if (fd >= 0 && (rest < path || rest > path + strlen(path) || *rest == '/'))
		abort();
	return 0;
}
