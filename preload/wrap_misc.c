/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings, ioctl, readiness, messages with descriptors, watches, syscall(2). */
#include "preload/wrap.h"

#include <asm/ioctls.h>

#define READY_BITS    (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)
#define SCM_RIGHTS_   1
#define SOL_SOCKET_   1
#define CMSG_CLOEXEC_ 0x40000000
#define MAP_COPY_MAX  (64 << 10) /* bytes; below a payload */

/* Into a memory file, what a small file has; -EFBIG when it is none, or what failed. */
static long copy_into_memory(struct ofile *f, int memory)
{
	struct wire_request *request;
	struct call call;
	long r = call_begin(&call, WIRE_READ), n = 0;

	if (r == 0) {
		request = call_request(&call);
		request->handle = f->handle;
		request->size = MAP_COPY_MAX + 1;
		r = call_run(&call);
	}
	if (r == 0) {
		n = (long)call_reply(&call)->value;
		r = n > MAP_COPY_MAX ? -EFBIG : SYS4(pwrite64, memory, call.payload, n, 0);
	}
	call_end(&call);
	return r < 0 ? r : r == n ? 0 : -ENOSPC;
}

/* A private mapping of a small file that is open for reading only is one of a copy: a request
 * instead of a kernel file and its page faults, for programs that map what they could have read
 * (git). That it does not show what is written to the file later is one of the two things that
 * mmap(2) leaves open. Beyond the end, and with madvise(2), it is as the file's own. */
static long map_copy(struct ofile *f, void *at, size_t len_bytes, int prot, int flags, long offset)
{
	struct wire_attr attr;
	long fd, r;

	if ((flags & MAP_TYPE) != MAP_PRIVATE ||
	    flags & (MAP_LOCKED | MAP_POPULATE | MAP_HUGETLB) || prot & ~(PROT_READ | PROT_WRITE) ||
	    f->type != S_IFREG || (f->flags & (O_ACCMODE | O_PATH)) != O_RDONLY || offset < 0 ||
	    !len_bytes || len_bytes > MAP_COPY_MAX || offset > MAP_COPY_MAX ||
	    file_attr(f, &attr) < 0 || attr.size > MAP_COPY_MAX)
		return -EFBIG;
	fd = SYS(memfd_create, "danaus-copy", 1 /* MFD_CLOEXEC */, 0);
	if (fd < 0)
		return fd;
	r = copy_into_memory(f, (int)fd);
	if (r == 0)
		r = SYS6(mmap, at, len_bytes, prot, flags, fd, offset);
	SYS(close, fd, 0, 0);
	return r;
}

static long map_file(struct ofile *f, void *at, size_t len_bytes, int prot, int flags, long offset)
{
	int fd;
	long r = map_copy(f, at, len_bytes, prot, flags, offset);

	if (!failed(r))
		return r;
	r = file_kernel_fd(f, &fd);
	if (r < 0)
		return r == -EOPNOTSUPP ? -ENODEV : r;
	r = SYS6(mmap, at, len_bytes, prot, flags, fd, offset);
	SYS(close, fd, 0, 0);
	return r;
}

long do_mmap(void *at, size_t len_bytes, int prot, int flags, int fd, long offset)
{
	if (flags & MAP_ANONYMOUS)
		return SYS6(mmap, at, len_bytes, prot, flags, fd, offset);
	return FD_CALL(fd,
		       f->flags & O_PATH ? -EBADF : map_file(f, at, len_bytes, prot, flags, offset),
		       SYS6(mmap, at, len_bytes, prot, flags, fd, offset));
}

static long bytes_left(struct ofile *f, int *ret)
{
	struct wire_attr attr;
	long r = file_attr(f, &attr), size, position;

	if (r < 0)
		return r;
	size = (long)attr.size;
	position = io_seek(f, 0, 1);
	*ret = position < size ? (int)(size - position) : 0;
	return 0;
}

long file_ioctl(struct ofile *f, int fd, unsigned long request, void *arg)
{
	long flags;

	if (f->flags & O_PATH)
		return -EBADF;
	switch (request) {
	case FIOCLEX:
		return do_fcntl(fd, F_SETFD, FD_CLOEXEC);
	case FIONCLEX:
		return do_fcntl(fd, F_SETFD, 0);
	case FIONBIO:
		if (bad_address(arg, sizeof(int)))
			return -EFAULT;
		flags = do_fcntl(fd, F_GETFL, 0);
		if (flags < 0)
			return flags;
		return do_fcntl(
		    fd, F_SETFL,
		    (unsigned long)(*(int *)arg ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
	case FIONREAD:
		if (bad_address(arg, sizeof(int)))
			return -EFAULT;
		return S_ISREG(f->type) ? bytes_left(f, arg) : -ENOTTY;
	case FICLONE:
	case FICLONERANGE:
		return -EOPNOTSUPP;
	default:
		return -ENOTTY;
	}
}

/* struct iocb of io_submit(2) has its descriptor behind 20 bytes. */
void io_submit_export(long n, char *const *calls)
{
	for (long i = 0; i < n && !thread.vfork_child && !bad_address(calls + i, 8); i++) {
		struct ofile *f;

		if (bad_address(calls[i], 64) || fd_find(*(int *)(calls[i] + 20), &f) <= 0)
			continue;
		file_to_kernel(f);
		ofile_put(f);
	}
}

bool poll_is_ours(const struct pollfd_ *fds, unsigned long nfds)
{
	if (nfds > (1ul << 20) || bad_address(fds, nfds * sizeof(*fds)))
		return false;
	for (unsigned long i = 0; i < nfds; i++)
		if (unlikely(fds[i].fd >= root.fd_base) && fd_is_ours(fds[i].fd))
			return true;
	return false;
}

/* Files of ours are always ready, as regular files are. The rest is asked with our numbers
 * negated, which poll(2) passes over. */
long do_poll(struct pollfd_ *fds, unsigned long nfds, const struct timespec_ *timeout,
	     const void *signals)
{
	struct timespec_ none = {0, 0}, wait = timeout ? *timeout : none;
	long ready = 0, r;

	for (unsigned long i = 0; i < nfds; i++) {
		if (fds[i].fd < root.fd_base || !fd_is_ours(fds[i].fd))
			continue;
		if (fds[i].events & READY_BITS)
			ready++;
		fds[i].fd = ~fds[i].fd;
	}
	r = SYS6(ppoll, fds, nfds, ready ? &none : timeout ? &wait : NULL, signals, 8, 0);
	for (unsigned long i = 0; i < nfds; i++) {
		if (~fds[i].fd < root.fd_base)
			continue;
		fds[i].fd = ~fds[i].fd;
		fds[i].revents = fds[i].events & READY_BITS;
	}
	return r < 0 ? r : r + ready;
}

/* Files of ours in three sets of descriptors: taken out before the kernel is asked, and put back
 * as ready. Sets that reach numbers this high are the program's own, bigger than fd_set. */
long do_select(int nfds, uint64_t *in, uint64_t *out, uint64_t *except,
	       const struct timespec_ *timeout, const void *signals)
{
	struct timespec_ none = {0, 0}, wait = timeout ? *timeout : none;
	struct {
		const void *set;
		size_t bytes;
	} mask = {signals, 8};
	uint64_t *sets[3] = {in, out, except};
	long ready = 0, r;
	uint64_t ours[2][64] = {{0}}; /* up to 4,096 numbers above the base */
	int base = root.fd_base & ~63, last = nfds < base + 4096 ? nfds : base + 4096;

	for (int fd = root.fd_base; fd < last; fd++) {
		int word = fd / 64, mine = word - base / 64;
		uint64_t bit = 1ull << (fd % 64), any = 0;

		for (int i = 0; i < 3; i++)
			any |= sets[i] ? sets[i][word] & bit : 0;
		if (!any || !fd_is_ours(fd))
			continue;
		for (int i = 0; i < 3; i++) {
			if (!sets[i] || !(sets[i][word] & bit))
				continue;
			sets[i][word] &= ~bit;
			if (i < 2) {
				ours[i][mine] |= bit;
				ready++;
			}
		}
	}
	r = SYS6(pselect6, nfds, in, out, except, ready ? &none : timeout ? &wait : NULL, &mask);
	for (int i = 0; i < 2 && r >= 0; i++)
		for (int word = 0; sets[i] && word < (last - base + 63) / 64; word++)
			sets[i][base / 64 + word] |= ours[i][word];
	return r < 0 ? r : r + ready;
}

#define CMSG_NEXT(cmsg) ((struct cmsg_header *)((char *)(cmsg) + (((cmsg)->len + 7) & ~7ul)))

static struct cmsg_header *first_cmsg(const struct msg_header *msg)
{
	return msg->control_bytes >= sizeof(struct cmsg_header) ? msg->control : NULL;
}

static bool inside(const struct msg_header *msg, const struct cmsg_header *cmsg)
{
	size_t at = (size_t)((const char *)cmsg - (const char *)msg->control);

	return at + sizeof(*cmsg) <= msg->control_bytes && cmsg->len >= sizeof(*cmsg) &&
	       cmsg->len <= msg->control_bytes - at;
}

/* Calls fn for each descriptor in a message. */
static void each_fd(const struct msg_header *msg, void (*fn)(int *fd, int flags), int flags)
{
	struct cmsg_header *cmsg;

	if (bad_address(msg, sizeof(*msg)) || !msg->control ||
	    bad_address(msg->control, msg->control_bytes))
		return;
	for (cmsg = first_cmsg(msg); cmsg && inside(msg, cmsg); cmsg = CMSG_NEXT(cmsg)) {
		int *fds = (int *)(cmsg + 1);

		if (cmsg->level != SOL_SOCKET_ || cmsg->type != SCM_RIGHTS_)
			continue;
		for (size_t i = 0; i < (cmsg->len - sizeof(*cmsg)) / sizeof(int); i++)
			fn(&fds[i], flags);
	}
}

/* Whoever receives it, a file of the kernel's is understood. */
static void export_one(int *fd, int flags)
{
	struct ofile *f;

	if (fd_find(*fd, &f) <= 0)
		return;
	file_to_kernel(f);
	ofile_put(f);
}

void message_export(const struct msg_header *msg)
{
	if (!thread.vfork_child)
		each_fd(msg, export_one, 0);
}

/* A name that arrived below the base moves to where names are understood. */
static void adopt_one(int *fd, int flags)
{
	const struct mount_table *table = root_table();
	struct stat st;
	long high;

	if (*fd >= root.fd_base || SYS(fstat, *fd, &st, 0) < 0 ||
	    !device_is(st.st_dev, table->anchor_dev_major, table->anchor_dev_minor))
		return;
	if (channel_ready() < 0)
		return;
	high =
	    SYS(fcntl, *fd, flags & CMSG_CLOEXEC_ ? F_DUPFD_CLOEXEC : F_DUPFD, table->light_limit);
	if (high < 0)
		return;
	SYS(close, *fd, 0, 0);
	*fd = (int)high;
}

void message_adopt(struct msg_header *msg, int flags)
{
	if (!thread.vfork_child && msg->control_bytes && root_on())
		each_fd(msg, adopt_one, flags);
}

long do_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	TARGET(target, AT_FDCWD, path);
	struct wire_request request;
	struct wire_reply reply;
	long r = -EOPNOTSUPP;

	if (target_find(&target)) {
		request_init(&request, WIRE_WATCH);
		request.handle = target.handle;
		request.size = mask;
		r = socket_request(&request, target.rest, fd, &reply, NULL);
		target_done(&target);
		if (r == 0)
			return (long)reply.value;
	}
	if (r == -EREMCHG || r == -EOPNOTSUPP || r == -ENOSYS || r == -EPROTO)
		return GATE(inotify_add_watch, fd, path, mask, 0, 0);
	return r;
}
