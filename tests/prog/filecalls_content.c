/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls: opening, reading and writing. */
#include "tests/prog/filecalls.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

void fc_opening(void)
{
	struct {
		unsigned long long flags, mode, resolve;
	} how = {O_RDONLY, 0, 0};
	int fd, d;

	umask(027);
	R(open(fc_in("none"), O_RDONLY));
	OK(fd = open(fc_in("a"), O_CREAT | O_EXCL | O_RDWR, 0666));
	R(open(fc_in("a"), O_CREAT | O_EXCL | O_RDWR, 0666));
	R(write(fd, "hello", 5));
	R(close(fd));
	R(close(fd));
	R(read(fd, &how, 1));
	OK(fd = open(fc_in("a"), O_WRONLY | O_APPEND));
	R(fcntl(fd, F_GETFL));
	R(fcntl(fd, F_GETFD));
	R(fcntl(fd, F_SETFD, FD_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	R(read(fd, &how, 1));
	R(fcntl(fd, F_SETFL, O_NONBLOCK));
	R(fcntl(fd, F_GETFL));
	close(fd);
	R(open(fc_in("a/b"), O_RDONLY));
	R(open(fc_in("a"), O_RDONLY | O_DIRECTORY));
	R(open(fc_in("."), O_WRONLY));
	OK(d = open(fc_dir, O_RDONLY | O_DIRECTORY));
	OK(fd = openat(d, "a", O_RDWR | O_TRUNC | O_CLOEXEC));
	R(fcntl(fd, F_GETFD));
	close(fd);
	OK(fd = syscall(SYS_openat2, d, "a", &how, sizeof(how)));
	close(fd);
	OK(fd = openat(d, ".", O_TMPFILE | O_RDWR, 0600));
	R(write(fd, "tmp", 3));
	close(fd);
	OK(fd = openat(d, "a", O_PATH));
	R(read(fd, &how, 1));
	R(fchmod(fd, 0600));
	R(fcntl(fd, F_GETFL) & O_PATH);
	close(fd);
	close(d);
	OK(fd = creat(fc_in("b"), 0640));
	close(fd);
	R(open((const char *)8, O_RDONLY));
	R(open("", O_RDONLY));
}

/* More than one step. */
static void wide_data(int fd)
{
	char big[3000];
	char *wide = malloc(3 << 20), *back = malloc(3 << 20);
	off_t at = 1, to = 100;
	int fd2;

	for (int i = 0; i < 3 << 20; i++)
		wide[i] = (char)(i * 7 + (i >> 12));
	R(pwrite(fd, wide, 3 << 20, 0));
	R(pread(fd, back, 3 << 20, 0));
	R(memcmp(wide, back, 3 << 20));
	fd2 = open(fc_in("copy"), O_CREAT | O_RDWR, 0644);
	lseek(fd, 0, SEEK_SET);
	R(copy_file_range(fd, NULL, fd2, NULL, 1000, 0));
	R(copy_file_range(fd, &at, fd2, &to, 10, 0));
	printf("  %ld %ld %ld\n", (long)at, (long)to, (long)lseek(fd2, 0, SEEK_CUR));
	at = 5;
	R(sendfile(fd2, fd, &at, 100));
	printf("  %ld %ld\n", (long)at, (long)lseek(fd2, 0, SEEK_CUR));
	R(pread(fd2, big, 1000, 0));
	R(memcmp(big, wide, 100));
	R(memcmp(big + 100, wide + 1, 10));
	R(copy_file_range(fd, NULL, fd2, NULL, 1, 9));
	close(fd2);
	free(wide);
	free(back);
}

static void append_and_misuse(void)
{
	char buf[64];
	int fd;

	fd = open(fc_in("append"), O_CREAT | O_WRONLY | O_APPEND, 0644);
	R(write(fd, "one", 3));
	R(pwrite(fd, "two", 3, 0));
	R(lseek(fd, 0, SEEK_END));
	close(fd);
	fd = open(fc_in("."), O_RDONLY);
	R(read(fd, buf, 1));
	R(ftruncate(fd, 0));
	close(fd);
}

void fc_data(void)
{
	char buf[64] = {0};
	struct iovec iov[3] = {{buf, 2}, {buf + 2, 0}, {buf + 10, 5}};
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd, ready;

	munmap(hole + 4096, 4096);
	fd = open(fc_in("data"), O_CREAT | O_RDWR, 0644);
	R(write(fd, "0123456789", 10));
	R(lseek(fd, 0, SEEK_CUR));
	R(lseek(fd, 2, SEEK_SET));
	R(read(fd, buf, 3));
	printf("  %.3s\n", buf);
	R(pread(fd, buf, 20, 5));
	printf("  %.5s\n", buf);
	R(pread(fd, buf, 20, 100));
	R(pread(fd, buf, 20, -1));
	R(lseek(fd, 0, SEEK_CUR));
	R(pwrite(fd, "xyz", 3, 20));
	R(lseek(fd, 0, SEEK_END));
	R(lseek(fd, 0, SEEK_DATA));
	R(lseek(fd, -1, SEEK_SET));
	R(lseek(fd, 0, 99));
	lseek(fd, 0, SEEK_SET);
	R(readv(fd, iov, 3));
	printf("  %.2s %.5s\n", buf, buf + 10);
	R(writev(fd, iov, 3));
	R(preadv(fd, iov, 3, 1));
	R(pwritev(fd, iov, 3, 30));
	R(preadv2(fd, iov, 3, -1, 0));
	R(pwritev2(fd, iov, 1, 0, RWF_APPEND));
	R(pwritev2(fd, iov, 1, 0, RWF_DSYNC));
	R(preadv2(fd, iov, 3, 0, 0x4000));
	R(readv(fd, iov, 2000));
	R(read(fd, (char *)8, 10));
	lseek(fd, 0, SEEK_SET);
	R(write(fd, (char *)8, 10));
	R(read(fd, buf, 0));
	/* Memory that ends in the middle. */
	memset(hole, 'h', 4096);
	R(pwrite(fd, hole + 4090, 100, 0) > 0);
	R(pread(fd, hole + 4090, 3, 0));
	R(ftruncate(fd, 5));
	R(lseek(fd, 0, SEEK_END));
	R(ftruncate(fd, -1));
	R(fallocate(fd, 0, 0, 8192));
	R(lseek(fd, 0, SEEK_END));
	R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
	R(fallocate(fd, 0, 0, 0));
	R(fsync(fd));
	R(fdatasync(fd));
	R(syncfs(fd));
	R(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	R(readahead(fd, 0, 4096));
	R(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	wide_data(fd);
	R(ioctl(fd, FIONREAD, &ready));
	R(ioctl(fd, TIOCGWINSZ, buf));
	R(isatty(fd));
	close(fd);
	append_and_misuse();
}
