/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's write-back when something fails, and when much happens at once: nothing is lost
 * without a word, nobody reads what was not written. */
#include "tests/lib/cache_model.h"
#include "tests/lib/cache_race.h"
#include "tests/lib/writeback_world.h"

#include <sys/mount.h>

static void an_error_is_told_to_each_open_file_once(void **state)
{
	struct cw_handle a, b, c, d;
	struct cache_world w;

	wb_start(&w, 4 * MIB);
	w.store->retry_ns = NEVER;
	a = wb_make(&w, "f", O_RDWR);
	b = cw_open(&w, "f", O_RDWR);
	d = cw_open(&w, "f", O_WRONLY);
	assert_int_equal(ls_flush(w.ls, d.file), 0);
	assert_int_equal(cw_write(&w, &a, "abc", 3, 0, false), 3);
	wb_fail_all(&w, -EIO);
	assert_int_equal(ls_fsync(w.ls, a.file, true), -EIO);
	wb_fail_all(&w, 0);
	/* what failed is not lost */
	assert_int_equal(wb_dirty(&w), 1);
	assert_int_equal(ls_fsync(w.ls, a.file, true), 0);
	wb_check_host(&w, "f", "abc", 3);
	/* who did not ask hears of it at his next write, and that is all */
	assert_int_equal(cw_write(&w, &b, "x", 1, 0, false), -EIO);
	assert_int_equal(cw_write(&w, &b, "d", 1, 3, false), 1);
	assert_int_equal(ls_fsync(w.ls, b.file, true), 0);
	/* or when he closes it */
	assert_int_equal(ls_flush(w.ls, d.file), -EIO);
	assert_int_equal(ls_flush(w.ls, d.file), 0);
	cw_close(&w, &d);
	c = cw_open(&w, "f", O_RDWR);
	assert_int_equal(ls_fsync(w.ls, c.file, true), 0);
	wb_check_host(&w, "f", "abcd", 4);
	cw_close(&w, &c);
	cw_close(&w, &b);
	cw_close(&w, &a);
	cw_stop(&w);
}

/* The flusher tries, and then there is an end to it: told, and the file is what the host has. */
static void what_cannot_be_written_is_dropped_and_told(void **state)
{
	struct cw_handle h, other;
	struct cache_world w;
	struct attr attr;

	wb_start(&w, 4 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	assert_int_equal(cw_write(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(cw_write(&w, &h, "defghi", 6, 0, false), 6);
	wb_fail_all(&w, -ENOSPC);
	ls_release(w.ls, h.file); /* the last close: down with it */
	while (wb_dirty(&w))
		wb_pause();
	wb_fail_all(&w, 0);
	wb_check_host(&w, "f", "abc", 3);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &attr), 0);
	assert_int_equal(attr.size, 3);
	/* nobody was told: the next one who opens it is */
	other = cw_open(&w, "f", O_RDWR);
	assert_int_equal(ls_fsync(w.ls, other.file, true), -ENOSPC);
	assert_int_equal(ls_fsync(w.ls, other.file, true), 0);
	cw_close(&w, &other);
	ls_forget(w.ls, h.node, 1);
	cw_stop(&w);
}

/* The Nth call below fails, or all from it on, N swept until none does: what is said to be on
 * stable storage is there, and nothing else than what was written is read. */
static void sweep(bool to_the_end)
{
	unsigned char data[3 * PAGE], back[4 * PAGE];
	bool failed = true;
	struct cache_world w;

	wb_start(&w, 1 * MIB);
	w.store->retry_ns = NEVER;
	for (unsigned n = 1; failed; n++) {
		struct cw_handle h = wb_make(&w, "f", O_RDWR);
		struct attr attr, set = {.size = 2 * PAGE};
		ssize_t wrote;
		int r, named;

		assert_true(n < 200);
		cw_fail(&w, n % 2 ? -EIO : -ENOSPC, n, to_the_end);
		memset(data, n, sizeof(data));
		wrote = cw_write(&w, &h, data, sizeof(data), 0, false);
		cw_write(&w, &h, data, 10, 100, false);
		cw_read(&w, &h, back, sizeof(back), 0);
		named = ls_rename(w.ls, w.cred, w.root, "f", w.root, "g", 0);
		r = ls_fsync(w.ls, h.file, false);
		if (wrote == (ssize_t)sizeof(data) && !r)
			wb_check_host(&w, named ? "f" : "g", data, sizeof(data));
		cw_write(&w, &h, data, 10, 0, true);
		r = ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr);
		failed = cw_fail_end(&w);
		wrote = cw_read(&w, &h, back, sizeof(back), 0);
		assert_true(wrote >= 0);
		for (ssize_t i = 0; i < wrote; i++)
			assert_int_equal(back[i], (unsigned char)n);
		if (!r)
			assert_true(wrote <= 2 * PAGE);
		ls_fsync(w.ls, h.file, false);
		assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
		wb_check_host(&w, named ? "f" : "g", back, wrote);
		assert_int_equal(ls_unlink(w.ls, w.cred, w.root, named ? "f" : "g", false), 0);
		cw_close(&w, &h);
	}
	cw_stop(&w);
}

static void after_any_error_nothing_is_lost_that_was_synced(void **state)
{
	sweep(false);
	sweep(true);
}

static void a_full_disk_is_told_when_it_is_written_to(void **state)
{
	char base[64], page[PAGE] = {1};
	struct cache_world w;
	struct cw_handle h;
	uint64_t n = 0;
	ssize_t r;

	snprintf(base, sizeof(base), "%s/danaus-full-XXXXXX", env_base());
	assert_non_null(mkdtemp(base));
	if (mount("none", base, "tmpfs", 0, "size=8m") < 0) {
		rmdir(base);
		skip();
	}
	wb_start_on(&w, base, 32 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	while ((r = cw_write(&w, &h, page, PAGE, n * PAGE, false)) == PAGE)
		n++;
	assert_int_equal(r, -ENOSPC);
	assert_true(n * PAGE > 6 * MIB);
	assert_true(n * PAGE <= 8 * MIB);
	/* all that was taken is there */
	assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
	assert_int_equal(wb_host_size(&w, "f"), n * PAGE);
	cw_close(&w, &h);
	cw_stop(&w);
	assert_int_equal(umount(base), 0);
	rmdir(base);
}

static void sync_file(struct cache_model *m)
{
	assert_int_equal(ls_fsync(m->w.ls, m->h.file, false), 0);
	wb_check_host(&m->w, "f", m->bytes, m->size);
}

static void step(struct cache_model *m)
{
	model_next(m);
	switch (m->op) {
	case 0:
	case 1:
	case 2:
	case 3:
		model_write(m);
		break;
	case 4:
	case 5:
		model_append(m);
		break;
	case 6:
		if (!model_random(m, 8))
			model_truncate(m);
		break;
	case 7:
		if (!model_random(m, 4))
			model_punch(m);
		break;
	case 8:
		if (!model_random(m, 16))
			sync_file(m);
		break;
	case 9:
		model_reopen(m);
		break;
	default:
		model_read(m);
	}
	model_check_size(m);
}

/* The flusher is awake all the time; at the end the host has it. */
static void random_operations_are_those_of_a_model(void **state)
{
	struct cache_model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->random = 1;
	wb_start(&m->w, 1 * MIB);
	m->w.store->age_ns = 500000;
	m->h = wb_make(&m->w, "f", O_RDWR);
	for (unsigned i = 0; i < 8000; i++)
		step(m);
	cw_close(&m->w, &m->h);
	assert_int_equal(ls_syncfs(m->w.ls), 0);
	wb_check_host(&m->w, "f", m->bytes, m->size);
	cw_stop(&m->w);
	free(m);
}

/* Two writers, each with its own half of each page, and one that appends numbers; readers never see
 * an older number than before, and the flusher works all the time. */
#define RACE_PAGES  6u
#define RACE_ROUNDS 1500u

static void *race_writer(void *arg)
{
	static atomic_uint numbers;
	struct cache_race *race = arg;
	unsigned me = atomic_fetch_add(&numbers, 1) % 2;

	for (uint32_t n = 1; n <= RACE_ROUNDS; n++) {
		for (unsigned p = 0; p < RACE_PAGES; p++)
			race_write(race, n, PAGE / 2, p * PAGE + me * PAGE / 2);
		atomic_store(&race->last[me], n);
	}
	return NULL;
}

static void *race_reader(void *arg)
{
	struct cache_race *race = arg;
	uint32_t seen[2 * RACE_PAGES] = {0};

	while (!atomic_load(&race->ends))
		for (unsigned p = 0; p < 2 * RACE_PAGES; p++)
			race_read(race, &race->h, p % 2, PAGE / 2, p * PAGE / 2, &seen[p]);
	return NULL;
}

static void *race_syncer(void *arg)
{
	struct cache_race *race = arg;

	while (!atomic_load(&race->ends))
		if (ls_fsync(race->w.ls, race->h.file, true))
			abort();
	return NULL;
}

static void *race_appender(void *arg)
{
	struct cache_race *race = arg;
	struct cw_handle h = cw_open(&race->w, "log", O_RDWR);
	uint64_t n, back, size;

	for (n = 0; n < 4000; n++) {
		if (cw_write(&race->w, &h, &n, sizeof(n), 0, true) != sizeof(n))
			abort();
		size = wb_size(&race->w, &h);
		if (size != (n + 1) * sizeof(n) ||
		    cw_read(&race->w, &h, &back, sizeof(back), size - 8) != 8 || back != n)
			abort();
	}
	cw_close(&race->w, &h);
	return NULL;
}

static void threads_at_once_read_what_is_there(void **state)
{
	void *(*const mains[])(void *) = {race_writer, race_writer, race_reader, race_syncer,
					  race_appender};
	static struct cache_race race;
	pthread_t threads[5];
	uint32_t page[PAGE / 4];
	struct cw_handle log;

	memset(&race, 0, sizeof(race));
	wb_start(&race.w, 1 * MIB);
	race.w.store->age_ns = 300000;
	race.h = wb_make(&race.w, "f", O_RDWR);
	log = wb_make(&race.w, "log", O_RDWR);
	memset(page, 0, sizeof(page));
	for (unsigned p = 0; p < RACE_PAGES; p++)
		assert_int_equal(cw_write(&race.w, &race.h, page, PAGE, p * PAGE, false), PAGE);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mains[i], &race), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	pthread_join(threads[4], NULL);
	atomic_store(&race.ends, true);
	pthread_join(threads[2], NULL);
	pthread_join(threads[3], NULL);
	assert_int_equal(ls_syncfs(race.w.ls), 0);
	for (unsigned i = 0; i < PAGE / 4; i++)
		page[i] = RACE_ROUNDS;
	for (unsigned p = 0; p < RACE_PAGES; p++) {
		char back[PAGE];
		int fd = open(cw_path(&race.w, "f"), O_RDONLY | O_CLOEXEC);

		assert_int_equal(pread(fd, back, PAGE, p * PAGE), PAGE);
		assert_memory_equal(back, page, PAGE);
		close(fd);
	}
	cw_close(&race.w, &log);
	cw_close(&race.w, &race.h);
	cw_stop(&race.w);
}

/* A layer below that takes its time, and looks whether what it writes changes meanwhile. */
static struct libservice_ops slow_ops;
static const struct libservice_ops *fast_ops;
static atomic_uint slow_writes;

static ssize_t slow_write(struct libservice *ls, struct ls_file *file, const struct iovec *iov,
			  int niov, uint64_t offset, bool append, uint64_t *ret_end)
{
	static __thread char copy[64 * PAGE];
	int n = niov < 64 ? niov : 64;

	for (int i = 0; i < n; i++)
		memcpy(copy + i * PAGE, iov[i].iov_base, iov[i].iov_len);
	wb_pause();
	for (int i = 0; i < n; i++)
		if (memcmp(copy + i * PAGE, iov[i].iov_base, iov[i].iov_len))
			abort();
	atomic_fetch_add(&slow_writes, 1);
	return fast_ops->write(ls, file, iov, niov, offset, append, ret_end);
}

static void what_is_on_its_way_down_does_not_change(void **state)
{
	unsigned char page[PAGE], back[PAGE];
	struct cache_world w;
	struct cw_handle h;

	wb_start(&w, 1 * MIB);
	fast_ops = w.lower->ops;
	slow_ops = *fast_ops;
	slow_ops.write = slow_write;
	w.lower->ops = &slow_ops;
	w.store->age_ns = 100000;
	h = wb_make(&w, "f", O_RDWR);
	atomic_store(&slow_writes, 0);
	/* each time another page, so that memory is used again soon */
	for (unsigned n = 0; atomic_load(&slow_writes) < 40; n++) {
		memset(page, n, sizeof(page));
		assert_int_equal(cw_write(&w, &h, page, PAGE, n % 40 * PAGE, false), PAGE);
		assert_int_equal(cw_read(&w, &h, back, PAGE, n % 40 * PAGE), PAGE);
		assert_memory_equal(back, page, PAGE);
		if (n % 7 == 0) {
			assert_int_equal(
			    cw_write(&w, &h, "tail", 4, 40 * PAGE + n % 900 * 4, false), 4);
		}
	}
	cw_close(&w, &h);
	cw_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_error_is_told_to_each_open_file_once),
	    cmocka_unit_test(what_cannot_be_written_is_dropped_and_told),
	    cmocka_unit_test(after_any_error_nothing_is_lost_that_was_synced),
	    cmocka_unit_test(a_full_disk_is_told_when_it_is_written_to),
	    cmocka_unit_test(random_operations_are_those_of_a_model),
	    cmocka_unit_test(threads_at_once_read_what_is_there),
	    cmocka_unit_test(what_is_on_its_way_down_does_not_change),
	};

	if (getuid() != 0) {
		fprintf(stderr, "skipped: other identities need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
