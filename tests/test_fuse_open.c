/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face and the other doors on the same files: mappings, programs, appends, locks, kernel
 * descriptors of open files. */
#include "danaus/fuse/face_impl.h"
#include "danaus/vfs/node.h"
#include "tests/lib/face_world.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define PAGE 4096

static struct vfile *open_vfs(const char *name, int flags)
{
	struct vtarget at = {.dir = vfs_instance_root(w.volume->instance), .path = name};
	struct vfile *file;

	assert_int_equal(vfs_open(&w.ctx, &at, flags, 0644, &file, NULL), 0);
	return file;
}

static ssize_t vwrite(struct vfile *file, const char *text, uint64_t offset)
{
	struct iovec iov = {(char *)text, strlen(text)};

	return vfs_write(&w.ctx, file, &iov, 1, offset, false);
}

static ssize_t vread(struct vfile *file, char *buf, size_t cap, uint64_t offset)
{
	struct iovec iov = {buf, cap};

	return vfs_read(&w.ctx, file, &iov, 1, offset);
}

static void assert_vfs_has(struct vfile *file, uint64_t offset, const char *text)
{
	char buf[64] = "";

	assert_int_equal(vread(file, buf, strlen(text), offset), strlen(text));
	assert_string_equal(buf, text);
}

static char *map(int fd, size_t len, int prot, int flags)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* --- mappings -------------------------------------------------------------------------------- */

static void a_writable_mapping_and_the_vfs_see_each_other(void **state)
{
	struct vfile *file = open_vfs("m", O_RDWR | O_CREAT | O_TRUNC);
	int fd = openat(w.face, "m", O_RDWR);
	char *p, *q;

	assert_int_equal(vwrite(file, "0123456789", 0), 10);
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	p = map(fd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	q = map(fd, 2 * PAGE, PROT_READ, MAP_SHARED);
	assert_memory_equal(p, "0123456789", 10);
	for (int i = 0; i < 20; i++) {
		char text[16];

		snprintf(text, sizeof(text), "mapped%03d", i);
		memcpy(p + PAGE, text, 9); /* dirty, never msync'ed */
		assert_vfs_has(file, PAGE, text);
		snprintf(text, sizeof(text), "writes%03d", i);
		assert_int_equal(vwrite(file, text, PAGE - 4), 9);
		assert_memory_equal(p + PAGE - 4, text, 9);
		assert_memory_equal(q + PAGE - 4, text, 9);
	}
	munmap(p, 2 * PAGE);
	munmap(q, 2 * PAGE);
	close(fd);
	vfile_unref(file);
}

static void a_mapping_outlives_its_descriptor(void **state)
{
	struct vfile *file = open_vfs("m2", O_RDWR | O_CREAT | O_TRUNC);
	int fd = openat(w.face, "m2", O_RDWR);
	char *p;

	assert_int_equal(ftruncate(fd, PAGE), 0);
	p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	close(fd);
	memcpy(p, "after", 5);
	assert_vfs_has(file, 0, "after");
	assert_int_equal(vwrite(file, "other", 0), 5);
	assert_memory_equal(p, "other", 5);
	memcpy(p + 100, "last", 4);
	munmap(p, PAGE);
	assert_vfs_has(file, 100, "last");
	vfile_unref(file);
}

static void a_read_only_mapping_follows_the_vfs(void **state)
{
	struct vfile *file = open_vfs("r", O_RDWR | O_CREAT | O_TRUNC);
	int fd = openat(w.face, "r", O_RDONLY);
	char *p, *private;

	assert_int_equal(vwrite(file, "one", 0), 3);
	p = map(fd, 4 * PAGE, PROT_READ, MAP_SHARED);
	private = map(fd, 4 * PAGE, PROT_READ, MAP_PRIVATE);
	assert_memory_equal(p, "one", 3);
	assert_memory_equal(private, "one", 3);
	assert_int_equal(vwrite(file, "two", 0), 3);
	assert_memory_equal(p, "two", 3);
	assert_memory_equal(private, "two", 3);
	/* growth: no SIGBUS beyond the end that the kernel knew */
	assert_int_equal(vwrite(file, "three", 3 * PAGE), 5);
	assert_memory_equal(p + 3 * PAGE, "three", 5);
	assert_memory_equal(private + 3 * PAGE, "three", 5);
	munmap(p, 4 * PAGE);
	munmap(private, 4 * PAGE);
	close(fd);
	vfile_unref(file);
}

static void touch_beyond(void *arg)
{
	char c = ((volatile char *)arg)[2 * PAGE];

	(void)c;
}

static void a_truncation_takes_the_pages(void **state)
{
	struct vtarget at = {.dir = vfs_instance_root(w.volume->instance), .path = "t"};
	struct setattr set = {.set = ATTR_SIZE, .attr = {.size = 3}};
	struct vfile *file = open_vfs("t", O_RDWR | O_CREAT | O_TRUNC);
	int fd = openat(w.face, "t", O_RDONLY);
	struct attr attr;
	int status;
	char *p;

	assert_int_equal(vwrite(file, "0123456789", 0), 10);
	assert_int_equal(vwrite(file, "end", 2 * PAGE), 3);
	p = map(fd, 3 * PAGE, PROT_READ, MAP_SHARED);
	assert_memory_equal(p + 2 * PAGE, "end", 3);
	assert_int_equal(vfs_setattr(&w.ctx, &at, &set, &attr), 0);
	assert_int_equal(p[0], '0');
	assert_int_equal(p[3], 0);
	signal(SIGBUS, SIG_DFL);
	status = verdict(child(touch_beyond, p));
	assert_true(status != 0);
	munmap(p, 3 * PAGE);
	close(fd);
	vfile_unref(file);
}

static void dirty_pages_do_not_come_back_after_a_truncation(void **state)
{
	struct vtarget at = {.dir = vfs_instance_root(w.volume->instance), .path = "dt"};
	struct setattr set = {.set = ATTR_SIZE, .attr = {.size = 2}};
	struct vfile *file = open_vfs("dt", O_RDWR | O_CREAT | O_TRUNC);
	int fd = openat(w.face, "dt", O_RDWR);
	struct attr attr;
	char *p;

	assert_int_equal(ftruncate(fd, PAGE), 0);
	p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p, "dirty", 5);
	assert_int_equal(vfs_setattr(&w.ctx, &at, &set, &attr), 0);
	assert_int_equal(vwrite(file, "X", 4), 1);
	assert_memory_equal(p, "di\0\0X", 5);
	memcpy(p, "again", 5);
	vfile_unref(open_vfs("dt", O_RDWR | O_TRUNC));
	assert_int_equal(vfs_stat(&w.ctx, &at, &attr), 0);
	assert_int_equal(attr.size, 0);
	munmap(p, PAGE);
	close(fd);
	assert_int_equal(vfs_stat(&w.ctx, &at, &attr), 0);
	assert_int_equal(attr.size, 0);
	/* an append beside a dirty last page */
	fd = openat(w.face, "dt", O_RDWR);
	assert_int_equal(ftruncate(fd, 10), 0);
	p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p, "0123456789", 10);
	{
		struct iovec iov = {(char *)"tail", 4};

		assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, 0, true), 4);
	}
	p[0] = 'D';
	assert_int_equal(msync(p, PAGE, MS_SYNC), 0);
	assert_vfs_has(file, 0, "D123456789tail");
	munmap(p, PAGE);
	close(fd);
	vfile_unref(file);
}

static void two_writers_in_two_processes_part(void *arg)
{
	int fd = openat(w.face, "shared", O_RDWR);
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(p != MAP_FAILED);
	for (int i = 0; i < 1000; i++)
		__atomic_fetch_add((int *)p, 1, __ATOMIC_SEQ_CST);
}

static void processes_share_a_mapping(void **state)
{
	struct vfile *file = open_vfs("shared", O_RDWR | O_CREAT | O_TRUNC);
	char zero[PAGE] = {0};
	struct iovec iov = {zero, PAGE};
	pid_t a, b;
	int sum;

	assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, 0, false), PAGE);
	a = child(two_writers_in_two_processes_part, NULL);
	b = child(two_writers_in_two_processes_part, NULL);
	assert_int_equal(verdict(a), 0);
	assert_int_equal(verdict(b), 0);
	assert_int_equal(vread(file, (char *)&sum, sizeof(sum), 0), sizeof(sum));
	assert_int_equal(sum, 2000);
	vfile_unref(file);
}

/* --- programs -------------------------------------------------------------------------------- */

static void copy_in(const char *from, const char *name, mode_t mode)
{
	struct vfile *file = open_vfs(name, O_RDWR | O_CREAT | O_TRUNC);
	int in = open(from, O_RDONLY | O_CLOEXEC);
	static char buf[65536];
	uint64_t at = 0;
	ssize_t n;

	assert_true(in >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0) {
		struct iovec iov = {buf, (size_t)n};

		assert_int_equal(vfs_write(&w.ctx, file, &iov, 1, at, false), n);
		at += (uint64_t)n;
	}
	close(in);
	vfile_unref(file);
	assert_int_equal(fchmodat(w.face, name, mode, 0), 0);
}

static void exec_as_user(void *arg)
{
	char *argv[] = {arg, NULL}, *envp[] = {NULL};

	CHECK(setgroups(0, NULL) == 0 && setresgid(1000, 1000, 1000) == 0 &&
	      setresuid(1000, 1000, 1000) == 0);
	execve(arg, argv, envp);
	_exit(errno);
}

static void programs_run(void **state)
{
	char path[128], script[256];
	struct vfile *file;

	copy_in("/bin/true", "true", 0755);
	path_of(path, sizeof(path), "face", "true");
	assert_int_equal(verdict(child(exec_as_user, path)), 0);
	/* executable, not readable */
	assert_int_equal(fchmodat(w.face, "true", 0111, 0), 0);
	assert_int_equal(verdict(child(exec_as_user, path)), 0);
	/* executable for others than this one */
	assert_int_equal(fchmodat(w.face, "true", 0700, 0), 0);
	assert_int_equal(WEXITSTATUS(verdict(child(exec_as_user, path))), 13);
	assert_int_equal(fchmodat(w.face, "true", 0755, 0), 0);

	file = open_vfs("script", O_RDWR | O_CREAT | O_TRUNC);
	snprintf(script, sizeof(script), "#!%s x\n", path);
	assert_int_equal(vwrite(file, script, 0), strlen(script));
	vfile_unref(file);
	assert_int_equal(fchmodat(w.face, "script", 0755, 0), 0);
	path_of(path, sizeof(path), "face", "script");
	assert_int_equal(verdict(child(exec_as_user, path)), 0);
}

static void a_running_program_is_not_written(void **state)
{
	struct vtarget at = {.dir = vfs_instance_root(w.volume->instance), .path = "sleeper"};
	struct setattr set = {.set = ATTR_SIZE, .attr = {.size = 0}};
	char path[128], *argv[] = {path, NULL}, byte;
	struct vfile *file;
	int in[2], out[2];
	pid_t pid;

	copy_in("/bin/cat", "sleeper", 0755);
	path_of(path, sizeof(path), "face", "sleeper");
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execv(path, argv);
		_exit(1);
	}
	assert_int_equal(write(in[1], "x", 1), 1);
	assert_int_equal(read(out[0], &byte, 1), 1); /* it runs */
	assert_int_equal(vfs_open(&w.ctx, &at, O_WRONLY, 0, &file, NULL), -ETXTBSY);
	assert_int_equal(vfs_open(&w.ctx, &at, O_RDONLY | O_TRUNC, 0, &file, NULL), -ETXTBSY);
	assert_int_equal(vfs_setattr(&w.ctx, &at, &set, NULL), -ETXTBSY);
	assert_int_equal(openat(w.face, "sleeper", O_WRONLY), -1);
	assert_int_equal(errno, ETXTBSY);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	assert_int_equal(verdict(pid), 0);
	/* and the other way round */
	file = open_vfs("sleeper", O_RDWR);
	assert_int_equal(WEXITSTATUS(verdict(child(exec_as_user, path))), 26);
	vfile_unref(file);
}

/* Nobody has read yet what the kernel says about closed descriptors. */
static void a_program_that_was_just_closed_runs(void **state)
{
	struct vfile *file;
	char path[128];
	int anchor;

	copy_in("/bin/true", "written", 0755);
	path_of(path, sizeof(path), "face", "written");
	file = open_vfs("written", O_RDWR);
	assert_int_equal(anchor_give(w.pool.anchors, file, 0, &anchor), 0);
	vfile_unref(file);
	assert_int_equal(WEXITSTATUS(verdict(child(exec_as_user, path))), ETXTBSY);
	anchor_give_done(w.pool.anchors, anchor);
	assert_int_equal(verdict(child(exec_as_user, path)), 0);
}

static int find_library(struct dl_phdr_info *info, size_t size, void *data)
{
	if (!strstr(info->dlpi_name, "libcmocka"))
		return 0;
	snprintf(data, 256, "%s", info->dlpi_name);
	return 1;
}

static void libraries_load(void **state)
{
	char from[256] = "", path[128];
	void *library;

	dl_iterate_phdr(find_library, from);
	assert_string_not_equal(from, "");
	copy_in(from, "library.so", 0644);
	path_of(path, sizeof(path), "face", "library.so");
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	assert_non_null(library);
	assert_non_null(dlsym(library, "_cmocka_run_group_tests"));
	dlclose(library);
}

/* --- positions and appends ------------------------------------------------------------------- */

static void appends_of_all_doors_follow_each_other(void **state)
{
	struct vfile *file = open_vfs("log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
	int fd = openat(w.face, "log", O_RDWR | O_APPEND);
	char buf[64] = "";

	for (int i = 0; i < 3; i++) {
		assert_int_equal(vwrite(file, "vfs,", 0), 4);
		assert_int_equal(write(fd, "face,", 5), 5);
		assert_int_equal(lseek(fd, 0, SEEK_CUR), 9 * (i + 1));
	}
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 27);
	assert_string_equal(buf, "vfs,face,vfs,face,vfs,face,");
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(pwrite(fd, "F", 1, 0), 1);
	assert_int_equal(pread(fd, buf, 4, 0), 4);
	assert_memory_equal(buf, "Ffs,", 4);
	close(fd);
	vfile_unref(file);
}

/* chattr(1), a */
static void an_append_only_file_is_appended_to(void **state)
{
	struct vfile *file = open_vfs("only", O_WRONLY | O_CREAT);
	int flags = FS_APPEND_FL, none = 0, host, reader, fd;
	char path[128], buf[2];
	char *map;

	vfile_unref(file);
	path_of(path, sizeof(path), "back", "only");
	host = open(path, O_RDONLY | O_CLOEXEC);
	if (ioctl(host, FS_IOC_SETFLAGS, &flags) < 0) {
		print_message("no append-only files here: %s\n", strerror(errno));
		close(host);
		skip();
	}
	vnode_unrest(vfile_node(file = open_vfs("only", O_PATH)), false);
	vfile_unref(file);
	assert_int_equal(openat(w.face, "only", O_WRONLY), -1);
	assert_int_equal(errno, EPERM);
	fd = openat(w.face, "only", O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "12", 2), 2);
	assert_int_equal(pwrite(fd, "34", 2, 0), 2);
	fcntl(fd, F_SETFL, 0);
	if (pwrite(fd, "5", 1, 0) == 1)
		assert_int_equal(lseek(fd, 0, SEEK_END), 5);
	close(fd);
	/* nor written in place by a mapping, where somebody reads it beside the service */
	reader = openat(w.face, "only", O_RDONLY);
	assert_int_equal(read(reader, buf, 2), 2);
	fd = openat(w.face, "only", O_RDWR | O_APPEND);
	map = fd < 0 ? MAP_FAILED : mmap(NULL, 2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED) {
		memcpy(map, "xx", 2);
		msync(map, 2, MS_SYNC);
		munmap(map, 2);
	}
	assert_int_equal(pread(host, buf, 2, 0), 2);
	assert_memory_equal(buf, "12", 2);
	close(fd);
	close(reader);
	assert_int_equal(ioctl(host, FS_IOC_SETFLAGS, &none), 0);
	close(host);
}

static void a_kernel_descriptor_is_the_same_open_file(void **state)
{
	struct vfile *file = open_vfs("k", O_RDWR | O_CREAT | O_TRUNC);
	char buf[16] = "";
	int fd, second;

	assert_int_equal(vwrite(file, "0123456789", VFS_AT_POSITION), 10);
	assert_int_equal(vfs_seek(&w.ctx, file, 2, SEEK_SET), 2);
	assert_int_equal(face_kernel_fd(w.volume->face, file, &fd), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 2);
	assert_int_equal(read(fd, buf, 3), 3);
	assert_memory_equal(buf, "234", 3);
	assert_int_equal(vread(file, buf, 2, VFS_AT_POSITION), 2);
	assert_memory_equal(buf, "56", 2);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 7);
	assert_int_equal(vfs_seek(&w.ctx, file, -1, SEEK_CUR), 6);
	assert_int_equal(write(fd, "X", 1), 1);
	assert_int_equal(vwrite(file, "Y", VFS_AT_POSITION), 1);
	assert_int_equal(pread(fd, buf, 16, 0), 10);
	assert_memory_equal(buf, "012345XY89", 10);
	assert_int_equal(face_kernel_fd(w.volume->face, file, &second), 0);
	assert_int_equal(lseek(second, 0, SEEK_CUR), 8);
	close(second);
	/* The program's descriptor goes on alone. */
	vfile_unref(file);
	assert_int_equal(lseek(fd, 1, SEEK_SET), 1);
	assert_int_equal(read(fd, buf, 2), 2);
	assert_memory_equal(buf, "12", 2);
	close(fd);
}

static void an_unlinked_file_gets_a_kernel_descriptor(void **state)
{
	struct vtarget at = {.dir = vfs_instance_root(w.volume->instance), .path = "gone"};
	struct vfile *file = open_vfs("gone", O_RDWR | O_CREAT | O_TRUNC);
	char buf[8] = "";
	struct stat st;
	char *p;
	int fd;

	assert_int_equal(vwrite(file, "ghost", 0), 5);
	assert_int_equal(vfs_unlink(&w.ctx, &at, false), 0);
	assert_int_equal(face_kernel_fd(w.volume->face, file, &fd), 0);
	assert_int_equal(read(fd, buf, 8), 5);
	assert_string_equal(buf, "ghost");
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p, "G", 1);
	assert_vfs_has(file, 0, "Ghost");
	munmap(p, PAGE);
	close(fd);
	vfile_unref(file);
}

static void an_appending_open_file_keeps_its_mapping_in_place(void **state)
{
	struct vfile *file = open_vfs("am", O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
	char buf[32] = "";
	char *p;
	int fd;

	assert_int_equal(vwrite(file, "0123456789", 0), 10);
	assert_int_equal(face_kernel_fd(w.volume->face, file, &fd), 0);
	assert_true(fcntl(fd, F_GETFL) & O_APPEND);
	p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p, "ab", 2);
	assert_int_equal(msync(p, PAGE, MS_SYNC), 0);
	assert_int_equal(write(fd, "!", 1), 1);
	assert_int_equal(pread(fd, buf, 32, 0), 11);
	assert_string_equal(buf, "ab23456789!");
	munmap(p, PAGE);
	close(fd);
	vfile_unref(file);
}

static void directories_get_kernel_descriptors(void **state)
{
	char want[256], path[256];
	struct vfile *file, *path_file;
	struct stat a, b;
	int fd, home;

	assert_int_equal(mkdirat(w.face, "d1", 0755), 0);
	assert_int_equal(mkdirat(w.face, "d1/d2", 0755), 0);
	assert_int_equal(mkdirat(w.face, "d1/d2/d3", 0755), 0);
	file = open_vfs("d1/d2/d3", O_RDONLY | O_DIRECTORY);
	assert_int_equal(face_kernel_fd(w.volume->face, file, &fd), 0);
	home = open(".", O_PATH | O_DIRECTORY);
	assert_int_equal(fchdir(fd), 0);
	path_of(want, sizeof(want), "face", "d1/d2/d3");
	assert_string_equal(getcwd(path, sizeof(path)), want);
	assert_int_equal(fchdir(home), 0);
	assert_int_equal(mkdirat(fd, "d4", 0755), 0);
	assert_int_equal(fstatat(w.face, "d1/d2/d3/d4", &a, 0), 0);
	close(fd);
	vfile_unref(file);

	path_file = open_vfs("d1/d2", O_PATH);
	assert_int_equal(face_kernel_fd(w.volume->face, path_file, &fd), 0);
	assert_true(fcntl(fd, F_GETFL) & O_PATH);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstatat(w.face, "d1/d2", &b, 0), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_dev, vfs_instance_dev(w.volume->instance));
	assert_ptr_equal(face_volume_of_dev(&w.container, a.st_dev), w.volume);
	close(fd);
	vfile_unref(path_file);
	close(home);
}

/* --- locks ----------------------------------------------------------------------------------- */

static int vlock(struct vfile *file, int cmd, short type)
{
	struct flock lock = {.l_type = type};

	return vfs_lock(&w.ctx, file, cmd, &lock);
}

static void locks_are_the_same_at_all_doors(void **state)
{
	struct vfile *file = open_vfs("l", O_RDWR | O_CREAT | O_TRUNC);
	struct flock lock = {.l_type = F_WRLCK}, ask = {.l_type = F_WRLCK};
	int fd = openat(w.face, "l", O_RDWR), other = openat(w.face, "l", O_RDWR);

	assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
	assert_int_equal(vlock(file, F_SETLK, F_RDLCK), -EAGAIN);
	close(other); /* POSIX: any close drops them */
	assert_int_equal(vlock(file, F_SETLK, F_RDLCK), 0);
	assert_int_equal(fcntl(fd, F_SETLK, &lock), -1);
	assert_true(errno == EAGAIN || errno == EACCES);
	assert_int_equal(fcntl(fd, F_GETLK, &ask), 0);
	assert_int_equal(ask.l_type, F_RDLCK);
	assert_int_equal(vlock(file, F_SETLK, F_UNLCK), 0);

	/* of open file descriptions: they conflict within a process, and survive another close */
	other = openat(w.face, "l", O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), -1);
	close(other);
	assert_int_equal(vlock(file, F_SETLK, F_WRLCK), -EAGAIN);
	lock.l_type = F_UNLCK;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);

	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(vfs_flock(&w.ctx, file, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_int_equal(vfs_flock(&w.ctx, file, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	vfile_unref(file);
	close(fd);
}

static void nothing(int signo)
{
}

static void blocked_part(void *arg)
{
	struct sigaction act = {.sa_handler = nothing};
	struct flock lock = {.l_type = F_WRLCK};
	int fd = openat(w.face, "b", O_RDWR);

	sigaction(SIGUSR1, &act, NULL);
	if (arg) {
		CHECK(fcntl(fd, F_SETLKW, &lock) == 0);
	} else {
		CHECK(fcntl(fd, F_SETLKW, &lock) == -1 && errno == EINTR);
	}
}

static void wait_for_waiters(unsigned n)
{
	unsigned have;

	do {
		pthread_mutex_lock(&w.volume->face->lock);
		have = w.volume->face->nwaiters;
		pthread_mutex_unlock(&w.volume->face->lock);
		sched_yield();
	} while (have != n);
}

static void a_blocked_lock_waits_and_a_signal_ends_it(void **state)
{
	struct vfile *file = open_vfs("b", O_RDWR | O_CREAT | O_TRUNC);
	pid_t pid;

	assert_int_equal(vlock(file, F_SETLK, F_WRLCK), 0);
	pid = child(blocked_part, NULL);
	wait_for_waiters(1);
	kill(pid, SIGUSR1);
	assert_int_equal(verdict(pid), 0);
	pid = child(blocked_part, &pid);
	wait_for_waiters(1);
	kill(pid, SIGKILL);
	verdict(pid);
	wait_for_waiters(0);
	pid = child(blocked_part, &pid);
	wait_for_waiters(1);
	assert_int_equal(vlock(file, F_SETLK, F_UNLCK), 0);
	assert_int_equal(verdict(pid), 0);
	vfile_unref(file);
}

#ifndef __SANITIZE_THREAD__ /* which does not know that nobody looks at the table just then */
static int lost(struct libservice *ls, struct ls_file *file)
{
	return -EIO;
}

static void a_close_tells_what_was_lost(void **state)
{
	struct libservice *ls = vfs_instance_root(w.volume->instance)->instance->ls;
	const struct libservice_ops *plain = ls->ops;
	struct libservice_ops losing = *plain;
	int fd;

	losing.flush = lost;
	ls->ops = &losing;
	fd = openat(w.face, "lost", O_RDWR | O_CREAT, 0644);
	assert_int_equal(close(fd), 0);
	fd = openat(w.face, "lost", O_RDWR);
	assert_int_equal(write(fd, "text", 4), 4);
	assert_int_equal(close(fd), -1);
	assert_int_equal(errno, EIO);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	ls->ops = plain;
	assert_int_equal(unlinkat(w.face, "lost", 0), 0);
}
#endif

static void changes_of_other_doors_show_at_once(void **state)
{
	struct vnode *root = vfs_instance_root(w.volume->instance);
	struct vtarget old = {.dir = root, .path = "c1"}, new = {.dir = root, .path = "c2"};
	struct setattr set = {.set = ATTR_MODE, .attr = {.mode = 0600}};
	struct vfile *file;
	struct attr attr;
	struct stat st;

	for (int i = 0; i < 20; i++) {
		assert_int_equal(fstatat(w.face, "c1", &st, 0), -1);
		file = open_vfs("c1", O_RDWR | O_CREAT | O_TRUNC);
		assert_int_equal(fstatat(w.face, "c1", &st, 0), 0);
		assert_int_equal(st.st_size, 0);
		assert_int_equal(vwrite(file, "abc", 0), 3);
		assert_int_equal(fstatat(w.face, "c1", &st, 0), 0);
		assert_int_equal(st.st_size, 3);
		assert_int_equal(vfs_setattr(&w.ctx, &old, &set, &attr), 0);
		assert_int_equal(fstatat(w.face, "c1", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(vfs_rename(&w.ctx, &old, &new, 0), 0);
		assert_int_equal(fstatat(w.face, "c1", &st, 0), -1);
		assert_int_equal(fstatat(w.face, "c2", &st, 0), 0);
		assert_int_equal(vfs_unlink(&w.ctx, &new, false), 0);
		assert_int_equal(fstatat(w.face, "c2", &st, 0), -1);
		vfile_unref(file);
	}
}

static void nothing_is_left_open(void **state)
{
	unsigned n;

	do { /* the kernel gives files back in its own time */
		n = 0;
		pthread_mutex_lock(&w.volume->face->lock);
		for (struct face_file *file = w.volume->face->files; file; file = file->next)
			n++;
		pthread_mutex_unlock(&w.volume->face->lock);
		sched_yield();
	} while (n != 2); /* the root, open here and in the face */
}

/* A service that is killed: it holds descriptors of its own mount, which nobody answers for any
 * more. */
static void killed_service_part(void *arg)
{
	struct vfile *file;
	int fd;

	CHECK(world_setup(NULL) == 0);
	file = open_vfs("dying", O_RDWR | O_CREAT);
	CHECK(face_kernel_fd(w.volume->face, file, &fd) == 0);
	close(fd);
	CHECK(vfile_kernel_fd(file) >= 0);
	kill(getpid(), SIGKILL);
}

static void a_killed_service_ends(void **state)
{
	world_base();
	assert_int_equal(WTERMSIG(verdict(child(killed_service_part, NULL))), SIGKILL);
	umount2(w.base, MNT_DETACH);
	assert_int_equal(rmdir(w.base), 0);
	w.base[0] = '\0';
}

/* As where the kernel cannot read the host's files itself. */
static int setup_usual(void **state)
{
	int r = world_setup(state);

	w.volume->face->beside = false;
	return r;
}

int main(void)
{
	const struct CMUnitTest before[] = {cmocka_unit_test(a_killed_service_ends)};
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_writable_mapping_and_the_vfs_see_each_other),
	    cmocka_unit_test(a_mapping_outlives_its_descriptor),
	    cmocka_unit_test(a_read_only_mapping_follows_the_vfs),
	    cmocka_unit_test(a_truncation_takes_the_pages),
	    cmocka_unit_test(dirty_pages_do_not_come_back_after_a_truncation),
	    cmocka_unit_test(processes_share_a_mapping),
	    cmocka_unit_test(programs_run),
	    cmocka_unit_test(a_running_program_is_not_written),
	    cmocka_unit_test(a_program_that_was_just_closed_runs),
	    cmocka_unit_test(libraries_load),
	    cmocka_unit_test(appends_of_all_doors_follow_each_other),
	    cmocka_unit_test(an_append_only_file_is_appended_to),
	    cmocka_unit_test(a_kernel_descriptor_is_the_same_open_file),
	    cmocka_unit_test(an_unlinked_file_gets_a_kernel_descriptor),
	    cmocka_unit_test(an_appending_open_file_keeps_its_mapping_in_place),
	    cmocka_unit_test(directories_get_kernel_descriptors),
	    cmocka_unit_test(locks_are_the_same_at_all_doors),
	    cmocka_unit_test(a_blocked_lock_waits_and_a_signal_ends_it),
#ifndef __SANITIZE_THREAD__
	    cmocka_unit_test(a_close_tells_what_was_lost),
#endif
	    cmocka_unit_test(changes_of_other_doors_show_at_once),
	    cmocka_unit_test(nothing_is_left_open),
	};

	if (!world_possible())
		return 77;
	if (cmocka_run_group_tests(before, NULL, NULL) != 0 ||
	    cmocka_run_group_tests(tests, world_setup, world_teardown) != 0)
		return 1;
	memset(&w, 0, sizeof(w));
	return cmocka_run_group_tests(tests, setup_usual, world_teardown);
}
