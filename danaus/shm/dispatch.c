/* SPDX-License-Identifier: Apache-2.0 */
/* Takes requests out of shared memory and runs them by the table of operations. Owns nothing beyond
 * the call. Source of a request and its payload: tenant. */
#include "danaus/shm/dispatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <linux/limits.h>

#include "danaus/shm/operations.h"

#define TEXT_BIG_MAX (XATTR_SIZE_MAX + 2 * WIRE_PATH_MAX)

int op_rights(struct call *call, struct vctx *ctx)
{
	process_rights_settled(call->session->process);
	return 0;
}

static int (*const handler[])(struct call *call, struct vctx *ctx) = {
#define OP(NAME, name, flags, first, second) [WIRE_##NAME] = op_##name,
#include "danaus/proto/ops.def"
#undef OP
};

int call_take(struct call *call, struct session *session, const struct wire_request *request,
	      char *payload, size_t payload_bytes)
{
	struct wire_request *q = &call->request;
	size_t len;

	call->session = session;
	call->payload = payload;
	call->cancel = NULL;
	call->nowait = call->would_wait = call->has_attr = false;
	call->at_once = call->would_look = call->leased = false;
	call->fd_in = call->fd_out = -1;
	call->big = NULL;
	call->reply.error = 0;
	call->reply.len = 0;
	call->reply.value = call->reply.value2 = 0;
	memcpy(q, request, offsetof(struct wire_request, set_attr));
	/* from here on the compiler must not look into the shared memory again */
	__asm__ volatile("" : "+m"(*q) : : "memory");
	if (q->op == WIRE_SETATTR)
		memcpy(&q->set_attr, &request->set_attr, sizeof(q->set_attr));
	if (q->len1 > payload_bytes || q->len2 > payload_bytes - q->len1)
		return -EPROTO;
	call->piece1 = payload;
	call->piece2 = payload + q->len1;
	len = q->len1 + q->len2;
	if (q->op != WIRE_WRITE && len) {
		char *text = call->text;

		if (len > sizeof(call->text)) {
			if (len > TEXT_BIG_MAX)
				return q->op == WIRE_SETXATTR ? -E2BIG : -ENAMETOOLONG;
			text = call->big = malloc(len);
			if (!text)
				return -ENOMEM;
		}
		memcpy(text, payload, len);
		__asm__ volatile("" : : "r"(text) : "memory");
		call->piece1 = text;
		call->piece2 = text + q->len1;
	}
	return wire_check(q, call->piece1, payload_bytes);
}

static int identify(struct call *call)
{
	struct session *session = call->session;

	if (atomic_load_explicit(&session->revoked, memory_order_relaxed))
		return -EPERM;
	if (call->at_once && !session_knows(session, call->known, call->request.tid)) {
		call->would_look = true;
		return -EAGAIN;
	}
	return session_identify(session, call->known, call->request.tid);
}

int call_run(struct call *call)
{
	const struct wire_request *q = &call->request;
	struct session *session = call->session;
	struct vctx ctx;
	char leave[WIRE_PATH_MAX];
	int r = identify(call);

	if (!r) {
		ctx = (struct vctx){
		    .cred = call->known->cred,
		    .owner = process_owner(session->process),
		    .pid = process_ns_pid(session->process),
		    .umask = q->umask & 0777,
		    .fsize_limit = q->fsize_limit,
		    .cancel = call->cancel,
		    .tenant_buffers = true,
		    .leave = leave,
		};
		leave[0] = '\0';
		r = handler[q->op](call, &ctx);
	}
	if (r == -EREMCHG) {
		size_t len = strnlen(leave, sizeof(leave) - 1) + 1;

		memcpy(call->payload, leave, len - 1);
		call->payload[len - 1] = '\0';
		call->reply.len = len;
		call->reply.value = ctx.leave_second;
	} else if (r < 0 && !call->leased) {
		call->reply.len = 0;
	}
	if (r < 0)
		call->has_attr = false;
	return call->reply.error = r;
}

void call_done(struct call *call)
{
	free(call->big);
	call->big = NULL;
}
