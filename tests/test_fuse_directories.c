/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face's large directories, and what of their inodes the kernel keeps. */
#include "danaus/fuse/face_impl.h"
#include "tests/lib/face_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY 10000

static void a_large_directory_lists_while_it_shrinks(void **state)
{
	static unsigned char seen[MANY];
	struct dirent *entry;
	unsigned n = 0, dup = 0;
	char name[32], path[128];
	DIR *dir;
	int fd, at;

	assert_int_equal(mkdirat(w.face, "many", 0755), 0);
	path_of(path, sizeof(path), "back", "many"); /* quicker at the back */
	at = open(path, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%05d", i);
		assert_int_equal(mknodat(at, name, S_IFREG | 0644, 0), 0);
	}
	fd = openat(w.face, "many", O_RDONLY | O_DIRECTORY);
	dir = fdopendir(fd);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (seen[atoi(entry->d_name)]++)
			dup++;
		assert_int_equal(unlinkat(n % 100 ? at : fd, entry->d_name, 0), 0);
		n++;
	}
	closedir(dir);
	close(at);
	assert_int_equal(dup, 0);
	assert_int_equal(n, MANY);
	assert_int_equal(unlinkat(w.face, "many", AT_REMOVEDIR), 0);
}

static uint32_t nodes_used(void)
{
	return __atomic_load_n(&w.volume->face->nodes.used, __ATOMIC_RELAXED);
}

/* Every inode that the kernel remembers costs a descriptor. */
static void the_kernel_forgets_inodes(void **state)
{
	char path[128], name[32];
	struct stat st;
	int at;

	w.volume->face->nodes_limit = 200;
	assert_int_equal(mkdirat(w.face, "forget", 0755), 0);
	path_of(path, sizeof(path), "back", "forget"); /* quicker at the back */
	at = open(path, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < MANY / 12; i++) {
		snprintf(name, sizeof(name), "%05d", i);
		assert_int_equal(mknodat(at, name, S_IFREG | 0644, 0), 0);
	}
	close(at);
	at = openat(w.face, "forget", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < MANY / 12; i++) {
		snprintf(name, sizeof(name), "%05d", i);
		assert_int_equal(fstatat(at, name, &st, 0), 0);
	}
	/* The kernel answers in its own time, and is asked again when there are new ones. */
	for (int i = 0; nodes_used() > 400; i++) {
		snprintf(name, sizeof(name), "new%d", i);
		assert_int_equal(mknodat(at, name, S_IFREG | 0644, 0), 0);
		sched_yield();
	}
	assert_int_equal(fstatat(at, "00000", &st, 0), 0);
	close(at);
	w.volume->face->nodes_limit = FACE_NODES_LIMIT;
}

/* --- names that go at another door ------------------------------------------------------------ */

#define ROOM (1u << 20)

static struct vtarget named(const char *name)
{
	return (struct vtarget){
	    .dir = vfs_instance_root(w.volume->instance), .path = name, .nofollow = true};
}

static void make_file(const char *name)
{
	static char content[ROOM];
	struct iovec iov = {memset(content, 'x', ROOM), ROOM};
	struct vtarget at = named(name);
	struct vfile *file;

	assert_int_equal(vfs_open(&w.ctx, &at, O_RDWR | O_CREAT, 0644, &file, NULL), 0);
	assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, 0, false), ROOM);
	vfile_unref(file);
}

static void look_at(const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(w.face, name, &st, AT_SYMLINK_NOFOLLOW), 0);
}

static void unlink_vfs(const char *name, bool directory)
{
	struct vtarget at = named(name);

	assert_int_equal(vfs_unlink(&w.ctx, &at, directory), 0);
}

static void rename_vfs(const char *from, const char *to)
{
	struct vtarget old = named(from), new = named(to);

	assert_int_equal(vfs_rename(&w.ctx, &old, &new, 0), 0);
}

static void link_vfs(const char *from, const char *to)
{
	struct vtarget old = named(from), new = named(to);

	assert_int_equal(vfs_link(&w.ctx, &old, &new), 0);
}

/* Descriptors of the service on files that have no name any more. (Directories it keeps for a
 * while, with what is known not to be in them.) */
static unsigned open_without_name(void)
{
	static const char gone[] = " (deleted)";
	char back[128], link[256];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	struct stat st;

	path_of(back, sizeof(back), "back", "");
	while ((entry = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));

		/* a detached mount: paths start at the source */
		if (len > (ssize_t)strlen(gone) &&
		    !memcmp(link + len - strlen(gone), gone, strlen(gone)) &&
		    memmem(link, len, "room", 4) && !fstatat(dirfd(dir), entry->d_name, &st, 0) &&
		    S_ISREG(st.st_mode))
			n++;
	}
	closedir(dir);
	return n;
}

/* The kernel forgets in its own time. */
static void assert_room_is_back(void)
{
	time_t end = time(NULL) + 20;

	while (open_without_name() > 0) {
		if (time(NULL) > end)
			fail_msg("%u files without a name are open", open_without_name());
		sched_yield();
	}
}

static void a_file_that_the_kernel_has_seen_gives_its_room_back(void **state)
{
	make_file("room");
	look_at("room");
	unlink_vfs("room", false);
	assert_room_is_back();
}

static void a_file_that_another_one_replaces_gives_its_room_back(void **state)
{
	make_file("room");
	make_file("new");
	look_at("room");
	rename_vfs("new", "room");
	assert_room_is_back();
	look_at("room");
	unlink_vfs("room", false);
	assert_room_is_back();
}

static void all_names_of_a_file_give_its_room_back(void **state)
{
	make_file("room");
	link_vfs("room", "room2");
	look_at("room");
	look_at("room2");
	rename_vfs("room", "room3");
	look_at("room3");
	rename_vfs("room3", "room4");
	unlink_vfs("room2", false);
	look_at("room4");
	unlink_vfs("room4", false);
	assert_room_is_back();
}

static void exchanged_files_give_their_room_back(void **state)
{
	struct vtarget a = named("room-a"), b = named("room-b");

	make_file("room-a");
	make_file("room-b");
	look_at("room-a");
	look_at("room-b");
	assert_int_equal(vfs_rename(&w.ctx, &a, &b, RENAME_EXCHANGE), 0);
	unlink_vfs("room-a", false);
	assert_room_is_back();
	unlink_vfs("room-b", false);
	assert_room_is_back();
}

static void a_tree_that_the_kernel_has_seen_gives_its_room_back(void **state)
{
	char name[64];

	assert_int_equal(mkdirat(w.face, "room", 0755), 0);
	assert_int_equal(mkdirat(w.face, "room/d", 0755), 0);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "room/d/%d", i);
		assert_int_equal(mknodat(w.face, name, S_IFREG | 0644, 0), 0);
	}
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "room/d/%d", i);
		unlink_vfs(name, false);
	}
	unlink_vfs("room/d", true);
	unlink_vfs("room", true);
	assert_room_is_back();
}

static void a_mapped_file_goes_on_until_its_end(void **state)
{
	char *p;
	int fd;

	make_file("room");
	fd = openat(w.face, "room", O_RDWR);
	p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	close(fd);
	unlink_vfs("room", false);
	make_file("room"); /* another one of this name */
	look_at("room");
	for (size_t i = 0; i < ROOM; i += 4096) {
		assert_int_equal(p[i], 'x');
		p[i] = 'y';
	}
	assert_int_equal(msync(p, ROOM, MS_SYNC), 0);
	assert_true(open_without_name() > 0);
	munmap(p, ROOM);
	assert_room_is_back();
	unlink_vfs("room", false);
	assert_room_is_back();
}

/* A directory of that name that is made at once is another one, and nothing happens to it. */
static void a_directory_that_comes_again_stays(void **state)
{
	char cwd[256], path[128];
	int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct vtarget at = named("room");

	path_of(path, sizeof(path), "face", "room");
	for (int i = 0; i < 200; i++) {
		assert_int_equal(vfs_make(&w.ctx, &at, S_IFDIR | 0755, 0, NULL, &(struct attr){0}),
				 0);
		assert_int_equal(chdir(path), 0);
		assert_string_equal(getcwd(cwd, sizeof(cwd)), path);
		assert_int_equal(fchdir(back), 0);
		unlink_vfs("room", true);
	}
	assert_int_equal(vfs_make(&w.ctx, &at, S_IFDIR | 0755, 0, NULL, &(struct attr){0}), 0);
	assert_int_equal(chdir(path), 0);
	assert_room_is_back();
	assert_string_equal(getcwd(cwd, sizeof(cwd)), path);
	assert_int_equal(fchdir(back), 0);
	close(back);
	unlink_vfs("room", true);
	assert_room_is_back();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_large_directory_lists_while_it_shrinks),
	    cmocka_unit_test(the_kernel_forgets_inodes),
	    cmocka_unit_test(a_file_that_the_kernel_has_seen_gives_its_room_back),
	    cmocka_unit_test(a_file_that_another_one_replaces_gives_its_room_back),
	    cmocka_unit_test(all_names_of_a_file_give_its_room_back),
	    cmocka_unit_test(exchanged_files_give_their_room_back),
	    cmocka_unit_test(a_tree_that_the_kernel_has_seen_gives_its_room_back),
	    cmocka_unit_test(a_mapped_file_goes_on_until_its_end),
	    cmocka_unit_test(a_directory_that_comes_again_stays),
	};

	return world_run(tests);
}
