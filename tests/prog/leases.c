/* SPDX-License-Identifier: Apache-2.0 */
/* leases DIR [SOURCE]: a program that asks for the same attributes and opens the same files again
 * and again, while another one changes what they depend on; after each change it must see it at
 * once. As fsops: what it prints on a volume must be what it prints on a plain directory. Needs
 * root. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMES 80 /* until answers come from leases */

static int to_other[2], from_other[2];

/* The other process */

static void put(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);

	if (write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

static void removed_by_child(void)
{
	if (!fork()) {
		unlink("d/f");
		_exit(0);
	}
	wait(NULL);
}

static void written_by_mapping(void)
{
	/* a static program, or this one without the library, would do so */
	int fd = syscall(SYS_openat, AT_FDCWD, "d/f", O_RDWR, 0, 0, 0);
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		perror("mmap");
	else
		memcpy(at, "MAP", 3);
	munmap(at, 4096);
	close(fd);
}

static void written_by_door(void)
{
	int fd = syscall(SYS_openat, AT_FDCWD, "d/f", O_WRONLY | O_APPEND, 0, 0, 0);

	syscall(SYS_write, fd, "raw", 3);
	syscall(SYS_close, fd);
}

static void appended(void)
{
	put("d/f", "more", O_APPEND);
}

static void cut(void)
{
	truncate("d/f", 2);
}

static void overwritten(void)
{
	put("d/f", "other", O_TRUNC);
}

static void mode(void)
{
	chmod("d/f", 0600);
}

static void owner(void)
{
	chown("d/f", 1000, 1000);
}

static void times(void)
{
	utimensat(AT_FDCWD, "d/f", (struct timespec[2]){{5, 0}, {6, 7}}, 0);
}

static void linked(void)
{
	link("d/f", "d/second");
}

static void link_removed(void)
{
	unlink("d/second");
}

static void renamed_over(void)
{
	put("d/new", "newer", 0);
	rename("d/new", "d/f");
}

static void exchanged(void)
{
	put("d/new", "exchanged", 0);
	syscall(SYS_renameat2, AT_FDCWD, "d/new", AT_FDCWD, "d/f", 2 /* RENAME_EXCHANGE */);
}

static void longer(void)
{
	truncate("d/f", 9000);
}

static void directory_replaced(void)
{
	rename("d", "e");
	mkdir("d", 0755);
	put("d/f", "in a new directory", 0);
}

static void directory_away(void)
{
	rename("d", "g");
}

static void directory_back(void)
{
	rename("g", "d");
}

static void removed(void)
{
	unlink("d/f");
}

static void made(void)
{
	put("d/f", "again", 0);
}

static void a_link_now(void)
{
	unlink("d/f");
	symlink("../other", "d/f");
}

static void a_directory_now(void)
{
	unlink("d/f");
	mkdir("d/f", 0700);
}

static void a_file_now(void)
{
	rmdir("d/f");
	put("d/f", "a file", 0);
}

static void last(void)
{
	put("d/f", "the last one", 0);
}

static void moved_below(void)
{
	rename("here/in", "there/in");
}

static int *lock_error; /* of the other process */

static void lock_tried(void)
{
	struct flock lock = {.l_type = F_WRLCK};
	int fd = open("other", O_RDWR);

	*lock_error = fcntl(fd, F_SETLK, &lock) < 0 ? errno : 0;
	close(fd);
}

static const struct {
	const char *name;
	void (*make)(void);
} changes[] = {
#define CHANGE(name)                                                                               \
	{                                                                                          \
#name, name                                                                        \
	}
    CHANGE(appended),	     CHANGE(cut),
    CHANGE(overwritten),     CHANGE(mode),
    CHANGE(owner),	     CHANGE(times),
    CHANGE(linked),	     CHANGE(link_removed),
    CHANGE(renamed_over),    CHANGE(exchanged),
    CHANGE(written_by_door), CHANGE(written_by_mapping),
    CHANGE(longer),	     CHANGE(directory_replaced),
    CHANGE(directory_away),  CHANGE(directory_back),
    CHANGE(removed),	     CHANGE(made),
    CHANGE(a_link_now),	     CHANGE(a_directory_now),
    CHANGE(a_file_now),	     CHANGE(removed_by_child),
    CHANGE(moved_below),     CHANGE(last),
    CHANGE(lock_tried),
};

static void other_process(void)
{
	unsigned char i;

	close(to_other[1]);
	while (read(to_other[0], &i, 1) == 1) {
		changes[i].make();
		if (write(from_other[1], &i, 1) != 1)
			break;
	}
	_exit(0);
}

static void other_makes(unsigned char i)
{
	if (write(to_other[1], &i, 1) != 1 || read(from_other[0], &i, 1) != 1)
		exit(3);
}

/* What this one sees */

static int kept; /* open all the time */

static void show(const char *call, long r, const struct stat *st)
{
	if (r < 0)
		printf(" %s: %s\n", call, strerror(errno));
	else
		printf(" %s: mode %o links %lu owner %u size %ld mtime %s\n", call, st->st_mode,
		       S_ISDIR(st->st_mode) ? 0 : (unsigned long)st->st_nlink, st->st_uid,
		       S_ISDIR(st->st_mode) ? 0 : (long)st->st_size,
		       st->st_mtim.tv_sec == 6 ? "6" : "now");
}

static void look(bool print)
{
	char text[32] = "";
	struct stat st;
	long r;
	int fd;

	r = stat("d/f", &st);
	if (print)
		show("stat", r, &st);
	r = lstat("d/f", &st);
	if (print)
		show("lstat", r, &st);
	r = fstat(kept, &st);
	if (print)
		show("fstat", r, &st);
#ifdef STATX_SIZE /* not in every musl */
	struct statx stx;

	r = statx(AT_FDCWD, "d/f", AT_SYMLINK_NOFOLLOW, STATX_SIZE, &stx);
	if (print)
		printf(" statx: %ld\n", r < 0 ? r : S_ISDIR(stx.stx_mode) ? 0 : (long)stx.stx_size);
#endif
	fd = open("d/f", O_RDONLY);
	r = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (print)
		printf(" open: %s, read: %ld \"%s\"\n", fd < 0 ? strerror(errno) : "fd", r, text);
	close(fd);
}

static void changes_are_seen(void)
{
	for (unsigned char i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		for (int n = 0; n < TIMES; n++)
			look(false);
		other_makes(i);
		printf("%s:\n", changes[i].name);
		look(true);
	}
}

/* What is opened again is as if it had been closed. */
static void closed_is_closed(void)
{
	char text[8] = "";
	int fd = -1, other, pair[2];

	for (int n = 0; n < TIMES; n++) {
		fd = open("other", O_RDONLY);
		read(fd, text, 3);
		if (n % 3 == 0)
			lseek(fd, 2, SEEK_SET);
		close(fd);
		if (read(fd, text, 1) >= 0 || errno != EBADF)
			printf("read of a closed descriptor: %s\n", strerror(errno));
	}
	fd = open("other", O_RDONLY);
	printf("position %ld\n", (long)lseek(fd, 0, SEEK_CUR));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	close(fd);
	fd = open("other", O_RDONLY);
	printf("flags %o\n", fcntl(fd, F_GETFL) & O_NONBLOCK);
	printf("flock %d\n", flock(fd, LOCK_EX));
	close(fd);
	fd = open("other", O_RDONLY);
	other = open("other", O_RDWR);
	printf("flock of another %d\n", flock(other, LOCK_EX | LOCK_NB));
	close(other);
	close(fd);
	/* a copy goes on */
	fd = open("other", O_RDONLY);
	other = dup(fd);
	close(fd);
	fd = open("other", O_RDONLY);
	read(other, text, 2);
	printf("position %ld and %ld\n", (long)lseek(fd, 0, SEEK_CUR),
	       (long)lseek(other, 0, SEEK_CUR));
	close(other);
	close(fd);
	/* so does a child's */
	fd = open("other", O_RDONLY);
	pipe(pair);
	if (!fork()) {
		read(pair[0], text, 1);
		printf("child reads %zd\n", read(fd, text, 4));
		fflush(stdout);
		_exit(0);
	}
	close(fd);
	fd = open("other", O_RDONLY);
	printf("position %ld\n", (long)lseek(fd, 0, SEEK_CUR));
	fflush(stdout);
	write(pair[1], "x", 1);
	wait(NULL);
	printf("position %ld\n", (long)lseek(fd, 0, SEEK_CUR));
	close(fd);
}

/* A record lock goes with any close of its file, and with nothing else. */
static void show_lock(const char *when)
{
	for (unsigned char i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (changes[i].make == lock_tried)
			other_makes(i);
	printf("%s: %s\n", when, strerror(*lock_error));
}

static void locks_end(void)
{
	struct flock lock = {.l_type = F_WRLCK};
	int locked, fd;

	for (int n = 0; n < TIMES; n++)
		close(open("other", O_RDONLY));
	locked = open("other", O_RDWR);
	printf("lock %d\n", fcntl(locked, F_SETLK, &lock));
	write(locked, "t", 1); /* what was closed before is not for the next open */
	show_lock("locked");
	fd = open("other", O_RDONLY);
	show_lock("after an open");
	close(fd);
	show_lock("after a close");
	close(locked);
	printf("lock %d\n", fcntl(fd = open("other", O_RDWR), F_SETLK, &lock));
	close(open("other", O_RDONLY));
	show_lock("after a close");
	close(fd);
}

/* The names of open files that are removed, in any process. */
static int removed_but_open(const char *name)
{
	char path[600], link[600];
	DIR *procs = opendir("/proc");
	struct dirent *proc;
	int found = 0;

	while ((proc = readdir(procs))) {
		struct dirent *entry;
		DIR *fds;

		snprintf(path, sizeof(path), "/proc/%s/fd", proc->d_name);
		fds = atoi(proc->d_name) > 0 ? opendir(path) : NULL;
		while (fds && (entry = readdir(fds))) {
			ssize_t n;

			snprintf(path, sizeof(path), "/proc/%s/fd/%s", proc->d_name, entry->d_name);
			n = readlink(path, link, sizeof(link) - 1);
			link[n < 0 ? 0 : n] = '\0';
			found += strstr(link, name) && strstr(link, "(deleted)");
		}
		if (fds)
			closedir(fds);
	}
	closedir(procs);
	return found;
}

/* A file that is removed takes no room when all have closed it. */
static void removed_is_gone(void)
{
	put("leases-removed", "text", 0);
	for (int n = 0; n < TIMES; n++)
		close(open("leases-removed", O_RDONLY));
	unlink("leases-removed");
	printf("removed and open: %d\n", removed_but_open("leases-removed"));
}

/* Who begins to watch hears of what is opened and closed from then on. */
static void watched_from_now_on(void)
{
	int watch = inotify_init1(IN_NONBLOCK), events = 0;
	char buf[4096];

	put("watched", "text", 0);
	for (int n = 0; n < TIMES; n++)
		close(open("watched", O_RDONLY));
	inotify_add_watch(watch, "watched", IN_OPEN | IN_CLOSE);
	for (int n = 0; n < 3; n++)
		close(open("watched", O_RDONLY));
	for (ssize_t at = 0, got = read(watch, buf, sizeof(buf)); at < got; events++)
		at += sizeof(struct inotify_event) + ((struct inotify_event *)(buf + at))->len;
	printf("events %d\n", events);
	close(watch);
}

/* Rights are those of who asks, and of now. */
static pthread_barrier_t turn;

/* access(2) by the real ids, and by those that count; what a name is that is nothing, to who may
 * not search for it. */
static void say_rights(void)
{
	struct stat st;

	printf("access %s, ", access("secret/f", R_OK) < 0 ? strerror(errno) : "ok");
	printf("eaccess %s, ",
	       faccessat(AT_FDCWD, "secret/f", R_OK, AT_EACCESS) < 0 ? strerror(errno) : "ok");
	printf("none: stat %s, ", stat("secret/none", &st) < 0 ? strerror(errno) : "ok");
	printf("access %s, ", access("secret/none", F_OK) < 0 ? strerror(errno) : "ok");
	printf("open %s, ", open("secret/none", O_RDONLY) < 0 ? strerror(errno) : "ok");
	printf("readlink %s\n",
	       readlink("secret/none", (char[8]){""}, 8) < 0 ? strerror(errno) : "ok");
}

static void *as_user(void *arg)
{
	struct stat st;
	int fd;

	/* this thread's alone: the libc's function would change all of them */
	syscall(SYS_setresuid, -1, 1000, -1);
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	printf("user: stat %s, ", stat("secret/f", &st) < 0 ? strerror(errno) : "ok");
	say_rights();
	fd = open("secret/f", O_RDONLY);
	printf("open %s\n", fd < 0 ? strerror(errno) : "ok");
	return NULL;
}

static void use_secret(void)
{
	struct stat st;

	for (int n = 0; n < TIMES; n++) {
		stat("secret/f", &st);
		close(open("secret/f", O_RDONLY));
		access("secret/f", R_OK);
		faccessat(AT_FDCWD, "secret/f", R_OK, AT_EACCESS);
		stat("secret/none", &st);
		access("secret/none", F_OK);
		open("secret/none", O_RDONLY);
		readlink("secret/none", (char[8]){""}, 8);
	}
}

static void rights_are_looked_at(void)
{
	struct stat st;
	pthread_t thread;
	int fd;

	mkdir("secret", 0700);
	put("secret/f", "secret", 0);
	use_secret();
	pthread_barrier_init(&turn, NULL, 2);
	pthread_create(&thread, NULL, as_user, NULL);
	pthread_barrier_wait(&turn);
	use_secret();
	pthread_barrier_wait(&turn);
	pthread_join(thread, NULL);
	printf("root: stat %d\n", stat("secret/f", &st));
	use_secret();
	if (seteuid(1000) < 0)
		exit(4);
	printf("as user: stat %s, ", stat("secret/f", &st) < 0 ? strerror(errno) : "ok");
	say_rights();
	fd = open("secret/f", O_RDONLY);
	printf("open %s\n", fd < 0 ? strerror(errno) : "ok");
	if (seteuid(0) < 0)
		exit(4);
	printf("root again: stat %d, ", stat("secret/f", &st));
	say_rights();
	chmod("secret", 0711);
	chmod("secret/f", 0644);
	if (seteuid(1000) < 0)
		exit(4);
	use_secret();
	printf("as user: stat %d, ", stat("secret/f", &st));
	say_rights();
	if (seteuid(0) < 0)
		exit(4);
	chmod("secret/f", 0600);
	if (seteuid(1000) < 0)
		exit(4);
	fd = open("secret/f", O_RDONLY);
	printf("open %s\n", fd < 0 ? strerror(errno) : "ok");
	if (seteuid(0) < 0)
		exit(4);
}

/* A user namespace has no ids until somebody else writes its map. */
static void a_map_is_written(void)
{
	int ready[2], written[2], status;
	char path[64], map[] = "0 0 2000";
	struct stat st;
	pid_t child;

	put("owned", "text", 0);
	chown("owned", 1000, 1000);
	pipe(ready);
	pipe(written);
	fflush(stdout);
	child = fork();
	if (!child) {
		if (unshare(CLONE_NEWUSER) < 0)
			_exit(errno);
		do
			stat("owned", &st);
		while (st.st_uid == 1000);
		for (int n = 0; n < TIMES; n++)
			stat("owned", &st);
		write(ready[1], "x", 1);
		read(written[0], path, 1);
		_exit(stat("owned", &st) == 0 && st.st_uid == 1000 ? 0 : 255);
	}
	close(ready[1]);
	if (read(ready[0], path, 1) == 1) {
		for (int i = 0; i < 2; i++) {
			int fd;

			snprintf(path, sizeof(path), "/proc/%d/%cid_map", child, "gu"[i]);
			fd = open(path, O_WRONLY);
			write(fd, map, sizeof(map) - 1);
			close(fd);
		}
	}
	write(written[1], "x", 1);
	waitpid(child, &status, 0);
	printf("with a map: %d\n", WEXITSTATUS(status));
	close(ready[0]);
	close(written[0]);
	close(written[1]);
}

/* What is above a directory may change, too. */
static void above_is_looked_at(void)
{
	struct stat st;

	mkdir("here", 0755);
	mkdir("there", 0755);
	mkdir("here/in", 0755);
	put("here/f", "text", 0);
	if (chdir("here/in") < 0)
		exit(4);
	for (int n = 0; n < TIMES; n++)
		stat("../f", &st);
	for (unsigned char i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		if (changes[i].make == moved_below)
			other_makes(i);
	printf("moved: %s\n", stat("../f", &st) < 0 ? strerror(errno) : "ok");
	if (chdir("../..") < 0)
		exit(4);
}

/* In a child all begins anew. */
static void child_is_another(void)
{
	int status;

	for (int n = 0; n < TIMES; n++)
		look(false);
	fflush(stdout);
	if (!fork()) {
		for (int n = 0; n < TIMES; n++)
			look(false);
		look(true);
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	look(true);
}

/* What somebody changes in the source, source being where, is seen within a second, whatever
 * clock_gettime(2) is made to say. */
static int outside_is_seen(const char *source)
{
	char path[4096];
	struct stat st;

	put("outside", "text", 0);
	for (int n = 0; n < TIMES; n++)
		stat("outside", &st);
	snprintf(path, sizeof(path), "%s/outside", source);
	if (truncate(path, 100) < 0)
		return 4;
	for (int n = 0; n < 1000 && st.st_size != 100; n++) {
		usleep(5000);
		stat("outside", &st);
	}
	return st.st_size == 100 ? 0 : 1;
}

/* A file that was open for writing is closed when it is closed. */
static void written_is_closed(void)
{
	char text[8], want[8];
	int wrong = 0;

	for (int n = 0; n < 3 * TIMES; n++) {
		int fd = open("written", O_WRONLY | O_CREAT | O_TRUNC, 0644);

		snprintf(want, sizeof(want), "%d", n);
		write(fd, want, strlen(want) + 1);
		close(fd);
		for (int i = 0; i < 3; i++) {
			fd = open("written", O_RDONLY);
			wrong +=
			    read(fd, text, sizeof(text)) != strlen(want) + 1 || strcmp(text, want);
			close(fd);
		}
	}
	printf("read after write: %d wrong\n", wrong);
}

int main(int argc, char **argv)
{
	if (argc > 2)
		return chdir(argv[1]) < 0 ? 2 : outside_is_seen(argv[2]);
	if (chdir(argv[1]) < 0 || chmod(".", 0755) < 0 || pipe(to_other) < 0 ||
	    pipe(from_other) < 0)
		return 2;
	mkdir("d", 0755);
	put("d/f", "text", 0);
	put("other", "the other file", 0);
	kept = open("d/f", O_RDONLY);
	lock_error =
	    mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!fork())
		other_process();
	changes_are_seen();
	closed_is_closed();
	written_is_closed();
	removed_is_gone();
	rights_are_looked_at();
	a_map_is_written();
	above_is_looked_at();
	child_is_another();
	locks_end();
	fflush(stdout);
	if (!fork()) { /* whose first files are the kernel's */
		locks_end();
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	watched_from_now_on(); /* the last one: files are not kept open from then on */
	close(to_other[1]);
	return 0;
}
