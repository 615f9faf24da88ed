/* SPDX-License-Identifier: Apache-2.0 */
/* Data: reads and writes of any size and shape over payloads of one size, and what moves data
 * between two descriptors. */
#include "preload/position.h"
#include "preload/wrap.h"
#include "preload/window.h"

#define IO_MAX	    0x7ffff000ul /* as the kernel's MAX_RW_COUNT */
#define PART_BYTES  (128u << 10) /* of a payload that is written by turns */
#define SIGXFSZ_    25
#define RWF_HIPRI_  1
#define RWF_DSYNC_  2
#define RWF_SYNC_   4
#define RWF_NOWAIT_ 8
#define RWF_APPEND_ 16

/* A place in a vector of buffers. */
struct cursor {
	const struct iovec *iov;
	size_t done; /* of iov[0] */
};

/* Moves len_bytes between the buffers and a payload. */
static void move(struct cursor *at, char *payload, size_t len_bytes, bool in)
{
	while (len_bytes) {
		size_t room = at->iov->iov_len - at->done;
		size_t n = room < len_bytes ? room : len_bytes;
		char *buf = (char *)at->iov->iov_base + at->done;

		if (in)
			memcpy(payload, buf, n);
		else
			memcpy(buf, payload, n);
		payload += n;
		len_bytes -= n;
		at->done += n;
		if (at->done == at->iov->iov_len) {
			at->iov++;
			at->done = 0;
		}
	}
}

/* The bytes a vector asks for, at most IO_MAX; -EINVAL, -EFAULT. */
static long total_bytes(const struct iovec *iov, long niov)
{
	size_t total = 0;

	if (niov < 0 || niov > 1024)
		return -EINVAL;
	if (niov && bad_address(iov, sizeof(*iov) * (size_t)niov))
		return -EFAULT;
	for (long i = 0; i < niov; i++) {
		if ((long)iov[i].iov_len < 0)
			return -EINVAL;
		if (iov[i].iov_len && bad_address(iov[i].iov_base, iov[i].iov_len))
			return -EFAULT;
		total += iov[i].iov_len;
		if ((long)total < 0)
			return -EINVAL;
	}
	return total > IO_MAX ? (long)IO_MAX : (long)total;
}

static long read_all(struct ofile *f, struct cursor at, size_t total, uint64_t offset)
{
	size_t done = 0, chunk, moved;
	struct call call;
	long r;

	do {
		struct wire_request *request;

		chunk = total - done < WIRE_PAYLOAD_MAX ? total - done : WIRE_PAYLOAD_MAX;
		r = call_begin(&call, WIRE_READ);
		if (r < 0)
			break;
		request = call_request(&call);
		request->handle = f->handle;
		request->offset = offset == AT_POSITION ? AT_POSITION : offset + done;
		request->size = chunk;
		r = call_run(&call);
		moved = r < 0 ? 0 : call_reply(&call)->value;
		if (moved > chunk)
			moved = chunk;
		move(&at, call.payload, moved, false);
		call_end(&call);
		done += moved;
	} while (r == 0 && moved == chunk && done < total);
	call_end(&call);
	return done ? (long)done : r;
}

/* What fits into a payload is one request. More goes by turns over parts of one payload: while the
 * service writes a part, the next one is filled. Where each request costs a wake-up, in fewer. */
static long write_all(struct ofile *f, struct cursor at, size_t total, uint64_t offset,
		      uint32_t flags)
{
	size_t part = total > WIRE_PAYLOAD_MAX && channel_answers_soon(WIRE_WRITE)
			  ? PART_BYTES
			  : WIRE_PAYLOAD_MAX;
	size_t done = 0, chunk, next, moved, where = 0;
	struct wire_request *request;
	struct call call;
	long r = call_begin(&call, WIRE_WRITE);

	if (r < 0)
		return r;
	request = call_request(&call);
	request->handle = f->handle;
	request->flags = flags;
	chunk = total < part ? total : part;
	move(&at, call.payload, chunk, true);
	do {
		request->offset = offset == AT_POSITION ? AT_POSITION : offset + done;
		request->offset2 = where;
		request->len1 = (uint32_t)chunk;
		r = call_post(&call);
		if (r < 0)
			break;
		next = total - done - chunk < part ? total - done - chunk : part;
		if (part < WIRE_PAYLOAD_MAX) {
			where = (where + part) % WIRE_PAYLOAD_MAX;
			move(&at, call.payload + where, next, true);
		}
		r = call_wait(&call);
		moved = r < 0 ? 0 : call_reply(&call)->value;
		done += moved < chunk ? moved : chunk;
		if (r < 0 || moved < chunk)
			break;
		chunk = next;
		if (part == WIRE_PAYLOAD_MAX)
			move(&at, call.payload, next, true);
	} while (chunk);
	call_end(&call);
	if (unlikely(r == -EFBIG) && !done && root.fsize_limit != UINT64_MAX)
		SYS(tgkill, SYS(getpid, 0, 0, 0), SYS(gettid, 0, 0, 0), SIGXFSZ_);
	return done ? (long)done : r;
}

/* At the position. */
static long read_on(struct ofile *f, const struct iovec *iov, long niov, size_t total)
{
	uint64_t at;
	long r;

	do {
		if (!position_here(f, &at))
			return read_all(f, (struct cursor){iov, 0}, total, AT_POSITION);
		r = niov == 1 ? window_take_some(f, iov->iov_base, total, at) : -1;
		if (r < 0)
			r = read_all(f, (struct cursor){iov, 0}, total, at);
	} while (r > 0 && !position_move(f, at, at + (uint64_t)r));
	return r;
}

long io_read(struct ofile *f, void *buf, size_t len_bytes, uint64_t offset)
{
	struct iovec iov = {buf, len_bytes > IO_MAX ? IO_MAX : len_bytes};

	if (offset != AT_POSITION && (long)offset < 0)
		return -EINVAL;
	if (len_bytes && bad_address(buf, len_bytes))
		return -EFAULT;
	if (offset == AT_POSITION)
		return read_on(f, &iov, 1, iov.iov_len);
	if (window_take(f, buf, iov.iov_len, offset))
		return (long)iov.iov_len;
	return read_all(f, (struct cursor){&iov, 0}, iov.iov_len, offset);
}

long io_write(struct ofile *f, const void *buf, size_t len_bytes, uint64_t offset)
{
	struct iovec iov = {(void *)buf, len_bytes > IO_MAX ? IO_MAX : len_bytes};

	if (offset != AT_POSITION && (long)offset < 0)
		return -EINVAL;
	if (len_bytes && bad_address(buf, len_bytes))
		return -EFAULT;
	return write_all(f, (struct cursor){&iov, 0}, iov.iov_len, offset, 0);
}

long io_readv(struct ofile *f, const struct iovec *iov, long niov, uint64_t offset, int flags)
{
	long total = total_bytes(iov, niov);

	if (total < 0)
		return total;
	if (flags & ~(RWF_HIPRI_ | RWF_NOWAIT_))
		return -EOPNOTSUPP;
	if (offset == AT_POSITION)
		return read_on(f, iov, niov, (size_t)total);
	return read_all(f, (struct cursor){iov, 0}, (size_t)total, offset);
}

long io_writev(struct ofile *f, const struct iovec *iov, long niov, uint64_t offset, int flags)
{
	long total = total_bytes(iov, niov), r;

	if (total < 0)
		return total;
	if (flags & ~(RWF_HIPRI_ | RWF_DSYNC_ | RWF_SYNC_ | RWF_APPEND_))
		return -EOPNOTSUPP;
	r = write_all(f, (struct cursor){iov, 0}, (size_t)total, offset,
		      (uint32_t)(flags & RWF_APPEND_));
	if (r > 0 && flags & (RWF_DSYNC_ | RWF_SYNC_)) {
		long synced = io_sync(f, !(flags & RWF_SYNC_));

		r = synced < 0 ? synced : r;
	}
	return r;
}

long io_seek(struct ofile *f, long offset, int whence)
{
	struct path_args args = {
	    .op = WIRE_SEEK, .offset = (uint64_t)offset, .mode = (uint32_t)whence};
	struct call call;
	long r;

	if (position_seek(f, offset, whence, &r))
		return r;
	r = file_run(f, &args, &call);
	if (r == 0)
		r = (long)call_reply(&call)->value;
	call_end(&call);
	return r;
}

long do_lseek(int fd, long offset, int whence)
{
	return FD_CALL(fd, io_seek(f, offset, whence), SYS(lseek, fd, offset, whence));
}

long io_sync(struct ofile *f, bool data_only)
{
	struct path_args args = {.op = WIRE_FSYNC, .flags = data_only};

	return file_do(f, &args);
}

long io_allocate(struct ofile *f, int mode, long offset, long len_bytes)
{
	struct path_args args = {.op = WIRE_ALLOCATE,
				 .mode = (uint32_t)mode,
				 .offset = (uint64_t)offset,
				 .size = (uint64_t)len_bytes};

	if (offset < 0 || len_bytes <= 0)
		return -EINVAL;
	return file_do(f, &args);
}

int do_posix_fallocate(int fd, long offset, long len_bytes)
{
	long r = FD_CALL(fd, io_allocate(f, 0, offset, len_bytes),
			 -LIBC(int, posix_fallocate)(fd, offset, len_bytes));

	return (int)-r;
}

int do_posix_fadvise(int fd, long offset, long len_bytes, int advice)
{
	long r = FD_CALL(fd, advice < 0 || advice > 5 || len_bytes < 0 ? -EINVAL : 0,
			 SYS4(fadvise64, fd, offset, len_bytes, advice));

	return (int)-r;
}

/* From a file of ours into a descriptor of the kernel's, over a payload. */
static long send_payloads(int out, struct ofile *in, long *offset, size_t len_bytes)
{
	long done = 0, n, r = 0;

	while (len_bytes) {
		struct call call;

		n = len_bytes < WIRE_PAYLOAD_MAX ? (long)len_bytes : (long)WIRE_PAYLOAD_MAX;
		r = call_begin(&call, WIRE_READ);
		if (r < 0)
			break;
		call_request(&call)->handle = in->handle;
		call_request(&call)->offset = offset ? (uint64_t)(*offset + done) : AT_POSITION;
		call_request(&call)->size = (uint64_t)n;
		r = call_run(&call);
		if (r == 0) {
			n = (long)call_reply(&call)->value;
			r = n ? SYS(write, out, call.payload, n) : 0;
		}
		call_end(&call);
		if (r < n && !offset) /* what was read and not sent stays unread */
			io_seek(in, (r > 0 ? r : 0) - n, 1 /* SEEK_CUR */);
		if (r <= 0)
			break;
		done += r;
		len_bytes -= (size_t)r;
		if (r < n)
			break;
	}
	if (offset)
		*offset += done;
	return done ? done : r;
}

/* Where reads of a file whose position is here begin, when offset is NULL. */
static bool begin_here(struct ofile *in, long **offset, long *at)
{
	uint64_t position;

	if (*offset || !position_here(in, &position))
		return false;
	*at = (long)position;
	*offset = at;
	return true;
}

static long send_out(int out, struct ofile *in, long *offset, size_t len_bytes)
{
	long at, r;
	bool here = begin_here(in, &offset, &at);

	r = send_payloads(out, in, offset, len_bytes);
	if (here && r > 0)
		position_move(in, (uint64_t)(at - r), (uint64_t)at);
	return r;
}

/* From a descriptor of the kernel's into a file of ours. */
static long send_in(struct ofile *out, int in, long *offset, size_t len_bytes)
{
	long done = 0, r = 0;

	while (len_bytes) {
		struct call call;
		size_t n = len_bytes < WIRE_PAYLOAD_MAX ? len_bytes : WIRE_PAYLOAD_MAX;

		r = call_begin(&call, WIRE_WRITE);
		if (r < 0)
			break;
		r = offset ? SYS4(pread64, in, call.payload, n, *offset + done)
			   : SYS(read, in, call.payload, n);
		if (r > 0) {
			call_request(&call)->handle = out->handle;
			call_request(&call)->offset = AT_POSITION;
			call_request(&call)->len1 = (uint32_t)r;
			call_request(&call)->size = (uint64_t)r;
			r = call_run(&call);
			if (r == 0)
				r = (long)call_reply(&call)->value;
		}
		call_end(&call);
		if (r <= 0)
			break;
		done += r;
		len_bytes -= (size_t)r;
	}
	if (offset)
		*offset += done;
	return done ? done : r;
}

static long copy(struct ofile *in, long *in_offset, struct ofile *out, long *out_offset,
		 size_t len_bytes)
{
	long at, r;
	bool here = begin_here(in, &in_offset, &at);
	struct call call;

	r = call_begin(&call, WIRE_COPY);
	if (r == 0) {
		struct wire_request *request = call_request(&call);

		request->handle = in->handle;
		request->handle2 = out->handle;
		request->offset = in_offset ? (uint64_t)*in_offset : AT_POSITION;
		request->offset2 = out_offset ? (uint64_t)*out_offset : AT_POSITION;
		request->size = len_bytes > IO_MAX ? IO_MAX : len_bytes;
		r = call_run(&call);
		if (r == 0)
			r = (long)call_reply(&call)->value;
	}
	call_end(&call);
	if (r > 0 && in_offset)
		*in_offset += r;
	if (r > 0 && here)
		position_move(in, (uint64_t)(at - r), (uint64_t)at);
	if (r > 0 && out_offset)
		*out_offset += r;
	return r;
}

/* Runs `both`, `first`, `second` or `none` by who owns the two descriptors; a, b: our files. */
#define TWO_FDS(fd1, fd2, both, first, second, none)                                               \
	({                                                                                         \
		struct ofile *a = NULL, *b = NULL;                                                 \
		int one_ = fd_find(fd1, &a), two_ = fd_find(fd2, &b);                              \
		long r_ = one_ < 0   ? one_                                                        \
			  : two_ < 0 ? two_                                                        \
			  : one_     ? (two_ ? (both) : (first))                                   \
				     : (two_ ? (second) : (none));                                     \
		if (one_ > 0)                                                                      \
			ofile_put(a);                                                              \
		if (two_ > 0)                                                                      \
			ofile_put(b);                                                              \
		r_;                                                                                \
	})

long do_sendfile(int out, int in, long *offset, size_t len_bytes)
{
	if (offset && *offset < 0)
		return -EINVAL;
	return TWO_FDS(out, in, copy(b, offset, a, NULL, len_bytes),
		       send_in(a, in, offset, len_bytes), send_out(out, b, offset, len_bytes),
		       SYS4(sendfile, out, in, offset, len_bytes));
}

long do_copy_file_range(int in, long *in_offset, int out, long *out_offset, size_t len_bytes,
			unsigned flags)
{
	/* across file systems the kernel says EXDEV, and programs know how to go on */
	return TWO_FDS(in, out, flags ? -EINVAL : copy(a, in_offset, b, out_offset, len_bytes),
		       -EXDEV, -EXDEV,
		       SYS6(copy_file_range, in, in_offset, out, out_offset, len_bytes, flags));
}

#define SPLICE_NONBLOCK_ 2
#define FIONREAD_	 0x541b

static bool pipe_ready(int fd, short events)
{
	struct pollfd_ poll = {fd, events, 0};
	struct timespec_ now = {0, 0};

	return SYS6(ppoll, &poll, 1, &now, NULL, 8, 0) > 0;
}

/* A file of ours into a pipe, as much as fits without waiting for the reader twice. */
static long splice_out(struct ofile *in, long *offset, int pipe, size_t len_bytes, unsigned flags)
{
	long capacity = SYS(fcntl, pipe, F_GETPIPE_SZ, 0);
	int there = 0;

	if (capacity < 0)
		return -EINVAL;
	if (flags & SPLICE_NONBLOCK_ && !pipe_ready(pipe, POLLOUT))
		return -EAGAIN;
	SYS(ioctl, pipe, FIONREAD_, &there);
	if (there)
		capacity = 4096;
	return send_out(pipe, in, offset,
			len_bytes < (size_t)capacity ? len_bytes : (size_t)capacity);
}

static long splice_in(int pipe, struct ofile *out, long *offset, size_t len_bytes, unsigned flags)
{
	struct call call;
	long r, n;

	if (SYS(fcntl, pipe, F_GETPIPE_SZ, 0) < 0 || out->flags & O_APPEND)
		return -EINVAL;
	if (flags & SPLICE_NONBLOCK_ && !pipe_ready(pipe, POLLIN))
		return -EAGAIN;
	r = call_begin(&call, WIRE_WRITE);
	if (r == 0)
		r = SYS(read, pipe, call.payload,
			len_bytes < WIRE_PAYLOAD_MAX ? len_bytes : WIRE_PAYLOAD_MAX);
	if (r > 0) {
		n = r;
		call_request(&call)->handle = out->handle;
		call_request(&call)->offset = offset ? (uint64_t)*offset : AT_POSITION;
		call_request(&call)->len1 = (uint32_t)n;
		call_request(&call)->size = (uint64_t)n;
		r = call_run(&call);
		if (r == 0)
			r = (long)call_reply(&call)->value;
	}
	call_end(&call);
	if (r > 0 && offset)
		*offset += r;
	return r;
}

static long splice_kernel(int in, long *in_offset, int out, long *out_offset, size_t len_bytes,
			  unsigned flags)
{
	long r = LIBC(ssize_t, splice)(in, in_offset, out, out_offset, len_bytes, flags);

	return r < 0 ? -*__errno_location() : r;
}

long do_splice(int in, long *in_offset, int out, long *out_offset, size_t len_bytes, unsigned flags)
{
	return TWO_FDS(in, out, -EINVAL,
		       out_offset ? -ESPIPE : splice_out(a, in_offset, out, len_bytes, flags),
		       in_offset ? -ESPIPE : splice_in(in, b, out_offset, len_bytes, flags),
		       splice_kernel(in, in_offset, out, out_offset, len_bytes, flags));
}
