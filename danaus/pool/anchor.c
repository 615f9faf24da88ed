/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the unmounted tmpfs, its fanotify group and the map of anchor inodes to open files. Any
 * thread.
 *
 * An anchor has mode 0 and no name, so only a program with CAP_DAC_OVERRIDE could open it again
 * (through /proc/self/fd); closing that would end the anchor early: its own loss. */
#include "danaus/pool/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/fd.h"

#define ANCHORS_MAX "1048576" /* inodes; every open descriptor of the pool's programs at most */
#define STOCK_MAX   32	      /* what a program opens while the one who makes them sleeps */

struct anchor {
	ino_t ino;
	pid_t receiver; /* 0 */
	struct vfile *file;
	struct anchor *next;
};

struct anchors {
	int mount, events; /* fsmount(2)'s; fanotify's */
	dev_t dev;
	pthread_mutex_t reading, lock; /* the queue; the map */
	struct anchor **bucket;	       /* by inode number; nbuckets is a power of two */
	size_t nbuckets, count;
	struct {
		int fd;
		ino_t ino;
	} stock[STOCK_MAX]; /* made, not given to anybody yet; under lock */
	unsigned nstock;
	anchor_closed_fn on_closed;
	void *on_closed_arg;
};

static int mount_tmpfs(int *ret)
{
	CLEANUP_FD int fs = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int mount;

	if (fs < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", ANCHORS_MAX, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", "4096", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mount = syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		return -errno;
	*ret = mount;
	return 0;
}

/* tmpfs's file handle: generation, low and high half of the inode number (mm/shmem.c,
 * shmem_encode_fh()). anchors_new() checks that it is so on this kernel. */
static ino_t ino_of_handle(const struct file_handle *handle)
{
	uint32_t words[3];

	if (handle->handle_bytes < sizeof(words))
		return 0;
	memcpy(words, handle->f_handle, sizeof(words));
	return (ino_t)words[2] << 32 | words[1];
}

static int check_handles(struct anchors *anchors)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} at = {.handle.handle_bytes = MAX_HANDLE_SZ};
	CLEANUP_FD int fd = openat(anchors->mount, ".", O_TMPFILE | O_ACCMODE | O_CLOEXEC, 0);
	struct stat st;
	int id;

	if (fd < 0 || fstat(fd, &st) < 0 ||
	    name_to_handle_at(fd, "", &at.handle, &id, AT_EMPTY_PATH) < 0)
		return -errno;
	anchors->dev = st.st_dev;
	return ino_of_handle(&at.handle) == st.st_ino ? 0 : -EOPNOTSUPP;
}

int anchors_new(struct anchors **ret, struct err *err)
{
	struct anchors *anchors = calloc(1, sizeof(*anchors));
	int r;

	if (!anchors)
		return -ENOMEM;
	anchors->mount = anchors->events = -1;
	pthread_mutex_init(&anchors->lock, NULL);
	pthread_mutex_init(&anchors->reading, NULL);
	anchors->nbuckets = 1024;
	anchors->bucket = calloc(anchors->nbuckets, sizeof(*anchors->bucket));
	r = anchors->bucket ? mount_tmpfs(&anchors->mount) : -ENOMEM;
	if (!r)
		r = check_handles(anchors);
	if (r < 0) {
		anchors_free(anchors);
		return err_set(err, r, "cannot make the tmpfs for descriptors: %s", strerror(-r));
	}
	anchors->events = fanotify_init(
	    FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, 0);
	if (anchors->events < 0 ||
	    fanotify_mark(anchors->events, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CLOSE,
			  anchors->mount, ".") < 0) {
		r = -errno;
		anchors_free(anchors);
		return err_set(err, r, "fanotify: %s; Linux 5.1 or later is needed", strerror(-r));
	}
	*ret = anchors;
	return 0;
}

void anchors_free(struct anchors *anchors)
{
	if (!anchors)
		return;
	for (size_t i = 0; anchors->bucket && i < anchors->nbuckets; i++) {
		while (anchors->bucket[i]) {
			struct anchor *anchor = anchors->bucket[i];

			anchors->bucket[i] = anchor->next;
			vfile_unref(anchor->file);
			free(anchor);
		}
	}
	free(anchors->bucket);
	while (anchors->nstock)
		fd_close(anchors->stock[--anchors->nstock].fd);
	fd_close(anchors->events);
	fd_close(anchors->mount);
	pthread_mutex_destroy(&anchors->lock);
	pthread_mutex_destroy(&anchors->reading);
	free(anchors);
}

dev_t anchors_dev(const struct anchors *anchors)
{
	return anchors->dev;
}

void anchors_on_closed(struct anchors *anchors, anchor_closed_fn fn, void *arg)
{
	anchors->on_closed = fn;
	anchors->on_closed_arg = arg;
}

int anchors_event_fd(const struct anchors *anchors)
{
	return anchors->events;
}

static struct anchor **find(struct anchors *anchors, ino_t ino)
{
	struct anchor **link = &anchors->bucket[ino & (anchors->nbuckets - 1)];

	while (*link && (*link)->ino != ino)
		link = &(*link)->next;
	return link;
}

static void grow(struct anchors *anchors)
{
	size_t n = anchors->nbuckets * 2;
	struct anchor **bucket;

	if (anchors->count < anchors->nbuckets || !(bucket = calloc(n, sizeof(*bucket))))
		return;
	for (size_t i = 0; i < anchors->nbuckets; i++) {
		struct anchor *anchor, *next;

		for (anchor = anchors->bucket[i]; anchor; anchor = next) {
			struct anchor **into = &bucket[anchor->ino & (n - 1)];

			next = anchor->next;
			anchor->next = *into;
			*into = anchor;
		}
	}
	free(anchors->bucket);
	anchors->bucket = bucket;
	anchors->nbuckets = n;
}

static int make(struct anchors *anchors, int flags, int *ret_fd, ino_t *ret_ino)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	cred_assume_service(); /* it is not the caller's to chmod */
	fd = openat(anchors->mount, ".", O_TMPFILE | O_ACCMODE | O_CLOEXEC | flags, 0);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*ret_ino = st.st_ino;
	*ret_fd = STEAL_FD(fd);
	return 0;
}

static bool take_stock(struct anchors *anchors, int *ret_fd, ino_t *ret_ino)
{
	bool taken;

	pthread_mutex_lock(&anchors->lock);
	taken = anchors->nstock;
	if (taken) {
		*ret_fd = anchors->stock[--anchors->nstock].fd;
		*ret_ino = anchors->stock[anchors->nstock].ino;
	}
	pthread_mutex_unlock(&anchors->lock);
	return taken;
}

/* One too many that was closed again would be an event like any other. */
void anchors_stock(struct anchors *anchors)
{
	ino_t ino = 0;
	int fd = -1;
	bool room;

	for (;;) {
		pthread_mutex_lock(&anchors->lock);
		room = anchors->nstock < STOCK_MAX;
		pthread_mutex_unlock(&anchors->lock);
		if (!room || make(anchors, 0, &fd, &ino) < 0)
			return;
		pthread_mutex_lock(&anchors->lock);
		anchors->stock[anchors->nstock].fd = fd;
		anchors->stock[anchors->nstock++].ino = ino;
		pthread_mutex_unlock(&anchors->lock);
	}
}

int anchor_give(struct anchors *anchors, struct vfile *file, pid_t receiver, int *ret_fd)
{
	int flags = vfile_flags(file) & (O_APPEND | O_NONBLOCK), r;
	struct anchor *anchor, **link;
	CLEANUP_FD int fd = -1;
	ino_t ino = 0;

	if (flags || !take_stock(anchors, &fd, &ino)) {
		r = make(anchors, flags, &fd, &ino);
		if (r < 0)
			return r;
	}
	anchor = malloc(sizeof(*anchor));
	if (!anchor)
		return -ENOMEM;
	pthread_mutex_lock(&anchors->lock);
	grow(anchors);
	link = find(anchors, ino);
	*anchor = (struct anchor){
	    .ino = ino, .receiver = receiver, .file = vfile_ref(file), .next = *link};
	*link = anchor;
	anchors->count++;
	pthread_mutex_unlock(&anchors->lock);
	*ret_fd = STEAL_FD(fd);
	return 0;
}

void anchor_give_done(struct anchors *anchors, int fd)
{
	(void)anchors;
	fd_close(fd);
}

int anchor_find_ino(struct anchors *anchors, ino_t ino, struct vfile **ret)
{
	struct anchor *anchor;
	int r = -EBADF;

	pthread_mutex_lock(&anchors->lock);
	anchor = *find(anchors, ino);
	if (anchor) {
		*ret = vfile_ref(anchor->file);
		r = 0;
	}
	pthread_mutex_unlock(&anchors->lock);
	return r;
}

int anchor_find(struct anchors *anchors, int fd, struct vfile **ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != anchors->dev)
		return -EBADF;
	return anchor_find_ino(anchors, st.st_ino, ret);
}

static void drop(struct anchors *anchors, ino_t ino, pid_t pid)
{
	struct anchor **link, *anchor;

	pthread_mutex_lock(&anchors->lock);
	link = find(anchors, ino);
	anchor = *link;
	if (anchor) {
		*link = anchor->next;
		anchors->count--;
	}
	pthread_mutex_unlock(&anchors->lock);
	if (anchor) {
		if (anchors->on_closed)
			anchors->on_closed(anchors->on_closed_arg,
					   pid == getpid() ? anchor->receiver : pid, anchor->file);
		vfile_unref(anchor->file);
	}
	free(anchor);
}

void anchors_closed(struct anchors *anchors)
{
	char buf[16384] __attribute__((aligned(8)));
	ssize_t n;

	/* one at a time, so that who returns knows that what was closed before is dropped */
	pthread_mutex_lock(&anchors->reading);
	while ((n = read(anchors->events, buf, sizeof(buf))) > 0) {
		const struct fanotify_event_metadata *event = (const void *)buf;

		for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n)) {
			const struct fanotify_event_info_fid *info = (const void *)(event + 1);

			if (event->event_len >= sizeof(*event) + sizeof(*info) &&
			    info->hdr.info_type == FAN_EVENT_INFO_TYPE_FID)
				drop(anchors, ino_of_handle((const void *)info->handle),
				     event->pid);
		}
	}
	pthread_mutex_unlock(&anchors->reading);
}

void anchors_drop_instance(struct anchors *anchors, struct vfs_instance *instance)
{
	struct anchor *gone = NULL, *anchor;

	pthread_mutex_lock(&anchors->lock);
	for (size_t i = 0; i < anchors->nbuckets; i++) {
		struct anchor **link = &anchors->bucket[i];

		while ((anchor = *link)) {
			if (vnode_instance(vfile_node(anchor->file)) != instance) {
				link = &anchor->next;
				continue;
			}
			*link = anchor->next;
			anchor->next = gone;
			gone = anchor;
			anchors->count--;
		}
	}
	pthread_mutex_unlock(&anchors->lock);
	while ((anchor = gone)) {
		gone = anchor->next;
		vfile_unref(anchor->file);
		free(anchor);
	}
}
