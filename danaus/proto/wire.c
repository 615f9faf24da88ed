/* SPDX-License-Identifier: Apache-2.0 */
/* The wire's checks and names. Pure functions, any thread; source of all input: tenant. */
#include "danaus/proto/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned flags;
} operations[] = {
#define OP(NAME, name, flags) [WIRE_##NAME] = {#name, flags},
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

/* What the two pieces of a request are, by operation. */
enum piece { PIECE_NONE, PIECE_PATH, PIECE_NAME, PIECE_DATA, PIECE_LOCK };

static void pieces_of(unsigned op, uint32_t mode, enum piece *first, enum piece *second)
{
	*first = *second = PIECE_NONE;
	switch (op) {
	case WIRE_OPEN:
	case WIRE_STAT:
	case WIRE_SETATTR:
	case WIRE_ACCESS:
	case WIRE_READLINK:
	case WIRE_UNLINK:
	case WIRE_STATFS:
	case WIRE_LISTXATTR:
	case WIRE_WATCH:
		*first = PIECE_PATH;
		break;
	case WIRE_MAKE:
		*first = PIECE_PATH;
		*second = (mode & 0170000) == 0120000 ? PIECE_PATH : PIECE_NONE;
		break;
	case WIRE_LINK:
	case WIRE_RENAME:
		*first = *second = PIECE_PATH;
		break;
	case WIRE_GETXATTR:
	case WIRE_REMOVEXATTR:
		*first = PIECE_PATH;
		*second = PIECE_NAME;
		break;
	case WIRE_SETXATTR:
		*first = PIECE_PATH;
		*second = PIECE_DATA;
		break;
	case WIRE_WRITE:
		*first = PIECE_DATA;
		break;
	case WIRE_LOCK:
		*first = PIECE_LOCK;
		break;
	default:
		break;
	}
}

static int check_piece(enum piece kind, const char *piece, uint32_t len)
{
	switch (kind) {
	case PIECE_NONE:
		return len ? -EPROTO : 0;
	case PIECE_PATH:
	case PIECE_NAME:
		if (len > WIRE_PATH_MAX)
			return -ENAMETOOLONG;
		if (!len || memchr(piece, '\0', len) != piece + len - 1)
			return -EPROTO;
		return 0;
	case PIECE_LOCK:
		return len == sizeof(struct wire_lock) ? 0 : -EPROTO;
	case PIECE_DATA:
		return 0;
	}
	return -EPROTO;
}

static bool sizes_reply(unsigned op)
{
	return op == WIRE_READ || op == WIRE_GETXATTR || op == WIRE_LISTXATTR || op == WIRE_READDIR;
}

int wire_check(const struct wire_request *request, const char *payload, size_t payload_bytes)
{
	enum piece first, second;
	int r;

	if (request->op >= WIRE_OP_COUNT || request->version != WIRE_VERSION)
		return -EPROTO;
	if (request->len1 > payload_bytes || request->len2 > payload_bytes - request->len1)
		return -EPROTO;
	if (sizes_reply(request->op) && request->size > WIRE_PAYLOAD_MAX)
		return -EPROTO;
	pieces_of(request->op, request->mode, &first, &second);
	r = check_piece(first, payload, request->len1);
	if (r < 0)
		return r;
	r = check_piece(second, payload + request->len1, request->len2);
	if (r < 0)
		return r;
	/* a name, its NUL, then the value */
	if (request->op == WIRE_SETXATTR && !memchr(payload + request->len1, '\0', request->len2))
		return -EPROTO;
	return 0;
}
