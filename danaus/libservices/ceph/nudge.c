/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the thread that helps reads and writes which libcephfs has forgotten.
 *
 * A read that comes while the MDS takes the file's cache capability away waits until that is done
 * (Client::get_caps()). What it takes to write the file back is part of that, and who finishes it
 * (Client::_flushed(), check_caps()) wakes no waiter: libcephfs relies on the MDS's next message
 * about the inode. When the MDS has already said all that it has to say there is none, and the read
 * waits for ever, with all capabilities that it needs. Two hosts that write one file by turns meet
 * this once in some hundred turns. Asking for the file's size makes the MDS say something: to
 * answer, it takes the capability to write away for a moment. */
#include <errno.h>
#include <time.h>

#include "danaus/base/clock.h"
#include "danaus/libservices/ceph/internal.h"

#define LATE_NS	 100000000ull  /* of one that only waits for a busy OSD it is in vain */
#define AGAIN_NS 1000000000ull /* of one call */
#define BUSY_NS	 50000000
#define IDLE_NS	 250000000

static int64_t run_getattr(struct libservice *ls, struct ceph_ask *ask)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	struct ceph_statx stx;
	Inode *in;
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			break;
		r = cephls_inode(&call, ask->node, &in);
		if (!r)
			r = ceph_ll_getattr(call.mount, in, &stx, CEPH_STATX_SIZE, 0,
					    fs->root_perms);
	} while (cephls_leave(fs, &call, r));
	return r;
}

static void nudge(struct ceph *fs, uint64_t ino)
{
	static const struct ceph_way way = {.run = run_getattr, .quick = QUICK_NEVER};
	struct ls_node *node = cephls_node_find(fs, ino);

	if (!node)
		return;
	cephls_ask(fs, &(struct ceph_ask){.way = &way, .node = node});
	ls_forget(&fs->base, node, 1);
}

/* The inode of a call that is late, or 0. ret_busy: there are calls. */
static uint64_t late(struct ceph *fs, uint64_t *nudged_ns, bool *ret_busy)
{
	uint64_t now = clock_coarse_ns();

	*ret_busy = false;
	for (unsigned i = 0; i < CEPH_CALLS; i++) {
		uint64_t ino = atomic_load_explicit(&fs->data_of[i], memory_order_relaxed);
		uint64_t began = atomic_load_explicit(&fs->calls[i], memory_order_relaxed);

		if (!ino || !began)
			continue;
		*ret_busy = true;
		if (now > began + LATE_NS && now > nudged_ns[i] + AGAIN_NS) {
			nudged_ns[i] = now;
			return ino;
		}
	}
	return 0;
}

static void *run(void *arg)
{
	struct ceph *fs = arg;
	struct ceph_nudge *n = &fs->nudge;
	struct timespec until;
	uint64_t ino;
	bool busy;

	pthread_mutex_lock(&n->lock);
	while (!n->ending) {
		ino = late(fs, n->nudged_ns, &busy);
		if (ino) {
			n->asking = true;
			pthread_mutex_unlock(&n->lock);
			nudge(fs, ino);
			pthread_mutex_lock(&n->lock);
			n->asking = false;
			pthread_cond_signal(&n->changed);
			continue;
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += busy ? BUSY_NS : IDLE_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&n->changed, &n->lock, &until);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

int cephls_nudge_start(struct ceph *fs)
{
	int r;

	pthread_mutex_init(&fs->nudge.lock, NULL);
	pthread_cond_init(&fs->nudge.changed, NULL);
	r = cred_thread(&fs->nudge.thread, NULL, run, fs);
	fs->nudge.running = !r;
	return r;
}

bool cephls_nudge_end(struct ceph *fs)
{
	struct ceph_nudge *n = &fs->nudge;
	struct timespec end;
	int r = 0;

	if (!n->running)
		return true;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += fs->timeout_s;
	pthread_mutex_lock(&n->lock);
	n->ending = true;
	pthread_cond_signal(&n->changed);
	while (n->asking && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&n->changed, &n->lock, &end);
	r = n->asking;
	pthread_mutex_unlock(&n->lock);
	if (r)
		return false;
	pthread_join(n->thread, NULL);
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->changed);
	return true;
}
