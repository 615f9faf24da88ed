/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the threads of calls that may wait for an MDS. libcephfs cannot take a request back, nor end
 * a client that has one (ceph_abort_conn() waits for them first). So whoever asks waits here
 * instead, no longer than the mount's timeout, and leaves the call behind with everything that it
 * uses.
 *
 * A hand-over to another thread costs more than a call that libcephfs answers from memory. Those
 * stay on the asker's thread: what the same question about the same node did within the last second
 * is how they are known, as long as an MDS was heard of lately. What is left: a call whose
 * capability is taken away in that second, by an MDS that is not heard of again, waits without a
 * bound.
 *
 * What a call that was left behind is about is refused to all others (alive.c), so nothing that it
 * still does comes after what somebody did later. Callers: any worker thread, and the watch. */
#include "danaus/libservices/ceph/late.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "danaus/libservices/patience.h"

#define THREADS_MAX 256
#define STACK_BYTES (1u << 20)
#define IDLE_S	    10
/* No MDS answers so soon: an answer from memory. One that has to wait for a CPU takes longer, and
 * where there are too few of them, so does an MDS. */
#define QUICK_NS      100000
#define QUICK_MAX_NS  1000000
#define QUICK_KEEP_NS CEPH_SECOND_NS
/* Capabilities are good for a minute from when the client last asked to have them renewed, which it
 * does each 20 s. */
#define HEARD_KEEP_NS (20 * CEPH_SECOND_NS)
#define SYNC_TIMES    10 /* the timeout for what writes back, while the MDS answers */

struct ceph_idler {
	struct ceph_idler *next;
	pthread_cond_t wake;
	bool chosen;
};

static __thread struct ceph_job *current;
static __thread bool is_late;

uint64_t cephls_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * CEPH_SECOND_NS + t.tv_nsec;
}

bool cephls_is_left(void)
{
	return current && atomic_load(&current->left);
}

struct ceph_job *cephls_late_current(void)
{
	return current;
}

bool cephls_is_late(void)
{
	return is_late;
}

unsigned cephls_left(struct ceph *fs)
{
	return atomic_load_explicit(&fs->late->left, memory_order_relaxed);
}

int cephls_late_init(struct ceph *fs)
{
	struct ceph_late *late = calloc(1, sizeof(*late));

	if (!late)
		return -ENOMEM;
	pthread_mutex_init(&late->lock, NULL);
	pthread_condattr_init(&late->monotonic);
	pthread_condattr_setclock(&late->monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&late->changed, &late->monotonic);
	pthread_attr_init(&late->attr);
	pthread_attr_setstacksize(&late->attr, STACK_BYTES);
	pthread_attr_setdetachstate(&late->attr, PTHREAD_CREATE_DETACHED);
	late->last = &late->first;
	fs->late = late;
	return 0;
}

bool cephls_late_done(struct ceph *fs)
{
	struct timespec end = cephls_time_of(cephls_now_ns() + fs->timeout_s * CEPH_SECOND_NS);
	struct ceph_late *late = fs->late;
	unsigned threads;
	int r = 0;

	if (!late)
		return true;
	pthread_mutex_lock(&late->lock);
	late->ending = true;
	for (struct ceph_idler *i = late->idle; i; i = i->next)
		pthread_cond_signal(&i->wake);
	while (late->threads > late->lost && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&late->changed, &late->lock, &end);
	threads = late->threads;
	pthread_mutex_unlock(&late->lock);
	if (threads)
		return false;
	pthread_mutex_destroy(&late->lock);
	pthread_cond_destroy(&late->changed);
	pthread_condattr_destroy(&late->monotonic);
	pthread_attr_destroy(&late->attr);
	free(late);
	return true;
}

/* What calls tell about the next ones. */

static bool is_quick(struct ceph *fs, const struct ceph_ask *ask, uint64_t now)
{
	struct ls_node *node = cephls_node_of_ask(ask);
	uint64_t quick;

	if (ask->way->quick >= QUICK_KINDS || atomic_load(&node->late))
		return false;
	quick = atomic_load_explicit(&node->quick_ns[ask->way->quick], memory_order_relaxed);
	return quick && now < quick + QUICK_KEEP_NS &&
	       now < atomic_load_explicit(&fs->heard_ns, memory_order_relaxed) + HEARD_KEEP_NS;
}

uint64_t cephls_quick_ns(struct ceph *fs)
{
	uint64_t limit = atomic_load_explicit(&fs->mds_ns, memory_order_relaxed) / 4;

	return limit < QUICK_NS ? QUICK_NS : limit > QUICK_MAX_NS ? QUICK_MAX_NS : limit;
}

/* began: before the call. A byte of data may take a ns. */
static void learn(struct ceph *fs, const struct ceph_ask *ask, int64_t r, uint64_t began)
{
	uint64_t now = cephls_now_ns(), limit = cephls_quick_ns(fs);
	struct ls_node *node = cephls_node_of_ask(ask);

	if (!ask->way->out)
		limit += cephls_bytes_of(ask);
	else if (r > 0)
		limit += r;

	if (ask->way->quick < QUICK_KINDS)
		atomic_store_explicit(&node->quick_ns[ask->way->quick],
				      r >= 0 && now < began + limit ? now : 0,
				      memory_order_relaxed);
	/* Who makes a file gets every capability on it. */
	for (unsigned i = 0; ask->opened && ask->made && i < QUICK_KINDS; i++)
		atomic_store_explicit(&ask->made->quick_ns[i], now, memory_order_relaxed);
	if (ask->way->asks && r >= 0 && !cephls_is_left()) {
		uint64_t mds_ns = atomic_load_explicit(&fs->mds_ns, memory_order_relaxed);

		cephls_heard(fs, began);
		atomic_store_explicit(&fs->mds_ns, mds_ns - mds_ns / 8 + (now - began) / 8,
				      memory_order_relaxed);
	}
}

static void run(struct ceph_job *job)
{
	uint64_t began = cephls_now_ns();

	current = job;
	job->result = job->ask.way->run(&job->fs->base, &job->ask);
	learn(job->fs, &job->ask, job->result, began);
	current = NULL;
}

/* late->lock is held, and is not while what nobody waits for is undone. */
static void finish(struct ceph_late *late, struct ceph_job *job)
{
	struct ls_node *node = cephls_node_of_ask(&job->ask);

	atomic_fetch_sub(&node->late, 1);
	if (!atomic_load(&job->left)) {
		job->done = true;
		pthread_cond_signal(&job->changed);
		return;
	}
	pthread_mutex_unlock(&late->lock);
	cephls_job_undo(job);
	pthread_mutex_lock(&late->lock);
	cephls_came_back(late, job);
	pthread_cond_broadcast(&late->changed);
	pthread_mutex_unlock(&late->lock);
	cephls_job_free(job);
	pthread_mutex_lock(&late->lock);
}

static struct ceph_job *take(struct ceph_late *late)
{
	struct ceph_job *job = late->first;

	if (!job)
		return NULL;
	late->first = job->next;
	if (!late->first)
		late->last = &late->first;
	late->queued--;
	job->running = true;
	return job;
}

/* late->lock is held. False: nothing came. The latest that became idle is chosen first: its caches
 * are warm, and the others may end. */
static bool idle(struct ceph_late *late)
{
	struct timespec until = cephls_time_of(cephls_now_ns() + IDLE_S * CEPH_SECOND_NS);
	struct ceph_idler self = {.next = late->idle}, **at = &late->idle;
	int r = 0;

	pthread_cond_init(&self.wake, &late->monotonic);
	late->idle = &self;
	late->nidle++;
	while (!self.chosen && !late->ending && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&self.wake, &late->lock, &until);
	if (!self.chosen) {
		while (*at != &self)
			at = &(*at)->next;
		*at = self.next;
		late->nidle--;
	}
	pthread_cond_destroy(&self.wake);
	return self.chosen;
}

static void *late_main(void *arg)
{
	struct ceph_late *late = ((struct ceph *)arg)->late;
	struct ceph_job *job;

	is_late = true;
	pthread_setname_np(pthread_self(), "ceph-call");
	pthread_mutex_lock(&late->lock);
	do {
		while ((job = take(late))) {
			pthread_mutex_unlock(&late->lock);
			run(job);
			pthread_mutex_lock(&late->lock);
			finish(late, job);
		}
	} while (idle(late));
	late->threads--;
	pthread_cond_broadcast(&late->changed);
	pthread_mutex_unlock(&late->lock);
	return NULL;
}

/* late->lock is held. */
static int hand_over(struct ceph_late *late, struct ceph_job *job)
{
	struct ceph_idler *idler = late->idle;
	pthread_t thread;

	if (idler) {
		late->idle = idler->next;
		late->nidle--;
		idler->chosen = true;
		pthread_cond_signal(&idler->wake);
	} else if (late->threads < THREADS_MAX &&
		   !cred_thread(&thread, &late->attr, late_main, job->fs)) {
		late->threads++;
	} else if (!late->threads) {
		return -EAGAIN;
	}
	job->epoch = late->epoch;
	job->next = NULL;
	*late->last = job;
	late->last = &job->next;
	late->queued++;
	atomic_fetch_add(&cephls_node_of_ask(&job->ask)->late, 1);
	return 0;
}

static void take_back(struct ceph_late *late, struct ceph_job *job)
{
	struct ceph_job **at = &late->first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (late->last == &job->next)
		late->last = at;
	late->queued--;
	atomic_fetch_sub(&cephls_node_of_ask(&job->ask)->late, 1);
}

/* How long the call may take. */
static uint64_t limit_of(struct ceph *fs, const struct ceph_job *job, uint64_t now)
{
	uint64_t limit = fs->timeout_s * CEPH_SECOND_NS;

	return job->ask.way->syncs && now < atomic_load(&fs->heard_ns) + limit ? limit * SYNC_TIMES
									       : limit;
}

/* late->lock is held. False: the job is not the caller's any more. */
static bool await(struct ceph *fs, struct ceph_job *job)
{
	struct ceph_late *late = fs->late;

	while (!job->done) {
		uint64_t now = cephls_now_ns(), end = job->began + limit_of(fs, job, now);
		struct timespec until =
		    cephls_time_of(now + CEPH_SECOND_NS < end ? now + CEPH_SECOND_NS : end);

		if (now < end) {
			pthread_cond_timedwait(&job->changed, &late->lock, &until);
			continue;
		}
		if (job->running) {
			cephls_leave_behind(late, job);
			return false;
		}
		take_back(late, job);
		job->result = -EIO;
		job->done = true;
	}
	return true;
}

static int64_t by_thread(struct ceph *fs, struct ceph_ask *ask, uint64_t began)
{
	struct ceph_late *late = fs->late;
	struct ceph_job *job = cephls_job_new(fs, ask);
	int64_t r;
	bool ours;

	if (!job)
		return -ENOMEM;
	job->began = began;
	pthread_mutex_lock(&late->lock);
	r = hand_over(late, job);
	pthread_mutex_unlock(&late->lock);
	patience_waits();
	pthread_mutex_lock(&late->lock);
	ours = r < 0 || await(fs, job);
	pthread_mutex_unlock(&late->lock);
	if (!ours)
		return -EIO;
	if (!r) {
		r = job->result;
		cephls_job_answer(job, ask);
		if (!r && ask->way->locks && ask->type != F_UNLCK)
			atomic_store(&ask->node->locked, true);
	}
	cephls_job_free(job);
	return r;
}

int64_t cephls_ask(struct ceph *fs, struct ceph_ask *ask)
{
	uint64_t began = cephls_now_ns();
	int64_t r;

	if (cephls_left(fs) && cephls_is_refused(fs, ask))
		return -EIO;
	if (!is_quick(fs, ask, began))
		return by_thread(fs, ask, began);
	r = ask->way->run(&fs->base, ask);
	learn(fs, ask, r, began);
	return r;
}

struct ceph_job *cephls_late_start(struct ceph *fs, const struct ceph_way *way)
{
	struct ceph_job *job = cephls_job_new(fs, &(struct ceph_ask){.way = way, .node = fs->root});

	if (!job)
		return NULL;
	atomic_store(&job->left, true);
	if (hand_over(fs->late, job) < 0) {
		cephls_job_free(job);
		return NULL;
	}
	return job;
}
