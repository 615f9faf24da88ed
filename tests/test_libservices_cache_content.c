/* SPDX-License-Identifier: Apache-2.0 */
/* The cache libservice: nobody reads bytes that are not the file's, whoever changes it, also after
 * errors and with several threads. */
#include "tests/lib/cache_model.h"
#include "tests/lib/cache_race.h"

static void what_is_written_is_read_at_once(void **state)
{
	struct cache_world w;
	struct cw_handle h, other;
	char data[3 * PAGE], back[3 * PAGE];

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 3 * PAGE - 100, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDWR);
	other = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &other, 0, 3 * PAGE - 100, 1);
	memset(data, 'x', sizeof(data));
	assert_int_equal(cw_write(&w, &h, data, 10, PAGE - 5, false), 10);
	assert_int_equal(cw_read(&w, &other, back, 10, PAGE - 5), 10);
	assert_memory_equal(back, data, 10);
	cw_check(&w, &other, PAGE + 5, 100, 1);
	/* the last page, which is not full, becomes one that is */
	assert_int_equal(cw_write(&w, &h, data, 50, 0, true), 50);
	assert_int_equal(cw_read(&w, &other, back, PAGE, 3 * PAGE - 200), 150);
	assert_memory_equal(back + 100, data, 50);
	assert_int_equal(cw_read(&w, &other, back, PAGE, 3 * PAGE - 50), 0);
	/* a hole behind it */
	assert_int_equal(cw_write(&w, &h, data, 1, 5 * PAGE, false), 1);
	assert_int_equal(cw_read(&w, &other, back, PAGE, 3 * PAGE - 50), PAGE);
	for (unsigned i = 0; i < PAGE; i++)
		assert_int_equal(back[i], 0);
	cw_close(&w, &other);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void what_is_written_is_below_before_the_write_returns(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	char back[4];
	int fd;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 16 * KIB, 1);
	h = cw_open(&w, "f", O_RDWR);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	assert_int_equal(cw_write(&w, &h, "abcd", 4, PAGE - 2, false), 4);
	fd = open(cw_path(&w, "f"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, 4, PAGE - 2), 4);
	assert_memory_equal(back, "abcd", 4);
	close(fd);
	cw_close(&w, &h);
	cw_stop(&w);
}

/* As by another host: not through the cache. */
static void changes_by_others_are_seen_at_open(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	struct stat st;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 64 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	cw_host_fill(&w, "f", 64 * KIB, 2);
	ls_reopened(w.ls, h.file);
	cw_check(&w, &h, 0, 16 * KIB, 2);
	cw_close(&w, &h);
	/* and after the last close, with a modification time that was put back */
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &h, 0, 16 * KIB, 2);
	cw_close(&w, &h);
	assert_int_equal(stat(cw_path(&w, "f"), &st), 0);
	cw_host_fill(&w, "f", 64 * KIB, 3);
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	assert_int_equal(utimensat(AT_FDCWD, cw_path(&w, "f"), times, 0), 0);
	h = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &h, 0, 16 * KIB, 3);
	/* at once after the change: both bear about the same time */
	for (unsigned seed = 4; seed < 40; seed++) {
		cw_host_fill(&w, "f", 64 * KIB, seed);
		ls_reopened(w.ls, h.file);
		cw_check(&w, &h, 0, 16 * KIB, seed);
		cw_check(&w, &h, 0, 16 * KIB, seed);
	}
	cw_close(&w, &h);
	cw_stop(&w);
}

static void changes_by_others_are_seen_in_time_in_a_file_that_stays_open(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	char page[PAGE];

	cw_start(&w, 4 * MIB);
	w.store->check_ns = CACHE_CHECK_NS;
	cw_host_fill(&w, "f", 64 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	cw_host_fill(&w, "f", 64 * KIB, 2);
	for (;;) { /* the test's own time limit is the bound */
		struct timespec pause = {.tv_nsec = 20000000};

		assert_int_equal(cw_read(&w, &h, page, PAGE, 0), PAGE);
		if (page[1] == (char)cw_byte(1, 2))
			break;
		assert_int_equal(page[1], (char)cw_byte(1, 1));
		nanosleep(&pause, NULL);
	}
	cw_check(&w, &h, 0, 16 * KIB, 2);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void a_change_by_others_before_a_change_of_ours_is_not_lost(void **state)
{
	struct cache_world w;
	struct cw_handle h;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 64 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDWR);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	cw_host_fill(&w, "f", 64 * KIB, 2);
	assert_int_equal(cw_write(&w, &h, "x", 1, 60 * KIB, false), 1);
	cw_check(&w, &h, 0, 16 * KIB, 2);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void errors_below_are_the_callers_and_nothing_is_kept_of_them(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	char page[PAGE] = {0};

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 64 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDWR);
	for (unsigned n = 1; n <= 2; n++) { /* getattr, read */
		cw_fail(&w, -EIO, n, false);
		ssize_t got = cw_read(&w, &h, page, PAGE, 8 * KIB);
		assert_true(n == 2 ? got == -EIO : got == PAGE);
	}
	cw_fail_end(&w);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	/* the write fails, at whichever of its three calls */
	for (unsigned n = 1; n <= 3; n++) {
		cw_fail(&w, -ENOSPC, n, false);
		ssize_t put_bytes = cw_write(&w, &h, "y", 1, 4 * KIB + n, false);
		assert_int_equal(put_bytes, n == 2 ? -ENOSPC : 1);
		cw_fail_end(&w);
		assert_int_equal(cw_read(&w, &h, page, 1, 4 * KIB + n), 1);
		assert_int_equal(page[0], put_bytes == 1 ? 'y' : (char)cw_byte(4 * KIB + n, 1));
	}
	cw_fail(&w, -EIO, 1, false);
	assert_int_equal(ls_fsync(w.ls, h.file, true), -EIO);
	cw_fail_end(&w);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	cw_close(&w, &h);
	cw_stop(&w);
}

/* The Nth call below fails, N swept until none does: what is read afterwards is what is there. */
static void after_any_error_the_bytes_are_right(void **state)
{
	unsigned char data[3 * PAGE], back[3 * PAGE];
	struct attr attr, set = {.size = 2 * PAGE};
	bool failed = true;
	struct cache_world w;
	struct cw_handle h;

	cw_start(&w, 1 * MIB);
	for (unsigned n = 1; failed; n++) {
		int fd;

		assert_true(n < 100);
		cw_host_fill(&w, "f", 64 * KIB, n);
		cw_settle(&w, "f");
		h = cw_open(&w, "f", O_RDWR);
		cw_fail(&w, -EIO, n, false);
		cw_read(&w, &h, data, sizeof(data), 0);
		memset(data, n, sizeof(data));
		cw_write(&w, &h, data, PAGE, 100, false);
		cw_read(&w, &h, data, sizeof(data), PAGE);
		cw_write(&w, &h, data, 10, 0, true);
		ls_allocate(w.ls, h.file, 3, 200, PAGE);
		ls_reopened(w.ls, h.file);
		cw_read(&w, &h, data, sizeof(data), 0);
		ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr);
		failed = cw_fail_end(&w);
		fd = open(cw_path(&w, "f"), O_RDONLY | O_CLOEXEC);
		ssize_t want = pread(fd, back, sizeof(back), 0);
		assert_int_equal(cw_read(&w, &h, data, sizeof(data), 0), want);
		assert_memory_equal(data, back, want);
		close(fd);
		cw_close(&w, &h);
	}
	cw_stop(&w);
}

static void what_was_lost_below_is_told_at_close(void **state)
{
	struct cache_world w;
	struct cw_handle h;

	cw_start(&w, MIB);
	cw_host_fill(&w, "f", 10, 1);
	h = cw_open(&w, "f", O_RDWR);
	assert_int_equal(cw_write(&w, &h, "text", 4, 0, false), 4);
	assert_int_equal(ls_flush(w.ls, h.file), 0);
	cw_fail(&w, -EIO, 1, false);
	assert_int_equal(ls_flush(w.ls, h.file), -EIO);
	cw_fail_end(&w);
	cw_close(&w, &h);
	cw_stop(&w);
}

/* By another host: not through the cache. Seen at the next open, which follows. */
static void foreign_write(struct cache_model *m)
{
	cw_host_write(&m->w, "f", m->data, m->len, m->offset);
	model_has(m, m->offset, m->data);
	if (model_random(m, 2))
		ls_reopened(m->w.ls, m->h.file);
	else
		model_reopen(m);
}

static void chmod_file(struct cache_model *m)
{
	struct attr attr, set = {.mode = 0600 + model_random(m, 8)};

	assert_int_equal(ls_setattr(m->w.ls, m->w.cred, m->h.node, NULL, ATTR_MODE, &set, &attr),
			 0);
}

static void step(struct cache_model *m)
{
	model_next(m);
	switch (m->op) {
	case 0:
	case 1:
	case 2:
		model_write(m);
		break;
	case 3:
		model_append(m);
		break;
	case 4:
		if (!model_random(m, 4))
			model_truncate(m);
		break;
	case 5:
		model_punch(m);
		break;
	case 6:
		model_allocate(m);
		break;
	case 7:
		chmod_file(m);
		break;
	case 8:
		if (!model_random(m, 8))
			foreign_write(m);
		break;
	case 9:
		model_reopen(m);
		break;
	default:
		model_read(m);
	}
	model_check_size(m);
}

/* Somebody else changes the file now and then. */
static void random_operations_are_those_of_a_model(void **state)
{
	struct cache_model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->random = 1;
	cw_start(&m->w, 1 * MIB);
	cw_host_write(&m->w, "f", "", 0, 0);
	m->h = cw_open(&m->w, "f", O_RDWR);
	for (unsigned i = 0; i < 6000; i++)
		step(m);
	cw_close(&m->w, &m->h);
	cw_stop(&m->w);
	free(m);
}

#define RACE_PAGES  8u
#define RACE_ROUNDS 1500u

static void *race_writer(void *arg)
{
	struct cache_race *race = arg;

	cred_assume(race->w.cred, race->w.cred->caps);
	for (uint32_t n = 1; n <= RACE_ROUNDS; n++) {
		for (unsigned p = 0; p < RACE_PAGES; p++)
			race_write(race, n, PAGE, p * PAGE);
		atomic_store(&race->last[0], n);
	}
	atomic_store(&race->ends, true);
	return NULL;
}

static void *race_reader(void *arg)
{
	struct cache_race *race = arg;
	uint32_t seen[RACE_PAGES] = {0};
	bool last;

	do {
		last = atomic_load(&race->ends);
		for (unsigned p = 0; p < RACE_PAGES; p++)
			race_read(race, &race->other, 0, PAGE, p * PAGE, &seen[p]);
	} while (!last);
	for (unsigned p = 0; p < RACE_PAGES; p++)
		if (seen[p] != RACE_ROUNDS)
			abort();
	return NULL;
}

/* Takes the pages away while others read. */
static void *race_scanner(void *arg)
{
	struct cache_race *race = arg;
	struct cw_handle scan = cw_open(&race->w, "scan", O_RDONLY);

	while (!atomic_load(&race->ends))
		for (unsigned offset = 0; offset < 2 * MIB; offset += 16 * KIB)
			cw_check(&race->w, &scan, offset, 16 * KIB, 9);
	cw_close(&race->w, &scan);
	return NULL;
}

static void threads_at_once_read_what_is_there(void **state)
{
	void *(*const mains[])(void *) = {race_writer, race_reader, race_reader, race_scanner};
	static struct cache_race race;
	pthread_t threads[4];

	memset(&race, 0, sizeof(race));
	cw_start(&race.w, 1 * MIB);
	cw_host_write(&race.w, "f", "", 0, 0);
	assert_int_equal(truncate(cw_path(&race.w, "f"), RACE_PAGES * PAGE), 0);
	cw_host_fill(&race.w, "scan", 2 * MIB, 9);
	race.h = cw_open(&race.w, "f", O_RDWR);
	race.other = cw_open(&race.w, "f", O_RDONLY);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mains[i], &race), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cw_close(&race.w, &race.h);
	cw_close(&race.w, &race.other);
	cw_stop(&race.w);
}

/* The whole vfs on top: what a program would see. */
static void the_vfs_looks_at_each_open(void **state)
{
	struct libservice *ls;
	struct env env;
	struct vfile *file;
	struct err err = {""};
	char spec[128], data[8];
	struct vfs_instance *instance;

	env_start(&env, false);
	snprintf(spec, sizeof(spec), "cache:[local:%s]", env.dir);
	assert_int_equal(stack_open(spec, NULL, &ls, &err), 0);
	ls->cacheable = false; /* as over storage that others change: no windows */
	assert_int_equal(vfs_instance_add(env.vfs, "c", "/cached", ls, &instance, &err), 0);
	struct vtarget at = {.dir = vfs_instance_root(instance), .path = "f"};
	for (char c = 'a'; c <= 'z'; c++) {
		int fd = open(env_host(&env, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		memset(data, c, sizeof(data));
		assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
		close(fd);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(vfs_open(&env.ctx, &at, O_RDONLY, 0, &file, NULL), 0);
			assert_int_equal(env_read(&env.ctx, file, data, sizeof(data), 0),
					 sizeof(data));
			assert_int_equal(data[0], c);
			assert_int_equal(data[7], c);
			vfile_unref(file);
		}
	}
	env_stop(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_written_is_read_at_once),
	    cmocka_unit_test(what_is_written_is_below_before_the_write_returns),
	    cmocka_unit_test(changes_by_others_are_seen_at_open),
	    cmocka_unit_test(changes_by_others_are_seen_in_time_in_a_file_that_stays_open),
	    cmocka_unit_test(a_change_by_others_before_a_change_of_ours_is_not_lost),
	    cmocka_unit_test(errors_below_are_the_callers_and_nothing_is_kept_of_them),
	    cmocka_unit_test(after_any_error_the_bytes_are_right),
	    cmocka_unit_test(random_operations_are_those_of_a_model),
	    cmocka_unit_test(threads_at_once_read_what_is_there),
	    cmocka_unit_test(the_vfs_looks_at_each_open),
	    cmocka_unit_test(what_was_lost_below_is_told_at_close),
	};

	return env_run(tests);
}
