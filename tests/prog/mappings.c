/* SPDX-License-Identifier: Apache-2.0 */
/* mappings DIR: what programs map of small files. As fsops: what it prints on a volume must be what
 * it prints on a plain directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static sigjmp_buf out;

static void on_bus(int signo)
{
	siglongjmp(out, signo);
}

static void look(const char *what, const char *p)
{
	int signo = sigsetjmp(out, 1);

	if (signo)
		printf("%s: %s\n", what, signo == SIGBUS ? "SIGBUS" : "SIGSEGV");
	else
		printf("%s: %02x\n", what, *(volatile const unsigned char *)p);
}

static void touch(const char *what, char *p)
{
	int signo = sigsetjmp(out, 1);

	if (signo)
		printf("%s: %s\n", what, signo == SIGBUS ? "SIGBUS" : "SIGSEGV");
	else
		*(volatile char *)p = 'W';
}

static int file_of(const char *name, size_t bytes, int flags)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

	for (size_t i = 0; i < bytes; i++) {
		char c = (char)('a' + i / PAGE % 26);

		write(fd, &c, 1);
	}
	close(fd);
	return open(name, flags);
}

static void private_ones(size_t bytes)
{
	int fd = file_of("small", bytes, O_RDONLY);
	char *p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), *q;
	char text[2] = "";

	printf("%zu bytes\n", bytes);
	look("first", p);
	look("last of the first page", p + PAGE - 1);
	look("second page", p + PAGE);
	look("third page", p + 2 * PAGE);
	look("fourth page", p + 3 * PAGE);
	touch("read-only", p);
	munmap(p, 4 * PAGE);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
	q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	touch("write", q + 5);
	look("written", q + 5);
	touch("write at an offset", p);
	printf("madvise %d\n", madvise(q, PAGE, MADV_DONTNEED));
	look("written, after MADV_DONTNEED", q + 5);
	printf("mprotect %d\n", mprotect(q, PAGE, PROT_READ));
	touch("protected", q);
	printf("msync %d\n", msync(q, PAGE, MS_SYNC));
	munmap(p, 2 * PAGE);
	munmap(q, PAGE);
	fd = open("small", O_RDONLY);
	printf("the file has %zd %.1s\n", pread(fd, text, 1, 5), text);
	/* at a place of the program's choice */
	p = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q = mmap(p + PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
	printf("fixed %d\n", q == p + PAGE);
	look("fixed", q);
	look("before", p);
	look("behind", p + 3 * PAGE);
	munmap(p, 8 * PAGE);
	close(fd);
}

static void refusals(void)
{
	int fd = file_of("small", 10, O_RDONLY), other = open("small", O_WRONLY);
	int path = open("small", O_PATH), dir = open(".", O_RDONLY);

#define TRY(call)                                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		void *r_ = (call);                                                                 \
		printf("%s: %s\n", #call, r_ == MAP_FAILED ? strerror(errno) : "mapped");          \
		if (r_ != MAP_FAILED)                                                              \
			munmap(r_, PAGE);                                                          \
	} while (0)
	TRY(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, -PAGE));
	TRY(mmap(NULL, PAGE, PROT_READ, 0, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, other, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, path, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0));
	TRY(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
	TRY(mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1l << 40));
	close(fd);
	TRY(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	close(other);
	close(path);
	close(dir);
}

int main(int argc, char **argv)
{
	const size_t sizes[] = {0, 10, PAGE, PAGE + 10, 3 * PAGE, 16 * PAGE, 40 * PAGE};

	if (chdir(argv[1]) < 0)
		return 2;
	setlinebuf(stdout);
	signal(SIGBUS, on_bus);
	signal(SIGSEGV, on_bus);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		private_ones(sizes[i]);
	refusals();
	return 0;
}
