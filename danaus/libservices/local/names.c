/* SPDX-License-Identifier: Apache-2.0 */
/* The local libservice's changes of directories. Owns nothing; any thread. Each runs with the
 * caller's identity and the capabilities that count for the inodes it touches. */
#include "danaus/libservices/local/node.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/fd.h"

/* What counts for taking name out of dir: the sticky bit asks for its owner, the rest for the
 * directory's. A name that is not there has none that could be in the way. */
static uint64_t removal_caps(const struct cred *cred, const struct ls_node *dir, const char *name)
{
	uint64_t owner = cred->caps, caps = local_caps(cred, dir);
	struct stat st;

	if (!cred->map || (!cred->map->nuid && !cred->map->ngid))
		return caps;
	if (!fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW))
		owner = cred_caps_for(cred, st.st_uid, st.st_gid);
	return (caps & ~CAP_BIT(CAP_FOWNER)) | (owner & CAP_BIT(CAP_FOWNER));
}

int local_make(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
	       const char *name, mode_t mode, mode_t umask, dev_t rdev, const char *target,
	       struct ls_node **ret, struct attr *ret_attr)
{
	int r = ls_check_name(name);

	if (!r)
		r = local_assume(cred, dir);
	if (r < 0)
		return r;
	local_umask(umask);
	switch (mode & S_IFMT) {
	case S_IFDIR:
		r = mkdirat(dir->fd, name, mode & 07777);
		break;
	case S_IFLNK:
		r = symlinkat(target, dir->fd, name);
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		/* Device nodes need CAP_MKNOD in the host's user namespace, which is all that
		 * cred_caps_for() leaves of it. */
		r = mknodat(dir->fd, name, mode, rdev);
		break;
	default:
		return -EINVAL;
	}
	if (r < 0)
		return -errno;
	return local_lookup(ls, cred, dir, name, ret, ret_attr);
}

/* The node and the file of a new, open inode; fd is taken over. Both use it: most new files are
 * closed for good before anybody needs more, and opening an O_PATH one for the node costs as much
 * as all the rest (local_release() does it). */
static int node_and_file(struct local *local, int fd, struct ls_node **ret,
			 struct ls_file **ret_file, struct attr *ret_attr)
{
	struct ls_file *file;
	int r = local_file_new(fd, &file);

	if (r < 0)
		return r;
	r = local_node_by(local, fd, ret, ret_attr);
	if (r < 0) {
		local_file_free(file);
		return r;
	}
	local_node_ref(local, *ret);
	file->node = *ret;
	file->lent = file->node->fd == fd;
	*ret_file = file;
	return 0;
}

int local_create(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, int flags, mode_t mode, mode_t umask, struct ls_node **ret,
		 struct ls_file **ret_file, struct attr *ret_attr)
{
	int r = ls_check_name(name), fd;

	if (!r)
		r = local_assume(cred, dir);
	if (r < 0)
		return r;
	local_umask(umask);
	fd = openat(dir->fd, name,
		    (flags & (O_ACCMODE | O_DIRECT)) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    mode & 07777);
	if (fd < 0)
		return -errno;
	r = node_and_file((struct local *)ls, fd, ret, ret_file, ret_attr);
	if (r < 0)
		unlinkat(dir->fd, name, 0);
	else
		(*ret_file)->direct = flags & O_DIRECT;
	return r;
}

int local_tmpfile(struct libservice *ls, const struct cred *cred, struct ls_node *dir, int flags,
		  mode_t mode, mode_t umask, struct ls_node **ret, struct ls_file **ret_file,
		  struct attr *ret_attr)
{
	int r = local_assume(cred, dir), fd;

	if (r < 0)
		return r;
	local_umask(umask);
	fd = openat(dir->fd, ".", (flags & (O_ACCMODE | O_EXCL | O_DIRECT)) | O_TMPFILE | O_CLOEXEC,
		    mode & 07777);
	if (fd < 0)
		return -errno;
	return node_and_file((struct local *)ls, fd, ret, ret_file, ret_attr);
}

int local_link(struct libservice *ls, const struct cred *cred, struct ls_node *node,
	       struct ls_node *dir, const char *name)
{
	struct local *local = (struct local *)ls;
	char buf[LOCAL_PROC_NAME_MAX];
	uint64_t caps, own;
	int r = ls_check_name(name);

	if (r < 0)
		return r;
	/* protected_hardlinks asks for the inode (CAP_FOWNER, or else that it may be read and
	 * written), the rest for the directory. Where only one of the two counts, the stricter. */
	own = local_caps(cred, node);
	caps = (local_caps(cred, dir) & own & ~CAP_BIT(CAP_FOWNER)) | (own & CAP_BIT(CAP_FOWNER));
	r = cred_assume(cred, caps);
	if (r < 0)
		return r;
	if (linkat(local->proc_fd, local_proc_name(node->fd, buf), dir->fd, name,
		   AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return 0;
}

int local_unlink(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, bool directory)
{
	int r = ls_check_name(name);

	if (!r)
		r = cred_assume(cred, removal_caps(cred, dir, name));
	if (r < 0)
		return r;
	return unlinkat(dir->fd, name, directory ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

int local_rename(struct libservice *ls, const struct cred *cred, struct ls_node *dir,
		 const char *name, struct ls_node *newdir, const char *newname, unsigned flags)
{
	uint64_t caps;
	int r = ls_check_name(name);

	if (!r)
		r = ls_check_name(newname);
	if (r < 0)
		return r;
	caps = removal_caps(cred, dir, name) & removal_caps(cred, newdir, newname);
	r = cred_assume(cred, caps);
	if (r < 0)
		return r;
	return renameat2(dir->fd, name, newdir->fd, newname, flags) < 0 ? -errno : 0;
}
