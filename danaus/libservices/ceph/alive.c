/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a client is heard by its MDS, and another one for one that is not. On the watch's thread,
 * and on threads for calls. */
#include <errno.h>

#include "danaus/libservices/ceph/late.h"

#define PING_NS (5 * CEPH_SECOND_NS)
#define GRACE_S 10 /* of a client that hears nothing from an MDS that answers others */

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
			atomic_store(&fs->heard_ns, began);
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

void cephls_late_tick(struct ceph *fs, bool calls)
{
	uint64_t now = cephls_now_ns(), heard = atomic_load(&fs->heard_ns);
	struct ceph_late *late = fs->late;

	pthread_mutex_lock(&late->lock);
	calls |= late->threads - late->nidle > late->lost;
	if (calls && !late->ping && now > heard + PING_NS)
		late->ping = cephls_late_start(fs, &ping);
	if (late->left && !late->reviving && now > late->revive_after_ns)
		late->reviving = cephls_late_start(fs, &revive);
	pthread_mutex_unlock(&late->lock);
}
