/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor table. Any thread, any signal handler; see fdtab.h for the rules. */
#include "preload/fdtab.h"
#include "preload/lease.h"
#include "preload/position.h"
#include "preload/window.h"

#define FD_LIMIT_MAX (1 << 20)
#define FILES_MAX    65536u
#define SERIAL_FIRST (1ull << 32) /* above all of WIRE_ROOT() */

/* An entry: one of these, or FILE | flags | the open file's index. */
enum { FD_UNKNOWN, FD_NATIVE, FD_PARKED };
#define FD_FILE	    0x80000000u
#define FD_CLOEXEC_ 0x40000000u /* light only */
#define FD_NAMED    0x20000000u
#define FD_INDEX    0x00ffffffu

static struct {
	_Atomic int parked[FD_PARKED_MAX];
	_Atomic int high;	 /* numbers in use are below */
	_Atomic uint32_t nlight; /* entries that would mean nothing in another process */
	_Atomic uint32_t hint;	 /* where a free open file may be */
	_Atomic uint64_t serial;
	_Atomic uint32_t moving; /* descriptors are being exchanged under their numbers */
} tab;

int fdtab_start(void)
{
	struct rlimit_ limit;
	size_t fds_bytes, files_bytes = FILES_MAX * sizeof(struct ofile);
	long p;

	if (root.fds)
		return 0;
	if (SYS4(prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
		return -EMFILE;
	root.fd_limit = limit.hard < FD_LIMIT_MAX ? (int)limit.hard : FD_LIMIT_MAX;
	if (root.fd_limit <= root.fd_base + 32)
		return -EMFILE;
	fds_bytes = (size_t)(root.fd_limit - root.fd_base) * sizeof(*root.fds);
	p = SYS6(mmap, NULL, fds_bytes + files_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (failed(p))
		return (int)p;
	root.files = (struct ofile *)p;
	root.fds = (_Atomic uint32_t *)(p + (long)files_bytes);
	return 0;
}

static _Atomic uint32_t *entry_of(int fd)
{
	return fd >= root.fd_base && fd < root.fd_limit ? &root.fds[fd - root.fd_base] : NULL;
}

int fd_high(void)
{
	return atomic_load(&tab.high);
}

static void note_high(int fd)
{
	int high = atomic_load(&tab.high);

	while (fd >= high && !atomic_compare_exchange_weak(&tab.high, &high, fd + 1))
		;
}

uint32_t ofile_index(const struct ofile *file)
{
	return (uint32_t)(file - root.files);
}

struct ofile *ofile_at(uint32_t index)
{
	return &root.files[index];
}

struct ofile *ofile_new(uint32_t handle, uint32_t flags, uint32_t mode)
{
	uint32_t hint = atomic_load_explicit(&tab.hint, memory_order_relaxed);

	for (uint32_t n = 0; n < FILES_MAX; n++) {
		struct ofile *file = &root.files[(hint + n) % FILES_MAX];
		uint32_t none = 0;

		if (!atomic_compare_exchange_strong(&file->refs, &none, 1))
			continue;
		atomic_store_explicit(&tab.hint, hint + n + 1, memory_order_relaxed);
		file->handle = handle;
		file->flags = flags;
		file->type = mode & S_IFMT;
		atomic_store_explicit(&file->numbers, 0, memory_order_relaxed);
		atomic_store_explicit(&file->reads, 0, memory_order_relaxed);
		atomic_store_explicit(&file->window, NULL, memory_order_relaxed);
		file->serial =
		    SERIAL_FIRST + atomic_fetch_add_explicit(&tab.serial, 1, memory_order_relaxed);
		atomic_store_explicit(&file->lease, 0, memory_order_relaxed);
		atomic_store_explicit(&file->position, POSITION_SERVICE, memory_order_relaxed);
		atomic_store_explicit(&file->kernels, false, memory_order_relaxed);
		atomic_store_explicit(&file->again, false, memory_order_relaxed);
		return file;
	}
	return NULL;
}

struct ofile *ofile_ref(struct ofile *file)
{
	atomic_fetch_add(&file->refs, 1);
	return file;
}

/* kernels: the program has it open still, or has closed it before. */
static int close_handle(uint32_t handle, bool kernels)
{
	struct call call;
	int r;

	if (!handle || WIRE_IS_ROOT(handle))
		return 0;
	r = call_begin(&call, WIRE_CLOSE);
	if (r < 0)
		return r;
	call_request(&call)->handle = handle;
	call_request(&call)->flags = kernels;
	r = call_run(&call);
	call_end(&call);
	return r;
}

/* One reference less; true: it was the last one, and *ret_handle is to be closed. Somebody who
 * looked at a number in passing may hold another one, also of a file that is dropped meanwhile. */
static bool unref(struct ofile *file, uint32_t *ret_handle, bool *ret_kernels)
{
	uint32_t refs = atomic_load_explicit(&file->refs, memory_order_acquire);
	const struct window *window;

	do { /* what is read here is ours while there is no other reference */
		window = atomic_load_explicit(&file->window, memory_order_relaxed);
		*ret_handle = file->handle;
		*ret_kernels = atomic_load_explicit(&file->kernels, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(
	    &file->refs, &refs, refs - 1, memory_order_acq_rel, memory_order_acquire));
	if (refs != 1)
		return false;
	if (window)
		window_unmap(window);
	atomic_store_explicit(&tab.hint, ofile_index(file), memory_order_relaxed);
	return true;
}

void ofile_drop(struct ofile *file)
{
	uint32_t handle;
	bool kernels;

	ofile_spoil(file);
	file->handle = 0;
	unref(file, &handle, &kernels);
}

int ofile_put(struct ofile *file)
{
	uint32_t handle;
	bool kernels;

	if (atomic_load_explicit(&file->lease, memory_order_relaxed) &&
	    atomic_load_explicit(&file->refs, memory_order_acquire) == 1) {
		switch (lease_park(file)) {
		case LEASE_PARKED:
			return 0;
		case LEASE_CLOSED:
			ofile_drop(file);
			return 0;
		case LEASE_NOT_PARKED:
			break;
		}
	}
	return unref(file, &handle, &kernels) ? close_handle(handle, kernels) : 0;
}

bool ofile_tryref(struct ofile *file)
{
	uint32_t refs = atomic_load_explicit(&file->refs, memory_order_relaxed);

	do {
		if (!refs)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
	    &file->refs, &refs, refs + 1, memory_order_acq_rel, memory_order_relaxed));
	return true;
}

/* The open file that entry holds now, with a reference; NULL when it changed under us. */
static struct ofile *file_of(_Atomic uint32_t *entry, uint32_t value)
{
	struct ofile *file = &root.files[value & FD_INDEX];

	if (!ofile_tryref(file))
		return NULL;
	if (((atomic_load_explicit(entry, memory_order_acquire) ^ value) & (FD_FILE | FD_INDEX)) ==
	    0)
		return file;
	ofile_put(file);
	return NULL;
}

/* An inherited or injected number: the service knows what it names. */
static int adopt(int fd, _Atomic uint32_t *entry, struct ofile **ret)
{
	const struct mount_table *table = root_table();
	struct wire_request request;
	struct wire_reply reply;
	struct ofile *file;
	struct stat st;
	uint32_t unknown = FD_UNKNOWN;
	int r;

	/* by a call that the notify door lets by: it would tell of the file that is named */
	if (GATE(newfstatat, fd, "", &st, AT_EMPTY_PATH, 0) < 0)
		return -EBADF;
	if (!device_is(st.st_dev, table->anchor_dev_major, table->anchor_dev_minor)) {
		if (entry)
			atomic_compare_exchange_strong(entry, &unknown, FD_NATIVE);
		return 0;
	}
	if (!entry || channel_attach() < 0)
		return 0;
	request_init(&request, WIRE_ADOPT);
	r = socket_request(&request, NULL, fd, &reply, NULL);
	if (r < 0)
		return r == -EBADF ? r : 0;
	file = ofile_new((uint32_t)reply.value, (uint32_t)reply.value2, reply.attr.mode);
	if (!file) {
		close_handle((uint32_t)reply.value, false);
		return -EMFILE;
	}
	atomic_store(&file->numbers, 1);
	ofile_ref(file);
	if (!atomic_compare_exchange_strong(entry, &unknown,
					    FD_FILE | FD_NAMED | ofile_index(file))) {
		ofile_put(file);
		ofile_put(file);
		return fd_find_slow(fd, ret);
	}
	note_high(fd);
	*ret = file;
	return 1;
}

int fd_find_slow(int fd, struct ofile **ret)
{
	_Atomic uint32_t *entry;

	if (thread.vfork_child || !root_on())
		return 0;
	if (fd < root.fd_base)
		return fd_is_guarded(fd) ? -EBADF : 0;
	root_check_fork();
	if (unlikely(!root.fds)) {
		uint64_t signals;
		int r;

		lock_take(&signals);
		r = fdtab_start();
		lock_give(&signals);
		if (r < 0)
			return 0;
	}
	entry = entry_of(fd);
	for (;;) {
		uint32_t value =
		    entry ? atomic_load_explicit(entry, memory_order_acquire) : FD_UNKNOWN;

		if (likely(value & FD_FILE)) {
			*ret = file_of(entry, value);
			if (likely(*ret != NULL))
				return 1;
			continue;
		}
		if (value == FD_NATIVE)
			return 0;
		if (value == FD_PARKED)
			return -EBADF;
		return adopt(fd, entry, ret);
	}
}

bool fd_is_ours(int fd)
{
	struct ofile *file;

	if (fd_find(fd, &file) <= 0)
		return false;
	ofile_put(file);
	return true;
}

static int take_parked(int min)
{
	for (unsigned i = 0; i < FD_PARKED_MAX; i++) {
		int fd = atomic_load_explicit(&tab.parked[i], memory_order_relaxed);

		if (fd && fd >= min && atomic_compare_exchange_strong(&tab.parked[i], &fd, 0))
			return fd;
	}
	return -1;
}

static bool unpark(int fd)
{
	for (unsigned i = 0; i < FD_PARKED_MAX; i++) {
		int there = fd;

		if (atomic_compare_exchange_strong(&tab.parked[i], &there, 0))
			return true;
	}
	return false;
}

/* A number's old meaning ends: what it held is let go. */
static int let_go(uint32_t value)
{
	struct ofile *file = &root.files[value & FD_INDEX];

	if (!(value & FD_FILE))
		return 0;
	if (!(value & FD_NAMED))
		atomic_fetch_sub(&tab.nlight, 1);
	if (atomic_fetch_sub(&file->numbers, 1) > 1 && root.locks_used) {
		/* POSIX: any close drops the process's record locks on the file */
		struct call call;

		if (call_begin(&call, WIRE_LOCK) == 0) {
			struct wire_lock all = {.type = F_UNLCK};

			call_request(&call)->handle = file->handle;
			call_request(&call)->mode = F_SETLK;
			call_request(&call)->len1 = sizeof(all);
			memcpy(call.payload, &all, sizeof(all));
			call_run(&call);
		}
		call_end(&call);
	}
	return ofile_put(file);
}

static void set_light(int fd, struct ofile *file, bool cloexec)
{
	uint32_t old;

	atomic_fetch_add(&file->numbers, 1);
	atomic_fetch_add(&tab.nlight, 1);
	old = atomic_exchange(entry_of(fd),
			      FD_FILE | (cloexec ? FD_CLOEXEC_ : 0) | ofile_index(file));
	let_go(old); /* something closed this number behind our back */
	note_high(fd);
}

int fd_install(struct ofile *file, int min, bool cloexec)
{
	long fd = take_parked(min);

	if (min < root.fd_base)
		min = root.fd_base;
	if (fd < 0) {
		fd = SYS(fcntl, root.anchor, F_DUPFD_CLOEXEC, min);
		for (int i = 0; i < 100 && (fd == -EINVAL || fd == -EMFILE); i++) {
			limit_raise(); /* another thread lowered it for a program it starts */
			fd = SYS(fcntl, root.anchor, F_DUPFD_CLOEXEC, min);
		}
		if (fd < 0)
			return (int)fd;
		if (fd >= root.fd_limit || fd >= root_table()->light_limit) {
			SYS(close, fd, 0, 0);
			return -EMFILE;
		}
	}
	set_light((int)fd, file, cloexec);
	return (int)fd;
}

/* dup3(2), also while another thread has lowered the limit for a program that it starts. */
static long dup_onto(int with, int fd, bool cloexec)
{
	long r;

	for (int i = 0; i < 100; i++) {
		r = SYS(dup3, with, fd, cloexec ? O_CLOEXEC : 0);
		if (r != -EBADF && r != -EBUSY)
			break;
		limit_raise();
	}
	return r;
}

int fd_install_at(struct ofile *file, int fd, bool cloexec)
{
	_Atomic uint32_t *entry = entry_of(fd);
	long r;

	if (!entry)
		return -EBADF;
	unpark(fd);
	r = dup_onto(root.anchor, fd, true);
	if (r < 0)
		return (int)r;
	set_light(fd, file, cloexec);
	return fd;
}

static void park(int fd, _Atomic uint32_t *entry)
{
	if (!atomic_load(&tab.moving)) {
		for (unsigned i = 0; i < FD_PARKED_MAX; i++) {
			int none = 0;

			if (atomic_load_explicit(&tab.parked[i], memory_order_relaxed) == 0 &&
			    atomic_compare_exchange_strong(&tab.parked[i], &none, fd))
				return;
		}
	} else {
		uint64_t signals;

		/* somebody may just be putting a name under this number */
		lock_take(&signals);
		lock_give(&signals);
	}
	atomic_store(entry, FD_UNKNOWN);
	SYS(close, fd, 0, 0);
}

int fd_close(int fd, int *ret_error)
{
	_Atomic uint32_t *entry;
	uint32_t value;

	if (thread.vfork_child || !root_on() || fd < root.fd_base)
		return 0;
	root_check_fork();
	if (!root.fds || !(entry = entry_of(fd)))
		return 0;
	value = atomic_load(entry);
	do {
		if (value == FD_PARKED)
			return -EBADF;
		if (!(value & FD_FILE)) {
			atomic_compare_exchange_strong(entry, &value, FD_UNKNOWN);
			return 0;
		}
	} while (!atomic_compare_exchange_weak(entry, &value,
					       value & FD_NAMED ? FD_UNKNOWN : FD_PARKED));
	if (value & FD_NAMED)
		SYS(close, fd, 0, 0);
	else
		park(fd, entry);
	*ret_error = let_go(value);
	return 1;
}

void fd_forget(int fd)
{
	_Atomic uint32_t *entry;
	uint32_t value;

	if (fd < root.fd_base || thread.vfork_child || !root_on())
		return;
	root_check_fork();
	if (!root.fds || !(entry = entry_of(fd)))
		return;
	value = atomic_load(entry);
	if (value != FD_PARKED)
		let_go(atomic_exchange(entry, FD_UNKNOWN));
}

void fd_set_native(int fd)
{
	_Atomic uint32_t *entry;

	if (thread.vfork_child || !root.fds || !(entry = entry_of(fd)))
		return;
	unpark(fd);
	let_go(atomic_exchange(entry, FD_NATIVE));
	note_high(fd);
}

int fd_cloexec(int fd)
{
	_Atomic uint32_t *entry = entry_of(fd);
	uint32_t value = entry ? atomic_load(entry) : 0;

	if (!(value & FD_FILE) || value & FD_NAMED)
		return -ENOENT;
	return (value & FD_CLOEXEC_) != 0;
}

int fd_set_cloexec(int fd, bool on)
{
	_Atomic uint32_t *entry = entry_of(fd);
	uint32_t value = entry ? atomic_load(entry) : 0;

	do {
		if (!(value & FD_FILE) || value & FD_NAMED)
			return -ENOENT;
	} while (!atomic_compare_exchange_weak(entry, &value,
					       on ? value | FD_CLOEXEC_ : value & ~FD_CLOEXEC_));
	return 0;
}

/* Puts the descriptor `with` under each number of file, and what the entries become. */
static void exchange_numbers(struct ofile *file, int with, bool named)
{
	uint64_t signals;
	int high = atomic_load(&tab.high);

	lock_take(&signals);
	atomic_fetch_add(&tab.moving, 1);
	for (int fd = root.fd_base; fd < high; fd++) {
		_Atomic uint32_t *entry = entry_of(fd);
		uint32_t value = atomic_load(entry);
		bool cloexec = (value & FD_CLOEXEC_) != 0;

		if (!(value & FD_FILE) || &root.files[value & FD_INDEX] != file ||
		    (named && value & FD_NAMED))
			continue;
		if (value & FD_NAMED)
			cloexec = (SYS(fcntl, fd, F_GETFD, 0) & FD_CLOEXEC) != 0;
		if (dup_onto(with, fd, cloexec) < 0)
			continue;
		if (named) {
			if (atomic_compare_exchange_strong(entry, &value,
							   FD_FILE | FD_NAMED | (value & FD_INDEX)))
				atomic_fetch_sub(&tab.nlight, 1);
		} else if (atomic_compare_exchange_strong(entry, &value, FD_NATIVE)) {
			if (!(value & FD_NAMED))
				atomic_fetch_sub(&tab.nlight, 1);
			atomic_store_explicit(&file->kernels, true, memory_order_relaxed);
			atomic_fetch_sub(&file->numbers, 1);
			atomic_fetch_sub(&file->refs, 1); /* the caller's is still there */
		}
	}
	atomic_fetch_sub(&tab.moving, 1);
	lock_give(&signals);
}

static int request_fd(struct ofile *file, unsigned op, int *ret_fd)
{
	struct wire_request request;
	struct wire_reply reply;

	request_init(&request, op);
	request.handle = file->handle;
	ofile_spoil(file); /* others may hold it from now on */
	position_give(file);
	return socket_request(&request, NULL, -1, &reply, ret_fd);
}

int file_kernel_fd(struct ofile *file, int *ret_fd)
{
	return request_fd(file, WIRE_KERNEL_FILE, ret_fd);
}

int file_to_kernel_fd(struct ofile *file, int *ret_fd)
{
	int r = file_kernel_fd(file, ret_fd);

	if (r == 0)
		exchange_numbers(file, *ret_fd, false);
	return r;
}

int file_to_kernel(struct ofile *file)
{
	int fd, r = file_to_kernel_fd(file, &fd);

	if (r == 0)
		SYS(close, fd, 0, 0);
	return r;
}

static int file_export(struct ofile *file)
{
	int fd, r;

	if (!root.notify)
		return file_to_kernel(file);
	r = request_fd(file, WIRE_NAME, &fd);
	if (r < 0)
		return r;
	exchange_numbers(file, fd, true);
	SYS(close, fd, 0, 0);
	return 0;
}

static int export_entry(int fd, bool only_inherited)
{
	_Atomic uint32_t *entry = entry_of(fd);
	uint32_t value = entry ? atomic_load(entry) : 0;
	struct ofile *file;
	int r;

	if (!(value & FD_FILE) || (only_inherited && value & FD_CLOEXEC_) ||
	    (value & FD_NAMED && root.notify))
		return 0;
	file = file_of(entry, value);
	if (!file)
		return 0;
	r = file_export(file);
	ofile_put(file);
	return r;
}

int fd_export(int fd)
{
	if (fd < root.fd_base || thread.vfork_child || !root_on() || !root.fds)
		return 0;
	root_check_fork();
	return export_entry(fd, false);
}

void fd_export_all(bool only_inherited)
{
	if (thread.vfork_child || !root.fds || !atomic_load(&tab.nlight))
		return;
	root_check_fork();
	for (int fd = root.fd_base, high = fd_high(); fd < high; fd++)
		export_entry(fd, only_inherited);
}

/* Handles belong to the parent; named numbers are found again when they are used. */
void fdtab_forked(void)
{
	int high = fd_high();

	if (!root.fds)
		return;
	for (int fd = root.fd_base; fd < high; fd++) {
		_Atomic uint32_t *entry = entry_of(fd);
		uint32_t value = atomic_load(entry);

		if (!(value & FD_FILE))
			continue;
		if (!(value & FD_NAMED))
			SYS(close, fd, 0, 0);
		atomic_store(&root.files[value & FD_INDEX].refs, 0);
		atomic_store(entry, FD_UNKNOWN);
	}
	atomic_store(&tab.nlight, 0);
	atomic_store(&tab.moving, 0);
}
