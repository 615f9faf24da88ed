/* SPDX-License-Identifier: Apache-2.0 */
/* One request: from the wire to the vfs and back. A call is taken (copied and checked), run, and
 * its reply written; the channel's threads and the attach socket's do so for their clients. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "danaus/proto/wire.h"
#include "danaus/shm/session.h"
#include "danaus/vfs/vfs.h"

struct call {
	struct session *session;
	struct known_identity *known;
	struct wire_request request; /* the copy; set_attr only where the operation has it */
	struct wire_reply reply;
	const char *piece1, *piece2; /* strings: copies. WRITE's data: shared with the tenant */
	char *payload;		     /* of the reply, WIRE_PAYLOAD_MAX; shared with the tenant */
	atomic_bool *cancel;	     /* NULL, or as in vctx */
	bool nowait;	 /* where it would wait for a lock: set would_wait, do nothing */
	bool would_wait; /* then run again without nowait */
	bool at_once; /* where it would have to look at the program: set would_look, do nothing */
	bool would_look; /* then run again without at_once */
	bool has_attr;	 /* the reply's attr is set */
	bool leased;	 /* the payload is a lease, also of an error */
	int fd_in;	 /* with ADOPT, WATCH; stays the caller's */
	int fd_out;	 /* NAME, KERNEL_FILE: the caller passes it on and closes it */
	char *big;	 /* the copy, where text is too small */
	char text[2 * WIRE_PATH_MAX];
};

/* Fills call from request and payload (payload_bytes are there), both shared with the tenant, who
 * may change them all the while: nothing but WRITE's data is looked at there again. known is the
 * caller's to set. What wire_check() says, -E2BIG, -ENOMEM; an error is an answer too: then
 * call_run() is left out. */
int call_take(struct call *call, struct session *session, const struct wire_request *request,
	      char *payload, size_t payload_bytes);
/* Carries it out with the identity of the thread that the request names; may block. reply is
 * complete then, reply.error included, which it returns. */
int call_run(struct call *call);
/* Frees what call_take() took; also after its failure. */
void call_done(struct call *call);
