/* SPDX-License-Identifier: Apache-2.0 */
/* The vfs's open files: their life, positions, appends, listings, and the kernel's view of them. */
#include "tests/lib/vfs_world.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>

static void unlinked_files_live_until_the_last_close(void **state)
{
	struct vfs_world *w = *state;
	struct vtarget at = env_at(&w->env, "f"), self;
	struct vfile *file;
	struct statvfs fs;
	struct attr attr;
	uint64_t type;
	char buf[8];

	vw_make_file(w, "f", "kept");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	self = (struct vtarget){.file = file};
	assert_int_equal(vfs_stat(&w->env.ctx, &self, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 8, 0), 4);
	assert_int_equal(env_write(&w->env.ctx, file, "more", 4, 4), 4);
	vw_make_file(w, "f", "new");
	assert_int_equal(env_read(&w->env.ctx, file, buf, 8, 0), 8);
	assert_memory_equal(buf, "keptmore", 8);
	assert_int_equal(vfs_statfs(&w->env.ctx, &self, &fs, &type), 0);
	vfile_unref(file);
}

static void nothing_of_a_removed_file_rests(void **state)
{
	struct vfs_world *w = *state;
	struct vtarget at = env_at(&w->env, "f"), over = env_at(&w->env, "g");
	unsigned before = env_count_fds();

	vw_make_file(w, "f", "text");
	assert_true(env_count_fds() > before); /* the inode, and its file rests */
	assert_int_equal(vfs_unlink(&w->env.ctx, &at, false), 0);
	assert_int_equal(env_count_fds(), before);
	vw_make_file(w, "f", "text");
	vw_make_file(w, "g", "text");
	assert_int_equal(vfs_rename(&w->env.ctx, &at, &over, 0), 0);
	assert_int_equal(vfs_unlink(&w->env.ctx, &over, false), 0);
	assert_int_equal(env_count_fds(), before);
}

static void positions_are_the_open_files(void **state)
{
	struct vfs_world *w = *state;
	struct vfile *file, *again;
	char buf[8] = "";

	vw_make_file(w, "f", "0123456789");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &again), 0);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 3, VFS_AT_POSITION), 3);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 3, VFS_AT_POSITION), 3);
	assert_memory_equal(buf, "345", 3);
	assert_int_equal(env_read(&w->env.ctx, again, buf, 3, VFS_AT_POSITION), 3);
	assert_memory_equal(buf, "012", 3);
	assert_int_equal(vfs_seek(&w->env.ctx, file, -2, SEEK_END), 8);
	assert_int_equal(vfs_seek(&w->env.ctx, file, -9, SEEK_CUR), -EINVAL);
	assert_int_equal(vfs_seek(&w->env.ctx, file, 0, SEEK_CUR), 8);
	assert_int_equal(env_write(&w->env.ctx, again, "x", 1, 0), -EBADF);
	vfile_unref(again);
	/* With a kernel descriptor, the position is there. */
	int fd = open(env_host(&w->env, "f"), O_RDWR | O_CLOEXEC), mine = dup(fd);
	vfile_ref(file); /* the kernel's file holds one */
	vfile_set_kernel_fd(file, fd);
	assert_int_equal(lseek(mine, 0, SEEK_CUR), 8);
	assert_int_equal(lseek(mine, 5, SEEK_SET), 5);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 2, VFS_AT_POSITION), 2);
	assert_memory_equal(buf, "56", 2);
	assert_int_equal(lseek(mine, 0, SEEK_CUR), 7);
	close(mine);
	vfile_unref(file);
	assert_int_equal(vfile_kernel_fd(file), -1);
	vfile_unref(file);
}

#define APPENDS 300

struct appender {
	struct vfs_world *w;
	char letter;
};

static void *append_all(void *arg)
{
	struct appender *me = arg;
	struct vctx ctx = env_ctx(me->w->env.root, me->letter);
	struct vfile *file;
	char text[32];

	memset(text, me->letter, sizeof(text));
	if (env_open(&me->w->env, &ctx, "log", O_WRONLY | O_APPEND, 0, &file) < 0)
		return arg;
	for (int i = 0; i < APPENDS; i++) {
		if (env_write(&ctx, file, text, sizeof(text), VFS_AT_POSITION) != sizeof(text))
			return arg;
	}
	vfile_unref(file);
	return NULL;
}

static void appends_do_not_overwrite(void **state)
{
	struct vfs_world *w = *state;
	struct appender who[4];
	pthread_t threads[4];
	struct vfile *file;
	char text[32];
	struct attr attr;

	vw_make_file(w, "log", "");
	for (int i = 0; i < 4; i++) {
		who[i] = (struct appender){w, 'a' + i};
		pthread_create(&threads[i], NULL, append_all, &who[i]);
	}
	for (int i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(env_stat(&w->env, &w->env.ctx, "log", &attr), 0);
	assert_int_equal(attr.size, 4 * APPENDS * sizeof(text));
	assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_RDONLY, 0, &file), 0);
	while (env_read(&w->env.ctx, file, text, sizeof(text), VFS_AT_POSITION) > 0) {
		for (size_t i = 1; i < sizeof(text); i++)
			assert_int_equal(text[i], text[0]);
	}
	vfile_unref(file);
}

/* Opens share what is below, but the one that wrote is told, and a close after no write asks
 * nobody. */
static void who_wrote_is_told_at_close(void **state)
{
	struct vfs_world *w = *state;
	struct fault_plan *plan = &w->env.plan;
	struct vfile *writer, *other;
	uint64_t calls;

	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR | O_CREAT, 0644, &writer), 0);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &other), 0);
	assert_int_equal(env_write(&w->env.ctx, writer, "text", 4, 0), 4);
	atomic_store(&plan->error, -EIO);
	calls = atomic_load(&plan->calls);
	atomic_store(&plan->first, calls + 1);
	assert_int_equal(vfile_flush(other), 0);
	assert_int_equal(atomic_load(&plan->calls), calls);
	assert_int_equal(vfile_flush(writer), -EIO);
	assert_int_equal(atomic_load(&plan->calls), calls + 1);
	assert_int_equal(vfile_flush(writer), 0);
	assert_int_equal(atomic_load(&plan->calls), calls + 1);
	assert_int_equal(vfs_allocate(&w->env.ctx, other, 0, 0, 10), 0);
	atomic_store(&plan->first, calls + 3);
	assert_int_equal(vfile_flush(other), -EIO);
	atomic_store(&plan->first, 0);
	vfile_unref(writer);
	vfile_unref(other);
}

static int set_append_only(struct vfs_world *w, const char *name, bool on)
{
	int fd = open(env_host(&w->env, name), O_RDONLY | O_CLOEXEC), flags = on ? FS_APPEND_FL : 0,
	    r;

	r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	close(fd);
	return r;
}

static void an_append_only_file_can_be_appended_to(void **state)
{
	struct vfs_world *w = *state;
	struct vfile *file, *other;
	char text[8];
	int fd = open(env_host(&w->env, "log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	assert_int_equal(fd_write_all(fd, "one", 3), 0);
	close(fd);
	if (set_append_only(w, "log", true) < 0) {
		print_message("no append-only files here: %s\n", strerror(errno));
		skip();
	}
	for (int twice = 0; twice < 2; twice++) {
		assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_WRONLY, 0, &file), -EPERM);
		assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_RDWR | O_APPEND, 0, &file),
				 0);
		assert_int_equal(env_write(&w->env.ctx, file, "+", 1, VFS_AT_POSITION), 1);
		assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_RDWR, 0, &other), -EPERM);
		assert_int_equal(env_read(&w->env.ctx, file, text, sizeof(text), 0), 4 + twice);
		assert_memory_equal(text, "one++", 4 + twice);
		assert_int_equal(vfs_setfl(&w->env.ctx, file, 0), -EPERM);
		assert_int_equal(vfs_setfl(&w->env.ctx, file, O_APPEND | O_NONBLOCK), 0);
		vfile_unref(file);
		assert_int_equal(env_open(&w->env, &w->env.ctx, "log", O_RDONLY, 0, &file), 0);
		assert_int_equal(vfs_setfl(&w->env.ctx, file, O_APPEND), -EPERM);
		vfile_unref(file);
	}
	assert_int_equal(set_append_only(w, "log", false), 0);
}

static void files_end_at_the_limit(void **state)
{
	struct vfs_world *w = *state;
	struct vctx ctx = w->env.ctx;
	struct vtarget at = env_at(&w->env, "f");
	struct setattr set = {.set = ATTR_SIZE, .attr.size = 101};
	struct vfile *file;

	ctx.fsize_limit = 100;
	assert_int_equal(env_open(&w->env, &ctx, "f", O_RDWR | O_CREAT, 0600, &file), 0);
	assert_int_equal(env_write(&ctx, file, "0123456789", 10, 95), 5);
	assert_int_equal(env_write(&ctx, file, "0123456789", 10, 100), -EFBIG);
	assert_int_equal(vfs_setattr(&ctx, &at, &set, NULL), -EFBIG);
	assert_int_equal(vfs_allocate(&ctx, file, 0, 0, 101), -EFBIG);
	assert_int_equal(vfs_setfl(&ctx, file, O_APPEND), 0);
	assert_int_equal(env_write(&ctx, file, "0", 1, 0), -EFBIG);
	vfile_unref(file);
}

static void opening_again_needs_no_host(void **state)
{
	struct vfs_world *w = *state;
	struct vfile *file;
	uint64_t calls;

	vw_make_file(w, "f", "text");
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	vfile_unref(file);
	calls = atomic_load(&w->env.plan.calls);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &file), 0);
	vfile_unref(file);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	vfile_unref(file);
	assert_true(atomic_load(&w->env.plan.calls) <= calls + 3); /* the second may be over */
	/* But whoever waits for events gets them. */
	struct vtarget at = env_at(&w->env, "f");
	struct vnode *node;

	assert_int_equal(vfs_lookup(&w->env.ctx, &at, &node, NULL), 0);
	close(vnode_host_fd(node));
	vnode_unref(node);
	unsigned fds = env_count_fds();

	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDONLY, 0, &file), 0);
	vfile_unref(file);
	assert_int_equal(env_count_fds(), fds);
}

struct record {
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

static void a_directory_is_listed_whole(void **state)
{
	struct vfs_world *w = *state;
	struct vfile *file;
	char name[32], buf[4096];
	unsigned seen = 0, dots = 0;
	uint64_t next = 0;
	ssize_t n;

	vw_make_dir(w, "d");
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		assert_int_equal(mknod(env_host(&w->env, name), S_IFREG | 0600, 0), 0);
	}
	assert_int_equal(env_open(&w->env, &w->env.ctx, "d", O_RDONLY | O_DIRECTORY, 0, &file), 0);
	while ((n = vfs_readdir(&w->env.ctx, file, VFS_AT_POSITION, buf, sizeof(buf), &next)) > 0) {
		for (ssize_t at = 0; at < n;) {
			struct record *rec = (struct record *)(buf + at);

			if (rec->name[0] == '.')
				dots++;
			else
				seen++;
			at += rec->len;
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(seen, 2000);
	assert_int_equal(dots, 2);
	assert_int_equal(vfs_readdir(&w->env.ctx, file, 0, buf, 8, &next), -EINVAL);
	/* Rewound, it is read anew. */
	vw_make_file(w, "d/late", "");
	assert_int_equal(vfs_seek(&w->env.ctx, file, 0, SEEK_SET), 0);
	for (seen = 0;
	     (n = vfs_readdir(&w->env.ctx, file, VFS_AT_POSITION, buf, sizeof(buf), NULL)) > 0;)
		for (ssize_t at = 0; at < n; at += ((struct record *)(buf + at))->len)
			seen++;
	assert_int_equal(seen, 2003);
	vfile_unref(file);
}

struct fake_face {
	int changes, fd, uses;
	uint64_t offset, len;
};

static void fake_changed(void *arg, struct vnode *node, uint64_t offset, uint64_t len)
{
	struct fake_face *face = arg;

	face->changes++;
	face->offset = offset;
	face->len = len;
}

static int fake_io_fd(void *arg, struct vnode *node)
{
	struct fake_face *face = arg;

	face->uses++;
	return face->fd;
}

static void fake_io_done(void *arg, struct vnode *node)
{
	((struct fake_face *)arg)->uses--;
}

static void the_kernels_view_is_kept_coherent(void **state)
{
	struct vfs_world *w = *state;
	struct fake_face fake = {0};
	const struct face face = {
	    .changed = fake_changed, .io_fd = fake_io_fd, .io_done = fake_io_done, .arg = &fake};
	struct vfile *file;
	struct vnode *node;
	char buf[8];

	vw_make_file(w, "f", "plain");
	vw_make_file(w, "mapped", "mapped");
	fake.fd = open(env_host(&w->env, "mapped"), O_RDWR | O_CLOEXEC);
	vfs_instance_set_face(w->env.instance, &face);
	assert_int_equal(env_open(&w->env, &w->env.ctx, "f", O_RDWR, 0, &file), 0);
	node = vfile_node(file);
	env_write(&w->env.ctx, file, "P", 1, 0);
	assert_int_equal(fake.changes, 0);
	vnode_face_open(node, false);
	env_write(&w->env.ctx, file, "P", 1, 3);
	assert_int_equal(fake.changes, 1);
	assert_int_equal(fake.offset, 3);
	assert_int_equal(fake.len, 1);
	/* While it may have dirty pages, the kernel has the newest bytes. */
	vnode_face_open(node, true);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 6, 0), 6);
	assert_memory_equal(buf, "mapped", 6);
	assert_int_equal(env_write(&w->env.ctx, file, "M", 1, 0), 1);
	assert_int_equal(vfs_fsync(&w->env.ctx, file, true), 0);
	assert_int_equal(fake.uses, 0);
	/* But the kernel's own calls are served here. */
	vfs_in_face = true;
	assert_int_equal(env_read(&w->env.ctx, file, buf, 5, 0), 5);
	assert_memory_equal(buf, "PlaPn", 5);
	vfs_in_face = false;
	vnode_face_close(node, true);
	vnode_face_close(node, false);
	assert_int_equal(env_read(&w->env.ctx, file, buf, 5, 0), 5);
	assert_memory_equal(buf, "PlaPn", 5);
	vfile_unref(file);
	close(fake.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    VW_TEST(unlinked_files_live_until_the_last_close),
	    VW_TEST(nothing_of_a_removed_file_rests),
	    VW_TEST(positions_are_the_open_files),
	    VW_TEST(appends_do_not_overwrite),
	    VW_TEST(an_append_only_file_can_be_appended_to),
	    VW_TEST(files_end_at_the_limit),
	    VW_TEST(opening_again_needs_no_host),
	    VW_TEST(a_directory_is_listed_whole),
	    VW_TEST(the_kernels_view_is_kept_coherent),
	    VW_TEST(who_wrote_is_told_at_close),
	};

	return env_run(tests);
}
