/* SPDX-License-Identifier: Apache-2.0 */
/* What a call with a thread of its own is given: copies and references, because the asker may not
 * wait for it. Any thread; no state. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/libservices/ceph/late.h"

static struct cred *copy_of(const struct cred *from)
{
	size_t bytes = sizeof(*from) + from->ngroups * sizeof(from->groups[0]);
	struct cred *cred = malloc(bytes);

	if (!cred)
		return NULL;
	memcpy(cred, from, bytes);
	cred->refs = 1;
	cred->own = NULL;
	if (from->map) { /* it is the container's, which may end before the call does */
		cred->own = malloc(sizeof(*cred->own));
		if (!cred->own) {
			free(cred);
			return NULL;
		}
		*cred->own = *from->map;
		cred->map = cred->own;
	}
	return cred;
}

void cephls_job_free(struct ceph_job *job)
{
	struct libservice *ls = &job->fs->base;

	if (job->ask.node)
		cephls_op_forget(ls, job->ask.node, 1);
	if (job->ask.node2)
		cephls_op_forget(ls, job->ask.node2, 1);
	if (job->ask.file)
		cephls_file_unuse(job->fs, job->ask.file);
	if (job->cred)
		cred_unref(job->cred);
	pthread_cond_destroy(&job->changed);
	free(job->name);
	free(job->name2);
	free(job->buf.iov_base);
	free(job);
}

static int copy_buf(struct ceph_job *job, const struct ceph_ask *ask)
{
	char *to;

	job->buf.iov_len = cephls_bytes_of(ask);
	job->buf.iov_base = to = malloc(job->buf.iov_len + 1);
	if (!to)
		return -ENOMEM;
	for (int i = 0; i < ask->niov && !ask->way->out; i++) {
		memcpy(to, ask->iov[i].iov_base, ask->iov[i].iov_len);
		to += ask->iov[i].iov_len;
	}
	job->ask.iov = &job->buf;
	job->ask.niov = 1;
	return 0;
}

static void answer_buf(const struct ceph_job *job, const struct ceph_ask *ask)
{
	const char *from = job->buf.iov_base;
	size_t left = job->result < 0 ? 0 : (size_t)job->result;

	for (int i = 0; i < ask->niov && left && ask->way->out; i++) {
		size_t n = ask->iov[i].iov_len < left ? ask->iov[i].iov_len : left;

		if (n)
			memcpy(ask->iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
}

struct ceph_job *cephls_job_new(struct ceph *fs, const struct ceph_ask *ask)
{
	struct ceph_job *job = calloc(1, sizeof(*job));
	int r = 0;

	if (!job)
		return NULL;
	pthread_cond_init(&job->changed, &fs->late->monotonic);
	job->fs = fs;
	job->ask = *ask;
	if (ask->node)
		cephls_node_ref(fs, ask->node);
	if (ask->node2)
		cephls_node_ref(fs, ask->node2);
	if (ask->file)
		atomic_fetch_add(&ask->file->users, 1);
	if (ask->cred)
		job->ask.cred = job->cred = copy_of(ask->cred);
	if (ask->name)
		job->ask.name = job->name = strdup(ask->name);
	if (ask->name2)
		job->ask.name2 = job->name2 = strdup(ask->name2);
	if (ask->iov)
		r = copy_buf(job, ask);
	if (r < 0 || (ask->cred && !job->cred) || (ask->name && !job->name) ||
	    (ask->name2 && !job->name2)) {
		cephls_job_free(job);
		return NULL;
	}
	return job;
}

void cephls_job_answer(const struct ceph_job *job, struct ceph_ask *ask)
{
	answer_buf(job, ask);
	ask->made = job->ask.made;
	ask->opened = job->ask.opened;
	ask->attr = job->ask.attr;
	ask->value = job->ask.value;
}

void cephls_job_undo(struct ceph_job *job)
{
	struct libservice *ls = &job->fs->base;
	struct ceph_ask *ask = &job->ask;

	if (ask->opened)
		cephls_op_release(ls, ask->opened);
	if (ask->made)
		cephls_op_forget(ls, ask->made, 1);
	/* Not where he may have had one before, which would go with it. */
	if (!job->result && ask->way->locks && ask->type != F_UNLCK &&
	    !atomic_load(&ask->node->locked) && job->epoch == job->fs->late->epoch)
		cephls_op_lock(ls, ask->node, ask->owner, ask->flag, F_UNLCK, ask->offset,
			       ask->len_bytes);
}
