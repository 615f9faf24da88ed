/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/notify/memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096

/* Two pages, and nothing behind them. */
static char *pages(void)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(munmap(p + 2 * PAGE, PAGE), 0);
	return p;
}

static uint64_t addr(const void *p)
{
	return (uintptr_t)p;
}

static void strings_end_at_their_nul(void **state)
{
	char *p = pages(), buf[PAGE];

	strcpy(p + 2 * PAGE - 4, "abc");
	assert_int_equal(memory_string(getpid(), addr(p + 2 * PAGE - 4), buf, sizeof(buf)), 3);
	assert_string_equal(buf, "abc");
	memset(p + PAGE - 300, 'x', 600);
	p[PAGE + 300] = '\0';
	assert_int_equal(memory_string(getpid(), addr(p + PAGE - 300), buf, sizeof(buf)), 600);
	memset(p, 'y', 2 * PAGE);
	assert_int_equal(memory_string(getpid(), addr(p), buf, sizeof(buf)), -ENAMETOOLONG);
	assert_int_equal(memory_string(getpid(), addr(p + 2 * PAGE - 4), buf, sizeof(buf)),
			 -EFAULT);
	assert_int_equal(memory_string(getpid(), 0, buf, sizeof(buf)), -EFAULT);
	munmap(p, 2 * PAGE);
}

static void vectors_move_in_steps(void **state)
{
	char *p = pages(), buf[64];
	struct iovec vector[] = {{p, 3}, {p + 10, 0}, {p + 20, 5}, {p + 2 * PAGE - 2, 10}}, room[8];
	struct memory_iov iov = {.iov = room};

	assert_int_equal(memory_iov_read(getpid(), addr(vector), 4, &iov), 0);
	assert_int_equal(iov.total_bytes, 18);
	assert_int_equal(memory_scatter(getpid(), &iov, "abcd", 4), 4);
	assert_int_equal(memory_scatter(getpid(), &iov, "efgh", 4), 4);
	assert_memory_equal(p, "abc", 3);
	assert_memory_equal(p + 20, "defgh", 5);
	/* The memory ends in the last one. */
	assert_int_equal(memory_scatter(getpid(), &iov, "0123456789", 10), 2);
	assert_memory_equal(p + 2 * PAGE - 2, "01", 2);
	assert_int_equal(memory_scatter(getpid(), &iov, "23456789", 8), -EFAULT);

	assert_int_equal(memory_iov_read(getpid(), addr(vector), 3, &iov), 0);
	assert_int_equal(memory_gather(getpid(), &iov, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "abcdefgh", 8);
	munmap(p, 2 * PAGE);
}

static void vectors_are_bounded(void **state)
{
	struct iovec vector[2] = {{NULL, SIZE_MAX / 2}, {NULL, 1}}, room[MEMORY_IOV_MAX];
	struct memory_iov iov = {.iov = room};

	assert_int_equal(memory_iov_read(getpid(), addr(vector), MEMORY_IOV_MAX + 1, &iov),
			 -EINVAL);
	assert_int_equal(memory_iov_read(getpid(), addr(vector), 2, &iov), -EINVAL);
	assert_int_equal(memory_iov_read(getpid(), 8, 2, &iov), -EFAULT);
	vector[0].iov_len = 0xffffffff;
	assert_int_equal(memory_iov_read(getpid(), addr(vector), 2, &iov), 0);
	assert_int_equal(iov.total_bytes, MEMORY_TOTAL_MAX);
}

static void a_process_that_is_gone_is_said_so(void **state)
{
	pid_t pid = fork();
	char buf[8];

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(memory_read(pid, addr(buf), buf, 8), -ESRCH);
	assert_int_equal(memory_write(pid, addr(buf), buf, 8), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(strings_end_at_their_nul),
	    cmocka_unit_test(vectors_move_in_steps),
	    cmocka_unit_test(vectors_are_bounded),
	    cmocka_unit_test(a_process_that_is_gone_is_said_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
