/* SPDX-License-Identifier: Apache-2.0 */
/* A program that stays in the middle of an execve(2): it shares its memory with another process,
 * which reads from a FUSE mount of its own and holds the memory's lock meanwhile. Whoever looks at
 * such a program (most of what is in /proc/PID) waits with it. Others must not. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/proto/attach.h"
#include "oci/rundir.h"
#include "tests/lib/service_fixture.h"
#include "tests/lib/shm_client.h"

#define STACK	(64u << 10)
#define FILE_ID 2
#define CROWD	40 /* connections: the fixture has 32 workers */

static struct service_fixture fixture;
static char mountpoint[96];

static void reply(int dev, const struct fuse_in_header *in, int error, const void *body, size_t len)
{
	struct fuse_out_header out = {
	    .len = sizeof(out) + len, .error = error, .unique = in->unique};
	char message[sizeof(out) + 256];

	memcpy(message, &out, sizeof(out));
	if (len)
		memcpy(message + sizeof(out), body, len);
	if (write(dev, message, out.len) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr attr_of(uint64_t id)
{
	return (struct fuse_attr){.ino = id,
				  .nlink = 1,
				  .size = id == FILE_ID ? 4096 : 0,
				  .mode = id == FILE_ID ? S_IFREG | 0644 : S_IFDIR | 0755};
}

/* A file system of one file. The first read of it fails; the second, which a page fault makes with
 * its memory's lock, is never answered, and is told. */
__attribute__((noreturn)) static void serve(int dev, int told)
{
	static char buf[1 << 17];
	const struct fuse_in_header *in = (const void *)buf;
	unsigned reads = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(dev, buf, sizeof(buf)) > 0) {
		struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 4096};
		struct fuse_entry_out entry = {.nodeid = FILE_ID, .attr = attr_of(FILE_ID)};
		struct fuse_attr_out attr = {.attr_valid = 1, .attr = attr_of(in->nodeid)};
		struct fuse_open_out opened = {0};

		switch (in->opcode) {
		case FUSE_INIT:
			reply(dev, in, 0, &init, sizeof(init));
			break;
		case FUSE_LOOKUP:
			reply(dev, in, 0, &entry, sizeof(entry));
			break;
		case FUSE_GETATTR:
			reply(dev, in, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			reply(dev, in, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			if (!reads++)
				reply(dev, in, -EIO, NULL, 0);
			else if (write(told, "r", 1) != 1)
				_exit(1);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
			break;
		default:
			reply(dev, in, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

static pid_t mount_fuse(int *ret_told)
{
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC), told[2];
	char options[96];
	pid_t server;

	snprintf(mountpoint, sizeof(mountpoint), "%s/fuse", fixture.dir);
	assert_int_equal(mkdir(mountpoint, 0755), 0);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 dev);
	assert_int_equal(mount("stuck", mountpoint, "fuse.stuck", 0, options), 0);
	server = fork();
	if (!server)
		serve(dev, told[1]);
	close(dev);
	close(told[1]);
	*ret_told = told[0];
	return server;
}

static int touch(void *page)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, SIG_DFL); /* when the file system goes */
	return *(volatile char *)page;
}

static int change_memory(void *unused)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096))
		;
	return 1;
}

/* Sleeps, and can only be killed, not for a moment alone. Its status is one of the few files in its
 * /proc that do not wait for it. No memory is asked for: who asks may be the one that shares it. */
static bool is_stuck(pid_t pid)
{
	static char text[8192];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	for (int looks = 0; looks < 100; looks++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, text, sizeof(text) - 1);

		close(fd);
		text[n > 0 ? n : 0] = '\0';
		if (!strstr(text, "\nState:\tD"))
			return false;
		sched_yield();
	}
	return true;
}

/* Whether who looks at that program waits for it. */
static bool is_waited_for(pid_t pid)
{
	char path[64], byte;
	pid_t child = fork();
	bool waits = false;
	int status;

	if (!child) {
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
		_exit(read(open(path, O_RDONLY | O_CLOEXEC), &byte, 1) != 1);
	}
	while (!waits && !waitpid(child, &status, WNOHANG))
		waits = is_stuck(child);
	if (waits) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	return waits;
}

/* In the process that gets stuck; told: of the second read. */
static void get_stuck(int told)
{
	static char stacks[2][STACK] __attribute__((aligned(16)));
	/* written to, so that no page of it is fetched while the lock is held */
	static char program[16];
	static char *argv[2];
	char path[128], byte;
	pid_t writer;
	void *page;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	strcpy(program, "/bin/true");
	argv[0] = program;
	is_stuck(getpid());
	snprintf(path, sizeof(path), "%s/f", mountpoint);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || page == MAP_FAILED ||
	    clone(touch, stacks[0] + STACK, CLONE_VM | SIGCHLD, page) < 0 ||
	    read(told, &byte, 1) != 1)
		_exit(1);
	/* now the lock is held for reading; who wants it for writing keeps the next reader out */
	writer = clone(change_memory, stacks[1] + STACK, CLONE_VM | SIGCHLD, NULL);
	while (!is_stuck(writer))
		sched_yield();
	syscall(SYS_execve, program, argv, argv + 1);
	_exit(2);
}

/* Whoever has a connection speaks for who made it: says hello, and asks for more. */
static void speak(int go, int said, const int socks[CROWD])
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	struct wire_request request = {.op = WIRE_NAME, .version = WIRE_VERSION, .tid = 1};
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(go, &byte, 1) != 1)
		_exit(1);
	for (int i = 0; i < CROWD; i++) {
		if (fd_send(socks[i], &hello, sizeof(hello), NULL, 0) < 0 ||
		    fd_send(socks[i], &request, sizeof(request), NULL, 0) < 0)
			_exit(1);
	}
	if (write(said, "s", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* A user's program; its connections are in the hands of another one of his. */
static void stuck_main(int told, int go, int said)
{
	int socks[CROWD];

	if (setgid(1000) || setuid(1000))
		_exit(1);
	prctl(PR_SET_DUMPABLE, 1);
	for (int i = 0; i < CROWD; i++) {
		if (fd_connect_at(AT_FDCWD, fixture.socket, &socks[i]) < 0)
			_exit(1);
	}
	if (!fork())
		speak(go, said, socks);
	get_stuck(told);
}

struct world {
	pid_t server, stuck;
	int told, go[2], said[2];
};

static int start(void **state)
{
	static struct world w;
	int status;

	w.server = mount_fuse(&w.told);
	assert_int_equal(pipe2(w.go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(w.said, O_CLOEXEC), 0);
	w.stuck = fork();
	if (!w.stuck)
		stuck_main(w.told, w.go[0], w.said[1]);
	while (!is_waited_for(w.stuck)) {
		assert_int_equal(waitpid(w.stuck, &status, WNOHANG), 0);
		sched_yield();
	}
	*state = &w;
	return 0;
}

static int stop(void **state)
{
	struct world *w = *state;
	int status;

	kill(w->stuck, SIGKILL);
	kill(w->server, SIGKILL);
	waitpid(w->stuck, &status, 0);
	waitpid(w->server, &status, 0);
	close(w->told);
	close(w->go[0]);
	close(w->go[1]);
	close(w->said[0]);
	close(w->said[1]);
	umount2(mountpoint, MNT_DETACH);
	return rmdir(mountpoint);
}

static void others_attach_and_get_anchors(void **state)
{
	struct world *w = *state;
	struct shm_client client;
	struct wire_request request;
	struct wire_reply reply;
	uint32_t handle;
	char byte;

	assert_int_equal(write(w->go[1], "g", 1), 1);
	assert_int_equal(read(w->said[0], &byte, 1), 1);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(shm_client_attach(&client, fixture.socket, 0), 0);
		assert_int_equal(shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle), 0);
		request = shm_request(&client, WIRE_NAME, handle);
		assert_int_equal(shm_socket_call(&client, &request, NULL, -1, &reply, NULL), 0);
		shm_client_detach(&client);
	}
}

/* When another container starts, anywhere on the host. */
static void its_container_is_taken_for_alive(void **state)
{
	struct world *w = *state;
	char containers[96], dir[128], pid[160], text[32];
	struct err err = {0};
	json_t *spec;

	snprintf(containers, sizeof(containers), "%s/containers", fixture.dir);
	snprintf(dir, sizeof(dir), "%s/c1", containers);
	snprintf(pid, sizeof(pid), "%s/pid", dir);
	snprintf(text, sizeof(text), "%d 4711\n", (int)w->stuck);
	spec =
	    json_pack("{s:s, s:s, s:s, s:s}", "id", "c1", "dir", dir, "preload", "", "pool", "c1");
	assert_int_equal(rundir_make(spec, "{}", 2, &err), 0);
	assert_int_equal(fd_replace_file_at(-1, pid, 0600, text, strlen(text)), 0);
	rundir_sweep(containers, NULL, NULL);
	assert_int_equal(access(dir, F_OK), 0);
	assert_int_equal(rundir_remove(dir), 0);
	json_decref(spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(others_attach_and_get_anchors, start, stop),
	    cmocka_unit_test_setup_teardown(its_container_is_taken_for_alive, start, stop),
	};
	int r;

	if (geteuid() || access("/dev/fuse", R_OK | W_OK) || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "skipped: needs root, /dev/fuse and mount namespaces\n");
		return 77;
	}
	service_fixture_or_skip(&fixture);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	service_fixture_stop(&fixture);
	return r;
}
