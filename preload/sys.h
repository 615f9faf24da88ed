/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel as the client library sees it: system calls, the types of its interface, and nothing
 * of any libc. Everything here returns a count or a negative errno. */
#pragma once

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <asm/poll.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/limits.h>
#include <linux/mman.h>
#include <asm/resource.h>
#include <linux/stat.h>
#include <asm/statfs.h>
#include <linux/uio.h>
#include <linux/xattr.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "danaus/proto/mount_table.h"
#include "preload/thread.h"

#ifndef AT_FDCWD
#define AT_FDCWD -100
#endif
#ifndef AT_SYMLINK_NOFOLLOW
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_EACCESS	    0x200
#define AT_REMOVEDIR	    0x200
#define AT_SYMLINK_FOLLOW   0x400
#define AT_EMPTY_PATH	    0x1000
#endif
#ifndef S_IFMT /* under glibc's headers (unit tests) linux/stat.h leaves them to it */
#define S_IFMT	   00170000
#define S_IFLNK	   0120000
#define S_IFREG	   0100000
#define S_IFDIR	   0040000
#define S_IFIFO	   0010000
#define S_ISDIR(m) (((m)&S_IFMT) == S_IFDIR)
#define S_ISREG(m) (((m)&S_IFMT) == S_IFREG)
#endif
#ifndef LOCK_SH
#define LOCK_SH 1
#define LOCK_EX 2
#define LOCK_NB 4
#define LOCK_UN 8
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

typedef long ssize_t;

/* unix(7), cmsg(3): the kernel's layout, which is every 64-bit libc's too */
struct msg_header {
	void *name;
	uint32_t name_bytes;
	struct iovec *iov;
	size_t niov;
	void *control;
	size_t control_bytes;
	int flags;
};
struct cmsg_header {
	size_t len;
	int level, type;
};
struct pollfd_ {
	int fd;
	short events, revents;
};
struct timespec_ {
	long sec, nsec;
};
struct sigaction_ {    /* rt_sigaction(2) */
	void *handler; /* 0 and 1: none */
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};
struct sigaltstack_ { /* sigaltstack(2) */
	void *base;
	int flags;
	size_t bytes;
};
#define SIGNALS	    64
#define SS_ONSTACK_ 1
#define SA_RESTART_ 0x10000000ul
struct rlimit_ {
	uint64_t soft, hard;
};

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long sys3(long n, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long sys4(long n, long a, long b, long c, long d)
{
	long ret;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline void cpu_relax(void)
{
	__builtin_ia32_pause();
}

static inline uint64_t cpu_clock(void)
{
	return __builtin_ia32_rdtsc();
}
#else
#error "port the system call stubs"
#endif

/* A path call that this library looked at and leaves to the kernel. A vfork child has only the
 * kernel, the notify door included. */
static inline long gate(long n, long a, long b, long c, long d, long e)
{
	return sys6(n, a, b, c, d, e, thread.vfork_child ? 0 : (long)GATE_COOKIE);
}

#define SYS(name, a, b, c)     sys3(__NR_##name, (long)(a), (long)(b), (long)(c))
#define SYS4(name, a, b, c, d) sys4(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d))
#define SYS6(name, a, b, c, d, e, f)                                                               \
	sys6(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define GATE(name, a, b, c, d, e)                                                                  \
	gate(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static inline bool failed(long r)
{
	return (unsigned long)r > -4096ul;
}

/* No program memory can be there: what the kernel would answer with EFAULT for. */
static inline bool bad_address(const void *p, size_t len_bytes)
{
	return (uintptr_t)p < 4096 || (uintptr_t)p >= 0x7ffffffff000ul ||
	       len_bytes > 0x7ffffffff000ul - (uintptr_t)p;
}

/* string.c */
void *memcpy(void *restrict to, const void *restrict from, size_t len_bytes);
void *memmove(void *to, const void *from, size_t len_bytes);
void *memset(void *to, int byte, size_t len_bytes);
int memcmp(const void *a, const void *b, size_t len_bytes);
size_t strlen(const char *s);
/* Copies at most cap_bytes with the NUL; the length without it, or cap_bytes when it is longer. */
size_t copy_string(char *to, const char *from, size_t cap_bytes);
bool same_string(const char *a, const char *b);
