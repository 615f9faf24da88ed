/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the shared-memory door: a process, the open files it may name, and whose rights count
 * in its requests. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "danaus/pool/process.h"
#include "danaus/pool/stats.h"
#include "danaus/shm/handles.h"

#define SESSION_UNHEARD_NS                                                                         \
	100000000ull /* so long an identity is kept whose changes nobody tells of */

/* The identity of the thread that last used a slot. Only the thread that serves the slot touches
 * it. */
struct known_identity {
	uint32_t tid;	  /* as the request gave it */
	uint32_t version; /* process_rights_version(); 0: read again */
	struct cred *cred;
	uint64_t read_ns; /* stats_now() */
	bool elsewhere;	  /* not process_in_mounts(): the volumes' paths mean nothing there */
};

struct session {
	struct container *container;
	struct process *process;
	_Atomic uint64_t image; /* process_image() of the program that it serves, once bound */
	atomic_bool revoked;	/* another program runs in the process now: nothing is served */
	/* The channel's memory: the image must have it mapped, or it is not the one that asked for
	 * it. Set before the client gets it; channel_ino 0: there is none. */
	_Atomic dev_t channel_dev;
	_Atomic ino_t channel_ino;
	atomic_bool bound; /* that was seen, at the first call */
	atomic_bool heard; /* the notify door tells of each change of the process' identity */
	struct handles handles;
};

/* Takes a reference on process. */
void session_init(struct session *session, struct process *process);
/* Closes what its handles name, record locks included. No call is under way; but idle files may
 * still be taken away from it. */
void session_end(struct session *session);
/* The same, and then the end of the session itself: nobody else finds it any more. */
void session_done(struct session *session);
/* Before memfd, the channel's memory, goes to the client. heard: see above. -errno of fstat(2). */
int session_channel(struct session *session, int memfd, bool heard);

int session_identify_anew(struct session *session, struct known_identity *known, uint32_t tid);

/* Whether what is known of the caller is good still. Else session_identify() looks at the program,
 * and may have to wait for it: one that shares its memory with others, which lies on a FUSE mount
 * of their own, can stay in the middle of an execve(2) for as long as they like. */
static inline bool session_knows(const struct session *session, const struct known_identity *known,
				 uint32_t tid)
{
	uint32_t version = process_rights_version(session->process);

	return known->cred && version && known->version == version && known->tid == tid &&
	       (atomic_load_explicit(&session->heard, memory_order_relaxed) ||
		stats_now() - known->read_ns < SESSION_UNHEARD_NS);
}

/* Whose rights count: known->cred becomes that of the thread that the request names (tid, in its
 * own pid namespace; tenant's), and stays known's. -ESRCH: no thread of the process. -EPERM: the
 * process runs another program than the one that attached; nothing is served any more. */
static inline int session_identify(struct session *session, struct known_identity *known,
				   uint32_t tid)
{
	return session_knows(session, known, tid) ? 0 : session_identify_anew(session, known, tid);
}
