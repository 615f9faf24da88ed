/* SPDX-License-Identifier: Apache-2.0 */
/* Path matching, the working directory, and requests on paths. Any thread, any signal handler. */
#include "preload/path.h"

#include "preload/lease.h"

#define LEAVES_MAX 40

/* root.cwd */
enum { CWD_UNKNOWN = 0, CWD_KERNEL = 1 };
#define CWD_FILE 0x80000000u

void path_forget_cwd(bool put)
{
	uint32_t old = atomic_exchange(&root.cwd, CWD_UNKNOWN);

	if (put && old & CWD_FILE)
		ofile_put(ofile_at(old & ~CWD_FILE));
}

/* The kernel may know the working directory by a name that another door has changed since. */
static bool is_working_directory(const struct wire_attr *attr)
{
	struct stat st;

	return GATE(newfstatat, AT_FDCWD, ".", &st, 0, 0) == 0 && st.st_ino == attr->ino &&
	       device_is(st.st_dev, attr->dev_major, attr->dev_minor);
}

static struct ofile *open_directory(const struct mount_entry *mount, const char *rest)
{
	struct ofile *file = NULL;
	struct call call;

	if (call_begin(&call, WIRE_OPEN) == 0) {
		struct wire_request *request = call_request(&call);

		request->handle = WIRE_ROOT(mount->instance);
		request->flags = O_PATH | O_DIRECTORY;
		request->len1 = (uint32_t)copy_string(call.payload, rest, WIRE_PATH_MAX - 1) + 1;
		call.payload[request->len1 - 1] = '\0';
		if (call_run(&call) == 0) {
			struct wire_reply *reply = call_reply(&call);

			file = ofile_new((uint32_t)reply->value, O_PATH, reply->attr.mode);
			if (file && !is_working_directory(&reply->attr)) {
				call_end(&call);
				ofile_put(file);
				return NULL;
			}
		}
	}
	call_end(&call);
	return file;
}

/* A fork's child that is about to exec is better served by the kernel than by a channel. */
static bool prefer_kernel(void)
{
	if (!root.kernel_calls_left || atomic_load_explicit(&root.channel, memory_order_relaxed))
		return false;
	root.kernel_calls_left--;
	return true;
}

/* The directory that relative paths start from, referenced, if it is in a volume. */
static struct ofile *working_directory(void)
{
	const struct mount_entry *mount;
	struct ofile *file;
	const char *rest;
	char path[WIRE_PATH_MAX];
	uint32_t now, unknown = CWD_UNKNOWN;

	root_check_fork();
	now = atomic_load_explicit(&root.cwd, memory_order_acquire);
	if (now == CWD_KERNEL || root.cwd_moves)
		return NULL;
	if (now & CWD_FILE) {
		file = ofile_at(now & ~CWD_FILE);
		if (!ofile_tryref(file))
			return NULL; /* another thread is changing it */
		if (atomic_load(&root.cwd) == now)
			return file;
		ofile_put(file);
		return NULL;
	}
	if (root.foreign || SYS(getcwd, path, sizeof(path), 0) < 0 || path[0] != '/' ||
	    !(mount = path_match(root_table(), path, &rest))) {
		atomic_compare_exchange_strong(&root.cwd, &unknown, CWD_KERNEL);
		return NULL;
	}
	if (prefer_kernel())
		return NULL;
	file = open_directory(mount, rest);
	if (!file) {
		atomic_compare_exchange_strong(&root.cwd, &unknown, CWD_KERNEL);
		return NULL;
	}
	ofile_ref(file);
	if (!atomic_compare_exchange_strong(&root.cwd, &unknown, CWD_FILE | ofile_index(file)))
		ofile_put(file);
	return file;
}

int target_find(struct target *target)
{
	const char *path = target->path;
	const struct mount_entry *mount;
	int r;

	if (unlikely(thread.vfork_child) || !root_on() || bad_address(path, 1))
		return 0;
	if (*path == '/') {
		if (root.foreign)
			return 0;
		mount = path_match(root_table(), path, &target->rest);
		if (mount) {
			root_check_fork();
			if (prefer_kernel())
				return 0;
			target->handle = WIRE_ROOT(mount->instance);
		} else {
			r = path[1] == 'p' || path[1] == 'd' ? path_own_fd(path) : -1;
			if (r < root.fd_base || fd_find(r, &target->dir) <= 0)
				return 0;
			target->handle = target->dir->handle;
			target->rest = "";
			return 1;
		}
	} else if (target->dirfd == AT_FDCWD) {
		if (!*path)
			return 0;
		target->dir = working_directory();
		if (!target->dir)
			return 0;
		target->handle = target->dir->handle;
		target->rest = path;
	} else {
		if ((!*path && !target->empty) || fd_find(target->dirfd, &target->dir) <= 0)
			return 0;
		target->handle = target->dir->handle;
		target->rest = path;
		return 1;
	}
	if (channel_ready() == 0 && !(root.foreign && WIRE_IS_ROOT(target->handle)))
		return 1;
	target_done(target);
	return 0;
}

void target_done(struct target *target)
{
	if (target->dir)
		ofile_put(target->dir);
	target->dir = NULL;
}

/* The path as piece 1 (and 2): its bytes with the NUL, or 0 when it is too long. */
static uint32_t put_path(char *payload, const char *path)
{
	size_t n = copy_string(payload, path, WIRE_PATH_MAX);

	return n == WIRE_PATH_MAX ? 0 : (uint32_t)n + 1;
}

static int fill(const struct path_args *args, const struct target *target, struct call *call)
{
	struct wire_request *request = call_request(call);
	const char *path = target->rest;
	uint32_t n = put_path(call->payload, path);

	if (!n)
		return -ENAMETOOLONG;
	request_fill(request, target->handle, args);
	request->len1 = n;
	if (args->data) {
		request->len2 = args->data_bytes;
		memcpy(call->payload + n, args->data, args->data_bytes);
	}
	return 0;
}

/* /proc/self/fd/N of ours, which the kernel shows as a symlink. */
static bool is_magic_link(const struct target *target)
{
	return target->dir && *target->path == '/';
}

/* PATH_LEASED or an error, as path_run(); 0: none. */
static int find_lease(const struct lease_key *key, const struct path_args *args)
{
	int r;

	if (!lease_wanted()) {
		lease_missed();
		return 0;
	}
	if (args->op == WIRE_OPEN) {
		args->leased->file = lease_find_open(key);
		if (args->leased->file)
			return PATH_LEASED;
	}
	r = lease_find(key, &args->leased->attr);
	return r == LEASE_NONE ? 0 : r == 0 ? PATH_LEASED : r;
}

static void keep_lease(const struct lease_key *key, const struct path_args *args, uint64_t clock_ns,
		       struct call *call, int r)
{
	if (r == -ENOENT || (r == -EACCES && args->op == WIRE_ACCESS) ||
	    (r == 0 && args->op != WIRE_OPEN && args->op != WIRE_READLINK))
		lease_keep(key, clock_ns, call, r);
	else if (r == 0 && args->op == WIRE_OPEN && lease_opens_pay())
		args->leased->open = lease_keep_open(key, clock_ns, call);
}

int path_run(struct target *target, const struct path_args *args, struct call *call)
{
	struct lease_key key;
	uint64_t clock_ns = 0;
	int r;

	call->slot = NULL;
	for (int leaves = 0; leaves < LEAVES_MAX; leaves++) {
		if (target_find(target) == 0)
			return PATH_KERNEL;
		if (args->needs_name && !*target->rest && !target->dir) {
			target_done(target);
			return PATH_KERNEL;
		}
		if (unlikely(is_magic_link(target)) && args->flags & AT_SYMLINK_NOFOLLOW) {
			target_done(target);
			return PATH_KERNEL;
		}
		if (args->leased) {
			key = lease_key_of(target, args);
			r = find_lease(&key, args);
			if (r) {
				target_done(target);
				return r;
			}
		}
		r = call_begin(call, args->op);
		if (r == 0)
			r = fill(args, target, call);
		if (r == 0 && args->leased && lease_wanted()) {
			clock_ns = lease_clock_ns();
			call_request(call)->size = sizeof(struct lease);
		}
		if (r == 0)
			r = call_run(call);
		if (args->leased)
			keep_lease(&key, args, clock_ns, call, r);
		target_done(target);
		if (r != -EREMCHG)
			return r;
		copy_string(target->left, call->payload, sizeof(target->left) - 1);
		target->left[sizeof(target->left) - 1] = '\0';
		target->path = target->left;
		target->dirfd = AT_FDCWD;
		call_end(call);
	}
	return -ELOOP;
}

int path_run_two(struct target *from, struct target *to, const struct path_args *args,
		 struct call *call)
{
	struct wire_request *request;
	int r;

	call->slot = NULL;
	if (target_find(from) == 0)
		return PATH_KERNEL;
	if (target_find(to) == 0 || (!*to->rest && !to->dir) || (!*from->rest && !from->dir)) {
		target_done(from);
		target_done(to);
		return PATH_KERNEL;
	}
	r = call_begin(call, args->op);
	if (r == 0) {
		request = call_request(call);
		request->handle = from->handle;
		request->handle2 = to->handle;
		request->flags = args->flags;
		request->len1 = put_path(call->payload, from->rest);
		request->len2 = put_path(call->payload + request->len1, to->rest);
		r = request->len1 && request->len2 ? call_run(call) : -ENAMETOOLONG;
	}
	target_done(from);
	target_done(to);
	return r == -EREMCHG ? PATH_KERNEL : r;
}

int target_kernel_dir(struct target *target, int *ret_fd)
{
	struct ofile *file;
	int r = 0;

	*ret_fd = -1;
	if (bad_address(target->path, 1) || *target->path == '/' || target->dirfd == AT_FDCWD)
		return 0;
	r = fd_find(target->dirfd, &file);
	if (r <= 0)
		return r;
	r = file_kernel_fd(file, ret_fd);
	ofile_put(file);
	if (r == 0)
		target->dirfd = *ret_fd;
	return r;
}
