/* SPDX-License-Identifier: Apache-2.0 */
/* Writes in place that go through a mapping of the host's file: what others see of them. */
#include "tests/lib/vfs_env.h"

#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#include "danaus/libservices/local/map.h"

#define PAGE 4096u

struct world {
	char dir[64], path[80];
	struct libservice *ls;
	struct ls_node *root, *node;
	struct ls_file *file;
	struct cred *su, *user;
	struct attr attr;
	bool tmpfs;
};

/* tmpfs: a small one. */
static void start(struct world *w, bool tmpfs, int flags)
{
	struct statfs fs;
	struct err err = {""};

	memset(w, 0, sizeof(*w));
	w->su = cred_root();
	w->user = env_cred(1000, 1000, 0, 0, NULL);
	strcpy(w->dir, "/var/tmp/danaus-map-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(statfs(w->dir, &fs), 0);
	w->tmpfs = tmpfs || fs.f_type != EXT4_SUPER_MAGIC;
	if (w->tmpfs)
		assert_int_equal(mount("map", w->dir, "tmpfs", 0, tmpfs ? "size=1m" : "size=512m"),
				 0);
	assert_int_equal(chmod(w->dir, 0777), 0);
	snprintf(w->path, sizeof(w->path), "%s/f", w->dir);
	assert_int_equal(local_new(w->dir, &w->ls, &err), 0);
	assert_int_equal(ls_root(w->ls, &w->root, &w->attr), 0);
	assert_int_equal(
	    ls_create(w->ls, w->su, w->root, "f", flags, 0666, 0, &w->node, &w->file, &w->attr), 0);
}

static void stop(struct world *w)
{
	ls_release(w->ls, w->file);
	ls_forget(w->ls, w->node, 1);
	ls_forget(w->ls, w->root, 1);
	ls_free(w->ls);
	cred_assume_service();
	if (w->tmpfs)
		assert_int_equal(umount2(w->dir, MNT_DETACH), 0);
	env_remove_tree(w->dir);
	cred_unref(w->user);
}

static ssize_t put(struct world *w, const char *data, size_t len, uint64_t offset)
{
	struct iovec iov = {(char *)data, len};
	uint64_t end = 0;
	ssize_t n = ls_write(w->ls, w->file, &iov, 1, offset, false, &end);

	if (n > 0)
		assert_int_equal(end, offset + n);
	return n;
}

/* write(2) calls of this thread. */
static uint64_t calls(void)
{
	unsigned long long n = 0;
	char line[80];
	FILE *f = fopen("/proc/thread-self/io", "re");

	while (f && fgets(line, sizeof(line), f) && sscanf(line, "syscw: %llu", &n) != 1)
		;
	if (f)
		fclose(f);
	return n;
}

/* Until a write of the page needs no system call. */
static void warm(struct world *w, uint64_t page)
{
	char data[PAGE];
	uint64_t before;

	memset(data, 'w', sizeof(data));
	do {
		before = calls();
		assert_int_equal(put(w, data, sizeof(data), page * PAGE), sizeof(data));
	} while (calls() != before);
}

static void host_has(const struct world *w, uint64_t offset, const void *data, size_t len)
{
	char found[2 * PAGE];
	int fd;

	cred_assume_service();
	fd = open(w->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, found, len, offset), len);
	assert_memory_equal(found, data, len);
	close(fd);
}

static void the_host_has_each_of_them(void **state)
{
	struct world w;
	char text[32];

	start(&w, false, O_RDWR);
	warm(&w, 0);
	warm(&w, 1);
	for (int i = 0; i < 2000; i++) {
		int len = snprintf(text, sizeof(text), "write %d", i);

		assert_int_equal(put(&w, text, len, PAGE - 4), len);
		host_has(&w, PAGE - 4, text, len);
	}
	stop(&w);
}

static void a_new_tick_has_a_new_mtime(void **state)
{
	struct timespec last = {0};
	struct world w;

	start(&w, false, O_RDWR);
	warm(&w, 0);
	for (int i = 0; i < 20; i++) {
		uint64_t tick = local_map_clock();

		while (local_map_clock() == tick)
			;
		assert_int_equal(put(&w, "x", 1, i), 1);
		assert_int_equal(ls_getattr(w.ls, w.node, w.file, &w.attr), 0);
		assert_true(w.attr.mtime.tv_sec > last.tv_sec ||
			    w.attr.mtime.tv_nsec > last.tv_nsec);
		last = w.attr.mtime;
	}
	stop(&w);
}

static void an_mtime_that_was_set_does_not_stay(void **state)
{
	struct attr past = {.mtime = {.tv_sec = 1000}};
	struct world w;

	start(&w, false, O_RDWR);
	for (int i = 0; i < 50; i++) {
		warm(&w, 0);
		assert_int_equal(ls_setattr(w.ls, w.su, w.node, NULL, ATTR_MTIME, &past, &w.attr),
				 0);
		assert_int_equal(put(&w, "x", 1, 0), 1);
		assert_int_equal(ls_getattr(w.ls, w.node, w.file, &w.attr), 0);
		assert_true(w.attr.mtime.tv_sec > 1000);
	}
	stop(&w);
}

static void a_write_takes_the_set_id_bits(void **state)
{
	struct attr mode = {.mode = 06777};
	struct world w;

	start(&w, false, O_RDWR);
	for (int i = 0; i < 50; i++) {
		warm(&w, 0);
		assert_int_equal(ls_setattr(w.ls, w.su, w.node, NULL, ATTR_MODE, &mode, &w.attr),
				 0);
		assert_int_equal(w.attr.mode & 07777, 06777);
		assert_int_equal(cred_assume(w.user, 0), 0);
		assert_int_equal(put(&w, "x", 1, 0), 1);
		assert_int_equal(ls_getattr(w.ls, w.node, w.file, &w.attr), 0);
		assert_int_equal(w.attr.mode & 06000, 0);
	}
	stop(&w);
}

/* Cut by somebody else at each place, before a write that would be beyond the end. */
static void a_file_that_was_cut_grows_again(void **state)
{
	static const off_t cuts[] = {0, 1, PAGE - 1, PAGE, PAGE + 10, 2 * PAGE - 1, 2 * PAGE};
	struct world w;

	start(&w, false, O_RDWR);
	for (int i = 0; i < 70; i++) {
		off_t cut = cuts[i % 7];
		struct stat st;

		for (int page = 0; page < 3; page++)
			warm(&w, page);
		assert_int_equal(truncate(w.path, cut), 0);
		assert_int_equal(put(&w, "0123456789", 10, 2 * PAGE - 5), 10);
		assert_int_equal(stat(w.path, &st), 0);
		assert_true(st.st_size == 2 * PAGE + 5);
		host_has(&w, 2 * PAGE - 5, "0123456789", 10);
		if (cut < 2 * PAGE - 5)
			host_has(&w, 2 * PAGE - 6, "\0", 1);
	}
	stop(&w);
}

/* A file that others make longer while somebody writes behind its end, in its last page. */
#define GROWS 1500
struct growth {
	struct world w;
	atomic_int begun, ended; /* rounds; asked in turns: a thread that sleeps is too late */
};

static void wait_for(const atomic_int *round, int value)
{
	while (atomic_load(round) != value)
		sched_yield();
}

static void *grower(void *arg)
{
	struct growth *g = arg;
	struct attr longer = {.size = 2 * PAGE}, attr;
	int r = 0;

	for (int i = 1; i <= GROWS; i++) {
		wait_for(&g->begun, i);
		r |= i % 2 ? ls_allocate(g->w.ls, g->w.file, 0, 0, 2 * PAGE)
			   : ls_setattr(g->w.ls, g->w.su, g->w.node, g->w.file, ATTR_SIZE, &longer,
					&attr);
		atomic_store(&g->ended, i);
	}
	return r ? "grow" : NULL;
}

static void a_file_that_grows_meanwhile_has_it(void **state)
{
	static struct growth g;
	struct attr shorter = {.size = 100}, attr;
	pthread_t thread;
	void *result;

	start(&g.w, false, O_RDWR);
	warm(&g.w, 0);
	atomic_init(&g.begun, 0);
	atomic_init(&g.ended, 0);
	assert_int_equal(pthread_create(&thread, NULL, grower, &g), 0);
	for (int i = 1; i <= GROWS; i++) {
		assert_int_equal(
		    ls_setattr(g.w.ls, g.w.su, g.w.node, g.w.file, ATTR_SIZE, &shorter, &attr), 0);
		/* the tick's write(2) */
		assert_int_equal(put(&g.w, "0123456789", 10, 0), 10);
		atomic_store(&g.begun, i);
		for (volatile int spin = 0; spin < i * 37 % 3000; spin++)
			;
		assert_int_equal(put(&g.w, "abcdefghij", 10, 200), 10);
		wait_for(&g.ended, i);
		host_has(&g.w, 200, "abcdefghij", 10);
	}
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	stop(&g.w);
}

static void a_hole_on_a_full_disk_is_enospc(void **state)
{
	char block[PAGE] = {0}, other[80];
	struct world w;
	uint64_t before;
	ssize_t n;
	int fd;

	start(&w, true, O_RDWR);
	warm(&w, 0);
	warm(&w, 1);
	assert_int_equal(
	    ls_allocate(w.ls, w.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE), 0);
	snprintf(other, sizeof(other), "%s/other", w.dir);
	cred_assume_service();
	fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while ((n = write(fd, block, sizeof(block))) > 0)
		;
	close(fd);
	do { /* within a tick of a real write */
		before = calls();
		assert_int_equal(put(&w, "x", 1, 0), 1);
	} while (calls() != before);
	assert_int_equal(put(&w, "x", 1, PAGE), -ENOSPC);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(put(&w, "y", 1, PAGE), 1);
	host_has(&w, PAGE, "y", 1);
	stop(&w);
}

static void a_file_for_writing_only_is_written_as_ever(void **state)
{
	char data[PAGE];
	uint64_t before;
	struct world w;

	start(&w, false, O_WRONLY);
	memset(data, 'd', sizeof(data));
	before = calls();
	for (int i = 0; i < 200; i++)
		assert_int_equal(put(&w, data, sizeof(data), 0), sizeof(data));
	assert_int_equal(calls() - before, 200);
	host_has(&w, 0, data, sizeof(data));
	stop(&w);
}

static void who_watches_hears_of_each(void **state)
{
	uint64_t before;
	struct world w;
	int fd;

	start(&w, false, O_RDWR);
	warm(&w, 0);
	fd = ls_host_fd(w.ls, w.node);
	assert_true(fd >= 0);
	close(fd);
	before = calls();
	for (int i = 0; i < 100; i++)
		assert_int_equal(put(&w, "x", 1, 0), 1);
	assert_int_equal(calls() - before, 100);
	stop(&w);
}

struct writer {
	struct world *w;
	char letter;
};

static void *overwrite(void *arg)
{
	struct writer *writer = arg;
	char data[2 * PAGE];

	memset(data, writer->letter, sizeof(data));
	for (int i = 0; i < 300; i++)
		assert_int_equal(put(writer->w, data, sizeof(data), 100), sizeof(data));
	return NULL;
}

static void two_at_one_place_do_not_mix(void **state)
{
	struct world w;

	start(&w, false, O_RDWR);
	for (int page = 0; page < 3; page++)
		warm(&w, page);
	for (int i = 0; i < 20; i++) {
		struct writer writers[2] = {{&w, 'A'}, {&w, 'B'}};
		char found[2 * PAGE], expected[2 * PAGE];
		pthread_t threads[2];
		struct iovec iov = {found, sizeof(found)};

		for (int k = 0; k < 2; k++)
			pthread_create(&threads[k], NULL, overwrite, &writers[k]);
		for (int k = 0; k < 2; k++)
			pthread_join(threads[k], NULL);
		assert_int_equal(ls_read(w.ls, w.file, &iov, 1, 100), sizeof(found));
		memset(expected, found[0], sizeof(expected));
		assert_memory_equal(found, expected, sizeof(found));
	}
	stop(&w);
}

static void a_file_that_grows_is_mapped_again(void **state)
{
	struct world w;

	start(&w, false, O_RDWR);
	warm(&w, 0);
	warm(&w, 5000);
	warm(&w, 100000);
	warm(&w, 0);
	stop(&w);
}

static void a_program_does_not_take_all_addresses(void **state)
{
	struct ls_node *nodes[8];
	struct ls_file *files[8];
	struct iovec iov = {"x", 1};
	struct local *local;
	struct world w;
	char name[16];

	start(&w, true, O_RDWR);
	local = (struct local *)w.ls;
	for (unsigned i = 0; i < 8; i++) {
		struct attr size = {.size = LOCAL_MAP_BYTES_MAX / 4};

		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(ls_create(w.ls, w.su, w.root, name, O_RDWR, 0600, 0, &nodes[i],
					   &files[i], &w.attr),
				 0);
		assert_int_equal(
		    ls_setattr(w.ls, w.su, nodes[i], files[i], ATTR_SIZE, &size, &w.attr), 0);
		for (int k = 0; k < 40; k++)
			assert_int_equal(ls_write(w.ls, files[i], &iov, 1, 0, false, NULL), 1);
		assert_true(atomic_load(&local->map_bytes) <= LOCAL_MAP_BYTES_MAX);
	}
	assert_int_equal(atomic_load(&local->maps), 4);
	for (unsigned i = 0; i < 8; i++) {
		ls_release(w.ls, files[i]);
		ls_forget(w.ls, nodes[i], 1);
	}
	assert_int_equal(atomic_load(&local->maps), 0);
	assert_int_equal(atomic_load(&local->map_bytes), 0);
	stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_host_has_each_of_them),
	    cmocka_unit_test(a_new_tick_has_a_new_mtime),
	    cmocka_unit_test(an_mtime_that_was_set_does_not_stay),
	    cmocka_unit_test(a_write_takes_the_set_id_bits),
	    cmocka_unit_test(a_file_that_was_cut_grows_again),
	    cmocka_unit_test(a_file_that_grows_meanwhile_has_it),
	    cmocka_unit_test(a_hole_on_a_full_disk_is_enospc),
	    cmocka_unit_test(a_file_for_writing_only_is_written_as_ever),
	    cmocka_unit_test(who_watches_hears_of_each),
	    cmocka_unit_test(two_at_one_place_do_not_mix),
	    cmocka_unit_test(a_file_that_grows_is_mapped_again),
	    cmocka_unit_test(a_program_does_not_take_all_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
