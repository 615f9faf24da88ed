/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the clients of a ceph libservice: which one calls go to, how long they have been in it,
 * another one when it is cut off. Any worker thread; the watch is a thread of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/clock.h"
#include "danaus/base/log.h"
#include "danaus/libservices/ceph/internal.h"

#define RETRY_S 5

struct ceph_client *cephls_client(struct ceph *fs)
{
	struct ceph_client *client;

	pthread_rwlock_rdlock(&fs->client_lock);
	client = fs->client;
	atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
	pthread_rwlock_unlock(&fs->client_lock);
	return client;
}

/* Its nodes and files are not used any more. */
void cephls_client_unref(struct ceph_client *client)
{
	if (atomic_fetch_sub(&client->refs, 1) > 1)
		return;
	ceph_abort_conn(client->mount);
	ceph_release(client->mount);
	for (unsigned i = 0; i < CEPH_APPENDS; i++)
		pthread_mutex_destroy(&client->append_lock[i]);
	free(client);
}

/* When the latest began of those calls that have been waiting for ns, or 0. alone: only of those
 * that have no thread of their own. */
static uint64_t waits_since(struct ceph *fs, uint64_t ns, bool alone)
{
	uint64_t now = clock_coarse_ns(), latest = 0;

	for (unsigned i = 0; i < CEPH_CALLS; i++) {
		uint64_t began = atomic_load_explicit(&fs->calls[i], memory_order_relaxed);

		if (began > latest && !(alone && began & 1) && now > began + ns)
			latest = began;
	}
	return latest;
}

/* What calls are refused, and why: says so when it changes. */
enum refused { REFUSED_NONE, REFUSED_SOME, REFUSED_ALL };

static void tell(struct ceph *fs, enum refused refused, enum refused *said)
{
	static const char *const what[] = {
	    [REFUSED_NONE] = "is answered again",
	    [REFUSED_SOME] = "waits for calls that the cluster does not answer, though it answers "
			     "others: what they are about is refused until it does",
	    [REFUSED_ALL] = "has waited too long for the cluster: calls are refused until it "
			    "answers",
	};

	if (refused != *said)
		log_warn("ceph: client.%s at %s %s", fs->id, fs->dir, what[refused]);
	*said = refused;
}

/* A call that has no thread of its own keeps that of its asker: whether more would be lost. */
static enum refused look_after(struct ceph *fs)
{
	uint64_t stuck = waits_since(fs, fs->timeout_s * CEPH_SECOND_NS, true);

	cephls_late_tick(fs, atomic_exchange(&fs->called, false) || stuck,
			 waits_since(fs, CEPH_SECOND_NS, false));
	atomic_store(&fs->stalled, stuck && !cephls_is_heard(fs, stuck));
	if (atomic_load(&fs->stalled))
		return REFUSED_ALL;
	if (!cephls_left(fs))
		return stuck ? REFUSED_SOME : REFUSED_NONE;
	return cephls_is_refused(fs, NULL) ? REFUSED_ALL : REFUSED_SOME;
}

static void *watch(void *arg)
{
	enum refused said = REFUSED_NONE;
	struct ceph *fs = arg;

	pthread_mutex_lock(&fs->watch_lock);
	while (!fs->ending) {
		struct timespec until;

		pthread_mutex_unlock(&fs->watch_lock);
		tell(fs, look_after(fs), &said);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_mutex_lock(&fs->watch_lock);
		if (!fs->ending)
			pthread_cond_timedwait(&fs->watch_end, &fs->watch_lock, &until);
	}
	pthread_mutex_unlock(&fs->watch_lock);
	return NULL;
}

int cephls_watch_start(struct ceph *fs)
{
	int r = cred_thread(&fs->watch, NULL, watch, fs);

	fs->watching = !r;
	return r;
}

void cephls_watch_end(struct ceph *fs)
{
	if (!fs->watching)
		return;
	pthread_mutex_lock(&fs->watch_lock);
	fs->ending = true;
	pthread_cond_signal(&fs->watch_end);
	pthread_mutex_unlock(&fs->watch_lock);
	pthread_join(fs->watch, NULL);
	fs->watching = false;
}

/* A place for the watch and nudge to find the call at. The watch leaves threads that are there for
 * calls to those who wait for them. */
static unsigned place(struct ceph *fs)
{
	static atomic_uint threads;
	static __thread unsigned mine;
	uint64_t now = (clock_coarse_ns() & ~1ull) | cephls_is_late();

	if (!mine)
		mine = atomic_fetch_add(&threads, 1) + 1;
	for (unsigned i = 0; i < CEPH_CALLS; i++) {
		unsigned slot = (mine + i) % CEPH_CALLS;
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&fs->calls[slot], &none, now))
			return slot;
	}
	return CEPH_CALLS;
}

int cephls_enter(struct ceph *fs, struct ceph_call *call)
{
	if (cephls_is_left() || atomic_load_explicit(&fs->stalled, memory_order_relaxed))
		return -EIO;
	if (!atomic_load_explicit(&fs->called, memory_order_relaxed))
		atomic_store_explicit(&fs->called, true, memory_order_relaxed);
	call->slot = place(fs);
	call->fs = fs;
	call->client = cephls_client(fs);
	call->mount = call->client->mount;
	call->gen = call->client->gen;
	return 0;
}

/* One thread mounts anew, the others that saw the same client fail wait for it. */
int cephls_recover(struct ceph *fs, unsigned gen)
{
	struct ceph_client *fresh, *old = NULL;
	struct err err = {0};
	int r = 0;

	pthread_mutex_lock(&fs->recover_lock);
	if (fs->client->gen == gen) {
		r = clock_coarse_ns() < fs->recover_after_ns ? -EIO
							     : cephls_mount(fs, true, &fresh, &err);
		if (!r) {
			fresh->gen = gen + 1;
			pthread_rwlock_wrlock(&fs->client_lock);
			old = fs->client;
			fs->client = fresh;
			pthread_rwlock_unlock(&fs->client_lock);
			log_warn("ceph: client.%s was cut off at %s and has mounted it anew",
				 fs->id, fs->dir);
		} else if (err.text[0]) {
			log_limited(LOG_ERROR, "%s", err.text);
			fs->recover_after_ns = clock_coarse_ns() + RETRY_S * CEPH_SECOND_NS;
		}
	}
	pthread_mutex_unlock(&fs->recover_lock);
	if (old)
		cephls_client_unref(old);
	return r;
}

bool cephls_leave(struct ceph *fs, struct ceph_call *call, int64_t r)
{
	unsigned gen = call->gen;

	cephls_client_unref(call->client);
	if (call->slot < CEPH_CALLS) {
		atomic_store_explicit(&fs->data_of[call->slot], 0, memory_order_relaxed);
		atomic_store_explicit(&fs->calls[call->slot], 0, memory_order_release);
	}
	if ((r != -ESHUTDOWN && r != -ENOTCONN) || cephls_is_left())
		return false;
	return !call->tries++ && !cephls_recover(fs, gen);
}
