/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of calling processes, and what is read of them from /proc. Called by the
 * handlers, on the receivers' threads. */
#include "danaus/notify/door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/pool/stats.h"

#define FRESH_NS 1000000ull

static ssize_t read_proc(pid_t tid, const char *name, char *buf, size_t cap_bytes)
{
	char path[64];
	CLEANUP_FD int fd = -1;
	ssize_t n;

	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, cap_bytes - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int root_of(pid_t pid, uint64_t *ret_mount, uint64_t *ret_ino)
{
	char path[48];
	struct statx stx;

	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/root", pid);
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO | STATX_MNT_ID, &stx))
		return -errno;
	*ret_mount = stx.stx_mnt_id;
	*ret_ino = stx.stx_ino;
	return 0;
}

/* Callers. */

static struct caller **bucket_of(struct notify *door, const struct process *process)
{
	return &door->callers[process_owner(process) % CALLER_BUCKETS];
}

static struct caller *find(struct notify *door, const struct process *process)
{
	struct caller *caller = *bucket_of(door, process);

	while (caller && caller->process != process)
		caller = caller->next;
	return caller;
}

static struct caller *caller_new(struct process *process)
{
	struct caller *caller = calloc(1, sizeof(*caller));

	if (!caller)
		return NULL;
	caller->process = process;
	atomic_init(&caller->refs, 1);
	pthread_mutex_init(&caller->lock, NULL);
	pthread_mutex_init(&caller->numbers, NULL);
	caller->umask = -1;
	return caller;
}

void caller_unref(struct caller *caller)
{
	if (!caller || atomic_fetch_sub(&caller->refs, 1) != 1)
		return;
	if (caller->cwd_node)
		vnode_unref(caller->cwd_node);
	process_unref(caller->process);
	pthread_mutex_destroy(&caller->lock);
	pthread_mutex_destroy(&caller->numbers);
	free(caller);
}

int64_t ncall_caller(struct call *call)
{
	struct notify *door = call->door;
	struct process *process;
	struct caller *caller;
	int r;

	if (call->caller)
		return 0;
	r = process_get_waiting(call->container, call->tid, &process);
	if (r)
		return r == -ESRCH ? CALL_GONE : CALL_CONTINUE;
	pthread_mutex_lock(&door->lock);
	caller = find(door, process);
	if (!caller) {
		caller = caller_new(process);
		if (caller) {
			process = NULL; /* the caller's now */
			caller->next = *bucket_of(door, caller->process);
			*bucket_of(door, caller->process) = caller;
			door->ncallers++;
		}
	}
	if (caller)
		atomic_fetch_add(&caller->refs, 1);
	pthread_mutex_unlock(&door->lock);
	process_unref(process);
	call->caller = caller;
	return caller ? 0 : CALL_CONTINUE;
}

int64_t ncall_begin(struct call *call)
{
	int64_t r = ncall_caller(call);
	struct scratch *scratch = ncall_scratch(call);

	if (r)
		return r;
	if (!scratch)
		return CALL_CONTINUE;
	if (!call->ctx.cred) {
		int error = process_cred(call->caller->process, call->tid, &call->ctx.cred);

		if (error)
			return error == -ESRCH ? CALL_GONE : CALL_CONTINUE;
		call->ctx.owner = process_owner(call->caller->process);
		call->ctx.pid = process_ns_pid(call->caller->process);
		call->ctx.leave = scratch->leave;
	}
	if (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call->id))
		return CALL_GONE;
	call->valid_ns = stats_now();
	call->served = true;
	__atomic_store_n(call->acts, 1, __ATOMIC_RELEASE);
	return 0;
}

/* A number comes back only after all others were used: not within FRESH_NS. */
bool ncall_waits(struct call *call)
{
	uint64_t now = stats_now();

	if (now - call->valid_ns < FRESH_NS)
		return true;
	if (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call->id))
		return false;
	call->valid_ns = now;
	return true;
}

static int64_t moved(int r)
{
	return r == -ESRCH ? CALL_GONE : r;
}

int64_t ncall_put(struct call *call, uint64_t addr, const void *buf, size_t len_bytes)
{
	return ncall_waits(call) ? moved(memory_write(call->tid, addr, buf, len_bytes)) : CALL_GONE;
}

int64_t ncall_get(struct call *call, uint64_t addr, void *buf, size_t len_bytes)
{
	return ncall_waits(call) ? moved(memory_read(call->tid, addr, buf, len_bytes)) : CALL_GONE;
}

void ncall_end(struct call *call)
{
	if (call->ctx.cred)
		cred_unref(call->ctx.cred);
	call->ctx.cred = NULL;
	caller_unref(call->caller);
	call->caller = NULL;
}

static bool gone(const struct process *process)
{
	struct pollfd p = {.fd = process_pidfd(process), .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

void door_sweep(struct notify *door)
{
	struct caller *dead = NULL, *caller;
	struct process *processes[PENDING_MAX];
	unsigned n = 0;

	pthread_mutex_lock(&door->lock);
	for (unsigned i = 0; door->ncallers && i < CALLER_BUCKETS; i++) {
		struct caller **at = &door->callers[i];

		while ((caller = *at)) {
			if (!gone(caller->process)) {
				at = &caller->next;
				continue;
			}
			*at = caller->next;
			caller->next = dead;
			dead = caller;
			door->ncallers--;
		}
	}
	for (unsigned i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &door->pending[i];

		if (!p->tid || !gone(p->process))
			continue;
		processes[n++] = p->process;
		p->tid = 0;
		atomic_fetch_sub(&door->npending, 1);
	}
	pthread_mutex_unlock(&door->lock);
	while (n)
		process_unref(processes[--n]);
	while ((caller = dead)) {
		dead = caller->next;
		caller_unref(caller);
	}
}

void door_forget_callers(struct notify *door)
{
	for (unsigned i = 0; i < CALLER_BUCKETS; i++) {
		struct caller *caller;

		while ((caller = door->callers[i])) {
			door->callers[i] = caller->next;
			caller_unref(caller);
		}
	}
	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (door->pending[i].tid)
			process_unref(door->pending[i].process);
}

/* Changes. */

static struct caller *caller_of(struct notify *door, const struct process *process)
{
	struct caller *caller;

	pthread_mutex_lock(&door->lock);
	caller = find(door, process);
	if (caller)
		atomic_fetch_add(&caller->refs, 1);
	pthread_mutex_unlock(&door->lock);
	return caller;
}

bool ncall_caller_known(struct call *call)
{
	struct process *process;

	if (call->caller)
		return true;
	if (process_find(call->container, call->tid, &process))
		return false;
	call->caller = caller_of(call->door, process);
	process_unref(process);
	return true;
}

static void forget_fs(struct caller *caller, pid_t tid)
{
	struct vnode *node;

	pthread_mutex_lock(&caller->lock);
	caller->generation++;
	if (tid)
		caller->unsettled = caller->unsettled && caller->unsettled != tid ? -1 : tid;
	caller->root = ROOT_UNKNOWN;
	caller->cwd = CWD_UNKNOWN;
	node = caller->cwd_node;
	caller->cwd_node = NULL;
	caller->umask = -1;
	caller->fsize_known = false;
	pthread_mutex_unlock(&caller->lock);
	if (node)
		vnode_unref(node);
}

void caller_never_remember(struct caller *caller)
{
	pthread_mutex_lock(&caller->lock);
	caller->unsettled = -1;
	pthread_mutex_unlock(&caller->lock);
}

void ncall_changes(struct call *call, bool rights)
{
	struct notify *door = call->door;
	struct process *process;
	struct caller *caller;
	struct pending *free_slot = NULL;

	/* Nothing is remembered of a process that the service does not know. */
	if (process_find(call->container, call->tid, &process))
		return;
	if (rights)
		process_rights_changed(process);
	caller = caller_of(door, process);
	if (caller)
		forget_fs(caller, call->tid);
	pthread_mutex_lock(&door->lock);
	for (unsigned i = 0; i < PENDING_MAX && !free_slot; i++)
		if (!door->pending[i].tid)
			free_slot = &door->pending[i];
	if (free_slot) {
		*free_slot = (struct pending){call->tid, process};
		atomic_fetch_add(&door->npending, 1);
		process = NULL; /* the slot's */
	}
	pthread_mutex_unlock(&door->lock);
	/* No room: the process is never trusted to be settled again, which costs time only. */
	if (process && caller)
		caller_never_remember(caller);
	process_unref(process);
	caller_unref(caller);
}

void door_settle(struct notify *door, pid_t tid)
{
	struct process *process;
	struct caller *caller;

	for (;;) {
		process = NULL;
		pthread_mutex_lock(&door->lock);
		for (unsigned i = 0; i < PENDING_MAX && !process; i++) {
			if (door->pending[i].tid != tid)
				continue;
			process = door->pending[i].process;
			door->pending[i].tid = 0;
			atomic_fetch_sub(&door->npending, 1);
		}
		pthread_mutex_unlock(&door->lock);
		if (!process)
			return;
		process_rights_settled(process);
		caller = caller_of(door, process);
		if (caller) {
			pthread_mutex_lock(&caller->lock);
			if (caller->unsettled == tid)
				caller->unsettled = 0;
			pthread_mutex_unlock(&caller->lock);
		}
		caller_unref(caller);
		process_unref(process);
	}
}

/* The fs state. Each reads without the lock, and keeps what it read only when nothing began to
 * change meanwhile. */

void ncall_need_umask(struct call *call)
{
	struct caller *caller = call->caller;
	char text[4096];
	const char *at;
	unsigned generation;
	int known;

	pthread_mutex_lock(&caller->lock);
	known = caller->unsettled ? -1 : caller->umask;
	generation = caller->generation;
	pthread_mutex_unlock(&caller->lock);
	if (known < 0) {
		known = 077; /* the strictest sensible one, should the kernel not tell */
		if (read_proc(call->tid, "status", text, sizeof(text)) > 0 &&
		    (at = strstr(text, "\nUmask:")))
			known = (int)(strtoul(at + 7, NULL, 8) & 0777);
		pthread_mutex_lock(&caller->lock);
		if (!caller->unsettled && caller->generation == generation)
			caller->umask = known;
		pthread_mutex_unlock(&caller->lock);
	}
	call->ctx.umask = (mode_t)known;
}

void ncall_need_fsize(struct call *call)
{
	struct caller *caller = call->caller;
	char text[4096];
	const char *at;
	unsigned generation;
	uint64_t value;
	bool known;

	pthread_mutex_lock(&caller->lock);
	known = !caller->unsettled && caller->fsize_known &&
		!atomic_load_explicit(&call->door->fsize_never, memory_order_relaxed);
	value = caller->fsize;
	generation = caller->generation;
	pthread_mutex_unlock(&caller->lock);
	if (!known) {
		value = UINT64_MAX;
		if (read_proc(call->tid, "limits", text, sizeof(text)) > 0 &&
		    (at = strstr(text, "Max file size"))) {
			at += strlen("Max file size");
			at += strspn(at, " ");
			if (*at >= '0' && *at <= '9')
				value = strtoull(at, NULL, 10);
		}
		pthread_mutex_lock(&caller->lock);
		if (!caller->unsettled && caller->generation == generation) {
			caller->fsize_known = true;
			caller->fsize = value;
		}
		pthread_mutex_unlock(&caller->lock);
	}
	call->ctx.fsize_limit = value;
}

bool caller_root_plain(struct call *call)
{
	struct caller *caller = call->caller;
	enum caller_root root;
	unsigned generation;
	uint64_t mount, ino;

	pthread_mutex_lock(&caller->lock);
	root = caller->unsettled ? ROOT_UNKNOWN : caller->root;
	generation = caller->generation;
	pthread_mutex_unlock(&caller->lock);
	if (root == ROOT_UNKNOWN) {
		root = !root_of(call->tid, &mount, &ino) && mount == call->door->root_mount &&
			       ino == call->door->root_ino
			   ? ROOT_CONTAINER
			   : ROOT_OTHER;
		pthread_mutex_lock(&caller->lock);
		if (!caller->unsettled && caller->generation == generation)
			caller->root = root;
		pthread_mutex_unlock(&caller->lock);
	}
	return root == ROOT_CONTAINER;
}

/* The directory in a volume that the kernel calls path, when its inode is the one that the process
 * stands in. */
static struct vnode *node_of_cwd(struct call *call, const char *proc_path, const char *path)
{
	struct cred *root = cred_root();
	struct vctx ctx = {.cred = root, .owner = 1, .leave = NULL};
	struct vtarget at = {.nofollow = true};
	struct volume *volume = container_volume_of(call->container, path, &at.path);
	struct vnode *node = NULL;
	struct attr attr;
	struct statx stx;
	dev_t dev;

	if (volume) {
		at.dir = vfs_instance_root(volume->instance);
		if (vfs_lookup(&ctx, &at, &node, &attr))
			node = NULL;
	}
	cred_unref(root);
	if (!node)
		return NULL;
	/* Without asking the kernel face: what the kernel remembers is enough for an identity. */
	dev = vfs_instance_dev(vnode_instance(node));
	cred_assume_service();
	if (statx(AT_FDCWD, proc_path, AT_STATX_DONT_SYNC, STATX_INO, &stx) ||
	    makedev(stx.stx_dev_major, stx.stx_dev_minor) != dev ||
	    stx.stx_ino != vnode_ino(node)) {
		vnode_unref(node);
		return NULL;
	}
	return node;
}

/* Whether a volume's target lies below directory path. */
static bool above_a_volume(const struct container *container, const char *path)
{
	size_t len = strlen(path);

	if (len == 1)
		return true;
	for (unsigned i = 0; i < container->nvolumes; i++)
		if (!strncmp(container->volumes[i].target, path, len) &&
		    container->volumes[i].target[len] == '/')
			return true;
	return false;
}

enum caller_cwd caller_cwd(struct call *call, struct vnode **ret_node, char *ret_above)
{
	struct caller *caller = call->caller;
	char proc_path[48], path[WIRE_PATH_MAX];
	struct vnode *node = NULL, *old;
	enum caller_cwd cwd;
	unsigned generation;
	ssize_t n;

	pthread_mutex_lock(&caller->lock);
	cwd = caller->unsettled ? CWD_UNKNOWN : caller->cwd;
	generation = caller->generation;
	if (cwd == CWD_INSIDE)
		*ret_node = vnode_ref(caller->cwd_node);
	else if (cwd == CWD_ABOVE)
		strcpy(ret_above, caller->cwd_above);
	pthread_mutex_unlock(&caller->lock);
	if (cwd != CWD_UNKNOWN)
		return cwd;

	cred_assume_service();
	snprintf(proc_path, sizeof(proc_path), "/proc/%d/cwd", call->tid);
	n = readlink(proc_path, path, sizeof(path) - 1);
	if (n <= 0)
		return CWD_OUTSIDE;
	path[n] = '\0';
	cwd = CWD_OUTSIDE;
	if (container_volume_of(call->container, path, NULL)) {
		node = node_of_cwd(call, proc_path, path);
		if (!node)
			return CWD_OUTSIDE; /* renamed or removed just now: not for long */
		cwd = CWD_INSIDE;
	} else if (n < MOUNT_PATH_MAX && above_a_volume(call->container, path)) {
		cwd = CWD_ABOVE;
	}
	pthread_mutex_lock(&caller->lock);
	old = NULL;
	if (!caller->unsettled && caller->generation == generation) {
		old = caller->cwd_node;
		caller->cwd = cwd;
		caller->cwd_node = node ? vnode_ref(node) : NULL;
		if (cwd == CWD_ABOVE)
			strcpy(caller->cwd_above, path);
	}
	pthread_mutex_unlock(&caller->lock);
	if (old)
		vnode_unref(old);
	if (cwd == CWD_INSIDE)
		*ret_node = node;
	else if (cwd == CWD_ABOVE)
		strcpy(ret_above, path);
	return cwd;
}
