/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor table against a service that only counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "preload/fdtab.h"
#include "preload/lease.h"
#include "preload/position.h"

#define BASE 200

struct root root = {.fd_base = BASE, .socket = -1, .anchor = -1, .notify = 1};
__thread struct thread thread;

static struct mount_table table = {.fd_base = BASE, .light_limit = BASE + 200};
static struct shm_slot slot;
static char payload[64];
static int closed, named, kernel;
static uint32_t last_closed;

int root_start(void)
{
	return ROOT_ON;
}

void root_forked(void)
{
}

void lock_take(uint64_t *ret_signals)
{
	*ret_signals = 0;
}

void lock_give(const uint64_t *signals)
{
}

void limit_raise(void)
{
}

void position_give(struct ofile *file)
{
}

static enum lease_parked park_as;

enum lease_parked lease_park(struct ofile *file)
{
	return park_as;
}

int channel_attach(void)
{
	return 0;
}

void request_init(struct wire_request *request, unsigned op)
{
	*request = (struct wire_request){.op = (uint16_t)op};
}

int call_begin(struct call *call, unsigned op)
{
	*call = (struct call){&slot, payload, 0};
	request_init(&slot.request, op);
	return 0;
}

int call_run(struct call *call)
{
	if (slot.request.op == WIRE_CLOSE) {
		closed++;
		last_closed = slot.request.handle;
	}
	return 0;
}

void call_end(struct call *call)
{
}

/* Any file will do for a name or a kernel file. */
int socket_request(struct wire_request *request, const char *path, int send_fd,
		   struct wire_reply *ret_reply, int *ret_fd)
{
	*(request->op == WIRE_NAME ? &named : &kernel) += 1;
	*ret_fd = (int)SYS4(openat, AT_FDCWD, "/dev/zero", O_RDONLY | O_CLOEXEC, 0);
	return *ret_fd < 0 ? *ret_fd : 0;
}

static bool is_open(int fd)
{
	return SYS(fcntl, fd, F_GETFD, 0) >= 0;
}

static int open_new(uint32_t handle, bool cloexec)
{
	return fd_install(ofile_new(handle, O_RDWR, S_IFREG | 0644), 0, cloexec);
}

static int close_one(int fd)
{
	int error = 0;

	assert_int_equal(fd_close(fd, &error), 1);
	return error;
}

static int setup(void **state)
{
	atomic_store(&root.table, &table);
	root.state = ROOT_ON;
	root.anchor = (int)SYS4(openat, AT_FDCWD, "/dev/null", O_PATH | O_CLOEXEC, 0);
	return fdtab_start();
}

static void a_closed_number_serves_again(void **state)
{
	int fd = open_new(7, false), again;

	closed = 0;
	assert_true(fd >= BASE);
	assert_true(fd_is_ours(fd));
	close_one(fd);
	assert_int_equal(closed, 1);
	assert_int_equal(last_closed, 7);
	assert_false(fd_is_ours(fd));
	assert_int_equal(fd_find(fd, &(struct ofile *){NULL}), -EBADF);
	again = open_new(8, false);
	assert_int_equal(again, fd);
	close_one(again);
}

/* Who looked at the number in passing still has a reference when the file is dropped: the place is
 * another one's only after that, and no handle is closed, which may be another file's. */
static void a_dropped_file_is_not_closed(void **state)
{
	struct ofile *file = ofile_new(10, O_RDONLY, S_IFREG | 0644);

	closed = 0;
	atomic_store(&file->lease, 1);
	park_as = LEASE_CLOSED;
	assert_int_equal(ofile_put(file), 0);
	assert_false(ofile_tryref(file));

	file = ofile_new(11, O_RDONLY, S_IFREG | 0644);
	ofile_ref(file);
	ofile_drop(file);
	park_as = LEASE_PARKED; /* by no means */
	assert_true(ofile_tryref(file));
	ofile_put(file);
	ofile_put(file);
	assert_false(ofile_tryref(file));
	assert_int_equal(closed, 0);
	park_as = LEASE_NOT_PARKED;
}

static void the_last_number_closes_the_file(void **state)
{
	struct ofile *file;
	int fd = open_new(9, false), other;

	closed = 0;
	assert_int_equal(fd_find(fd, &file), 1);
	other = fd_install(file, BASE + 50, true);
	assert_true(other >= BASE + 50);
	assert_int_equal(fd_cloexec(fd), 0);
	assert_int_equal(fd_cloexec(other), 1);
	close_one(fd);
	assert_int_equal(closed, 0);
	assert_true(fd_is_ours(other));
	close_one(other);
	assert_int_equal(closed, 1);
}

static void a_call_under_way_keeps_the_file(void **state)
{
	struct ofile *file;
	int fd = open_new(10, false);

	closed = 0;
	assert_int_equal(fd_find(fd, &file), 1);
	close_one(fd);
	assert_int_equal(closed, 0);
	ofile_put(file);
	assert_int_equal(closed, 1);
}

/* Two threads: one lets it go, the other one has just read where it was. */
static void a_file_that_is_gone_is_not_closed_again(void **state)
{
	struct ofile *file = ofile_new(21, O_RDONLY, S_IFDIR | 0755);

	closed = 0;
	assert_true(ofile_tryref(file));
	ofile_put(file);
	ofile_put(file);
	assert_int_equal(closed, 1);
	if (ofile_tryref(file))
		ofile_put(file);
	assert_int_equal(closed, 1);
}

static void our_own_numbers_are_known(void **state)
{
	int anchor = root.anchor;
	struct ofile *file;

	root.anchor = BASE - 3;
	assert_true(fd_is_guarded(BASE - 3));
	assert_false(fd_is_guarded(BASE - 4));
	assert_false(fd_is_guarded(root.socket));
	assert_false(fd_is_guarded(-1));
	/* a program that asks about every number does not see them */
	assert_int_equal(fd_find(BASE - 3, &file), -EBADF);
	assert_int_equal(fd_find(BASE - 4, &file), 0);
	assert_int_equal(fd_find(-1, &file), 0);
	root.anchor = anchor;
}

static void names_keep_number_and_flag(void **state)
{
	int fd = open_new(11, false), other = open_new(12, true);

	named = 0;
	fd_export_all(true);
	assert_int_equal(named, 1);
	assert_int_equal(SYS(fcntl, fd, F_GETFD, 0), 0);
	fd_export_all(false);
	assert_int_equal(named, 2);
	assert_int_equal(SYS(fcntl, other, F_GETFD, 0), FD_CLOEXEC);
	assert_int_equal(fd_cloexec(fd), -ENOENT);
	fd_export_all(false);
	assert_int_equal(named, 2);
	assert_true(fd_is_ours(fd));
	close_one(fd);
	assert_false(is_open(fd));
	close_one(other);
}

static void without_a_notify_door_files_become_the_kernels(void **state)
{
	int fd = open_new(13, false);

	root.notify = 0;
	closed = kernel = 0;
	fd_export_all(false);
	root.notify = 1;
	assert_int_equal(kernel, 1);
	assert_int_equal(closed, 1);
	assert_int_equal(fd_find(fd, &(struct ofile *){NULL}), 0);
	assert_int_equal(fd_close(fd, &(int){0}), 0);
	SYS(close, fd, 0, 0);
}

static void a_child_knows_no_handle(void **state)
{
	int fd = open_new(14, false), light = open_new(15, false);

	fd_export(fd);
	closed = 0;
	fdtab_forked();
	assert_int_equal(closed, 0);
	assert_true(is_open(fd));
	assert_false(is_open(light));
	SYS(close, fd, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_closed_number_serves_again),
	    cmocka_unit_test(a_dropped_file_is_not_closed),
	    cmocka_unit_test(the_last_number_closes_the_file),
	    cmocka_unit_test(a_call_under_way_keeps_the_file),
	    cmocka_unit_test(a_file_that_is_gone_is_not_closed_again),
	    cmocka_unit_test(our_own_numbers_are_known),
	    cmocka_unit_test(names_keep_number_and_flag),
	    cmocka_unit_test(without_a_notify_door_files_become_the_kernels),
	    cmocka_unit_test(a_child_knows_no_handle),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
