/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a calling program: process_vm_readv(2). All input from here is a tenant's, may
 * change at any time, and is read once. pid is a host thread id; -ESRCH when it is gone, -EFAULT
 * as the system call would say. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define MEMORY_IOV_MAX	 1024	      /* IOV_MAX */
#define MEMORY_TOTAL_MAX 0x7ffff000ul /* what one read(2) or write(2) moves at most */

/* All of len_bytes. */
int memory_read(pid_t pid, uint64_t addr, void *buf, size_t len_bytes);
int memory_write(pid_t pid, uint64_t addr, const void *buf, size_t len_bytes);

/* A string of at most cap_bytes with its NUL; returns its length. -ENAMETOOLONG. */
ssize_t memory_string(pid_t pid, uint64_t addr, char *buf, size_t cap_bytes);

/* The program's buffers of one call: its iovec array, or one buffer. */
struct memory_iov {
	struct iovec *iov; /* room for MEMORY_IOV_MAX */
	unsigned n;
	size_t total_bytes; /* cut to MEMORY_TOTAL_MAX */
	unsigned at;	    /* where memory_gather()/memory_scatter() go on */
	size_t at_bytes;
};

/* Reads count iovecs at addr. -EINVAL for more than IOV_MAX or a negative total, -EFAULT. */
int memory_iov_read(pid_t pid, uint64_t addr, uint64_t count, struct memory_iov *iov);
void memory_iov_one(struct memory_iov *iov, uint64_t addr, uint64_t len_bytes);

/* Moves the next len_bytes (not more than are left) from or to the program; fewer when its memory
 * ends before; -EFAULT when not one byte could be moved. */
ssize_t memory_gather(pid_t pid, struct memory_iov *iov, void *buf, size_t len_bytes);
ssize_t memory_scatter(pid_t pid, struct memory_iov *iov, const void *buf, size_t len_bytes);
