/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the kernel reads and maps beside the service (FUSE_PASSTHROUGH, Linux 6.9): where the
 * bytes of an inode are at all times those of one file of the host (ls_data_fd()). An open file for
 * reading reads that one, and so does every mapping: no page costs a request, each is in memory
 * once, and none can be older than what the other doors read and write, which are the same pages.
 * What is written by write(2) still comes to the service, who tells the others.
 *
 * Pages that the kernel asked the service for are another cache of the same bytes, and two do not
 * mix. So an inode that was opened beside is so until the kernel forgets it: a mapping of it keeps
 * the inode, but not the open file. And one that is open in the usual way (a writer came first) is
 * so until its last open file is closed, which each mapping keeps. On the face's threads. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "danaus/base/fd.h"

struct backing_map { /* fuse_backing_map of include/uapi/linux/fuse.h */
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
_Static_assert(sizeof(struct backing_map) == 16, "fuse_backing_map");
#define BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* > 0, or: not with this file. */
static int32_t backing_open(struct face_mount *face, struct vnode *vnode)
{
	CLEANUP_FD int fd = vnode_data_fd(vnode);
	struct backing_map map = {.fd = fd};
	int r;

	/* An open with O_DIRECT is one of the host's file, too, and must not fail there. */
	if (fd < 0 || fcntl(fd, F_SETFL, O_DIRECT) < 0)
		return 0;
	cred_assume_service();
	r = ioctl(fuse_session_fd(face->session), BACKING_OPEN, &map);
	if (r < 0 && errno == EPERM) /* root of less than the host */
		atomic_store(&face->beside, false);
	return r;
}

void face_backing_close(struct face_mount *face, int32_t backing)
{
	uint32_t id = (uint32_t)backing;

	cred_assume_service();
	ioctl(fuse_session_fd(face->session), BACKING_CLOSE, &id);
}

/* How id is to be opened is decided for the time being. */
static bool decided(struct face_mount *face, uint64_t id)
{
	struct face_node *node;
	bool yes;

	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, id);
	yes = !node || node->backing || node->usual_opens;
	pthread_mutex_unlock(&face->nodes.lock);
	return yes;
}

int32_t face_beside_enter(struct face_mount *face, uint64_t id, struct vfile *file)
{
	bool reads = (vfile_flags(file) & O_ACCMODE) == O_RDONLY;
	struct vnode *vnode = vfile_node(file);
	struct face_node *node;
	int32_t backing = 0, made = 0;

	if (vnode_type(vnode) != S_IFREG)
		return 0;
	if (face->beside && reads && !decided(face, id))
		made = backing_open(face, vnode);
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, id);
	if (node && made > 0 && !node->backing && !node->usual_opens) {
		vnode_face_beside(vnode, false);
		node->backing = made;
		made = 0;
	}
	backing = node ? node->backing : 0;
	if (node && !backing)
		node->usual_opens++;
	/* Its mapping may be written for as long as the kernel knows the inode. */
	if (backing && (vfile_flags(file) & O_ACCMODE) == O_RDWR && !node->backing_written) {
		node->backing_written = true;
		vnode_face_beside(vnode, true);
	}
	pthread_mutex_unlock(&face->nodes.lock);
	if (made > 0)
		face_backing_close(face, made);
	return backing;
}

void face_beside_leave(struct face_mount *face, const struct face_file *file)
{
	struct face_node *node;

	if (file->backing || vnode_type(vfile_node(file->file)) != S_IFREG)
		return;
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, file->id);
	if (node)
		node->usual_opens--;
	pthread_mutex_unlock(&face->nodes.lock);
}
