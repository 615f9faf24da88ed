/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the service's life: its directory, its threads, signals, the timer; which CPUs it may use.
 * The main thread runs the loop. */
#include "danaus/server/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cgroups/cgroups.h"
#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/base/parse.h"
#include "danaus/pool/loop.h"
#include "danaus/pool/workers.h"
#include "danaus/shm/client.h"

#define TIMER_S	       10
#define FIRST_ATTACH_S 60 /* a service that nobody attaches to ends */
#define WORKERS_MAX    128
#define QUEUE_MAX      1024
#define LOCK_WAIT_MS   2000
#define CLOSES_MS      1

static time_t monotonic_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Every thread of the service; new ones inherit it. */
static void pin_all(const cpu_set_t *set)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;

	while (tasks && (entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		if (tid > 0)
			sched_setaffinity(tid, sizeof(*set), set);
	}
	if (tasks)
		closedir(tasks);
}

/* The kernel narrows every thread's CPUs with the cgroup's cpuset; where it later widens them
 * beyond --cpus (before Linux 6.2), they are narrowed again. */
static void follow_cpus(struct server *server)
{
	cpu_set_t now, want;

	if (sched_getaffinity(0, sizeof(now), &now) < 0)
		return;
	if (server->has_wanted) {
		CPU_AND(&want, &now, &server->wanted);
		if (CPU_COUNT(&want) && !CPU_EQUAL(&want, &now)) {
			pin_all(&want);
			now = want;
		}
	}
	server->pool.cpus = now;
	__atomic_store_n(&server->pool.ncpus, CPU_COUNT(&now), __ATOMIC_RELAXED);
}

static void trim(void *arg)
{
	struct server *server = arg;

	shm_server_drop_idle(server->pool.shm, NULL);
	vfs_trim(server->pool.vfs);
}

static void on_timer(void *arg, uint32_t events)
{
	struct server *server = arg;
	uint64_t count;
	bool unused;

	if (read(server->timer, &count, sizeof(count)) < 0)
		return;
	follow_cpus(server);
	pool_run(&server->pool, trim, server);
	pthread_mutex_lock(&server->lock);
	unused = !server->ncontainers && !server->attaching && !server->ending &&
		 monotonic_s() - server->started > FIRST_ATTACH_S;
	server->ending |= unused;
	pthread_mutex_unlock(&server->lock);
	if (unused) {
		log_warn("nobody attached a container within %d s", FIRST_ATTACH_S);
		server_end(server);
	}
}

static void on_signal(void *arg, uint32_t events)
{
	struct server *server = arg;
	struct signalfd_siginfo info;

	if (read(server->signals, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("signal %u from process %u: flushing and ending", info.ssi_signo, info.ssi_pid);
	server_end(server);
}

void server_end(struct server *server)
{
	loop_stop(server->pool.loop);
}

/* Closes that the kernel tells are handled on a thread of their own: dropping a file may flush. One
 * at once, the next ones together after CLOSES_MS: a program that opens and closes all the time
 * would wake this thread by each close. Whom such a delay could mislead reads the queue itself
 * (container_settle()). Such a program also finds its next descriptors made already. */
static void *anchors_main(void *arg)
{
	struct server *server = arg;
	struct pollfd wait[] = {
	    {.fd = anchors_event_fd(server->pool.anchors), .events = POLLIN},
	    {.fd = server->anchors_wake, .events = POLLIN},
	};

	while (!wait[1].revents) {
		if (poll(wait, 2, -1) > 0 && wait[0].revents) {
			anchors_closed(server->pool.anchors);
			anchors_stock(server->pool.anchors);
			poll(wait + 1, 1, CLOSES_MS);
		}
	}
	return NULL;
}

static int make_dir(struct server *server, const char *run_dir, const char *name, struct err *err)
{
	char path[PATH_MAX];

	if (!*name || strchr(name, '/') || name[0] == '.' || strlen(name) > NAME_MAX)
		return err_set(err, -EINVAL, "pool name \"%s\": no file name", name);
	if (mkdir(run_dir, 0711) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", run_dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/pools", run_dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "%s/pools/%s", run_dir, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	server->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (server->dir < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	server->pool.dir = strdup(path);
	server->pool.name = strdup(name);
	return server->pool.dir && server->pool.name ? 0 : -ENOMEM;
}

/* The directory goes with the service, unless a new one has taken its place or is about to: the
 * hook that starts one holds the lock. */
static void remove_dir(struct server *server)
{
	CLEANUP_FD int lock = openat(server->dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	const struct timespec step = {.tv_nsec = 10000000};
	int waited_ms = 0;

	while (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK || (waited_ms += 10) > LOCK_WAIT_MS)
			return;
		nanosleep(&step, NULL);
	}
	cgroups_leave(); /* with the lock: a new service may be about to join the pool's */
	if (faccessat(server->dir, "control", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	unlinkat(server->dir, "log", 0);
	unlinkat(server->dir, "lock", 0);
	rmdir(server->pool.dir);
}

static int start_cpus(struct server *server, const char *cpus, struct err *err)
{
	if (cpus) {
		int r = parse_cpulist(cpus, &server->wanted);

		if (r < 0)
			return err_set(err, r, "--cpus %s: no list of CPUs", cpus);
		if (sched_setaffinity(0, sizeof(server->wanted), &server->wanted) < 0)
			return err_set(err, -errno,
				       "--cpus %s: %s; none of them is in the container's cpuset",
				       cpus, strerror(errno));
		server->has_wanted = true;
	}
	follow_cpus(server);
	return 0;
}

static int start_signals(struct server *server)
{
	const struct itimerspec period = {{TIMER_S, 0}, {TIMER_S, 0}};
	struct rlimit files;
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(0);
	server->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	server->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (server->signals < 0 || server->timer < 0 ||
	    timerfd_settime(server->timer, 0, &period, NULL) < 0)
		return -errno;
	return 0;
}

static int start(struct server *server, const struct server_options *options, struct err *err)
{
	struct pool *pool = &server->pool;
	int r = make_dir(server, options->run_dir, options->pool, err);

	if (!r)
		r = start_cpus(server, options->cpus, err);
	if (!r)
		r = start_signals(server);
	if (!r)
		r = loop_new(&pool->loop);
	if (!r)
		r = workers_new(WORKERS_MAX, QUEUE_MAX, 1u << 20, &pool->workers);
	if (!r)
		r = vfs_new(&pool->vfs);
	if (!r)
		pool->leases = vfs_leases(pool->vfs);
	if (!r)
		r = cache_store_new(0, &pool->caches);
	if (!r)
		r = anchors_new(&pool->anchors, err);
	if (!r)
		anchors_on_closed(pool->anchors, containers_file_closed, server);
	if (!r)
		r = shm_server_new(pool, &pool->shm);
	if (!r) {
		server->anchors_wake = eventfd(0, EFD_CLOEXEC);
		r = server->anchors_wake < 0 ? -errno : 0;
	}
	if (!r)
		r = pool_watch(pool, server->signals, EPOLLIN, on_signal, server);
	if (!r)
		r = pool_watch(pool, server->timer, EPOLLIN, on_timer, server);
	if (!r) {
		r = cred_thread(&server->anchors, NULL, anchors_main, server);
		server->has_anchors_thread = !r;
	}
	if (!r)
		r = control_start(server, err);
	return r;
}

static void stop(struct server *server)
{
	struct pool *pool = &server->pool;
	uint64_t one = 1;

	if (pool->loop && pool->workers && server->control >= 0) {
		control_hide(server);
		containers_detach_all(server);
		control_stop(server);
	}
	if (server->has_anchors_thread) {
		if (write(server->anchors_wake, &one, sizeof(one)) != sizeof(one))
			abort();
		pthread_join(server->anchors, NULL);
	}
	if (pool->workers)
		workers_drain(pool->workers);
	shm_server_free(pool->shm);
	anchors_free(pool->anchors);
	workers_free(pool->workers);
	if (pool->vfs)
		vfs_free(pool->vfs);
	cache_store_free(pool->caches);
	loop_free(pool->loop);
	if (server->dir >= 0)
		remove_dir(server);
	fd_close(server->anchors_wake);
	fd_close(server->timer);
	fd_close(server->signals);
	fd_close(server->dir);
	fd_close(pool->guard_fd);
	free(pool->dir);
	free(pool->name);
}

/* The hook waits for one byte, or for the reason why there is none. */
static void tell(int ready_fd, const char *text, size_t len)
{
	if (ready_fd < 0)
		return;
	fd_write_all(ready_fd, text, len);
	fd_close(ready_fd);
}

int server_run(const struct server_options *options)
{
	struct server server = {.dir = -1,
				.control = -1,
				.timer = -1,
				.signals = -1,
				.anchors_wake = -1,
				.started = monotonic_s(),
				.lock = PTHREAD_MUTEX_INITIALIZER};
	struct err err = {0};
	int r;

	server.pool.guard_fd = options->guard_fd;
	/* a guard that is stuck holds nothing up */
	if (options->guard_fd >= 0)
		fcntl(options->guard_fd, F_SETFL, O_NONBLOCK);
	r = start(&server, options, &err);

	if (r < 0) {
		log_error("%s", err_text(&err, r));
		tell(options->ready_fd, err_text(&err, r), strlen(err_text(&err, r)));
	} else {
		log_info("pool %s: ready", server.pool.name);
		tell(options->ready_fd, "\n", 1);
		r = loop_run(server.pool.loop);
		log_info("pool %s: ending", server.pool.name);
	}
	stop(&server);
	return r < 0;
}
