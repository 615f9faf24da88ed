/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the epoll descriptor and the table of watches, indexed by descriptor. A watch has a
 * generation, so that an event which was already fetched for a descriptor's former life is not
 * delivered to its next one. */
#include "danaus/pool/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "danaus/base/fd.h"

struct watch {
	void (*fn)(void *arg, uint32_t events); /* NULL: not watched */
	void *arg;
	uint32_t generation;
};

struct loop {
	int epoll, wake; /* wake: an eventfd */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	pthread_t thread;
	bool running, stop;
	int current; /* the descriptor whose fn runs now, or -1 */
	struct watch *watches;
	size_t cap;
	uint32_t generation;
};

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};

	if (!loop)
		return -ENOMEM;
	loop->current = -1;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->idle, NULL);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll < 0 || loop->wake < 0 ||
	    epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) < 0) {
		int r = -errno;

		loop_free(loop);
		return r;
	}
	*ret = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	fd_close(loop->epoll);
	fd_close(loop->wake);
	pthread_mutex_destroy(&loop->lock);
	pthread_cond_destroy(&loop->idle);
	free(loop->watches);
	free(loop);
}

static int grow(struct loop *loop, int fd)
{
	size_t cap = loop->cap ? loop->cap : 64;
	struct watch *watches;

	while (cap <= (size_t)fd)
		cap *= 2;
	if (cap == loop->cap)
		return 0;
	watches = realloc(loop->watches, cap * sizeof(*watches));
	if (!watches)
		return -ENOMEM;
	memset(watches + loop->cap, 0, (cap - loop->cap) * sizeof(*watches));
	loop->watches = watches;
	loop->cap = cap;
	return 0;
}

static struct epoll_event event_of(const struct watch *watch, int fd, uint32_t events)
{
	return (struct epoll_event){.events = events,
				    .data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd};
}

int loop_add(struct loop *loop, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
	     void *arg)
{
	struct watch *watch, before;
	int r;

	pthread_mutex_lock(&loop->lock);
	r = grow(loop, fd);
	if (!r) {
		watch = &loop->watches[fd];
		before = *watch;
		*watch = (struct watch){
		    .fn = fn, .arg = arg, .generation = ++loop->generation & 0x7fffffff};
		struct epoll_event event = event_of(watch, fd, events);

		if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
			r = -errno;
			*watch = before;
		}
	}
	pthread_mutex_unlock(&loop->lock);
	return r;
}

int loop_modify(struct loop *loop, int fd, uint32_t events)
{
	int r = -ENOENT;

	pthread_mutex_lock(&loop->lock);
	if ((size_t)fd < loop->cap && loop->watches[fd].fn) {
		struct epoll_event event = event_of(&loop->watches[fd], fd, events);

		r = epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
	}
	pthread_mutex_unlock(&loop->lock);
	return r;
}

void loop_remove(struct loop *loop, int fd)
{
	pthread_mutex_lock(&loop->lock);
	if ((size_t)fd < loop->cap && loop->watches[fd].fn) {
		loop->watches[fd].fn = NULL;
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
	}
	while (loop->running && loop->current == fd && !pthread_equal(loop->thread, pthread_self()))
		pthread_cond_wait(&loop->idle, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

static void deliver(struct loop *loop, const struct epoll_event *event)
{
	int fd = (int)(uint32_t)event->data.u64;
	struct watch watch = {0};

	pthread_mutex_lock(&loop->lock);
	if ((size_t)fd < loop->cap &&
	    loop->watches[fd].generation == (uint32_t)(event->data.u64 >> 32))
		watch = loop->watches[fd];
	loop->current = watch.fn ? fd : -1;
	pthread_mutex_unlock(&loop->lock);
	if (!watch.fn)
		return;
	watch.fn(watch.arg, event->events);
	pthread_mutex_lock(&loop->lock);
	loop->current = -1;
	pthread_cond_broadcast(&loop->idle);
	pthread_mutex_unlock(&loop->lock);
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[64];
	bool stop = false;
	uint64_t count;
	int n;

	pthread_mutex_lock(&loop->lock);
	loop->thread = pthread_self();
	loop->running = true;
	pthread_mutex_unlock(&loop->lock);
	while (!stop) {
		n = epoll_wait(loop->epoll, events, sizeof(events) / sizeof(events[0]), -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 != UINT64_MAX)
				deliver(loop, &events[i]);
			else if (read(loop->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
				return -errno;
		}
		pthread_mutex_lock(&loop->lock);
		stop = loop->stop;
		pthread_mutex_unlock(&loop->lock);
	}
	pthread_mutex_lock(&loop->lock);
	loop->running = false;
	pthread_mutex_unlock(&loop->lock);
	return 0;
}

void loop_stop(struct loop *loop)
{
	uint64_t one = 1;

	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	if (write(loop->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}
