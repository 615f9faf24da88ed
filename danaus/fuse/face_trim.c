/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the number of inodes that the kernel remembers near a limit: each holds an inode of the
 * libservice, and with it a descriptor of the host. The kernel itself forgets only when memory is
 * short. FUSE_NOTIFY_PRUNE (Linux 6.18) names inodes; the kernel forgets those that nobody uses and
 * says so with FORGET. On a thread of the pool, never on the face's own. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

#include "danaus/base/log.h"

#define PRUNE_MAX    512u
#define NOTIFY_PRUNE 9

struct prune_out {
	uint32_t count, padding;
	uint64_t spare;
};

static int prune(struct face_mount *face, uint64_t *ids, unsigned n)
{
	struct prune_out body = {.count = n};
	struct fuse_out_header header = {.error = NOTIFY_PRUNE};
	struct iovec iov[] = {
	    {&header, sizeof(header)}, {&body, sizeof(body)}, {ids, n * sizeof(*ids)}};

	header.len = (uint32_t)(sizeof(header) + sizeof(body) + n * sizeof(*ids));
	return writev(fuse_session_fd(face->session), iov, 3) < 0 ? -errno : 0;
}

static void trim(void *arg)
{
	struct face_mount *face = arg;
	uint64_t ids[PRUNE_MAX];
	unsigned asked = 0, n;
	int r = 0;

	while (asked < face->nodes_limit && r == 0) {
		n = face_nodes_idle(&face->nodes, ids, PRUNE_MAX);
		if (n == 0)
			break;
		r = prune(face, ids, n);
		asked += n;
	}
	if (r < 0 && r != -ENOTCONN && r != -ENODEV)
		log_limited(LOG_WARN, "fuse: %s: the kernel keeps its inodes: %s",
			    face->volume->target, strerror(-r));
	pthread_mutex_lock(&face->lock);
	face->trimming = false;
	pthread_cond_broadcast(&face->ended);
	pthread_mutex_unlock(&face->lock);
}

void face_trim(struct face_mount *face)
{
	struct face_nodes *nodes = &face->nodes;
	uint32_t used = __atomic_load_n(&nodes->used, __ATOMIC_RELAXED);
	uint32_t made = __atomic_load_n(&nodes->made, __ATOMIC_RELAXED);
	bool go;

	if (used < face->nodes_limit ||
	    made - atomic_load_explicit(&face->trimmed_at, memory_order_relaxed) <
		face->nodes_limit / 8)
		return;
	pthread_mutex_lock(&face->lock);
	go = !face->trimming && !face->stopping;
	if (go) {
		face->trimming = true;
		atomic_store_explicit(&face->trimmed_at, made, memory_order_relaxed);
	}
	pthread_mutex_unlock(&face->lock);
	if (!go || pool_run(face->container->pool, trim, face) == 0)
		return;
	pthread_mutex_lock(&face->lock);
	face->trimming = false;
	pthread_mutex_unlock(&face->lock);
}
