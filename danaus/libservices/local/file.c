/* SPDX-License-Identifier: Apache-2.0 */
/* The local libservice's open files and listings. A file owns one descriptor of the host's; any
 * thread, several at a time. */
#include "danaus/libservices/local/map.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"

#define ENTRIES_BYTES (32u << 10)
#define PIECE_BYTES   (64u << 10)

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

int local_file_new(int fd, struct ls_file **ret)
{
	CLEANUP_FD int owned = fd;
	struct ls_file *file = calloc(1, sizeof(*file));

	if (!file)
		return -ENOMEM;
	file->fd = STEAL_FD(owned);
	pthread_mutex_init(&file->lock, NULL);
	*ret = file;
	return 0;
}

int local_open(struct libservice *ls, const struct cred *cred, struct ls_node *node, int flags,
	       struct ls_file **ret)
{
	struct local *local = (struct local *)ls;
	char buf[LOCAL_PROC_NAME_MAX];
	struct ls_file *file;
	int r, fd;

	/* Opening a FIFO could block, and a device could do anything. */
	if (node->type != S_IFREG && node->type != S_IFDIR)
		return -ENXIO;
	r = local_assume(cred, node);
	if (r < 0)
		return r;
	flags &= O_ACCMODE | O_DIRECT | O_NOATIME | O_APPEND;
	if (node->type == S_IFDIR)
		flags |= O_DIRECTORY;
	fd = openat(local->proc_fd, local_proc_name(node->fd, buf), flags | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	r = local_file_new(fd, &file);
	if (r < 0)
		return r;
	local_node_ref(local, node);
	file->node = node;
	file->direct = flags & O_DIRECT;
	*ret = file;
	return 0;
}

void local_file_free(struct ls_file *file)
{
	local_map_free(file);
	if (!file->lent)
		fd_close(file->fd);
	pthread_mutex_destroy(&file->lock);
	free(file->entries);
	free(file);
}

/* A borrowed descriptor would keep the inode open for writing: in its place comes an O_PATH one,
 * under the same number. */
static void give_back(struct local *local, struct ls_node *node)
{
	char buf[LOCAL_PROC_NAME_MAX];
	struct stat st;

	if (!atomic_load_explicit(&node->borrowed, memory_order_relaxed) ||
	    local_node_is_last(local, node) || !atomic_exchange(&node->borrowed, false))
		return;
	if (fstat(node->fd, &st) < 0 || !st.st_nlink)
		return; /* it ends soon */
	CLEANUP_FD int path =
	    openat(local->proc_fd, local_proc_name(node->fd, buf), O_PATH | O_CLOEXEC);
	if (path < 0 || dup3(path, node->fd, O_CLOEXEC) < 0)
		atomic_store(&node->borrowed, true);
}

void local_release(struct libservice *ls, struct ls_file *file)
{
	struct ls_node *node = file->node;

	if (file->lent)
		atomic_store(&node->borrowed, true);
	give_back((struct local *)ls, node);
	local_file_free(file);
	local_forget(ls, node, 1);
}

ssize_t local_read(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		   uint64_t offset)
{
	ssize_t n;

	if (offset > INT64_MAX)
		return -EINVAL;
	if (niov == 1)
		n = pread(file->fd, iov->iov_base, iov->iov_len, offset);
	else
		n = preadv(file->fd, iov, niov, offset);
	return n < 0 ? -errno : n;
}

/* A page cache keeps what one write brought in folios of that size, and ext4 looks at every block
 * of a folio for each small write into it: random writes of 4 KiB take 2.0 us in folios of 4
 * KiB, 3.8 in 64 KiB, 5.5 in 256 KiB, 7.5 in 1 MiB (Linux 6.18), while larger pieces than 64 KiB
 * bring nothing to the large write itself. A piece ends where the file's 64 KiB do; under the lock,
 * so that two such writes, or one and an append, do not mix. */
static ssize_t write_pieces(struct ls_file *file, const char *data, size_t len_bytes,
			    uint64_t offset)
{
	size_t done = 0, want;
	ssize_t n;

	pthread_mutex_lock(&file->node->write_lock);
	do {
		want = PIECE_BYTES - (offset + done) % PIECE_BYTES;
		want = want < len_bytes - done ? want : len_bytes - done;
		n = pwrite(file->fd, data + done, want, offset + done);
		if (n < 0)
			n = -errno;
		else
			done += n;
	} while (n == (ssize_t)want && done < len_bytes);
	pthread_mutex_unlock(&file->node->write_lock);
	return done ? (ssize_t)done : n;
}

/* Writes that are small enough for a mapping, and what a mapping must not mix with. */
static ssize_t write_whole(struct local *local, struct ls_file *file, const struct iovec *iov,
			   int niov, uint64_t offset)
{
	bool small = niov == 1 && iov->iov_len && iov->iov_len <= LOCAL_MAP_WRITE_MAX;
	uint64_t started;
	ssize_t n;

	pthread_mutex_lock(&file->node->write_lock);
	if (small && local_map_write(local, file, iov->iov_base, iov->iov_len, offset)) {
		n = iov->iov_len;
	} else {
		started = small ? local_map_clock() : 0;
		n = niov == 1 ? pwrite(file->fd, iov->iov_base, iov->iov_len, offset)
			      : pwritev(file->fd, iov, niov, offset);
		if (n < 0)
			n = -errno;
		else if (small && n > 0)
			local_map_wrote(local, file, started, n, offset);
	}
	pthread_mutex_unlock(&file->node->write_lock);
	return n;
}

ssize_t local_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov, int niov,
		    uint64_t offset, bool append, uint64_t *ret_end)
{
	ssize_t n;

	if (append) {
		/* Offset -1 moves the descriptor's own position: it says where the data went. */
		off_t end = 0;

		pthread_mutex_lock(&file->node->write_lock);
		n = pwritev2(file->fd, iov, niov, -1, RWF_APPEND);
		if (n >= 0 && ret_end)
			end = lseek(file->fd, 0, SEEK_CUR);
		else if (n < 0)
			n = -errno;
		pthread_mutex_unlock(&file->node->write_lock);
		if (n >= 0 && ret_end)
			*ret_end = end;
		return n;
	}
	if (offset > INT64_MAX)
		return -EINVAL;
	if (file->direct) {
		n = pwritev(file->fd, iov, niov, offset);
		if (n < 0)
			n = -errno;
	} else if (niov == 1 && offset % PIECE_BYTES + iov->iov_len > PIECE_BYTES) {
		n = write_pieces(file, iov->iov_base, iov->iov_len, offset);
	} else {
		n = write_whole((struct local *)ls, file, iov, niov, offset);
	}
	if (n < 0)
		return n;
	if (ret_end)
		*ret_end = offset + n;
	return n;
}

int local_fsync(struct libservice *ls, struct ls_file *file, bool data_only)
{
	return (data_only ? fdatasync(file->fd) : fsync(file->fd)) < 0 ? -errno : 0;
}

int local_allocate(struct libservice *ls, struct ls_file *file, int mode, uint64_t offset,
		   uint64_t len_bytes)
{
	int r;

	if (offset > INT64_MAX || len_bytes > INT64_MAX)
		return -EINVAL;
	/* A file that grows while a write goes through its mapping could lose that (map.h).
	 */
	pthread_mutex_lock(&file->node->write_lock);
	r = fallocate(file->fd, mode, offset, len_bytes) < 0 ? -errno : 0;
	pthread_mutex_unlock(&file->node->write_lock);
	return r;
}

int64_t local_seek(struct libservice *ls, struct ls_file *file, uint64_t offset, int whence)
{
	off_t at;

	if (offset > INT64_MAX)
		return -ENXIO;
	/* An append asks the descriptor's position where it went to. */
	pthread_mutex_lock(&file->node->write_lock);
	at = lseek(file->fd, offset, whence);
	at = at < 0 ? -errno : at;
	pthread_mutex_unlock(&file->node->write_lock);
	return at;
}

static int readdir_locked(struct local *local, struct ls_file *file, uint64_t position,
			  ls_fill_fn fill, void *arg)
{
	if (!file->entries) {
		file->entries = malloc(ENTRIES_BYTES);
		if (!file->entries)
			return -ENOMEM;
	}
	if (!position || position != file->position) {
		file->entries_at = file->entries_len = 0;
		if (position > INT64_MAX || lseek(file->fd, position, SEEK_SET) < 0)
			return position > INT64_MAX ? -EINVAL : -errno;
		file->position = position;
	}
	for (;;) {
		const struct linux_dirent64 *e;

		if (file->entries_at == file->entries_len) {
			long n = syscall(SYS_getdents64, file->fd, file->entries, ENTRIES_BYTES);

			file->entries_at = file->entries_len = 0;
			if (n <= 0)
				return n < 0 ? -errno : 0;
			file->entries_len = n;
		}
		e = (const struct linux_dirent64 *)(file->entries + file->entries_at);
		if (!fill(arg, e->d_name, local_ino(local, file->node, e->d_ino), e->d_type,
			  e->d_off))
			return 0;
		file->entries_at += e->d_reclen;
		file->position = e->d_off;
	}
}

int local_readdir(struct libservice *ls, struct ls_file *file, uint64_t position, ls_fill_fn fill,
		  void *arg)
{
	int r;

	if (file->node->type != S_IFDIR)
		return -ENOTDIR;
	pthread_mutex_lock(&file->lock);
	r = readdir_locked((struct local *)ls, file, position, fill, arg);
	pthread_mutex_unlock(&file->lock);
	return r;
}
