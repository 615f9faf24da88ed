/* SPDX-License-Identifier: Apache-2.0 */
/* The cache libservice over local and fault: what it keeps, for how long, and that nobody reads
 * bytes that are not the file's. */
#include "danaus/service/cache_internal.h"
#include "tests/lib/vfs_env.h"

#include <pthread.h>

#define PAGE 4096u
#define KIB  1024u
#define MIB  (1024u * KIB)

struct world {
	char dir[64];
	struct libservice *ls, *lower;
	struct cache_store *store;
	struct fault_plan plan; /* of what is below the cache */
	struct cred *cred;
	struct ls_node *root;
	struct attr attr;
	unsigned fds;
};

static const struct stack_source source_of_local = {.name = "local", .path = "/"};
static const struct stack_source source_of_cache = {
    .name = "cache", .nlower = 1, .lower = {(struct stack_source *)&source_of_local}};

/* The clock makes no calls of its own. */
static void start(struct world *w, uint64_t budget)
{
	struct stack_limits limits = {0};
	struct err err = {""};

	memset(w, 0, sizeof(*w));
	w->fds = env_count_fds();
	snprintf(w->dir, sizeof(w->dir), "%s/danaus-test-XXXXXX", env_base());
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chmod(w->dir, 0777), 0);
	assert_int_equal(cache_store_new(budget, &w->store), 0);
	assert_int_equal(local_new(w->dir, &w->lower, &err), 0);
	assert_int_equal(fault_new(w->lower, &w->plan, &w->lower), 0);
	w->lower->cacheable = true; /* as local is */
	w->store->check_ns = UINT64_MAX / 4;
	limits.caches = w->store;
	assert_int_equal(cache_open(&source_of_cache, &limits, &w->lower, &w->ls, &err), 0);
	w->cred = cred_root();
	assert_int_equal(ls_root(w->ls, &w->root, &w->attr), 0);
}

static void stop(struct world *w)
{
	struct cache_counts counts;

	ls_forget(w->ls, w->root, 1);
	ls_free(w->ls);
	cache_store_count(w->store, &counts);
	assert_false(counts.used);
	assert_int_equal(counts.pages, 0);
	assert_int_equal(counts.bytes, 0);
	cache_store_free(w->store);
	cred_unref(w->cred);
	env_remove_tree(w->dir);
	assert_int_equal(env_count_fds(), w->fds);
}

static const char *host(struct world *w, const char *name)
{
	static __thread char path[128];

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	return path;
}

/* Written by somebody else, and long ago. */
static void host_write(struct world *w, const char *name, const void *data, size_t len,
		       uint64_t offset)
{
	int fd = open(host(w, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
	close(fd);
}

static unsigned char byte_at(uint64_t offset, unsigned seed)
{
	return (offset / 7 + offset / PAGE * 31 + seed) & 0xff;
}

static void host_fill(struct world *w, const char *name, size_t len, unsigned seed)
{
	unsigned char *data = malloc(len);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = byte_at(i, seed);
	host_write(w, name, data, len, 0);
	free(data);
}

struct handle {
	struct ls_node *node;
	struct ls_file *file;
};

static struct handle use(struct world *w, const char *name, int flags)
{
	struct handle h;
	struct attr attr;

	assert_int_equal(ls_lookup(w->ls, w->cred, w->root, name, &h.node, &attr), 0);
	assert_int_equal(ls_open(w->ls, w->cred, h.node, flags, &h.file), 0);
	return h;
}

static void end_use(struct world *w, struct handle *h)
{
	ls_release(w->ls, h->file);
	ls_forget(w->ls, h->node, 1);
}

static ssize_t get(struct world *w, struct handle *h, void *data, size_t len, uint64_t offset)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};

	return ls_read(w->ls, h->file, &iov, 1, offset);
}

static ssize_t put(struct world *w, struct handle *h, const void *data, size_t len, uint64_t offset,
		   bool append)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};

	return ls_write(w->ls, h->file, &iov, 1, offset, append, NULL);
}

static void check_bytes(struct world *w, struct handle *h, uint64_t offset, size_t len,
			unsigned seed)
{
	unsigned char data[16 * KIB];

	assert_true(len <= sizeof(data));
	assert_int_equal(get(w, h, data, len, offset), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], byte_at(offset + i, seed));
}

/* The file's times are too old to be mistaken for later ones. */
static void settle(struct world *w, const char *name)
{
	struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct timespec now;
	struct stat st;

	assert_int_equal(utimensat(AT_FDCWD, host(w, name), past, 0), 0);
	assert_int_equal(stat(host(w, name), &st), 0);
	/* waits for an event: the clock is past what counts as recent after the change */
	do {
		struct timespec pause = {.tv_nsec = 5000000};

		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_REALTIME, &now);
	} while ((now.tv_sec - st.st_ctim.tv_sec) * 1000000000ll + now.tv_nsec -
		     st.st_ctim.tv_nsec <
		 60000000);
}

/* Calls below the cache meanwhile. */
static uint64_t calls(struct world *w)
{
	return atomic_load(&w->plan.calls);
}

/* How many pages of name are read without a call below. */
static unsigned pages_there(struct world *w, struct handle *h, unsigned npages)
{
	unsigned there = 0;
	char page[PAGE];

	for (unsigned i = 0; i < npages; i++) {
		uint64_t before = calls(w);

		/* one that fails is one that is not there, and changes nothing */
		atomic_store(&w->plan.error, -EIO);
		atomic_store(&w->plan.first, before + 1);
		atomic_store(&w->plan.to_the_end, true);
		there += get(w, h, page, PAGE, (uint64_t)i * PAGE) == PAGE;
		atomic_store(&w->plan.first, 0);
		atomic_store(&w->plan.to_the_end, false);
	}
	return there;
}

static void what_was_read_is_read_again_without_a_call_below(void **state)
{
	struct world w;
	struct handle h;
	uint64_t before;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 100 * KIB + 123, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	for (unsigned offset = 0; offset < 100 * KIB; offset += 4 * KIB)
		check_bytes(&w, &h, offset, 4 * KIB, 1);
	check_bytes(&w, &h, 100 * KIB, 123, 1);
	before = calls(&w);
	check_bytes(&w, &h, 5, 16 * KIB, 1);
	check_bytes(&w, &h, 96 * KIB, 4 * KIB + 123, 1);
	check_bytes(&w, &h, 100 * KIB + 120, 3, 1);
	assert_int_equal(calls(&w), before);
	/* another program's open asks once, and the pages stay */
	ls_reopened(w.ls, h.file);
	assert_int_equal(calls(&w), before + 1);
	check_bytes(&w, &h, 5, 16 * KIB, 1);
	assert_int_equal(calls(&w), before + 1);
	end_use(&w, &h);
	stop(&w);
}

static void readahead_asks_for_more_than_is_wanted(void **state)
{
	struct world w;
	struct handle h;
	uint64_t before;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 512 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	before = calls(&w);
	for (unsigned offset = 0; offset < 512 * KIB; offset += 4 * KIB)
		check_bytes(&w, &h, offset, 4 * KIB, 1);
	assert_true(calls(&w) - before < 16); /* and not 128 */
	end_use(&w, &h);
	/* at random: what is wanted, no more */
	host_fill(&w, "g", 512 * KIB, 2);
	settle(&w, "g");
	h = use(&w, "g", O_RDONLY);
	check_bytes(&w, &h, 300 * KIB, 4 * KIB, 2);
	check_bytes(&w, &h, 100 * KIB, 4 * KIB, 2);
	assert_int_equal(pages_there(&w, &h, 128), 2);
	end_use(&w, &h);
	stop(&w);
}

static void pages_outlive_the_last_close(void **state)
{
	struct world w;
	struct handle h;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 64 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	end_use(&w, &h);
	h = use(&w, "f", O_RDONLY);
	assert_true(pages_there(&w, &h, 16) >= 4);
	end_use(&w, &h);
	/* but not the file */
	h = use(&w, "f", O_RDONLY);
	assert_int_equal(ls_unlink(w.ls, w.cred, w.root, "f", false), 0);
	assert_true(pages_there(&w, &h, 16) >= 4);
	end_use(&w, &h);
	struct cache_counts counts;
	cache_store_count(w.store, &counts);
	assert_int_equal(counts.pages, 0);
	stop(&w);
}

static void the_budget_is_kept(void **state)
{
	struct cache_counts counts;
	struct world w;
	struct handle h;

	start(&w, 1 * MIB);
	host_fill(&w, "f", 5 * MIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned offset = 0; offset < 5 * MIB; offset += 16 * KIB) {
			check_bytes(&w, &h, offset, 16 * KIB, 1);
			cache_store_count(w.store, &counts);
			assert_true(counts.bytes <= counts.budget);
			assert_true(counts.pages * PAGE <= counts.bytes);
		}
	}
	assert_int_equal(counts.budget, 1 * MIB);
	assert_true(counts.pages * PAGE > 500 * KIB); /* and made use of */
	end_use(&w, &h);
	stop(&w);
}

static void a_scan_does_not_empty_the_cache(void **state)
{
	struct world w;
	struct handle h, scan;
	char small[KIB];

	start(&w, 2 * MIB);
	host_fill(&w, "f", 512 * KIB, 1);
	host_fill(&w, "scan", 16 * MIB, 2);
	settle(&w, "f");
	settle(&w, "scan");
	h = use(&w, "f", O_RDONLY);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned offset = 0; offset < 512 * KIB; offset += 4 * KIB)
			check_bytes(&w, &h, offset, 4 * KIB, 1);
	scan = use(&w, "scan", O_RDONLY);
	for (unsigned offset = 0; offset < 8 * MIB; offset += 16 * KIB)
		check_bytes(&w, &scan, offset, 16 * KIB, 2);
	/* in pieces of a page, too */
	for (unsigned offset = 8 * MIB; offset < 16 * MIB; offset += KIB)
		assert_int_equal(get(&w, &scan, small, KIB, offset), KIB);
	assert_int_equal(pages_there(&w, &h, 128), 128);
	end_use(&w, &scan);
	end_use(&w, &h);
	stop(&w);
}

static void what_was_used_once_goes_for_what_is_used_now(void **state)
{
	struct world w;
	struct handle h, other;

	start(&w, 1 * MIB);
	host_fill(&w, "f", 800 * KIB, 1);
	host_fill(&w, "g", 800 * KIB, 2);
	settle(&w, "f");
	settle(&w, "g");
	h = use(&w, "f", O_RDONLY);
	other = use(&w, "g", O_RDONLY);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned offset = 0; offset < 800 * KIB; offset += 16 * KIB)
			check_bytes(&w, &h, offset, 16 * KIB, 1);
	/* even hot pages go when others are used again and again */
	for (unsigned round = 0; round < 12; round++)
		for (unsigned offset = 0; offset < 160 * KIB; offset += 16 * KIB)
			check_bytes(&w, &other, offset, 16 * KIB, 2);
	assert_int_equal(pages_there(&w, &other, 40), 40);
	end_use(&w, &other);
	end_use(&w, &h);
	stop(&w);
}

static void what_is_written_is_read_at_once(void **state)
{
	struct world w;
	struct handle h, other;
	char data[3 * PAGE], back[3 * PAGE];

	start(&w, 4 * MIB);
	host_fill(&w, "f", 3 * PAGE - 100, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDWR);
	other = use(&w, "f", O_RDONLY);
	check_bytes(&w, &other, 0, 3 * PAGE - 100, 1);
	memset(data, 'x', sizeof(data));
	assert_int_equal(put(&w, &h, data, 10, PAGE - 5, false), 10);
	assert_int_equal(get(&w, &other, back, 10, PAGE - 5), 10);
	assert_memory_equal(back, data, 10);
	check_bytes(&w, &other, PAGE + 5, 100, 1);
	/* the last page, which is not full, becomes one that is */
	assert_int_equal(put(&w, &h, data, 50, 0, true), 50);
	assert_int_equal(get(&w, &other, back, PAGE, 3 * PAGE - 200), 150);
	assert_memory_equal(back + 100, data, 50);
	assert_int_equal(get(&w, &other, back, PAGE, 3 * PAGE - 50), 0);
	/* a hole behind it */
	assert_int_equal(put(&w, &h, data, 1, 5 * PAGE, false), 1);
	assert_int_equal(get(&w, &other, back, PAGE, 3 * PAGE - 50), PAGE);
	for (unsigned i = 0; i < PAGE; i++)
		assert_int_equal(back[i], 0);
	end_use(&w, &other);
	end_use(&w, &h);
	stop(&w);
}

/* As by another host: not through the cache. */
static void changes_by_others_are_seen_at_open(void **state)
{
	struct world w;
	struct handle h;
	struct stat st;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 64 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	host_fill(&w, "f", 64 * KIB, 2);
	ls_reopened(w.ls, h.file);
	check_bytes(&w, &h, 0, 16 * KIB, 2);
	end_use(&w, &h);
	/* and after the last close, with a modification time that was put back */
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	check_bytes(&w, &h, 0, 16 * KIB, 2);
	end_use(&w, &h);
	assert_int_equal(stat(host(&w, "f"), &st), 0);
	host_fill(&w, "f", 64 * KIB, 3);
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	assert_int_equal(utimensat(AT_FDCWD, host(&w, "f"), times, 0), 0);
	h = use(&w, "f", O_RDONLY);
	check_bytes(&w, &h, 0, 16 * KIB, 3);
	/* at once after the change: both bear about the same time */
	for (unsigned seed = 4; seed < 40; seed++) {
		host_fill(&w, "f", 64 * KIB, seed);
		ls_reopened(w.ls, h.file);
		check_bytes(&w, &h, 0, 16 * KIB, seed);
		check_bytes(&w, &h, 0, 16 * KIB, seed);
	}
	end_use(&w, &h);
	stop(&w);
}

static void changes_by_others_are_seen_in_time_in_a_file_that_stays_open(void **state)
{
	struct world w;
	struct handle h;
	char page[PAGE];

	start(&w, 4 * MIB);
	w.store->check_ns = CACHE_CHECK_NS;
	host_fill(&w, "f", 64 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDONLY);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	host_fill(&w, "f", 64 * KIB, 2);
	for (;;) { /* the test's own time limit is the bound */
		struct timespec pause = {.tv_nsec = 20000000};

		assert_int_equal(get(&w, &h, page, PAGE, 0), PAGE);
		if (page[1] == (char)byte_at(1, 2))
			break;
		assert_int_equal(page[1], (char)byte_at(1, 1));
		nanosleep(&pause, NULL);
	}
	check_bytes(&w, &h, 0, 16 * KIB, 2);
	end_use(&w, &h);
	stop(&w);
}

static void a_change_by_others_before_a_change_of_ours_is_not_lost(void **state)
{
	struct world w;
	struct handle h;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 64 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDWR);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	host_fill(&w, "f", 64 * KIB, 2);
	assert_int_equal(put(&w, &h, "x", 1, 60 * KIB, false), 1);
	check_bytes(&w, &h, 0, 16 * KIB, 2);
	end_use(&w, &h);
	stop(&w);
}

static void errors_below_are_the_callers_and_nothing_is_kept_of_them(void **state)
{
	struct world w;
	struct handle h;
	char page[PAGE] = {0};

	start(&w, 4 * MIB);
	host_fill(&w, "f", 64 * KIB, 1);
	settle(&w, "f");
	h = use(&w, "f", O_RDWR);
	for (unsigned n = 1; n <= 2; n++) { /* getattr, read */
		atomic_store(&w.plan.error, -EIO);
		atomic_store(&w.plan.first, calls(&w) + n);
		ssize_t got = get(&w, &h, page, PAGE, 8 * KIB);
		assert_true(n == 2 ? got == -EIO : got == PAGE);
	}
	atomic_store(&w.plan.first, 0);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	/* the write fails, at whichever of its three calls */
	for (unsigned n = 1; n <= 3; n++) {
		atomic_store(&w.plan.error, -ENOSPC);
		atomic_store(&w.plan.first, calls(&w) + n);
		ssize_t put_bytes = put(&w, &h, "y", 1, 4 * KIB + n, false);
		assert_int_equal(put_bytes, n == 2 ? -ENOSPC : 1);
		atomic_store(&w.plan.first, 0);
		assert_int_equal(get(&w, &h, page, 1, 4 * KIB + n), 1);
		assert_int_equal(page[0], put_bytes == 1 ? 'y' : (char)byte_at(4 * KIB + n, 1));
	}
	atomic_store(&w.plan.error, -EIO);
	atomic_store(&w.plan.first, calls(&w) + 1);
	assert_int_equal(ls_fsync(w.ls, h.file, true), -EIO);
	atomic_store(&w.plan.first, 0);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	end_use(&w, &h);
	stop(&w);
}

/* The Nth call below fails, N swept until none does: what is read afterwards is what is there. */
static void after_any_error_the_bytes_are_right(void **state)
{
	unsigned char data[3 * PAGE], back[3 * PAGE];
	struct attr attr, set = {.size = 2 * PAGE};
	bool failed = true;
	struct world w;
	struct handle h;

	start(&w, 1 * MIB);
	atomic_store(&w.plan.error, -EIO);
	for (unsigned n = 1; failed; n++) {
		int fd;

		assert_true(n < 100);
		host_fill(&w, "f", 64 * KIB, n);
		settle(&w, "f");
		h = use(&w, "f", O_RDWR);
		atomic_store(&w.plan.first, calls(&w) + n);
		get(&w, &h, data, sizeof(data), 0);
		memset(data, n, sizeof(data));
		put(&w, &h, data, PAGE, 100, false);
		get(&w, &h, data, sizeof(data), PAGE);
		put(&w, &h, data, 10, 0, true);
		ls_allocate(w.ls, h.file, 3, 200, PAGE);
		ls_reopened(w.ls, h.file);
		get(&w, &h, data, sizeof(data), 0);
		ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr);
		failed = calls(&w) >= atomic_load(&w.plan.first);
		atomic_store(&w.plan.first, 0);
		fd = open(host(&w, "f"), O_RDONLY | O_CLOEXEC);
		ssize_t want = pread(fd, back, sizeof(back), 0);
		assert_int_equal(get(&w, &h, data, sizeof(data), 0), want);
		assert_memory_equal(data, back, want);
		close(fd);
		end_use(&w, &h);
	}
	stop(&w);
}

static void what_is_written_is_below_before_the_write_returns(void **state)
{
	struct world w;
	struct handle h;
	char back[4];
	int fd;

	start(&w, 4 * MIB);
	host_fill(&w, "f", 16 * KIB, 1);
	h = use(&w, "f", O_RDWR);
	check_bytes(&w, &h, 0, 16 * KIB, 1);
	assert_int_equal(put(&w, &h, "abcd", 4, PAGE - 2, false), 4);
	fd = open(host(&w, "f"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, 4, PAGE - 2), 4);
	assert_memory_equal(back, "abcd", 4);
	close(fd);
	end_use(&w, &h);
	stop(&w);
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

static void what_was_lost_below_is_told_at_close(void **state)
{
	struct world w;
	struct handle h;

	start(&w, MIB);
	host_fill(&w, "f", 10, 1);
	h = use(&w, "f", O_RDWR);
	assert_int_equal(put(&w, &h, "text", 4, 0, false), 4);
	assert_int_equal(ls_flush(w.ls, h.file), 0);
	atomic_store(&w.plan.error, -EIO);
	atomic_store(&w.plan.first, atomic_load(&w.plan.calls) + 1);
	assert_int_equal(ls_flush(w.ls, h.file), -EIO);
	atomic_store(&w.plan.first, 0);
	end_use(&w, &h);
	stop(&w);
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

	snprintf(dir, sizeof(dir), "%s/danaus-test-XXXXXX", env_base());
	assert_non_null(mkdtemp(dir));
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

/* Random operations on a file of the cache, compared with a copy in memory, while somebody else
 * changes it now and then. */
static void random_operations_are_those_of_a_model(void **state)
{
	enum { MOST = 200 * KIB };
	unsigned char *model = malloc(MOST), *data = malloc(MOST);
	uint64_t random = 1;
	struct attr attr, set;
	size_t size = 0;
	struct world w;
	struct handle h;

#define RND(n) ((random = random * 6364136223846793005u + 1442695040888963407u) >> 33) % (n)
	assert_non_null(model);
	assert_non_null(data);
	memset(model, 0, MOST);
	start(&w, 1 * MIB);
	host_write(&w, "f", "", 0, 0);
	h = use(&w, "f", O_RDWR);
	for (unsigned step = 0; step < 6000; step++) {
		uint64_t offset = RND(MOST - 20 * KIB), len = 1 + RND(16 * KIB);
		unsigned op = RND(16);
		int fd;

		if (RND(2))
			len = 1 + len % 300;
		memset(data, 1 + RND(255), len);
		switch (op) {
		case 0:
		case 1:
		case 2:
			assert_int_equal(put(&w, &h, data, len, offset, false), len);
			memcpy(model + offset, data, len);
			size = offset + len > size ? offset + len : size;
			break;
		case 3:
			if (size + len > MOST)
				break;
			assert_int_equal(put(&w, &h, data, len, 0, true), len);
			memcpy(model + size, data, len);
			size += len;
			break;
		case 4:
			if (RND(4))
				break;
			set.size = offset;
			assert_int_equal(ls_setattr(w.ls, w.cred, h.node, RND(2) ? h.file : NULL,
						    ATTR_SIZE, &set, &attr),
					 0);
			if (offset < size)
				memset(model + offset, 0, size - offset);
			size = offset;
			break;
		case 5: /* PUNCH_HOLE | KEEP_SIZE */
			assert_int_equal(ls_allocate(w.ls, h.file, 3, offset, len), 0);
			memset(model + offset, 0, len);
			break;
		case 6:
			assert_int_equal(ls_allocate(w.ls, h.file, 0, offset, len), 0);
			size = offset + len > size ? offset + len : size;
			break;
		case 7:
			set.mode = 0600 + RND(8);
			assert_int_equal(
			    ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_MODE, &set, &attr), 0);
			break;
		case 8:
			if (RND(8))
				break;
			fd = open(host(&w, "f"), O_WRONLY | O_CLOEXEC);
			assert_int_equal(pwrite(fd, data, len, offset), len);
			close(fd);
			memcpy(model + offset, data, len);
			size = offset + len > size ? offset + len : size;
			if (RND(2)) {
				ls_reopened(w.ls, h.file);
			} else {
				end_use(&w, &h);
				h = use(&w, "f", O_RDWR);
			}
			break;
		case 9:
			end_use(&w, &h);
			h = use(&w, "f", O_RDWR);
			break;
		default: {
			struct iovec iov[3] = {{data, len / 3}, {data + len / 3, 0}};
			size_t want = offset >= size	    ? 0
				      : size - offset < len ? size - offset
							    : len;
			ssize_t n;

			iov[2] = (struct iovec){data + len / 3, len - len / 3};
			n = ls_read(w.ls, h.file, iov, 3, offset);
			assert_int_equal(n, want);
			assert_memory_equal(data, model + offset, want);
		}
		}
		assert_int_equal(ls_getattr(w.ls, h.node, NULL, &attr), 0);
		assert_int_equal(attr.size, size);
	}
	end_use(&w, &h);
	stop(&w);
	free(model);
	free(data);
}

/* A page is written as a whole with one number in all of it, which only grows; readers never see
 * two in one page, nor an older one than before. */
struct race {
	struct world w;
	struct handle h, other;
	atomic_bool ends;
	atomic_uint last;
};
#define RACE_PAGES 8u

static void *race_writer(void *arg)
{
	struct race *race = arg;
	uint32_t page[PAGE / 4];

	cred_assume(race->w.cred, race->w.cred->caps);
	for (uint32_t n = 1; n <= 1500; n++) {
		for (unsigned i = 0; i < PAGE / 4; i++)
			page[i] = n;
		for (unsigned p = 0; p < RACE_PAGES; p++)
			if (put(&race->w, &race->h, page, PAGE, p * PAGE, false) != PAGE)
				abort();
		atomic_store(&race->last, n);
	}
	atomic_store(&race->ends, true);
	return NULL;
}

static void *race_reader(void *arg)
{
	struct race *race = arg;
	uint32_t page[PAGE / 4], seen[RACE_PAGES] = {0};
	bool last;

	do {
		last = atomic_load(&race->ends);
		for (unsigned p = 0; p < RACE_PAGES; p++) {
			uint32_t complete = atomic_load(&race->last);

			if (get(&race->w, &race->other, page, PAGE, p * PAGE) != PAGE)
				abort();
			/* every word is at least what a write had put there that was over */
			for (unsigned i = 0; i < PAGE / 4; i++)
				if (page[i] < complete || page[i] < seen[p])
					abort();
			seen[p] = page[0] < page[PAGE / 4 - 1] ? page[0] : page[PAGE / 4 - 1];
		}
	} while (!last);
	for (unsigned p = 0; p < RACE_PAGES; p++)
		if (seen[p] != 1500)
			abort();
	return NULL;
}

/* Takes the pages away while others read. */
static void *race_scanner(void *arg)
{
	struct race *race = arg;
	struct handle scan = use(&race->w, "scan", O_RDONLY);

	while (!atomic_load(&race->ends))
		for (unsigned offset = 0; offset < 2 * MIB; offset += 16 * KIB)
			check_bytes(&race->w, &scan, offset, 16 * KIB, 9);
	end_use(&race->w, &scan);
	return NULL;
}

static void threads_at_once_read_what_is_there(void **state)
{
	void *(*const mains[])(void *) = {race_writer, race_reader, race_reader, race_scanner};
	static struct race race;
	pthread_t threads[4];

	memset(&race, 0, sizeof(race));
	start(&race.w, 1 * MIB);
	host_write(&race.w, "f", "", 0, 0);
	assert_int_equal(truncate(host(&race.w, "f"), RACE_PAGES * PAGE), 0);
	host_fill(&race.w, "scan", 2 * MIB, 9);
	race.h = use(&race.w, "f", O_RDWR);
	race.other = use(&race.w, "f", O_RDONLY);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mains[i], &race), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end_use(&race.w, &race.h);
	end_use(&race.w, &race.other);
	stop(&race.w);
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
	    cmocka_unit_test(what_was_read_is_read_again_without_a_call_below),
	    cmocka_unit_test(readahead_asks_for_more_than_is_wanted),
	    cmocka_unit_test(pages_outlive_the_last_close),
	    cmocka_unit_test(the_budget_is_kept),
	    cmocka_unit_test(a_scan_does_not_empty_the_cache),
	    cmocka_unit_test(what_was_used_once_goes_for_what_is_used_now),
	    cmocka_unit_test(what_is_written_is_read_at_once),
	    cmocka_unit_test(changes_by_others_are_seen_at_open),
	    cmocka_unit_test(changes_by_others_are_seen_in_time_in_a_file_that_stays_open),
	    cmocka_unit_test(a_change_by_others_before_a_change_of_ours_is_not_lost),
	    cmocka_unit_test(errors_below_are_the_callers_and_nothing_is_kept_of_them),
	    cmocka_unit_test(after_any_error_the_bytes_are_right),
	    cmocka_unit_test(what_is_written_is_below_before_the_write_returns),
	    cmocka_unit_test(what_was_lost_below_is_told_at_close),
	    cmocka_unit_test(one_source_has_one_cache_in_a_pool),
	    cmocka_unit_test(a_cache_without_a_pool_has_its_own_store),
	    cmocka_unit_test(random_operations_are_those_of_a_model),
	    cmocka_unit_test(threads_at_once_read_what_is_there),
	    cmocka_unit_test(the_vfs_looks_at_each_open),
	};

	if (getuid() != 0) {
		fprintf(stderr, "skipped: other identities need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
