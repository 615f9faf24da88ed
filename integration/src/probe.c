/* SPDX-License-Identifier: Apache-2.0 */
/* A program that does file operations as it is told: one command a line on standard input, one
 * answer a line on standard output. Built dynamic, with musl, and static, so that the cases can
 * drive the same operations through every door; probe.go answers to the same commands.
 *
 *   open PATH            the open file of this program (O_RDWR | O_CREAT); "ok"
 *   pwrite OFFSET TEXT   into it; the count
 *   pread OFFSET LENGTH  from it; the text, NUL as "."
 *   size                 fstat: its size
 *   truncate LENGTH      ftruncate
 *   lock r|w START LEN   F_SETLK; "ok"
 *   wait START LEN       F_SETLKW, for writing (not in probe.go)
 *   unlock START LEN
 *   close
 *   map OFFSET TEXT      through a shared mapping of it; "ok"
 *   hold                 a shared mapping of all of it that stays; "ok"
 *   poke OFFSET TEXT     into that mapping, and no more; "ok"
 *   peek OFFSET LENGTH   from that mapping
 *   drop                 the mapping; "ok"
 *   append PATH TEXT     open O_APPEND, write, close; the count
 *   cat PATH             the content
 *   stat PATH            "SIZE NLINK"
 *   rename OLD NEW, link OLD NEW, unlink PATH, mkdir PATH, rmdir PATH, symlink TEXT PATH
 *   ls PATH              the names, sorted, separated by blanks
 *
 * An error's answer is its name: ENOENT, EAGAIN, ... */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fd = -1;
static char answer[65536];
static char *held;
static size_t held_bytes;

static const char *error_name(int e)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
	    {ENOENT, "ENOENT"}, {EAGAIN, "EAGAIN"},	{EACCES, "EAGAIN"},
	    {EPERM, "EPERM"},	{EEXIST, "EEXIST"},	{ENOTEMPTY, "ENOTEMPTY"},
	    {EBADF, "EBADF"},	{EINVAL, "EINVAL"},	{ENOTDIR, "ENOTDIR"},
	    {EISDIR, "EISDIR"}, {ENOSPC, "ENOSPC"},	{EROFS, "EROFS"},
	    {EIO, "EIO"},	{ENOTCONN, "ENOTCONN"}, {ECONNABORTED, "ECONNABORTED"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == e)
			return names[i].name;
	snprintf(answer, sizeof(answer), "errno %d", e);
	return answer;
}

static const char *number(long long n)
{
	if (n < 0)
		return error_name(errno);
	snprintf(answer, sizeof(answer), "%lld", n);
	return answer;
}

static const char *done(int result)
{
	return result < 0 ? error_name(errno) : "ok";
}

static const char *text(ssize_t n)
{
	if (n < 0)
		return error_name(errno);
	for (ssize_t i = 0; i < n; i++)
		if (answer[i] == 0 || answer[i] == '\n')
			answer[i] = '.';
	answer[n] = 0;
	return answer;
}

static const char *lock(int cmd, short type, const char *start, const char *len)
{
	struct flock l = {
	    .l_type = type, .l_whence = SEEK_SET, .l_start = atoll(start), .l_len = atoll(len)};

	return done(fcntl(fd, cmd, &l));
}

static const char *map(const char *offset, const char *what)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_name(errno);
	char *p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return error_name(errno);
	memcpy(p + atoll(offset), what, strlen(what));
	return done(msync(p, st.st_size, MS_SYNC) < 0 ? -1 : munmap(p, st.st_size));
}

static const char *hold(void)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_name(errno);
	held_bytes = st.st_size;
	held = mmap(NULL, held_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return done(held == MAP_FAILED ? -1 : 0);
}

static const char *peek(size_t offset, size_t len)
{
	memcpy(answer, held + offset, len);
	return text(len);
}

static const char *append(const char *path, const char *what)
{
	int f = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);

	if (f < 0)
		return error_name(errno);
	ssize_t n = write(f, what, strlen(what));
	const char *result = number(n);

	if (close(f) < 0)
		return error_name(errno);
	return result;
}

static const char *cat(const char *path)
{
	int f = open(path, O_RDONLY);

	if (f < 0)
		return error_name(errno);
	ssize_t n = read(f, answer, sizeof(answer) - 1);
	const char *result = text(n);

	close(f);
	return result;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *ls(const char *path)
{
	DIR *d = opendir(path);
	char *names[1000];
	size_t n = 0;

	if (!d)
		return error_name(errno);
	for (struct dirent *e; n < 1000 && (e = readdir(d));)
		if (e->d_name[0] != '.')
			names[n++] = strdup(e->d_name);
	closedir(d);
	qsort(names, n, sizeof(names[0]), by_name);
	answer[0] = 0;
	for (size_t i = 0; i < n; i++) {
		strcat(strcat(answer, i ? " " : ""), names[i]);
		free(names[i]);
	}
	return answer;
}

static const char *stat_text(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_name(errno);
	snprintf(answer, sizeof(answer), "%lld %lu", (long long)st.st_size,
		 (unsigned long)st.st_nlink);
	return answer;
}

static const char *act(const char *verb, char *a, char *b)
{
	if (!strcmp(verb, "open"))
		return done(fd = open(a, O_RDWR | O_CREAT, 0644));
	if (!strcmp(verb, "pwrite"))
		return number(pwrite(fd, b, strlen(b), atoll(a)));
	if (!strcmp(verb, "pread"))
		return text(pread(fd, answer, atoi(b), atoll(a)));
	if (!strcmp(verb, "size")) {
		struct stat st;

		return number(fstat(fd, &st) < 0 ? -1 : st.st_size);
	}
	if (!strcmp(verb, "truncate"))
		return done(ftruncate(fd, atoll(a)));
	if (!strcmp(verb, "lock")) {
		char *start = strtok(b, " ");

		return lock(F_SETLK, *a == 'r' ? F_RDLCK : F_WRLCK, start, strtok(NULL, " "));
	}
	if (!strcmp(verb, "unlock"))
		return lock(F_SETLK, F_UNLCK, a, b);
	if (!strcmp(verb, "wait"))
		return lock(F_SETLKW, F_WRLCK, a, b);
	if (!strcmp(verb, "close"))
		return done(close(fd));
	if (!strcmp(verb, "map"))
		return map(a, b);
	if (!strcmp(verb, "hold"))
		return hold();
	if (!strcmp(verb, "poke")) {
		memcpy(held + atoll(a), b, strlen(b));
		return "ok";
	}
	if (!strcmp(verb, "peek"))
		return peek(atoll(a), atoll(b));
	if (!strcmp(verb, "drop"))
		return done(munmap(held, held_bytes));
	if (!strcmp(verb, "append"))
		return append(a, b);
	if (!strcmp(verb, "cat"))
		return cat(a);
	if (!strcmp(verb, "stat"))
		return stat_text(a);
	if (!strcmp(verb, "rename"))
		return done(rename(a, b));
	if (!strcmp(verb, "link"))
		return done(link(a, b));
	if (!strcmp(verb, "symlink"))
		return done(symlink(a, b));
	if (!strcmp(verb, "unlink"))
		return done(unlink(a));
	if (!strcmp(verb, "mkdir"))
		return done(mkdir(a, 0755));
	if (!strcmp(verb, "rmdir"))
		return done(rmdir(a));
	if (!strcmp(verb, "ls"))
		return ls(a);
	return "unknown";
}

int main(void)
{
	char line[4096];

	setvbuf(stdout, NULL, _IOLBF, 4096);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		char *a = strchr(line, ' '), *b = NULL;

		if (a) {
			*a++ = 0;
			if ((b = strchr(a, ' ')))
				*b++ = 0;
		}
		puts(act(line, a ? a : (char[]){""}, b ? b : (char[]){""}));
	}
	return 0;
}
