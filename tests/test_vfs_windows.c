/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: what a mapped reader sees while the file changes through the vfs and beside it. */
#include "tests/lib/vfs_env.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

#include "danaus/proto/window.h"
#include "danaus/vfs/node.h"

#define PAGES 16u

struct view {
	struct env env;
	struct vfile *file;
	const struct window *window;
	uint64_t bytes;
	int fd;
};

static ssize_t put(struct view *v, uint64_t offset, const void *data, size_t len)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};

	return vfs_write(&v->env.ctx, v->file, &iov, 1, offset, false);
}

static ssize_t get(struct view *v, uint64_t offset, void *data, size_t len)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};

	return vfs_read(&v->env.ctx, v->file, &iov, 1, offset);
}

static void fill(struct view *v)
{
	char page[WINDOW_PAGE];

	for (int twice = 0; twice < 2; twice++) {
		for (unsigned i = 0; i < PAGES; i++)
			assert_int_equal(get(v, i * WINDOW_PAGE, page, sizeof(page)), sizeof(page));
	}
}

static bool look(struct view *v, uint64_t offset, void *data, size_t len)
{
	return window_read(v->window, data, len, offset, memcpy);
}

/* Until a check has found nothing: the first may void what was changed a moment before. */
static void settle(struct view *v)
{
	char byte;

	do {
		fill(v);
		nanosleep(&(struct timespec){.tv_nsec = 700000000}, NULL);
	} while (!look(v, 0, &byte, 1));
}

static void view_start_on(struct view *v, const char *format, bool remote)
{
	struct vtarget at;
	char page[WINDOW_PAGE];

	memset(v, 0, sizeof(*v));
	env_start_on(&v->env, format);
	v->env.instance->ls->remote = remote;
	at = (struct vtarget){.dir = vfs_instance_root(v->env.instance), .path = "f"};
	vfs_set_window_budget(v->env.vfs, 1 << 20);
	assert_int_equal(vfs_open(&v->env.ctx, &at, O_RDWR | O_CREAT, 0644, &v->file, NULL), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		memset(page, 'a' + i, sizeof(page));
		assert_int_equal(put(v, i * WINDOW_PAGE, page, sizeof(page)), sizeof(page));
	}
	assert_int_equal(vfs_window(&v->env.ctx, v->file, &v->fd, &v->bytes), 0);
	v->window = mmap(NULL, v->bytes, PROT_READ, MAP_SHARED, v->fd, 0);
	assert_ptr_not_equal(v->window, MAP_FAILED);
}

static void view_start(struct view *v)
{
	view_start_on(v, "local:%s", false);
}

static void view_end(struct view *v)
{
	munmap((void *)v->window, v->bytes);
	close(v->fd);
	vfile_unref(v->file);
	env_stop(&v->env);
}

static void a_page_is_there_after_its_second_read(void **state)
{
	struct view v;
	char page[WINDOW_PAGE], two[2 * WINDOW_PAGE];

	view_start(&v);
	get(&v, 0, page, sizeof(page));
	assert_false(look(&v, 0, page, 1));
	fill(&v);
	/* the first check may come in between: then it is asked for again */
	while (!look(&v, WINDOW_PAGE / 2, two, sizeof(two)))
		fill(&v);
	assert_int_equal(two[0], 'a');
	assert_int_equal(two[WINDOW_PAGE], 'b');
	assert_int_equal(two[2 * WINDOW_PAGE - 1], 'c');
	assert_false(look(&v, PAGES * WINDOW_PAGE - 1, page, 2));
	view_end(&v);
}

static void the_end_is_as_good_as_the_last_page(void **state)
{
	const uint64_t size = PAGES * WINDOW_PAGE;
	char page[2 * WINDOW_PAGE];
	struct setattr none = {.set = ATTR_SIZE};
	struct vtarget at;
	struct view v;
	long n = -1;

	view_start(&v);
	at = (struct vtarget){.dir = vfs_instance_root(v.env.instance), .path = "f"};
	assert_int_equal(window_read_some(v.window, page, 1, size, memcpy), -1);
	/* a check may void it */
	for (int tries = 0; tries < 100 && n < 0; tries++) {
		fill(&v);
		n = window_read_some(v.window, page, sizeof(page), size - 10, memcpy);
	}
	assert_int_equal(n, 10);
	assert_int_equal(page[9], 'a' + PAGES - 1);
	n = -1;
	for (int tries = 0; tries < 100 && n < 0; tries++) {
		fill(&v);
		n = window_read_some(v.window, page, 1, size + 5, memcpy);
	}
	assert_int_equal(n, 0);
	/* longer now: nobody is told of the old end */
	assert_int_equal(put(&v, size, "more", 4), 4);
	n = window_read_some(v.window, page, 100, size - 1, memcpy);
	assert_true(n == -1 || n == 5);
	n = window_read_some(v.window, page, 100, size + 1, memcpy);
	assert_true(n == -1 || n == 3);
	/* of an empty one no page vouches */
	assert_int_equal(vfs_setattr(&v.env.ctx, &at, &none, NULL), 0);
	assert_int_equal(window_read_some(v.window, page, 1, 0, memcpy), -1);
	view_end(&v);
}

static void much_read_pages_bring_their_neighbours(void **state)
{
	struct view v;
	char page[WINDOW_PAGE];

	view_start(&v);
	for (int i = 0; i < 3; i++) {
		get(&v, 0, page, sizeof(page));
		get(&v, 2 * WINDOW_PAGE, page, sizeof(page));
	}
	assert_false(look(&v, 1 * WINDOW_PAGE, page, 1));
	do { /* a check may void them */
		for (int i = 0; i < 4; i++)
			get(&v, i * WINDOW_PAGE, page, sizeof(page));
	} while (!look(&v, (PAGES - 1) * WINDOW_PAGE, page, sizeof(page)));
	assert_int_equal(page[0], 'a' + PAGES - 1);
	assert_true(look(&v, 5 * WINDOW_PAGE, page, sizeof(page)));
	assert_int_equal(page[WINDOW_PAGE - 1], 'a' + 5);
	view_end(&v);
}

static void nobody_but_the_service_writes_it(void **state)
{
	struct view v;
	char path[32];
	int again;

	view_start(&v);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, v.fd, 0), MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", v.fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	assert_true(again >= 0);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0),
			 MAP_FAILED);
	assert_int_equal(pwrite(again, "x", 1, 0), -1);
	assert_int_equal(ftruncate(again, 0), -1);
	assert_int_equal(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	close(again);
	view_end(&v);
}

static void our_own_changes_are_seen_at_once(void **state)
{
	struct setattr cut = {.set = ATTR_SIZE, .attr = {.size = 10}};
	struct vtarget at;
	struct view v;
	struct attr attr;
	char byte;

	view_start(&v);
	at = (struct vtarget){.file = v.file};
	for (int i = 0; i < 200; i++) {
		char now = '0' + i % 10;

		fill(&v);
		assert_int_equal(put(&v, 5, &now, 1), 1);
		if (look(&v, 5, &byte, 1))
			assert_int_equal(byte, now);
		fill(&v);
		if (look(&v, 5, &byte, 1))
			assert_int_equal(byte, now);
	}
	assert_int_equal(vfs_setattr(&v.env.ctx, &at, &cut, &attr), 0);
	assert_false(look(&v, 10, &byte, 1));
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(&v, 0, &byte, 1), 1);
	/* grown by a hole: the rest of the first page is zeros, not what was there */
	assert_int_equal(put(&v, 3 * WINDOW_PAGE, "x", 1), 1);
	for (int i = 0; i < 3; i++) {
		char page[WINDOW_PAGE];

		assert_int_equal(get(&v, 0, page, sizeof(page)), sizeof(page));
		assert_int_equal(page[10], 0);
		if (look(&v, 10, &byte, 1))
			assert_int_equal(byte, 0);
	}
	view_end(&v);
}

static void change_outside(struct view *v, char byte)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/f", v->env.dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
	close(fd);
}

static void a_change_from_outside_voids_it(void **state)
{
	struct view v;
	char byte;

	view_start(&v);
	settle(&v);
	change_outside(&v, 'Z');
	while (look(&v, 0, &byte, 1) && byte != 'Z')
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	assert_int_equal(get(&v, 0, &byte, 1), 1);
	assert_int_equal(byte, 'Z');
	view_end(&v);
}

/* A cache looks for changes from outside now and then, as the window does: what it gives out
 * meanwhile must not stay in the window when the cache has heard of the change. */
static void what_a_cache_below_had_for_too_long_goes(void **state)
{
	const struct timespec tick = {.tv_nsec = 10000000};
	struct view v;
	char byte = 0;

	view_start_on(&v, "cache:[local:%s]", false);
	settle(&v);
	for (int i = 0; i < 6; i++) {
		char now = '0' + i;
		int ticks = 0;

		/* at another point of the two's rounds each time */
		for (int n = 0; n < 20 * i; n++) {
			fill(&v);
			nanosleep(&tick, NULL);
		}
		change_outside(&v, now);
		while (byte != now || !look(&v, 0, &byte, 1) || byte != now) {
			assert_true(ticks++ < 500);
			nanosleep(&tick, NULL);
			fill(&v);
			assert_int_equal(get(&v, 0, &byte, 1), 1);
		}
	}
	view_end(&v);
}

static void a_remote_file_is_compared_when_it_is_opened(void **state)
{
	struct vtarget at;
	struct vfile *again;
	struct view v;
	char byte;

	view_start_on(&v, "cache:[local:%s]", true);
	at = (struct vtarget){.dir = vfs_instance_root(v.env.instance), .path = "f"};
	for (int i = 0; i < 3; i++) {
		settle(&v);
		change_outside(&v, 'Z');
		assert_int_equal(vfs_open(&v.env.ctx, &at, O_RDONLY, 0, &again, NULL), 0);
		assert_false(look(&v, 0, &byte, 1));
		assert_int_equal(get(&v, 0, &byte, 1), 1);
		assert_int_equal(byte, 'Z');
		vfile_unref(again);
		assert_int_equal(put(&v, 0, "a", 1), 1);
	}
	view_end(&v);
}

static struct libservice_ops silenced;
static atomic_bool silent;
static int (*plain_getattr)(struct libservice *ls, struct ls_node *node, struct ls_file *file,
			    struct attr *ret);

static int answer_late(struct libservice *ls, struct ls_node *node, struct ls_file *file,
		       struct attr *ret)
{
	while (atomic_load(&silent))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return plain_getattr(ls, node, file, ret);
}

static void a_remote_storage_that_is_silent_voids_it(void **state)
{
	struct view v;
	char byte;

	view_start_on(&v, "cache:[local:%s]", true);
	silenced = *v.env.instance->ls->ops;
	plain_getattr = silenced.getattr;
	silenced.getattr = answer_late;
	v.env.instance->ls->ops = &silenced;
	settle(&v);
	atomic_store(&silent, true);
	for (int tick = 0; look(&v, 0, &byte, 1); tick++) {
		assert_true(tick < 1000);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	atomic_store(&silent, false);
	settle(&v);
	view_end(&v);
}

static void the_budget_holds(void **state)
{
	struct vfs_counts counts;
	struct view v;

	view_start(&v);
	vfs_set_window_budget(v.env.vfs, 4 * WINDOW_PAGE);
	fill(&v);
	fill(&v);
	vfs_count(v.env.vfs, &counts);
	assert_true(counts.bytes_cached <= 4 * WINDOW_PAGE);
	vfs_set_window_budget(v.env.vfs, 0);
	vfs_count(v.env.vfs, &counts);
	assert_int_equal(counts.bytes_cached, 0);
	view_end(&v);
}

static void a_file_mapped_by_the_kernel_has_none(void **state)
{
	struct view v;
	char byte;

	view_start(&v);
	fill(&v);
	vnode_face_open(vfile_node(v.file), true);
	assert_false(look(&v, 0, &byte, 1));
	fill(&v);
	assert_false(look(&v, 0, &byte, 1));
	vnode_face_close(vfile_node(v.file), true);
	view_end(&v);
}

static struct libservice_ops scribbled;
static ssize_t (*plain_read)(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			     int niov, uint64_t offset);
static char tenants[WINDOW_PAGE];

/* A program that writes into its memory right after the data came there. */
static ssize_t read_and_scribble(struct libservice *ls, struct ls_file *file,
				 const struct iovec *iov, int niov, uint64_t offset)
{
	ssize_t n = plain_read(ls, file, iov, niov, offset);

	if (iov->iov_base == tenants)
		memset(tenants, '!', sizeof(tenants));
	return n;
}

static void what_a_program_makes_of_its_memory_stays_there(void **state)
{
	struct view v;
	char byte = 0;

	view_start(&v);
	scribbled = *v.env.instance->ls->ops;
	plain_read = scribbled.read;
	scribbled.read = read_and_scribble;
	v.env.instance->ls->ops = &scribbled;
	v.env.ctx.tenant_buffers = true;
	while (!look(&v, 0, &byte, 1))
		assert_int_equal(get(&v, 0, tenants, sizeof(tenants)), sizeof(tenants));
	assert_int_equal(byte, 'a');
	view_end(&v);
}

static void a_small_write_goes_into_it(void **state)
{
	char now[2] = "00", byte[2];
	struct view v;
	int seen = 0;

	view_start(&v);
	/* A check may come in between, and void it: then again. */
	while (seen < 5) {
		now[0]++;
		fill(&v);
		assert_int_equal(put(&v, 2 * WINDOW_PAGE - 1, now, 2), 2);
		if (!look(&v, 2 * WINDOW_PAGE - 1, byte, 2))
			continue;
		assert_memory_equal(byte, now, 2);
		assert_true(look(&v, WINDOW_PAGE, byte, 2));
		assert_memory_equal(byte, "bb", 2);
		assert_true(look(&v, 2 * WINDOW_PAGE, byte, 2));
		assert_memory_equal(byte, "0c", 2);
		seen++;
	}
	view_end(&v);
}

static ssize_t (*plain_write)(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			      int niov, uint64_t offset, bool append, uint64_t *ret_end);

static bool takes_half;

/* A program that writes into its memory while it is read; and storage that takes half of it. */
static ssize_t scribble_and_write(struct libservice *ls, struct ls_file *file,
				  const struct iovec *iov, int niov, uint64_t offset, bool append,
				  uint64_t *ret_end)
{
	struct iovec some = {.iov_base = iov->iov_base,
			     .iov_len = takes_half ? iov->iov_len / 2 : iov->iov_len};

	memset(tenants, '!', sizeof(tenants));
	return plain_write(ls, file, &some, 1, offset, append, ret_end);
}

static void what_was_not_written_is_not_in_it(void **state)
{
	struct view v;
	char page[WINDOW_PAGE], file_has[WINDOW_PAGE];

	view_start(&v);
	scribbled = *v.env.instance->ls->ops;
	plain_write = scribbled.write;
	scribbled.write = scribble_and_write;
	v.env.instance->ls->ops = &scribbled;
	v.env.ctx.tenant_buffers = true;
	for (int i = 0; i < 20; i++) {
		fill(&v);
		memset(tenants, 'A' + i, sizeof(tenants));
		takes_half = i % 2;
		assert_int_equal(put(&v, 0, tenants, sizeof(tenants)),
				 sizeof(tenants) / (takes_half ? 2 : 1));
		assert_int_equal(get(&v, 0, file_has, sizeof(file_has)), sizeof(file_has));
		assert_int_equal(file_has[0], 'A' + i);
		if (look(&v, 0, page, sizeof(page)))
			assert_memory_equal(page, file_has, sizeof(page));
	}
	view_end(&v);
}

#ifndef __SANITIZE_THREAD__ /* a sequence lock reads what may change meanwhile, and voids it */
struct race {
	struct view v;
	_Atomic uint64_t written[2]; /* the values whose writes were answered */
	atomic_int writing;
};

struct writer {
	struct race *race;
	unsigned which;
};

static void *write_on(void *arg)
{
	struct writer *writer = arg;
	struct race *race = writer->race;

	for (uint64_t i = 1; i <= 3000; i++) {
		assert_int_equal(put(&race->v, 64 + 8 * writer->which, &i, sizeof(i)), sizeof(i));
		atomic_store(&race->written[writer->which], i);
	}
	atomic_fetch_sub(&race->writing, 1);
	return NULL;
}

static void *read_on(void *arg)
{
	struct race *race = arg;
	char page[WINDOW_PAGE];

	while (atomic_load(&race->writing))
		get(&race->v, 0, page, sizeof(page));
	return NULL;
}

static void a_reader_never_sees_what_was_before_an_answered_write(void **state)
{
	struct race race = {.writing = 2};
	struct writer writers[2] = {{&race, 0}, {&race, 1}};
	pthread_t threads[2], reader;

	view_start(&race.v);
	put(&race.v, 64, &(uint64_t[2]){0}, 16);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, write_on, &writers[i]);
	pthread_create(&reader, NULL, read_on, &race);
	while (atomic_load(&race.writing)) {
		uint64_t least[2], values[2];

		for (int i = 0; i < 2; i++)
			least[i] = atomic_load(&race.written[i]);
		if (look(&race.v, 64, values, sizeof(values))) {
			assert_true(values[0] >= least[0]);
			assert_true(values[1] >= least[1]);
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_join(reader, NULL);
	view_end(&race.v);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_page_is_there_after_its_second_read),
	    cmocka_unit_test(the_end_is_as_good_as_the_last_page),
	    cmocka_unit_test(much_read_pages_bring_their_neighbours),
	    cmocka_unit_test(nobody_but_the_service_writes_it),
	    cmocka_unit_test(our_own_changes_are_seen_at_once),
	    cmocka_unit_test(a_change_from_outside_voids_it),
	    cmocka_unit_test(what_a_cache_below_had_for_too_long_goes),
	    cmocka_unit_test(a_remote_file_is_compared_when_it_is_opened),
	    cmocka_unit_test(a_remote_storage_that_is_silent_voids_it),
	    cmocka_unit_test(the_budget_holds),
	    cmocka_unit_test(a_file_mapped_by_the_kernel_has_none),
	    cmocka_unit_test(what_a_program_makes_of_its_memory_stays_there),
	    cmocka_unit_test(a_small_write_goes_into_it),
	    cmocka_unit_test(what_was_not_written_is_not_in_it),
#ifndef __SANITIZE_THREAD__ /* a sequence lock reads what may change meanwhile, and voids it */
	    cmocka_unit_test(a_reader_never_sees_what_was_before_an_answered_write),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
