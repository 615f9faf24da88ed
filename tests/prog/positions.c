/* SPDX-License-Identifier: Apache-2.0 */
/* positions DIR [forks]: positions of files that are open for reading, in threads, children and
 * copies, and reads of a file again and again while another process changes it. As fsops: what it
 * prints on a volume must be what it prints on a plain directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS 40000
#define THREADS 4

static void put(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);

	if (write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

static void at(const char *what, int fd)
{
	printf("%s: at %ld\n", what, (long)lseek(fd, 0, SEEK_CUR));
}

static void seeks(void)
{
	static const struct {
		long offset;
		int whence;
	} rows[] = {
	    {5, SEEK_SET},     {3, SEEK_CUR},	     {-20, SEEK_CUR},
	    {-8, SEEK_CUR},    {0, SEEK_END},	     {-2, SEEK_END},
	    {100, SEEK_END},   {-100, SEEK_END},     {-1, SEEK_SET},
	    {0, SEEK_DATA},    {0, SEEK_HOLE},	     {4, SEEK_DATA},
	    {1000, SEEK_DATA}, {-1, SEEK_HOLE},	     {0, 17},
	    {0, -1},	       {1l << 40, SEEK_SET}, {0x7fffffffffffffff, SEEK_CUR},
	    {0, SEEK_SET},
	};
	int fd = open("text", O_RDONLY);

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char c = '-';
		long r;

		errno = 0;
		r = lseek(fd, rows[i].offset, rows[i].whence);
		printf("lseek %ld %d: %ld %s", rows[i].offset, rows[i].whence, r,
		       r < 0 ? strerror(errno) : "");
		printf(" then %zd %c\n", read(fd, &c, 1), c);
	}
	close(fd);
}

static void moved_by_everything(void)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_CUR, .l_start = -1, .l_len = 2};
	char a[4] = "", b[8] = "";
	struct iovec iov[] = {{a, 3}, {b, 4}};
	int fd = open("text", O_RDONLY), out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0644);
	int pair[2], status;
	ssize_t n;

	n = readv(fd, iov, 2);
	printf("readv %zd \"%s\" \"%s\"\n", n, a, b);
	at("after readv", fd);
	n = preadv(fd, iov, 2, 1);
	printf("preadv %zd \"%s\" \"%s\"\n", n, a, b);
	at("after preadv", fd);
	lseek(fd, 2, SEEK_SET);
	printf("sendfile %zd\n", sendfile(out, fd, NULL, 3));
	at("after sendfile", fd);
	printf("copy_file_range %zd\n", copy_file_range(fd, NULL, out, NULL, 4, 0));
	at("after copy_file_range", fd);
	pipe(pair);
	printf("splice %zd\n", splice(fd, NULL, pair[1], NULL, 2, 0));
	at("after splice", fd);
	printf("sendfile %zd\n", sendfile(pair[1], fd, NULL, 2));
	at("after sendfile into a pipe", fd);
	printf("lock %d\n", fcntl(fd, F_SETLK, &lock));
	if (!fork()) {
		struct flock other = {.l_type = F_WRLCK};

		fcntl(out = open("text", O_RDWR), F_GETLK, &other);
		printf("locked from %ld, %ld bytes\n", (long)other.l_start, (long)other.l_len);
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	close(fd);
	n = pread(out, b, 7, 0);
	printf("sent %zd \"%.7s\"\n", n, b);
	close(out);
}

/* Copies of the descriptor, in this process and others, have one position. */
static void shared_by_copies(void)
{
	char text[8] = "";
	int fd = open("text", O_RDONLY), copy, status;
	FILE *from;

	read(fd, text, 3);
	copy = dup(fd);
	read(copy, text, 2);
	at("after a copy's read", fd);
	if (!fork()) {
		read(fd, text, 4);
		at("child", copy);
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	at("after the child's read", fd);
	read(copy, text, 1);
	at("after one more", fd);
	close(copy);
	close(fd);
	fflush(stdout);
	/* a program reads on where its parent stopped */
	fd = open("text", O_RDONLY);
	read(fd, text, 4);
	if (!fork()) {
		dup2(fd, 0);
		execlp("head", "head", "-c", "5", NULL);
		_exit(1);
	}
	wait(&status);
	printf("\n");
	at("after a program's read", fd);
	lseek(fd, 9, SEEK_SET);
	fflush(stdout);
	if (!fork()) {
		dup2(fd, 0);
		execlp("cat", "cat", NULL);
		_exit(1);
	}
	wait(&status);
	printf("\n");
	read(fd, text, 1);
	close(fd);
	from = popen("head -c 4 < text", "r");
	printf("popen %zu\n", fread(text, 1, 8, from));
	pclose(from);
}

static int records;
static unsigned char seen[RECORDS];

static void *read_records(void *arg)
{
	unsigned record;
	long n = 0;

	while (read(records, &record, sizeof(record)) == sizeof(record)) {
		__atomic_fetch_add(&seen[record], 1, __ATOMIC_RELAXED);
		n++;
	}
	return (void *)n;
}

/* Threads that read from one descriptor get each part once. forks: also when the open file goes to
 * a child in the middle of it. Without a notify door it becomes the kernel's then, and a thread
 * that is just reading it by the library may get a part that another one gets from the kernel. */
static void one_part_each(bool forks)
{
	pthread_t thread[THREADS];
	int fd = open("records", O_WRONLY | O_CREAT | O_TRUNC, 0644), bad = 0;
	static unsigned all[RECORDS];
	long total = 0;

	for (unsigned i = 0; i < RECORDS; i++)
		all[i] = i;
	write(fd, all, sizeof(all));
	close(fd);
	records = open("records", O_RDONLY);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, read_records, NULL);
	for (int i = 0; i < 3 && forks;
	     i++) { /* the position goes to the service in the middle of it */
		if (!fork())
			_exit(0);
		wait(NULL);
	}
	for (int i = 0; i < THREADS; i++) {
		void *n;

		pthread_join(thread[i], &n);
		total += (long)n;
	}
	for (unsigned i = 0; i < RECORDS; i++)
		bad += seen[i] != 1;
	printf("%ld records, %d not read once\n", total, bad);
	close(records);
}

/* What is read again and again is what is there now, to the end. */
static void read_again(void)
{
	int to[2], from[2];
	char c, text[64];

	put("again", "first", O_TRUNC);
	pipe(to);
	pipe(from);
	if (!fork()) {
		close(to[1]);
		for (int i = 0; read(to[0], &c, 1) == 1; i++) {
			if (i % 3 == 0)
				put("again", "and more", O_APPEND);
			else if (i % 3 == 1)
				truncate("again", 2);
			else
				put("again", i % 2 ? "something else" : "", O_TRUNC);
			write(from[1], &c, 1);
		}
		_exit(0);
	}
	close(to[0]);
	for (int i = 0; i < 12; i++) {
		for (int n = 0; n < 60; n++) {
			int fd = open("again", O_RDONLY);
			ssize_t first = read(fd, text, 3), second, end;

			second = read(fd, text + (first > 0 ? first : 0), sizeof(text) - 3);
			end = read(fd, text + 60, 1);
			if (n == 0 || n == 59)
				printf("read %zd %zd %zd \"%.*s\"\n", first, second, end,
				       (int)(first + second), text);
			close(fd);
		}
		write(to[1], "x", 1);
		read(from[0], &c, 1);
	}
	close(to[1]);
	wait(NULL);
}

int main(int argc, char **argv)
{
	if (chdir(argv[1]) < 0)
		return 2;
	setlinebuf(stdout); /* children have nothing to print twice */
	put("text", "0123456789abcdefghij", O_TRUNC);
	seeks();
	moved_by_everything();
	shared_by_copies();
	one_part_each(argc > 2);
	read_again();
	return 0;
}
