/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a pool's directory and lock, and the start of its service. Hooks; one thread. */
#include "hooks/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroups/cgroups.h"
#include "danaus/base/cleanup.h"
#include "danaus/base/clock.h"
#include "hooks/guard.h"
#include "oci/document.h"
#include "oci/rundir.h"

#define LOCK_WAIT_S   60
#define STEP_MS	      10
#define READY_WAIT_MS 60000
#define ANSWER_MAX    (1u << 20)
#define GIVE_BACK_MS  15000 /* for all that one hook finds: others wait for it */
#define LEAVES_MS     1000  /* a killed service its cgroups, after its socket */
#define DANAUSD	      DANAUS_LIBEXECDIR "/danausd"

struct service {
	int dir, lock, sock;
};

/* How long one waits before looking again for what nothing tells of. */
static const struct timespec step = {.tv_nsec = STEP_MS * 1000000};
static int give_back_ms = GIVE_BACK_MS; /* left */

/* The pool's directory and its lock, held; a directory that was removed while we waited is made
 * anew. */
static int lock_pool(const char *pool, bool make, struct service *s, struct err *err)
{
	char path[512];

	snprintf(path, sizeof(path), RUNDIR_POOLS "/%s", pool);
	for (int tries = 0; tries < LOCK_WAIT_S * (1000 / STEP_MS); tries++) {
		CLEANUP_FD int dir = -1, lock = -1;
		struct stat held, there;

		if (make && ((mkdir(RUNDIR, 0711) < 0 && errno != EEXIST) ||
			     (mkdir(RUNDIR_POOLS, 0700) < 0 && errno != EEXIST) ||
			     (mkdir(path, 0700) < 0 && errno != EEXIST)))
			return err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
		dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir < 0 && errno == ENOENT && make)
			continue;
		if (dir < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (lock < 0 && errno == ENOENT && make)
			continue; /* the directory went between the two calls */
		if (lock < 0)
			return err_set(err, -errno, "%s/lock: %s", path, strerror(errno));
		if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
			if (fstat(dir, &held) == 0 && stat(path, &there) == 0 &&
			    held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
				s->dir = STEAL_FD(dir);
				s->lock = STEAL_FD(lock);
				return 0;
			}
			continue;
		}
		nanosleep(&step, NULL);
	}
	return err_set(err, -ETIMEDOUT, "another hook holds %s/lock for more than %d s", path,
		       LOCK_WAIT_S);
}

/* In the grandchild: becomes the service, or writes to ready why not. */
__attribute__((noreturn)) static void become_service(struct service *s, const char *pool,
						     const char *cpus, bool ceph,
						     const struct cgroups *groups, int ready)
{
	char *argv[] = {"danausd",    "--pool", (char *)pool,		"--ready-fd", "3",
			"--guard-fd", "4",	cpus ? "--cpus" : NULL, (char *)cpus, NULL};
	char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", ceph ? SERVICE_MALLOC : NULL,
			     NULL};
	struct err err = {0};
	int log = openat(s->dir, "log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	int null = open("/dev/null", O_RDWR);
	int guard = -1, r = guard_start(log, service_sweep, pool, &guard);

	if (!r)
		r = cgroups_join(groups, &err);
	/* above what they are moved onto */
	if (!r &&
	    ((ready = fcntl(ready, F_DUPFD_CLOEXEC, 5)) < 0 ||
	     (guard = fcntl(guard, F_DUPFD_CLOEXEC, 5)) < 0 || log < 0 || null < 0 ||
	     chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	     dup2(log, STDERR_FILENO) < 0 || dup2(ready, 3) < 0 || dup2(guard, 4) < 0))
		r = -errno;
	if (!r) {
		ready = 3;
		close_range(5, ~0u, 0);
		execve(DANAUSD, argv, env);
		r = -errno;
		err_set(&err, r, "cannot start " DANAUSD ": %s", strerror(errno));
	}
	dprintf(ready, "%s", err_text(&err, r));
	_exit(1);
}

static bool has_log(const struct service *s)
{
	struct stat st;

	return fstatat(s->dir, "log", &st, 0) == 0 && st.st_size;
}

/* Its first byte, or the text of its error. */
static int wait_ready(const struct service *s, const char *pool, int fd, struct err *err)
{
	char text[ERR_TEXT_MAX];
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int r = poll(&p, 1, READY_WAIT_MS);
		ssize_t n;

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			return err_set(err, -ETIMEDOUT, "the service did not start within %d s",
				       READY_WAIT_MS / 1000);
		n = r < 0 ? -1 : read(fd, text + len, sizeof(text) - 1 - len);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
	}
	text[len] = '\0';
	if (len == 1)
		return 0;
	if (!len && has_log(s))
		return err_set(err, -EIO, "the service did not start: it died; see %s/%s/log",
			       RUNDIR_POOLS, pool);
	return err_set(err, -EIO, "the service did not start: %s",
		       len ? text
			   : "it was killed, as for its cgroup's memory limit, or could "
			     "not run");
}

/* The lock's content is the groups that the pool has of its own, one a line, for who finds its
 * service dead. */
static void note_cgroups(struct service *s, const struct cgroups *groups)
{
	if (ftruncate(s->lock, 0) < 0 || lseek(s->lock, 0, SEEK_SET) < 0)
		return;
	for (unsigned i = 0; i < groups->n; i++)
		dprintf(s->lock, "%s\n", groups->at[i].dir);
}

/* The lock is held. */
static void remove_cgroups(struct service *s)
{
	CLEANUP_FREE char *text = NULL;
	int waited_ms = 0;

	if (fd_read_file_at(s->dir, "lock", CGROUPS_MAX * PATH_MAX, &text, NULL) < 0)
		return;
	for (char *rest = text, *dir; (dir = strsep(&rest, "\n"));) {
		while (cgroups_remove_pool(dir) == -EBUSY && waited_ms < LEAVES_MS) {
			nanosleep(&step, NULL);
			waited_ms += STEP_MS;
		}
	}
}

static int start_service(struct service *s, const char *pool, const json_t *spec, pid_t pid,
			 struct err *err)
{
	const char *id = json_string_value(json_object_get(spec, "id"));
	const char *cpus = json_string_value(json_object_get(spec, "cpus"));
	bool ceph = json_object_get(spec, "ceph");
	struct cgroups *groups = calloc(1, sizeof(*groups));
	CLEANUP_FREE void *owned = groups;
	CLEANUP_FD int ready = -1;
	int ends[2], status, r;
	pid_t child;

	if (!groups)
		return -ENOMEM;
	remove_cgroups(s); /* of one that was killed */
	r = cgroups_of(pid, groups, err);
	if (!r && strcmp(pool, id) != 0) {
		r = cgroups_pool(groups, pool, err);
		note_cgroups(s, groups);
	}
	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	ready = ends[0];
	child = fork();
	if (child == 0) {
		setsid();
		child = fork();
		if (child == 0)
			become_service(s, pool, cpus, ceph, groups, ends[1]);
		_exit(child < 0);
	}
	close(ends[1]);
	if (child < 0)
		return -errno;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return wait_ready(s, pool, ready, err);
}

/* What a service that was killed left behind; the lock is held. */
static void remove_pool(struct service *s, const char *pool)
{
	static const char *const files[] = {"control", "log", "lock"};
	char path[512];

	remove_cgroups(s);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlinkat(s->dir, files[i], 0);
	snprintf(path, sizeof(path), RUNDIR_POOLS "/%s", pool);
	rmdir(path);
}

__attribute__((noreturn)) static void become_give_back(int spec, int log)
{
	char *argv[] = {"danausd", "--give-back", NULL};
	char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* above what it is moved onto; nobody waits for an end of ours, of a lock */
	if ((spec = fcntl(spec, F_DUPFD_CLOEXEC, 3)) >= 0 && null >= 0 && chdir("/") == 0 &&
	    dup2(log >= 0 ? log : null, STDERR_FILENO) >= 0 && dup2(spec, STDIN_FILENO) >= 0 &&
	    dup2(null, STDOUT_FILENO) >= 0 && close_range(3, ~0u, 0) == 0)
		execve(DANAUSD, argv, env);
	_exit(1);
}

/* A service that was killed said no goodbye to its cluster: other hosts wait for what it held for
 * as long as the cluster waits for it. Of a container that still runs it is left to the end. True:
 * its directory may go. */
static bool give_back_of(const char *pool, const char *name)
{
	char path[512];
	CLEANUP_JSON json_t *spec = NULL;
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int pidfd = -1, log = -1, in = -1;
	struct pollfd p = {.events = POLLIN};
	uint64_t begun = clock_coarse_ns();
	pid_t child;

	snprintf(path, sizeof(path), RUNDIR_CONTAINERS "/%s", name);
	if (give_back_ms <= 0 || rundir_spec(path, &spec, NULL) < 0 ||
	    !json_object_get(spec, "ceph"))
		return true;
	text = json_dumps(spec, JSON_COMPACT);
	snprintf(path, sizeof(path), RUNDIR_POOLS "/%s/log", pool);
	log = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	in = memfd_create("spec", MFD_CLOEXEC);
	if (!text || in < 0 || fd_write_all(in, text, strlen(text)) < 0 ||
	    lseek(in, 0, SEEK_SET) < 0 || (child = fork()) < 0)
		return true;
	if (child == 0)
		become_give_back(in, log);
	p.fd = pidfd = syscall(SYS_pidfd_open, child, 0);
	if (pidfd < 0 || poll(&p, 1, give_back_ms) <= 0)
		kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	give_back_ms -= (int)((clock_coarse_ns() - begun) / 1000000);
	return true;
}

int service_enter(const char *pool, const json_t *start_spec, pid_t pid, struct service **ret,
		  struct err *err)
{
	struct service *s = malloc(sizeof(*s));
	struct stat st;
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct service){-1, -1, -1};
	r = lock_pool(pool, start_spec, s, err);
	if (!r) {
		r = fd_connect_at_once(s->dir, "control", &s->sock);
		if (r == -EAGAIN)
			err_set(err, r,
				"its service does not take connections: it is stopped or frozen");
		if (r == -ECONNREFUSED) { /* it died and left its socket */
			/* one that is started takes its own back itself */
			if (!start_spec)
				rundir_sweep(RUNDIR_CONTAINERS, pool, give_back_of);
			r = -ENOENT;
		}
		if (r == -ENOENT && start_spec) {
			r = start_service(s, pool, start_spec, pid, err);
			if (!r)
				r = fd_connect_at(s->dir, "control", &s->sock);
			else if (fstatat(s->dir, "control", &st, 0) < 0 && !has_log(s))
				remove_pool(s, pool); /* there is nothing in it to read */
			else
				remove_cgroups(s);
		} else if (r == -ENOENT)
			remove_pool(s, pool);
		if (r < 0)
			err_prefix(err, r, "pool %s", pool);
	}
	if (r < 0) {
		service_leave(s);
		return r;
	}
	*ret = s;
	return 0;
}

void service_leave(struct service *s)
{
	if (!s)
		return;
	fd_close(s->sock);
	fd_close(s->lock);
	fd_close(s->dir);
	free(s);
}

void service_await_end(struct service *s, int timeout_ms)
{
	struct pollfd p = {.fd = s->sock, .events = POLLIN};

	s->lock = fd_close(s->lock); /* it takes the lock to remove its directory */
	poll(&p, 1, timeout_ms);
	/* It lets go of us before that, and removes the lock last. */
	for (int ms = 0; ms < timeout_ms && !faccessat(s->dir, "lock", F_OK, AT_SYMLINK_NOFOLLOW);
	     ms += STEP_MS)
		nanosleep(&step, NULL);
}

int service_ask(struct service *s, const json_t *request, unsigned timeout_s, json_t **ret_answer,
		int *fds, unsigned *nfds, struct err *err)
{
	CLEANUP_FREE char *text = json_dumps(request, JSON_COMPACT), *answer = malloc(ANSWER_MAX);
	const struct timeval timeout = {.tv_sec = timeout_s};
	int room = ANSWER_MAX, r;
	unsigned got = nfds ? *nfds : 0;
	json_t *json;
	size_t len;

	if (!text || !answer)
		return -ENOMEM;
	setsockopt(s->sock, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (setsockopt(s->sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	r = fd_send(s->sock, text, strlen(text), NULL, 0);
	if (!r)
		r = fd_recv(s->sock, answer, ANSWER_MAX, &len, fds, nfds ? &got : NULL);
	if (r == -EAGAIN)
		return err_set(err, -ETIMEDOUT, "the service does not answer within %u s",
			       timeout_s);
	if (!r && !len)
		r = -ECONNRESET;
	if (r < 0)
		return err_prefix(err, r, "the service's control socket");
	r = document_parse(answer, len, "the service's answer", &json, err);
	if (!r && !json_is_true(json_object_get(json, "ok"))) {
		const char *why = json_string_value(json_object_get(json, "error"));

		r = -(int)json_integer_value(json_object_get(json, "errno"));
		r = err_set(err, r < 0 ? r : -EIO, "%s",
			    why ? why : "the service refused, without a reason");
		json_decref(json);
	}
	if (r < 0) {
		for (unsigned i = 0; i < got; i++)
			fd_close(fds[i]);
		return r;
	}
	if (nfds)
		*nfds = got;
	*ret_answer = json;
	return 0;
}

/* A service that was one container's alone is about to end by itself, and who waits for that
 * (poststop) needs the directory. */
static bool is_left(const char *pool, const char *name)
{
	struct service *s;
	int r = service_enter(pool, NULL, 0, &s, NULL);

	if (r < 0)
		return r == -ENOENT;
	service_leave(s);
	return strcmp(pool, name) != 0;
}

void service_sweep(const char *pool)
{
	rundir_sweep(RUNDIR_CONTAINERS, pool, is_left);
}
