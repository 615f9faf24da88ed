/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the connection to the cluster: mounting and unmounting, and the table of nodes. Any worker
 * thread. */
#include "danaus/libservices/ceph/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/log.h"

#define NOSNAP	  ((uint64_t)-2)
#define CACHE_MIN (4u << 20)
/* More and it is written in the background. libcephfs merges dirty extents, up to an object of 4
 * MiB, and copies what it has of one for a small write into it: 4 KiB take 15 us at 16 MiB, 300
 * at 64. */
#define DIRTY_TARGET (16ull << 20)

__thread mode_t cephls_call_umask;

/* libcephfs asks in the thread that called it, and not where a default ACL decides. */
static mode_t umask_of_call(void *handle)
{
	return cephls_call_umask;
}

/* libcephfs keeps what it would log at level 5 in memory, for a crash's dump: a tenth and more of a
 * cached call. Not unless ceph.conf asks for it. */
static void quieten(struct ceph_mount_info *mount)
{
	static const char *const debug[] = {
	    "debug_auth",     "debug_buffer",	   "debug_client", "debug_filer",
	    "debug_finisher", "debug_monc",	   "debug_ms",	   "debug_objectcacher",
	    "debug_objecter", "debug_perfcounter", "debug_rados",  "debug_striper",
	    "debug_throttle", "debug_timer",
	};
	char now[16];

	for (size_t i = 0; i < sizeof(debug) / sizeof(debug[0]); i++) {
		/* "0/5" and the like: nothing is written, something is kept */
		if (ceph_conf_get(mount, debug[i], now, sizeof(now)) == 0 && !strncmp(now, "0/", 2))
			ceph_conf_set(mount, debug[i], "0/0");
	}
}

static int configure(struct ceph *fs, struct ceph_mount_info *mount, struct err *err)
{
	char seconds[16], cache[24], dirty[24], target[24];
	const char *const settings[][2] = {
	    {"keyring", fs->keyring},
	    {"client_mount_timeout", seconds},
	    {"rados_osd_op_timeout", seconds},
	    {"rados_mon_op_timeout", seconds},
	    /* A session is taken up again with an MDS that was restarted. True would begin another
	     * one: what the MDS had not made safe would be lost, and it waits for the old one. */
	    {"client_reconnect_stale", "false"},
	    /* Rights are perm.c's business; the ACLs of new inodes are libcephfs's. */
	    {"client_permissions", "false"},
	    {"fuse_default_permissions", "true"},
	    {"client_acl_type", "posix_acl"},
	    {"client_oc_size", cache},
	    {"client_oc_max_dirty", dirty},
	    {"client_oc_target_dirty", target},
	    {"log_file", ""},
	    {"log_to_stderr", "false"},
	    {"err_to_stderr", "false"},
	    {"admin_socket", ""},
	};
	uint64_t bytes = fs->cache_bytes < CACHE_MIN ? CACHE_MIN : fs->cache_bytes;
	int r = ceph_conf_read_file(mount, fs->conf);

	if (r < 0)
		return err_set(err, r, "ceph: cannot read %s: %s", fs->conf, strerror(-r));
	snprintf(seconds, sizeof(seconds), "%u", fs->timeout_s);
	snprintf(cache, sizeof(cache), "%llu", (unsigned long long)bytes);
	snprintf(dirty, sizeof(dirty), "%llu", (unsigned long long)bytes / 2);
	snprintf(target, sizeof(target), "%llu",
		 bytes / 4 < DIRTY_TARGET ? (unsigned long long)bytes / 4 : DIRTY_TARGET);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (!settings[i][1] || (settings[i][1] == cache && !fs->cache_bytes) ||
		    (!fs->cache_bytes && (settings[i][1] == dirty || settings[i][1] == target)))
			continue;
		r = ceph_conf_set(mount, settings[i][0], settings[i][1]);
		/* A release that has no such setting has no such behaviour either. */
		if (r < 0 && r != -ENOENT)
			return err_set(err, r, "ceph: setting %s: %s", settings[i][0],
				       strerror(-r));
	}
	quieten(mount);
	return 0;
}

static int explain(struct ceph *fs, int r, struct err *err)
{
	switch (r) {
	case -ETIMEDOUT:
		return err_set(err, r, "ceph: the cluster of %s did not answer within %u s",
			       fs->conf, fs->timeout_s);
	case -ENOENT:
		return err_set(err, r, "ceph: no file system%s%s or no directory %s in it",
			       fs->fs ? " " : "", fs->fs ? fs->fs : "", fs->dir);
	case -EACCES:
	case -EPERM:
		return err_set(err, r, "ceph: client.%s may not mount %s: its key or its caps",
			       fs->id, fs->dir);
	default:
		return err_set(err, r, "ceph: cannot mount %s as client.%s: %s", fs->dir, fs->id,
			       strerror(-r));
	}
}

static int mount_client(struct ceph *fs, bool reclaim, struct ceph_client **ret, struct err *err)
{
	struct ceph_client_callback_args callbacks = {.handle = fs, .umask_cb = umask_of_call};
	CLEANUP_FREE struct ceph_client *client = calloc(1, sizeof(*client));
	struct ceph_mount_info *mount;
	int r = client ? ceph_create(&mount, fs->id) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "ceph: %s", strerror(-r));
	r = configure(fs, mount, err);
	if (r < 0) {
		ceph_release(mount);
		return r;
	}
	r = ceph_init(mount);
	if (!r && reclaim && fs->session) {
		/* What the session of the same name left, in a service that is gone, ends now
		 * instead of at its timeout. */
		ceph_start_reclaim(mount, fs->session, CEPH_RECLAIM_RESET);
		ceph_finish_reclaim(mount);
		ceph_set_uuid(mount, fs->session);
	}
	if (!r && fs->fs)
		r = ceph_select_filesystem(mount, fs->fs);
	if (!r)
		r = ceph_mount(mount, fs->dir);
	if (r < 0) {
		ceph_release(mount);
		return explain(fs, r, err);
	}
	ceph_ll_register_callbacks(mount, &callbacks);
	client->mount = mount;
	atomic_init(&client->refs, 1);
	for (unsigned i = 0; i < CEPH_APPENDS; i++)
		pthread_mutex_init(&client->append_lock[i], NULL);
	*ret = STEAL_PTR(client);
	return 0;
}

/* Whoever finds the client cut off makes another one, and it is the service that may read the
 * keyring. */
int cephls_mount(struct ceph *fs, bool reclaim, struct ceph_client **ret, struct err *err)
{
	struct cred_kept kept;
	int r = cred_keep(&kept);

	if (r < 0)
		return err_set(err, r, "ceph: %s", strerror(-r));
	cred_assume_service();
	r = mount_client(fs, reclaim, ret, err);
	cred_restore(&kept);
	return r;
}

/* Nodes. */

static unsigned bucket_of(uint64_t ino, uint64_t snap)
{
	return ((ino ^ snap << 40) * 0x9e3779b97f4a7c15ull >> 54) % CEPH_BUCKETS;
}

int cephls_inode(struct ceph_call *at, struct ls_node *node, Inode **ret)
{
	vinodeno_t vino = {{node->ino}, {node->snap}};
	Inode *in = NULL;
	unsigned gen;
	int r;

	pthread_mutex_lock(&node->lock);
	gen = node->gen;
	*ret = node->in;
	pthread_mutex_unlock(&node->lock);
	if (gen >= at->gen)
		return gen == at->gen ? 0 : -ESHUTDOWN;
	/* A fresh client: the old pointer went with the old one. Without the lock, which a client
	 * that is cut off would keep. */
	r = ceph_ll_lookup_vino(at->mount, vino, &in);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	pthread_mutex_lock(&node->lock);
	if (node->gen < at->gen) {
		node->in = STEAL_PTR(in);
		node->gen = at->gen;
	}
	gen = node->gen;
	*ret = node->in;
	pthread_mutex_unlock(&node->lock);
	if (in)
		ceph_ll_forget(at->mount, in, 1);
	return gen == at->gen ? 0 : -ESHUTDOWN;
}

int cephls_node_of(struct ceph_call *at, Inode *in, const struct ceph_statx *stx,
		   struct ls_node **ret)
{
	uint64_t snap = stx->stx_dev ? (uint64_t)stx->stx_dev : NOSNAP;
	unsigned b = bucket_of(stx->stx_ino, snap);
	struct ls_node *fresh = calloc(1, sizeof(*fresh)), *node;
	struct ceph *fs = at->fs;
	bool surplus = true;

	if (!fresh) {
		ceph_ll_forget(at->mount, in, 1);
		return -ENOMEM;
	}
	pthread_mutex_init(&fresh->lock, NULL);
	*fresh = (struct ls_node){.refs = 1,
				  .ino = stx->stx_ino,
				  .snap = snap,
				  .type = stx->stx_mode & S_IFMT,
				  .in = in,
				  .gen = at->gen,
				  .lock = fresh->lock};
	pthread_mutex_lock(&fs->bucket[b].lock);
	for (node = fs->bucket[b].first; node; node = node->next)
		if (node->ino == fresh->ino && node->snap == snap)
			break;
	if (node) {
		node->refs++;
		pthread_mutex_lock(&node->lock);
		if (node->gen < at->gen) {
			node->in = in;
			node->gen = at->gen;
			surplus = false;
		}
		pthread_mutex_unlock(&node->lock);
	} else {
		surplus = false;
		fresh->next = fs->bucket[b].first;
		fs->bucket[b].first = fresh;
		node = STEAL_PTR(fresh);
	}
	pthread_mutex_unlock(&fs->bucket[b].lock);
	if (surplus)
		ceph_ll_forget(at->mount, in, 1);
	free(fresh);
	*ret = node;
	return 0;
}

void cephls_node_ref(struct ceph *fs, struct ls_node *node)
{
	unsigned b = bucket_of(node->ino, node->snap);

	pthread_mutex_lock(&fs->bucket[b].lock);
	node->refs++;
	pthread_mutex_unlock(&fs->bucket[b].lock);
}

struct ls_node *cephls_node_find(struct ceph *fs, uint64_t ino)
{
	unsigned b = bucket_of(ino, NOSNAP);
	struct ls_node *node;

	pthread_mutex_lock(&fs->bucket[b].lock);
	for (node = fs->bucket[b].first; node; node = node->next)
		if (node->ino == ino && node->snap == NOSNAP)
			break;
	if (node)
		node->refs++;
	pthread_mutex_unlock(&fs->bucket[b].lock);
	return node;
}

void cephls_op_forget(struct libservice *ls, struct ls_node *node, uint64_t count)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_client *client;
	unsigned b = bucket_of(node->ino, node->snap);

	pthread_mutex_lock(&fs->bucket[b].lock);
	node->refs -= count;
	if (node->refs) {
		node = NULL;
	} else {
		struct ls_node **p = &fs->bucket[b].first;

		while (*p != node)
			p = &(*p)->next;
		*p = node->next;
	}
	pthread_mutex_unlock(&fs->bucket[b].lock);
	if (!node)
		return;
	client = cephls_client(fs); /* also when stalled: it does not wait */
	if (node->lock_fh && node->lock_gen == client->gen)
		ceph_ll_close(client->mount, node->lock_fh);
	if (node->gen == client->gen)
		ceph_ll_forget(client->mount, node->in, 1);
	cephls_client_unref(client);
	pthread_mutex_destroy(&node->lock);
	free(node);
}

int cephls_op_syncfs(struct libservice *ls)
{
	struct ceph *fs = ceph_of(ls);
	struct ceph_call call = {0};
	int r;

	do {
		r = cephls_enter(fs, &call);
		if (r < 0)
			return r;
		r = ceph_sync_fs(call.mount);
	} while (cephls_leave(fs, &call, r));
	return r;
}

/* Unmounting flushes, which a cluster that is down does not let end: it gets a thread of its own,
 * which is left behind when it takes too long. */
struct goodbye {
	struct ceph_mount_info *mount;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done, left; /* lock */
};

static void goodbye_free(struct goodbye *bye)
{
	pthread_mutex_destroy(&bye->lock);
	pthread_cond_destroy(&bye->changed);
	free(bye);
}

static void *say_goodbye(void *arg)
{
	struct goodbye *bye = arg;
	bool left;

	ceph_unmount(bye->mount);
	ceph_release(bye->mount);
	pthread_mutex_lock(&bye->lock);
	bye->done = true;
	left = bye->left;
	pthread_cond_signal(&bye->changed);
	pthread_mutex_unlock(&bye->lock);
	if (left)
		goodbye_free(bye);
	return NULL;
}

static void unmount(struct ceph *fs)
{
	struct goodbye *bye = calloc(1, sizeof(*bye));
	struct timespec end;
	pthread_t thread;
	bool done;

	if (bye) {
		bye->mount = fs->client->mount;
		pthread_mutex_init(&bye->lock, NULL);
		pthread_cond_init(&bye->changed, NULL);
	}
	if (!bye || cred_thread(&thread, NULL, say_goodbye, bye)) {
		if (bye)
			goodbye_free(bye);
		ceph_unmount(fs->client->mount);
		ceph_release(fs->client->mount);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += fs->timeout_s;
	pthread_mutex_lock(&bye->lock);
	while (!bye->done && pthread_cond_timedwait(&bye->changed, &bye->lock, &end) != ETIMEDOUT)
		;
	done = bye->done;
	bye->left = !done;
	pthread_mutex_unlock(&bye->lock);
	if (done) {
		pthread_join(thread, NULL);
		goodbye_free(bye);
		return;
	}
	pthread_detach(thread);
	log_error("ceph: client.%s at %s: the cluster did not take what was left to flush "
		  "within %u s",
		  fs->id, fs->dir, fs->timeout_s);
}

/* Everything that is left, mounted or not. */
void cephls_op_free(struct libservice *ls)
{
	struct ceph *fs = ceph_of(ls);

	bool done = cephls_nudge_end(fs);

	cephls_watch_end(fs);
	done &= cephls_late_done(fs);
	if (fs->root)
		cephls_op_forget(ls, fs->root, 1);
	if (fs->client && atomic_load(&fs->client->refs) == 1)
		unmount(fs);
	if (!done) {
		log_error("ceph: client.%s at %s: calls did not come back", fs->id, fs->dir);
		return;
	}
	free(fs->client);
	for (unsigned i = 0; i < CEPH_BUCKETS; i++)
		pthread_mutex_destroy(&fs->bucket[i].lock);
	pthread_rwlock_destroy(&fs->client_lock);
	pthread_mutex_destroy(&fs->recover_lock);
	pthread_mutex_destroy(&fs->watch_lock);
	pthread_cond_destroy(&fs->watch_end);
	if (fs->root_perms)
		ceph_userperm_destroy(fs->root_perms);
	free(fs->conf);
	free(fs->keyring);
	free(fs->id);
	free(fs->fs);
	free(fs->dir);
	free(fs->session);
	free(fs);
}

/* "[FS:]/dir", the directory without "." and ".." components: it is a tenant's confinement. */
static int copy(const char *from, char **to)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int open_root(struct ceph *fs, struct err *err)
{
	struct ceph_call at = {.fs = fs, .client = fs->client, .mount = fs->client->mount};
	struct ceph_statx stx;
	Inode *in;
	int r = ceph_ll_lookup_root(at.mount, &in);

	if (!r)
		r = ceph_ll_getattr(at.mount, in, &stx, CEPH_WANT, 0, fs->root_perms);
	if (!r)
		r = cephls_node_of(&at, in, &stx, &fs->root);
	if (!r && !S_ISDIR(stx.stx_mode))
		return err_set(err, -ENOTDIR, "ceph: %s is not a directory", fs->dir);
	return r < 0 ? explain(fs, r, err) : 0;
}

int ceph_new(const char *name, const char *dir, const struct stack_limits *limits,
	     struct libservice **ret, struct err *err)
{
	struct ceph *fs;
	int r = 0;

	if (!limits->ceph_conf || !limits->ceph_id)
		return err_set(err, -EACCES,
			       "ceph: the administrator granted no identity "
			       "(danaus.json, \"ceph\")");
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs->base.ops = &cephls_ops;
	fs->base.distant = true;
	fs->timeout_s = limits->timeout_s ? limits->timeout_s : CEPH_TIMEOUT_DEFAULT_S;
	fs->cache_bytes = limits->cache_bytes;
	pthread_rwlock_init(&fs->client_lock, NULL);
	pthread_mutex_init(&fs->recover_lock, NULL);
	pthread_mutex_init(&fs->watch_lock, NULL);
	pthread_cond_init(&fs->watch_end, NULL);
	for (unsigned i = 0; i < CEPH_BUCKETS; i++)
		pthread_mutex_init(&fs->bucket[i].lock, NULL);
	if (copy(name, &fs->fs) || copy(dir, &fs->dir) || copy(limits->ceph_conf, &fs->conf) ||
	    copy(limits->ceph_keyring, &fs->keyring) || copy(limits->ceph_id, &fs->id) ||
	    copy(limits->session, &fs->session))
		r = -ENOMEM;
	if (!r && !(fs->root_perms = ceph_userperm_new(0, 0, 0, NULL)))
		r = -ENOMEM;
	if (!r)
		r = cephls_late_init(fs);
	if (!r)
		r = cephls_mount(fs, true, &fs->client, err);
	if (!r)
		r = open_root(fs, err);
	atomic_store(&fs->heard_ns, cephls_now_ns());
	if (!r)
		r = cephls_watch_start(fs);
	if (!r)
		r = cephls_nudge_start(fs);
	if (r < 0) {
		cephls_op_free(&fs->base);
		return r;
	}
	*ret = &fs->base;
	return 0;
}
