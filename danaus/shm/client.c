/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the clients' channels and the threads that serve them. What stands in a channel is the
 * tenant's to change at any time: which slots are in work, who owns the channel and what is
 * cancelled is kept in private memory. */
#include "danaus/shm/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/libservices/patience.h"
#include "danaus/pool/pool.h"
#include "danaus/pool/stats.h"
#include "danaus/pool/workers.h"
#include "danaus/shm/channel.h"
#include "danaus/shm/claims.h"

#define SPIN_NS	      50000u  /* about what a wake-up costs */
#define SPIN_MANY_NS  20000u  /* of a client with threads: they have the CPUs to themselves less */
#define SPIN_WOKEN_NS 120000u /* where the client was asleep and has to wake up first */
#define SPIN_SHORT_NS 2000u
#define SPIN_MISSES   8u      /* so many in a row: only short spins */
#define STEWARD_NS    1000000 /* calls may take that long while others are pending */
#define STEWARD_IDLE  64u     /* ticks without a busy client until the steward rests */
#define THREADS_MAX   (CLIENTS_MAX * 3)
#define STACK_BYTES   (1u << 20) /* address space; an idle thread touches little of it */
#define SETTLE_NS     200000000

/* What the client library says that it answered by itself. */
struct unasked {
	uint64_t window_reads, window_bytes, stats, opens, closes, accesses, readlinks;
};

struct client {
	struct shm_server *server;
	struct shm_channel *channel;
	_Atomic uint32_t refs;	/* the peer's, each serving thread's, each attach call's */
	_Atomic uint32_t ended; /* futex, beside the channel's bell */
	_Atomic uint32_t turn;	/* threads started so far: the last one owns the channel */
	struct claims claims;
	_Atomic uint64_t used;	 /* slots ever used: more than one means threads */
	_Atomic uint32_t begun;	 /* calls; the steward sees progress by it */
	uint32_t seen_begun;	 /* the steward's */
	_Atomic uint32_t misses; /* spins in vain */
	atomic_bool woke_it;	 /* the last reply found its thread asleep */
	struct session session;
	struct known_identity known[SHM_SLOTS];
	atomic_bool cancel[SHM_SLOTS];
	struct unasked counted;	     /* so far; under the server's lock */
	bool orphan;		     /* its process ended, but another one holds the connection */
	struct client *next, **link; /* in the server's list */
};

struct shm_server {
	struct pool *pool;
	struct workers *threads;
	_Atomic int spinners;
	pthread_mutex_t lock; /* the list */
	pthread_cond_t gone;
	struct client *clients;
	unsigned count;
	pthread_t steward;
	_Atomic uint32_t steward_asleep; /* futex */
	atomic_bool ending;
};

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

/* Until the bell or the client's end. By the bell alone the tenant could have this thread wait for
 * ever: it may move who waits there to another futex of its own (FUTEX_CMP_REQUEUE). */
static void sleep_on_bell(struct client *client)
{
	struct futex_waitv wait[] = {
	    {.val = 1, .uaddr = (uintptr_t)&client->channel->bell_asleep, .flags = FUTEX_32},
	    {.val = 0, .uaddr = (uintptr_t)&client->ended, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
	};

	syscall(SYS_futex_waitv, wait, 2, 0, NULL, 0);
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void own_channel(void *arg);

/* Another thread becomes the owner. */
static int pass_on(struct client *client)
{
	int r;

	client_ref(client);
	r = workers_run(client->server->threads, own_channel, client);
	if (r < 0)
		client_unref(client);
	return r;
}

/* Rings for slots in work: cancellations. */
static void cancel(struct client *client, uint64_t slots)
{
	bool any = false;

	for (; slots; slots &= slots - 1) {
		unsigned slot = __builtin_ctzll(slots);

		if (atomic_load(&client->channel->slot[slot].state) & SLOT_CANCEL) {
			atomic_store(&client->cancel[slot], true);
			any = true;
		}
	}
	if (any)
		vfs_cancel(client->server->pool->vfs);
}

/* A slot that the caller has to serve; -1: none. */
static int next_slot(struct client *client)
{
	uint64_t again;
	int slot = claims_next(&client->claims, client->channel, &again);

	if (again)
		cancel(client, again);
	return slot;
}

static bool has_threads(const struct client *client)
{
	uint64_t used = atomic_load_explicit(&client->used, memory_order_relaxed);

	return used & (used - 1);
}

static uint64_t spin_ns(const struct client *client)
{
	if (client->misses >= SPIN_MISSES)
		return SPIN_SHORT_NS;
	if (has_threads(client))
		return SPIN_MANY_NS;
	return client->woke_it ? SPIN_WOKEN_NS : SPIN_NS;
}

/* Whether the thread saw a reason to look again. */
static bool spin(struct client *client)
{
	struct shm_server *server = client->server;
	uint64_t until;
	bool rung = false;

	if (atomic_fetch_add(&server->spinners, 1) <
	    __atomic_load_n(&server->pool->ncpus, __ATOMIC_RELAXED) - 1) {
		until = stats_now() + spin_ns(client);
		do {
			for (int i = 0; i < 16 && !rung; i++) {
				rung = atomic_load_explicit(&client->channel->doorbell,
							    memory_order_relaxed) != 0;
				cpu_relax();
			}
		} while (!rung && stats_now() < until);
	}
	atomic_fetch_sub(&server->spinners, 1);
	return rung;
}

static void wake_steward(struct shm_server *server)
{
	if (atomic_load_explicit(&server->steward_asleep, memory_order_relaxed) &&
	    atomic_exchange(&server->steward_asleep, 0))
		futex(&server->steward_asleep, FUTEX_WAKE_PRIVATE, 1, NULL);
}

static void wait_for_bell(struct client *client)
{
	struct shm_channel *channel = client->channel;
	uint32_t misses = client->misses;
	uint64_t slept;

	if (spin(client)) {
		client->misses = misses ? misses - 1 : 0;
		return;
	}
	atomic_store(&channel->bell_asleep, 1);
	if (atomic_load(&channel->doorbell) || atomic_load(&client->ended)) {
		atomic_store(&channel->bell_asleep, 0);
		return;
	}
	slept = stats_now();
	sleep_on_bell(client);
	atomic_store(&channel->bell_asleep, 0);
	if (stats_now() - slept < SPIN_NS)
		client->misses = misses ? misses - 1 : 0;
	else if (misses < SPIN_MISSES)
		client->misses = misses + 2;
}

static void reply(struct client *client, unsigned slot, const struct call *call)
{
	struct shm_slot *at = &client->channel->slot[slot];

	memcpy(&at->reply, &call->reply, offsetof(struct wire_reply, attr));
	if (call->has_attr)
		memcpy(&at->reply.attr, &call->reply.attr, sizeof(call->reply.attr));
	client->woke_it = atomic_exchange(&at->state, SLOT_DONE) & SLOT_WAITING;
	claims_end(&client->claims, client->channel, slot);
	if (client->woke_it)
		futex(&at->state, FUTEX_WAKE, 1, NULL);
}

static void call_waits(void *arg)
{
	pass_on(arg);
}

static void serve(struct client *client, unsigned slot)
{
	const struct patience told = {.waits = call_waits, .arg = client};
	struct shm_slot *at = &client->channel->slot[slot];
	uint32_t state = atomic_load(&at->state);
	uint64_t started = stats_now(), bytes, used;
	unsigned flags;
	struct call call;
	int r;

	wake_steward(client->server);
	if ((state & 0xff) != SLOT_POSTED) { /* a late cancellation's ring */
		claims_end(&client->claims, client->channel, slot);
		return;
	}
	__builtin_prefetch(&at->reply, 1);
	atomic_fetch_add_explicit(&client->begun, 1, memory_order_relaxed);
	used = atomic_load_explicit(&client->used, memory_order_relaxed);
	if (!(used & 1ull << slot))
		used = atomic_fetch_or(&client->used, 1ull << slot) | 1ull << slot;
	atomic_store_explicit(&client->cancel[slot], state & SLOT_CANCEL, memory_order_relaxed);
	call.known = &client->known[slot];
	r = call_take(&call, &client->session, &at->request, shm_payload(client->channel, slot),
		      WIRE_PAYLOAD_MAX);
	flags = wire_op_flags(call.request.op);
	if (!r && (flags & OPF_BY_SOCKET))
		r = -EPROTO;
	if (!r) {
		call.cancel = &client->cancel[slot];
		call.nowait = true;
		/* a client with several threads goes on while this one syncs */
		if ((flags & OPF_MAY_BLOCK) && (used & (used - 1)))
			pass_on(client);
		else if (used & (used - 1))
			patience = &told;
		r = call_run(&call);
		patience = NULL;
		if (call.would_wait) {
			call.nowait = false;
			r = pass_on(client);
			/* client_end() may have been before the line above that clears it */
			if (atomic_load(&client->ended))
				atomic_store(&client->cancel[slot], true);
			r = r < 0 ? -ENOLCK : call_run(&call);
		}
	}
	call.reply.error = r;
	bytes =
	    call.request.op == WIRE_READ || call.request.op == WIRE_WRITE ? call.reply.value : 0;
	reply(client, slot, &call);
	stats_count(DOOR_SHM, call.request.op, started, bytes, r);
	call_done(&call);
	if (atomic_load_explicit(&client->session.revoked, memory_order_relaxed))
		atomic_store(&client->channel->dead, 1);
}

static void own_channel(void *arg)
{
	struct client *client = arg;
	uint32_t turn = atomic_fetch_add(&client->turn, 1) + 1;

	for (;;) {
		int slot = next_slot(client);

		if (slot >= 0 && !atomic_load_explicit(&client->ended, memory_order_relaxed)) {
			serve(client, slot);
			continue;
		}
		if (atomic_load(&client->ended))
			break;
		if (atomic_load(&client->turn) == turn) {
			wait_for_bell(client);
			continue;
		}
		/* The owner may sleep while bell_asleep is 0, because this thread, awake, cleared
		 * it: who leaves arms the bell, and looks once more. */
		atomic_store(&client->channel->bell_asleep, 1);
		if (!atomic_load(&client->channel->doorbell))
			break;
	}
	client_unref(client);
}

/* Under the server's lock. The numbers are the tenant's own to falsify. */
static void count_unasked(struct client *client)
{
	struct shm_channel *channel = client->channel;
	const struct unasked *old = &client->counted;
	const struct unasked now = {
	    .window_reads = atomic_load(&channel->window_reads),
	    .window_bytes = atomic_load(&channel->window_bytes),
	    .stats = atomic_load(&channel->lease_stats),
	    .opens = atomic_load(&channel->lease_opens),
	    .closes = atomic_load(&channel->lease_closes),
	    .accesses = atomic_load(&channel->lease_accesses),
	    .readlinks = atomic_load(&channel->lease_readlinks),
	};

	stats_add(DOOR_WINDOW, WIRE_READ, now.window_reads - old->window_reads,
		  now.window_bytes - old->window_bytes);
	stats_add(DOOR_LEASE, WIRE_STAT, now.stats - old->stats, 0);
	stats_add(DOOR_LEASE, WIRE_OPEN, now.opens - old->opens, 0);
	stats_add(DOOR_LEASE, WIRE_CLOSE, now.closes - old->closes, 0);
	stats_add(DOOR_LEASE, WIRE_ACCESS, now.accesses - old->accesses, 0);
	stats_add(DOOR_LEASE, WIRE_READLINK, now.readlinks - old->readlinks, 0);
	client->counted = now;
}

void shm_server_count(struct shm_server *server)
{
	pthread_mutex_lock(&server->lock);
	for (struct client *client = server->clients; client; client = client->next)
		count_unasked(client);
	pthread_mutex_unlock(&server->lock);
}

/* Takes idle handles of node's (NULL: all) away from the client, at most cap. Which numbers stand
 * there is the tenant's to say: they can only be handles of its own. */
static unsigned take_idle(struct client *client, struct vnode *node, struct vfile **files,
			  unsigned cap)
{
	struct handles *handles = &client->session.handles;
	unsigned n = 0;

	for (unsigned i = 0; i < SHM_IDLE && n < cap; i++) {
		uint32_t handle = atomic_load(&client->channel->idle[i]);

		if (handle && handles_has(handles, handle, node) &&
		    atomic_compare_exchange_strong(&client->channel->idle[i], &handle, 0) &&
		    !handles_take(handles, handle, &files[n]))
			n++;
	}
	return n;
}

void shm_server_drop_idle(struct shm_server *server, struct vnode *node)
{
	struct vfile *files[SHM_IDLE];
	unsigned n;

	/* Closing may take long: not under the lock. A tenant that hands in ever more has its own
	 * thread at work here, for a while. */
	for (unsigned rounds = 0; rounds < CLIENTS_MAX; rounds++) {
		n = 0;
		pthread_mutex_lock(&server->lock);
		for (struct client *client = server->clients; client && n < SHM_IDLE;
		     client = client->next)
			n += take_idle(client, node, files + n, SHM_IDLE - n);
		pthread_mutex_unlock(&server->lock);
		for (unsigned i = 0; i < n; i++)
			vfile_unref(files[i]);
		if (n < SHM_IDLE)
			return;
	}
}

/* Its threads wait for nothing any more: what is posted and was not served gets its answer. */
static void answer_the_rest(struct client *client)
{
	for (unsigned i = 0; i < SHM_SLOTS; i++) {
		struct shm_slot *at = &client->channel->slot[i];

		if ((atomic_load(&at->state) & 0xff) != SLOT_POSTED)
			continue;
		at->reply.error = -EIO;
		at->reply.len = 0;
		atomic_exchange(&at->state, SLOT_DONE);
		futex(&at->state, FUTEX_WAKE, INT_MAX, NULL);
	}
}

static void client_free(void *arg)
{
	struct client *client = arg;
	struct shm_server *server = client->server;

	answer_the_rest(client);
	for (unsigned i = 0; i < SHM_SLOTS; i++) {
		if (client->known[i].cred)
			cred_unref(client->known[i].cred);
	}
	/* while the client is listed shm_server_settle() waits for this, and idle files are taken
	 */
	session_end(&client->session);
	pthread_mutex_lock(&server->lock);
	count_unasked(client);
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	server->count--;
	pthread_cond_broadcast(&server->gone);
	pthread_mutex_unlock(&server->lock);
	session_done(&client->session);
	munmap(client->channel, SHM_CHANNEL_BYTES);
	free(client);
}

struct client *client_ref(struct client *client)
{
	atomic_fetch_add(&client->refs, 1);
	return client;
}

void client_unref(struct client *client)
{
	if (client && atomic_fetch_sub(&client->refs, 1) == 1)
		client_free(client);
}

struct session *client_session(struct client *client)
{
	return &client->session;
}

static int make_channel(struct shm_channel **ret, int *ret_memfd)
{
	CLEANUP_FD int fd = memfd_create("danaus-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at;

	if (fd < 0 || ftruncate(fd, SHM_CHANNEL_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	at = mmap(NULL, SHM_CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret = at;
	*ret_memfd = STEAL_FD(fd);
	return 0;
}

int client_new(struct shm_server *server, struct process *process, struct client **ret,
	       int *ret_memfd)
{
	struct client *client = calloc(1, sizeof(*client));
	CLEANUP_FD int memfd = -1;
	bool room;
	int r;

	if (!client)
		return -ENOMEM;
	pthread_mutex_lock(&server->lock);
	room = server->count < CLIENTS_MAX;
	server->count += room;
	pthread_mutex_unlock(&server->lock);
	if (!room) {
		free(client);
		return -EUSERS;
	}
	client->server = server;
	atomic_init(&client->refs, 2); /* the caller's and the first thread's */
	r = make_channel(&client->channel, &memfd);
	if (r < 0) {
		pthread_mutex_lock(&server->lock);
		server->count--;
		pthread_cond_broadcast(&server->gone);
		pthread_mutex_unlock(&server->lock);
		free(client);
		return r;
	}
	session_init(&client->session, process);
	pthread_mutex_lock(&server->lock);
	client->next = server->clients;
	client->link = &server->clients;
	if (client->next)
		client->next->link = &client->next;
	server->clients = client;
	pthread_mutex_unlock(&server->lock);
	if (workers_run(server->threads, own_channel, client) < 0) {
		client_unref(client);
		client_unref(client);
		return -EUSERS;
	}
	*ret = client;
	*ret_memfd = STEAL_FD(memfd);
	return 0;
}

void client_end(struct client *client)
{
	atomic_store(&client->ended, 1);
	atomic_store(&client->channel->dead, 1);
	for (unsigned i = 0; i < SHM_SLOTS; i++)
		atomic_store(&client->cancel[i], true);
	vfs_cancel(client->server->pool->vfs);
	futex(&client->ended, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
	if (atomic_fetch_sub(&client->refs, 1) == 1 &&
	    pool_run(client->server->pool, client_free, client) < 0)
		client_free(client);
}

void shm_server_wait(struct shm_server *server, struct container *container)
{
	struct client *client;

	pthread_mutex_lock(&server->lock);
	for (client = server->clients; client;) {
		if (client->session.container != container) {
			client = client->next;
			continue;
		}
		pthread_cond_wait(&server->gone, &server->lock);
		client = server->clients;
	}
	pthread_mutex_unlock(&server->lock);
}

/* Under the lock: a client of an ended process whose files are still to be given back. */
static struct client *find_ended(struct shm_server *server, const struct container *container)
{
	struct client *client = server->clients;

	while (client && (client->session.container != container || client->orphan ||
			  !process_ended(client->session.process)))
		client = client->next;
	return client;
}

bool shm_server_settle(struct shm_server *server, struct container *container)
{
	struct timespec until;
	struct client *client;
	bool waited = false;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += SETTLE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&server->lock);
	while ((client = find_ended(server, container))) {
		if (!pthread_cond_timedwait(&server->gone, &server->lock, &until)) {
			waited = true;
			continue;
		}
		/* a child has the connection: not waited for again. The list may have changed. */
		client = find_ended(server, container);
		if (client)
			client->orphan = true;
	}
	pthread_mutex_unlock(&server->lock);
	return waited;
}

/* A reference, unless the client is being freed already. */
static bool try_ref(struct client *client)
{
	uint32_t refs = atomic_load(&client->refs);

	while (refs && !atomic_compare_exchange_weak(&client->refs, &refs, refs + 1))
		;
	return refs;
}

/* Under the lock: a client that has requests pending and began none since the last look; *ret_busy:
 * some client is in a call. */
static struct client *find_stuck(struct shm_server *server, bool *ret_busy)
{
	struct client *stuck = NULL;

	for (struct client *client = server->clients; client; client = client->next) {
		uint32_t begun = atomic_load(&client->begun);

		if (begun == client->seen_begun && !stuck &&
		    !atomic_load_explicit(&client->ended, memory_order_relaxed) &&
		    atomic_load(&client->claims.in_work) &&
		    (atomic_load(&client->claims.pending) ||
		     atomic_load(&client->channel->doorbell)) &&
		    try_ref(client))
			stuck = client;
		*ret_busy |= begun != client->seen_begun || atomic_load(&client->claims.in_work);
		client->seen_begun = begun;
	}
	return stuck;
}

/* Gives a client whose threads are all stuck in calls, while others wait, a new owner; one a tick,
 * so that a slow storage does not start a thread storm. */
static bool look_after_all(struct shm_server *server)
{
	struct client *stuck;
	bool busy = false;

	pthread_mutex_lock(&server->lock);
	stuck = find_stuck(server, &busy);
	pthread_mutex_unlock(&server->lock);
	if (stuck) {
		pass_on(stuck);
		client_unref(stuck);
	}
	return busy;
}

static void *steward_main(void *arg)
{
	static const struct timespec tick = {.tv_nsec = STEWARD_NS};
	struct shm_server *server = arg;
	unsigned idle = 0;

	while (!atomic_load(&server->ending)) {
		idle = look_after_all(server) ? 0 : idle + 1;
		if (idle < STEWARD_IDLE) {
			nanosleep(&tick, NULL);
			continue;
		}
		atomic_store(&server->steward_asleep, 1);
		if (!look_after_all(server) && !atomic_load(&server->ending))
			futex(&server->steward_asleep, FUTEX_WAIT_PRIVATE, 1, NULL);
		atomic_store(&server->steward_asleep, 0);
		idle = 0;
	}
	return NULL;
}

static void drop_idle_of(void *arg, struct vnode *node)
{
	shm_server_drop_idle(arg, node);
}

int shm_server_new(struct pool *pool, struct shm_server **ret)
{
	struct shm_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->pool = pool;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->gone, NULL);
	r = workers_new(THREADS_MAX, 0, STACK_BYTES, &server->threads);
	if (!r) {
		r = cred_thread(&server->steward, NULL, steward_main, server);
		if (r < 0)
			workers_free(server->threads);
	}
	if (r < 0) {
		free(server);
		return r;
	}
	vfs_set_drop_idle(pool->vfs, drop_idle_of, server);
	pool->settle = shm_server_settle;
	*ret = server;
	return 0;
}

void shm_server_free(struct shm_server *server)
{
	if (!server)
		return;
	vfs_set_drop_idle(server->pool->vfs, NULL, NULL);
	atomic_store(&server->ending, true);
	atomic_store(&server->steward_asleep, 0);
	futex(&server->steward_asleep, FUTEX_WAKE_PRIVATE, 1, NULL);
	pthread_join(server->steward, NULL);
	workers_free(server->threads);
	pthread_mutex_destroy(&server->lock);
	pthread_cond_destroy(&server->gone);
	free(server);
}
