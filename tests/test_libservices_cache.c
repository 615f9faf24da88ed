/* SPDX-License-Identifier: Apache-2.0 */
/* The cache libservice: what it keeps, for how long and in how much memory, and whose it is. */
#include "tests/lib/cache_world.h"

static void what_was_read_is_read_again_without_a_call_below(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	uint64_t before;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 100 * KIB + 123, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	for (unsigned offset = 0; offset < 100 * KIB; offset += 4 * KIB)
		cw_check(&w, &h, offset, 4 * KIB, 1);
	cw_check(&w, &h, 100 * KIB, 123, 1);
	before = cw_calls(&w);
	cw_check(&w, &h, 5, 16 * KIB, 1);
	cw_check(&w, &h, 96 * KIB, 4 * KIB + 123, 1);
	cw_check(&w, &h, 100 * KIB + 120, 3, 1);
	assert_int_equal(cw_calls(&w), before);
	/* another program's open asks once, and the pages stay */
	ls_reopened(w.ls, h.file);
	assert_int_equal(cw_calls(&w), before + 1);
	cw_check(&w, &h, 5, 16 * KIB, 1);
	assert_int_equal(cw_calls(&w), before + 1);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void readahead_asks_for_more_than_is_wanted(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	uint64_t before;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 512 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	before = cw_calls(&w);
	for (unsigned offset = 0; offset < 512 * KIB; offset += 4 * KIB)
		cw_check(&w, &h, offset, 4 * KIB, 1);
	assert_true(cw_calls(&w) - before < 16); /* and not 128 */
	cw_close(&w, &h);
	/* at random: what is wanted, no more */
	cw_host_fill(&w, "g", 512 * KIB, 2);
	cw_settle(&w, "g");
	h = cw_open(&w, "g", O_RDONLY);
	cw_check(&w, &h, 300 * KIB, 4 * KIB, 2);
	cw_check(&w, &h, 100 * KIB, 4 * KIB, 2);
	assert_int_equal(cw_pages(&w, &h, 128), 2);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void pages_outlive_the_last_close(void **state)
{
	struct cache_world w;
	struct cw_handle h;

	cw_start(&w, 4 * MIB);
	cw_host_fill(&w, "f", 64 * KIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	cw_check(&w, &h, 0, 16 * KIB, 1);
	cw_close(&w, &h);
	h = cw_open(&w, "f", O_RDONLY);
	assert_true(cw_pages(&w, &h, 16) >= 4);
	cw_close(&w, &h);
	/* but not the file */
	h = cw_open(&w, "f", O_RDONLY);
	assert_int_equal(ls_unlink(w.ls, w.cred, w.root, "f", false), 0);
	assert_true(cw_pages(&w, &h, 16) >= 4);
	cw_close(&w, &h);
	struct cache_counts counts;
	cache_store_count(w.store, &counts);
	assert_int_equal(counts.pages, 0);
	cw_stop(&w);
}

static void the_budget_is_kept(void **state)
{
	struct cache_counts counts;
	struct cache_world w;
	struct cw_handle h;

	cw_start(&w, 1 * MIB);
	cw_host_fill(&w, "f", 5 * MIB, 1);
	cw_settle(&w, "f");
	h = cw_open(&w, "f", O_RDONLY);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned offset = 0; offset < 5 * MIB; offset += 16 * KIB) {
			cw_check(&w, &h, offset, 16 * KIB, 1);
			cache_store_count(w.store, &counts);
			assert_true(counts.bytes <= counts.budget);
			assert_true(counts.pages * PAGE <= counts.bytes);
		}
	}
	assert_int_equal(counts.budget, 1 * MIB);
	assert_true(counts.pages * PAGE > 500 * KIB); /* and made use of */
	cw_close(&w, &h);
	cw_stop(&w);
}

static void a_scan_does_not_empty_the_cache(void **state)
{
	struct cache_world w;
	struct cw_handle h, scan;
	char small[KIB];

	cw_start(&w, 2 * MIB);
	cw_host_fill(&w, "f", 512 * KIB, 1);
	cw_host_fill(&w, "scan", 16 * MIB, 2);
	cw_settle(&w, "f");
	cw_settle(&w, "scan");
	h = cw_open(&w, "f", O_RDONLY);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned offset = 0; offset < 512 * KIB; offset += 4 * KIB)
			cw_check(&w, &h, offset, 4 * KIB, 1);
	scan = cw_open(&w, "scan", O_RDONLY);
	for (unsigned offset = 0; offset < 8 * MIB; offset += 16 * KIB)
		cw_check(&w, &scan, offset, 16 * KIB, 2);
	/* in pieces of a page, too */
	for (unsigned offset = 8 * MIB; offset < 16 * MIB; offset += KIB)
		assert_int_equal(cw_read(&w, &scan, small, KIB, offset), KIB);
	assert_int_equal(cw_pages(&w, &h, 128), 128);
	cw_close(&w, &scan);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void what_was_used_once_goes_for_what_is_used_now(void **state)
{
	struct cache_world w;
	struct cw_handle h, other;

	cw_start(&w, 1 * MIB);
	cw_host_fill(&w, "f", 800 * KIB, 1);
	cw_host_fill(&w, "g", 800 * KIB, 2);
	cw_settle(&w, "f");
	cw_settle(&w, "g");
	h = cw_open(&w, "f", O_RDONLY);
	other = cw_open(&w, "g", O_RDONLY);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned offset = 0; offset < 800 * KIB; offset += 16 * KIB)
			cw_check(&w, &h, offset, 16 * KIB, 1);
	/* even hot pages go when others are used again and again */
	for (unsigned round = 0; round < 12; round++)
		for (unsigned offset = 0; offset < 160 * KIB; offset += 16 * KIB)
			cw_check(&w, &other, offset, 16 * KIB, 2);
	assert_int_equal(cw_pages(&w, &other, 40), 40);
	cw_close(&w, &other);
	cw_close(&w, &h);
	cw_stop(&w);
}

static int open_spec(struct cache_store *store, const char *format, const char *dir,
		     struct libservice **ret)
{
	struct stack_limits limits = {.caches = store};
	struct err err = {""};
	char spec[256];
	int r;

	snprintf(spec, sizeof(spec), format, dir, dir, dir);
	r = stack_open(spec, &limits, ret, &err);
	if (r < 0)
		assert_true(strlen(err.text) > 0);
	return r;
}

static void one_source_has_one_cache_in_a_pool(void **state)
{
	struct libservice *first, *second, *third;
	struct ls_node *root[2], *node[2];
	struct ls_file *file[2];
	struct cache_store *store;
	struct cred *cred = cred_root();
	unsigned fds = env_count_fds();
	char dir[64], path[128], data[8];
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
	struct attr attr;

	env_mkdir(dir);
	snprintf(path, sizeof(path), "%s/d", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/f", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "12345678", 8), 8);
	close(fd);
	assert_int_equal(cache_store_new(MIB, &store), 0);
	assert_int_equal(open_spec(store, "cache:[local:%s]", dir, &first), 0);
	assert_int_equal(open_spec(store, "cache:[local:%s,ro]", dir, &second), 0);
	/* the vfs keeps no data for the one, when the other may change it */
	assert_false(first->cacheable);
	assert_false(second->cacheable);
	struct libservice *both[2] = {first, second};
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ls_root(both[i], &root[i], &attr), 0);
		assert_int_equal(ls_lookup(both[i], cred, root[i], "f", &node[i], &attr), 0);
		assert_int_equal(ls_open(both[i], cred, node[i], i ? O_RDONLY : O_RDWR, &file[i]),
				 0);
	}
	/* read-only is the volume's own */
	assert_int_equal(ls_unlink(second, cred, root[1], "f", false), -EROFS);
	/* what the one writes, the other reads, at once */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(ls_read(second, file[1], &iov, 1, 0), 8);
		memset(data, 'a' + i % 26, 8);
		assert_int_equal(ls_write(first, file[0], &iov, 1, 0, false, NULL), 8);
		memset(data, 0, 8);
		assert_int_equal(ls_read(second, file[1], &iov, 1, 0), 8);
		assert_int_equal(data[7], 'a' + i % 26);
	}
	/* a part of it, the whole of it otherwise, it twice over: no */
	assert_int_equal(open_spec(store, "cache:[local:%s/d]", dir, &third), -EBUSY);
	assert_int_equal(
	    open_spec(store, "cache:[union:[local:%s/d,rw][local:/usr,ro]]", dir, &third), -EBUSY);
	assert_int_equal(open_spec(store, "cache:[cache:[local:%s]]", dir, &third), -EBUSY);
	assert_int_equal(open_spec(store, "cache:[local:%s-none]", dir, &third), -ENOENT);
	for (unsigned i = 0; i < 2; i++) {
		ls_release(both[i], file[i]);
		ls_forget(both[i], node[i], 1);
		ls_forget(both[i], root[i], 1);
		ls_free(both[i]);
	}
	/* what nobody writes may be below many */
	assert_int_equal(
	    open_spec(store, "cache:[union:[local:%s,ro][local:/usr,ro]]", dir, &first), 0);
	assert_int_equal(
	    open_spec(store, "cache:[union:[local:%s/d,ro][local:/usr,ro]]", dir, &second), 0);
	ls_free(first);
	ls_free(second);
	cache_store_free(store);
	cred_unref(cred);
	env_remove_tree(dir);
	assert_int_equal(env_count_fds(), fds);
}

static void a_cache_without_a_pool_has_its_own_store(void **state)
{
	struct libservice *ls;

	assert_int_equal(open_spec(NULL, "cache:[local:/usr]", "", &ls), 0);
	assert_true(ls->cacheable);
	ls_free(ls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_read_is_read_again_without_a_call_below),
	    cmocka_unit_test(readahead_asks_for_more_than_is_wanted),
	    cmocka_unit_test(pages_outlive_the_last_close),
	    cmocka_unit_test(the_budget_is_kept),
	    cmocka_unit_test(a_scan_does_not_empty_the_cache),
	    cmocka_unit_test(what_was_used_once_goes_for_what_is_used_now),
	    cmocka_unit_test(one_source_has_one_cache_in_a_pool),
	    cmocka_unit_test(a_cache_without_a_pool_has_its_own_store),
	};

	return env_run(tests);
}
