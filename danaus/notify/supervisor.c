/* SPDX-License-Identifier: Apache-2.0 */
/* The door's threads: receivers, which take notifications off a listener and answer them, and one
 * monitor per container.
 *
 * One receiver per listener waits in the kernel; it serves what it gets itself, so that the
 * caller's CPU goes straight to it and back (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) and no second
 * thread wakes. The others are parked. The monitor ticks while calls are in progress: when
 * notifications wait and nobody receives, because a call sleeps in storage, it lets a parked or new
 * receiver go; when they wait tick after tick, more receive at once. It also looks after the calls
 * that take long: has their caller been killed, or got a signal that ends a lock wait?
 *
 * A receiver's life: receive, look the call up in syscalls.def, let its handler decide, answer.
 * ENOENT on receive or answer is normal: the caller was killed (seccomp_unotify(2)). */
#include "danaus/notify/door.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/log.h"
#include "danaus/notify/descriptor.h"
#include "danaus/notify/ledger.h"
#include "danaus/notify/signals.h"
#include "danaus/pool/stats.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define LISTENERS_MAX  256		   /* per container: each podman exec brings one */
#define RECEIVERS_MAX  GUARD_RECEIVERS	   /* per listener */
#define CROWD	       (RECEIVERS_MAX / 2) /* calls of one user's in progress there: no more */
#define STACK_BYTES    (512u << 10)
#define TICK_NS	       1000000
#define TICKS_TO_SLEEP 8   /* so many without a call in progress, each twice as long as the last, */
#define TICK_SHIFT_MAX 4   /* up to 16 ms: a tick takes its CPU from a program that starts others */
#define TICKS_BACKLOG  3   /* so many ticks with calls waiting: one more receives */
#define TICKS_CALM     100 /* so many without: one fewer */
#define LONG_CALL_NS   10000000ull /* from here on the caller is looked after, */
#define LOOK_NS	       30000000ull /* so often, */
#define LOOKS_PER_TICK 3	   /* and not more of them at once */
#define LONG_TICKS     10	   /* ticks between two when nothing but long calls is there */

static int64_t (*const handlers[CALL_COUNT])(struct call *call) = {
#define SC(name, when, handler, op) [CALL_##name] = sys_##handler,
#include "danaus/notify/syscalls.def"
#undef SC
};

struct receiver {
	struct receiver *next;
	struct listener *listener;
	pthread_t thread;
	atomic_bool ended;
	/* The call in progress, for the monitor. since is 0 while there is none; a call's id and
	 * tid are written before it. */
	_Atomic uint64_t since;
	_Atomic uint64_t id;
	_Atomic pid_t tid;
	atomic_bool cancel;
	uint64_t looked; /* the monitor's, and these: when the call began whose user is known */
	uint64_t user_since;
	uid_t user;
	struct scratch *scratch;
	struct guard_call *ledger; /* its place in the listener's */
};

struct listener {
	struct listener *next;
	struct notify *door;
	int fd;
	struct ledger ledger;
	atomic_int receiving;	  /* in the kernel, waiting for a notification */
	atomic_int want;	  /* so many should */
	_Atomic uint32_t permits; /* futex: parked receivers that may go on */
	atomic_int parked;
	atomic_bool ended;     /* its last process is gone, or the door stops */
	_Atomic int64_t crowd; /* a user who has CROWD calls in progress; -1: none */
	/* The monitor's, and door->lock's. */
	struct receiver *receivers;
	unsigned nreceivers, nblocked; /* threads; calls that may sleep without an end */
	unsigned waiting_ticks, calm_ticks;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void monitor_wake(struct notify *door)
{
	if (atomic_exchange(&door->monitor_state, MONITOR_AWAKE) != MONITOR_AWAKE)
		futex_wake(&door->monitor_state, 1);
}

static void *receiver_main(void *arg);

/* door->lock is held. */
static int receiver_start(struct listener *listener)
{
	struct guard_call *place = ledger_place(&listener->ledger);
	struct receiver *receiver;
	pthread_attr_t attr;
	int r;

	if (!place)
		return -EAGAIN;
	receiver = calloc(1, sizeof(*receiver));
	if (!receiver) {
		ledger_place_back(&listener->ledger);
		return -ENOMEM;
	}
	receiver->listener = listener;
	receiver->ledger = place;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = cred_thread(&receiver->thread, &attr, receiver_main, receiver);
	pthread_attr_destroy(&attr);
	if (r) {
		ledger_place_back(&listener->ledger);
		free(receiver);
		return r;
	}
	receiver->next = listener->receivers;
	listener->receivers = receiver;
	listener->nreceivers++;
	return 0;
}

/* Lets one more receive. door->lock is held. */
static int listener_more(struct listener *listener)
{
	if (atomic_load(&listener->parked) > 0) {
		atomic_fetch_add(&listener->permits, 1);
		futex_wake(&listener->permits, 1);
		return 0;
	}
	return atomic_load(&listener->ended) ? 0 : receiver_start(listener);
}

bool ncall_may_block(struct call *call)
{
	struct listener *listener = call->receiver->listener;
	struct notify *door = listener->door;
	int r = 0;

	pthread_mutex_lock(&door->lock);
	/* One thread is always left for the call that ends the others' wait. */
	if (listener->nblocked + 2 > listener->nreceivers)
		r = receiver_start(listener);
	else if (atomic_load(&listener->receiving) == 0)
		listener_more(listener);
	if (!r && !call->blocking) {
		listener->nblocked++;
		call->blocking = true;
	}
	pthread_mutex_unlock(&door->lock);
	return !r;
}

static void unblocked(struct call *call)
{
	struct listener *listener = call->receiver->listener;

	if (!call->blocking)
		return;
	pthread_mutex_lock(&listener->door->lock);
	listener->nblocked--;
	pthread_mutex_unlock(&listener->door->lock);
	call->blocking = false;
}

struct scratch *ncall_scratch(struct call *call)
{
	if (!call->receiver->scratch)
		call->receiver->scratch = malloc(sizeof(struct scratch));
	return call->receiver->scratch;
}

static void answer(struct call *call, int64_t result)
{
	struct seccomp_notif_resp response = {.id = call->id};

	if (result == CALL_ANSWERED || result == CALL_GONE)
		return;
	if (result == CALL_CONTINUE)
		response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result < 0)
		response.error = (int32_t)result;
	else
		response.val = result;
	while (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_SEND, &response) && errno == EINTR)
		;
}

/* The descriptor first, then the answer. SECCOMP_ADDFD_FLAG_SEND has both in one call, but when
 * that is broken off before the program's thread has run (this service is killed, stopped or
 * frozen), the kernel takes the descriptor back and not the answer: the program's open() is 0 then,
 * and what it writes goes to its standard input (seccomp_notify_addfd() of Linux kernel/seccomp.c).
 */
int ncall_add_descriptor(struct call *call, int fd, int number, int flags, bool answers)
{
	struct seccomp_notif_addfd add = {
	    .id = call->id,
	    .flags = number >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
	    .srcfd = (uint32_t)fd,
	    .newfd = number >= 0 ? (uint32_t)number : 0,
	    .newfd_flags = (uint32_t)(flags & O_CLOEXEC),
	};
	int r;

	do
		r = ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (answers)
		answer(call, r);
	return r;
}

/* The kernel goes on with a call whose path starts at a directory that only we know: it gets one of
 * its own there. */
static int64_t continue_from(struct call *call)
{
	for (int i = 0; i < 2; i++) {
		int64_t r = descriptor_to_kernel(call, call->dirfd[i]);

		if (r)
			return r;
	}
	return CALL_CONTINUE;
}

static bool is_of_crowd(const struct listener *listener, pid_t tid)
{
	int64_t crowd = atomic_load_explicit(&listener->crowd, memory_order_relaxed);
	uid_t user;

	return crowd >= 0 && signals_user(tid, &user) && user == crowd;
}

/* Without a look at the program's memory, which may be on a FUSE mount of its own: the kernel walks
 * paths itself. */
static int64_t serve_crowd(struct call *call, int index)
{
	const struct guard_ledger *ledger = call->receiver->listener->ledger.shared;
	unsigned descriptors = (unsigned)call->nr < GUARD_CALLS ? ledger->descriptors[call->nr] : 0;
	enum call_when when = call->row->when;

	call->crowded = true;
	if (when == WHEN_STATE || when == WHEN_STATE_AT0 || when == WHEN_FSIZE0 ||
	    when == WHEN_FSIZE1)
		return handlers[index](call);
	for (unsigned i = 0; i < 6; i++)
		if ((descriptors >> i & 1) && (int)call->arg[i] >= ledger->fd_base)
			return -ENOMEM;
	return CALL_CONTINUE;
}

static void serve(struct receiver *receiver, const struct seccomp_notif *request)
{
	struct listener *listener = receiver->listener;
	struct notify *door = listener->door;
	uint64_t started = stats_now();
	int index = call_of_number(request->data.nr);
	struct call call = {
	    .door = door,
	    .container = door->container,
	    .receiver = receiver,
	    .listener = listener->fd,
	    .id = request->id,
	    .arg = (const uint64_t *)request->data.args,
	    .nr = request->data.nr,
	    .tid = (pid_t)request->pid,
	    .row = index < 0 ? NULL : &call_table[index],
	    .acts = &receiver->ledger->acts,
	    .ctx = {.cancel = &receiver->cancel, .fsize_limit = UINT64_MAX},
	};
	int64_t result = CALL_CONTINUE;

	atomic_store_explicit(&receiver->cancel, false, memory_order_relaxed);
	atomic_store_explicit(&receiver->id, call.id, memory_order_relaxed);
	atomic_store_explicit(&receiver->tid, call.tid, memory_order_relaxed);
	atomic_store_explicit(&receiver->since, started | 1, memory_order_release);
	if (atomic_load_explicit(&door->monitor_state, memory_order_relaxed) == MONITOR_SLEEPS)
		monitor_wake(door);

	if (atomic_load_explicit(&door->npending, memory_order_relaxed))
		door_settle(door, call.tid);
	/* A caller outside of the service's pid namespace has no number here. */
	if (call.row && call.tid > 0)
		result = is_of_crowd(listener, call.tid) ? serve_crowd(&call, index)
							 : handlers[index](&call);
	while (result == -EINTR && atomic_exchange(&receiver->cancel, false) &&
	       !atomic_load(&listener->ended)) {
		result = signals_interrupted(call.tid);
		if (result)
			break;
		ncall_end(&call);
		result = handlers[index](&call);
	}
	if (result == CALL_CONTINUE && call.dirfd[0])
		result = continue_from(&call);
	answer(&call, result);
	/* A call that goes on to the kernel counts where it got a kernel file for that. */
	if (call.served && result != CALL_GONE &&
	    (result != CALL_CONTINUE || call.row->op == WIRE_KERNEL_FILE))
		stats_count(DOOR_NOTIFY, call.row->op, started, call.bytes,
			    result < 0 && result > CALL_GONE ? (int)result : 0);
	unblocked(&call);
	ncall_end(&call);
	atomic_store_explicit(&receiver->since, 0, memory_order_release);
}

/* Waits until this thread may receive. False: the listener has ended. */
static bool receiver_turn(struct listener *listener)
{
	while (!atomic_load(&listener->ended)) {
		uint32_t permits;

		if (atomic_fetch_add(&listener->receiving, 1) < atomic_load(&listener->want))
			return true;
		atomic_fetch_sub(&listener->receiving, 1);
		atomic_fetch_add(&listener->parked, 1);
		while (!(permits = atomic_load(&listener->permits)) &&
		       !atomic_load(&listener->ended))
			futex_wait(&listener->permits, 0, NULL);
		while (permits &&
		       !atomic_compare_exchange_weak(&listener->permits, &permits, permits - 1))
			;
		atomic_fetch_sub(&listener->parked, 1);
	}
	return false;
}

static void listener_end(struct listener *listener)
{
	atomic_store(&listener->ended, true);
	atomic_fetch_add(&listener->permits, RECEIVERS_MAX);
	futex_wake(&listener->permits, RECEIVERS_MAX);
	monitor_wake(listener->door);
}

static bool hung_up(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLNVAL));
}

static void *receiver_main(void *arg)
{
	struct receiver *receiver = arg;
	struct listener *listener = receiver->listener;

	pthread_setname_np(pthread_self(), "notify");
	while (receiver_turn(listener)) {
		struct guard_call *ledger = receiver->ledger; /* zeroed: the kernel insists */
		int r = ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_RECV, &ledger->request);
		int error = errno;

		atomic_fetch_sub(&listener->receiving, 1);
		if (!r) {
			serve(receiver, &ledger->request);
			memset(ledger, 0, sizeof(*ledger));
		} else if (error == ENOENT ? hung_up(listener->fd) : error != EINTR) {
			listener_end(listener);
			break;
		}
	}
	free(receiver->scratch);
	receiver->scratch = NULL;
	atomic_store(&receiver->ended, true);
	return NULL;
}

/* The monitor. */

/* Ends the wait of a call whose caller no longer wants it. */
static void look_after(struct receiver *receiver, uint64_t since)
{
	uint64_t id = atomic_load(&receiver->id);
	pid_t tid = atomic_load(&receiver->tid);
	bool wanted;

	if (atomic_load(&receiver->cancel))
		return;
	wanted = !ioctl(receiver->listener->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) &&
		 !signals_pending(tid);
	/* Should this hit the receiver's next call instead: serve() finds no signal, and begins
	 * that call again. */
	if (wanted || atomic_load(&receiver->since) != since)
		return;
	atomic_store(&receiver->cancel, true);
	vfs_cancel(receiver->listener->door->container->pool->vfs);
}

/* What a tick found: calls in progress that are young or wait for a thread; only long ones. */
enum { TICK_LONG = 1, TICK_BUSY = 3 };

static int by_user(const void *a, const void *b)
{
	uid_t x = *(const uid_t *)a, y = *(const uid_t *)b;

	return x < y ? -1 : x > y;
}

/* So that no user takes all of a listener's receivers: reading his memory may wait for as long as
 * he likes. */
static void find_crowd(struct listener *listener, unsigned calls)
{
	uid_t users[RECEIVERS_MAX];
	int64_t crowd = -1;
	unsigned n = 0, run = 0;

	for (struct receiver *r = calls < CROWD ? NULL : listener->receivers; r; r = r->next) {
		uint64_t since = atomic_load_explicit(&r->since, memory_order_acquire);

		if (since && r->user_since != since) {
			if (!signals_user(atomic_load(&r->tid), &r->user))
				continue;
			r->user_since = since;
		}
		if (since)
			users[n++] = r->user;
	}
	qsort(users, n, sizeof(users[0]), by_user);
	for (unsigned i = 0; i < n && crowd < 0; i++) {
		run = i && users[i] == users[i - 1] ? run + 1 : 1;
		if (run == CROWD)
			crowd = users[i];
	}
	if (crowd >= 0 && crowd != atomic_load(&listener->crowd))
		log_limited(LOG_WARN,
			    "container %s: user %lld has %u system calls in progress: no more"
			    " of his are served",
			    listener->door->container->id, (long long)crowd, CROWD);
	atomic_store(&listener->crowd, crowd);
}

static unsigned listener_tick(struct listener *listener, int ncpus)
{
	struct pollfd p = {.fd = listener->fd, .events = POLLIN};
	int want = atomic_load(&listener->want);
	unsigned busy = 0, waiting, looks = 0, calls = 0;
	uint64_t now = stats_now();

	for (struct receiver *r = listener->receivers; r; r = r->next) {
		uint64_t since = atomic_load_explicit(&r->since, memory_order_acquire);

		if (!since)
			continue;
		calls++;
		if (now < since + LONG_CALL_NS) {
			busy = TICK_BUSY;
			continue;
		}
		busy |= TICK_LONG;
		if (now < r->looked + LOOK_NS || looks++ >= LOOKS_PER_TICK)
			continue;
		r->looked = now;
		look_after(r, since);
	}
	if (calls >= CROWD || atomic_load(&listener->crowd) >= 0)
		find_crowd(listener, calls);
	waiting = poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
	if (waiting && atomic_load(&listener->receiving) == 0)
		listener_more(listener);
	listener->waiting_ticks = waiting ? listener->waiting_ticks + 1 : 0;
	listener->calm_ticks = waiting ? 0 : listener->calm_ticks + 1;
	if (listener->waiting_ticks >= TICKS_BACKLOG && want < ncpus) {
		atomic_store(&listener->want, want + 1);
		listener->waiting_ticks = 0;
	} else if (listener->calm_ticks >= TICKS_CALM && want > 1) {
		atomic_store(&listener->want, want - 1);
		listener->calm_ticks = 0;
	}
	return waiting || (busy && !atomic_load(&listener->receiving)) ? TICK_BUSY : busy;
}

/* Frees the receivers that have ended; true when none is left. */
static bool listener_reap(struct listener *listener)
{
	struct receiver **at = &listener->receivers, *receiver;

	while ((receiver = *at)) {
		if (!atomic_load(&receiver->ended)) {
			/* Out of the kernel, should it wait there; again at the next tick. */
			pthread_kill(receiver->thread, signals_wakeup());
			at = &receiver->next;
			continue;
		}
		pthread_join(receiver->thread, NULL);
		*at = receiver->next;
		listener->nreceivers--;
		free(receiver);
	}
	return !listener->receivers;
}

/* TICK_*, 0: nothing moves. *ret_over: the door stops, and its listeners are gone. */
static unsigned door_tick(struct notify *door, int ncpus, bool *ret_over)
{
	struct listener **at, *listener;
	unsigned busy = 0;

	pthread_mutex_lock(&door->lock);
	for (at = &door->listeners; (listener = *at);) {
		if (atomic_load(&listener->ended)) {
			busy = TICK_BUSY;
			if (listener_reap(listener)) {
				*at = listener->next;
				ledger_left(door->container->pool, listener->fd);
				fd_close(listener->fd);
				ledger_done(&listener->ledger);
				free(listener);
				continue;
			}
		} else {
			busy |= listener_tick(listener, ncpus);
		}
		at = &listener->next;
	}
	*ret_over = atomic_load(&door->stopping) && !door->listeners;
	pthread_mutex_unlock(&door->lock);
	return busy;
}

static void *monitor_main(void *arg)
{
	struct notify *door = arg;
	int ncpus = door->container->pool->ncpus > 0 ? door->container->pool->ncpus : 1;
	unsigned calm = 0, ticks = 0;
	bool over = false;

	pthread_setname_np(pthread_self(), "notify-monitor");
	for (;;) {
		struct timespec tick = {.tv_nsec = TICK_NS};
		unsigned busy;

		atomic_store(&door->monitor_state, MONITOR_NAPS);
		busy = door_tick(door, ncpus, &over);
		calm = busy ? 0 : calm + 1;
		if (busy == TICK_LONG)
			tick.tv_nsec *= LONG_TICKS;
		if (over)
			return NULL;
		if (++ticks % 1000 == 0)
			door_sweep(door);
		tick.tv_nsec <<= calm < TICK_SHIFT_MAX ? calm : TICK_SHIFT_MAX;
		if (calm < TICKS_TO_SLEEP) {
			futex_wait(&door->monitor_state, MONITOR_NAPS, &tick);
			continue;
		}
		atomic_store(&door->monitor_state, MONITOR_SLEEPS);
		if (!door_tick(door, ncpus, &over) && !atomic_load(&door->stopping)) {
			/* Callers that exit without a word are swept now and then. */
			struct timespec nap = {.tv_sec = 5};

			futex_wait(&door->monitor_state, MONITOR_SLEEPS, &nap);
			door_sweep(door);
		}
		calm = 0;
	}
}

static int door_new(struct container *container, struct notify **ret)
{
	CLEANUP_FREE struct notify *door = calloc(1, sizeof(*door));
	int r;

	if (!door)
		return -ENOMEM;
	door->container = container;
	r = root_of(container->init_pid, &door->root_mount, &door->root_ino);
	if (r)
		return r;
	signals_init();
	pthread_mutex_init(&door->lock, NULL);
	r = cred_thread(&door->monitor, NULL, monitor_main, door);
	if (r) {
		pthread_mutex_destroy(&door->lock);
		return r;
	}
	*ret = STEAL_PTR(door);
	return 0;
}

/* Makes container->notify; two listeners may come at once. */
static pthread_mutex_t doors = PTHREAD_MUTEX_INITIALIZER;

int notify_serve(struct container *container, int fd)
{
	CLEANUP_FD int owned = fd;
	CLEANUP_FREE struct listener *listener = calloc(1, sizeof(*listener));
	struct pool *pool = container->pool;
	struct notify *door;
	unsigned listeners = 0;
	uint64_t no_call = 0;
	int r = 0;

	if (!listener)
		return -ENOMEM;
	/* Any other descriptor says ENOTTY or EINVAL. */
	if (!ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &no_call) || errno != ENOENT) {
		fd_discard(STEAL_FD(owned));
		return -EINVAL;
	}
	/* Linux 6.6; before it every call pays a wake-up on another CPU. */
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP))
		log_limited(LOG_WARN, "this kernel has no SYNC_WAKE_UP for seccomp notifications");

	pthread_mutex_lock(&doors);
	door = container->notify;
	if (!door && !(r = door_new(container, &door)))
		container->notify = door;
	pthread_mutex_unlock(&doors);
	if (r)
		return r;

	r = ledger_init(container->fd_base, &listener->ledger);
	if (r)
		return r;
	listener->door = door;
	listener->fd = fd;
	atomic_store(&listener->want, 1);
	atomic_store(&listener->crowd, -1);
	pthread_mutex_lock(&door->lock);
	for (struct listener *l = door->listeners; l; l = l->next)
		listeners++;
	r = atomic_load(&door->stopping) ? -ESHUTDOWN : listeners >= LISTENERS_MAX ? -EUSERS : 0;
	if (!r) {
		ledger_hand_over(&listener->ledger, pool, fd);
		r = receiver_start(listener);
		if (r)
			ledger_left(pool, fd);
	}
	if (!r) {
		listener->next = door->listeners;
		door->listeners = STEAL_PTR(listener);
		owned = -1;
	} else {
		ledger_done(&listener->ledger);
	}
	pthread_mutex_unlock(&door->lock);
	return r;
}

void notify_stop(struct container *container)
{
	struct notify *door;

	pthread_mutex_lock(&doors);
	door = container->notify;
	container->notify = NULL;
	pthread_mutex_unlock(&doors);
	if (!door)
		return;

	pthread_mutex_lock(&door->lock);
	atomic_store(&door->stopping, true);
	for (struct listener *l = door->listeners; l; l = l->next) {
		for (struct receiver *r = l->receivers; r; r = r->next)
			atomic_store(&r->cancel, true);
		listener_end(l);
	}
	vfs_cancel(container->pool->vfs);
	pthread_mutex_unlock(&door->lock);

	monitor_wake(door);
	pthread_join(door->monitor, NULL);
	door_forget_callers(door);
	pthread_mutex_destroy(&door->lock);
	free(door);
}
