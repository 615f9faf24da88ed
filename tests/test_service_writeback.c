/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's write-back over local and fault: what stays in memory, when it goes below, and that
 * nothing is lost without a word. */
#include "danaus/service/cache_internal.h"
#include "tests/lib/vfs_env.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define PAGE  4096u
#define KIB   1024u
#define MIB   (1024u * KIB)
#define NEVER (UINT64_MAX / 4)

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

static const struct stack_source source_of_local = {
    .name = "local", .path = "/", .writeback = true};
static const struct stack_source source_of_cache = {
    .name = "cache", .nlower = 1, .lower = {(struct stack_source *)&source_of_local}};

/* Nothing goes below by its age, unless a case wants it. */
static void start_on(struct world *w, const char *base, uint64_t budget)
{
	struct stack_limits limits = {0};
	struct err err = {""};

	memset(w, 0, sizeof(*w));
	w->fds = env_count_fds();
	snprintf(w->dir, sizeof(w->dir), "%s/danaus-test-XXXXXX", base);
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chmod(w->dir, 0777), 0);
	assert_int_equal(cache_store_new(budget, &w->store), 0);
	assert_int_equal(local_new(w->dir, &w->lower, &err), 0);
	assert_int_equal(fault_new(w->lower, &w->plan, &w->lower), 0);
	w->lower->cacheable = true;
	w->store->check_ns = NEVER;
	w->store->age_ns = NEVER;
	w->store->retry_ns = 1000000;
	limits.caches = w->store;
	assert_int_equal(cache_open(&source_of_cache, &limits, &w->lower, &w->ls, &err), 0);
	w->cred = cred_root();
	assert_int_equal(ls_root(w->ls, &w->root, &w->attr), 0);
}

static void start(struct world *w, uint64_t budget)
{
	start_on(w, env_base(), budget);
}

static void stop(struct world *w)
{
	struct cache_counts counts;

	ls_forget(w->ls, w->root, 1);
	ls_free(w->ls);
	cache_store_count(w->store, &counts);
	assert_false(counts.used);
	assert_int_equal(counts.dirty, 0);
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

struct handle {
	struct ls_node *node;
	struct ls_file *file;
};

static struct handle make(struct world *w, const char *name, int flags)
{
	struct handle h;
	struct attr attr;

	assert_int_equal(
	    ls_create(w->ls, w->cred, w->root, name, flags, 0644, 0, &h.node, &h.file, &attr), 0);
	return h;
}

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

static uint64_t dirty_pages(struct world *w)
{
	struct cache_counts counts;

	cache_store_count(w->store, &counts);
	return counts.dirty;
}

static uint64_t host_size(struct world *w, const char *name)
{
	struct stat st;

	assert_int_equal(stat(host(w, name), &st), 0);
	return st.st_size;
}

static uint64_t size_of(struct world *w, struct handle *h)
{
	struct attr attr;

	assert_int_equal(ls_getattr(w->ls, h->node, NULL, &attr), 0);
	return attr.size;
}

/* The host has exactly these bytes. */
static void check_host(struct world *w, const char *name, const void *data, size_t len)
{
	int fd = open(host(w, name), O_RDONLY | O_CLOEXEC);
	char *back = malloc(len + 1);

	assert_true(fd >= 0);
	assert_non_null(back);
	assert_int_equal(pread(fd, back, len + 1, 0), len);
	assert_memory_equal(back, data, len);
	free(back);
	close(fd);
}

static void wait_a_little(void)
{
	struct timespec pause = {.tv_nsec = 2000000};

	nanosleep(&pause, NULL);
}

/* From now on each call below fails; 0: none. */
static void fail_all(struct world *w, int error)
{
	atomic_store(&w->plan.error, error);
	atomic_store(&w->plan.to_the_end, error != 0);
	atomic_store(&w->plan.first, error ? atomic_load(&w->plan.calls) + 1 : 0);
}

static void what_is_written_stays_in_memory_and_is_seen_at_once(void **state)
{
	char data[3 * PAGE], back[3 * PAGE];
	struct timespec now;
	struct handle h, other;
	struct attr attr;
	struct world w;

	start(&w, 4 * MIB);
	h = make(&w, "f", O_RDWR);
	memset(data, 'a', sizeof(data));
	assert_int_equal(put(&w, &h, data, 2 * PAGE + 100, 0, false), 2 * PAGE + 100);
	assert_int_equal(dirty_pages(&w), 3);
	assert_int_equal(host_size(&w, "f"), 0);
	/* another open file, by another lookup */
	other = use(&w, "f", O_RDONLY);
	assert_int_equal(size_of(&w, &other), 2 * PAGE + 100);
	assert_int_equal(get(&w, &other, back, sizeof(back), 0), 2 * PAGE + 100);
	assert_memory_equal(back, data, 2 * PAGE + 100);
	clock_gettime(CLOCK_REALTIME, &now);
	assert_int_equal(ls_lookup(w.ls, w.cred, w.root, "f", &h.node, &attr), 0);
	ls_forget(w.ls, h.node, 1);
	assert_int_equal(attr.size, 2 * PAGE + 100);
	assert_true(now.tv_sec - attr.mtime.tv_sec < 100);
	assert_int_equal(attr.blocks, 24);
	/* within a page, over the end of one, at the end, behind a hole */
	assert_int_equal(put(&w, &h, "bc", 2, 10, false), 2);
	assert_int_equal(put(&w, &h, "defg", 4, PAGE - 2, false), 4);
	assert_int_equal(put(&w, &h, "hi", 2, 0, true), 2);
	memcpy(data + 10, "bc", 2);
	memcpy(data + PAGE - 2, "defg", 4);
	memcpy(data + 2 * PAGE + 100, "hi", 2);
	assert_int_equal(get(&w, &other, back, sizeof(back), 0), 2 * PAGE + 102);
	assert_memory_equal(back, data, 2 * PAGE + 102);
	assert_int_equal(put(&w, &h, "x", 1, 9 * PAGE + 7, false), 1);
	assert_int_equal(size_of(&w, &h), 9 * PAGE + 8);
	memset(data + 2 * PAGE + 102, 0, PAGE - 102);
	assert_int_equal(get(&w, &other, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, data, sizeof(data));
	for (unsigned i = 3; i < 9; i++) {
		assert_int_equal(get(&w, &other, back, PAGE, i * PAGE), PAGE);
		for (unsigned j = 0; j < PAGE; j++)
			assert_int_equal(back[j], 0);
	}
	assert_int_equal(get(&w, &other, back, PAGE, 9 * PAGE), 8);
	assert_int_equal(back[7], 'x');
	assert_int_equal(host_size(&w, "f"), 0);
	/* and below */
	assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
	assert_int_equal(dirty_pages(&w), 0);
	assert_int_equal(host_size(&w, "f"), 9 * PAGE + 8);
	end_use(&w, &other);
	ls_release(w.ls, h.file);
	ls_forget(w.ls, h.node, 1);
	stop(&w);
}

static void the_time_of_a_write_is_the_programs(void **state)
{
	struct attr before, after;
	struct timespec now;
	struct world w;
	struct handle h;
	struct stat st;

	start(&w, 4 * MIB);
	h = make(&w, "f", O_RDWR);
	assert_int_equal(put(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &before), 0);
	do { /* waits for an event: the clock is past what counts as the same moment */
		wait_a_little();
		clock_gettime(CLOCK_REALTIME, &now);
	} while ((now.tv_sec - before.mtime.tv_sec) * 1000000000ll + now.tv_nsec -
		     before.mtime.tv_nsec <
		 30000000);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &after), 0);
	assert_memory_equal(&before.mtime, &after.mtime, sizeof(before.mtime));
	assert_memory_equal(&before.ctime, &after.ctime, sizeof(before.ctime));
	assert_int_equal(stat(host(&w, "f"), &st), 0);
	assert_memory_equal(&before.mtime, &st.st_mtim, sizeof(before.mtime));
	/* set by a program, it stays */
	struct attr set = {.mtime = {.tv_sec = 1000, .tv_nsec = 5}};
	assert_int_equal(put(&w, &h, "d", 1, 3, false), 1);
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_MTIME, &set, &after), 0);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(stat(host(&w, "f"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	check_host(&w, "f", "abcd", 4);
	/* what was shown before a flush that follows at once is shown after it */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(put(&w, &h, "e", 1, 4, false), 1);
		assert_int_equal(ls_getattr(w.ls, h.node, NULL, &before), 0);
		assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
		assert_int_equal(ls_getattr(w.ls, h.node, NULL, &after), 0);
		assert_memory_equal(&before.mtime, &after.mtime, sizeof(before.mtime));
		assert_memory_equal(&before.ctime, &after.ctime, sizeof(before.ctime));
	}
	end_use(&w, &h);
	stop(&w);
}

static void it_goes_below_by_age_by_number_and_at_the_end(void **state)
{
	char page[PAGE], *all = malloc(MIB);
	struct world w;
	struct handle h;

	memset(page, 'p', sizeof(page));
	memset(all, 'p', MIB);
	start(&w, 4 * MIB);
	w.store->age_ns = 1000000;
	h = make(&w, "age", O_RDWR);
	assert_int_equal(put(&w, &h, page, PAGE, 0, false), PAGE);
	while (dirty_pages(&w) || host_size(&w, "age") != PAGE)
		wait_a_little(); /* the test's own time limit is the bound */
	check_host(&w, "age", page, PAGE);
	end_use(&w, &h);
	w.store->age_ns = NEVER;
	/* more than a quarter */
	h = make(&w, "number", O_RDWR);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(put(&w, &h, page, PAGE, i * PAGE, false), PAGE);
	while (dirty_pages(&w) > w.store->limit / 4)
		wait_a_little();
	assert_true(host_size(&w, "number") > 0);
	/* the last close */
	end_use(&w, &h);
	while (dirty_pages(&w))
		wait_a_little();
	check_host(&w, "number", all, MIB);
	/* the end: the directory is looked at before stop() removes it */
	h = make(&w, "end", O_RDWR);
	assert_int_equal(put(&w, &h, page, 100, 0, false), 100);
	assert_int_equal(dirty_pages(&w), 1);
	ls_release(w.ls, h.file);
	ls_forget(w.ls, h.node, 1);
	ls_forget(w.ls, w.root, 1);
	ls_free(w.ls);
	check_host(&w, "end", page, 100);
	cache_store_free(w.store);
	env_remove_tree(w.dir);
	free(all);
	assert_int_equal(env_count_fds(), w.fds);
}

/* chattr(1), a: what is below can be opened for appending only, and pages go to their places. */
static void an_append_only_file_is_written_through(void **state)
{
	int flags = FS_APPEND_FL, fd;
	char text[16];
	struct world w;
	struct handle h;

	start_on(&w, "/var/tmp", 4 * MIB);
	h = make(&w, "log", O_RDWR);
	end_use(&w, &h);
	fd = open(host(&w, "log"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
		print_message("no append-only files here: %s\n", strerror(errno));
	} else {
		h = use(&w, "log", O_RDWR | O_APPEND);
		for (const char *c = "one two three"; *c; c++)
			assert_int_equal(put(&w, &h, c, 1, 0, true), 1);
		assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
		assert_int_equal(get(&w, &h, text, sizeof(text), 0), 13);
		check_host(&w, "log", "one two three", 13);
		end_use(&w, &h);
		flags = 0;
		assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	}
	close(fd);
	stop(&w);
}

static void writers_wait_before_half_of_the_pages_are_dirty(void **state)
{
	unsigned char page[PAGE];
	struct world w;
	struct handle h;

	start(&w, 1 * MIB);
	h = make(&w, "f", O_RDWR);
	for (unsigned i = 0; i < 2000; i++) {
		memset(page, i, sizeof(page));
		assert_int_equal(put(&w, &h, page, PAGE, (uint64_t)i * PAGE, false), PAGE);
		assert_true(dirty_pages(&w) <= w.store->limit / 2);
	}
	/* one write that is larger than all of it */
	char *large = malloc(3 * MIB);
	memset(large, 'L', 3 * MIB);
	assert_int_equal(put(&w, &h, large, 3 * MIB, 100, false), 3 * MIB);
	free(large);
	assert_int_equal(get(&w, &h, page, PAGE, 1500 * PAGE), PAGE);
	assert_int_equal(page[0], 1500 % 256);
	assert_int_equal(get(&w, &h, page, 1, 3 * MIB + 99), 1);
	assert_int_equal(page[0], 'L');
	assert_int_equal(host_size(&w, "f") <= 2000 * PAGE, 1);
	end_use(&w, &h);
	stop(&w);
}

static void set_id_bits_go_when_it_is_written(void **state)
{
	struct cred *user = env_cred(1000, 1000, 0, 0, NULL);
	struct world w;
	struct handle h;
	struct stat st;
	int fd;

	start(&w, 4 * MIB);
	fd = open(host(&w, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(fchown(fd, 1000, 1000), 0);
	assert_int_equal(fchmod(fd, 04755), 0);
	close(fd);
	h = use(&w, "f", O_RDWR);
	cred_assume(user, 0);
	assert_int_equal(put(&w, &h, "a", 1, 0, false), 1);
	assert_int_equal(stat(host(&w, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(put(&w, &h, "b", 1, 1, false), 1);
	assert_int_equal(dirty_pages(&w), 1);
	/* given again */
	struct attr set = {.mode = 04755}, attr;
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 04755);
	check_host(&w, "f", "ab", 2);
	cred_assume(user, 0);
	assert_int_equal(put(&w, &h, "c", 1, 2, false), 1);
	assert_int_equal(stat(host(&w, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	cred_assume_service();
	end_use(&w, &h);
	stop(&w);
	free(user);
}

static void a_file_opened_for_writing_alone_is_written_in_part(void **state)
{
	struct world w;
	struct handle h;
	struct stat st;
	int fd;

	start(&w, 4 * MIB);
	fd = open(host(&w, "log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0200);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	close(fd);
	h = use(&w, "log", O_WRONLY);
	assert_int_equal(put(&w, &h, "a", 1, 0, true), 1); /* the first one is the host's */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(put(&w, &h, "b", 1, 0, true), 1);
	assert_int_equal(put(&w, &h, "c", 1, 5, false), 1);
	assert_int_equal(dirty_pages(&w), 1);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(stat(host(&w, "log"), &st), 0);
	assert_int_equal(st.st_size, 111);
	char back[16] = {0};
	fd = open(host(&w, "log"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, 12, 0), 12);
	assert_memory_equal(back, "01234c6789ab", 12);
	close(fd);
	end_use(&w, &h);
	stop(&w);
}

static void other_changes_come_after_it(void **state)
{
	char data[2 * PAGE], back[2 * PAGE];
	struct attr set = {.size = 100}, attr;
	struct handle h, direct;
	struct world w;

	start(&w, 4 * MIB);
	memset(data, 'd', sizeof(data));
	h = make(&w, "f", O_RDWR);
	assert_int_equal(put(&w, &h, data, sizeof(data), 0, false), sizeof(data));
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr), 0);
	assert_int_equal(attr.size, 100);
	check_host(&w, "f", data, 100);
	assert_int_equal(size_of(&w, &h), 100);
	assert_int_equal(get(&w, &h, back, PAGE, 0), 100);
	/* longer by a truncate: zeros */
	assert_int_equal(put(&w, &h, data, 10, 0, true), 10);
	set.size = PAGE + 10;
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, h.file, ATTR_SIZE, &set, &attr), 0);
	assert_int_equal(get(&w, &h, back, 2 * PAGE, 0), PAGE + 10);
	assert_memory_equal(back, data, 110);
	for (unsigned i = 110; i < PAGE + 10; i++)
		assert_int_equal(back[i], 0);
	/* holes */
	assert_int_equal(put(&w, &h, data, 2 * PAGE, 0, false), 2 * PAGE);
	assert_int_equal(ls_allocate(w.ls, h.file, 3, 0, PAGE), 0);
	assert_int_equal(get(&w, &h, back, 2 * PAGE, 0), 2 * PAGE);
	assert_int_equal(back[0], 0);
	assert_memory_equal(back + PAGE, data, PAGE);
	assert_int_equal(put(&w, &h, data, PAGE, 8 * PAGE, false), PAGE);
	assert_int_equal(ls_seek(w.ls, h.file, 2 * PAGE, SEEK_DATA), 8 * PAGE);
	assert_int_equal(dirty_pages(&w), 0);
	/* a link, and a name that replaces another */
	assert_int_equal(put(&w, &h, "1", 1, 0, false), 1);
	assert_int_equal(ls_link(w.ls, w.cred, h.node, w.root, "link"), 0);
	assert_int_equal(dirty_pages(&w), 0);
	assert_int_equal(put(&w, &h, "2", 1, 1, false), 1);
	assert_int_equal(dirty_pages(&w), 1);
	assert_int_equal(ls_rename(w.ls, w.cred, w.root, "f", w.root, "g", 0), 0);
	assert_int_equal(dirty_pages(&w), 0);
	/* O_DIRECT reads what was written, and is read */
	assert_int_equal(put(&w, &h, "3", 1, 2, false), 1);
	assert_int_equal(ls_open(w.ls, w.cred, h.node, O_RDWR | O_DIRECT, &direct.file), 0);
	direct.node = h.node;
	void *aligned = NULL;
	assert_int_equal(posix_memalign(&aligned, PAGE, PAGE), 0);
	assert_int_equal(get(&w, &direct, aligned, PAGE, 0), PAGE);
	assert_memory_equal(aligned, "123", 3);
	assert_int_equal(put(&w, &h, "4", 1, 3, false), 1);
	memset(aligned, 'D', PAGE);
	assert_int_equal(put(&w, &direct, aligned, PAGE, 0, false), PAGE);
	assert_int_equal(get(&w, &h, back, PAGE, 0), PAGE);
	assert_memory_equal(back, aligned, PAGE);
	assert_int_equal(dirty_pages(&w), 0);
	free(aligned);
	ls_release(w.ls, direct.file);
	end_use(&w, &h);
	stop(&w);
}

static void a_file_without_a_name_that_is_closed_is_not_written(void **state)
{
	struct handle h;
	struct world w;
	uint64_t calls;

	start(&w, 4 * MIB);
	h = make(&w, "f", O_RDWR);
	assert_int_equal(put(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_unlink(w.ls, w.cred, w.root, "f", false), 0);
	char back[4];
	assert_int_equal(get(&w, &h, back, 4, 0), 3);
	calls = atomic_load(&w.plan.calls);
	end_use(&w, &h);
	assert_int_equal(dirty_pages(&w), 0);
	assert_true(atomic_load(&w.plan.calls) <= calls + 2); /* it asked for the links */
	stop(&w);
}

static void an_error_is_told_to_each_open_file_once(void **state)
{
	struct handle a, b, c, d;
	struct world w;

	start(&w, 4 * MIB);
	w.store->retry_ns = NEVER;
	a = make(&w, "f", O_RDWR);
	b = use(&w, "f", O_RDWR);
	d = use(&w, "f", O_WRONLY);
	assert_int_equal(ls_flush(w.ls, d.file), 0);
	assert_int_equal(put(&w, &a, "abc", 3, 0, false), 3);
	fail_all(&w, -EIO);
	assert_int_equal(ls_fsync(w.ls, a.file, true), -EIO);
	fail_all(&w, 0);
	/* what failed is not lost */
	assert_int_equal(dirty_pages(&w), 1);
	assert_int_equal(ls_fsync(w.ls, a.file, true), 0);
	check_host(&w, "f", "abc", 3);
	/* who did not ask hears of it at his next write, and that is all */
	assert_int_equal(put(&w, &b, "x", 1, 0, false), -EIO);
	assert_int_equal(put(&w, &b, "d", 1, 3, false), 1);
	assert_int_equal(ls_fsync(w.ls, b.file, true), 0);
	/* or when he closes it */
	assert_int_equal(ls_flush(w.ls, d.file), -EIO);
	assert_int_equal(ls_flush(w.ls, d.file), 0);
	end_use(&w, &d);
	c = use(&w, "f", O_RDWR);
	assert_int_equal(ls_fsync(w.ls, c.file, true), 0);
	check_host(&w, "f", "abcd", 4);
	end_use(&w, &c);
	end_use(&w, &b);
	end_use(&w, &a);
	stop(&w);
}

/* The flusher tries, and then there is an end to it: told, and the file is what the host has. */
static void what_cannot_be_written_is_dropped_and_told(void **state)
{
	struct handle h, other;
	struct world w;
	struct attr attr;

	start(&w, 4 * MIB);
	h = make(&w, "f", O_RDWR);
	assert_int_equal(put(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(put(&w, &h, "defghi", 6, 0, false), 6);
	fail_all(&w, -ENOSPC);
	ls_release(w.ls, h.file); /* the last close: down with it */
	while (dirty_pages(&w))
		wait_a_little();
	fail_all(&w, 0);
	check_host(&w, "f", "abc", 3);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &attr), 0);
	assert_int_equal(attr.size, 3);
	/* nobody was told: the next one who opens it is */
	other = use(&w, "f", O_RDWR);
	assert_int_equal(ls_fsync(w.ls, other.file, true), -ENOSPC);
	assert_int_equal(ls_fsync(w.ls, other.file, true), 0);
	end_use(&w, &other);
	ls_forget(w.ls, h.node, 1);
	stop(&w);
}

/* The Nth call below fails, or all from it on, N swept until none does: what is said to be on
 * stable storage is there, and nothing else than what was written is read. */
static void sweep(bool to_the_end)
{
	unsigned char data[3 * PAGE], back[4 * PAGE];
	bool failed = true;
	struct world w;

	start(&w, 1 * MIB);
	w.store->retry_ns = NEVER;
	for (unsigned n = 1; failed; n++) {
		struct handle h = make(&w, "f", O_RDWR);
		struct attr attr, set = {.size = 2 * PAGE};
		ssize_t wrote;
		int r, named;

		assert_true(n < 200);
		atomic_store(&w.plan.error, n % 2 ? -EIO : -ENOSPC);
		atomic_store(&w.plan.to_the_end, to_the_end);
		atomic_store(&w.plan.first, atomic_load(&w.plan.calls) + n);
		memset(data, n, sizeof(data));
		wrote = put(&w, &h, data, sizeof(data), 0, false);
		put(&w, &h, data, 10, 100, false);
		get(&w, &h, back, sizeof(back), 0);
		named = ls_rename(w.ls, w.cred, w.root, "f", w.root, "g", 0);
		r = ls_fsync(w.ls, h.file, false);
		if (wrote == (ssize_t)sizeof(data) && !r)
			check_host(&w, named ? "f" : "g", data, sizeof(data));
		put(&w, &h, data, 10, 0, true);
		r = ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr);
		failed = atomic_load(&w.plan.calls) >= atomic_load(&w.plan.first);
		atomic_store(&w.plan.first, 0);
		wrote = get(&w, &h, back, sizeof(back), 0);
		assert_true(wrote >= 0);
		for (ssize_t i = 0; i < wrote; i++)
			assert_int_equal(back[i], (unsigned char)n);
		if (!r)
			assert_true(wrote <= 2 * PAGE);
		ls_fsync(w.ls, h.file, false);
		assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
		check_host(&w, named ? "f" : "g", back, wrote);
		assert_int_equal(ls_unlink(w.ls, w.cred, w.root, named ? "f" : "g", false), 0);
		end_use(&w, &h);
	}
	stop(&w);
}

static void after_any_error_nothing_is_lost_that_was_synced(void **state)
{
	sweep(false);
	sweep(true);
}

static void a_full_disk_is_told_when_it_is_written_to(void **state)
{
	char base[64], page[PAGE] = {1};
	struct world w;
	struct handle h;
	uint64_t n = 0;
	ssize_t r;

	snprintf(base, sizeof(base), "%s/danaus-full-XXXXXX", env_base());
	assert_non_null(mkdtemp(base));
	if (mount("none", base, "tmpfs", 0, "size=8m") < 0) {
		rmdir(base);
		skip();
	}
	start_on(&w, base, 32 * MIB);
	h = make(&w, "f", O_RDWR);
	while ((r = put(&w, &h, page, PAGE, n * PAGE, false)) == PAGE)
		n++;
	assert_int_equal(r, -ENOSPC);
	assert_true(n * PAGE > 6 * MIB);
	assert_true(n * PAGE <= 8 * MIB);
	/* all that was taken is there */
	assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
	assert_int_equal(host_size(&w, "f"), n * PAGE);
	end_use(&w, &h);
	stop(&w);
	assert_int_equal(umount(base), 0);
	rmdir(base);
}

/* Random operations on a file, compared with a copy in memory, the flusher being awake all the
 * time; at the end of each round the host has it. */
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
	memset(model, 0, MOST);
	start(&w, 1 * MIB);
	w.store->age_ns = 500000;
	h = make(&w, "f", O_RDWR);
	for (unsigned step = 0; step < 8000; step++) {
		uint64_t offset = RND(MOST - 20 * KIB), len = 1 + RND(16 * KIB);
		unsigned op = RND(16);

		if (RND(2))
			len = 1 + len % 300;
		memset(data, 1 + RND(255), len);
		switch (op) {
		case 0:
		case 1:
		case 2:
		case 3:
			assert_int_equal(put(&w, &h, data, len, offset, false), len);
			memcpy(model + offset, data, len);
			size = offset + len > size ? offset + len : size;
			break;
		case 4:
		case 5:
			if (size + len > MOST)
				break;
			assert_int_equal(put(&w, &h, data, len, 0, true), len);
			memcpy(model + size, data, len);
			size += len;
			break;
		case 6:
			if (RND(8))
				break;
			set.size = offset;
			assert_int_equal(ls_setattr(w.ls, w.cred, h.node, RND(2) ? h.file : NULL,
						    ATTR_SIZE, &set, &attr),
					 0);
			if (offset < size)
				memset(model + offset, 0, size - offset);
			size = offset;
			break;
		case 7: /* PUNCH_HOLE | KEEP_SIZE */
			if (RND(4))
				break;
			assert_int_equal(ls_allocate(w.ls, h.file, 3, offset, len), 0);
			memset(model + offset, 0, len);
			break;
		case 8:
			if (RND(16))
				break;
			assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
			check_host(&w, "f", model, size);
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

			iov[2] = (struct iovec){data + len / 3, len - len / 3};
			assert_int_equal(ls_read(w.ls, h.file, iov, 3, offset), want);
			assert_memory_equal(data, model + offset, want);
		}
		}
		assert_int_equal(size_of(&w, &h), size);
	}
	end_use(&w, &h);
	assert_int_equal(ls_syncfs(w.ls), 0);
	check_host(&w, "f", model, size);
	stop(&w);
	free(model);
	free(data);
}

/* Two writers, each with its own half of each page, and one that appends numbers; readers never see
 * an older number than before, and the flusher works all the time. */
struct race {
	struct world w;
	struct handle h;
	atomic_bool ends;
	atomic_uint last[2];
};
#define RACE_PAGES  6u
#define RACE_ROUNDS 1500u

static void *race_writer(void *arg)
{
	static atomic_uint numbers;
	struct race *race = arg;
	unsigned me = atomic_fetch_add(&numbers, 1) % 2;
	uint32_t half[PAGE / 8];

	for (uint32_t n = 1; n <= RACE_ROUNDS; n++) {
		for (unsigned i = 0; i < PAGE / 8; i++)
			half[i] = n;
		for (unsigned p = 0; p < RACE_PAGES; p++)
			if (put(&race->w, &race->h, half, PAGE / 2, p * PAGE + me * PAGE / 2,
				false) != PAGE / 2)
				abort();
		atomic_store(&race->last[me], n);
	}
	return NULL;
}

static void *race_reader(void *arg)
{
	struct race *race = arg;
	uint32_t half[PAGE / 8], seen[2 * RACE_PAGES] = {0};

	while (!atomic_load(&race->ends)) {
		for (unsigned p = 0; p < 2 * RACE_PAGES; p++) {
			uint32_t complete = atomic_load(&race->last[p % 2]);

			if (get(&race->w, &race->h, half, PAGE / 2, p * PAGE / 2) != PAGE / 2)
				abort();
			for (unsigned i = 0; i < PAGE / 8; i++)
				if (half[i] < complete || half[i] < seen[p])
					abort();
			seen[p] = half[0] < half[PAGE / 8 - 1] ? half[0] : half[PAGE / 8 - 1];
		}
	}
	return NULL;
}

static void *race_syncer(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->ends))
		if (ls_fsync(race->w.ls, race->h.file, true))
			abort();
	return NULL;
}

static void *race_appender(void *arg)
{
	struct race *race = arg;
	struct handle h = use(&race->w, "log", O_RDWR);
	uint64_t n, back, size;

	for (n = 0; n < 4000; n++) {
		if (put(&race->w, &h, &n, sizeof(n), 0, true) != sizeof(n))
			abort();
		size = size_of(&race->w, &h);
		if (size != (n + 1) * sizeof(n) ||
		    get(&race->w, &h, &back, sizeof(back), size - 8) != 8 || back != n)
			abort();
	}
	end_use(&race->w, &h);
	return NULL;
}

static void threads_at_once_read_what_is_there(void **state)
{
	void *(*const mains[])(void *) = {race_writer, race_writer, race_reader, race_syncer,
					  race_appender};
	static struct race race;
	pthread_t threads[5];
	uint32_t page[PAGE / 4];
	struct handle log;

	memset(&race, 0, sizeof(race));
	start(&race.w, 1 * MIB);
	race.w.store->age_ns = 300000;
	race.h = make(&race.w, "f", O_RDWR);
	log = make(&race.w, "log", O_RDWR);
	memset(page, 0, sizeof(page));
	for (unsigned p = 0; p < RACE_PAGES; p++)
		assert_int_equal(put(&race.w, &race.h, page, PAGE, p * PAGE, false), PAGE);
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
		int fd = open(host(&race.w, "f"), O_RDONLY | O_CLOEXEC);

		assert_int_equal(pread(fd, back, PAGE, p * PAGE), PAGE);
		assert_memory_equal(back, page, PAGE);
		close(fd);
	}
	end_use(&race.w, &log);
	end_use(&race.w, &race.h);
	stop(&race.w);
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
	wait_a_little();
	for (int i = 0; i < n; i++)
		if (memcmp(copy + i * PAGE, iov[i].iov_base, iov[i].iov_len))
			abort();
	atomic_fetch_add(&slow_writes, 1);
	return fast_ops->write(ls, file, iov, niov, offset, append, ret_end);
}

static void what_is_on_its_way_down_does_not_change(void **state)
{
	unsigned char page[PAGE], back[PAGE];
	struct world w;
	struct handle h;

	start(&w, 1 * MIB);
	fast_ops = w.lower->ops;
	slow_ops = *fast_ops;
	slow_ops.write = slow_write;
	w.lower->ops = &slow_ops;
	w.store->age_ns = 100000;
	h = make(&w, "f", O_RDWR);
	atomic_store(&slow_writes, 0);
	/* each time another page, so that memory is used again soon */
	for (unsigned n = 0; atomic_load(&slow_writes) < 40; n++) {
		memset(page, n, sizeof(page));
		assert_int_equal(put(&w, &h, page, PAGE, n % 40 * PAGE, false), PAGE);
		assert_int_equal(get(&w, &h, back, PAGE, n % 40 * PAGE), PAGE);
		assert_memory_equal(back, page, PAGE);
		if (n % 7 == 0) {
			assert_int_equal(put(&w, &h, "tail", 4, 40 * PAGE + n % 900 * 4, false), 4);
		}
	}
	end_use(&w, &h);
	stop(&w);
}

/* A service that is killed at any moment: what was synced is there, no file is longer than it was
 * said to be, and each byte is one that was written there or was never written. */
struct promises {
	_Atomic uint64_t said, synced; /* records */
};

static void writer_until_killed(struct promises *p, const char *dir, uint64_t seed)
{
	uint64_t record[13], n = 0; /* 104 bytes: over the ends of pages */
	struct stack_limits limits = {.cache_bytes = MIB};
	struct err err = {""};
	struct libservice *ls;
	struct ls_node *root, *node;
	struct ls_file *file;
	struct attr attr;
	char spec[128];

	snprintf(spec, sizeof(spec), "cache:[local:%s,writeback]", dir);
	if (stack_open(spec, &limits, &ls, &err) < 0 || ls_root(ls, &root, &attr) < 0 ||
	    ls_create(ls, cred_root(), root, "f", O_RDWR, 0644, 0, &node, &file, &attr) < 0)
		_exit(1);
	for (;; n++) {
		struct iovec iov = {.iov_base = record, .iov_len = sizeof(record)};

		for (unsigned i = 0; i < 13; i++)
			record[i] = n + 1;
		atomic_store(&p->said, n + 1); /* from here on it may be there */
		if (ls_write(ls, file, &iov, 1, 0, true, NULL) != sizeof(record))
			_exit(2);
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if ((seed >> 40) % 200)
			continue;
		if (ls_fsync(ls, file, false) < 0)
			_exit(3);
		atomic_store(&p->synced, n + 1);
	}
}

static void a_killed_service_has_kept_what_was_synced(void **state)
{
	struct promises *p =
	    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char dir[64], path[96];

	assert_true(p != MAP_FAILED);
	for (unsigned round = 0; round < 12; round++) {
		uint64_t record[13], n = 0, until = 100 + round * round * 300;
		struct stat st;
		int status, fd;
		pid_t pid;

		snprintf(dir, sizeof(dir), "%s/danaus-test-XXXXXX", env_base());
		assert_non_null(mkdtemp(dir));
		memset(p, 0, sizeof(*p));
		pid = fork();
		assert_true(pid >= 0);
		if (!pid)
			writer_until_killed(p, dir, round);
		while (atomic_load(&p->said) < until && !waitpid(pid, &status, WNOHANG))
			wait_a_little();
		if (atomic_load(&p->said) < until)
			fail_msg("the writer ended by itself: status %x", status);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		snprintf(path, sizeof(path), "%s/f", dir);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(fstat(fd, &st), 0);
		assert_true((uint64_t)st.st_size >= atomic_load(&p->synced) * sizeof(record));
		assert_true((uint64_t)st.st_size <= atomic_load(&p->said) * sizeof(record));
		while (read(fd, record, sizeof(record)) == sizeof(record)) {
			n++;
			for (unsigned i = 0; i < 13; i++)
				assert_int_equal(record[i], n);
		}
		assert_true(n >= atomic_load(&p->synced));
		close(fd);
		env_remove_tree(dir);
	}
	munmap(p, PAGE);
}

static void it_is_for_this_hosts_storage_alone(void **state)
{
	static const struct {
		const char *spec;
		int error;
	} rows[] = {
	    {"cache:[local:/usr,ro,writeback]", 0},
	    {"cache:[union:[local:/usr,ro][local:/etc,ro],writeback]", 0},
	    {"local:/usr,writeback", -EINVAL},
	    {"union:[local:/usr,writeback]", -EINVAL},
	    {"cache:[local:/usr,writeback,writeback]", -EINVAL},
	    {"cache:[local:/usr,writeback=1]", -EINVAL},
	    {"cache:[local:/usr],writeback", -EINVAL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct libservice *ls;
		struct err err = {""};
		int r = stack_open(rows[i].spec, NULL, &ls, &err);

		assert_int_equal(r, rows[i].error);
		if (!r)
			ls_free(ls);
		else
			assert_non_null(strstr(err.text, "position"));
	}
	/* not over Ceph, whose clients do it themselves */
	static const struct stack_source ceph = {.name = "ceph", .path = "/", .writeback = true};
	static const struct stack_source cache = {
	    .name = "cache", .nlower = 1, .lower = {(struct stack_source *)&ceph}};
	struct libservice *lower, *ls;
	struct stack_limits limits = {0};
	struct err err = {""};

	assert_int_equal(local_new("/usr", &lower, &err), 0);
	assert_int_equal(cache_open(&cache, &limits, &lower, &ls, &err), -EINVAL);
	assert_non_null(strstr(err.text, "Ceph"));
	ls_free(lower);
}

/* The whole vfs on top, and its end. */
static void the_end_of_a_volume_writes_everything(void **state)
{
	char data[10 * KIB], path[128];
	struct vfile *file;
	struct attr attr;
	struct env env;

	memset(data, 'v', sizeof(data));
	env_start_on(&env, "cache:[local:%s,writeback]");
	struct vtarget at = {.dir = vfs_instance_root(env.instance), .path = "f"};
	for (unsigned i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		at.path = path;
		assert_int_equal(vfs_open(&env.ctx, &at, O_RDWR | O_CREAT, 0644, &file, NULL), 0);
		assert_int_equal(env_write(&env.ctx, file, data, sizeof(data), 0), sizeof(data));
		assert_int_equal(vfs_stat(&env.ctx, &at, &attr), 0);
		assert_int_equal(attr.size, sizeof(data));
		vfile_unref(file);
	}
	vfs_instance_remove(env.instance);
	for (unsigned i = 0; i < 50; i++) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/f%u", env.dir, i);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, sizeof(data));
	}
	vfs_free(env.vfs);
	env_remove_tree(env.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_written_stays_in_memory_and_is_seen_at_once),
	    cmocka_unit_test(the_time_of_a_write_is_the_programs),
	    cmocka_unit_test(it_goes_below_by_age_by_number_and_at_the_end),
	    cmocka_unit_test(an_append_only_file_is_written_through),
	    cmocka_unit_test(writers_wait_before_half_of_the_pages_are_dirty),
	    cmocka_unit_test(set_id_bits_go_when_it_is_written),
	    cmocka_unit_test(a_file_opened_for_writing_alone_is_written_in_part),
	    cmocka_unit_test(other_changes_come_after_it),
	    cmocka_unit_test(a_file_without_a_name_that_is_closed_is_not_written),
	    cmocka_unit_test(an_error_is_told_to_each_open_file_once),
	    cmocka_unit_test(what_cannot_be_written_is_dropped_and_told),
	    cmocka_unit_test(after_any_error_nothing_is_lost_that_was_synced),
	    cmocka_unit_test(a_full_disk_is_told_when_it_is_written_to),
	    cmocka_unit_test(random_operations_are_those_of_a_model),
	    cmocka_unit_test(threads_at_once_read_what_is_there),
	    cmocka_unit_test(what_is_on_its_way_down_does_not_change),
	    cmocka_unit_test(a_killed_service_has_kept_what_was_synced),
	    cmocka_unit_test(it_is_for_this_hosts_storage_alone),
	    cmocka_unit_test(the_end_of_a_volume_writes_everything),
	};

	if (getuid() != 0) {
		fprintf(stderr, "skipped: other identities need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
