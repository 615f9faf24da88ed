/* SPDX-License-Identifier: Apache-2.0 */
/* Directory streams. A stream on a directory of ours is this library's own object, known by its
 * first word; all others are libc's. Like libc's it is used by one thread at a time. The position
 * is the open file's: rewinding and seeking are seen by everyone who shares it. */
#include "preload/wrap.h"

#define STREAM_MAGIC 0x4441524944554e41ull
#define STREAM_BYTES 65536u
#define STREAMS_KEPT 4

struct stream {
	uint64_t magic;
	int fd;
	uint32_t at, len; /* in data */
	long position;	  /* behind the last entry that was given out; -1: the open file's */
	char data[] __attribute__((aligned(16)));
};

/* Both libcs' struct dirent is getdents64(2)'s record. */
struct record {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

static struct stream *_Atomic kept[STREAMS_KEPT];

static struct stream *ours(void *stream)
{
	return !bad_address(stream, sizeof(struct stream)) &&
		       ((struct stream *)stream)->magic == STREAM_MAGIC
		   ? stream
		   : NULL;
}

static struct stream *stream_new(int fd)
{
	struct stream *stream = NULL;
	long p;

	for (int i = 0; i < STREAMS_KEPT && !stream; i++)
		stream = atomic_exchange(&kept[i], NULL);
	if (!stream) {
		p = SYS6(mmap, NULL, STREAM_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (failed(p))
			return NULL;
		stream = (struct stream *)p;
	}
	stream->magic = STREAM_MAGIC;
	stream->fd = fd;
	stream->at = stream->len = 0;
	stream->position = -1;
	return stream;
}

static void stream_free(struct stream *stream)
{
	stream->magic = 0;
	for (int i = 0; i < STREAMS_KEPT; i++) {
		struct stream *none = NULL;

		if (atomic_compare_exchange_strong(&kept[i], &none, stream))
			return;
	}
	SYS(munmap, stream, STREAM_BYTES, 0);
}

static void *failing(long r)
{
	edge(r);
	return NULL;
}

void *do_opendir(const char *path)
{
	long fd = do_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_DIRECTORY | O_CLOEXEC, 0);
	struct stream *stream;
	void *theirs;
	int error;

	if (fd < 0)
		return failing(fd);
	if (!fd_is_ours((int)fd)) {
		theirs = LIBC(void *, fdopendir)((int)fd);
		if (!theirs) {
			error = *__errno_location();
			SYS(close, fd, 0, 0);
			*__errno_location() = error;
		}
		return theirs;
	}
	stream = stream_new((int)fd);
	if (!stream) {
		fd_close((int)fd, &error);
		return failing(-ENOMEM);
	}
	return stream;
}

void *do_fdopendir(int fd)
{
	struct ofile *f;
	struct stream *stream;
	bool directory;
	int r = fd_find(fd, &f);

	if (r == 0)
		return LIBC(void *, fdopendir)(fd);
	if (r < 0)
		return failing(r);
	directory = S_ISDIR(f->type);
	r = f->flags & O_PATH ? -EBADF : directory ? 0 : -ENOTDIR;
	ofile_put(f);
	if (r < 0)
		return failing(r);
	do_fcntl(fd, F_SETFD, FD_CLOEXEC);
	stream = stream_new(fd);
	return stream ? stream : failing(-ENOMEM);
}

static long read_records(struct ofile *f, void *buf, size_t cap_bytes)
{
	struct path_args args = {.op = WIRE_READDIR,
				 .offset = WIRE_AT_POSITION,
				 .size =
				     cap_bytes < WIRE_PAYLOAD_MAX ? cap_bytes : WIRE_PAYLOAD_MAX};
	struct call call;
	long r;

	if (bad_address(buf, cap_bytes))
		return -EFAULT;
	r = file_run(f, &args, &call);
	if (r == 0) {
		r = (long)call_reply(&call)->value;
		if ((size_t)r > cap_bytes)
			r = -EPROTO;
		else
			memcpy(buf, call.payload, (size_t)r);
	}
	call_end(&call);
	return r;
}

long do_getdents64(int fd, void *buf, size_t cap_bytes)
{
	return FD_CALL(fd, read_records(f, buf, cap_bytes), SYS(getdents64, fd, buf, cap_bytes));
}

long do_getdirentries(int fd, void *buf, size_t cap_bytes, long *position)
{
	long now = do_lseek(fd, 0, 1), r = do_getdents64(fd, buf, cap_bytes);

	if (r >= 0 && now >= 0)
		*position = now;
	return r;
}

/* The next entry, NULL at the end (*ret_error 0) or with why not. */
static struct record *next(struct stream *stream, long *ret_error)
{
	struct record *record;
	long r;

	*ret_error = 0;
	if (stream->at >= stream->len) {
		r = do_getdents64(stream->fd, stream->data,
				  STREAM_BYTES - offsetof(struct stream, data));
		if (r <= 0) {
			*ret_error = r == -ENOENT ? 0 : r; /* a removed directory is empty */
			return NULL;
		}
		stream->at = 0;
		stream->len = (uint32_t)r;
	}
	record = (struct record *)(stream->data + stream->at);
	stream->at += record->len;
	stream->position = record->off;
	return record;
}

void *do_readdir(void *opaque)
{
	struct stream *stream = ours(opaque);
	struct record *record;
	long r;

	if (!stream)
		return LIBC(void *, readdir64)(opaque);
	record = next(stream, &r);
	if (r < 0)
		edge(r);
	return record;
}

int do_readdir_r(void *opaque, void *entry, void **ret)
{
	struct stream *stream = ours(opaque);
	struct record *record;
	long r;

	if (!stream)
		return LIBC(int, readdir64_r)(opaque, entry, ret);
	record = next(stream, &r);
	*ret = record ? memcpy(entry, record, record->len) : NULL;
	return (int)-r;
}

long do_closedir(void *opaque)
{
	struct stream *stream = ours(opaque);
	int fd;

	if (!stream) {
		if (root.fds)
			fd_forget(LIBC(int, dirfd)(opaque));
		return LIBC(int, closedir)(opaque) < 0 ? -*__errno_location() : 0;
	}
	fd = stream->fd;
	stream_free(stream);
	return do_close(fd);
}

void do_seekdir(void *opaque, long position)
{
	struct stream *stream = ours(opaque);

	if (!stream) {
		LIBC(void, seekdir)(opaque, position);
		return;
	}
	stream->at = stream->len = 0;
	stream->position = position;
	do_lseek(stream->fd, position, 0);
}

void do_rewinddir(void *opaque)
{
	if (ours(opaque))
		do_seekdir(opaque, 0);
	else
		LIBC(void, rewinddir)(opaque);
}

long do_telldir(void *opaque)
{
	struct stream *stream = ours(opaque);

	if (!stream)
		return LIBC(long, telldir)(opaque);
	if (stream->position < 0)
		stream->position = do_lseek(stream->fd, 0, 1);
	return stream->position;
}

long do_dirfd(void *opaque)
{
	struct stream *stream = ours(opaque);

	return stream ? stream->fd : LIBC(int, dirfd)(opaque);
}
