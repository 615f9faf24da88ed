/* SPDX-License-Identifier: Apache-2.0 */
/* Names that another door took away. Nothing tells the kernel, and for as long as it has the name
 * it keeps the inode, and the service the host's file with all its room. So the service looks the
 * name up through its own mount: the kernel asks what it is now, and lets go of what it was, at
 * once or with the last one who uses it.
 *
 * FUSE_NOTIFY_INVAL_ENTRY would say it in one write, but of the name alone, whatever that is by
 * then: a directory that was made anew would lose what is mounted on it and, for those who work in
 * it, its path. On a thread of the pool: the kernel may hold the directory for as long as a program
 * wants. */
#include "danaus/fuse/face_impl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define WAITING_MAX 4096 /* more are looked at by whoever takes them away */

struct face_gone {
	struct face_gone *next;
	uint64_t dir;
	char name[];
};

/* A descriptor of dir; the one of the last time if that was the same, which a tree that is removed
 * has in a row. */
static int open_dir(struct face_mount *face, uint64_t dir, uint64_t *last, int *fd)
{
	if (*fd >= 0 && *last == dir)
		return *fd;
	fd_close(*fd);
	*last = dir;
	*fd = face_open_inode(face, dir, O_PATH | O_DIRECTORY);
	return *fd;
}

static void look(int dir_fd, const char *name)
{
	struct stat st;

	if (dir_fd >= 0)
		fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
}

static struct face_gone *take(struct face_mount *face)
{
	struct face_gone *gone;

	pthread_mutex_lock(&face->lock);
	gone = face->gone;
	if (gone) {
		face->gone = gone->next;
		face->ngone--;
	} else {
		atomic_store(&face->looker, 0);
		pthread_cond_broadcast(&face->ended);
	}
	if (!face->gone)
		face->gone_end = &face->gone;
	pthread_mutex_unlock(&face->lock);
	return gone;
}

static void look_at_all(void *arg)
{
	struct face_mount *face = arg;
	struct face_gone *gone;
	uint64_t last = 0;
	int fd = -1;

	atomic_store(&face->looker, (pid_t)syscall(SYS_gettid));
	while ((gone = take(face))) {
		look(open_dir(face, gone->dir, &last, &fd), gone->name);
		free(gone);
	}
	fd_close(fd);
}

/* True: somebody will look at it. */
static bool enter(struct face_mount *face, uint64_t dir, const char *name)
{
	struct face_gone *gone = malloc(sizeof(*gone) + strlen(name) + 1);
	bool taken, start;

	if (!gone)
		return false;
	gone->next = NULL;
	gone->dir = dir;
	strcpy(gone->name, name);
	pthread_mutex_lock(&face->lock);
	taken = !face->stopping && face->ngone < WAITING_MAX;
	start = taken && atomic_load(&face->looker) == 0;
	if (start)
		atomic_store(&face->looker, -1);
	if (start && pool_run(face->container->pool, look_at_all, face) < 0) {
		atomic_store(&face->looker, 0);
		taken = false;
	}
	if (taken) {
		*face->gone_end = gone;
		face->gone_end = &gone->next;
		face->ngone++;
	}
	pthread_mutex_unlock(&face->lock);
	if (!taken)
		free(gone);
	return taken;
}

void face_look_again(struct face_mount *face, uint64_t dir, const char *name)
{
	CLEANUP_FD int fd = -1;

	if (enter(face, dir, name) || vfs_in_face)
		return;
	fd = face_open_inode(face, dir, O_PATH | O_DIRECTORY);
	look(fd, name);
}

void face_name_gone(void *arg, struct vnode *dir, const char *name, struct vnode *node)
{
	struct face_mount *face = arg;
	uint64_t dir_id = 0;

	if (vfs_in_face)
		return;
	pthread_mutex_lock(&face->nodes.lock);
	if (face_node_find_locked(&face->nodes, node))
		dir_id = face_node_find_locked(&face->nodes, dir);
	pthread_mutex_unlock(&face->nodes.lock);
	if (dir_id)
		face_look_again(face, dir_id, name);
}

void face_gone_free(struct face_mount *face)
{
	struct face_gone *gone, *next;

	for (gone = face->gone; gone; gone = next) {
		next = gone->next;
		free(gone);
	}
}
