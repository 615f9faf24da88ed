/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of late calls share: late.c has the threads, job.c what a thread is
 * given, alive.c whether the client is heard. */
#pragma once

#include "danaus/libservices/ceph/internal.h"

/* One question on its way. */
struct ceph_job {
	struct ceph_job *next;
	struct ceph_ask ask;
	struct ceph *fs;
	int64_t result;
	pthread_cond_t changed;
	/* ceph_late.lock */
	bool running, done, counted; /* counted: in left or, of an epoch before, in lost */
	uint64_t began;		     /* when it was asked */
	atomic_bool left;
	unsigned epoch;
	/* Its own copies */
	struct cred *cred;
	char *name, *name2;
	struct iovec buf;
};

struct ceph_idler;
struct ceph_late {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a thread ended, or a call came back */
	pthread_condattr_t monotonic;
	pthread_attr_t attr;
	struct ceph_job *first, **last;
	struct ceph_idler *idle;
	unsigned threads, nidle, queued;
	atomic_uint left;	 /* running, of this epoch, and nobody waits: */
	struct ceph_job *behind; /* these */
	uint64_t behind_ns;	 /* when the latest of them was asked */
	unsigned lost;		 /* the same, of the epochs before: they may not come back */
	unsigned epoch;		 /* one more when a client was replaced with calls in it */
	struct ceph_job *ping;
	bool ending, reviving;
	uint64_t revive_after_ns;
};

/* A copy of ask that needs nothing of the asker's. NULL: out of memory. */
struct ceph_job *cephls_job_new(struct ceph *fs, const struct ceph_ask *ask);
void cephls_job_free(struct ceph_job *job);
/* What it found, for the asker. */
void cephls_job_answer(const struct ceph_job *job, struct ceph_ask *ask);
/* Nobody has the answer: what would stay of it goes. A lock is not given back to a client that does
 * not have it. */
void cephls_job_undo(struct ceph_job *job);

/* This thread's job, NULL where it is none of a job's. */
struct ceph_job *cephls_late_current(void);
/* Of what nobody waits for. late->lock is held. NULL: not now. */
struct ceph_job *cephls_late_start(struct ceph *fs, const struct ceph_way *way);

/* late->lock is held: the job is one that nobody waits for any more, or was. */
void cephls_leave_behind(struct ceph_late *late, struct ceph_job *job);
void cephls_came_back(struct ceph_late *late, struct ceph_job *job);

static inline struct timespec cephls_time_of(uint64_t ns)
{
	return (struct timespec){ns / CEPH_SECOND_NS, ns % CEPH_SECOND_NS};
}

static inline struct ls_node *cephls_node_of_ask(const struct ceph_ask *ask)
{
	return ask->file ? ask->file->node : ask->node;
}

static inline size_t cephls_bytes_of(const struct ceph_ask *ask)
{
	size_t bytes = 0;

	for (int i = 0; i < ask->niov; i++)
		bytes += ask->iov[i].iov_len;
	return bytes;
}
