/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: scope-bound ownership, whole reads and writes, passing over unix sockets.
 * "No descriptor" is -1 everywhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd if >= 0, keeps errno. */
void cleanup_fd(int *fd);
#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))

#define STEAL_FD(fd)                                                                               \
	({                                                                                         \
		int steal_fd_ = (fd);                                                              \
		(fd) = -1;                                                                         \
		steal_fd_;                                                                         \
	})

/* close(2) that keeps errno; -1 is fine. Returns -1, so that `x = fd_close(x)` works. */
int fd_close(int fd);
/* The same for one that somebody untrusted sent: without waiting for its other end (SO_LINGER,
 * socket(7)). */
int fd_discard(int fd);

/* All of len_bytes or a negative errno (EINTR is retried). */
int fd_write_all(int fd, const void *data, size_t len_bytes);

/* The whole of a file, relative to dirfd, NUL-terminated; *ret is malloc'ed, the caller frees it.
 * ret_len_bytes may be NULL. -EFBIG when there is more than max_bytes. */
int fd_read_file_at(int dirfd, const char *path, size_t max_bytes, char **ret,
		    size_t *ret_len_bytes);

/* The rest of what fd delivers until its end, as above. */
int fd_read_all(int fd, size_t max_bytes, char **ret, size_t *ret_len_bytes);

/* Replaces a file's content atomically: a temporary name beside it, fsync, rename. */
int fd_replace_file_at(int dirfd, const char *path, mode_t mode, const void *data,
		       size_t len_bytes);

/* One datagram or stream write of data with up to FD_PASS_MAX descriptors (SCM_RIGHTS, unix(7)).
 * The descriptors stay the caller's. */
#define FD_PASS_MAX 64
int fd_send(int sock, const void *data, size_t len_bytes, const int *fds, unsigned nfds);

/* Receives at most cap_bytes; *ret_len_bytes 0 at the end of the stream. *nfds is the room on entry
 * and the number received on return; received descriptors are CLOEXEC and the caller's. Surplus
 * ones are closed and make it -EPROTO. */
int fd_recv(int sock, void *data, size_t cap_bytes, size_t *ret_len_bytes, int *fds,
	    unsigned *nfds);

/* Whether a message with descriptors waits to be received, or lies there undelivered. Receives
 * none. */
bool fd_descriptors_wait(int sock);

/* A bound and listening SOCK_SEQPACKET unix socket at dirfd/name (replacing a stale one), with
 * mode; or a connection to one. Paths longer than sun_path work: they go through
 * /proc/self/fd. */
int fd_listen_at(int dirfd, const char *name, mode_t mode, int *ret);
int fd_connect_at(int dirfd, const char *name, int *ret);
/* The same without waiting: -EAGAIN when somebody who lets nobody in has as many waiting as may. */
int fd_connect_at_once(int dirfd, const char *name, int *ret);
