/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on open files, and those whose only result is an error. */
#include "preload/wrap.h"

/* Operations that begin with a path: on an open file it is empty. */
static bool takes_path(unsigned op)
{
	static const uint8_t pieces[] = {
#define OP(NAME, name, flags, first, second) [WIRE_##NAME] = WIRE_PIECE_##first,
#include "danaus/proto/ops.def"
#undef OP
	};

	return pieces[op] == WIRE_PIECE_PATH;
}

/* Operations that leave the open file as it was, but for its position. */
static bool leaves_as_is(unsigned op)
{
	return op == WIRE_STAT || op == WIRE_SEEK || op == WIRE_GETFL || op == WIRE_FSYNC ||
	       op == WIRE_GETXATTR || op == WIRE_LISTXATTR || op == WIRE_STATFS;
}

int file_run(struct ofile *file, const struct path_args *args, struct call *call)
{
	struct wire_request *request;
	int r;

	if (!leaves_as_is(args->op))
		ofile_spoil(file);
	r = call_begin(call, args->op);
	if (r < 0)
		return r;
	request = call_request(call);
	request_fill(request, file->handle, args);
	if (takes_path(args->op)) {
		call->payload[0] = '\0';
		request->len1 = 1;
	}
	if (args->data) {
		memcpy(call->payload + request->len1, args->data, args->data_bytes);
		if (request->len1)
			request->len2 = args->data_bytes;
		else
			request->len1 = args->data_bytes;
	}
	return call_run(call);
}

int file_do(struct ofile *file, const struct path_args *args)
{
	struct call call;
	int r = file_run(file, args, &call);

	call_end(&call);
	return r;
}

int path_do(struct target *target, const struct path_args *args)
{
	struct call call;
	int r = path_run(target, args, &call);

	call_end(&call);
	return r;
}
