/* SPDX-License-Identifier: Apache-2.0 */
/* The wire's checks and names. Pure functions, any thread; source of all input: tenant. */
#include "danaus/proto/wire.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned flags;
	enum wire_piece first, second;
} operations[] = {
#define OP(NAME, name, flags, first, second)                                                       \
	[WIRE_##NAME] = {#name, flags, WIRE_PIECE_##first, WIRE_PIECE_##second},
#include "danaus/proto/ops.def"
#undef OP
};

const char *wire_op_name(unsigned op)
{
	return op < WIRE_OP_COUNT ? operations[op].name : "?";
}

unsigned wire_op_flags(unsigned op)
{
	return op < WIRE_OP_COUNT ? operations[op].flags : 0;
}

static int check_piece(enum wire_piece kind, uint32_t mode, const char *piece, uint32_t len)
{
	if (kind == WIRE_PIECE_TARGET)
		kind = (mode & 0170000) == 0120000 ? WIRE_PIECE_PATH : WIRE_PIECE_NONE;
	switch (kind) {
	case WIRE_PIECE_NONE:
		return len ? -EPROTO : 0;
	case WIRE_PIECE_PATH:
	case WIRE_PIECE_NAME:
		if (len > WIRE_PATH_MAX)
			return -ENAMETOOLONG;
		if (!len || memchr(piece, '\0', len) != piece + len - 1)
			return -EPROTO;
		return 0;
	case WIRE_PIECE_LOCK:
		return len == sizeof(struct wire_lock) ? 0 : -EPROTO;
	case WIRE_PIECE_DATA:
		return 0;
	case WIRE_PIECE_TARGET:
		break;
	}
	return -EPROTO;
}

int wire_check(const struct wire_request *request, const char *payload, size_t payload_bytes)
{
	int r;

	if (request->op >= WIRE_OP_COUNT || request->version != WIRE_VERSION)
		return -EPROTO;
	if (request->len1 > payload_bytes || request->len2 > payload_bytes - request->len1)
		return -EPROTO;
	if ((operations[request->op].flags & OPF_SIZED) && request->size > WIRE_PAYLOAD_MAX)
		return -EPROTO;
	r = check_piece(operations[request->op].first, request->mode, payload, request->len1);
	if (r < 0)
		return r;
	r = check_piece(operations[request->op].second, request->mode, payload + request->len1,
			request->len2);
	if (r < 0)
		return r;
	/* a name, its NUL, then the value */
	if (request->op == WIRE_SETXATTR && !memchr(payload + request->len1, '\0', request->len2))
		return -EPROTO;
	return 0;
}
