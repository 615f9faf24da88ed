/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the directory of each container under /run/danaus/containers. Root only writes there; hooks
 * and danaus-runtime, one thread each, several at a time for different containers. */
#include "oci/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "oci/document.h"
#include "oci/state.h"

#define LOOK_MS		1000
#define UNSTARTED_MAX_S 120 /* from the config edit to createRuntime */

static int make_dir(int at, const char *name, mode_t mode)
{
	if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
		return -errno;
	return fchmodat(at, name, mode, 0) < 0 ? -errno : 0; /* whatever the umask is */
}

/* mkdir -p of the parent of dir, opened: *ret_name is the last component. */
static int open_parent(const char *dir, bool make, int *ret, const char **ret_name)
{
	char parent[4096];
	const char *slash = strrchr(dir, '/');
	int fd;

	if (!slash || slash == dir || (size_t)(slash - dir) >= sizeof(parent) ||
	    id_check(slash + 1, ID_MAX) < 0)
		return -EINVAL;
	memcpy(parent, dir, slash - dir);
	parent[slash - dir] = '\0';
	for (char *p = parent + 1; make && p; p = strchr(p, '/')) {
		char saved;

		p += *p == '/';
		p += strcspn(p, "/");
		saved = *p;
		*p = '\0';
		if (mkdir(parent, 0711) < 0 && errno != EEXIST)
			return -errno;
		*p = saved;
		if (!saved)
			break;
	}
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = fd;
	*ret_name = slash + 1;
	return 0;
}

static int remove_at(int at, const char *name)
{
	CLEANUP_FD int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *entry;
	int r = 0, copy;
	DIR *dir;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return unlinkat(at, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		fd_close(copy);
		return -errno;
	}
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (unlinkat(fd, entry->d_name, 0) < 0 && errno != ENOENT)
			r = errno == EISDIR || errno == EPERM ? remove_at(fd, entry->d_name)
							      : -errno;
		if (r < 0)
			break;
	}
	closedir(dir);
	if (!r && unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int rundir_remove(const char *dir)
{
	CLEANUP_FD int parent = -1;
	const char *name;
	int r = open_parent(dir, false, &parent, &name);

	return r == -ENOENT ? 0 : r < 0 ? r : remove_at(parent, name);
}

/* The file's text, read by a child: who looks at a program may have to wait for it, for as long as
 * the program likes (it shares its memory, which lies on a FUSE mount of its own, and is in the
 * middle of an execve(2)). -ETIMEDOUT: it does. */
static ssize_t read_briefly(const char *path, char *buf, size_t cap_bytes)
{
	int ends[2], ready;
	ssize_t n = -1;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

		n = fd < 0 ? -1 : read(fd, buf, cap_bytes - 1);
		_exit(n < 0 || write(ends[1], buf, n) != n);
	}
	fd_close(ends[1]);
	do
		ready = child < 0 ? -1 : poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, LOOK_MS);
	while (child >= 0 && ready < 0 && errno == EINTR);
	if (ready > 0)
		n = read(ends[0], buf, cap_bytes - 1);
	fd_close(ends[0]);
	if (child < 0)
		return -EAGAIN;
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	buf[n > 0 ? n : 0] = '\0';
	return ready == 0 ? -ETIMEDOUT : n <= 0 ? -ESRCH : n;
}

/* Field 22 of /proc/PID/stat: with the pid it names a process for good. -ESRCH: no such process, or
 * a dead one that nobody has waited for. */
static int start_time(pid_t pid, unsigned long long *ret)
{
	char path[64], text[4096], *tail, state;
	unsigned long long start;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	n = read_briefly(path, text, sizeof(text));
	if (n < 0)
		return n;
	tail = strrchr(text, ')'); /* the name before it is the program's own choice */
	if (!tail ||
	    sscanf(tail,
		   ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
		   "%*d %*d %*d %*d %llu",
		   &state, &start) != 2 ||
	    strchr("ZX", state))
		return -ESRCH;
	*ret = start;
	return 0;
}

int rundir_started(const char *dir, pid_t pid, struct err *err)
{
	CLEANUP_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned long long start = 0;
	char text[64];
	int n, r;

	start_time(pid, &start);
	n = snprintf(text, sizeof(text), "%d %llu\n", (int)pid, start);
	r = fd < 0 ? -errno : fd_replace_file_at(fd, "pid", 0600, text, n);
	return r < 0 ? err_prefix(err, r, "%s/pid", dir) : 0;
}

/* Its first process may come yet. */
static bool is_new(int dir)
{
	struct stat st;

	return fstat(dir, &st) == 0 && time(NULL) - st.st_mtime < UNSTARTED_MAX_S;
}

static bool in_use(int dir)
{
	CLEANUP_FREE char *text = NULL;
	unsigned long long start, now;
	int pid, r;

	if (fd_read_file_at(dir, "pid", 64, &text, NULL) < 0)
		return is_new(dir);
	if (sscanf(text, "%d %llu", &pid, &start) != 2 || !start)
		return false;
	r = start_time(pid, &now);
	return r ? r != -ESRCH : now == start;
}

/* Whether name in at is still the directory that dir has open. */
static bool is_same(int at, const char *name, int dir)
{
	struct stat held, there;

	return fstat(dir, &held) == 0 && fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

static void sweep_one(int containers, const char *name, const char *pool,
		      bool (*is_left)(const char *pool, const char *name))
{
	CLEANUP_FD int dir =
	    openat(containers, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_JSON json_t *spec = NULL;
	const char *of = NULL;

	if (dir < 0 || in_use(dir))
		return;
	if (!document_read_at(dir, "spec.json", &spec, NULL))
		of = json_string_value(json_object_get(spec, "pool"));
	if ((pool && (!of || strcmp(of, pool) != 0)) || (of && is_left && !is_left(of, name)))
		return;
	/* Meanwhile the container may have been made again, under the same name. */
	if (flock(containers, LOCK_EX) == 0 && is_same(containers, name, dir) && !in_use(dir))
		remove_at(containers, name);
	flock(containers, LOCK_UN);
}

void rundir_sweep(const char *containers, const char *pool,
		  bool (*is_left)(const char *pool, const char *name))
{
	DIR *dir = opendir(containers);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (id_check(entry->d_name, ID_MAX) == 0)
			sweep_one(dirfd(dir), entry->d_name, pool, is_left);
	}
	if (dir)
		closedir(dir);
}

int rundir_spec(const char *dir, json_t **ret_spec, struct err *err)
{
	CLEANUP_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : document_read_at(fd, "spec.json", ret_spec, err);

	return r < 0 ? err_prefix(err, r, "%s", dir) : 0;
}

int rundir_restore(const char *dir, const json_t *spec, const char *bundle, struct err *err)
{
	const char *config = json_string_value(json_object_get(spec, "config"));
	CLEANUP_FREE char *text = NULL;
	char from[4200], to[4200];
	struct stat st;
	size_t len;
	int r;

	snprintf(from, sizeof(from), "%s/config.json", dir);
	snprintf(to, sizeof(to), "%s%s", config ? config : bundle, config ? "" : "/config.json");
	r = fd_read_file_at(AT_FDCWD, from, DOCUMENT_MAX, &text, &len);
	if (!r)
		r = stat(to, &st) < 0
			? -errno
			: fd_replace_file_at(AT_FDCWD, to, st.st_mode & 0777, text, len);
	return r < 0 ? err_prefix(err, r, "cannot restore %s", to) : 0;
}

/* What a runtime left that refused its container before the first hook. The others, of which a
 * process has to be looked at, have rundir_sweep(). With containers locked. */
static void remove_unstarted(int containers)
{
	int copy = fcntl(containers, F_DUPFD_CLOEXEC, 0);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!dir)
		fd_close(copy);
	while (dir && (entry = readdir(dir))) {
		CLEANUP_FD int fd = id_check(entry->d_name, ID_MAX) < 0
					? -1
					: openat(containers, entry->d_name,
						 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd >= 0 && faccessat(fd, "pid", F_OK, 0) < 0 && errno == ENOENT && !is_new(fd))
			remove_at(containers, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

int rundir_make(const json_t *spec, const char *original, size_t len, struct err *err)
{
	static const char *const bound[] = {"init", "libdanaus.so"};
	const char *path = json_string_value(json_object_get(spec, "dir"));
	const char *preload = json_string_value(json_object_get(spec, "preload")), *name;
	CLEANUP_FD int parent = -1;
	int r = open_parent(path, true, &parent, &name);

	if (r == -EACCES || r == -EPERM)
		return err_set(err, r,
			       "cannot make %s: %s; a rootless engine cannot start Danaus's "
			       "services, run it as root",
			       path, strerror(-r));
	if (r < 0)
		return err_prefix(err, r, "cannot make %s", path);
	/* against a sweep; until parent is closed */
	if (flock(parent, LOCK_EX) < 0)
		return err_prefix(err, -errno, "cannot lock the directory of %s", path);
	CLEANUP_FD int old = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (old >= 0 && faccessat(old, "pid", F_OK, 0) == 0 && in_use(old))
		return err_set(err, -EEXIST, "container %s is running", name);
	remove_unstarted(parent);
	r = remove_at(parent, name);
	if (!r)
		r = make_dir(parent, name, 0711);
	CLEANUP_FD int dir = r ? -1 : openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!r)
		r = dir < 0 ? -errno : make_dir(dir, "guest", 0755);
	if (!r)
		r = make_dir(dir, "empty", 0755);
	CLEANUP_FD int guest = r ? -1 : openat(dir, "guest", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!r && guest < 0)
		r = -errno;
	for (size_t i = 0; !r && i < sizeof(bound) / sizeof(bound[0]); i++)
		r = fd_replace_file_at(guest, bound[i], 0755, "", 0);
	if (!r)
		r = fd_replace_file_at(guest, "ld.so.preload", 0644, preload, strlen(preload));
	if (!r)
		r = fd_replace_file_at(dir, "config.json", 0600, original, len);
	if (r < 0) {
		err_prefix(err, r, "cannot make %s", path);
	} else {
		r = document_write_at(dir, "spec.json", 0600, spec, err);
	}
	if (r < 0)
		remove_at(parent, name);
	return r;
}
