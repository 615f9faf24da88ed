/* SPDX-License-Identifier: Apache-2.0 */
/* The shared-memory door and clients that lie, scribble, are killed, or take what they have
 * elsewhere. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/shm/client.h"
#include "tests/lib/shm_world.h"

static void malformed_requests_are_answered(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request good = shm_request(&client, WIRE_STAT, WIRE_ROOT(0)), bad;
	struct wire_reply reply;

	good.len1 = 2;
	bad = good;
	bad.op = WIRE_OP_COUNT;
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EPROTO);
	bad.op = 0xffff;
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EPROTO);
	bad = good;
	bad.version = 0;
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EPROTO);
	bad = good;
	bad.len1 = UINT32_MAX;
	assert_int_equal(shm_call(&client, 0, &bad, NULL, NULL, &reply), -EPROTO);
	bad.len1 = WIRE_PAYLOAD_MAX;
	assert_int_equal(shm_call(&client, 0, &bad, NULL, NULL, &reply), -ENAMETOOLONG);
	bad.len1 = 1;
	bad.len2 = UINT32_MAX;
	assert_int_equal(shm_call(&client, 0, &bad, "", NULL, &reply), -EPROTO);
	bad = good;
	assert_int_equal(shm_call(&client, 0, &bad, "ab", NULL, &reply), -EPROTO);
	bad.handle = WIRE_ROOT(1);
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EBADF);
	bad.handle = WIRE_ROOT(0x7fffffff);
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EBADF);
	bad.handle = 12345;
	assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EBADF);
	bad = shm_request(&client, WIRE_READ, 1);
	bad.size = WIRE_PAYLOAD_MAX + 1;
	assert_int_equal(shm_call(&client, 0, &bad, NULL, NULL, &reply), -EPROTO);
	bad = shm_request(&client, WIRE_WRITE, 1);
	bad.len1 = 2;
	bad.offset2 = WIRE_PAYLOAD_MAX - 1;
	assert_int_equal(shm_call(&client, 0, &bad, NULL, NULL, &reply), -EPROTO);
	bad.offset2 = UINT64_MAX;
	assert_int_equal(shm_call(&client, 0, &bad, NULL, NULL, &reply), -EPROTO);
	bad = good;
	bad.tid = 1; /* somebody else's */
	assert_true(shm_call(&client, 1, &bad, ".", NULL, &reply) < 0);
	for (unsigned op = WIRE_NAME; op <= WIRE_WATCH; op++) {
		bad = shm_request(&client, op, WIRE_ROOT(0));
		bad.len1 = op == WIRE_WATCH ? 2 : 0;
		assert_int_equal(shm_call(&client, 0, &bad, ".", NULL, &reply), -EPROTO);
	}
	assert_int_equal(shm_call(&client, 0, &good, ".", NULL, &reply), 0);
	shm_client_detach(&client);
}

static void a_ring_without_a_request_does_nothing(void **state)
{
	struct shm_client client = sw_attach();

	atomic_store(&client.channel->doorbell, UINT64_MAX);
	assert_int_equal(shm_client_stat(&client, ".", NULL), 0);
	atomic_fetch_or(&client.channel->doorbell, UINT64_MAX);
	assert_int_equal(shm_client_stat(&client, ".", NULL), 0);
	assert_int_equal(atomic_load(&client.channel->slot[5].state), SLOT_FREE);
	shm_client_detach(&client);
}

/* Runs fn in another process, which is killed afterwards when it does not end itself. */
static void in_child(void (*fn)(int ready), bool wait_ready)
{
	int ends[2], status;
	pid_t child;
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		fn(ends[1]);
		_exit(0);
	}
	close(ends[1]);
	if (wait_ready) {
		assert_int_equal(read(ends[0], &byte, 1), 1);
		kill(child, SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!wait_ready)
		assert_int_equal(status, 0);
	close(ends[0]);
}

static void hold_a_lock(int ready)
{
	struct shm_client client;
	uint32_t handle;

	if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN) ||
	    shm_client_open(&client, "held", O_RDWR | O_CREAT, &handle) ||
	    shm_client_flock(&client, handle, LOCK_EX) || write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void a_killed_clients_lock_is_free_at_once(void **state)
{
	struct shm_client client = sw_attach();
	uint32_t handle;

	assert_int_equal(shm_client_open(&client, "held", O_RDWR | O_CREAT, &handle), 0);
	for (int i = 0; i < 5; i++) {
		in_child(hold_a_lock, true);
		assert_int_equal(shm_client_flock(&client, handle, LOCK_EX | LOCK_NB), 0);
		assert_int_equal(shm_client_flock(&client, handle, LOCK_UN), 0);
	}
	shm_client_detach(&client);
}

static void scribble(int ready)
{
	struct shm_client client;
	struct wire_request request;
	unsigned seed = 1;

	if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN))
		_exit(1);
	request = shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
	for (int i = 0; i < 20000; i++) {
		unsigned slot = rand_r(&seed) % SHM_SLOTS;
		struct shm_slot *at = &client.channel->slot[slot];
		volatile uint8_t *bytes = (volatile uint8_t *)&at->request;

		request.op = rand_r(&seed) % (WIRE_OP_COUNT + 1);
		request.len1 = rand_r(&seed) % 40;
		request.len2 = rand_r(&seed) % 20;
		request.handle = rand_r(&seed) % 4 ? (uint32_t)rand_r(&seed) % 5 : WIRE_ROOT(0);
		request.mode = rand_r(&seed);
		request.flags = rand_r(&seed);
		request.size = rand_r(&seed) % 100;
		/* no lock that waits: nobody would end it before the process does */
		if (request.op == WIRE_LOCK || request.op == WIRE_FLOCK)
			request.mode = LOCK_NB;
		at->request = request;
		for (int k = 0; k < 30; k++)
			shm_payload(client.channel, slot)[k] = "ab/.\0"[rand_r(&seed) % 5];
		atomic_store(&at->state, i % 3 ? SLOT_POSTED : (uint32_t)rand_r(&seed));
		atomic_fetch_or(&client.channel->doorbell, rand_r(&seed) % 2 ? 1ull << slot : 5);
		atomic_store(&client.channel->bell_asleep, i % 2);
		syscall(SYS_futex, &client.channel->bell_asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
		/* and changes it while it is being looked at */
		for (int k = 0; k < 3; k++)
			bytes[rand_r(&seed) % sizeof(request)] = rand_r(&seed);
		if (i == 10000 && write(ready, "x", 1) != 1)
			_exit(1);
	}
	for (;;)
		pause();
}

static void a_scribbling_client_hurts_only_itself(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_attr attr;

	in_child(scribble, true);
	in_child(scribble, true);
	assert_int_equal(shm_client_stat(&client, ".", &attr), 0);
	assert_int_equal(attr.mode & S_IFMT, S_IFDIR);
	shm_client_detach(&client);
}

/* The memory cannot be taken away under the service. */
static void shrink(int ready)
{
	struct shm_client client;
	int memfd = -1;
	char path[64];

	if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN))
		_exit(1);
	for (int fd = 3; fd < 100 && memfd < 0; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fcntl(fd, F_GET_SEALS) > 0)
			memfd = fd;
	}
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (long)client.channel,
		 (long)((char *)client.channel + ((SHM_CHANNEL_BYTES + 4095) & ~4095ul)));
	if (memfd < 0)
		memfd = open(path, O_RDWR);
	if (memfd < 0)
		_exit(0);
	if (ftruncate(memfd, 0) == 0 || errno != EPERM)
		_exit(2);
	/* holes are only zeroes; in the doorbell they are this client's own loss */
	fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SHM_PAYLOAD_OFFSET,
		  SHM_CHANNEL_BYTES - SHM_PAYLOAD_OFFSET);
	if (shm_client_stat(&client, ".", NULL))
		_exit(3);
	fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SHM_CHANNEL_BYTES);
	_exit(0);
}

static void the_memory_cannot_be_shrunk(void **state)
{
	struct shm_client client;

	in_child(shrink, false);
	client = sw_attach();
	assert_int_equal(shm_client_stat(&client, ".", NULL), 0);
	shm_client_detach(&client);
}

/* A set-user-id program does not lend its rights to who has the old memory. */
static void another_program_in_the_process_ends_its_channel(void **state)
{
	int in[2], out[2], status;
	char byte;
	pid_t child;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	child = fork();
	if (child == 0) {
		struct shm_client client;
		struct wire_request request;
		struct wire_reply reply;
		char go;

		if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN) ||
		    shm_client_stat(&client, ".", NULL))
			_exit(1);
		/* keeps memory and connection over the parent's execve */
		if (fork()) {
			dup2(in[0], 0);
			dup2(out[1], 1);
			execl("/bin/sh", "sh", "-c", "echo; read x", (char *)NULL);
			_exit(1);
		}
		close(out[1]);
		if (read(out[0], &go, 1) != 1)
			_exit(1);
		request = shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
		request.len1 = 2;
		byte = shm_call(&client, 9, &request, ".", NULL, &reply) == -EPERM ? 'y' : 'n';
		_exit(write(in[1], "\n", 1) + write(in[1], &byte, 1) != 2);
	}
	close(out[0]);
	close(out[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(read(in[0], &byte, 1), 1);
	if (byte == '\n')
		assert_int_equal(read(in[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	close(in[0]);
	close(in[1]);
}

/* What an attached program may have mounted over the volume, or over a part of it, in a mount
 * namespace of its own, hides that from the programs there, as it does without Danaus. */
static void leave_the_mounts(int ready)
{
	struct shm_client client;
	struct wire_request request;
	struct wire_reply reply;
	uint32_t handle, below;

	if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN) ||
	    shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle) ||
	    shm_client_open(&client, ".", O_RDONLY | O_DIRECTORY, &below) || unshare(CLONE_NEWNS))
		_exit(1);
	while (shm_client_stat(&client, "f", NULL) != -EPERM)
		;
	/* but what is open stays open */
	request = shm_request(&client, WIRE_READ, handle);
	request.size = 1;
	if (shm_call(&client, 0, &request, NULL, NULL, &reply))
		_exit(2);
	request = shm_request(&client, WIRE_STAT, below);
	request.len1 = 2;
	if (shm_call(&client, 0, &request, "f", NULL, &reply))
		_exit(3);
}

static void another_mount_namespace_is_not_looked_through(void **state)
{
	in_child(leave_the_mounts, false);
}

static void drop_rights_untold(int ready)
{
	struct shm_client client;

	if (shm_client_attach(&client, sw_fixture.socket, SW_SPIN) ||
	    shm_client_stat(&client, "closed/f", NULL) ||
	    syscall(SYS_setresgid, 4711, 4711, 4711) || syscall(SYS_setresuid, 4711, 4711, 4711))
		_exit(1);
	while (shm_client_stat(&client, "closed/f", NULL) != -EACCES)
		;
}

/* Nobody tells of a system call that neither the library nor the notify door sees. */
static void rights_that_are_given_up_untold_are_missed_soon(void **state)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/data/closed", sw_fixture.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	strcat(path, "/f");
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	in_child(drop_rights_untold, false);
}

static void clients_have_a_limit(void **state)
{
	static struct shm_client client[CLIENTS_MAX];
	struct shm_client more;
	struct rlimit files;
	int n = 0, r = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	if (files.rlim_max < 4 * CLIENTS_MAX || setrlimit(RLIMIT_NOFILE, &files) < 0)
		skip();
	while (n < CLIENTS_MAX && !(r = shm_client_attach(&client[n], sw_fixture.socket, 0)))
		n++;
	if (n == CLIENTS_MAX)
		r = shm_client_attach(&more, sw_fixture.socket, 0);
	assert_int_equal(r, -EUSERS);
	assert_true(n > 100); /* threads may be the shorter resource */
	assert_int_equal(shm_client_stat(&client[n - 1], ".", NULL), 0);
	while (n)
		shm_client_detach(&client[--n]);
	shm_server_wait(sw_fixture.pool.shm, &sw_fixture.container);
	more = sw_attach();
	assert_int_equal(shm_client_stat(&more, ".", NULL), 0);
	shm_client_detach(&more);
}

/* A detach while programs run: what waits comes back, and nobody is waited for. */
static void stopping_ends_clients_and_what_they_wait_for(void **state)
{
	struct shm_client client = sw_attach();
	uint32_t first, second;

	assert_int_equal(shm_client_open(&client, "l", O_RDWR | O_CREAT, &first), 0);
	assert_int_equal(shm_client_open(&client, "l", O_RDWR, &second), 0);
	assert_int_equal(shm_client_flock(&client, first, LOCK_EX), 0);
	shm_post_flock(&client, 1, second, LOCK_EX);
	assert_int_equal(shm_client_stat(&client, "l", NULL), 0);
	service_fixture_stop(&sw_fixture);
	shm_wait(&client, 1);
	assert_true(client.channel->slot[1].reply.error == -EINTR ||
		    client.channel->slot[1].reply.error == -EIO);
	assert_int_equal(atomic_load(&client.channel->dead), 1);
	shm_client_detach(&client);
	assert_int_equal(service_fixture_start(&sw_fixture, NULL), 0);
}

/* Who sleeps on the bell is moved to a futex of the tenant's own, which nobody ever wakes. */
static void a_sleeper_that_is_moved_away_ends_all_the_same(void **state)
{
	struct shm_client client = sw_attach();
	struct shm_channel *channel = client.channel;
	long moved;

	do { /* a thread that says it sleeps may not have come to it yet */
		while (!atomic_load(&channel->bell_asleep))
			sched_yield();
		moved = syscall(SYS_futex, &channel->bell_asleep, FUTEX_REQUEUE, 0, INT_MAX,
				&channel->pad1[0], 0);
	} while (moved < 1);
	shm_client_detach(&client);
	service_fixture_stop(&sw_fixture); /* waits for its threads */
	assert_int_equal(service_fixture_start(&sw_fixture, NULL), 0);
}

/* The connection is in a child's hands when its process ends: settling does not wait for ever. */
static void a_held_connection_delays_a_conflict_only_once(void **state)
{
	struct shm_client client = sw_attach();
	int ends[2], status;
	uint32_t first, second;
	char byte = 0;
	pid_t child;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		struct shm_client own;

		if (shm_client_attach(&own, sw_fixture.socket, SW_SPIN))
			_exit(1);
		if (fork())
			_exit(0);
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(shm_client_open(&client, "l", O_RDWR | O_CREAT, &first), 0);
	assert_int_equal(shm_client_open(&client, "l", O_RDWR, &second), 0);
	assert_int_equal(shm_client_flock(&client, first, LOCK_EX), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(shm_client_flock(&client, second, LOCK_EX | LOCK_NB), -EAGAIN);
	close(ends[0]);
	close(ends[1]);
	shm_client_detach(&client);
}

/* Files that a client has left for the service to close, while it ends, uses them, and closes them
 * itself. */
static void *drop_all(void *arg)
{
	atomic_bool *ends = arg;

	while (!atomic_load(ends))
		shm_server_drop_idle(sw_fixture.pool.shm, NULL);
	return NULL;
}

static void idle_files_are_taken_from_clients_that_end(void **state)
{
	atomic_bool ends = false;
	pthread_t dropper;

	assert_int_equal(pthread_create(&dropper, NULL, drop_all, &ends), 0);
	for (int n = 0; n < 200; n++) {
		struct shm_client client = sw_attach();
		struct wire_request request;
		struct wire_reply reply;
		uint32_t handle[8];

		for (unsigned i = 0; i < 8; i++) {
			assert_int_equal(
			    shm_client_open(&client, "l", O_RDWR | O_CREAT, &handle[i]), 0);
			/* also what is in use; and what was never a handle */
			for (unsigned j = 0; j < SHM_IDLE; j++)
				atomic_store(&client.channel->idle[j], j % 4   ? handle[i]
								       : n % 2 ? UINT32_MAX - j
									       : WIRE_ROOT(0));
		}
		request = shm_request(&client, WIRE_CLOSE, handle[7]);
		shm_call(&client, 0, &request, NULL, NULL, &reply);
		assert_true(reply.error == 0 || reply.error == -EBADF);
		assert_int_equal(shm_client_stat(&client, "l", NULL), 0);
		shm_client_detach(&client);
	}
	atomic_store(&ends, true);
	pthread_join(dropper, NULL);
}

/* Whatever a program does with the descriptor of the leases, nothing of it is what another sees. */
static void the_leases_cannot_be_written(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request = shm_request(&client, WIRE_LEASES, 0);
	struct wire_reply reply;
	char path[40];
	int fd, again;
	void *at;

	assert_int_equal(shm_socket_call(&client, &request, NULL, -1, &reply, &fd), 0);
	assert_int_equal(reply.value, sizeof(struct lease_table));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR);
	for (int i = 0; i < 2; i++) {
		int by = i ? again : fd;

		if (by < 0)
			continue;
		assert_int_equal(pwrite(by, "x", 1, 0), -1);
		assert_int_equal(ftruncate(by, 0), -1);
		assert_int_equal(ftruncate(by, 1 << 20), -1);
		assert_int_equal(fallocate(by, 0, 0, 1 << 20), -1);
		assert_int_equal(fallocate(by, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
				 -1);
		assert_int_equal(fallocate(by, FALLOC_FL_ZERO_RANGE, 0, 4096), -1);
		assert_int_equal(fcntl(by, F_ADD_SEALS, F_SEAL_WRITE), -1);
		assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, by, 0),
				 MAP_FAILED);
		at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, by, 0);
		assert_ptr_not_equal(at, MAP_FAILED);
		assert_int_equal(mprotect(at, 4096, PROT_READ | PROT_WRITE), -1);
		assert_int_equal(madvise(at, 4096, MADV_REMOVE), -1);
		munmap(at, 4096);
	}
	close(again);
	close(fd);
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(shm_socket_call(&client, &request, NULL, -1, &reply, &fd), 0);
		close(fd);
	}
	shm_client_detach(&client);
}

/* A lease is nothing that is kept where identities are not: they may be about to change. */
static void no_lease_while_an_identity_changes(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request = shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
	struct process *process;
	struct wire_reply reply;

	request.size = sizeof(struct lease);
	request.len1 = 1;
	for (int i = 0; i < 2; i++)
		assert_int_equal(shm_call(&client, 0, &request, "", NULL, &reply), 0);
	assert_int_equal(reply.len, sizeof(struct lease));
	assert_int_equal(process_get(&sw_fixture.container, getpid(), &process), 0);
	process_rights_changed(process);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(shm_call(&client, 0, &request, "", NULL, &reply), 0);
		assert_int_equal(reply.len, 0);
	}
	process_rights_settled(process);
	for (int i = 0; i < 2; i++)
		assert_int_equal(shm_call(&client, 0, &request, "", NULL, &reply), 0);
	assert_int_equal(reply.len, sizeof(struct lease));
	process_unref(process);
	shm_client_detach(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SW_TEST(malformed_requests_are_answered),
	    SW_TEST(a_ring_without_a_request_does_nothing),
	    SW_TEST(a_killed_clients_lock_is_free_at_once),
	    SW_TEST(a_scribbling_client_hurts_only_itself),
	    SW_TEST(the_memory_cannot_be_shrunk),
	    SW_TEST(another_program_in_the_process_ends_its_channel),
	    SW_TEST(rights_that_are_given_up_untold_are_missed_soon),
	    SW_TEST(clients_have_a_limit),
	    SW_TEST(stopping_ends_clients_and_what_they_wait_for),
	    SW_TEST(another_mount_namespace_is_not_looked_through),
	    SW_TEST(a_sleeper_that_is_moved_away_ends_all_the_same),
	    SW_TEST(a_held_connection_delays_a_conflict_only_once),
	    SW_TEST(idle_files_are_taken_from_clients_that_end),
	    SW_TEST(the_leases_cannot_be_written),
	    SW_TEST(no_lease_while_an_identity_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
