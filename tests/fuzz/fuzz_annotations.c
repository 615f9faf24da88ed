/* SPDX-License-Identifier: Apache-2.0 */
/* The annotations of a container: an input is lines of KEY=VALUE. The service understands each
 * source that is taken. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/path.h"
#include "oci/annotations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *rest = text, *line;
	json_t *object = json_pack("{s:s}", "danaus", "on");
	struct annotations a;
	struct source *source;
	struct err err = {0};
	int r;

	while ((line = strsep(&rest, "\n"))) {
		char *value = strchr(line, '=');

		if (!value)
			continue;
		*value++ = '\0';
		json_object_set_new(object, line, json_string(value)); /* no UTF-8: left out */
	}
	r = annotations_parse(object, &a, &err);
	if (r < 0 && !err.text[0])
		abort();
	for (unsigned i = 0; !r && i < a.nmounts; i++) {
		if (path_check(a.mount[i].target, MOUNT_PATH_MAX) < 0 || !a.mount[i].target[1])
			abort();
		source = NULL;
		if (source_parse(a.mount[i].source, &source, NULL, &err) < 0)
			abort();
		source_free(source);
	}
	annotations_done(&a);
	json_decref(object);
	free(text);
	return 0;
}
