/* SPDX-License-Identifier: Apache-2.0 */
/* /.danaus/init: the first program of every process tree in a container (the container's own, and
 * each exec's). Loads the service's seccomp filter beside the runtime's, hands its listener over,
 * puts the capability sets back that the config asked for, and becomes the program.
 *
 *   init BOUNDING:EFFECTIVE:INHERITABLE:PERMITTED:AMBIENT PROGRAM [ARGUMENT...]
 *
 * (hexadecimal masks). It has CAP_SYS_ADMIN and CAP_SETPCAP for as long as it runs. It links no
 * libc and reads nothing that the image or the program's environment could use against it, but for
 * PATH, which it looks the program up in once the rights are gone, and the bytes of the dynamic
 * loader, among which it looks for system calls (loader.h). One thread. */
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "danaus/proto/attach.h"
#include "danaus/proto/guest.h"
#include "danaus/proto/mount_table.h"
#include "hooks/loader.h"

#define MAX_INSNS	 4096 /* BPF_MAXINSNS */
#define LOADER_MAX_BYTES (1 << 20)
#define PATH_ROOM	 4096
#define DEFAULT_PATH	 "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define EXIT_NOT_FOUND	127 /* as the runtimes' */
#define EXIT_CANNOT_RUN 126

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* A raw system call: a negative errno on failure. None has six arguments; the sixth register
 * carries the cookie that the filter lets by, because until the service has the listener nobody
 * answers a notification. */
static long sys(long nr, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = (long)GATE_COOKIE;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = (long)GATE_COOKIE;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
#error "init knows x86_64 and aarch64"
#endif
}

#define SYS(nr, a, b, c, d, e) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

/* What the compiler may call on its own. */
void *memset(void *to, int byte, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n);

void *memset(void *to, int byte, size_t n)
{
	for (volatile char *p = to; n--; p++)
		*p = byte;
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	const char *f = from;

	for (volatile char *p = to; n--; p++)
		*p = *f++;
	return to;
}

static size_t length(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	return n;
}

/* One line on standard error, in one write. */
static void say(const char *a, const char *b, const char *c)
{
	const char *const parts[] = {"danaus init: ", a, b, c, "\n"};
	char line[512];
	size_t n = 0;

	for (int i = 0; i < 5; i++) {
		for (const char *p = parts[i]; *p && n < sizeof(line) - 1; p++)
			line[n++] = *p;
	}
	line[n - 1] = '\n';
	SYS(__NR_write, 2, line, n, 0, 0);
}

__attribute__((noreturn)) static void quit(int status)
{
	for (;;)
		SYS(__NR_exit_group, status, 0, 0, 0, 0);
}

static const char *error_name(long error)
{
	static const struct {
		int error;
		const char *text;
	} names[] = {
	    {EBUSY, "another agent listens to this container's system calls already"},
	    {EINVAL, "the kernel is older than 5.19"},
	    {EPERM, "not permitted"},
	    {EACCES, "not permitted"},
	    {ENOSYS, "the container's seccomp profile forbids it"},
	    {ENOENT, "not found"},
	    {ECONNREFUSED, "the service is gone"},
	    {ECONNRESET, "the service is gone"},
	    {EPIPE, "the service is gone"},
	    {EUSERS, "too many processes are attached"},
	    {ENOEXEC, "exec format error"},
	    {ENOMEM, "out of memory"},
	    {E2BIG, "argument list too long"},
	    {ELOOP, "too many symbolic links"},
	    {ENOTDIR, "not a directory"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (error == -names[i].error)
			return names[i].text;
	}
	return "error";
}

static int parse_masks(const char *text, uint64_t masks[5])
{
	for (int i = 0; i < 5; i++) {
		int digits = 0;

		masks[i] = 0;
		for (; *text && *text != ':'; text++, digits++) {
			char c = *text;
			int value = c >= '0' && c <= '9'   ? c - '0'
				    : c >= 'a' && c <= 'f' ? c - 'a' + 10
							   : -1;

			if (value < 0 || digits == 16)
				return -EINVAL;
			masks[i] = masks[i] << 4 | value;
		}
		if (!digits || *text != (i < 4 ? ':' : '\0'))
			return -EINVAL;
		text += i < 4;
	}
	return 0;
}

/* The part of the filter that lets the dynamic loader by; nothing where there is none. Its file is
 * the image's: a bounded number of bytes is looked at, whatever it is. */
static unsigned loader_by(struct sock_filter insns[LOADER_INSNS])
{
#ifdef LOADER_PATH
	static unsigned char code[LOADER_BEFORE + (64 << 10)];
	struct loader loader = {.nsites = 0};
	long fd = SYS(__NR_openat, AT_FDCWD, LOADER_PATH,
		      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0, 0);
	size_t before = 0; /* bytes at the start of code that are the last piece's end */
	long at = 0, n;

	if (fd < 0)
		return 0;
	while (at < LOADER_MAX_BYTES &&
	       (n = SYS(__NR_read, fd, code + before, sizeof(code) - before, 0, 0)) > 0) {
		size_t have = before + (size_t)n;

		loader_scan(&loader, code, have, (uint64_t)at - before);
		at += n;
		before = have < LOADER_BEFORE ? have : LOADER_BEFORE;
		for (size_t i = 0; i < before; i++)
			code[i] = code[have - before + i];
	}
	SYS(__NR_close, fd, 0, 0, 0, 0);
	return loader_filter(&loader, insns);
#else
	return 0;
#endif
}

/* Instructions read, or a negative errno. */
static long read_filter(struct sock_filter *insns, size_t room)
{
	long fd = SYS(__NR_openat, AT_FDCWD, GUEST_FILTER, O_RDONLY | O_CLOEXEC, 0, 0);
	size_t bytes = 0;
	long n;

	if (fd < 0)
		return fd;
	while (bytes < room * sizeof(*insns)) {
		n = SYS(__NR_read, fd, (char *)insns + bytes, room * sizeof(*insns) - bytes, 0, 0);
		if (n <= 0)
			break;
		bytes += n;
	}
	SYS(__NR_close, fd, 0, 0, 0, 0);
	return bytes && bytes % sizeof(*insns) == 0 ? (long)(bytes / sizeof(*insns)) : -EINVAL;
}

static long connect_service(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = GUEST_ATTACH};
	long sock = SYS(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0, 0);
	long r;

	if (sock < 0)
		return sock;
	r = SYS(__NR_connect, sock, &addr, sizeof(addr), 0, 0);
	if (r < 0)
		SYS(__NR_close, sock, 0, 0, 0, 0);
	return r < 0 ? r : sock;
}

/* Sends the listener; 0 once the service serves it. */
static long hand_over(long sock, int listener)
{
	struct attach_hello hello = {
	    .magic = ATTACH_MAGIC, .version = WIRE_VERSION, .kind = ATTACH_LISTENER};
	struct attach_welcome welcome;
	struct iovec iov = {&hello, sizeof(hello)};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS}};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	long r;

	memcpy(CMSG_DATA(&control.header), &listener, sizeof(listener));
	r = SYS(__NR_sendmsg, sock, &msg, MSG_NOSIGNAL, 0, 0);
	if (r < 0)
		return r;
	msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
	iov = (struct iovec){&welcome, sizeof(welcome)};
	r = SYS(__NR_recvmsg, sock, &msg, 0, 0, 0);
	if (r < 0)
		return r;
	return r == sizeof(welcome) ? welcome.error : -ECONNRESET;
}

static void start_notify_door(void)
{
	static struct sock_filter insns[MAX_INSNS];
	unsigned first = loader_by(insns);
	long n = read_filter(insns + first, MAX_INSNS - first), sock, listener, r;
	struct sock_fprog program = {.len = first + n, .filter = insns};

	if (n < 0) {
		say("no filter at " GUEST_FILTER ": ", error_name(n),
		    "; going on without the notify door");
		return;
	}
	/* Connected first: the filter may notify what this needs, and nobody would answer. */
	sock = connect_service();
	if (sock < 0) {
		say("cannot reach the service at " GUEST_ATTACH ": ", error_name(sock),
		    "; going on without the notify door");
		return;
	}
	listener = SYS(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			   SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		       &program, 0, 0);
	if (listener < 0) {
		say("cannot load the filter: ", error_name(listener),
		    "; going on without the notify door");
	} else {
		r = hand_over(sock, listener);
		SYS(__NR_close, listener, 0, 0, 0, 0);
		/* The filter stays: without its service every path call would fail. */
		if (r < 0) {
			say("the service does not take the listener: ", error_name(r), "");
			quit(EXIT_CANNOT_RUN);
		}
	}
	SYS(__NR_close, sock, 0, 0, 0, 0);
}

static long restore_caps(const uint64_t want[5])
{
	enum { BOUNDING, EFFECTIVE, INHERITABLE, PERMITTED, AMBIENT };
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	long r = SYS(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

	for (int cap = 0; !r && cap < 64; cap++) {
		long has = SYS(__NR_prctl, PR_CAPBSET_READ, cap, 0, 0, 0);

		if (has < 0)
			break; /* the kernel knows no more */
		if (has && !(want[BOUNDING] >> cap & 1))
			r = SYS(__NR_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
	if (!r)
		r = SYS(__NR_capget, &header, data, 0, 0, 0);
	/* What init's own exec left: a user other than root has the ambient ones only, and exec
	 * would have taken the others away in the program's place as well. */
	for (int i = 0; !r && i < 2; i++) {
		data[i].permitted &= want[PERMITTED] >> 32 * i;
		data[i].effective &= want[EFFECTIVE] >> 32 * i & data[i].permitted;
		data[i].inheritable &= want[INHERITABLE] >> 32 * i;
	}
	if (!r)
		r = SYS(__NR_capset, &header, data, 0, 0, 0);
	/* Runtimes, too, leave out what is not permitted and inheritable. */
	for (int cap = 0; !r && cap < 64; cap++) {
		if (want[AMBIENT] >> cap & data[cap / 32].permitted >> cap % 32 &
		    data[cap / 32].inheritable >> cap % 32 & 1)
			r = SYS(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	}
	return r;
}

static const char *find_path(char **envp)
{
	static const char name[] = "PATH=";

	for (; *envp; envp++) {
		size_t i = 0;

		while (name[i] && (*envp)[i] == name[i])
			i++;
		if (!name[i])
			return *envp + i;
	}
	return DEFAULT_PATH;
}

/* execvp(3), without the shell for what has no format. Returns the error that counts. */
static long exec_program(char **argv, char **envp)
{
	const char *path = find_path(envp);
	size_t name_len = length(argv[0]);
	long result = -ENOENT;

	for (const char *p = argv[0]; *p; p++) {
		if (*p == '/')
			return SYS(__NR_execve, argv[0], argv, envp, 0, 0);
	}
	if (!name_len)
		return -ENOENT;
	for (;;) {
		char file[PATH_ROOM];
		size_t n = 0;
		long r;

		while (path[n] && path[n] != ':')
			n++;
		if (n + name_len + 2 <= sizeof(file)) {
			memcpy(file, path, n);
			file[n] = '/';
			memcpy(file + n + !!n, argv[0], name_len + 1); /* "" is the cwd */
			r = SYS(__NR_execve, file, argv, envp, 0, 0);
			if (r == -EACCES)
				result = r;
			else if (r != -ENOENT && r != -ENOTDIR)
				return r;
		}
		if (!path[n])
			return result;
		path += n + 1;
	}
}

__attribute__((noreturn, used)) static void start(long *stack)
{
	long argc = stack[0], r;
	char **argv = (char **)(stack + 1), **envp = argv + argc + 1;
	uint64_t masks[5];

	if (argc < 3 || parse_masks(argv[1], masks) < 0) {
		say("this program is started by the container runtime only", "", "");
		quit(EXIT_CANNOT_RUN);
	}
	start_notify_door();
	r = restore_caps(masks);
	if (r < 0) {
		say("cannot give up its capabilities: ", error_name(r), "");
		quit(EXIT_CANNOT_RUN);
	}
	r = exec_program(argv + 2, envp);
	if (r == -ENOENT) {
		say("executable file `", argv[2],
		    "` not found in $PATH: No such file or directory");
		quit(EXIT_NOT_FOUND);
	}
	say("cannot run ", argv[2], r == -EACCES ? ": Permission denied" : "");
	if (r != -EACCES)
		say(argv[2], ": ", error_name(r));
	quit(EXIT_CANNOT_RUN);
}

#if defined(__x86_64__)
__asm__(
    ".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tb start\n");
#endif
