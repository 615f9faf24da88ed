/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/pool/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The open files are fakes that count their references. */
struct vfile {
	int refs, flags;
	struct vfs_instance *instance;
};
struct vnode {
	int unused;
};

struct vfile *vfile_ref(struct vfile *file)
{
	file->refs++;
	return file;
}

void vfile_unref(struct vfile *file)
{
	if (file)
		file->refs--;
}

int vfile_flags(const struct vfile *file)
{
	return file->flags;
}

struct vnode *vfile_node(struct vfile *file)
{
	return (struct vnode *)file;
}

struct vfs_instance *vnode_instance(struct vnode *node)
{
	return ((struct vfile *)node)->instance;
}

void cred_assume_service(void)
{
}

static int setup(void **state)
{
	struct err err = {0};
	int r = anchors_new((struct anchors **)state, &err);

	if (r == -EPERM) {
		fprintf(stderr, "%s\n", err.text);
		exit(77);
	}
	return r;
}

static int teardown(void **state)
{
	anchors_free(*state);
	return 0;
}

static void an_anchor_names_its_file(void **state)
{
	struct vfile file = {.refs = 1}, *found;
	int fd, other = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct stat st;
	char byte;

	assert_int_equal(anchor_give(*state, &file, 0, &fd), 0);
	assert_int_equal(file.refs, 2);
	assert_int_equal(anchor_find(*state, fd, &found), 0);
	assert_ptr_equal(found, &file);
	vfile_unref(found);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_dev, anchors_dev(*state));
	assert_int_equal(anchor_find_ino(*state, st.st_ino, &found), 0);
	vfile_unref(found);
	/* neither read nor write works on it, whoever calls */
	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(anchor_find(*state, other, &found), -EBADF);
	close(other);
	anchor_give_done(*state, fd);
	anchors_closed(*state);
	assert_int_equal(file.refs, 1);
	assert_int_equal(anchor_find_ino(*state, st.st_ino, &found), -EBADF);
}

static void the_last_close_in_any_process_gives_the_file_back(void **state)
{
	struct vfile file = {.refs = 1};
	int fd, copy, ends[2], status;
	struct pollfd wait = {.fd = anchors_event_fd(*state), .events = POLLIN};
	pid_t child;
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(anchor_give(*state, &file, 0, &fd), 0);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	child = fork();
	if (child == 0) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	anchor_give_done(*state, fd);
	close(copy);
	anchors_closed(*state);
	assert_int_equal(file.refs, 2);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(poll(&wait, 1, 10000), 1);
	anchors_closed(*state);
	assert_int_equal(file.refs, 1);
}

static void status_flags_are_on_the_descriptor(void **state)
{
	struct vfile file = {.refs = 1, .flags = O_RDWR | O_APPEND | O_NONBLOCK};
	int fd;

	assert_int_equal(anchor_give(*state, &file, 0, &fd), 0);
	assert_int_equal(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK), O_APPEND | O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	anchor_give_done(*state, fd);
}

static void what_is_in_stock_is_like_what_is_made(void **state)
{
	enum { N = 40 };
	struct vfile file = {.refs = 1}, appended = {.refs = 1, .flags = O_APPEND}, *found;
	int fd[N], flagged;

	struct pollfd closes = {.fd = anchors_event_fd(*state), .events = POLLIN};

	anchors_stock(*state);
	anchors_closed(*state);
	anchors_stock(*state); /* it is full: nothing happens */
	assert_int_equal(poll(&closes, 1, 0), 0);
	assert_int_equal(anchor_give(*state, &appended, 0, &flagged), 0);
	assert_int_equal(fcntl(flagged, F_GETFL) & O_APPEND, O_APPEND);
	for (int i = 0; i < N; i++) {
		char byte;

		assert_int_equal(anchor_give(*state, &file, 0, &fd[i]), 0);
		assert_int_equal(fcntl(fd[i], F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(fd[i], F_GETFL) & O_APPEND, 0);
		assert_int_equal(read(fd[i], &byte, 1), -1);
	}
	assert_int_equal(file.refs, 1 + N);
	assert_int_equal(anchor_find(*state, fd[0], &found), 0);
	assert_ptr_equal(found, &file);
	vfile_unref(found);
	for (int i = 0; i < N; i++)
		anchor_give_done(*state, fd[i]);
	anchor_give_done(*state, flagged);
	anchors_closed(*state);
	assert_int_equal(file.refs, 1);
	assert_int_equal(appended.refs, 1);
	anchors_stock(*state);
}

static void many_anchors_at_once(void **state)
{
	enum { N = 3000 };
	struct vfile file = {.refs = 1}, other = {.refs = 1, .instance = (void *)&file};
	int *fd = calloc(N, sizeof(int));

	for (int i = 0; i < N; i++)
		assert_int_equal(anchor_give(*state, i % 2 ? &file : &other, 0, &fd[i]), 0);
	assert_int_equal(file.refs, 1 + N / 2);
	anchors_drop_instance(*state, (void *)&file);
	assert_int_equal(other.refs, 1);
	for (int i = 0; i < N; i++)
		anchor_give_done(*state, fd[i]);
	anchors_closed(*state);
	assert_int_equal(file.refs, 1);
	assert_int_equal(other.refs, 1);
	free(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(an_anchor_names_its_file, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_last_close_in_any_process_gives_the_file_back,
					    setup, teardown),
	    cmocka_unit_test_setup_teardown(status_flags_are_on_the_descriptor, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_in_stock_is_like_what_is_made, setup, teardown),
	    cmocka_unit_test_setup_teardown(many_anchors_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
