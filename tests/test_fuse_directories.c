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
#include <sys/stat.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_large_directory_lists_while_it_shrinks),
	    cmocka_unit_test(the_kernel_forgets_inodes),
	};

	return world_run(tests);
}
