/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a client's identity. Called by the threads that serve its channel and its attach socket. */
#include "danaus/shm/session.h"

#include <errno.h>
#include <sys/stat.h>

void session_init(struct session *session, struct process *process)
{
	session->container = process_container(process);
	session->process = process_hold(process);
	atomic_init(&session->image, 0);
	atomic_init(&session->revoked, false);
	atomic_init(&session->channel_dev, 0);
	atomic_init(&session->channel_ino, 0);
	atomic_init(&session->bound, false);
	atomic_init(&session->heard, false);
	handles_init(&session->handles);
}

void session_end(struct session *session)
{
	uint64_t owner = process_owner(session->process);

	for (uint32_t i = 1; i < session->handles.used; i++) {
		CLEANUP_VFILE struct vfile *file = NULL;

		if (!handles_take(&session->handles, i, &file))
			vfile_close_owner(file, owner);
	}
}

void session_done(struct session *session)
{
	session_end(session);
	handles_done(&session->handles);
	process_unref(session->process);
}

int session_channel(struct session *session, int memfd, bool heard)
{
	struct stat st;

	if (fstat(memfd, &st) < 0)
		return -errno;
	atomic_store(&session->channel_dev, st.st_dev);
	atomic_store(&session->channel_ino, st.st_ino);
	atomic_store(&session->heard, heard);
	return 0;
}

/* The program that the process runs is the one that holds the channel: somebody else may have said
 * hello on a connection that the process made before it became another program. */
static int bind_image(struct session *session)
{
	uint64_t image, after;

	if (process_image(session->process, &image) < 0 ||
	    (atomic_load(&session->channel_ino) &&
	     !process_maps(session->process, session->channel_dev, session->channel_ino)) ||
	    process_image(session->process, &after) < 0 || after != image)
		return -EPERM;
	atomic_store(&session->image, image);
	atomic_store(&session->bound, true);
	return 0;
}

/* Whether the process still runs the program that it did at the first call. */
static int check_image(struct session *session)
{
	uint64_t image;

	if (!atomic_load(&session->bound))
		return bind_image(session);
	return process_image(session->process, &image) < 0 || image != atomic_load(&session->image)
		   ? -EPERM
		   : 0;
}

/* The thread's that the request names, if it is one of the client's process and the process still
 * runs the program that attached. A set-user-id program that the process has become since must not
 * lend its rights to whoever still holds the old memory. */
int session_identify_anew(struct session *session, struct known_identity *known, uint32_t tid)
{
	uint32_t version = process_rights_version(session->process);
	uint64_t now = stats_now();
	struct cred *cred;
	pid_t host_tid;
	int r = process_host_tid(session->process, tid, &host_tid);

	if (r < 0)
		return r;
	r = process_cred(session->process, host_tid, &cred);
	if (r < 0)
		return r;
	/* execve replaces the memory before the identity: read in the other order */
	if (check_image(session) < 0) {
		cred_unref(cred);
		atomic_store(&session->revoked, true);
		return -EPERM;
	}
	if (known->cred)
		cred_unref(known->cred);
	*known = (struct known_identity){
	    .tid = tid,
	    .version = cred_settled(cred) ? version : 0,
	    .cred = cred,
	    .read_ns = now,
	    .elsewhere = !process_in_mounts(session->process, host_tid),
	};
	return 0;
}
