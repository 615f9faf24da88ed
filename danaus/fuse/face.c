/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face's life: the detached mount, libfuse's session over our own /dev/fuse descriptor,
 * and the threads that serve it. There is always one more thread that waits for a request than
 * are busy, up to a limit: a request may block for long, and another one's answer may be what it
 * waits for. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/proto/guard.h"

#define THREADS_IDLE_MAX 8 /* more of them end */

static void on_init(void *arg, struct fuse_conn_info *conn)
{
	conn->want |= conn->capable &
		      (FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL |
		       FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_ASYNC_DIO |
		       FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS);
	conn->want &=
	    ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
			FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
	conn->max_write = FACE_IO_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static int start_thread(struct face_mount *face);

static void *serve(void *arg)
{
	struct face_mount *face = arg;
	struct fuse_buf buf = {0};

	vfs_in_face = true;
	for (;;) {
		int r;

		if (atomic_fetch_add(&face->idle, 1) >= THREADS_IDLE_MAX) {
			atomic_fetch_sub(&face->idle, 1);
			break;
		}
		r = fuse_session_receive_buf(face->session, &buf);
		if (atomic_fetch_sub(&face->idle, 1) == 1 && r > 0)
			start_thread(face);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		if (!face_wire_serve(face, buf.mem, (size_t)r))
			fuse_session_process_buf(face->session, &buf);
	}
	free(buf.mem);
	pthread_mutex_lock(&face->lock);
	face->nthreads--;
	pthread_cond_broadcast(&face->ended);
	pthread_mutex_unlock(&face->lock);
	return NULL;
}

/* At the limit, -EAGAIN: the busy ones come back. */
static int start_thread(struct face_mount *face)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r = -EAGAIN;

	pthread_mutex_lock(&face->lock);
	if (!face->stopping && face->nthreads < FACE_THREADS_MAX) {
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		if (face->container->pool->ncpus > 0)
			pthread_attr_setaffinity_np(&attr, sizeof(face->container->pool->cpus),
						    &face->container->pool->cpus);
		r = cred_thread(&thread, &attr, serve, face);
		pthread_attr_destroy(&attr);
		if (r == 0)
			face->nthreads++;
	}
	pthread_mutex_unlock(&face->lock);
	return r;
}

static int set(int fs, unsigned command, const char *key, const char *value, struct err *err)
{
	if (fsconfig(fs, command, key, value, 0) == 0)
		return 0;
	return err_set(err, -errno, "kernel face: mount option %s: %s", key ? key : "(create)",
		       strerror(errno));
}

/* A mount that is attached nowhere. Set-user-id programs and devices do nothing on it: who attaches
 * it knows whether they may. */
static int mount_detached(int dev_fuse, bool ro, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fs = fsopen("fuse", FSOPEN_CLOEXEC);
	char number[16];
	int fd, r;

	if (fs < 0)
		return err_set(err, -errno, "kernel face: fsopen(fuse): %s", strerror(errno));
	snprintf(number, sizeof(number), "%d", dev_fuse);
	r = set(fs, FSCONFIG_SET_STRING, "source", "danaus", err);
	r = r ? r : set(fs, FSCONFIG_SET_STRING, "subtype", "danaus", err);
	r = r ? r : set(fs, FSCONFIG_SET_STRING, "fd", number, err);
	r = r ? r : set(fs, FSCONFIG_SET_STRING, "rootmode", "40000", err);
	r = r ? r : set(fs, FSCONFIG_SET_STRING, "user_id", "0", err);
	r = r ? r : set(fs, FSCONFIG_SET_STRING, "group_id", "0", err);
	r = r ? r : set(fs, FSCONFIG_SET_FLAG, "allow_other", NULL, err);
	r = r ? r : set(fs, FSCONFIG_SET_FLAG, "default_permissions", NULL, err);
	r = r ? r : set(fs, FSCONFIG_CMD_CREATE, NULL, NULL, err);
	if (r < 0)
		return r;
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (ro ? MOUNT_ATTR_RDONLY : 0));
	if (fd < 0)
		return err_set(err, -errno, "kernel face: fsmount: %s", strerror(errno));
	*ret_fd = fd;
	return 0;
}

/* The file of the control file system that aborts the connection when it is written: every request
 * ends with ECONNABORTED, every later one with ENOTCONN, and the threads' reads with ENODEV. Our
 * own instance of it, because /sys/fs/fuse/connections need not be mounted. */
static int open_abort(dev_t dev, int *ret)
{
	CLEANUP_FD int fs = fsopen("fusectl", FSOPEN_CLOEXEC);
	CLEANUP_FD int root = -1;
	char path[32];
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (root < 0)
		return -errno;
	snprintf(path, sizeof(path), "%u/abort", minor(dev));
	fd = openat(root, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static int abort_connection(dev_t dev)
{
	CLEANUP_FD int fd = -1;
	int r = open_abort(dev, &fd);

	return r < 0 || write(fd, "1", 1) == 1 ? r : -errno;
}

/* Tells the guard that there is a connection to abort when we are killed, or none any more. */
static void tell_guard(const struct face_mount *face, bool starts)
{
	int sock = face->container->pool->guard_fd, r;
	const struct guard_message message = {starts ? GUARD_FACE : GUARD_FACE_ENDED,
					      minor(face->dev)};
	CLEANUP_FD int fd = -1;

	if (sock < 0)
		return;
	r = starts ? open_abort(face->dev, &fd) : 0;
	if (!r)
		r = fd_send(sock, &message, sizeof(message), &fd, fd >= 0);
	if (r < 0 && starts)
		log_warn("fuse: %s: not guarded: %s", face->volume->target, strerror(-r));
}

static void face_free(struct face_mount *face)
{
	while (face->files)
		face_file_free(face, face->files);
	face_gone_free(face);
	face_nodes_done(&face->nodes);
	if (face->session)
		fuse_session_destroy(face->session); /* closes /dev/fuse */
	fd_close(face->root_fd);
	if (face->service)
		cred_unref(face->service);
	pthread_mutex_destroy(&face->lock);
	pthread_mutex_destroy(&face->kernel_fd_lock);
	pthread_cond_destroy(&face->ended);
	free(face);
}

void face_stop(struct face_mount *face)
{
	int r;

	if (!face)
		return;
	vfs_instance_set_face(face->volume->instance, NULL);
	pthread_mutex_lock(&face->lock);
	face->stopping = true;
	pthread_mutex_unlock(&face->lock);
	r = face->dev ? abort_connection(face->dev) : 0;
	if (r < 0)
		log_error("fuse: %s: the connection cannot be aborted: %s", face->volume->target,
			  strerror(-r));
	if (face->dev)
		tell_guard(face, false);
	face_locks_cancel(face);
	pthread_mutex_lock(&face->lock);
	while (face->nthreads > 0 || face->trimming || atomic_load(&face->looker))
		pthread_cond_wait(&face->ended, &face->lock);
	pthread_mutex_unlock(&face->lock);
	if (face->volume->face == face)
		face->volume->face = NULL;
	face_free(face);
}

static int open_session(struct face_mount *face, int dev_fuse, struct err *err)
{
	static char *argv[] = {(char *)"danausd", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_lowlevel_ops ops = {.init = on_init};
	int r;

	face_names_ops(&ops);
	face_files_ops(&ops);
	face_locks_ops(&ops);
	face->session = fuse_session_new(&args, &ops, sizeof(ops), face);
	fuse_opt_free_args(&args);
	if (!face->session) {
		close(dev_fuse);
		return err_set(err, -ENOMEM, "kernel face: no FUSE session");
	}
	r = fuse_session_custom_io(face->session, &face_wire_io, dev_fuse);
	if (r < 0) {
		close(dev_fuse);
		return err_set(err, r, "kernel face: FUSE session: %s", strerror(-r));
	}
	return 0;
}

/* st_dev and a descriptor of the root: both ask our threads. */
static int open_root(struct face_mount *face, int mount_fd, struct err *err)
{
	struct stat st;

	face->root_fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (face->root_fd < 0 || fstat(face->root_fd, &st) < 0) {
		face->root_fd = fd_close(face->root_fd);
		return err_set(err, -errno, "kernel face: the mount's root: %s", strerror(errno));
	}
	face->dev = st.st_dev;
	return 0;
}

int face_start(struct container *container, struct volume *volume, int *ret_mount_fd,
	       struct err *err)
{
	CLEANUP_FD int mount_fd = -1;
	struct face coherence = face_coherence;
	struct face_mount *face;
	int dev_fuse, r;

	face = calloc(1, sizeof(*face));
	if (!face)
		return -ENOMEM;
	pthread_mutex_init(&face->lock, NULL);
	pthread_mutex_init(&face->kernel_fd_lock, NULL);
	pthread_cond_init(&face->ended, NULL);
	face->container = container;
	face->volume = volume;
	face->root_fd = -1;
	face->nodes_limit = FACE_NODES_LIMIT;
	face->gone_end = &face->gone;
	face->service = cred_root();
	r = face_nodes_init(&face->nodes, face, vfs_instance_root(volume->instance));
	if (r < 0) {
		face_free(face);
		return err_set(err, r, "kernel face: %s", strerror(-r));
	}
	dev_fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev_fuse < 0) {
		r = err_set(err, -errno, "kernel face: /dev/fuse: %s; modprobe fuse",
			    strerror(errno));
		face_free(face);
		return r;
	}
	r = open_session(face, dev_fuse, err);
	r = r ? r : mount_detached(dev_fuse, volume->ro, &mount_fd, err);
	if (r < 0) {
		face_free(face);
		return r;
	}
	r = start_thread(face);
	r = r ? err_set(err, r, "kernel face: thread: %s", strerror(-r))
	      : open_root(face, mount_fd, err);
	if (r < 0) {
		/* Without the mount there is no connection, and the threads' reads end. */
		mount_fd = fd_close(mount_fd);
		face_stop(face);
		return r;
	}
	tell_guard(face, true);
	vfs_instance_set_dev(volume->instance, face->dev);
	coherence.arg = face;
	vfs_instance_set_face(volume->instance, &coherence);
	volume->face = face;
	*ret_mount_fd = STEAL_FD(mount_fd);
	return 0;
}
