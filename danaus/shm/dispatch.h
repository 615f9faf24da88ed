/* SPDX-License-Identifier: Apache-2.0 */
/* One request: from the wire to the vfs and back. A call is taken (copied and checked), run, and
 * its reply written; the channel's threads and the attach socket's do so for their clients. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "danaus/proto/wire.h"
#include "danaus/server/process.h"
#include "danaus/service/vfs.h"
#include "danaus/shm/handles.h"

/* The identity of the thread that last used a slot. Only the thread that serves the slot touches
 * it. */
struct known_identity {
	uint32_t tid;	  /* as the request gave it */
	uint32_t version; /* process_rights_version(); 0: read again */
	struct cred *cred;
	uint64_t read_ns;
};

/* One client: a process and the open files it may name. */
struct session {
	struct container *container;
	struct process *process;
	uint64_t image;	     /* process_image() when it attached */
	atomic_bool revoked; /* another program runs in the process now: nothing is served */
	/* The channel's memory: the image must have it mapped, or it is not the one that asked for it.
	 * Set before the client gets it; channel_ino 0: there is none. */
	_Atomic dev_t channel_dev;
	_Atomic ino_t channel_ino;
	atomic_bool mapped; /* that was seen */
	atomic_bool heard;  /* the notify door tells of each change of the process' identity */
	struct handles handles;
};

/* -ESRCH when the process is gone. Takes a reference on process. */
int session_init(struct session *session, struct process *process);
void session_done(struct session *session);
/* Before memfd, the channel's memory, goes to the client. heard: see above. */
int session_channel(struct session *session, int memfd, bool heard);

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
	bool has_attr;	 /* the reply's attr is set */
	int fd_in;	 /* with ADOPT, WATCH; stays the caller's */
	int fd_out;	 /* NAME, KERNEL_FILE: the caller passes it on and closes it */
	char *big;	 /* the copy, where text is too small */
	char text[2 * WIRE_PATH_MAX];
};

/* From request and payload (payload_bytes are there), both shared with the tenant, who may change
 * them all the while. An error is an answer too: then call_run() is left out. */
int call_take(struct call *call, struct session *session, const struct wire_request *request,
	      char *payload, size_t payload_bytes);
/* Carries it out; reply is complete then, reply.error included, which it returns. */
int call_run(struct call *call);
void call_done(struct call *call);
