/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing. Called by the notify door's handlers, on their threads. */
#include "danaus/notify/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES   4096u /* the smallest page of any machine: transfers stop at page borders */
#define STRING_FIRST 256u

static ssize_t transfer(bool from, pid_t pid, void *buf, size_t len_bytes,
			const struct iovec *remote, unsigned n)
{
	struct iovec local = {buf, len_bytes};
	ssize_t r = from ? process_vm_readv(pid, &local, 1, remote, n, 0)
			 : process_vm_writev(pid, &local, 1, remote, n, 0);

	return r < 0 ? -errno : r;
}

static int whole(bool from, pid_t pid, uint64_t addr, void *buf, size_t len_bytes)
{
	struct iovec remote = {(void *)(uintptr_t)addr, len_bytes};
	ssize_t r;

	if (!len_bytes)
		return 0;
	r = transfer(from, pid, buf, len_bytes, &remote, 1);
	if (r < 0)
		return (int)r;
	return (size_t)r == len_bytes ? 0 : -EFAULT;
}

int memory_read(pid_t pid, uint64_t addr, void *buf, size_t len_bytes)
{
	return whole(true, pid, addr, buf, len_bytes);
}

int memory_write(pid_t pid, uint64_t addr, const void *buf, size_t len_bytes)
{
	return whole(false, pid, addr, (void *)buf, len_bytes);
}

ssize_t memory_string(pid_t pid, uint64_t addr, char *buf, size_t cap_bytes)
{
	size_t done = 0;

	while (done < cap_bytes) {
		size_t want = PAGE_BYTES - (addr + done) % PAGE_BYTES;
		struct iovec remote = {(void *)(uintptr_t)(addr + done), 0};
		char *end;
		ssize_t r;

		/* Paths are short: not a whole page for each. */
		if (!done && want > STRING_FIRST)
			want = STRING_FIRST;
		if (want > cap_bytes - done)
			want = cap_bytes - done;
		remote.iov_len = want;
		r = transfer(true, pid, buf + done, want, &remote, 1);
		if (r <= 0)
			return r ? r : -EFAULT;
		end = memchr(buf + done, '\0', (size_t)r);
		if (end)
			return end - buf;
		done += (size_t)r;
	}
	return -ENAMETOOLONG;
}

int memory_iov_read(pid_t pid, uint64_t addr, uint64_t count, struct memory_iov *iov)
{
	size_t total = 0;
	int r;

	if (count > MEMORY_IOV_MAX)
		return -EINVAL;
	r = memory_read(pid, addr, iov->iov, count * sizeof(struct iovec));
	if (r)
		return r;
	for (uint64_t i = 0; i < count; i++) {
		size_t len = iov->iov[i].iov_len;

		if (len > SSIZE_MAX || total > SSIZE_MAX - len)
			return -EINVAL;
		total += len;
	}
	iov->n = (unsigned)count;
	iov->total_bytes = total > MEMORY_TOTAL_MAX ? MEMORY_TOTAL_MAX : total;
	iov->at = 0;
	iov->at_bytes = 0;
	return 0;
}

void memory_iov_one(struct memory_iov *iov, uint64_t addr, uint64_t len_bytes)
{
	if (len_bytes > MEMORY_TOTAL_MAX)
		len_bytes = MEMORY_TOTAL_MAX;
	iov->iov[0] = (struct iovec){(void *)(uintptr_t)addr, len_bytes};
	iov->n = 1;
	iov->total_bytes = len_bytes;
	iov->at = 0;
	iov->at_bytes = 0;
}

static ssize_t move(bool from, pid_t pid, struct memory_iov *iov, char *buf, size_t len_bytes)
{
	size_t done = 0;

	while (done < len_bytes && iov->at < iov->n) {
		struct iovec remote[16];
		size_t batch = 0, offset = iov->at_bytes;
		unsigned n = 0;
		ssize_t r;

		for (unsigned i = iov->at; i < iov->n && n < 16 && done + batch < len_bytes; i++) {
			size_t len = iov->iov[i].iov_len - offset;

			if (len > len_bytes - done - batch)
				len = len_bytes - done - batch;
			remote[n++] = (struct iovec){(char *)iov->iov[i].iov_base + offset, len};
			batch += len;
			offset = 0;
		}
		r = batch ? transfer(from, pid, buf + done, batch, remote, n) : 0;
		if (r < 0)
			return done ? (ssize_t)done : r;
		done += (size_t)r;
		for (size_t left = (size_t)r; iov->at < iov->n;) {
			size_t len = iov->iov[iov->at].iov_len - iov->at_bytes;

			if (left < len) {
				iov->at_bytes += left;
				break;
			}
			left -= len;
			iov->at++;
			iov->at_bytes = 0;
		}
		if ((size_t)r < batch)
			return done ? (ssize_t)done : -EFAULT;
	}
	return (ssize_t)done;
}

ssize_t memory_gather(pid_t pid, struct memory_iov *iov, void *buf, size_t len_bytes)
{
	return move(true, pid, iov, buf, len_bytes);
}

ssize_t memory_scatter(pid_t pid, struct memory_iov *iov, const void *buf, size_t len_bytes)
{
	return move(false, pid, iov, (char *)buf, len_bytes);
}
