/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the answers that are kept, in two tables that are mapped with the service's counters. A key
 * has one place in each; the later one has it. */
#include "preload/lease.h"

#include "preload/position.h"
#include "preload/wrap.h"

#define ATTRS		 256u
#define PATH_KEPT_MAX	 168u /* bytes with the NUL; longer ones are always asked for */
#define MONOTONIC_COARSE 6
#define ASK_NEVER	 0x80000000u
#define VAIN_MAX	 32u

struct answer {
	_Atomic uint32_t busy; /* somebody has it in hand */
	uint32_t tid;	       /* 0: nothing is here */
	uint64_t from;
	uint64_t asked_ns; /* good for duration_us from then on */
	uint32_t flags, path_bytes;
	struct lease lease;
	char path[PATH_KEPT_MAX];
};

struct attr_answer {
	struct answer head;
	int r;
	struct wire_attr attr;
};

struct open_answer {
	struct answer head;
	uint32_t stamp;	    /* its place is the number modulo SHM_IDLE */
	struct ofile *file; /* its handle stands in the channel's idle[] */
};

struct leases {
	const struct lease_table *table;
	_Atomic uint32_t stamp;
	_Atomic uint32_t vain; /* files kept open and closed unused, since one was used */
	_Atomic uint32_t unasked;
	struct attr_answer attr[ATTRS];
	struct open_answer open[SHM_IDLE];
};

static struct leases *leases(void)
{
	return atomic_load_explicit(&root.leases, memory_order_acquire);
}

static struct shm_channel *channel(void)
{
	return atomic_load_explicit(&root.channel, memory_order_relaxed);
}

/* The kernel's: what stands in for the libc's function, to show a program another time, may let it
 * stand still, or open files itself. */
uint64_t lease_clock_ns(void)
{
	static void *_Atomic slot;
	int (*get)(int, struct timespec_ *) = libc_find_vdso(&slot, "__vdso_clock_gettime");
	struct timespec_ now;

	if (unlikely(get(MONOTONIC_COARSE, &now) < 0) &&
	    SYS(clock_gettime, MONOTONIC_COARSE, &now, 0) < 0)
		return 0;
	return (uint64_t)now.sec * 1000000000 + (uint64_t)now.nsec;
}

static void ask(void)
{
	struct leases *none = NULL, *made;
	struct wire_request request;
	struct wire_reply reply;
	long table, p;
	int fd;

	request_init(&request, WIRE_LEASES);
	if (socket_request(&request, NULL, -1, &reply, &fd) < 0)
		return;
	table = reply.value == sizeof(struct lease_table)
		    ? SYS6(mmap, NULL, sizeof(struct lease_table), PROT_READ, MAP_SHARED, fd, 0)
		    : -EPROTO;
	SYS(close, fd, 0, 0);
	if (failed(table))
		return;
	p = SYS6(mmap, NULL, sizeof(*made), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!failed(p)) {
		made = (struct leases *)p;
		made->table = (const struct lease_table *)table;
		if (atomic_compare_exchange_strong(&root.leases, &none, made))
			return;
		SYS(munmap, p, sizeof(*made), 0);
	}
	SYS(munmap, table, sizeof(struct lease_table), 0);
}

void lease_missed(void)
{
	uint32_t asked = atomic_load_explicit(&root.lease_misses, memory_order_relaxed);

	if (asked >= ASK_NEVER || lease_wanted())
		return;
	atomic_store_explicit(&root.lease_misses, asked + 1, memory_order_relaxed);
	if (asked == LEASE_AFTER) {
		atomic_store_explicit(&root.lease_misses, ASK_NEVER, memory_order_relaxed);
		ask();
	}
}

static uint32_t hash_of(const struct lease_key *key, uint32_t *ret_path_bytes)
{
	uint64_t hash = key->from * 0x9e3779b97f4a7c15ull + key->flags;
	const char *p = key->rest;

	for (; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3ull;
	*ret_path_bytes = (uint32_t)(p - key->rest) + 1;
	return (uint32_t)(hash ^ hash >> 32);
}

static bool take(struct answer *at)
{
	return atomic_exchange_explicit(&at->busy, 1, memory_order_acquire) == 0;
}

static void give(struct answer *at)
{
	atomic_store_explicit(&at->busy, 0, memory_order_release);
}

/* What follows is for an entry that is taken. */

static bool is_of(const struct answer *at, const struct lease_key *key, uint32_t path_bytes)
{
	return at->tid == own_tid() && at->from == key->from && at->flags == key->flags &&
	       at->path_bytes == path_bytes && memcmp(at->path, key->rest, path_bytes) == 0;
}

static bool holds(const struct answer *at)
{
	/* a clock that went back, into another time namespace, ends it, too */
	return lease_holds(leases()->table, &at->lease) &&
	       lease_clock_ns() - at->asked_ns < (uint64_t)at->lease.duration_us * 1000 &&
	       !atomic_load_explicit(&channel()->dead, memory_order_relaxed);
}

static void fill(struct answer *at, const struct lease_key *key, uint32_t path_bytes,
		 uint64_t clock_ns, const struct lease *lease)
{
	at->tid = own_tid();
	at->from = key->from;
	at->flags = key->flags;
	at->path_bytes = path_bytes;
	at->asked_ns = clock_ns;
	at->lease = *lease;
	memcpy(at->path, key->rest, path_bytes);
}

/* The lease that came with the answer, out of the payload. */
static bool came_with(struct call *call, uint64_t clock_ns, struct lease *ret)
{
	if (call_reply(call)->len != sizeof(*ret) || !clock_ns)
		return false;
	memcpy(ret, call->payload, sizeof(*ret));
	return ret->ndeps <= LEASE_DEPS_MAX;
}

static void count(const struct lease_key *key)
{
	struct shm_channel *to = channel();

	atomic_fetch_add_explicit(key->flags >> 24 == WIRE_OPEN	      ? &to->lease_opens
				  : key->flags >> 24 == WIRE_ACCESS   ? &to->lease_accesses
				  : key->flags >> 24 == WIRE_READLINK ? &to->lease_readlinks
								      : &to->lease_stats,
				  1, memory_order_relaxed);
}

int lease_find(const struct lease_key *key, struct wire_attr *ret)
{
	struct leases *all = leases();
	struct attr_answer *at;
	int r = LEASE_NONE;
	uint32_t bytes;

	if (!all || !channel())
		return LEASE_NONE;
	at = &all->attr[hash_of(key, &bytes) % ATTRS];
	if (!take(&at->head))
		return LEASE_NONE;
	if (is_of(&at->head, key, bytes) && holds(&at->head)) {
		r = at->r;
		if (!r && ret)
			*ret = at->attr;
	}
	give(&at->head);
	if (r != LEASE_NONE)
		count(key);
	return r;
}

void lease_keep(const struct lease_key *key, uint64_t clock_ns, struct call *call, int r)
{
	struct leases *all = leases();
	struct attr_answer *at;
	struct lease lease;
	uint32_t bytes;

	if (!all || !came_with(call, clock_ns, &lease))
		return;
	at = &all->attr[hash_of(key, &bytes) % ATTRS];
	if (bytes > PATH_KEPT_MAX || !take(&at->head))
		return;
	fill(&at->head, key, bytes, clock_ns, &lease);
	at->r = r;
	if (!r)
		at->attr = call_reply(call)->attr;
	give(&at->head);
}

/* The idle file of an entry, out of it and out of the service's reach; NULL: there is none, or the
 * service has closed it. */
static struct ofile *take_back(struct leases *all, struct open_answer *at)
{
	struct ofile *file = at->file;
	uint32_t handle;

	if (!file)
		return NULL;
	at->file = NULL;
	handle = file->handle;
	if (atomic_compare_exchange_strong(&channel()->idle[at - all->open], &handle, 0))
		return file;
	ofile_drop(file);
	return NULL;
}

/* The program has closed it before: this is no close that ends its record locks on the file. */
static void close_idle(struct ofile *file)
{
	ofile_spoil(file);
	atomic_store_explicit(&file->kernels, true, memory_order_relaxed);
	ofile_put(file);
}

static void close_unused(struct leases *all, struct ofile *file)
{
	atomic_fetch_add_explicit(&all->vain, 1, memory_order_relaxed);
	close_idle(file);
}

bool lease_opens_pay(void)
{
	struct leases *all = leases();

	return all &&
	       (atomic_load_explicit(&all->vain, memory_order_relaxed) < VAIN_MAX ||
		atomic_fetch_add_explicit(&all->unasked, 1, memory_order_relaxed) % VAIN_MAX == 0);
}

struct ofile *lease_find_open(const struct lease_key *key)
{
	struct leases *all = leases();
	struct ofile *file = NULL;
	struct open_answer *at;
	bool good = false;
	uint32_t bytes;

	if (!all || !channel())
		return NULL;
	at = &all->open[hash_of(key, &bytes) % SHM_IDLE];
	if (!take(&at->head))
		return NULL;
	if (at->file && is_of(&at->head, key, bytes)) {
		good = holds(&at->head);
		file = take_back(all, at);
	}
	give(&at->head);
	if (!file)
		return NULL;
	if (!good) {
		close_unused(all, file);
		return NULL;
	}
	atomic_store_explicit(&all->vain, 0, memory_order_relaxed);
	position_start(file);
	atomic_store_explicit(&file->again, true, memory_order_relaxed);
	atomic_fetch_add_explicit(&channel()->lease_opens, 1, memory_order_relaxed);
	return file;
}

uint32_t lease_keep_open(const struct lease_key *key, uint64_t clock_ns, struct call *call)
{
	struct leases *all = leases();
	struct open_answer *at;
	struct ofile *old;
	struct lease lease;
	uint32_t bytes, stamp;

	if (!all || !came_with(call, clock_ns, &lease))
		return 0;
	at = &all->open[hash_of(key, &bytes) % SHM_IDLE];
	if (bytes > PATH_KEPT_MAX || !take(&at->head))
		return 0;
	old = take_back(all, at);
	fill(&at->head, key, bytes, clock_ns, &lease);
	do
		stamp =
		    (atomic_fetch_add(&all->stamp, 1) + 1) * SHM_IDLE + (uint32_t)(at - all->open);
	while (stamp < SHM_IDLE);
	at->stamp = stamp;
	give(&at->head);
	if (old)
		close_unused(all, old);
	return stamp;
}

enum lease_parked lease_park(struct ofile *file)
{
	uint32_t stamp = atomic_load_explicit(&file->lease, memory_order_relaxed), none = 0;
	enum lease_parked parked = LEASE_NOT_PARKED;
	struct leases *all = leases();
	struct open_answer *at;

	if (!all || !channel())
		return LEASE_NOT_PARKED;
	at = &all->open[stamp % SHM_IDLE];
	if (!take(&at->head))
		return LEASE_NOT_PARKED;
	if (at->stamp == stamp && !at->file && holds(&at->head) &&
	    atomic_compare_exchange_strong(&channel()->idle[stamp % SHM_IDLE], &none,
					   file->handle)) {
		at->file = file;
		parked = LEASE_PARKED;
		/* Who removed the file meanwhile counted first, and then looked for idle handles.
		 */
		if (!lease_holds(all->table, &at->head.lease)) {
			uint32_t handle = file->handle;

			at->file = NULL;
			parked = atomic_compare_exchange_strong(&channel()->idle[stamp % SHM_IDLE],
								&handle, 0)
				     ? LEASE_NOT_PARKED
				     : LEASE_CLOSED;
		}
	}
	give(&at->head);
	if (parked != LEASE_NOT_PARKED)
		atomic_fetch_add_explicit(&channel()->lease_closes, 1, memory_order_relaxed);
	return parked;
}

void lease_forked(void)
{
	struct leases *all = leases();

	atomic_store(&root.lease_misses, 0);
	if (!all)
		return;
	for (unsigned i = 0; i < SHM_IDLE; i++)
		if (all->open[i].file)
			atomic_store(&all->open[i].file->refs, 0);
	atomic_store(&root.leases, NULL);
	SYS(munmap, all->table, sizeof(struct lease_table), 0);
	SYS(munmap, all, sizeof(*all), 0);
}
