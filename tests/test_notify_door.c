/* SPDX-License-Identifier: Apache-2.0 */
/* The door end to end: a child under the filter, its listener served by this process over the real
 * vfs, the local libservice and, where it can be mounted, the kernel face. argv[1] is a static
 * program (prog/filecalls.c) whose output must be the same on a plain directory, argv[2] another
 * (prog/crowd.c). With argv[3] the kernel face is mounted too: by hand, because a process that
 * crashes while it serves its own FUSE mount cannot end. */
#include "danaus/notify/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/fuse/face.h"
#include "danaus/pool/loop.h"
#include "danaus/pool/stats.h"
#include "danaus/pool/workers.h"
#include "danaus/proto/guard.h"

#define FD_BASE	    400
#define LIGHT_LIMIT 450
#define UNSERVED    "/volume-that-only-the-door-serves"

static char root_dir[] = "/tmp/test-notify-XXXXXX";
static char source[48], plain[48], mounted[48]; /* in root_dir */
static const char *filecalls, *crowd;
static bool with_face, have_face;

static struct pool pool;
static struct container container;
static pthread_t loop_thread;
static void *filter;
static size_t filter_bytes;
static int guard[2]; /* the other end is closed by without_a_guard_the_door_goes_on() */

/* The service. */

static void *run_loop(void *arg)
{
	loop_run(pool.loop);
	return NULL;
}

static void anchors_event(void *arg, uint32_t events)
{
	anchors_closed(pool.anchors);
}

static ino_t ns(const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static void add_volume(unsigned i, const char *target, const char *dir)
{
	struct volume *volume = &container.volumes[i];
	struct libservice *ls;
	struct err err = {{0}};

	assert_int_equal(local_new(dir, &ls, &err), 0);
	snprintf(volume->target, sizeof(volume->target), "%s", target);
	assert_int_equal(vfs_instance_add(pool.vfs, "test", target, ls, &volume->instance, &err),
			 0);
	container.nvolumes = i + 1;
}

static void try_face(struct volume *volume)
{
	struct err err = {{0}};
	int fd;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return;
	if (face_start(&container, volume, &fd, &err)) {
		print_message("no kernel face: %s\n", err.text);
		return;
	}
	have_face = !syscall(SYS_move_mount, fd, "", AT_FDCWD, volume->target,
			     4 /* MOVE_MOUNT_F_EMPTY_PATH */);
	close(fd);
}

static int set_up(void **state)
{
	struct err err = {{0}};

	assert_non_null(mkdtemp(root_dir));
	snprintf(source, sizeof(source), "%s/source", root_dir);
	snprintf(plain, sizeof(plain), "%s/plain", root_dir);
	snprintf(mounted, sizeof(mounted), "%s/mounted", root_dir);
	assert_int_equal(chmod(root_dir, 0755), 0);
	assert_int_equal(mkdir(source, 0755), 0);
	assert_int_equal(mkdir(plain, 0755), 0);
	assert_int_equal(mkdir(mounted, 0755), 0);
	pool.ncpus = 1;
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, guard), 0);
	assert_int_equal(fcntl(guard[1], F_SETFL, 0), 0);
	pool.guard_fd = guard[0];
	assert_int_equal(sched_getaffinity(0, sizeof(pool.cpus), &pool.cpus), 0);
	assert_int_equal(vfs_new(&pool.vfs), 0);
	pool.leases = vfs_leases(pool.vfs);
	assert_int_equal(anchors_new(&pool.anchors, &err), 0);
	assert_int_equal(workers_new(8, 64, 256 << 10, &pool.workers), 0);
	assert_int_equal(loop_new(&pool.loop), 0);
	assert_int_equal(pthread_create(&loop_thread, NULL, run_loop, NULL), 0);
	assert_int_equal(
	    pool_watch(&pool, anchors_event_fd(pool.anchors), EPOLLIN, anchors_event, NULL), 0);
	container.pool = &pool;
	container.id = "test";
	container.fd_base = FD_BASE;
	container.light_limit = LIGHT_LIMIT;
	add_volume(0, UNSERVED, source);
	if (with_face)
		add_volume(1, mounted, source);
	if (with_face)
		assert_int_equal(unshare(CLONE_NEWNS), 0);
	container.init_pid = getpid();
	container.user_ns = ns("user");
	container.mnt_ns = ns("mnt");
	container.pid_ns = ns("pid");
	assert_int_equal(processes_new(&container), 0);
	if (with_face)
		try_face(&container.volumes[1]);
	assert_int_equal(filter_build(FD_BASE, &filter, &filter_bytes, &err), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	notify_stop(&container);
	pool_unwatch(&pool, anchors_event_fd(pool.anchors));
	processes_free(&container);
	if (have_face)
		umount2(mounted, MNT_DETACH);
	for (unsigned i = 0; i < container.nvolumes; i++) {
		anchors_drop_instance(pool.anchors, container.volumes[i].instance);
		if (container.volumes[i].face)
			face_stop(container.volumes[i].face);
	}
	workers_drain(pool.workers);
	for (unsigned i = 0; i < container.nvolumes; i++)
		vfs_instance_remove(container.volumes[i].instance);
	loop_stop(pool.loop);
	pthread_join(loop_thread, NULL);
	loop_free(pool.loop);
	workers_free(pool.workers);
	anchors_free(pool.anchors);
	vfs_free(pool.vfs);
	close(guard[0]);
	free(filter);
	snprintf(command, sizeof(command), "rm -rf '%s'", root_dir);
	return system(command);
}

/* Children under the filter. */

/* In the child: loads the filter, tells the listener's number, and waits until it is served. The
 * parent takes the listener itself, because sending it would be notified. */
static void enter_filter(int pipe_out, int pipe_in)
{
	struct sock_fprog program = {
	    .len = (unsigned short)(filter_bytes / sizeof(struct sock_filter)), .filter = filter};
	int listener;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	listener = (int)syscall(
	    SYS_seccomp, SECCOMP_SET_MODE_FILTER,
	    SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	if (write(pipe_out, &listener, sizeof(listener)) != sizeof(listener) || listener < 0 ||
	    read(pipe_in, &c, 1) != 1)
		_exit(120);
	close(listener);
	close(pipe_out);
	close(pipe_in);
}

/* *ret_listener, where asked for: another descriptor of it, the caller's. */
static pid_t start_listened(int (*fn)(void *arg), void *arg, int *ret_listener)
{
	int up[2], down[2], listener, pidfd, copy;
	pid_t pid;

	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	assert_int_equal(pipe2(down, O_CLOEXEC), 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		enter_filter(up[1], down[0]);
		_exit(fn(arg));
	}
	close(up[1]);
	close(down[0]);
	assert_int_equal(read(up[0], &listener, sizeof(listener)), sizeof(listener));
	assert_true(listener >= 0);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, listener, 0);
	assert_true(copy >= 0);
	close(pidfd);
	if (ret_listener)
		*ret_listener = dup(copy);
	assert_int_equal(notify_serve(&container, copy), 0);
	assert_int_equal(write(down[1], "", 1), 1);
	close(down[1]);
	close(up[0]);
	return pid;
}

static pid_t start(int (*fn)(void *arg), void *arg)
{
	return start_listened(fn, arg, NULL);
}

static int finish(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static uint64_t served(void)
{
	json_t *all = stats_json(), *op;
	uint64_t n = 0;
	const char *name;

	json_object_foreach (json_object_get(all, "notify"), name, op)
		n += (uint64_t)json_integer_value(json_object_get(op, "count"));
	json_decref(all);
	return n;
}

/* The same lines. */

struct program {
	const char *dir, *kernel;
	int out;
};

static int exec_filecalls(void *arg)
{
	const struct program *p = arg;

	dup2(p->out, 1);
	execl(filecalls, "filecalls", p->dir, p->kernel, (char *)NULL);
	return 127;
}

/* Whole lines up to the first difference are dropped; what is left starts with it. */
static void same_lines(char *want, char *got)
{
	for (;;) {
		char *w = strsep(&want, "\n"), *g = strsep(&got, "\n");

		if (!w && !g)
			return;
		if (!w || !g || strcmp(w, g))
			fail_msg("plain: %s\n  door: %s", w ? w : "(end)", g ? g : "(end)");
	}
}

static char *output(const char *dir, const char *kernel, bool by_door)
{
	struct program p = {dir, kernel, memfd_create("out", MFD_CLOEXEC)};
	char *text;
	pid_t pid;

	if (by_door) {
		pid = start(exec_filecalls, &p);
	} else {
		fflush(stdout);
		pid = fork();
		if (!pid)
			_exit(exec_filecalls(&p));
	}
	assert_int_equal(finish(pid), 0);
	lseek(p.out, 0, SEEK_SET);
	assert_int_equal(fd_read_all(p.out, 1 << 20, &text, NULL), 0);
	close(p.out);
	return text;
}

static void compare(const char *dir, const char *kernel)
{
	char *want = output(plain, kernel, false), *got = output(dir, kernel, true);

	same_lines(want, got);
	free(want);
	free(got);
}

static void empty(const char *dir)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'; mkdir '%s'", dir, dir);
	assert_int_equal(system(command), 0);
}

static void every_call_is_as_on_a_plain_directory(void **state)
{
	uint64_t before = served();
	char dir[80];

	snprintf(dir, sizeof(dir), "%s/tree", source);
	assert_int_equal(mkdir(dir, 0755), 0);
	compare(UNSERVED "/tree", NULL);
	assert_true(served() - before > 1000);
}

static void what_needs_the_kernel_gets_its_files(void **state)
{
	char sub[80];

	if (!have_face)
		skip();
	empty(plain);
	snprintf(sub, sizeof(sub), "%s/fresh", source);
	assert_int_equal(mkdir(sub, 0755), 0);
	snprintf(sub, sizeof(sub), "%s/fresh", mounted);
	compare(sub, "kernel");
}

/* Callers that do not behave. In the children: no allocation, they are forks of a program with
 * threads. */

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			return __LINE__ % 119 + 1;                                                 \
	} while (0)

static int bad_memory(void *arg)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open(UNSERVED "/memory", O_CREAT | O_RDWR, 0644);
	struct stat st;

	munmap(page + 4096, 4096);
	CHECK(fd >= LIGHT_LIMIT);
	CHECK(write(fd, page + 4090, 100) == 6);
	CHECK(write(fd, page + 4096, 1) == -1 && errno == EFAULT);
	CHECK(pread(fd, page + 4094, 6, 0) == 2);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(read(fd, page + 4094, 6) == 2);
	CHECK(lseek(fd, 0, SEEK_CUR) == 2);
	CHECK(fstat(fd, (struct stat *)(page + 4090)) == -1 && errno == EFAULT);
	CHECK(stat(page + 4096, &st) == -1 && errno == EFAULT);
	memset(page, '/', 4096);
	CHECK(stat(page + 1, &st) == -1 && errno == EFAULT);
	return 0;
}

static void memory_that_is_not_there_is_efault(void **state)
{
	assert_int_equal(finish(start(bad_memory, NULL)), 0);
}

static int chroot_away(void *arg)
{
	int fd = open(UNSERVED "/held", O_CREAT | O_RDWR, 0644);
	struct stat st;

	CHECK(fd >= LIGHT_LIMIT);
	CHECK(stat(UNSERVED "/held", &st) == 0);
	CHECK(chroot(plain) == 0);
	/* Not the container's root any more: the kernel's own view. */
	CHECK(stat(UNSERVED "/held", &st) == -1 && errno == ENOENT);
	CHECK(chdir("/") == 0);
	CHECK(stat("held", &st) == -1 && errno == ENOENT);
	/* What is open stays. */
	CHECK(write(fd, "x", 1) == 1);
	return 0;
}

static int sets_a_ring_up(void *arg)
{
	char params[128] = {0};

	return syscall(SYS_io_uring_setup, 1, params) == -1 ? errno : 0;
}

static void a_ring_is_not_there(void **state)
{
	assert_int_equal(finish(start(sets_a_ring_up, NULL)), ENOSYS);
}

static void another_root_sees_no_volume(void **state)
{
	assert_int_equal(finish(start(chroot_away, NULL)), 0);
}

static int many_descriptors(void *arg)
{
	int last = 0;

	for (int i = 0; i < 300; i++) {
		int fd = open(UNSERVED "/many", O_CREAT | O_RDWR, 0644);

		CHECK(fd > last);
		last = fd;
	}
	CHECK(close(LIGHT_LIMIT + 100) == 0);
	CHECK(fcntl(LIGHT_LIMIT + 100, F_GETFD) == -1);
	CHECK(write(LIGHT_LIMIT + 100, "x", 1) == -1 && errno == EBADF);
	CHECK(write(LIGHT_LIMIT + 101, "x", 1) == 1);
	return 0;
}

static void each_open_has_a_number_of_its_own(void **state)
{
	struct vfs_counts before, after;

	/* the kernel face, where there is one, has a file of its own open */
	vfs_count(pool.vfs, &before);
	assert_int_equal(finish(start(many_descriptors, NULL)), 0);
	/* And exit gives all of them back. */
	for (int i = 0; i < 5000; i++) {
		vfs_count(pool.vfs, &after);
		if (after.files <= before.files)
			break;
		usleep(1000);
	}
	assert_true(after.files <= before.files);
}

static int hold_lock(void *arg)
{
	int *pipes = arg, fd = open(UNSERVED "/contended", O_CREAT | O_RDWR, 0644);
	struct flock lock = {.l_type = F_WRLCK};
	char c;

	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	CHECK(write(pipes[1], "l", 1) == 1);
	CHECK(read(pipes[2], &c, 1) == 1);
	return 0;
}

static int wait_for_lock(void *arg)
{
	int fd = open(UNSERVED "/contended", O_CREAT | O_RDWR, 0644);
	struct flock lock = {.l_type = F_WRLCK};

	return fcntl(fd, F_SETLKW, &lock) ? errno : 0;
}

static void a_waiter_that_is_killed_leaves_nothing(void **state)
{
	int pipes[4];
	pid_t holder, waiter, third;
	char c;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	holder = start(hold_lock, pipes);
	assert_int_equal(read(pipes[0], &c, 1), 1);
	waiter = start(wait_for_lock, NULL);
	/* It may be killed before or while it waits: both must end. */
	usleep(20000);
	kill(waiter, SIGKILL);
	assert_int_equal(finish(waiter), 1000 + SIGKILL);
	third = start(wait_for_lock, NULL);
	assert_int_equal(write(pipes[3], "g", 1), 1);
	assert_int_equal(finish(holder), 0);
	assert_int_equal(finish(third), 0);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
}

/* What the service would leave behind were it killed. */

static struct guard_message hear(int *fds, unsigned nfds)
{
	struct guard_message message;
	unsigned got = nfds;
	size_t len;

	assert_int_equal(
	    fd_recv(guard[1], &message, sizeof(message), &len, fds, nfds ? &got : NULL), 0);
	assert_int_equal(len, sizeof(message));
	assert_int_equal(got, nfds);
	return message;
}

static struct guard_call *call_in(struct guard_ledger *ledger, int nr)
{
	for (;;) {
		for (unsigned i = 0; i < __atomic_load_n(&ledger->used, __ATOMIC_RELAXED); i++) {
			struct guard_call *call = &ledger->call[i];

			if (__atomic_load_n(&call->acts, __ATOMIC_ACQUIRE) &&
			    call->request.data.nr == nr)
				return call;
		}
		usleep(1000);
	}
}

static void the_guard_finds_the_calls_in_progress(void **state)
{
	int pipes[4], fds[2], others[2];
	struct guard_ledger *ledger;
	struct guard_message message, left;
	struct guard_call *call;
	pid_t holder, waiter;
	uint64_t id;
	char c;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	if (with_face && container.volumes[1].face) {
		assert_int_equal(hear(fds, 1).kind, GUARD_FACE);
		close(fds[0]);
	}
	holder = start(hold_lock, pipes);
	assert_int_equal(read(pipes[0], &c, 1), 1);
	assert_int_equal(hear(others, 2).kind, GUARD_LISTENER);
	waiter = start(wait_for_lock, NULL);
	message = hear(fds, 2);
	assert_int_equal(message.kind, GUARD_LISTENER);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ, MAP_SHARED, fds[1], 0);
	assert_true(ledger != MAP_FAILED);
	assert_int_equal(ledger->fd_base, FD_BASE);
	assert_int_equal(ledger->descriptors[SYS_openat], 1);
	assert_int_equal(ledger->descriptors[SYS_open], 0);
	assert_int_equal(ledger->descriptors[SYS_renameat2], 5);
	assert_int_equal(ledger->descriptors[SYS_symlinkat], 2);
	assert_int_equal(ledger->descriptors[SYS_mmap], 16);
	assert_int_equal(ledger->descriptors[SYS_dup2], 1);

	call = call_in(ledger, SYS_fcntl);
	id = call->request.id;
	assert_int_equal(call->request.pid, waiter);
	assert_int_equal(ioctl(fds[0], SECCOMP_IOCTL_NOTIF_ID_VALID, &id), 0);
	assert_int_equal(write(pipes[3], "g", 1), 1);
	assert_int_equal(finish(holder), 0);
	assert_int_equal(finish(waiter), 0);
	/* all are answered when it leaves the listener */
	do {
		left = hear(NULL, 0);
		assert_int_equal(left.kind, GUARD_LISTENER_LEFT);
	} while (left.number != message.number);
	for (unsigned i = 0; i < ledger->used; i++)
		assert_int_equal(ledger->call[i].request.id | ledger->call[i].acts, 0);
	munmap(ledger, sizeof(*ledger));
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(others[i]);
	}
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
}

/* First it does not read, then it is dead: for this and all that follows. */
static void without_a_guard_the_door_goes_on(void **state)
{
	while (send(guard[0], "", 1, MSG_NOSIGNAL) == 1)
		;
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(finish(start(bad_memory, NULL)), 0);
	close(guard[1]);
	assert_int_equal(finish(start(bad_memory, NULL)), 0);
}

static int exec_crowd(void *arg)
{
	execl(crowd, "crowd", UNSERVED, (char *)NULL);
	return 127;
}

static void one_users_calls_leave_room_for_others(void **state)
{
	assert_int_equal(finish(start(exec_crowd, NULL)), 0);
}

static int busy_threads(void *arg)
{
	execl(filecalls, "filecalls", UNSERVED, "-k", (const char *)arg, (char *)NULL);
	return 127;
}

static void programs_killed_in_mid_call_do_no_harm(void **state)
{
	char us[16];

	for (int n = 1000; n < 12000; n += 1000) {
		snprintf(us, sizeof(us), "%d", n);
		assert_int_equal(finish(start(busy_threads, us)), 1000 + SIGKILL);
	}
	assert_int_equal(finish(start(bad_memory, NULL)), 0);
}

static int open_and_close(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		int fd = open(UNSERVED "/stopped", O_RDWR | O_CREAT, 0600);

		if (fd < FD_BASE || close(fd))
			return 1;
	}
	return 0;
}

/* podman pause: what the kernel breaks off is not an open() that went through as descriptor 0. */
static void a_service_that_is_stopped_goes_on_where_it_was(void **state)
{
	atomic_bool *over =
	    mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t service = getpid(), pid = start(open_and_close, NULL), stopper = fork();
	int code;

	if (!stopper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!atomic_load(over) && !kill(service, SIGSTOP) && !kill(service, SIGCONT))
			sched_yield();
		_exit(!atomic_load(over));
	}
	code = finish(pid);
	atomic_store(over, true); /* killed, it might not come to the second signal */
	assert_int_equal(finish(stopper), 0);
	assert_int_equal(code, 0);
	munmap(over, sizeof(*over));
}

static void only_listeners_are_served(void **state)
{
	assert_int_equal(notify_serve(&container, memfd_create("no listener", 0)), -EINVAL);
}

static int wait_for_end(void *arg)
{
	char c;

	close(((int *)arg)[1]);
	return read(*(int *)arg, &c, 1) != 0;
}

/* Any process of the container may hand listeners in. */
static void listeners_have_a_limit(void **state)
{
	int end[2], listener, n, r = 0;
	pid_t pid;

	assert_int_equal(pipe(end), 0);
	pid = start_listened(wait_for_end, end, &listener);
	for (n = 0; !r && n < 1000; n++)
		r = notify_serve(&container, dup(listener));
	assert_int_equal(r, -EUSERS);
	assert_true(n > 100); /* each podman exec brings one */
	close(listener);
	close(end[0]);
	close(end[1]);
	assert_int_equal(finish(pid), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_guard_finds_the_calls_in_progress),
	    cmocka_unit_test(without_a_guard_the_door_goes_on),
	    cmocka_unit_test(every_call_is_as_on_a_plain_directory),
	    cmocka_unit_test(what_needs_the_kernel_gets_its_files),
	    cmocka_unit_test(memory_that_is_not_there_is_efault),
	    cmocka_unit_test(a_ring_is_not_there),
	    cmocka_unit_test(another_root_sees_no_volume),
	    cmocka_unit_test(each_open_has_a_number_of_its_own),
	    cmocka_unit_test(a_waiter_that_is_killed_leaves_nothing),
	    cmocka_unit_test(programs_killed_in_mid_call_do_no_harm),
	    cmocka_unit_test(a_service_that_is_stopped_goes_on_where_it_was),
	    cmocka_unit_test(only_listeners_are_served),
	    cmocka_unit_test(listeners_have_a_limit),
	    cmocka_unit_test(one_users_calls_leave_room_for_others),
	};

	if (argc < 3 || geteuid()) {
		puts("needs root and the programs to run");
		return 77;
	}
	filecalls = argv[1];
	crowd = argv[2];
	with_face = argc > 3;
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
