/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a client is heard by its MDS, and another one for one that is not: on the watch's thread,
 * and on threads for calls. What waits for calls that were left behind: any worker thread. */
#include <errno.h>
#include <string.h>

#include "danaus/libservices/ceph/late.h"

#define PING_NS (5 * CEPH_SECOND_NS)
#define GRACE_S 10 /* of a client that hears nothing from an MDS that answers others */
/* Each ping, and how late it may be. */
#define HEARD_LATELY_NS (2 * PING_NS)
#define BEHIND_MAX	64 /* calls that only their like waits for; each has a thread */

/* A sign of life: an attribute that libcephfs asks the MDS for each time. */
static int64_t run_ping(struct libservice *ls, struct ceph_ask *ask)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_client *client = cephls_client(fs);
	struct ceph_call call = {
	    .fs = fs, .client = client, .mount = client->mount, .gen = client->gen};
	uint64_t began = cephls_now_ns();
	char value[32];
	Inode *in;
	int r = cephls_inode(&call, fs->root, &in);

	if (!r)
		r = ceph_ll_getxattr(client->mount, in, "ceph.dir.entries", value, sizeof(value),
				     fs->root_perms);
	pthread_mutex_lock(&fs->late->lock);
	if (cephls_late_current() == fs->late->ping) {
		fs->late->ping = NULL;
		if (r >= 0)
			cephls_heard(fs, began);
	}
	pthread_mutex_unlock(&fs->late->lock);
	cephls_client_unref(client);
	return r;
}

/* Whether the client, of gen, hears nothing of an MDS that another one hears of. */
static bool is_cut_off(struct ceph *fs, unsigned *ret_gen)
{
	struct ceph_late *late = fs->late;
	struct ceph_client *client;
	struct err err = {0};
	bool deaf = true;

	if (cephls_mount(fs, false, &client, &err) < 0)
		return false;
	ceph_unmount(client->mount);
	cephls_client_unref(client);
	client = cephls_client(fs);
	*ret_gen = client->gen;
	cephls_client_unref(client);
	pthread_mutex_lock(&late->lock);
	for (unsigned i = 0; deaf && i < GRACE_S; i++) {
		struct timespec second = cephls_time_of(cephls_now_ns() + CEPH_SECOND_NS);

		pthread_cond_timedwait(&late->changed, &late->lock, &second);
		deaf = !late->ending && atomic_load(&late->left) && late->ping;
	}
	pthread_mutex_unlock(&late->lock);
	return deaf;
}

/* The calls that were left behind go with the client that they are in: they may never come back. */
static int64_t run_revive(struct libservice *ls, struct ceph_ask *ask)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_late *late = fs->late;
	unsigned gen = 0;
	int r = is_cut_off(fs, &gen) ? cephls_recover(fs, gen) : -EAGAIN;

	pthread_mutex_lock(&late->lock);
	late->reviving = false;
	late->revive_after_ns = cephls_now_ns() + PING_NS;
	if (!r) {
		late->epoch++;
		late->lost += atomic_exchange(&late->left, 0);
		late->behind = NULL;
		if (late->ping) {
			late->ping->counted = true;
			late->lost++;
			late->ping = NULL;
		}
		atomic_store(&fs->heard_ns, cephls_now_ns());
	}
	pthread_mutex_unlock(&late->lock);
	return 0;
}

static const struct ceph_way ping = {.run = run_ping, .quick = QUICK_NEVER};
static const struct ceph_way revive = {.run = run_revive, .quick = QUICK_NEVER};

void cephls_late_tick(struct ceph *fs, bool calls, uint64_t waits_since_ns)
{
	uint64_t now = cephls_now_ns(), heard = atomic_load(&fs->heard_ns);
	struct ceph_late *late = fs->late;

	pthread_mutex_lock(&late->lock);
	calls |= late->threads - late->nidle > late->lost;
	if (!late->ping && ((calls && now > heard + PING_NS) || waits_since_ns > heard))
		late->ping = cephls_late_start(fs, &ping);
	if (late->left && late->ping && !late->reviving && now > late->revive_after_ns)
		late->reviving = cephls_late_start(fs, &revive);
	pthread_mutex_unlock(&late->lock);
}

bool cephls_is_heard(struct ceph *fs, uint64_t since_ns)
{
	uint64_t heard = atomic_load(&fs->heard_ns);

	return heard > since_ns && cephls_now_ns() < heard + HEARD_LATELY_NS;
}

void cephls_leave_behind(struct ceph_late *late, struct ceph_job *job)
{
	atomic_store(&job->left, true);
	job->counted = true;
	if (job->epoch != late->epoch) {
		late->lost++;
		return;
	}
	atomic_fetch_add(&late->left, 1);
	job->next = late->behind;
	late->behind = job;
	if (job->began > late->behind_ns)
		late->behind_ns = job->began;
}

void cephls_came_back(struct ceph_late *late, struct ceph_job *job)
{
	struct ceph_job **at = &late->behind;

	if (!job->counted)
		return;
	if (job->epoch != late->epoch) {
		late->lost--;
		return;
	}
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	atomic_fetch_sub(&late->left, 1);
}

/* What a call is about: a name in a directory or, where that is NULL, an inode itself. */
struct subject {
	const struct ls_node *node;
	const char *name;
};

static bool is_of_all(const struct ceph_ask *ask)
{
	return ask->way->syncs && !ask->file;
}

static void subjects_of(const struct ceph_ask *ask, struct subject to[2])
{
	bool moves = ask->node2 && ask->name2, links = ask->node2 && !ask->name2;

	to[0] = (struct subject){cephls_node_of_ask(ask), links ? NULL : ask->name};
	to[1] = (struct subject){ask->node2, moves ? ask->name2 : ask->name};
}

static bool have_in_common(const struct ceph_ask *a, const struct ceph_ask *b)
{
	struct subject of[2], other[2];

	if (is_of_all(a) || is_of_all(b))
		return is_of_all(a) && is_of_all(b);
	subjects_of(a, of);
	subjects_of(b, other);
	for (unsigned i = 0; i < 4; i++) {
		const struct subject *x = &of[i / 2], *y = &other[i % 2];

		if (x->node && x->node == y->node &&
		    (x->name && y->name ? !strcmp(x->name, y->name) : x->name == y->name))
			return true;
	}
	return false;
}

/* Syncing all waits for all. */
bool cephls_is_refused(struct ceph *fs, const struct ceph_ask *ask)
{
	struct ceph_late *late = fs->late;
	bool refused;

	pthread_mutex_lock(&late->lock);
	refused =
	    late->behind && (atomic_load(&late->left) > BEHIND_MAX || (ask && is_of_all(ask)) ||
			     !cephls_is_heard(fs, late->behind_ns));
	for (struct ceph_job *job = late->behind; job && ask && !refused; job = job->next)
		refused = have_in_common(&job->ask, ask);
	pthread_mutex_unlock(&late->lock);
	return refused;
}
