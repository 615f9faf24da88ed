/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing; pure. */
#include "oci/state.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "oci/document.h"

int id_check(const char *id, size_t max)
{
	size_t len =
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+:");

	return len && !id[len] && len < max && id[0] != '.' ? 0 : -EINVAL;
}

int state_parse(const char *text, size_t len, struct state *ret, struct err *err)
{
	CLEANUP_JSON json_t *state = NULL;
	const char *id, *bundle;
	json_int_t pid;
	int r = document_parse(text, len, "the container state on standard input", &state, err);

	if (r < 0)
		return r;
	id = json_string_value(json_object_get(state, "id"));
	if (!id || id_check(id, ID_MAX) < 0)
		return err_set(err, -EINVAL, "the container state has no usable \"id\"");
	pid = json_integer_value(json_object_get(state, "pid"));
	if (pid < 0 || pid > INT_MAX)
		return err_set(err, -EINVAL, "the container state has a wrong \"pid\"");
	bundle = json_string_value(json_object_get(state, "bundle"));
	if (!bundle)
		bundle = "";
	if (strlen(bundle) >= sizeof(ret->bundle) || (*bundle && *bundle != '/'))
		return err_set(err, -EINVAL, "the container state has a wrong \"bundle\"");
	strcpy(ret->id, id);
	strcpy(ret->bundle, bundle);
	ret->pid = pid;
	return 0;
}
