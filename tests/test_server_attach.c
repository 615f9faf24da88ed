/* SPDX-License-Identifier: Apache-2.0 */
/* The attach socket and peers that do not follow the protocol. */
#include "danaus/server/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/proto/attach.h"
#include "tests/lib/service_fixture.h"
#include "tests/lib/shm_client.h"

static struct service_fixture fixture;

static int start(void **state)
{
	return service_fixture_or_skip(&fixture);
}

static int stop(void **state)
{
	service_fixture_stop(&fixture);
	return 0;
}

static int dial(void)
{
	int sock;

	assert_int_equal(fd_connect_at(AT_FDCWD, fixture.socket, &sock), 0);
	return sock;
}

/* The welcome's error, or -ENOTCONN when the service hung up. */
static int answer(int sock)
{
	struct attach_welcome welcome;
	unsigned nfds = 1;
	size_t len = 0;
	int fd = -1, r = fd_recv(sock, &welcome, sizeof(welcome), &len, &fd, &nfds);

	if (r >= 0 && nfds)
		close(fd);
	return r < 0 || len != sizeof(welcome) ? -ENOTCONN : welcome.error;
}

static void others_are_served(void)
{
	struct shm_client client;

	assert_int_equal(shm_client_attach(&client, fixture.socket, 0), 0);
	assert_int_equal(shm_client_stat(&client, ".", NULL), 0);
	shm_client_detach(&client);
}

static void malformed_hellos_are_hung_up_on(void **state)
{
	static const struct {
		struct attach_hello hello;
		size_t bytes;
		int error;
	} rows[] = {
	    {{0, WIRE_VERSION, ATTACH_CLIENT, 0}, sizeof(struct attach_hello), -ENOTCONN},
	    {{ATTACH_MAGIC, WIRE_VERSION, 0, 0}, sizeof(struct attach_hello), -ENOTCONN},
	    {{ATTACH_MAGIC, WIRE_VERSION, 77, 0}, sizeof(struct attach_hello), -ENOTCONN},
	    {{ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0}, 4, -ENOTCONN},
	    {{ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0}, 0, -ENOTCONN},
	    {{ATTACH_MAGIC, WIRE_VERSION + 1, ATTACH_CLIENT, 0},
	     sizeof(struct attach_hello),
	     -EPROTONOSUPPORT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int sock = dial();

		assert_int_equal(fd_send(sock, &rows[i].hello, rows[i].bytes, NULL, 0), 0);
		assert_int_equal(answer(sock), rows[i].error);
		close(sock);
	}
	others_are_served();
}

static void silent_peers_make_room_for_others(void **state)
{
	enum { N = ATTACH_PENDING_MAX + 20 };
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	int sock[N];

	for (int i = 0; i < N; i++)
		sock[i] = dial();
	others_are_served();
	/* the oldest were dropped, the newest may still speak */
	fd_send(sock[0], &hello, sizeof(hello), NULL, 0);
	assert_int_equal(answer(sock[0]), -ENOTCONN);
	assert_int_equal(fd_send(sock[N - 1], &hello, sizeof(hello), NULL, 0), 0);
	assert_int_equal(answer(sock[N - 1]), 0);
	for (int i = 0; i < N; i++)
		close(sock[i]);
}

static void a_descriptor_that_is_no_listener_is_refused(void **state)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_LISTENER, 0};
	int sock = dial(), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(fd_send(sock, &hello, sizeof(hello), NULL, 0), 0);
	assert_int_equal(answer(sock), -EPROTO);
	close(sock);
	sock = dial();
	assert_int_equal(fd_send(sock, &hello, sizeof(hello), &null, 1), 0);
	assert_int_equal(answer(sock), -EINVAL);
	close(sock);
	close(null);
	others_are_served();
}

static void too_many_descriptors_end_the_connection(void **state)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	int fds[8], sock = dial();

	for (int i = 0; i < 8; i++)
		fds[i] = sock;
	assert_int_equal(fd_send(sock, &hello, sizeof(hello), fds, 8), 0);
	assert_int_equal(answer(sock), -ENOTCONN);
	close(sock);
	others_are_served();
}

/* A connected socket whose close would wait for as long as a service lives. */
static int lingering(int *ret_other)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct linger linger = {.l_onoff = 1, .l_linger = 10000};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static char data[1 << 16];
	socklen_t len = sizeof(at);

	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
	    connect(sock, (struct sockaddr *)&at, sizeof(at)) < 0)
		skip(); /* no network here */
	*ret_other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	while (send(sock, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	return sock;
}

static void a_lingering_descriptor_holds_nobody_up(void **state)
{
	static const struct {
		unsigned kind, copies;
		int error;
	} rows[] = {
	    {ATTACH_CLIENT, 1, 0}, {ATTACH_LISTENER, 1, -EINVAL}, {ATTACH_CLIENT, 2, -ENOTCONN}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, rows[i].kind, 0};
		int other, fds[2], sock = dial();

		fds[0] = fds[1] = lingering(&other);
		assert_int_equal(fd_send(sock, &hello, sizeof(hello), fds, rows[i].copies), 0);
		close(fds[0]);
		assert_int_equal(answer(sock), rows[i].error);
		close(sock);
		others_are_served();
		close(other);
	}
}

/* It is in a message that the service never receives, because it has hung up before. */
static void an_undelivered_descriptor_holds_nobody_up(void **state)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	int other, fd = lingering(&other), sock, r;

	do {
		sock = dial();
		r = fd_send(sock, "x", 1, NULL, 0);
		if (!r)
			r = fd_send(sock, &hello, sizeof(hello), &fd, 1);
		if (r)
			close(sock);
	} while (r);
	close(fd);
	assert_int_equal(answer(sock), -ENOTCONN);
	close(sock);
	others_are_served();
	close(other);
}

/* A file that is a FUSE mount of its own, whose FLUSH is not answered: closing it waits. It is
 * served by a process of its own, so that this one can end. */
struct stuck_file {
	char path[48];
	int fd;
	pid_t server;
	atomic_uint *flushes;
};

static void answer_most(int dev, atomic_uint *flushes)
{
	static char request[1 << 17];
	struct {
		struct fuse_out_header head;
		union {
			struct fuse_init_out init;
			struct fuse_open_out open;
			struct fuse_attr_out attr;
		};
	} reply;
	const struct fuse_in_header *in = (const struct fuse_in_header *)request;

	while (read(dev, request, sizeof(request)) > 0) {
		size_t bytes = 0;

		memset(&reply, 0, sizeof(reply));
		if (in->opcode == FUSE_FLUSH) {
			atomic_fetch_add(flushes, 1);
			continue;
		}
		if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
			continue;
		if (in->opcode == FUSE_INIT) {
			reply.init = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION,
							    .minor = FUSE_KERNEL_MINOR_VERSION,
							    .max_write = 4096};
			bytes = sizeof(reply.init);
		} else if (in->opcode == FUSE_OPEN) {
			bytes = sizeof(reply.open);
		} else if (in->opcode == FUSE_GETATTR) {
			reply.attr.attr.ino = 1;
			reply.attr.attr.mode = S_IFREG | 0644;
			bytes = sizeof(reply.attr);
		} else if (in->opcode != FUSE_RELEASE) {
			reply.head.error = -ENOSYS;
		}
		reply.head.len = (uint32_t)(sizeof(reply.head) + bytes);
		reply.head.unique = in->unique;
		if (write(dev, &reply, reply.head.len) < 0 && errno != ENOENT)
			break;
	}
}

static void stuck_file_open(struct stuck_file *file)
{
	char options[128];
	int dev;

	*file = (struct stuck_file){.path = "/tmp/danaus-stuck-XXXXXX"};
	close(mkstemp(file->path));
	file->flushes = mmap(NULL, sizeof(*file->flushes), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100644,user_id=0,group_id=0", dev);
	if (dev < 0 || mount("stuck", file->path, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		unlink(file->path);
		skip();
	}
	file->server = fork();
	if (!file->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer_most(dev, file->flushes);
		_exit(0);
	}
	close(dev);
	file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
	assert_true(file->fd >= 0);
}

static void stuck_file_close(struct stuck_file *file)
{
	kill(file->server, SIGKILL);
	assert_int_equal(waitpid(file->server, NULL, 0), file->server);
	close(file->fd);
	assert_int_equal(umount2(file->path, MNT_DETACH), 0);
	munmap(file->flushes, sizeof(*file->flushes));
	unlink(file->path);
}

static void a_descriptor_whose_close_waits_holds_nobody_up(void **state)
{
	enum { N = 20 };
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	struct stuck_file file;
	int sock[N];

	stuck_file_open(&file);
	for (int i = 0; i < N; i++) {
		sock[i] = dial();
		assert_int_equal(fd_send(sock[i], &hello, sizeof(hello), &file.fd, 1), 0);
	}
	/* so many of one user's, and no more */
	while (atomic_load(file.flushes) < 8)
		usleep(1000);
	others_are_served();
	assert_int_equal(atomic_load(file.flushes), 8);
	stuck_file_close(&file);
	for (int i = 0; i < N; i++) {
		assert_int_equal(answer(sock[i]), 0);
		close(sock[i]);
	}
}

static void short_messages_end_the_connection(void **state)
{
	struct shm_client client;
	struct wire_reply reply;
	size_t len = 1;

	assert_int_equal(shm_client_attach(&client, fixture.socket, 0), 0);
	assert_int_equal(fd_send(client.sock, "x", 1, NULL, 0), 0);
	assert_int_equal(fd_recv(client.sock, &reply, sizeof(reply), &len, NULL, NULL), 0);
	assert_int_equal(len, 0);
	assert_int_equal(atomic_load(&client.channel->dead), 1);
	shm_client_detach(&client);
	others_are_served();
}

static void messages_with_wild_lengths_are_answered(void **state)
{
	struct shm_client client;
	struct wire_request request;
	struct wire_reply reply;

	assert_int_equal(shm_client_attach(&client, fixture.socket, 0), 0);
	request = shm_request(&client, WIRE_WATCH, WIRE_ROOT(0));
	for (unsigned shift = 4; shift < 32; shift += 7) {
		struct wire_request wild = request;

		wild.len1 = 0;
		wild.len2 = 1u << shift;
		assert_int_equal(shm_socket_call(&client, &wild, NULL, -1, &reply, NULL), -EPROTO);
	}
	request = shm_request(&client, WIRE_NAME, 4711);
	assert_int_equal(shm_socket_call(&client, &request, NULL, -1, &reply, NULL), -EBADF);
	assert_int_equal(shm_client_stat(&client, ".", NULL), 0);
	shm_client_detach(&client);
}

static void processes_of_other_containers_are_refused(void **state)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct shm_client client;

		/* the host's pid namespace, another mount namespace: nothing says container */
		if (unshare(CLONE_NEWNS) < 0)
			_exit(77);
		_exit(shm_client_attach(&client, fixture.socket, 0) == -EPERM ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* A child keeps the connection that its parent made, and says hello when the parent runs another
 * program, which may have more rights than the child: a set-user-id one. */
static void a_connection_is_no_way_into_the_next_program(void **state)
{
	int in[2], out[2], sock = dial(), status;
	char byte;
	pid_t child, other;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		close(sock);
		sock = dial();
		other = fork();
		if (other) {
			dup2(in[0], 0);
			dup2(out[1], 1);
			execl("/bin/sh", "sh", "-c", "echo; read x", (char *)NULL);
			_exit(1);
		}
		struct shm_client client;
		int r = read(out[0], &byte, 1) == 1 ? 0 : -EIO;

		if (!r)
			r = shm_client_hello(&client, sock, 0);
		client.tid = getppid();
		if (!r)
			r = shm_client_stat(&client, ".", NULL);
		byte = r == -EPERM ? 'y' : 'n';
		_exit(write(in[1], "\n", 1) + write(out[1], &byte, 1) != 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(read(out[0], &byte, 1), 1);
	if (byte == '\n')
		assert_int_equal(read(out[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	close(sock);
	others_are_served();
}

/* Killed at each step of its life; the last steps are in test_shm_hostile. */
static void peers_die_at_every_step(void **state)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};

	for (int step = 0; step < 6; step++) {
		pid_t child = fork();

		if (child == 0) {
			struct shm_client client = {.sock = -1};
			uint32_t handle;

			if (step == 0)
				dial();
			if (step == 1)
				fd_send(dial(), &hello, sizeof(hello), NULL, 0);
			if (step >= 2)
				shm_client_attach(&client, fixture.socket, 0);
			if (step == 3)
				shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle);
			if (step == 4) { /* posted, not rung */
				client.channel->slot[0].request =
				    shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
				atomic_store(&client.channel->slot[0].state, SLOT_POSTED);
			}
			if (step == 5) { /* rung, not awaited */
				client.channel->slot[0].request =
				    shm_request(&client, WIRE_GETFL, WIRE_ROOT(0));
				shm_post(&client, 0);
			}
			raise(SIGKILL);
		}
		assert_int_equal(waitpid(child, NULL, 0), child);
		others_are_served();
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
	    CASE(malformed_hellos_are_hung_up_on),
	    CASE(silent_peers_make_room_for_others),
	    CASE(a_descriptor_that_is_no_listener_is_refused),
	    CASE(too_many_descriptors_end_the_connection),
	    CASE(a_lingering_descriptor_holds_nobody_up),
	    CASE(an_undelivered_descriptor_holds_nobody_up),
	    CASE(a_descriptor_whose_close_waits_holds_nobody_up),
	    CASE(short_messages_end_the_connection),
	    CASE(messages_with_wild_lengths_are_answered),
	    CASE(processes_of_other_containers_are_refused),
	    CASE(a_connection_is_no_way_into_the_next_program),
	    CASE(peers_die_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
