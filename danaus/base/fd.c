/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing: helpers on descriptors that their callers own. Any thread. */
#include "danaus/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"

int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

int fd_discard(int fd)
{
	const struct linger off = {0};
	int saved = errno;

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
	errno = saved;
	return fd_close(fd);
}

void cleanup_fd(int *fd)
{
	*fd = fd_close(*fd);
}

int fd_write_all(int fd, const void *data, size_t len_bytes)
{
	const char *p = data;

	while (len_bytes) {
		ssize_t n = write(fd, p, len_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len_bytes -= n;
	}
	return 0;
}

int fd_read_all(int fd, size_t max_bytes, char **ret, size_t *ret_len_bytes)
{
	CLEANUP_FREE char *buf = NULL;
	size_t cap = 0, len = 0;

	for (;;) {
		ssize_t n;

		if (cap - len < 2) {
			size_t more = cap ? cap * 2 : 4096;
			char *grown = realloc(buf, more);

			if (!grown)
				return -ENOMEM;
			buf = grown;
			cap = more;
		}
		n = read(fd, buf + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
		if (len > max_bytes)
			return -EFBIG;
	}
	buf[len] = '\0';
	*ret = STEAL_PTR(buf);
	if (ret_len_bytes)
		*ret_len_bytes = len;
	return 0;
}

int fd_read_file_at(int dirfd, const char *path, size_t max_bytes, char **ret,
		    size_t *ret_len_bytes)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return fd_read_all(fd, max_bytes, ret, ret_len_bytes);
}

int fd_replace_file_at(int dirfd, const char *path, mode_t mode, const void *data, size_t len_bytes)
{
	char tmp[4200];
	int r;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.%d.tmp", path, (int)getpid()) >= sizeof(tmp))
		return -ENAMETOOLONG;
	CLEANUP_FD int fd =
	    openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, len_bytes);
	if (!r && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || renameat(dirfd, tmp, dirfd, path) < 0))
		r = -errno;
	if (r)
		unlinkat(dirfd, tmp, 0);
	return r;
}

int fd_send(int sock, const void *data, size_t len_bytes, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len_bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (nfds > FD_PASS_MAX)
		return -EINVAL;
	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len_bytes ? 0 : -EMSGSIZE;
}

int fd_recv(int sock, void *data, size_t cap_bytes, size_t *ret_len_bytes, int *fds, unsigned *nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = cap_bytes};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	unsigned room = nfds ? *nfds : 0, got = 0;
	int surplus = 0;
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < room) {
				fds[got++] = fd;
			} else {
				surplus = 1;
				fd_discard(fd);
			}
		}
	}
	if (surplus || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		while (got)
			fd_discard(fds[--got]);
		return -EPROTO;
	}
	if (nfds)
		*nfds = got;
	*ret_len_bytes = n;
	return 0;
}

bool fd_descriptors_wait(int sock)
{
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	return recvmsg(sock, &msg, MSG_PEEK | MSG_DONTWAIT) >= 0 && (msg.msg_flags & MSG_CTRUNC);
}

static int unix_address(int dirfd, const char *name, struct sockaddr_un *addr)
{
	int n;

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (dirfd == AT_FDCWD)
		n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", name);
	else
		n = snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/%s", dirfd,
			     name);
	return n >= 0 && (size_t)n < sizeof(addr->sun_path) ? 0 : -ENAMETOOLONG;
}

int fd_listen_at(int dirfd, const char *name, mode_t mode, int *ret)
{
	struct sockaddr_un addr;
	int r = unix_address(dirfd, name, &addr);

	if (r < 0)
		return r;
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    fchmodat(dirfd, name, mode, 0) < 0 || listen(sock, 128) < 0)
		return -errno;
	*ret = STEAL_FD(sock);
	return 0;
}

static int connect_at(int dirfd, const char *name, int flags, int *ret)
{
	struct sockaddr_un addr;
	int r = unix_address(dirfd, name, &addr);

	if (r < 0)
		return r;
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (flags && fcntl(sock, F_SETFL, 0) < 0)
		return -errno;
	*ret = STEAL_FD(sock);
	return 0;
}

int fd_connect_at(int dirfd, const char *name, int *ret)
{
	return connect_at(dirfd, name, 0, ret);
}

int fd_connect_at_once(int dirfd, const char *name, int *ret)
{
	return connect_at(dirfd, name, SOCK_NONBLOCK, ret);
}
