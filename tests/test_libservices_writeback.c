/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's write-back over local and fault: what stays in memory, when it goes below, and what
 * is there after a killed service. */
#include "tests/lib/writeback_world.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

static void what_is_written_stays_in_memory_and_is_seen_at_once(void **state)
{
	char data[3 * PAGE], back[3 * PAGE];
	struct timespec now;
	struct cw_handle h, other;
	struct attr attr;
	struct cache_world w;

	wb_start(&w, 4 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	memset(data, 'a', sizeof(data));
	assert_int_equal(cw_write(&w, &h, data, 2 * PAGE + 100, 0, false), 2 * PAGE + 100);
	assert_int_equal(wb_dirty(&w), 3);
	assert_int_equal(wb_host_size(&w, "f"), 0);
	/* another open file, by another lookup */
	other = cw_open(&w, "f", O_RDONLY);
	assert_int_equal(wb_size(&w, &other), 2 * PAGE + 100);
	assert_int_equal(cw_read(&w, &other, back, sizeof(back), 0), 2 * PAGE + 100);
	assert_memory_equal(back, data, 2 * PAGE + 100);
	clock_gettime(CLOCK_REALTIME, &now);
	assert_int_equal(ls_lookup(w.ls, w.cred, w.root, "f", &h.node, &attr), 0);
	ls_forget(w.ls, h.node, 1);
	assert_int_equal(attr.size, 2 * PAGE + 100);
	assert_true(now.tv_sec - attr.mtime.tv_sec < 100);
	assert_int_equal(attr.blocks, 24);
	/* within a page, over the end of one, at the end, behind a hole */
	assert_int_equal(cw_write(&w, &h, "bc", 2, 10, false), 2);
	assert_int_equal(cw_write(&w, &h, "defg", 4, PAGE - 2, false), 4);
	assert_int_equal(cw_write(&w, &h, "hi", 2, 0, true), 2);
	memcpy(data + 10, "bc", 2);
	memcpy(data + PAGE - 2, "defg", 4);
	memcpy(data + 2 * PAGE + 100, "hi", 2);
	assert_int_equal(cw_read(&w, &other, back, sizeof(back), 0), 2 * PAGE + 102);
	assert_memory_equal(back, data, 2 * PAGE + 102);
	assert_int_equal(cw_write(&w, &h, "x", 1, 9 * PAGE + 7, false), 1);
	assert_int_equal(wb_size(&w, &h), 9 * PAGE + 8);
	memset(data + 2 * PAGE + 102, 0, PAGE - 102);
	assert_int_equal(cw_read(&w, &other, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, data, sizeof(data));
	for (unsigned i = 3; i < 9; i++) {
		assert_int_equal(cw_read(&w, &other, back, PAGE, i * PAGE), PAGE);
		for (unsigned j = 0; j < PAGE; j++)
			assert_int_equal(back[j], 0);
	}
	assert_int_equal(cw_read(&w, &other, back, PAGE, 9 * PAGE), 8);
	assert_int_equal(back[7], 'x');
	assert_int_equal(wb_host_size(&w, "f"), 0);
	/* and below */
	assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
	assert_int_equal(wb_dirty(&w), 0);
	assert_int_equal(wb_host_size(&w, "f"), 9 * PAGE + 8);
	cw_close(&w, &other);
	ls_release(w.ls, h.file);
	ls_forget(w.ls, h.node, 1);
	cw_stop(&w);
}

static void the_time_of_a_write_is_the_programs(void **state)
{
	struct attr before, after;
	struct timespec now;
	struct cache_world w;
	struct cw_handle h;
	struct stat st;

	wb_start(&w, 4 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	assert_int_equal(cw_write(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &before), 0);
	do { /* waits for an event: the clock is past what counts as the same moment */
		wb_pause();
		clock_gettime(CLOCK_REALTIME, &now);
	} while ((now.tv_sec - before.mtime.tv_sec) * 1000000000ll + now.tv_nsec -
		     before.mtime.tv_nsec <
		 30000000);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(ls_getattr(w.ls, h.node, NULL, &after), 0);
	assert_memory_equal(&before.mtime, &after.mtime, sizeof(before.mtime));
	assert_memory_equal(&before.ctime, &after.ctime, sizeof(before.ctime));
	assert_int_equal(stat(cw_path(&w, "f"), &st), 0);
	assert_memory_equal(&before.mtime, &st.st_mtim, sizeof(before.mtime));
	/* set by a program, it stays */
	struct attr set = {.mtime = {.tv_sec = 1000, .tv_nsec = 5}};
	assert_int_equal(cw_write(&w, &h, "d", 1, 3, false), 1);
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_MTIME, &set, &after), 0);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(stat(cw_path(&w, "f"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	wb_check_host(&w, "f", "abcd", 4);
	/* what was shown before a flush that follows at once is shown after it */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(cw_write(&w, &h, "e", 1, 4, false), 1);
		assert_int_equal(ls_getattr(w.ls, h.node, NULL, &before), 0);
		assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
		assert_int_equal(ls_getattr(w.ls, h.node, NULL, &after), 0);
		assert_memory_equal(&before.mtime, &after.mtime, sizeof(before.mtime));
		assert_memory_equal(&before.ctime, &after.ctime, sizeof(before.ctime));
	}
	cw_close(&w, &h);
	cw_stop(&w);
}

static void it_goes_below_by_age_by_number_and_at_the_end(void **state)
{
	char page[PAGE], *all = malloc(MIB);
	struct cache_world w;
	struct cw_handle h;

	memset(page, 'p', sizeof(page));
	memset(all, 'p', MIB);
	wb_start(&w, 4 * MIB);
	w.store->age_ns = 1000000;
	h = wb_make(&w, "age", O_RDWR);
	assert_int_equal(cw_write(&w, &h, page, PAGE, 0, false), PAGE);
	while (wb_dirty(&w) || wb_host_size(&w, "age") != PAGE)
		wb_pause(); /* the test's own time limit is the bound */
	wb_check_host(&w, "age", page, PAGE);
	cw_close(&w, &h);
	w.store->age_ns = NEVER;
	/* more than a quarter */
	h = wb_make(&w, "number", O_RDWR);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(cw_write(&w, &h, page, PAGE, i * PAGE, false), PAGE);
	while (wb_dirty(&w) > w.store->limit / 4)
		wb_pause();
	assert_true(wb_host_size(&w, "number") > 0);
	/* the last close */
	cw_close(&w, &h);
	while (wb_dirty(&w))
		wb_pause();
	wb_check_host(&w, "number", all, MIB);
	/* the end: the directory is looked at before cw_stop() removes it */
	h = wb_make(&w, "end", O_RDWR);
	assert_int_equal(cw_write(&w, &h, page, 100, 0, false), 100);
	assert_int_equal(wb_dirty(&w), 1);
	ls_release(w.ls, h.file);
	ls_forget(w.ls, h.node, 1);
	ls_forget(w.ls, w.root, 1);
	ls_free(w.ls);
	wb_check_host(&w, "end", page, 100);
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
	struct cache_world w;
	struct cw_handle h;

	wb_start_on(&w, "/var/tmp", 4 * MIB);
	h = wb_make(&w, "log", O_RDWR);
	cw_close(&w, &h);
	fd = open(cw_path(&w, "log"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
		print_message("no append-only files here: %s\n", strerror(errno));
	} else {
		h = cw_open(&w, "log", O_RDWR | O_APPEND);
		for (const char *c = "one two three"; *c; c++)
			assert_int_equal(cw_write(&w, &h, c, 1, 0, true), 1);
		assert_int_equal(ls_fsync(w.ls, h.file, false), 0);
		assert_int_equal(cw_read(&w, &h, text, sizeof(text), 0), 13);
		wb_check_host(&w, "log", "one two three", 13);
		cw_close(&w, &h);
		flags = 0;
		assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	}
	close(fd);
	cw_stop(&w);
}

static void writers_wait_before_half_of_the_pages_are_dirty(void **state)
{
	unsigned char page[PAGE];
	struct cache_world w;
	struct cw_handle h;

	wb_start(&w, 1 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	for (unsigned i = 0; i < 2000; i++) {
		memset(page, i, sizeof(page));
		assert_int_equal(cw_write(&w, &h, page, PAGE, (uint64_t)i * PAGE, false), PAGE);
		assert_true(wb_dirty(&w) <= w.store->limit / 2);
	}
	/* one write that is larger than all of it */
	char *large = malloc(3 * MIB);
	memset(large, 'L', 3 * MIB);
	assert_int_equal(cw_write(&w, &h, large, 3 * MIB, 100, false), 3 * MIB);
	free(large);
	assert_int_equal(cw_read(&w, &h, page, PAGE, 1500 * PAGE), PAGE);
	assert_int_equal(page[0], 1500 % 256);
	assert_int_equal(cw_read(&w, &h, page, 1, 3 * MIB + 99), 1);
	assert_int_equal(page[0], 'L');
	assert_int_equal(wb_host_size(&w, "f") <= 2000 * PAGE, 1);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void set_id_bits_go_when_it_is_written(void **state)
{
	struct cred *user = env_cred(1000, 1000, 0, 0, NULL);
	struct cache_world w;
	struct cw_handle h;
	struct stat st;
	int fd;

	wb_start(&w, 4 * MIB);
	fd = open(cw_path(&w, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(fchown(fd, 1000, 1000), 0);
	assert_int_equal(fchmod(fd, 04755), 0);
	close(fd);
	h = cw_open(&w, "f", O_RDWR);
	cred_assume(user, 0);
	assert_int_equal(cw_write(&w, &h, "a", 1, 0, false), 1);
	assert_int_equal(stat(cw_path(&w, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(cw_write(&w, &h, "b", 1, 1, false), 1);
	assert_int_equal(wb_dirty(&w), 1);
	/* given again */
	struct attr set = {.mode = 04755}, attr;
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_MODE, &set, &attr), 0);
	assert_int_equal(attr.mode & 07777, 04755);
	wb_check_host(&w, "f", "ab", 2);
	cred_assume(user, 0);
	assert_int_equal(cw_write(&w, &h, "c", 1, 2, false), 1);
	assert_int_equal(stat(cw_path(&w, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	cred_assume_service();
	cw_close(&w, &h);
	cw_stop(&w);
	free(user);
}

static void a_file_opened_for_writing_alone_is_written_in_part(void **state)
{
	struct cache_world w;
	struct cw_handle h;
	struct stat st;
	int fd;

	wb_start(&w, 4 * MIB);
	fd = open(cw_path(&w, "log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0200);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	close(fd);
	h = cw_open(&w, "log", O_WRONLY);
	assert_int_equal(cw_write(&w, &h, "a", 1, 0, true), 1); /* the first one is the host's */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(cw_write(&w, &h, "b", 1, 0, true), 1);
	assert_int_equal(cw_write(&w, &h, "c", 1, 5, false), 1);
	assert_int_equal(wb_dirty(&w), 1);
	assert_int_equal(ls_fsync(w.ls, h.file, true), 0);
	assert_int_equal(stat(cw_path(&w, "log"), &st), 0);
	assert_int_equal(st.st_size, 111);
	char back[16] = {0};
	fd = open(cw_path(&w, "log"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, back, 12, 0), 12);
	assert_memory_equal(back, "01234c6789ab", 12);
	close(fd);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void other_changes_come_after_it(void **state)
{
	char data[2 * PAGE], back[2 * PAGE];
	struct attr set = {.size = 100}, attr;
	struct cw_handle h, direct;
	struct cache_world w;

	wb_start(&w, 4 * MIB);
	memset(data, 'd', sizeof(data));
	h = wb_make(&w, "f", O_RDWR);
	assert_int_equal(cw_write(&w, &h, data, sizeof(data), 0, false), sizeof(data));
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, NULL, ATTR_SIZE, &set, &attr), 0);
	assert_int_equal(attr.size, 100);
	wb_check_host(&w, "f", data, 100);
	assert_int_equal(wb_size(&w, &h), 100);
	assert_int_equal(cw_read(&w, &h, back, PAGE, 0), 100);
	/* longer by a truncate: zeros */
	assert_int_equal(cw_write(&w, &h, data, 10, 0, true), 10);
	set.size = PAGE + 10;
	assert_int_equal(ls_setattr(w.ls, w.cred, h.node, h.file, ATTR_SIZE, &set, &attr), 0);
	assert_int_equal(cw_read(&w, &h, back, 2 * PAGE, 0), PAGE + 10);
	assert_memory_equal(back, data, 110);
	for (unsigned i = 110; i < PAGE + 10; i++)
		assert_int_equal(back[i], 0);
	/* holes */
	assert_int_equal(cw_write(&w, &h, data, 2 * PAGE, 0, false), 2 * PAGE);
	assert_int_equal(ls_allocate(w.ls, h.file, 3, 0, PAGE), 0);
	assert_int_equal(cw_read(&w, &h, back, 2 * PAGE, 0), 2 * PAGE);
	assert_int_equal(back[0], 0);
	assert_memory_equal(back + PAGE, data, PAGE);
	assert_int_equal(cw_write(&w, &h, data, PAGE, 8 * PAGE, false), PAGE);
	assert_int_equal(ls_seek(w.ls, h.file, 2 * PAGE, SEEK_DATA), 8 * PAGE);
	assert_int_equal(wb_dirty(&w), 0);
	/* a link, and a name that replaces another */
	assert_int_equal(cw_write(&w, &h, "1", 1, 0, false), 1);
	assert_int_equal(ls_link(w.ls, w.cred, h.node, w.root, "link"), 0);
	assert_int_equal(wb_dirty(&w), 0);
	assert_int_equal(cw_write(&w, &h, "2", 1, 1, false), 1);
	assert_int_equal(wb_dirty(&w), 1);
	assert_int_equal(ls_rename(w.ls, w.cred, w.root, "f", w.root, "g", 0), 0);
	assert_int_equal(wb_dirty(&w), 0);
	/* O_DIRECT reads what was written, and is read */
	assert_int_equal(cw_write(&w, &h, "3", 1, 2, false), 1);
	assert_int_equal(ls_open(w.ls, w.cred, h.node, O_RDWR | O_DIRECT, &direct.file), 0);
	direct.node = h.node;
	void *aligned = NULL;
	assert_int_equal(posix_memalign(&aligned, PAGE, PAGE), 0);
	assert_int_equal(cw_read(&w, &direct, aligned, PAGE, 0), PAGE);
	assert_memory_equal(aligned, "123", 3);
	assert_int_equal(cw_write(&w, &h, "4", 1, 3, false), 1);
	memset(aligned, 'D', PAGE);
	assert_int_equal(cw_write(&w, &direct, aligned, PAGE, 0, false), PAGE);
	assert_int_equal(cw_read(&w, &h, back, PAGE, 0), PAGE);
	assert_memory_equal(back, aligned, PAGE);
	assert_int_equal(wb_dirty(&w), 0);
	free(aligned);
	ls_release(w.ls, direct.file);
	cw_close(&w, &h);
	cw_stop(&w);
}

static void a_file_without_a_name_that_is_closed_is_not_written(void **state)
{
	struct cw_handle h;
	struct cache_world w;
	uint64_t calls;

	wb_start(&w, 4 * MIB);
	h = wb_make(&w, "f", O_RDWR);
	assert_int_equal(cw_write(&w, &h, "abc", 3, 0, false), 3);
	assert_int_equal(ls_unlink(w.ls, w.cred, w.root, "f", false), 0);
	char back[4];
	assert_int_equal(cw_read(&w, &h, back, 4, 0), 3);
	calls = atomic_load(&w.plan.calls);
	cw_close(&w, &h);
	assert_int_equal(wb_dirty(&w), 0);
	assert_true(atomic_load(&w.plan.calls) <= calls + 2); /* it asked for the links */
	cw_stop(&w);
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
			wb_pause();
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
	static const struct source ceph = {.kind = SOURCE_CEPH, .path = "/", .writeback = true};
	static const struct source cache = {
	    .kind = SOURCE_CACHE, .nlower = 1, .lower = {(struct source *)&ceph}};
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
