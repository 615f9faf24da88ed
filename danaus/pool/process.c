/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a container's table of processes. Everything about a process is read through descriptors
 * that are bound to it (a pidfd, its /proc directory), so that a number which the kernel has given
 * to somebody else is noticed, never believed. Any thread. Source of /proc's text: kernel. */
#include "danaus/pool/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/pool/pool.h"
#include "danaus/pool/stats.h"

#define BUCKETS	      1024u /* processes and threads, by number */
#define CREDS	      16u
#define TIDS	      64u
#define CRED_KEEP_NS  100000000ull  /* an execve of a set-user-id program is seen by then */
#define SETTLE_NS     1000000000ull /* see process_rights_changed() */
#define FRESH_NS      1000000ull    /* a number comes back only after all others were used */
#define PID_NS_DEPTH  32
#define STATUS_MAX    16384
#define PROC_TEXT_MAX 65536

struct known_cred {
	pid_t tid;
	uint32_t version;
	uint64_t read_ns;
	struct cred *cred;
};

struct process {
	_Atomic uint32_t refs;
	struct container *container;
	pid_t pid, ns_pid, inner_pid; /* host's, container's, its own namespace's number */
	uint64_t owner;
	int pidfd, proc; /* proc: O_PATH of /proc/PID */
	_Atomic uint32_t version;
	_Atomic uint64_t settle_until_ns;
	uint32_t lease;
	struct process *next; /* in its bucket */
	pthread_mutex_t lock; /* what follows */
	struct known_cred cred[CREDS];
	struct {
		pid_t inside, host;
	} tid[TIDS];
};

struct processes {
	pthread_mutex_t lock;
	struct process *bucket[BUCKETS]; /* each holds a reference */
	struct process *by_tid[BUCKETS]; /* the last one asked for by such a number; none held */
	pid_t tid[BUCKETS];
	uint64_t seen_ns[BUCKETS]; /* when that number was known to be its thread */
	unsigned depth; /* of the container's pid namespace: its place in a status' NSpid */
};

static _Atomic uint64_t last_owner;

/* The numbers of a "Name:\t1 2 3" line of a status file. */
static unsigned status_numbers(const char *status, const char *name, pid_t *ret, unsigned cap)
{
	const char *line = strstr(status, name);
	unsigned n = 0;
	char *end;

	if (!line)
		return 0;
	for (line += strlen(name); n < cap && *line && *line != '\n'; line = end) {
		long number = strtol(line, &end, 10);

		if (end == line)
			break;
		ret[n++] = number;
	}
	return n;
}

static ino_t ns_inode(int proc, const char *which)
{
	struct stat st;

	return fstatat(proc, which, &st, 0) < 0 ? 0 : st.st_ino;
}

/* Its namespace of that kind ("ns/user", "ns/pid") is ns or was made below it. */
static bool in_or_below(int proc, const char *kind, ino_t ns)
{
	CLEANUP_FD int fd = openat(proc, kind, O_RDONLY | O_CLOEXEC);
	struct stat st;

	for (int i = 0; i < PID_NS_DEPTH && fd >= 0; i++) {
		int parent;

		if (fstat(fd, &st) < 0)
			return false;
		if (st.st_ino == ns)
			return true;
		parent = ioctl(fd, NS_GET_PARENT);
		fd_close(fd);
		fd = parent;
	}
	return false;
}

/* A component of one of its cgroups' paths names the container, as podman, crun and containerd do.
 * Without such a name (cgroups disabled) the rule does not apply. */
static bool in_cgroup_of(int proc, const char *id)
{
	CLEANUP_FREE char *text = NULL;

	return strlen(id) >= 12 &&
	       fd_read_file_at(proc, "cgroup", PROC_TEXT_MAX, &text, NULL) >= 0 && strstr(text, id);
}

/* Whether a process is of this container: in its user namespace or one below, and in its mount
 * namespace, or in its pid namespace or one below, or in its cgroup. */
static bool belongs(const struct container *container, int proc)
{
	if (!in_or_below(proc, "ns/user", container->user_ns))
		return false;
	if (ns_inode(proc, "ns/mnt") == container->mnt_ns)
		return true;
	if (ns_inode(AT_FDCWD, "/proc/self/ns/pid") != container->pid_ns &&
	    in_or_below(proc, "ns/pid", container->pid_ns))
		return true;
	return in_cgroup_of(proc, container->id);
}

static bool alive(const struct process *process)
{
	/* EPERM: there, but the calling thread has assumed a caller's rights (cred_assume()). */
	return syscall(SYS_pidfd_send_signal, process->pidfd, 0, NULL, 0) == 0 || errno == EPERM;
}

bool process_ended(const struct process *process)
{
	struct pollfd poll_for = {.fd = process->pidfd, .events = POLLIN};

	return poll(&poll_for, 1, 0) == 1;
}

static bool has_thread(const struct process *process, pid_t tid)
{
	char name[32];

	if (tid == process->pid)
		return alive(process);
	snprintf(name, sizeof(name), "task/%d", (int)tid);
	return faccessat(process->proc, name, F_OK, 0) == 0;
}

int processes_new(struct container *container)
{
	struct processes *processes = calloc(1, sizeof(*processes));
	CLEANUP_FREE char *status = NULL;
	pid_t pids[PID_NS_DEPTH];
	char path[64];
	int r;

	if (!processes)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)container->init_pid);
	r = fd_read_file_at(AT_FDCWD, path, STATUS_MAX, &status, NULL);
	if (r < 0) {
		free(processes);
		return r == -ENOENT ? -ESRCH : r;
	}
	processes->depth = status_numbers(status, "\nNSpid:", pids, PID_NS_DEPTH);
	if (processes->depth)
		processes->depth--;
	pthread_mutex_init(&processes->lock, NULL);
	container->processes = processes;
	return 0;
}

static struct process **find(struct processes *processes, pid_t pid)
{
	struct process **link = &processes->bucket[(unsigned)pid % BUCKETS];

	while (*link && (*link)->pid != pid)
		link = &(*link)->next;
	return link;
}

/* Out of the table, if it is still in; true: the table's reference is the caller's now. */
static bool take_out(struct process *process)
{
	struct processes *processes = process->container->processes;
	struct process **link;
	bool taken = false;

	pthread_mutex_lock(&processes->lock);
	for (link = &processes->bucket[(unsigned)process->pid % BUCKETS]; *link;
	     link = &(*link)->next) {
		if (*link != process)
			continue;
		*link = process->next;
		taken = true;
		break;
	}
	for (unsigned i = 0; taken && i < BUCKETS; i++) {
		if (processes->by_tid[i] == process)
			processes->by_tid[i] = NULL;
	}
	pthread_mutex_unlock(&processes->lock);
	return taken;
}

static void forget_gone(void *arg)
{
	struct process *process = arg;

	vfs_owner_gone(process->container->pool->vfs, process->owner);
	process_unref(process);
}

static void process_gone(void *arg, uint32_t events)
{
	struct process *process = arg;

	(void)events;
	pool_unwatch(process->container->pool, process->pidfd);
	if (take_out(process) && pool_run(process->container->pool, forget_gone, process) < 0)
		forget_gone(process);
}

/* Ends those whose end the loop has not heard of yet. */
static void reap(struct container *container)
{
	struct processes *processes = container->processes;

	for (unsigned i = 0; i < BUCKETS; i++) {
		struct process *process, *gone = NULL;

		pthread_mutex_lock(&processes->lock);
		for (process = processes->bucket[i]; process && !gone; process = process->next) {
			if (process_ended(process))
				gone = process_hold(process);
		}
		pthread_mutex_unlock(&processes->lock);
		if (!gone)
			continue;
		pool_unwatch(container->pool, gone->pidfd);
		if (take_out(gone))
			forget_gone(gone);
		process_unref(gone);
		i--; /* another one in this bucket? */
	}
}

bool container_settle(struct container *container)
{
	anchors_closed(container->pool->anchors);
	reap(container);
	if (container->pool->shm)
		container->pool->settle(container->pool->shm, container);
	return true;
}

void processes_free(struct container *container)
{
	struct processes *processes = container->processes;

	if (!processes)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (;;) {
			struct process *process;

			pthread_mutex_lock(&processes->lock);
			process = processes->bucket[i];
			if (process)
				atomic_fetch_add(&process->refs, 1);
			pthread_mutex_unlock(&processes->lock);
			if (!process)
				break;
			pool_unwatch(container->pool, process->pidfd);
			if (take_out(process))
				forget_gone(process);
			process_unref(process);
		}
	}
	pthread_mutex_destroy(&processes->lock);
	free(processes);
	container->processes = NULL;
}

struct process *process_hold(struct process *process)
{
	atomic_fetch_add(&process->refs, 1);
	return process;
}

void process_unref(struct process *process)
{
	if (!process || atomic_fetch_sub(&process->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < CREDS; i++) {
		if (process->cred[i].cred)
			cred_unref(process->cred[i].cred);
	}
	fd_close(process->pidfd);
	fd_close(process->proc);
	pthread_mutex_destroy(&process->lock);
	free(process);
}
DEFINE_CLEANUP(process, struct process *, process_unref)

/* A process that the table does not have. */
static int process_new(struct container *container, pid_t pid, struct process **ret)
{
	__attribute__((cleanup(cleanup_process))) struct process *process =
	    calloc(1, sizeof(*process));
	CLEANUP_FREE char *status = NULL;
	pid_t ids[PID_NS_DEPTH];
	char path[32];
	unsigned n;
	int r;

	if (!process)
		return -ENOMEM;
	cred_assume_service(); /* others' /proc files ask who reads */
	atomic_init(&process->refs, 1);
	atomic_init(&process->version, 1);
	pthread_mutex_init(&process->lock, NULL);
	process->container = container;
	process->lease = leases_counters(container->pool->leases);
	process->pid = pid;
	process->owner = atomic_fetch_add(&last_owner, 1) + 1;
	process->proc = -1;
	process->pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (process->pidfd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	process->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (process->proc < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = fd_read_file_at(process->proc, "status", STATUS_MAX, &status, NULL);
	if (r < 0)
		return -ESRCH;
	n = status_numbers(status, "\nNSpid:", ids, PID_NS_DEPTH);
	process->inner_pid = n ? ids[n - 1] : pid;
	process->ns_pid = n > container->processes->depth ? ids[container->processes->depth] : pid;
	if (!belongs(container, process->proc))
		return alive(process) ? -EPERM : -ESRCH;
	/* still there after all was read: pidfd and /proc/PID were of one process */
	if (!alive(process))
		return -ESRCH;
	*ret = STEAL_PTR(process);
	return 0;
}

static int tgid_of(pid_t tid, pid_t *ret)
{
	CLEANUP_FREE char *status = NULL;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	r = fd_read_file_at(AT_FDCWD, path, STATUS_MAX, &status, NULL);
	if (r < 0 || status_numbers(status, "\nTgid:", ret, 1) != 1)
		return -ESRCH;
	return 0;
}

/* tid was one of process' threads at now. */
static void seen(struct processes *processes, struct process *process, pid_t tid, uint64_t now)
{
	unsigned slot = (unsigned)tid % BUCKETS;

	processes->by_tid[slot] = process;
	processes->tid[slot] = tid;
	processes->seen_ns[slot] = now;
}

/* lives: the caller knows that there is such a thread. */
static struct process *known(struct processes *processes, pid_t pid, pid_t tid, bool lives)
{
	unsigned slot = (unsigned)tid % BUCKETS;
	struct process *process = NULL;
	uint64_t now = stats_now();
	bool fresh = false;

	pthread_mutex_lock(&processes->lock);
	if (pid) {
		process = *find(processes, pid);
	} else if (processes->tid[slot] == tid) {
		process = processes->by_tid[slot];
		fresh = lives && now - processes->seen_ns[slot] < FRESH_NS;
	}
	if (process)
		atomic_fetch_add(&process->refs, 1);
	pthread_mutex_unlock(&processes->lock);
	if (!process || fresh)
		return process;
	if (!has_thread(process, tid)) {
		process_unref(process);
		return NULL;
	}
	pthread_mutex_lock(&processes->lock);
	if (*find(processes, process->pid) == process)
		seen(processes, process, tid, now);
	pthread_mutex_unlock(&processes->lock);
	return process;
}

/* Into the table, unless another thread was faster: then *process becomes that one. */
static int enter(struct processes *processes, struct process **process, pid_t tid)
{
	struct process *mine = *process, **link;
	int r;

	pthread_mutex_lock(&processes->lock);
	link = find(processes, mine->pid);
	if (*link && alive(*link)) {
		*process = *link;
		atomic_fetch_add(&(*link)->refs, 1);
	} else {
		/* one that is there has ended, only its pidfd's event is still to come */
		atomic_fetch_add(&mine->refs, 1);
		mine->next = processes->bucket[(unsigned)mine->pid % BUCKETS];
		processes->bucket[(unsigned)mine->pid % BUCKETS] = mine;
	}
	seen(processes, *process, tid, 0);
	pthread_mutex_unlock(&processes->lock);
	if (*process != mine) {
		process_unref(mine);
		return 0;
	}
	r = pool_watch(mine->container->pool, mine->pidfd, EPOLLIN, process_gone, mine);
	if (r < 0) {
		if (take_out(mine))
			process_unref(mine);
		process_unref(mine);
	}
	return r;
}

static int get(struct container *container, pid_t host_tid, bool lives, struct process **ret)
{
	struct processes *processes = container->processes;
	struct process *process;
	pid_t pid;
	int r;

	process = known(processes, 0, host_tid, lives);
	if (!process) {
		r = tgid_of(host_tid, &pid);
		if (r < 0)
			return r;
		process = known(processes, pid, host_tid, lives);
		if (!process) {
			r = process_new(container, pid, &process);
			if (!r)
				r = enter(processes, &process, host_tid);
			if (r < 0)
				return r;
			if (!has_thread(process, host_tid)) {
				process_unref(process);
				return -ESRCH;
			}
		}
	}
	*ret = process;
	return 0;
}

int process_get(struct container *container, pid_t host_tid, struct process **ret)
{
	return get(container, host_tid, false, ret);
}

int process_get_waiting(struct container *container, pid_t host_tid, struct process **ret)
{
	return get(container, host_tid, true, ret);
}

int process_find(struct container *container, pid_t host_tid, struct process **ret)
{
	struct process *process = known(container->processes, 0, host_tid, false);
	pid_t pid = host_tid;
	int r;

	if (!process)
		process = known(container->processes, pid, host_tid, false);
	if (!process) {
		/* A process' first thread: such a number is its own, and unknown. */
		if (!syscall(SYS_tgkill, host_tid, host_tid, 0) || errno == EPERM)
			return -ESRCH;
		r = tgid_of(host_tid, &pid);
		if (r < 0)
			return r;
		process = known(container->processes, pid, host_tid, false);
		if (!process)
			return -ESRCH;
	}
	*ret = process;
	return 0;
}

pid_t process_pid(const struct process *process)
{
	return process->pid;
}

pid_t process_ns_pid(const struct process *process)
{
	return process->ns_pid;
}

int process_status(const struct process *process, uint32_t *ret_filters, uint32_t *ret_umask)
{
	static const char umask_line[] = "\nUmask:";
	CLEANUP_FREE char *status = NULL;
	pid_t filters = 0;
	const char *at;

	if (fd_read_file_at(process->proc, "status", STATUS_MAX, &status, NULL) < 0)
		return -ESRCH;
	at = strstr(status, umask_line);
	if (!at) /* it has ended */
		return -ESRCH;
	if (!status_numbers(status, "\nSeccomp_filters:", &filters, 1) || filters < 0)
		filters = 0;
	*ret_filters = filters;
	*ret_umask = strtoul(at + strlen(umask_line), NULL, 8) & 0777;
	return 0;
}

uint64_t process_owner(const struct process *process)
{
	return process->owner;
}

bool process_owner_of(struct container *container, pid_t pid, uint64_t *ret)
{
	struct processes *processes = container->processes;
	struct process *process;

	if (!processes || pid <= 0)
		return false;
	pthread_mutex_lock(&processes->lock);
	process = *find(processes, pid);
	if (process)
		*ret = process->owner;
	pthread_mutex_unlock(&processes->lock);
	return process != NULL;
}

int process_pidfd(const struct process *process)
{
	return process->pidfd;
}

struct container *process_container(const struct process *process)
{
	return process->container;
}

uint32_t process_rights_version(const struct process *process)
{
	if (stats_now() < atomic_load_explicit(&process->settle_until_ns, memory_order_acquire))
		return 0;
	return atomic_load_explicit(&process->version, memory_order_acquire);
}

static void next_version(struct process *process)
{
	if (atomic_fetch_add(&process->version, 1) == UINT32_MAX)
		atomic_fetch_add(&process->version, 1);
	leases_changed(process->container->pool->leases, process->lease);
}

uint32_t process_lease_counter(const struct process *process)
{
	return process->lease;
}

void process_rights_changed(struct process *process)
{
	atomic_store(&process->settle_until_ns, stats_now() + SETTLE_NS);
	next_version(process);
}

void process_rights_settled(struct process *process)
{
	atomic_store(&process->settle_until_ns, 0);
	next_version(process);
}

int process_cred(struct process *process, pid_t host_tid, struct cred **ret)
{
	uint32_t version = process_rights_version(process);
	struct known_cred *known = &process->cred[(unsigned)host_tid % CREDS];
	struct cred *cred = NULL;
	uint64_t now = stats_now();
	int r;

	pthread_mutex_lock(&process->lock);
	if (known->cred && known->tid == host_tid && version && known->version == version &&
	    now - known->read_ns < CRED_KEEP_NS)
		cred = cred_ref(known->cred);
	pthread_mutex_unlock(&process->lock);
	if (!cred) {
		r = cred_of_thread(host_tid, &process->container->map, &cred);
		if (r < 0)
			return r;
		if (!has_thread(process, host_tid)) {
			cred_unref(cred);
			return -ESRCH;
		}
		pthread_mutex_lock(&process->lock);
		if (known->cred)
			cred_unref(known->cred);
		*known = (struct known_cred){host_tid, cred_settled(cred) ? version : 0, now,
					     cred_ref(cred)};
		pthread_mutex_unlock(&process->lock);
	}
	*ret = cred;
	return 0;
}

/* The innermost number of a thread. */
static pid_t inner_tid(const struct process *process, pid_t host)
{
	CLEANUP_FREE char *status = NULL;
	pid_t ids[PID_NS_DEPTH];
	char name[64];
	unsigned n;

	snprintf(name, sizeof(name), "task/%d/status", (int)host);
	if (fd_read_file_at(process->proc, name, STATUS_MAX, &status, NULL) < 0)
		return -1;
	n = status_numbers(status, "\nNSpid:", ids, PID_NS_DEPTH);
	return n ? ids[n - 1] : -1;
}

int process_host_tid(struct process *process, pid_t ns_tid, pid_t *ret)
{
	unsigned slot = (unsigned)ns_tid % TIDS;
	struct dirent *entry;
	pid_t host = 0;
	DIR *dir;
	int fd;

	if (ns_tid == process->inner_pid && alive(process)) {
		*ret = process->pid;
		return 0;
	}
	pthread_mutex_lock(&process->lock);
	if (process->tid[slot].inside == ns_tid)
		host = process->tid[slot].host;
	pthread_mutex_unlock(&process->lock);
	/* a known pair may be of a thread that ended, and its number another one's */
	if (host && inner_tid(process, host) == ns_tid) {
		*ret = host;
		return 0;
	}
	fd = openat(process->proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return -ESRCH;
	}
	host = 0;
	while (!host && (entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name), inside = tid > 0 ? inner_tid(process, tid) : -1;

		if (inside <= 0)
			continue;
		pthread_mutex_lock(&process->lock);
		process->tid[(unsigned)inside % TIDS].inside = inside;
		process->tid[(unsigned)inside % TIDS].host = tid;
		pthread_mutex_unlock(&process->lock);
		if (inside == ns_tid)
			host = tid;
	}
	closedir(dir);
	if (!host)
		return -ESRCH;
	*ret = host;
	return 0;
}

int process_image(const struct process *process, uint64_t *ret)
{
	uint64_t hash = 14695981039346656037ull; /* FNV-1a */
	CLEANUP_FREE char *auxv = NULL;
	size_t len;
	int r;

	cred_assume_service();
	r = fd_read_file_at(process->proc, "auxv", PROC_TEXT_MAX, &auxv, &len);
	if (r < 0)
		return r;
	if (!len)
		return -ESRCH; /* exiting */
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)auxv[i]) * 1099511628211ull;
	*ret = hash;
	return 0;
}

bool process_in_mounts(const struct process *process, pid_t host_tid)
{
	char name[48];

	cred_assume_service();
	snprintf(name, sizeof(name), "task/%d/ns/mnt", (int)host_tid);
	return ns_inode(process->proc, name) == process->container->mnt_ns;
}

bool process_maps(const struct process *process, dev_t dev, ino_t ino)
{
	CLEANUP_FREE char *line = NULL;
	unsigned major_is, minor_is;
	unsigned long long ino_is;
	char how[5];
	bool found = false;
	size_t room = 0;
	FILE *maps;
	int fd;

	cred_assume_service();
	fd = openat(process->proc, "maps", O_RDONLY | O_CLOEXEC);
	maps = fd < 0 ? NULL : fdopen(fd, "r");
	if (!maps) {
		fd_close(fd);
		return false;
	}
	while (!found && getline(&line, &room, maps) > 0)
		found = sscanf(line, "%*x-%*x %4s %*x %x:%x %llu", how, &major_is, &minor_is,
			       &ino_is) == 4 &&
			!strcmp(how, "rw-s") && makedev(major_is, minor_is) == dev && ino_is == ino;
	fclose(maps);
	return found;
}

struct volume *container_volume_of(struct container *container, const char *path,
				   const char **ret_rest)
{
	for (unsigned i = 0; i < container->nvolumes; i++) {
		const char *want = container->volumes[i].target, *at = path;

		for (;;) {
			size_t n;

			/* what a walk passes without moving: slashes and "." */
			while (*at == '/' || (*at == '.' && (at[1] == '/' || !at[1])))
				at++;
			while (*want == '/')
				want++;
			n = strcspn(want, "/");
			if (!n || strncmp(at, want, n) || (at[n] != '/' && at[n]))
				break;
			at += n;
			want += n;
		}
		if (*want)
			continue;
		if (ret_rest)
			*ret_rest = at;
		return &container->volumes[i];
	}
	return NULL;
}
