/* SPDX-License-Identifier: Apache-2.0 */
/* The search for the dynamic loader's calls, and the filter made from it as the kernel runs it:
 * code that makes a call is put at chosen offsets of a page. */
#include "hooks/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef LOADER_PATH
#define SITE(nr, offset) ((uint32_t)(nr) << 12 | (offset))

/* mov $nr, %eax; as many nops as between says; syscall; ret. Returns its size. */
static size_t put_call(unsigned char *at, int nr, size_t between)
{
	size_t n = 0;

	at[n++] = 0xb8;
	memcpy(at + n, &nr, 4);
	n += 4;
	memset(at + n, 0x90, between);
	n += between;
	at[n++] = 0x0f;
	at[n++] = 0x05;
	at[n++] = 0xc3;
	return n;
}

static void calls_on_paths_are_found(void **state)
{
	unsigned char code[256] = {0};
	struct loader loader = {0};

	put_call(code, SYS_openat, 0);
	put_call(code + 32, SYS_access, 16);
	put_call(code + 64, SYS_openat, 17); /* whose number was it? */
	put_call(code + 96, SYS_read, 0);
	put_call(code + 248, SYS_newfstatat, 0); /* cut off */
	loader_scan(&loader, code, sizeof(code) - 2, 0x20ff0);
	assert_int_equal(loader.nsites, 2);
	assert_int_equal(loader.site[0], SITE(SYS_openat, 0xff7));
	assert_int_equal(loader.site[1], SITE(SYS_access, 0x027));
}

static void a_call_in_two_pieces_is_found_once(void **state)
{
	for (size_t between = 0; between <= 16; between++) {
		for (size_t cut = 40; cut < 140; cut++) {
			unsigned char code[256] = {0};
			struct loader loader = {0};

			put_call(code + 64, SYS_openat, between);
			loader_scan(&loader, code, cut, 0x1000);
			loader_scan(&loader, code + cut - LOADER_BEFORE,
				    sizeof(code) - cut + LOADER_BEFORE,
				    0x1000 + cut - LOADER_BEFORE);
			assert_int_equal(loader.nsites, 1);
			assert_int_equal(loader.site[0], SITE(SYS_openat, 64 + 7 + between));
		}
	}
}

static void a_file_full_of_calls_makes_a_filter_of_bounded_size(void **state)
{
	static unsigned char code[64 << 10];
	struct sock_filter insns[LOADER_INSNS + 1];
	struct loader loader = {0};
	size_t n = 0;

	memset(insns, 0xff, sizeof(insns));
	while (n + 16 < sizeof(code))
		n += put_call(code + n, SYS_open, 0);
	loader_scan(&loader, code, sizeof(code), 0);
	assert_int_equal(loader.nsites, LOADER_SITES);
	assert_int_equal(loader_filter(&loader, insns), LOADER_INSNS);
	assert_int_equal(insns[LOADER_INSNS].code, 0xffff);
}

static void without_a_loader_there_is_no_filter(void **state)
{
	struct sock_filter insns[LOADER_INSNS];
	unsigned char code[64] = {0};
	struct loader loader = {0};

	loader_scan(&loader, code, sizeof(code), 0);
	loader_scan(&loader, code, 3, 0);
	loader_scan(&loader, code, 0, 0);
	assert_int_equal(loader_filter(&loader, insns), 0);
}

typedef long call_fn(const char *path, int mode);
typedef long call_at_fn(long dirfd, const char *path, void *buf_or_flags, long flags);

static long at(const unsigned char *code, long dirfd, const char *path)
{
	struct stat st;
	bool opens = code[1] == (SYS_openat & 0xff);

	return ((call_at_fn *)code)(dirfd, path, opens ? NULL : &st, opens ? 0 : AT_EMPTY_PATH);
}

/* In the child: a bit for each call that goes by a filter which refuses all calls on paths. */
static int under_the_filter(const struct loader *loader)
{
	struct sock_filter insns[LOADER_INSNS + 6];
	unsigned n = loader_filter(loader, insns);
	struct sock_fprog program = {.len = (unsigned short)(n + 6), .filter = insns};
	const struct sock_filter refuse[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_access, 2, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	unsigned char *page =
	    mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* not in the region of mappings */
	unsigned char *low = mmap((void *)0x550000000000, 4096, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	const long fds[] = {0, 8192, -1, (long)0xffffff9c00000000ul};
	int by = 0;

	if (page == MAP_FAILED || low == MAP_FAILED)
		return 128;
	put_call(page + 0x123, SYS_access, 0);
	put_call(page + 0x1123, SYS_access, 0);
	put_call(page + 0x124 + 0x20, SYS_access, 0);
	put_call(page + 0x300, SYS_openat, 0);
	put_call(page + 0x400, SYS_newfstatat, 0);
	put_call(low + 0x123, SYS_access, 0);
	if (mprotect(page, 8192, PROT_READ | PROT_EXEC) ||
	    mprotect(low, 4096, PROT_READ | PROT_EXEC))
		return 129;
	memcpy(insns + n, refuse, sizeof(refuse));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return 130;
	by |= ((call_fn *)(page + 0x123))("/", 0) == 0 ? 1 : 0;
	by |= ((call_fn *)(page + 0x1123))("/", 0) == 0 ? 2 : 0;
	by |= ((call_fn *)(page + 0x144))("/", 0) == -EXDEV ? 0 : 4;
	by |= ((call_fn *)(low + 0x123))("/", 0) == -EXDEV ? 0 : 8;
	/* only from the working directory: any other descriptor may be a Danaus one */
	by |= at(page + 0x300, AT_FDCWD, "/") >= 0 && at(page + 0x400, AT_FDCWD, "/") == 0 ? 32 : 0;
	by |= at(page + 0x300, (uint32_t)AT_FDCWD, "/") >= 0 ? 32 : 0;
	for (int i = 0; i < 4; i++)
		by |= at(page + 0x300, fds[i], ".") == -EXDEV &&
			      at(page + 0x400, fds[i], "") == -EXDEV
			  ? 0
			  : 64;
	by |= getppid() > 0 ? 16 : 0; /* what is no call on a path does not matter */
	return by;
}

static int in_a_child(const struct loader *loader)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(under_the_filter(loader));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void the_kernel_lets_by_what_is_at_a_known_offset(void **state)
{
	struct loader loader = {4,
				{SITE(SYS_openat, 0x144 + 7), SITE(SYS_access, 0x123 + 7),
				 SITE(SYS_openat, 0x300 + 7), SITE(SYS_newfstatat, 0x400 + 7)}};
	struct rlimit stack;

	if (getrlimit(RLIMIT_STACK, &stack) < 0 || stack.rlim_cur == RLIM_INFINITY)
		skip(); /* mappings are elsewhere */
	assert_int_equal(in_a_child(&loader), 1 | 2 | 16 | 32);
	loader.site[1] = SITE(SYS_openat, 0x123 + 7); /* another call there */
	assert_int_equal(in_a_child(&loader), 16 | 32);
}

static void this_machines_loader_has_some(void **state)
{
	static unsigned char code[1 << 20];
	struct loader loader = {0};
	bool opens = false;
	FILE *file = fopen(LOADER_PATH, "re");
	size_t n;

	if (!file)
		skip();
	n = fread(code, 1, sizeof(code), file);
	fclose(file);
	loader_scan(&loader, code, n, 0);
	for (unsigned i = 0; i < loader.nsites; i++)
		opens |= loader.site[i] >> 12 == SYS_openat || loader.site[i] >> 12 == SYS_open;
	assert_true(opens);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(calls_on_paths_are_found),
	    cmocka_unit_test(a_call_in_two_pieces_is_found_once),
	    cmocka_unit_test(a_file_full_of_calls_makes_a_filter_of_bounded_size),
	    cmocka_unit_test(without_a_loader_there_is_no_filter),
	    cmocka_unit_test(the_kernel_lets_by_what_is_at_a_known_offset),
	    cmocka_unit_test(this_machines_loader_has_some),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
	puts("no loader is known on this machine");
	return 77;
}
#endif
