/* SPDX-License-Identifier: Apache-2.0 */
/* names DIR: one process makes, moves and removes names, two others ask for them all the while by
 * each call that may be answered without a request; no answer that began after a change was made
 * and ended before the next one is of anything else. As fsops: what it prints on a volume must be
 * what it prints on a plain directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES	   8 /* half of them in p, half in q */
#define CHANGES	   600
#define LOOKERS	   2
#define SEED	   20240229
#define OTHER_NAME "r"

enum kind { NONE, REGULAR, DIRECTORY, LINK /* to nowhere */, KINDS };

struct shared {
	_Atomic unsigned made; /* odd: a change is under way */
	_Atomic int kind[NAMES];
	_Atomic bool p_away; /* its name is OTHER_NAME */
	_Atomic unsigned looks[LOOKERS], wrong;
	_Atomic bool ends;
};

static struct shared *shared;

static void path_of(int name, char *ret, size_t cap)
{
	const char *dir = name >= NAMES / 2 ? "q" : shared->p_away ? OTHER_NAME : "p";

	snprintf(ret, cap, "%s/name-%d", dir, name % (NAMES / 2));
}

/* The one who changes */

/* As a program without the library would, where this machine's system call is known here. */
static long by_another_door(long number, long a, long b, long c)
{
#ifdef __x86_64__
	register long d __asm__("r10") = 0;
	register long e __asm__("r8") = 0;
	register long f __asm__("r9") = 0;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d), "r"(e), "r"(f)
			 : "rcx", "r11", "memory");
	return r;
#else
	return syscall(number, a, b, c, 0);
#endif
}

static void must(long r, const char *what)
{
	if (r >= 0)
		return;
	perror(what);
	shared->wrong++;
}

static void make(int name, enum kind kind, bool elsewhere)
{
	char path[32];
	int fd;

	path_of(name, path, sizeof(path));
	if (kind == DIRECTORY) {
		must(mkdir(path, 0755), "mkdir");
	} else if (kind == LINK) {
		must(symlink("nowhere", path), "symlink");
	} else if (elsewhere) {
		must(by_another_door(SYS_mknodat, AT_FDCWD, (long)path, S_IFREG | 0644), "mknod");
	} else {
		must(fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644), "open");
		close(fd);
	}
	shared->kind[name] = kind;
}

static void take_away(int name, bool elsewhere)
{
	int flags = shared->kind[name] == DIRECTORY ? AT_REMOVEDIR : 0;
	char path[32];

	path_of(name, path, sizeof(path));
	must(elsewhere ? by_another_door(SYS_unlinkat, AT_FDCWD, (long)path, flags)
		       : unlinkat(AT_FDCWD, path, flags),
	     "unlink");
	shared->kind[name] = NONE;
}

/* To where there is nothing. */
static void move(int name, int to)
{
	char path[32], to_path[32];

	path_of(name, path, sizeof(path));
	path_of(to, to_path, sizeof(to_path));
	must(rename(path, to_path), "rename");
	shared->kind[to] = shared->kind[name];
	shared->kind[name] = NONE;
}

static void second_name(int name, int to)
{
	char path[32], to_path[32];

	path_of(name, path, sizeof(path));
	path_of(to, to_path, sizeof(to_path));
	must(link(path, to_path), "link");
	shared->kind[to] = REGULAR;
}

static void change(void)
{
	int name = random() % NAMES, to = random() % NAMES;
	bool elsewhere = random() % 8 == 0;

	shared->made++;
	if (random() % 10 == 0) {
		must(shared->p_away ? rename(OTHER_NAME, "p") : rename("p", OTHER_NAME), "rename");
		shared->p_away = !shared->p_away;
	} else if (shared->kind[name] == NONE) {
		make(name, random() % (KINDS - 1) + 1, elsewhere);
	} else if (shared->kind[to] == NONE && random() % 2) {
		if (shared->kind[name] == REGULAR && random() % 2)
			second_name(name, to);
		else
			move(name, to);
	} else {
		take_away(name, elsewhere);
	}
	shared->made++;
}

static unsigned looks(void)
{
	unsigned n = 0;

	for (int i = 0; i < LOOKERS; i++)
		n += shared->looks[i];
	return n;
}

/* The others */

/* What call answers for path: 0 or errno. */
static int answer(int call, const char *path)
{
	struct stat st;
	char text[16];
	long r;

	switch (call) {
	case 0:
		r = stat(path, &st);
		break;
	case 1:
		r = lstat(path, &st);
		break;
	case 2:
		r = access(path, F_OK);
		break;
	case 3:
		r = access(path, R_OK);
		break;
	case 4:
		r = readlink(path, text, sizeof(text));
		break;
	default:
		r = open(path, O_RDONLY);
		if (r >= 0)
			close(r);
		break;
	}
	return r < 0 ? errno : 0;
}
#define CALLS 6

static int expected(int call, int name, bool in_p)
{
	enum kind kind = shared->kind[name];

	if (kind == NONE || (name < NAMES / 2 && in_p == shared->p_away))
		return ENOENT;
	if (call == 4)
		return kind == LINK ? 0 : EINVAL;
	return kind == LINK && call != 1 ? ENOENT : 0;
}

static void look(int name, int call, bool in_p)
{
	unsigned made = shared->made;
	int r, want = expected(call, name, in_p);
	char path[32];

	snprintf(path, sizeof(path), "%s/name-%d",
		 name >= NAMES / 2 ? "q"
		 : in_p		   ? "p"
				   : OTHER_NAME,
		 name % (NAMES / 2));
	r = answer(call, path);
	if (!(made & 1) && shared->made == made && r != want) {
		fprintf(stderr, "%s: call %d: %s, not %s\n", path, call, strerror(r),
			strerror(want));
		shared->wrong++;
	}
}

static void look_all_the_while(int self)
{
	srandom(SEED + 1 + self);
	while (!shared->ends) {
		int name = random() % NAMES, call = random() % CALLS;
		bool in_p = random() % 4;

		for (int n = random() % 40; n >= 0; n--)
			look(name, call, in_p);
		shared->looks[self]++;
	}
}

/* A path of nothing names nothing, but where AT_EMPTY_PATH says that it is the descriptor's file.
 */
static void say(const char *call, long r)
{
	printf("%s: %s\n", call, r < 0 ? strerror(errno) : "ok");
}

static void of_nothing(void)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY), file = open("f", O_RDWR | O_CREAT, 0644), link;
	char text[16];
	struct stat st;

	symlink("f", "link");
	link = open("link", O_PATH | O_NOFOLLOW);
	say("stat of a directory", fstatat(dir, "", &st, 0));
	say("stat of a file", fstatat(file, "", &st, 0));
	say("stat of itself", fstatat(dir, "", &st, AT_EMPTY_PATH));
	say("access", faccessat(dir, "", F_OK, 0));
	say("open", openat(dir, "", O_RDONLY));
	say("readlink", readlinkat(dir, "", text, sizeof(text)));
	say("readlink of a link", readlinkat(link, "", text, sizeof(text)));
	say("unlink", unlinkat(dir, "", 0));
	say("rmdir", unlinkat(dir, "", AT_REMOVEDIR));
	say("mkdir", mkdirat(dir, "", 0755));
	say("symlink", symlinkat("f", dir, ""));
	say("mknod", mknodat(dir, "", S_IFREG | 0644, 0));
	say("rename", renameat(dir, "", dir, "g"));
	say("rename to", renameat(dir, "f", dir, ""));
	say("link", linkat(file, "", dir, "g", 0));
	say("link to", linkat(dir, "f", dir, "", 0));
	say("link of itself", linkat(file, "", dir, "g", AT_EMPTY_PATH));
	say("chmod", fchmodat(dir, "", 0755, 0));
	say("chown", fchownat(dir, "", -1, -1, 0));
	say("utimens", utimensat(dir, "", NULL, 0));
	say("here", stat("", &st));
	say("what is there", stat("g", &st));
	close(dir);
	close(file);
	close(link);
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) < 0 || mkdir("p", 0755) < 0 || mkdir("q", 0755) < 0)
		return 2;
	of_nothing();
	fflush(stdout);
	shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < LOOKERS; i++) {
		if (!fork()) {
			look_all_the_while(i);
			_exit(0);
		}
	}
	srandom(SEED);
	for (int n = 0; n < CHANGES && !shared->wrong; n++) {
		unsigned until = looks() + random() % 4;

		change();
		while (looks() < until && !shared->wrong)
			sched_yield();
	}
	shared->ends = true;
	while (wait(NULL) > 0)
		;
	printf("wrong: %u\n", shared->wrong);
	return 0;
}
