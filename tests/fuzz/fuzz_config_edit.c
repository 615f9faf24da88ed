/* SPDX-License-Identifier: Apache-2.0 */
/* The edit of a config.json over the machine's own root, which is only read. What comes out is
 * JSON, and a second edit changes nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/log.h"
#include "oci/document.h"
#include "oci/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_edited(const struct edit_context *context, json_t *document)
{
	json_t *again = NULL, *spec = NULL;
	struct err err = {0};
	char *text;

	if (document_dump(document, &text) < 0 ||
	    document_parse(text, strlen(text), "the result", &again, &err) < 0)
		abort();
	if (!edit_is_done(again) || edit_config(context, again, &spec, &err) < 0 || spec ||
	    !json_equal(again, document))
		abort();
	json_decref(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config = {.document = json_object(), .timeout_s = 30};
	const struct edit_context context = {
	    .config = &config,
	    .bundle = "/",
	    .id = "c1",
	    .containers = "/nonexistent",
	    .init = "/",
	    .library = "/",
	    .hook = "/h",
	};
	json_t *document = NULL, *spec = NULL, *root, *process;
	struct err err = {0};
	int r;

	log_open("fuzz", LOG_ERROR);
	r = document_parse((const char *)data, size, "config.json", &document, &err);
	if (r < 0 && !err.text[0])
		abort();
	if (!r) {
		if (document_object(document, "root", &root) == 0)
			json_object_set_new(root, "path", json_string("/"));
		process = json_deep_copy(json_object_get(document, "process"));
		edit_process(process, &err);
		json_decref(process);
		err.text[0] = '\0';
		r = edit_config(&context, document, &spec, &err);
		if (r < 0 && !err.text[0])
			abort();
		if (!r && spec)
			check_edited(&context, document);
		json_decref(spec);
		json_decref(document);
	}
	json_decref(config.document);
	return 0;
}
