/* SPDX-License-Identifier: Apache-2.0 */
/* roots DIR: what paths mean after chroot(2) into a volume, below it and beside it. As fsops: what
 * it prints on a volume must be what it prints on a plain directory. Needs root. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *top;

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	printf("put %s: %zd\n", path, write(fd, text, strlen(text)));
	close(fd);
}

static void show(int dirfd, const char *path)
{
	char text[64] = "";
	int fd = openat(dirfd, path, O_RDONLY);

	if (fd >= 0)
		read(fd, text, sizeof(text) - 1);
	printf("%s: %s %s\n", strcmp(path, top) ? path : "DIR", fd < 0 ? strerror(errno) : "has",
	       text);
	close(fd);
}

static void into(const char *path)
{
	printf("chroot %s: %d\n", strcmp(path, top) ? path : "DIR", chroot(path));
}

static void into_the_volume(void)
{
	char text[4096];

	into(top);
	show(AT_FDCWD, "/top");
	chdir("/");
	show(AT_FDCWD, "top");
	show(AT_FDCWD, "sub/absolute");
	show(AT_FDCWD, "/sub/relative");
	show(AT_FDCWD, "/../top");
	show(AT_FDCWD, top);
	put("/made", "made");
	show(AT_FDCWD, "/made");
	puts(getcwd(text, sizeof(text)) ? text : "no cwd");
}

static void below_it(void)
{
	into("sub");
	show(AT_FDCWD, "/inner");
	show(AT_FDCWD, "/../top");
	show(AT_FDCWD, "top"); /* the working directory stays outside */
	chdir("/");
	show(AT_FDCWD, "../top");
	show(AT_FDCWD, "/absolute");
	show(AT_FDCWD, "/relative");
	printf("rename: %d\n", rename("/inner", "/renamed"));
	show(AT_FDCWD, "/renamed");
	printf("back: %d\n", rename("/renamed", "/inner"));
}

static void beside_it(void)
{
	int sub = open("sub", O_RDONLY | O_DIRECTORY);
	DIR *here;

	into("/usr");
	show(AT_FDCWD, "/top");
	show(AT_FDCWD, top);
	show(AT_FDCWD, "top");
	show(sub, "inner");
	here = opendir(".");
	printf("opendir: %d\n", here != NULL);
}

static void twice(void)
{
	into(top);
	chdir("/sub");
	into("data");
	show(AT_FDCWD, "/x");
	show(AT_FDCWD, "inner");
	show(AT_FDCWD, "../top");
	show(AT_FDCWD, "/../inner");
}

static void by_a_child(void)
{
	into("sub");
	chdir("/");
	fflush(stdout);
	if (!fork()) {
		show(AT_FDCWD, "/inner");
		into("data");
		show(AT_FDCWD, "/x");
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	show(AT_FDCWD, "/inner");
}

int main(int argc, char **argv)
{
	static void (*const all[])(void) = {into_the_volume, below_it, beside_it, twice,
					    by_a_child};
	int failed = 0, status;

	if (argc != 2 || chdir(top = argv[1]) < 0)
		return 1;
	put("top", "top");
	mkdir("sub", 0755);
	mkdir("sub/data", 0755);
	put("sub/inner", "inner");
	put("sub/data/x", "x");
	symlink("/top", "sub/absolute");
	symlink("../top", "sub/relative");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		fflush(stdout);
		if (!fork()) {
			for (int n = 0; n < 100; n++) /* the library's own connection comes late */
				access("top", F_OK);
			all[i]();
			fflush(stdout);
			_exit(0);
		}
		wait(&status);
		failed |= status;
	}
	return failed != 0;
}
