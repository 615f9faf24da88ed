/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/shm/handles.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct vfile {
	int refs;
	struct vnode *node;
};

struct vnode *vfile_node(struct vfile *file)
{
	return file->node;
}

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

static void a_handle_is_good_until_taken(void **state)
{
	struct handles handles;
	struct vnode *node = (struct vnode *)&handles;
	struct vfile file = {.refs = 1, .node = node}, *got;
	uint32_t handle, other;

	handles_init(&handles);
	assert_int_equal(handles_get(&handles, 1, &got), -EBADF);
	assert_false(handles_has(&handles, 1, NULL));
	assert_int_equal(handles_add(&handles, &file, &handle), 0);
	assert_int_not_equal(handle, 0);
	assert_int_equal(handles_get(&handles, handle, &got), 0);
	assert_ptr_equal(got, &file);
	assert_int_equal(file.refs, 2);
	vfile_unref(got);
	assert_true(handles_has(&handles, handle, NULL));
	assert_true(handles_has(&handles, handle, node));
	assert_false(handles_has(&handles, handle, (struct vnode *)&file));
	assert_false(handles_has(&handles, 0, NULL));
	assert_int_equal(handles_take(&handles, handle, &got), 0);
	assert_false(handles_has(&handles, handle, NULL));
	assert_int_equal(file.refs, 1);
	assert_int_equal(handles_take(&handles, handle, &got), -EBADF);
	assert_int_equal(handles_get(&handles, handle, &got), -EBADF);
	assert_int_equal(handles_add(&handles, &file, &other), 0);
	assert_int_equal(other, handle);
	handles_done(&handles);
	assert_int_equal(file.refs, 0);
}

static void wild_numbers_are_bad(void **state)
{
	static const uint32_t wild[] = {0, 2, 31, 32, 65535, 65536, 0x7fffffff, UINT32_MAX};
	struct handles handles;
	struct vfile file = {.refs = 1}, *got;
	uint32_t handle;

	handles_init(&handles);
	assert_int_equal(handles_add(&handles, &file, &handle), 0);
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		assert_int_equal(handles_get(&handles, wild[i], &got), -EBADF);
		assert_int_equal(handles_take(&handles, wild[i], &got), -EBADF);
	}
	handles_done(&handles);
}

static void a_client_has_a_limit(void **state)
{
	struct vfile file = {.refs = HANDLES_MAX};
	struct handles handles;
	uint32_t handle;

	handles_init(&handles);
	for (uint32_t i = 1; i < HANDLES_MAX; i++)
		assert_int_equal(handles_add(&handles, &file, &handle), 0);
	assert_int_equal(handles_add(&handles, &file, &handle), -EMFILE);
	handles_done(&handles);
	assert_int_equal(file.refs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_handle_is_good_until_taken),
	    cmocka_unit_test(wild_numbers_are_bad),
	    cmocka_unit_test(a_client_has_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
