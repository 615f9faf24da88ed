/* SPDX-License-Identifier: Apache-2.0 */
/* The filter as instructions, run by hand over every system call number, and as the kernel runs it:
 * a notified call of a filter without a listener fails with ENOSYS (seccomp(2)). */
#include "danaus/notify/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/proto/mount_table.h"

#define BASE   1000
#define ALLOW  SECCOMP_RET_ALLOW
#define NOTIFY SECCOMP_RET_USER_NOTIF

static struct sock_filter *code;
static size_t count;

static int build(void **state)
{
	struct err err = {{0}};
	size_t bytes;

	if (filter_build(BASE, (void **)&code, &bytes, &err))
		return -1;
	count = bytes / sizeof(*code);
	return 0;
}

static int drop(void **state)
{
	free(code);
	return 0;
}

/* The instructions that filter.c uses; anything else fails. */
static uint32_t run(const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < count; pc++) {
		const struct sock_filter *i = &code[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k + 4 <= sizeof(*data));
			memcpy(&a, (const char *)data + i->k, 4);
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("instruction %zu: code %x", pc, i->code);
		}
	}
	fail_msg("ran out of the program");
	return 0;
}

static uint32_t ask(int nr, const uint64_t args[6])
{
	struct seccomp_data data = {.nr = nr, .arch = AUDIT_ARCH_X86_64};

	memcpy(data.args, args, sizeof(data.args));
	return run(&data);
}

#define ASK(nr, ...) ask(nr, (const uint64_t[6]){__VA_ARGS__})

static void path_calls_notify_unless_the_cookie_is_there(void **state)
{
	static const int calls[] = {SYS_open,	 SYS_openat, SYS_stat,	 SYS_rename, SYS_unlinkat,
				    SYS_symlink, SYS_chmod,  SYS_statfs, SYS_statx,  SYS_sendmsg};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		assert_int_equal(ASK(calls[i], 0), NOTIFY);
		assert_int_equal(ASK(calls[i], 0, 0, 0, 0, 0, GATE_COOKIE), ALLOW);
		assert_int_equal(ASK(calls[i], 0, 0, 0, 0, 0, GATE_COOKIE ^ 1), NOTIFY);
		assert_int_equal(ASK(calls[i], 0, 0, 0, 0, 0, GATE_COOKIE ^ 1ull << 63), NOTIFY);
		assert_int_equal(ASK(calls[i], 0, 0, 0, 0, 0, (uint32_t)GATE_COOKIE), NOTIFY);
	}
}

static void descriptor_calls_notify_from_the_base_on(void **state)
{
	static const struct {
		uint64_t fd;
		uint32_t answer;
	} rows[] = {
	    {0, ALLOW},
	    {BASE - 1, ALLOW},
	    {BASE, NOTIFY},
	    {BASE + 1, NOTIFY},
	    {INT32_MAX, NOTIFY},
	    {(uint32_t)-1, ALLOW},
	    {(uint64_t)-1, ALLOW},
	    {(uint32_t)AT_FDCWD, ALLOW},
	    {0xdead00000000ull | BASE, NOTIFY}, /* the upper half is no part of an int */
	    {0xdead00000000ull | 3, ALLOW},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t fd = rows[i].fd;
		uint32_t answer = rows[i].answer;

		assert_int_equal(ASK(SYS_read, fd), answer);
		assert_int_equal(ASK(SYS_pwrite64, fd), answer);
		assert_int_equal(ASK(SYS_fcntl, fd), answer);
		assert_int_equal(ASK(SYS_mmap, 0, 0, 0, 0, fd), answer);
		assert_int_equal(ASK(SYS_dup2, fd, 1), answer);
		assert_int_equal(ASK(SYS_dup2, 1, fd), answer);
		assert_int_equal(ASK(SYS_copy_file_range, 1, 0, fd), answer);
		assert_int_equal(ASK(SYS_copy_file_range, fd, 0, 1), answer);
		assert_int_equal(ASK(SYS_sendfile, fd, 1), answer);
		assert_int_equal(ASK(SYS_sendfile, 1, fd), answer);
	}
}

static void an_fstat_of_a_kernel_descriptor_is_let_by_in_each_of_its_forms(void **state)
{
	const uint64_t empty = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, high = 0xdead00000000ull;

	for (uint64_t fd = 0; fd < BASE; fd += BASE - 1) {
		assert_int_equal(ASK(SYS_fstat, fd), ALLOW);
		assert_int_equal(ASK(SYS_newfstatat, fd, 0, 0, empty), ALLOW);
		assert_int_equal(ASK(SYS_newfstatat, high | fd, 0, 0, high | empty), ALLOW);
		assert_int_equal(ASK(SYS_newfstatat, fd, 0, empty, 0), NOTIFY);
		assert_int_equal(ASK(SYS_statx, fd, 0, empty), ALLOW);
		assert_int_equal(ASK(SYS_statx, fd, 0, 0, empty), NOTIFY);
	}
	assert_int_equal(ASK(SYS_newfstatat, BASE, 0, 0, empty), NOTIFY);
	assert_int_equal(ASK(SYS_newfstatat, AT_FDCWD, 0, 0, empty), NOTIFY);
	assert_int_equal(ASK(SYS_newfstatat, (uint32_t)AT_FDCWD, 0, 0, empty), NOTIFY);
	assert_int_equal(ASK(SYS_newfstatat, AT_FDCWD, 0, 0, empty, 0, GATE_COOKIE), ALLOW);
	assert_int_equal(ASK(SYS_statx, BASE, 0, empty), NOTIFY);
	assert_int_equal(ASK(SYS_statx, AT_FDCWD, 0, empty), NOTIFY);
}

static void calls_that_must_not_sleep_are_never_notified(void **state)
{
	static const int calls[] = {SYS_close, SYS_close_range,	 SYS_fork,	     SYS_vfork,
				    SYS_clone, SYS_clone3,	 SYS_exit,	     SYS_exit_group,
				    SYS_futex, SYS_rt_sigreturn, SYS_io_uring_enter, SYS_seccomp};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_int_equal(ASK(calls[i], BASE, BASE, BASE, BASE, BASE), ALLOW);
	/* Every number has an answer. */
	for (int nr = 0; nr < 1024; nr++) {
		uint32_t r = ASK(nr, BASE, BASE, BASE, BASE, BASE);

		assert_true(r == ALLOW || r == NOTIFY);
		assert_int_equal(ASK(nr | 0x40000000, BASE), ALLOW); /* x32 */
	}
}

static void changes_of_the_caller_are_notified(void **state)
{
	static const int calls[] = {SYS_setuid, SYS_setgroups, SYS_capset,
				    SYS_execve, SYS_chdir,     SYS_chroot,
				    SYS_umask,	SYS_unshare,   SYS_io_uring_setup};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_int_equal(ASK(calls[i], 0, 0, 0, 0, 0, GATE_COOKIE), NOTIFY);
	assert_int_equal(ASK(SYS_prlimit64, 0, RLIMIT_FSIZE), NOTIFY);
	assert_int_equal(ASK(SYS_prlimit64, 0, RLIMIT_NOFILE), ALLOW);
	assert_int_equal(ASK(SYS_setrlimit, RLIMIT_FSIZE), NOTIFY);
}

static void another_machine_is_left_alone(void **state)
{
	struct seccomp_data data = {.nr = SYS_openat, .arch = AUDIT_ARCH_I386};

	assert_int_equal(run(&data), ALLOW);
}

static void a_base_among_the_standard_descriptors_is_refused(void **state)
{
	struct err err = {{0}};
	void *out;
	size_t bytes;

	assert_int_equal(filter_build(2, &out, &bytes, &err), -EINVAL);
	assert_true(err.text[0]);
}

/* In the child: 0 when everything is as expected, else the number of the check. */
static int under_the_filter(void)
{
	struct sock_fprog program = {.len = (unsigned short)count, .filter = code};
	long cookie = (long)GATE_COOKIE;
	char c;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return 1;
	if (syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY, 0, 0, 0) != -1 || errno != ENOSYS)
		return 2;
	if (syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY, 0, 0, cookie) < 0)
		return 3;
	if (syscall(SYS_read, BASE, &c, 1) != -1 || errno != ENOSYS)
		return 4;
	if (syscall(SYS_read, BASE - 1, &c, 1) != -1 || errno != EBADF)
		return 5;
	if (syscall(SYS_read, -1, &c, 1) != -1 || errno != EBADF)
		return 6;
	if (syscall(SYS_close, BASE) != -1 || errno != EBADF)
		return 7;
	return 0;
}

static void the_kernel_takes_it(void **state)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(under_the_filter());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(path_calls_notify_unless_the_cookie_is_there),
	    cmocka_unit_test(descriptor_calls_notify_from_the_base_on),
	    cmocka_unit_test(an_fstat_of_a_kernel_descriptor_is_let_by_in_each_of_its_forms),
	    cmocka_unit_test(calls_that_must_not_sleep_are_never_notified),
	    cmocka_unit_test(changes_of_the_caller_are_notified),
	    cmocka_unit_test(another_machine_is_left_alone),
	    cmocka_unit_test(a_base_among_the_standard_descriptors_is_refused),
	    cmocka_unit_test(the_kernel_takes_it),
	};

	return cmocka_run_group_tests(tests, build, drop);
}
