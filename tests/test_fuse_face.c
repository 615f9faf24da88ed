/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face gives the same answers as a directory on the host: one scenario in both, for
 * root, users, and the root of a user namespace. */
#include "tests/lib/face_world.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "danaus/base/fd.h"

#define SAY(expr)                                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		long say_r_ = (long)(expr);                                                        \
		dprintf(out, "%d %s = %ld %d\n", __LINE__, #expr, say_r_ < 0 ? -1 : say_r_,        \
			say_r_ < 0 ? errno : 0);                                                   \
	} while (0)
#define SAY_FD(expr)                                                                               \
	do {                                                                                       \
		errno = 0;                                                                         \
		int say_fd_ = (expr);                                                              \
		dprintf(out, "%d %s = %s %d\n", __LINE__, #expr, say_fd_ < 0 ? "-1" : "fd",        \
			say_fd_ < 0 ? errno : 0);                                                  \
		if (say_fd_ >= 0)                                                                  \
			close(say_fd_);                                                            \
	} while (0)

static void say_stat(int out, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		dprintf(out, "%s: errno %d\n", name, errno);
	else
		dprintf(out, "%s: mode %o nlink %lu uid %u gid %u size %ld rdev %lx\n", name,
			st.st_mode, S_ISDIR(st.st_mode) ? 0 : (unsigned long)st.st_nlink, st.st_uid,
			st.st_gid, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size,
			(unsigned long)st.st_rdev);
}

static long put(int dir, const char *name, int flags, mode_t mode, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | flags, mode);
	long n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n;
}

static long get(int dir, const char *name, int out)
{
	char text[256];
	int fd = openat(dir, name, O_RDONLY);
	long n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text));
	if (n >= 0)
		dprintf(out, "%s: %.*s\n", name, (int)n, text);
	close(fd);
	return n;
}

/* What root leaves for the others. */
static void furnish(int dir, int out)
{
	SAY(mkdirat(dir, "open", 0777));
	SAY(fchmodat(dir, "open", 0777, 0));
	SAY(mkdirat(dir, "sticky", 01777));
	SAY(fchmodat(dir, "sticky", 01777, 0));
	SAY(mkdirat(dir, "closed", 0700));
	SAY(mkdirat(dir, "search", 0711));
	SAY(mkdirat(dir, "list", 0744));
	SAY(mkdirat(dir, "setgid", 02777));
	SAY(fchownat(dir, "setgid", 0, 4321, 0));
	SAY(fchmodat(dir, "setgid", 02777, 0));
	SAY(put(dir, "closed/file", 0, 0666, "x"));
	SAY(put(dir, "search/file", 0, 0666, "abc"));
	SAY(put(dir, "list/file", 0, 0666, "abc"));
	SAY(put(dir, "sticky/root", 0, 0666, "abc"));
	SAY(put(dir, "secret", 0, 0600, "secret"));
	SAY(put(dir, "group", 0, 0640, "group"));
	SAY(fchownat(dir, "group", 0, 1001, 0));
	SAY(put(dir, "public", 0, 0644, "public"));
	SAY(put(dir, "suid", 0, 0755, "suid"));
	SAY(fchownat(dir, "suid", 1000, 1000, 0));
	SAY(fchmodat(dir, "suid", 06775, 0));
	SAY(put(dir, "acl", 0, 0600, "acl"));
	/* user::rw-, user:1000:r--, group::---, mask::r--, other::--- */
	static const unsigned char acl[] = {2,	 0,   0,    0, /* version */
					    1,	 0,   6,    0,	 255, 255, 255, 255, 2,	  0,
					    4,	 0,   0xe8, 3,	 0,   0,   4,	0,   0,	  0,
					    255, 255, 255,  255, 16,  0,   4,	0,   255, 255,
					    255, 255, 32,   0,	 0,   0,   255, 255, 255, 255};
	char path[64];
	int fd = openat(dir, "acl", O_RDONLY);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	SAY(setxattr(path, "system.posix_acl_access", acl, sizeof(acl), 0));
	say_stat(out, dir, "acl");
	close(fd);
	SAY(mkdirat(dir, "defacl", 0777));
	SAY(fchmodat(dir, "defacl", 0777, 0));
	fd = openat(dir, "defacl", O_RDONLY);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	SAY(setxattr(path, "system.posix_acl_default", acl, sizeof(acl), 0));
	close(fd);
}

/* Files of others. */
static void try_rights(int dir, int out)
{
	static const struct timespec times[2] = {{1000, 5}, {2000, 7}};

	SAY(get(dir, "secret", out));
	SAY(get(dir, "group", out));
	SAY(get(dir, "public", out));
	SAY(get(dir, "acl", out));
	SAY(put(dir, "acl", O_TRUNC, 0, "acl"));
	SAY(put(dir, "public", 0, 0, "public"));
	SAY(get(dir, "closed/file", out));
	SAY(get(dir, "search/file", out));
	SAY(get(dir, "list/file", out));
	SAY_FD(openat(dir, "search", O_RDONLY | O_DIRECTORY));
	SAY_FD(openat(dir, "list", O_RDONLY | O_DIRECTORY));
	SAY_FD(openat(dir, "closed/../public", O_RDONLY));
	SAY_FD(openat(dir, "search/../public", O_RDONLY));
	SAY_FD(openat(dir, "public", O_RDONLY | O_NOATIME));
	SAY_FD(openat(dir, "public", O_RDONLY | O_DIRECTORY));
	SAY_FD(openat(dir, "open", O_WRONLY));
	SAY_FD(openat(dir, "public", O_PATH));
	SAY(unlinkat(dir, "sticky/root", 0));
	SAY(renameat(dir, "sticky/root", dir, "open/root"));
	SAY(renameat(dir, "open/root", dir, "sticky/root"));
	SAY(fchmodat(dir, "public", 0644, 0));
	SAY(fchownat(dir, "public", 1000, (gid_t)-1, 0));
	SAY(fchownat(dir, "public", 0, 0, 0));
	SAY(utimensat(dir, "public", times, 0));
	SAY(utimensat(dir, "public", NULL, 0));
	SAY(faccessat(dir, "secret", R_OK, 0));
	SAY(faccessat(dir, "acl", R_OK, 0));
	SAY(faccessat(dir, "acl", W_OK, 0));
	SAY(faccessat(dir, "closed", X_OK, 0));
	SAY(faccessat(dir, "suid", X_OK, 0));
}

static void make_files(int dir, int out)
{
	SAY(mkdirat(dir, "open/d", 0777));
	SAY(mkdirat(dir, "open/d", 0777));
	say_stat(out, dir, "open/d");
	SAY(mkdirat(dir, "setgid/d", 0777));
	say_stat(out, dir, "setgid/d");
	SAY(put(dir, "setgid/f", O_EXCL, 0666, "f"));
	say_stat(out, dir, "setgid/f");
	SAY(fchmodat(dir, "setgid/f", 02755, 0));
	say_stat(out, dir, "setgid/f");
	SAY(put(dir, "defacl/f", O_EXCL, 0666, "f"));
	say_stat(out, dir, "defacl/f");
	SAY(put(dir, "open/d/f", O_EXCL, 0666, "hello"));
	SAY(put(dir, "open/d/f", O_EXCL, 0666, "hello"));
	SAY(put(dir, "open/d/none", O_EXCL, 0, "no mode"));
	say_stat(out, dir, "open/d/none");
	SAY(put(dir, "closed/new", 0, 0666, "x"));
	say_stat(out, dir, "open/d/f");
	SAY(put(dir, "open/d/f", O_TRUNC, 0, "hi"));
	SAY(put(dir, "open/d/f", O_APPEND, 0, " there"));
	SAY(get(dir, "open/d/f", out));
}

static void make_links(int dir, int out)
{
	char text[256];

	SAY(symlinkat("f", dir, "open/d/s"));
	SAY(symlinkat("nowhere", dir, "open/d/broken"));
	SAY(symlinkat("loop", dir, "open/d/loop"));
	say_stat(out, dir, "open/d/s");
	SAY(get(dir, "open/d/s", out));
	SAY(readlinkat(dir, "open/d/s", text, sizeof(text)));
	SAY_FD(openat(dir, "open/d/s", O_RDONLY | O_NOFOLLOW));
	SAY_FD(openat(dir, "open/d/loop", O_RDONLY));
	SAY(put(dir, "open/d/broken", 0, 0666, "made"));
	say_stat(out, dir, "open/d/nowhere");
	SAY(linkat(dir, "open/d/f", dir, "open/d/hard", 0));
	SAY(linkat(dir, "open/d/f", dir, "open/d/hard", 0));
	SAY(linkat(dir, "secret", dir, "open/d/hard2", 0));
	SAY(linkat(dir, "open/d", dir, "open/d2", 0));
	say_stat(out, dir, "open/d/hard");
	SAY(mknodat(dir, "open/d/fifo", S_IFIFO | 0644, 0));
	SAY(mknodat(dir, "open/d/sock", S_IFSOCK | 0644, 0));
	SAY(mknodat(dir, "open/d/reg", S_IFREG | 0644, 0));
	SAY(mknodat(dir, "open/d/chr", S_IFCHR | 0644, (dev_t)0x103));
	say_stat(out, dir, "open/d/fifo");
	say_stat(out, dir, "open/d/sock");
	say_stat(out, dir, "open/d/chr");
	SAY_FD(openat(dir, "open/d/fifo", O_RDWR | O_NONBLOCK));
}

static void change_attributes(int dir, int out)
{
	static const struct timespec times[2] = {{1000, 5}, {2000, 7}};
	struct stat st;

	SAY(fchmodat(dir, "open/d/f", 04711, 0));
	say_stat(out, dir, "open/d/f");
	SAY(put(dir, "open/d/f", 0, 0, "H")); /* set-user-id goes unless the writer may keep it */
	say_stat(out, dir, "open/d/f");
	SAY(fchmodat(dir, "open/d/f", 06755, 0));
	SAY(fchownat(dir, "open/d/f", (uid_t)-1, getegid(), 0));
	say_stat(out, dir, "open/d/f");
	SAY(fchownat(dir, "open/d/f", 12, 34, 0));
	say_stat(out, dir, "open/d/f");
	SAY(put(dir, "suid", 0, 0, "S"));
	say_stat(out, dir, "suid");
	SAY(utimensat(dir, "open/d/hard", times, 0));
	SAY(fstatat(dir, "open/d/f", &st, 0));
	dprintf(out, "times %ld.%09ld %ld.%09ld\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
		(long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void rename_and_remove(int dir, int out)
{
	SAY(mkdirat(dir, "open/e", 0755));
	SAY(renameat(dir, "open/d/reg", dir, "open/e/reg"));
	SAY(renameat(dir, "open/e", dir, "open/d"));
	SAY(renameat(dir, "open/d", dir, "open/d/sub"));
	SAY(renameat(dir, "open/e", dir, "open/d/f"));
	SAY(renameat(dir, "open/d/f", dir, "open/e"));
	SAY(syscall(SYS_renameat2, dir, "open/d/f", dir, "open/d/hard", 1 /* NOREPLACE */));
	SAY(syscall(SYS_renameat2, dir, "open/d/nowhere", dir, "open/e/reg", 2 /* EXCHANGE */));
	SAY(renameat(dir, "missing", dir, "open/x"));
	say_stat(out, dir, "open/e/reg");
	SAY(unlinkat(dir, "open/e", AT_REMOVEDIR));
	SAY(unlinkat(dir, "open/e", 0));
	SAY(unlinkat(dir, "open/e/reg", AT_REMOVEDIR));
	SAY(unlinkat(dir, "open/e/reg", 0));
	SAY(unlinkat(dir, "open/e/reg", 0));
	SAY(unlinkat(dir, "open/e", AT_REMOVEDIR));
	SAY(unlinkat(dir, "secret", 0));
}

static void set_xattrs(int out, const char *path)
{
	char text[256];

	SAY(setxattr(path, "user.a", "value", 5, 0));
	SAY(setxattr(path, "user.a", "value", 5, XATTR_CREATE));
	SAY(setxattr(path, "user.b", "value", 5, XATTR_REPLACE));
	SAY(getxattr(path, "user.a", text, sizeof(text)));
	SAY(getxattr(path, "user.a", NULL, 0));
	SAY(getxattr(path, "user.a", text, 2));
	SAY(getxattr(path, "user.none", text, sizeof(text)));
	SAY(listxattr(path, NULL, 0));
	SAY(removexattr(path, "user.a"));
	SAY(removexattr(path, "user.a"));
	SAY(setxattr(path, "trusted.a", "v", 1, 0));
	SAY(getxattr(path, "system.posix_acl_access", text, sizeof(text)));
}

static void use_open_file(int dir, int out)
{
	char text[256], path[64];
	struct stat st;
	int fd;

	fd = openat(dir, "open/d/x", O_RDWR | O_CREAT, 0644);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	set_xattrs(out, path);
	SAY(pwrite(fd, "0123456789", 10, 5));
	SAY(pread(fd, text, sizeof(text), 0));
	SAY(lseek(fd, 0, SEEK_END));
	SAY(write(fd, "ab", 2));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(lseek(fd, -100, SEEK_CUR));
	SAY(ftruncate(fd, 3));
	SAY(fstat(fd, &st));
	dprintf(out, "size %ld\n", (long)st.st_size);
	SAY(fallocate(fd, 0, 0, 8192));
	SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	SAY(fstat(fd, &st));
	dprintf(out, "size %ld\n", (long)st.st_size);
	SAY(lseek(fd, 0, SEEK_DATA) >= 0);
	SAY(lseek(fd, 100000, SEEK_DATA));
	SAY(fsync(fd));
	SAY(fdatasync(fd));
	SAY(fchmod(fd, 0));
	SAY(fchmod(fd, 0600));
	SAY(ftruncate(fd, -1));
	SAY(ioctl(fd, 0x12345678, 0) == -1 && (errno == ENOTTY || errno == EOPNOTSUPP) ? 0 : -1);
	SAY(unlinkat(dir, "open/d/x", 0));
	SAY(pwrite(fd, "still", 5, 0));
	SAY(fstat(fd, &st));
	dprintf(out, "nlink %ld\n", (long)st.st_nlink);
	close(fd);
}

static void link_unnamed(int dir, int out)
{
	char path[64];
	int fd;

	fd = openat(dir, "open/d", O_TMPFILE | O_RDWR, 0640);
	SAY(fd < 0 ? -1 : 0);
	SAY(write(fd, "tmp", 3));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	SAY(linkat(AT_FDCWD, path, dir, "open/d/tmp", AT_SYMLINK_FOLLOW));
	say_stat(out, dir, "open/d/tmp");
	close(fd);
}

static void walk(int dir, int out)
{
	char text[256], longer[300];

	SAY(fchdir(dir));
	SAY(chdir("closed"));
	SAY(chdir("open/d"));
	SAY(access("../d/tmp", R_OK));
	SAY(chdir("/"));
	SAY_FD(openat(dir, "", O_RDONLY));
	memset(text, 'n', sizeof(text));
	text[255] = 0;
	SAY(mkdirat(dir, text, 0700));
	SAY(unlinkat(dir, text, AT_REMOVEDIR));
	memset(longer, 'n', sizeof(longer));
	longer[299] = 0;
	SAY_FD(openat(dir, longer, O_RDONLY));
}

static void scenario(int dir, int out)
{
	static const char *const seen[] = {"acl",  "closed",	  "search/file", "sticky/root",
					   "suid", "closed/file", "missing",	 "list/file"};

	umask(022);
	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
		say_stat(out, dir, seen[i]);
	try_rights(dir, out);
	make_files(dir, out);
	make_links(dir, out);
	change_attributes(dir, out);
	rename_and_remove(dir, out);
	use_open_file(dir, out);
	link_unnamed(dir, out);
	walk(dir, out);
}

struct play {
	void (*become)(void);
	void (*act)(int dir, int out);
	int dir, out;
};

static void play_part(void *arg)
{
	struct play *play = arg;

	if (play->become)
		play->become();
	play->act(play->dir, play->out);
}

static char *perform(int dir, void (*become)(void), void (*act)(int, int))
{
	int out = memfd_create("out", MFD_CLOEXEC);
	struct play play = {become, act, dir, out};
	char *text;

	assert_int_equal(verdict(child(play_part, &play)), 0);
	lseek(out, 0, SEEK_SET);
	assert_true(fd_read_all(out, 1 << 20, &text, NULL) >= 0);
	close(out);
	return text;
}

static void clear(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "find '%s/%s' -mindepth 1 -delete", w.base, dir);
	assert_int_equal(system(command), 0);
}

static void assert_same_lines(char *a, char *b)
{
	char *sa, *sb, *la = strtok_r(a, "\n", &sa), *lb = strtok_r(b, "\n", &sb);
	int wrong = 0;

	for (; la && lb; la = strtok_r(NULL, "\n", &sa), lb = strtok_r(NULL, "\n", &sb))
		if (strcmp(la, lb) != 0) {
			print_error("face:  %s\nplain: %s\n", la, lb);
			wrong++;
		}
	assert_true(!la && !lb);
	assert_int_equal(wrong, 0);
}

static void same_for(void (*become)(void))
{
	char *face, *plain;

	clear("face");
	clear("plain");
	face = perform(w.face, NULL, furnish);
	plain = perform(w.plain, NULL, furnish);
	assert_same_lines(face, plain);
	free(face);
	free(plain);
	face = perform(w.face, become, scenario);
	plain = perform(w.plain, become, scenario);
	assert_same_lines(face, plain);
	free(face);
	free(plain);
	clear("face");
	clear("plain");
}

static void become_user(void)
{
	gid_t groups[] = {1001, 1002};

	CHECK(setgroups(2, groups) == 0 && setresgid(1000, 1000, 1000) == 0 &&
	      setresuid(1000, 1000, 1000) == 0);
}

static void become_owner_of_nothing(void)
{
	CHECK(setgroups(0, NULL) == 0 && setresgid(2000, 2000, 2000) == 0 &&
	      setresuid(2000, 2000, 2000) == 0);
}

/* uid 1000 of the host, root with all capabilities in a user namespace of its own */
static void become_namespace_root(void)
{
	become_user();
	prctl(PR_SET_DUMPABLE, 1);
	CHECK(unshare(CLONE_NEWUSER) == 0);
	int fd = open("/proc/self/setgroups", O_WRONLY);
	CHECK(write(fd, "deny", 4) == 4);
	close(fd);
	fd = open("/proc/self/uid_map", O_WRONLY);
	CHECK(write(fd, "0 1000 1", 8) == 8);
	close(fd);
	fd = open("/proc/self/gid_map", O_WRONLY);
	CHECK(write(fd, "0 1000 1", 8) == 8);
	close(fd);
}

static void root_gets_the_same_answers(void **state)
{
	same_for(NULL);
}

static void a_user_gets_the_same_answers(void **state)
{
	same_for(become_user);
	same_for(become_owner_of_nothing);
}

static void the_root_of_a_user_namespace_gets_the_same_answers(void **state)
{
	same_for(become_namespace_root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(root_gets_the_same_answers),
	    cmocka_unit_test(a_user_gets_the_same_answers),
	    cmocka_unit_test(the_root_of_a_user_namespace_gets_the_same_answers),
	};

	return world_run(tests);
}
