/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the kernel reads and maps beside the service, and those that it must not. */
#include "danaus/fuse/face_impl.h"
#include "danaus/vfs/node.h"
#include "tests/lib/face_world.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define PAGE 4096
#define SIZE (64u * PAGE)

static struct vtarget named(const char *name)
{
	return (struct vtarget){.dir = vfs_instance_root(w.volume->instance), .path = name};
}

static struct vfile *open_vfs(const char *name, int flags)
{
	struct vtarget at = named(name);
	struct vfile *file;

	assert_int_equal(vfs_open(&w.ctx, &at, flags, 0644, &file, NULL), 0);
	return file;
}

static void vwrite(struct vfile *file, const char *text, uint64_t offset)
{
	struct iovec iov = {(char *)text, strlen(text)};

	assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, offset, false), strlen(text));
}

static void assert_vfs_has(struct vfile *file, uint64_t offset, const char *text)
{
	char buf[64] = "";
	struct iovec iov = {buf, strlen(text)};

	assert_int_equal(vfs_read(&w.ctx, file, &iov, 1, offset), strlen(text));
	assert_string_equal(buf, text);
}

static struct attr attr_vfs(const char *name)
{
	struct vtarget at = named(name);
	struct attr attr;

	assert_int_equal(vfs_stat(&w.ctx, &at, &attr), 0);
	return attr;
}

/* A file of SIZE, open at the vfs. */
static struct vfile *make_file(const char *name)
{
	static char content[SIZE];
	struct iovec iov = {memset(content, 'x', SIZE), SIZE};
	struct vfile *file = open_vfs(name, O_RDWR | O_CREAT | O_TRUNC);

	assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, 0, false), SIZE);
	return file;
}

static char *map(int fd, int prot, int flags)
{
	char *p = mmap(NULL, SIZE, prot, flags, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static bool is_beside(const char *name)
{
	struct face_mount *face = w.volume->face;
	struct vtarget at = named(name);
	struct vnode *vnode;
	struct attr attr;
	struct face_node *node;
	bool beside;

	assert_int_equal(vfs_lookup(&w.ctx, &at, &vnode, &attr), 0);
	pthread_mutex_lock(&face->nodes.lock);
	node = face_node_at(&face->nodes, face_node_find_locked(&face->nodes, vnode));
	beside = node && node->backing;
	assert_int_equal(beside, atomic_load(&vnode->face_beside));
	pthread_mutex_unlock(&face->nodes.lock);
	vnode_unref(vnode);
	return beside;
}

static json_int_t reads_of_the_face(void)
{
	json_t *all = stats_json();
	json_t *read = json_object_get(json_object_get(all, "fuse"), "read");
	json_int_t n = json_integer_value(json_object_get(read, "count"));

	json_decref(all);
	return n;
}

static void pages_cost_no_request(void **state)
{
	struct vfile *file = make_file("pages");
	json_int_t before = reads_of_the_face();
	char buf[PAGE];

	for (int i = 0; i < 2; i++) {
		int fd = openat(w.face, "pages", O_RDONLY);
		char *p = map(fd, PROT_READ, i ? MAP_SHARED : MAP_PRIVATE);

		for (size_t at = 0; at < SIZE; at += PAGE)
			assert_int_equal(p[at], 'x');
		assert_int_equal(pread(fd, buf, PAGE, 0), PAGE);
		munmap(p, SIZE);
		close(fd);
	}
	assert_true(is_beside("pages"));
	assert_int_equal(reads_of_the_face(), before);
	vfile_unref(file);
}

static void reads_are_never_old(void **state)
{
	struct vfile *file = make_file("fresh");
	int fd = openat(w.face, "fresh", O_RDONLY);
	char *shared = map(fd, PROT_READ, MAP_SHARED), *private = map(fd, PROT_READ, MAP_PRIVATE);
	char text[16], buf[16] = "";

	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "write%05d", i);
		vwrite(file, text, PAGE - 5);
		assert_int_equal(pread(fd, buf, 10, PAGE - 5), 10);
		assert_string_equal(buf, text);
		assert_memory_equal(shared + PAGE - 5, text, 10);
		assert_memory_equal(private + PAGE - 5, text, 10);
	}
	munmap(shared, SIZE);
	munmap(private, SIZE);
	close(fd);
	vfile_unref(file);
}

/* Asks the kernel to forget what it does not use. */
static void prune(void)
{
	struct face_mount *face = w.volume->face;

	face->nodes_limit = 1;
	for (int i = 0; i < 3; i++) {
		face_trim(face);
		pthread_mutex_lock(&face->lock);
		while (face->trimming)
			pthread_cond_wait(&face->ended, &face->lock);
		pthread_mutex_unlock(&face->lock);
	}
	face->nodes_limit = FACE_NODES_LIMIT;
}

/* The mapping does not keep the open file: what is opened and mapped later is the same pages. */
static void a_mapping_without_its_descriptor_sees_later_ones(void **state)
{
	struct vfile *file = make_file("later");
	int fd = openat(w.face, "later", O_RDONLY);
	char *old = map(fd, PROT_READ, MAP_SHARED), *p;

	close(fd);
	prune();
	vwrite(file, "vfs", 0);
	assert_memory_equal(old, "vfs", 3);
	fd = openat(w.face, "later", O_RDWR);
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p, "map", 3);
	assert_memory_equal(old, "map", 3);
	assert_vfs_has(file, 0, "map");
	assert_int_equal(pwrite(fd, "fuse", 4, PAGE), 4);
	assert_memory_equal(old + PAGE, "fuse", 4);
	assert_memory_equal(p + PAGE, "fuse", 4);
	assert_vfs_has(file, PAGE, "fuse");
	vwrite(file, "again", 0);
	assert_memory_equal(p, "again", 5);
	close(fd);
	memcpy(p, "after", 5);
	assert_vfs_has(file, 0, "after");
	assert_memory_equal(old, "after", 5);
	assert_true(is_beside("later"));
	munmap(p, SIZE);
	munmap(old, SIZE);
	vfile_unref(file);
}

/* Windows are copies: none while there may be a writable mapping. */
static void a_window_shows_no_old_bytes(void **state)
{
	struct vfile *file, *reader;
	uint64_t bytes;
	int fd, window;
	char *p;

	vfs_set_window_budget(w.pool.vfs, 16 << 20);
	file = make_file("window");
	reader = open_vfs("window", O_RDONLY);
	if (vfs_window(&w.ctx, reader, &window, &bytes) == 0)
		close(window);
	for (int i = 0; i < 8; i++)
		assert_vfs_has(reader, 0, "xxx");
	close(openat(w.face, "window", O_RDONLY));
	fd = openat(w.face, "window", O_RDWR);
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	close(fd);
	for (int i = 0; i < 100; i++) {
		char text[16];

		snprintf(text, sizeof(text), "map%05d", i);
		memcpy(p, text, 8);
		assert_int_equal(atomic_load(&vfile_node(file)->face_writers), 1);
		assert_vfs_has(reader, 0, text);
	}
	munmap(p, SIZE);
	vfile_unref(reader);
	vfile_unref(file);
	vfs_set_window_budget(w.pool.vfs, 0);
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void times_are_true(void **state)
{
	const struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	struct vfile *file = make_file("times");
	char buf[8], *p;
	int fd;

	assert_int_equal(utimensat(w.face, "times", past, 0), 0);
	assert_int_equal(attr_vfs("times").atime.tv_sec, 1000);
	fd = openat(w.face, "times", O_RDONLY);
	assert_int_equal(attr_vfs("times").atime.tv_sec, 1000);
	assert_int_equal(read(fd, buf, 8), 8);
	assert_true(is_beside("times"));
	assert_true(attr_vfs("times").atime.tv_sec > 2000);
	close(fd);

	assert_int_equal(utimensat(w.face, "times", past, 0), 0);
	fd = openat(w.face, "times", O_RDWR);
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	close(fd);
	assert_int_equal(attr_vfs("times").mtime.tv_sec, 2000);
	memcpy(p, "now", 3);
	assert_true(later(attr_vfs("times").mtime, past[1]));
	munmap(p, SIZE);
	vfile_unref(file);
}

/* While an open file or its mapping asks the service for pages, so do all. */
static void a_writer_that_comes_first_decides(void **state)
{
	struct vfile *file = make_file("first");
	int wr = openat(w.face, "first", O_RDWR), rd;
	char *p = map(wr, PROT_READ | PROT_WRITE, MAP_SHARED), *q;

	close(wr);
	rd = openat(w.face, "first", O_RDONLY);
	assert_false(is_beside("first"));
	q = map(rd, PROT_READ, MAP_SHARED);
	close(rd);
	memcpy(p, "one", 3);
	assert_memory_equal(q, "one", 3);
	assert_vfs_has(file, 0, "one");
	munmap(p, SIZE);
	vwrite(file, "two", 0);
	assert_memory_equal(q, "two", 3);
	munmap(q, SIZE);
	do { /* the kernel gives files back in its own time */
		rd = openat(w.face, "first", O_RDONLY);
		close(rd);
	} while (!is_beside("first"));
	vfile_unref(file);
}

static void a_cut_file_is_cut(void **state)
{
	struct vfile *file = make_file("cut");
	int fd = openat(w.face, "cut", O_RDONLY);
	struct setattr set = {.set = ATTR_SIZE, .attr = {.size = 3}};
	struct vtarget at = named("cut");
	struct attr attr;
	struct stat st;
	char *p = map(fd, PROT_READ, MAP_SHARED), buf[8];

	assert_int_equal(p[3], 'x');
	assert_int_equal(vfs_setattr(&w.ctx, &at, &set, &attr), 0);
	assert_int_equal(p[3], 0);
	assert_int_equal(pread(fd, buf, 8, 0), 3);
	vwrite(file, "end", SIZE - 3);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_memory_equal(p + SIZE - 3, "end", 3);
	munmap(p, SIZE);
	close(fd);
	vfile_unref(file);
}

static void the_kernel_forgets_what_was_removed(void **state)
{
	struct vfile *file = make_file("removed");
	struct vtarget at = named("removed");
	int fd = openat(w.face, "removed", O_RDONLY);
	char *p = map(fd, PROT_READ, MAP_PRIVATE);
	struct statvfs before, now;
	char back[128];

	path_of(back, sizeof(back), "back", NULL);
	close(fd);
	assert_true(is_beside("removed"));
	vfile_unref(file);
	assert_int_equal(statvfs(back, &before), 0);
	assert_int_equal(vfs_unlink(&w.ctx, &at, false), 0);
	assert_int_equal(p[SIZE - 1], 'x');
	munmap(p, SIZE);
	do
		assert_int_equal(statvfs(back, &now), 0);
	while (now.f_bfree < before.f_bfree + SIZE / before.f_frsize);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pages_cost_no_request),
	    cmocka_unit_test(reads_are_never_old),
	    cmocka_unit_test(a_mapping_without_its_descriptor_sees_later_ones),
	    cmocka_unit_test(a_window_shows_no_old_bytes),
	    cmocka_unit_test(times_are_true),
	    cmocka_unit_test(a_writer_that_comes_first_decides),
	    cmocka_unit_test(a_cut_file_is_cut),
	    cmocka_unit_test(the_kernel_forgets_what_was_removed),
	};
	int r;

	if (!world_possible())
		return 77;
	/* FUSE_PASSTHROUGH, Linux 6.9 */
	assert_int_equal(world_setup(NULL), 0);
	r = w.volume->face->beside ? 0 : 77;
	assert_int_equal(world_teardown(NULL), 0);
	memset(&w, 0, sizeof(w));
	return r ? r : cmocka_run_group_tests(tests, world_setup, world_teardown);
}
