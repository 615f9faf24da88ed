/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls: attributes, names and directories. */
#include "tests/prog/filecalls.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static void times(int fd, int d)
{
	struct timespec ts[2] = {{1000, 5}, {2000, 7}};
	struct timeval tv[2] = {{11, 22}, {33, 44}};
	struct utimbuf ut = {3, 4};
	struct stat st;

	R(utimensat(d, "attr", ts, 0));
	R(futimens(fd, NULL));
	ts[0].tv_nsec = UTIME_OMIT;
	R(futimens(fd, ts));
	fstat(fd, &st);
	printf("  %ld %ld %ld\n", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long)st.st_size);
	ts[1].tv_nsec = 1000000000;
	R(futimens(fd, ts));
	R(syscall(SYS_utimes, fc_in("attr"), tv));
	R(syscall(SYS_futimesat, d, "attr", tv));
	stat(fc_in("attr"), &st);
	printf("  %ld %ld\n", (long)st.st_atim.tv_sec, st.st_mtim.tv_nsec);
	R(syscall(SYS_utime, fc_in("attr"), &ut));
	stat(fc_in("attr"), &st);
	printf("  %ld %ld\n", (long)st.st_atim.tv_sec, (long)st.st_mtim.tv_sec);
}

static void xattrs(int fd)
{
	char value[64] = {0};

	R(setxattr(fc_in("attr"), "user.one", "value", 5, 0));
	R(setxattr(fc_in("attr"), "user.one", "value", 5, XATTR_CREATE));
	R(fsetxattr(fd, "user.two", "2", 1, 0));
	R(getxattr(fc_in("attr"), "user.one", value, sizeof(value)));
	printf("  %s\n", value);
	R(getxattr(fc_in("attr"), "user.one", value, 2));
	R(getxattr(fc_in("attr"), "user.one", NULL, 0));
	R(fgetxattr(fd, "user.two", value, 1));
	R(lgetxattr(fc_in("attr"), "user.none", value, 1));
	R(listxattr(fc_in("attr"), value, sizeof(value)));
	R(flistxattr(fd, NULL, 0));
	R(llistxattr(fc_in("attr"), value, 3));
	R(setxattr(fc_in("attr"), "", "x", 1, 0));
	R(setxattr(fc_in("attr"), "nothing", "x", 1, 0));
	R(removexattr(fc_in("attr"), "user.one"));
	R(fremovexattr(fd, "user.one"));
	R(lremovexattr(fc_in("attr"), "user.two"));
}

void fc_attributes(void)
{
	struct statfs sfs;
	struct statx stx;
	struct stat st;
	int fd = open(fc_in("attr"), O_CREAT | O_RDWR, 0666), d = open(fc_dir, O_RDONLY);

	R(fstat(fd, &st));
	fc_show(&st);
	R(stat(fc_in("attr"), &st));
	fc_show(&st);
	R(stat(fc_dir, &st));
	R(stat(fc_in("no/such"), &st));
	R(fstatat(d, "attr", &st, 0));
	R(fstatat(fd, "", &st, AT_EMPTY_PATH));
	R(fstatat(d, "", &st, 0));
	R(fstatat(d, "attr", &st, 0x8000));
	R(fstatat(d, "attr", (struct stat *)8, 0));
	R(statx(d, "attr", 0, STATX_ALL, &stx));
	printf("  %o %u %llu\n", stx.stx_mode, stx.stx_nlink, (unsigned long long)stx.stx_size);
	R(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	R(statx(d, "attr", AT_STATX_SYNC_TYPE, STATX_ALL, &stx));
	R(chmod(fc_in("attr"), 04755));
	R(fchmod(fd, 0640));
	R(fchmodat(d, "attr", 0600, 0));
	R(chown(fc_in("attr"), 12, 34));
	R(lchown(fc_in("attr"), -1, 35));
	R(fchown(fd, 13, -1));
	R(fchownat(d, "attr", 14, 36, AT_SYMLINK_NOFOLLOW));
	R(fchownat(fd, "", 14, 37, AT_EMPTY_PATH));
	fstat(fd, &st);
	fc_show(&st);
	R(chown(fc_in("attr"), -1, -1));
	R(truncate(fc_in("attr"), 100));
	R(truncate(fc_in("attr"), -1));
	R(truncate(fc_in("none"), 1));
	R(truncate(fc_dir, 1));
	times(fd, d);
	R(access(fc_in("attr"), R_OK | W_OK));
	R(access(fc_in("attr"), X_OK));
	R(access(fc_in("none"), F_OK));
	R(access(fc_in("attr"), 99));
	R(faccessat(d, "attr", R_OK, AT_EACCESS));
	R(statfs(fc_dir, &sfs));
	R(fstatfs(fd, &sfs));
	xattrs(fd);
	close(fd);
	close(d);
}

static void move_names(int d)
{
	struct stat st;

	R(link(fc_in("a"), fc_in("hard")));
	R(link(fc_in("a"), fc_in("hard")));
	R(linkat(d, "link", d, "hardlink", 0));
	R(linkat(d, "link", d, "followed", AT_SYMLINK_FOLLOW));
	if (fc_kernel)
		R(link(fc_in("a"), "/dev/shm/elsewhere"));
	R(link(fc_in("d"), fc_in("dirlink")));
	stat(fc_in("a"), &st);
	fc_show(&st);
	R(rename(fc_in("hard"), fc_in("moved")));
	R(rename(fc_in("hard"), fc_in("moved")));
	R(renameat(d, "moved", d, "d/e/moved"));
	R(rename(fc_in("d"), fc_in("d/e/f")));
	if (fc_kernel)
		R(rename(fc_in("a"), "/dev/shm/elsewhere"));
	R(syscall(SYS_renameat2, d, "b", d, "a", RENAME_NOREPLACE));
	R(syscall(SYS_renameat2, d, "b", d, "d", RENAME_EXCHANGE));
	R(syscall(SYS_renameat2, d, "b", d, "d", RENAME_EXCHANGE));
	R(syscall(SYS_renameat2, d, "b", d, "d", 0x100));
	R(rmdir(fc_in("d")));
	R(unlink(fc_in("d")));
	R(unlinkat(d, "d/e/moved", 0));
	R(unlinkat(d, "d/e", AT_REMOVEDIR));
	R(unlinkat(d, "d", 77));
	R(rmdir(fc_in("reg")));
	R(unlink(fc_in("reg")));
	R(unlink(fc_in("reg")));
}

void fc_names(void)
{
	char buf[PATH_MAX];
	struct stat st;
	int d = open(fc_dir, O_RDONLY), fd;

	umask(022);
	R(mkdir(fc_in("d"), 0777));
	R(mkdir(fc_in("d"), 0777));
	R(mkdirat(d, "d/e", 01777));
	R(mkdir(fc_in("d/e/"), 0755));
	R(mkdir(fc_in("."), 0755));
	stat(fc_in("d/e"), &st);
	fc_show(&st);
	R(mknod(fc_in("fifo"), S_IFIFO | 0644, 0));
	R(mknodat(d, "reg", 0600, 0));
	R(mknod(fc_in("bad"), 0170000, 0));
	R(symlink("a", fc_in("link")));
	R(symlinkat("d/e/../../a", d, "far"));
	R(symlink("loop", fc_in("loop")));
	R(symlink(fc_dir, fc_in("abs")));
	R(symlink("/etc", fc_in("out")));
	R(symlink("", fc_in("empty")));
	R(symlink("x", fc_in("link")));
	R(stat(fc_in("link"), &st));
	R(lstat(fc_in("link"), &st));
	R(stat(fc_in("far"), &st));
	R(stat(fc_in("loop"), &st));
	R(stat(fc_in("abs/a"), &st));
	if (fc_kernel)
		R(stat(fc_in("out/passwd"), &st));
	R(open(fc_in("link"), O_RDONLY | O_NOFOLLOW));
	R(readlink(fc_in("far"), buf, sizeof(buf)));
	R(readlink(fc_in("far"), buf, 3));
	R(readlink(fc_in("a"), buf, sizeof(buf)));
	R(readlinkat(d, "link", buf, sizeof(buf)));
	R(readlink(fc_in("far"), buf, 0));
	move_names(d);
	fd = open(fc_in("gone"), O_CREAT | O_RDWR, 0600);
	R(unlink(fc_in("gone")));
	R(write(fd, "still", 5));
	fstat(fd, &st);
	fc_show(&st);
	close(fd);
	if (fc_kernel)
		OK(fd = open(fc_in("fifo"), O_RDONLY | O_NONBLOCK));
	close(fd);
	close(d);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void fc_directories(void)
{
	char *fc_names[200], buf[40], path[PATH_MAX];
	struct dirent *e;
	int n = 0, d;
	long middle;
	DIR *s;

	mkdir(fc_in("list"), 0755);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "%s/list/file%d", fc_dir, i);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	s = opendir(fc_in("list"));
	while (s && (e = readdir(s)) && n < 200)
		fc_names[n++] = strdup(e->d_name);
	qsort(fc_names, n, sizeof(fc_names[0]), by_name);
	for (int i = 0; i < n; i++)
		printf("  %s\n", fc_names[i]);
	rewinddir(s);
	for (int i = 0; i < 50; i++)
		readdir(s);
	middle = telldir(s);
	e = readdir(s);
	snprintf(path, sizeof(path), "%s", e ? e->d_name : "");
	while (readdir(s))
		;
	seekdir(s, middle);
	e = readdir(s);
	R(e ? strcmp(e->d_name, path) : -99);
	closedir(s);
	d = open(fc_in("list"), O_RDONLY);
	R(syscall(SYS_getdents64, d, buf, 10));
	OK(syscall(SYS_getdents64, d, path, sizeof(path)));
	R(lseek(d, 0, SEEK_SET));
	n = (int)syscall(SYS_getdents, d, path, sizeof(path));
	R(n > 0 && *(unsigned short *)(path + 16) <= n);
	close(d);
	d = open(fc_in("a"), O_RDONLY);
	R(syscall(SYS_getdents64, d, path, sizeof(path)));
	close(d);
}

void fc_relative(void)
{
	char cwd[PATH_MAX];
	struct stat st;
	int fd, d;

	mkdir(fc_in("sub"), 0755);
	R(chdir(fc_in("sub")));
	OK(fd = open("here", O_CREAT | O_WRONLY, 0644));
	close(fd);
	R(stat(fc_in("sub/here"), &st));
	R(stat("../a", &st));
	R(stat("../sub/./here", &st));
	R(stat("here/", &st));
	R(stat("../../../../../../../../etc/passwd", &st));
	R(rename("here", "../there"));
	R(unlink("../there"));
	R(stat("", &st));
	R(chdir(".."));
	R(stat("sub", &st));
	d = open("sub", O_RDONLY);
	R(rename("sub", "bus"));
	OK(fd = openat(d, "again", O_CREAT | O_WRONLY, 0644));
	close(fd);
	R(stat("bus/again", &st));
	close(d);
	R(unlink("bus/again"));
	R(rmdir("bus"));
	R(chdir("/"));
	R(getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	R(stat(fc_dir + 1, &st)); /* relative, from above */
}
