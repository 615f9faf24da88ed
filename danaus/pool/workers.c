/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the threads and the queue, under one lock: handing over a task costs a wake-up anyhow. Idle
 * threads wait in a stack, the latest first, because its caches are warm and the others may end. */
#include "danaus/pool/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "danaus/libservices/cred.h"

#define IDLE_S 10

struct task {
	void (*fn)(void *arg);
	void *arg;
};

struct idler {
	pthread_cond_t wake;
	struct task task; /* fn NULL until given one */
	struct idler *next;
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a task ended or a thread did */
	pthread_attr_t attr;
	unsigned limit, threads, busy;
	bool ending;
	struct idler *idle; /* newest first */
	unsigned starting;  /* threads that have not looked for a task yet */
	struct task *queue; /* room for queue_limit and a first task of each starting thread */
	unsigned ring, queue_limit, head, queued;
};

int workers_new(unsigned limit, unsigned queue_limit, unsigned long stack_bytes,
		struct workers **ret)
{
	struct workers *workers = calloc(1, sizeof(*workers));

	if (!workers)
		return -ENOMEM;
	workers->ring = limit + queue_limit;
	workers->queue = calloc(workers->ring, sizeof(*workers->queue));
	if (!workers->queue) {
		free(workers);
		return -ENOMEM;
	}
	workers->limit = limit;
	workers->queue_limit = queue_limit;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->changed, NULL);
	pthread_attr_init(&workers->attr);
	pthread_attr_setstacksize(&workers->attr, stack_bytes);
	pthread_attr_setdetachstate(&workers->attr, PTHREAD_CREATE_DETACHED);
	*ret = workers;
	return 0;
}

/* With the lock. False: nothing to do for IDLE_S, or the end. */
static bool next_task(struct workers *workers, struct task *ret)
{
	struct idler self = {0};
	pthread_condattr_t attr;
	struct timespec until;

	if (workers->queued) {
		*ret = workers->queue[workers->head];
		workers->head = (workers->head + 1) % workers->ring;
		workers->queued--;
		return true;
	}
	if (workers->ending)
		return false;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&self.wake, &attr);
	pthread_condattr_destroy(&attr);
	self.next = workers->idle;
	workers->idle = &self;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	while (!self.task.fn && !workers->ending) {
		if (pthread_cond_timedwait(&self.wake, &workers->lock, &until) == ETIMEDOUT)
			break;
	}
	if (!self.task.fn) {
		struct idler **link = &workers->idle;

		while (*link != &self)
			link = &(*link)->next;
		*link = self.next;
	}
	pthread_cond_destroy(&self.wake);
	*ret = self.task;
	return self.task.fn != NULL;
}

static void *worker_main(void *arg)
{
	struct workers *workers = arg;
	struct task task;

	pthread_mutex_lock(&workers->lock);
	workers->starting--;
	while (next_task(workers, &task)) {
		pthread_mutex_unlock(&workers->lock);
		cred_assume_service(); /* whoever it was for the task before */
		task.fn(task.arg);
		pthread_mutex_lock(&workers->lock);
		if (!--workers->busy)
			pthread_cond_broadcast(&workers->changed);
	}
	workers->threads--;
	pthread_cond_broadcast(&workers->changed);
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

static int make_thread(struct workers *workers)
{
	sigset_t all, before;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = cred_thread(&thread, &workers->attr, worker_main, workers);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int workers_run(struct workers *workers, void (*fn)(void *arg), void *arg)
{
	struct task task = {fn, arg};
	int r = 0;

	pthread_mutex_lock(&workers->lock);
	if (workers->idle) {
		struct idler *idler = workers->idle;

		workers->idle = idler->next;
		idler->task = task;
		pthread_cond_signal(&idler->wake);
	} else {
		if (workers->threads < workers->limit && !make_thread(workers)) {
			workers->threads++;
			workers->starting++;
		} else if (!workers->threads ||
			   workers->queued >= workers->starting + workers->queue_limit) {
			r = -EAGAIN;
		}
		if (!r) {
			workers->queue[(workers->head + workers->queued) % workers->ring] = task;
			workers->queued++;
		}
	}
	if (!r)
		workers->busy++;
	pthread_mutex_unlock(&workers->lock);
	return r;
}

void workers_drain(struct workers *workers)
{
	pthread_mutex_lock(&workers->lock);
	while (workers->busy)
		pthread_cond_wait(&workers->changed, &workers->lock);
	pthread_mutex_unlock(&workers->lock);
}

void workers_free(struct workers *workers)
{
	if (!workers)
		return;
	workers_drain(workers);
	pthread_mutex_lock(&workers->lock);
	workers->ending = true;
	for (struct idler *idler = workers->idle; idler; idler = idler->next)
		pthread_cond_signal(&idler->wake);
	while (workers->threads)
		pthread_cond_wait(&workers->changed, &workers->lock);
	pthread_mutex_unlock(&workers->lock);
	pthread_attr_destroy(&workers->attr);
	pthread_mutex_destroy(&workers->lock);
	pthread_cond_destroy(&workers->changed);
	free(workers->queue);
	free(workers);
}
