/* SPDX-License-Identifier: Apache-2.0 */
/* The shared-memory door from a client's side. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/libservices/patience.h"
#include "danaus/vfs/node.h"
#include "tests/lib/shm_world.h"

/* One call with at most two strings. */
static int call(struct shm_client *client, struct wire_request request, const char *piece1,
		const char *piece2, struct wire_reply *reply)
{
	if (piece1)
		request.len1 = strlen(piece1) + 1;
	if (piece2)
		request.len2 = strlen(piece2) + 1;
	return shm_call(client, 0, &request, piece1, piece2, reply);
}

static void a_file_is_written_and_read_back(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request;
	struct wire_reply reply;
	struct wire_attr attr;
	uint32_t handle;

	assert_int_equal(shm_client_stat(&client, "f", &attr), -ENOENT);
	assert_int_equal(shm_client_open(&client, "f", O_RDWR | O_CREAT | O_EXCL, &handle), 0);
	request = shm_request(&client, WIRE_WRITE, handle);
	request.offset = WIRE_AT_POSITION;
	request.len1 = 5;
	assert_int_equal(shm_call(&client, 0, &request, "hello", NULL, &reply), 0);
	assert_int_equal(reply.value, 5);
	request = shm_request(&client, WIRE_SEEK, handle);
	request.mode = SEEK_CUR;
	assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply), 0);
	assert_int_equal(reply.value, 5);
	request = shm_request(&client, WIRE_READ, handle);
	request.offset = 1;
	request.size = WIRE_PAYLOAD_MAX;
	assert_int_equal(shm_call(&client, 3, &request, NULL, NULL, &reply), 0);
	assert_int_equal(reply.value, 4);
	assert_int_equal(reply.len, 4);
	assert_memory_equal(shm_payload(client.channel, 3), "ello", 4);
	assert_int_equal(shm_client_stat(&client, "f", &attr), 0);
	assert_int_equal(attr.size, 5);
	assert_int_equal(attr.mode, S_IFREG | 0644);
	assert_int_equal(attr.uid, 0);
	assert_int_equal(attr.dev_minor, 12345);
	request = shm_request(&client, WIRE_CLOSE, handle);
	assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply), 0);
	assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply), -EBADF);
	shm_client_detach(&client);
}

#ifndef __SANITIZE_THREAD__ /* which does not know that nobody looks at the table just then */
static int lost(struct libservice *ls, struct ls_file *file)
{
	return -EIO;
}

static void a_close_tells_what_was_lost(void **state)
{
	struct libservice *ls =
	    vfs_instance_root(sw_fixture.container.volumes[0].instance)->instance->ls;
	const struct libservice_ops *plain = ls->ops;
	struct libservice_ops losing = *plain;
	struct shm_client client = sw_attach();
	struct wire_request request;
	struct wire_reply reply;
	uint32_t handle;

	losing.flush = lost;
	ls->ops = &losing;
	for (int wrote = 0; wrote < 2; wrote++) {
		assert_int_equal(shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle), 0);
		request = shm_request(&client, WIRE_WRITE, handle);
		request.len1 = 5;
		if (wrote)
			assert_int_equal(shm_call(&client, 0, &request, "hello", NULL, &reply), 0);
		request = shm_request(&client, WIRE_CLOSE, handle);
		assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply),
				 wrote ? -EIO : 0);
		/* and it is closed */
		assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply), -EBADF);
	}
	ls->ops = plain;
	shm_client_detach(&client);
}
#endif

#ifndef __SANITIZE_THREAD__
static struct libservice_ops distant;
static unsigned told;

static int count_told(struct libservice *ls, struct ls_node *node, struct statvfs *ret,
		      uint64_t *ret_type)
{
	told += patience != NULL;
	patience_waits();
	assert_null(patience);
	return -EIO;
}

/* Another one serves the others meanwhile. */
static void a_call_that_waits_is_heard_of_where_a_client_has_threads(void **state)
{
	struct libservice *ls =
	    vfs_instance_root(sw_fixture.container.volumes[0].instance)->instance->ls;
	const struct libservice_ops *plain = ls->ops;
	struct shm_client client = sw_attach();
	struct wire_request request = shm_request(&client, WIRE_STATFS, WIRE_ROOT(0));
	struct wire_reply reply;

	request.len1 = 1;
	distant = *plain;
	distant.statfs = count_told;
	ls->ops = &distant;
	told = 0;
	assert_int_equal(shm_call(&client, 0, &request, "", NULL, &reply), -EIO);
	assert_int_equal(told, 0);
	assert_int_equal(shm_call(&client, 1, &request, "", NULL, &reply), -EIO);
	assert_int_equal(shm_call(&client, 0, &request, "", NULL, &reply), -EIO);
	assert_int_equal(told, 2);
	ls->ops = plain;
	shm_client_detach(&client);
}
#endif

static void names_are_made_and_removed(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request = shm_request(&client, WIRE_MAKE, WIRE_ROOT(0));
	struct wire_reply reply;
	uint32_t dir;

	request.mode = S_IFDIR | 0777;
	assert_int_equal(call(&client, request, "d", NULL, &reply), 0);
	assert_int_equal(reply.attr.mode, S_IFDIR | 0755);
	request.mode = S_IFLNK | 0777;
	assert_int_equal(call(&client, request, "d/link", "target", &reply), 0);
	assert_int_equal(shm_client_open(&client, "d", O_RDONLY | O_DIRECTORY, &dir), 0);
	request = shm_request(&client, WIRE_READLINK, dir);
	assert_int_equal(call(&client, request, "link", NULL, &reply), 0);
	assert_int_equal(reply.len, 6);
	assert_memory_equal(shm_payload(client.channel, 0), "target", 6);
	request = shm_request(&client, WIRE_RENAME, dir);
	request.handle2 = WIRE_ROOT(0);
	assert_int_equal(call(&client, request, "link", "moved", &reply), 0);
	request = shm_request(&client, WIRE_READDIR, dir);
	request.offset = WIRE_AT_POSITION;
	request.size = 4096;
	assert_int_equal(shm_call(&client, 0, &request, NULL, NULL, &reply), 0);
	assert_int_equal(reply.len, 2 * 24); /* "." and ".." */
	request = shm_request(&client, WIRE_UNLINK, WIRE_ROOT(0));
	assert_int_equal(call(&client, request, "moved", NULL, &reply), 0);
	request.flags = AT_REMOVEDIR;
	assert_int_equal(call(&client, request, "d", NULL, &reply), 0);
	shm_client_detach(&client);
}

static void attributes_and_xattrs_are_set(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request;
	struct wire_reply reply;
	uint32_t handle;

	assert_int_equal(shm_client_open(&client, "f", O_RDWR | O_CREAT, &handle), 0);
	request = shm_request(&client, WIRE_SETATTR, handle);
	request.set = WIRE_SET_MODE | WIRE_SET_SIZE | WIRE_SET_MTIME | WIRE_SET_UID;
	request.set_attr = (struct wire_attr){
	    .mode = 0600, .size = 777, .uid = 1234, .mtime = {.sec = 99, .nsec = 5}};
	assert_int_equal(call(&client, request, "", NULL, &reply), 0);
	assert_int_equal(reply.attr.mode & 07777, 0600);
	assert_int_equal(reply.attr.size, 777);
	assert_int_equal(reply.attr.uid, 1234);
	assert_int_equal(reply.attr.mtime.sec, 99);
	request.set = WIRE_SET_MTIME;
	request.set_attr.mtime.nsec = 2000000000;
	assert_int_equal(call(&client, request, "", NULL, &reply), -EINVAL);
	request.set = 0x80000000u;
	assert_int_equal(call(&client, request, "", NULL, &reply), -EINVAL);
	request = shm_request(&client, WIRE_SETXATTR, handle);
	request.len1 = 1;
	request.len2 = sizeof("user.a\0value") - 1;
	reply.error = shm_call(&client, 0, &request, "", "user.a\0value", &reply);
	if (reply.error != -EOPNOTSUPP) { /* the temporary directory's file system may have none */
		assert_int_equal(reply.error, 0);
		request = shm_request(&client, WIRE_GETXATTR, handle);
		request.size = 100;
		assert_int_equal(call(&client, request, "", "user.a", &reply), 0);
		assert_int_equal(reply.len, 5);
		assert_memory_equal(shm_payload(client.channel, 0), "value", 5);
		request.size = 0;
		assert_int_equal(call(&client, request, "", "user.a", &reply), 0);
		assert_int_equal(reply.value, 5);
		assert_int_equal(reply.len, 0);
	}
	shm_client_detach(&client);
}

static void a_path_that_leaves_the_volume_is_told(void **state)
{
	struct shm_client client = sw_attach();
	struct wire_request request = shm_request(&client, WIRE_MAKE, WIRE_ROOT(0));
	struct wire_reply reply;

	request.mode = S_IFLNK | 0777;
	assert_int_equal(call(&client, request, "out", "/etc/hosts", &reply), 0);
	request = shm_request(&client, WIRE_STAT, WIRE_ROOT(0));
	assert_int_equal(call(&client, request, "out", NULL, &reply), -EREMCHG);
	assert_string_equal(shm_payload(client.channel, 0), "/etc/hosts");
	assert_int_equal(reply.len, sizeof("/etc/hosts"));
	shm_client_detach(&client);
}

static void a_waiting_lock_holds_nobody_up_and_is_cancelled(void **state)
{
	struct shm_client client = sw_attach();
	struct shm_slot *slot = &client.channel->slot[1];
	uint32_t first, second;

	assert_int_equal(shm_client_open(&client, "l", O_RDWR | O_CREAT, &first), 0);
	assert_int_equal(shm_client_open(&client, "l", O_RDWR, &second), 0);
	assert_int_equal(shm_client_flock(&client, first, LOCK_EX), 0);
	assert_int_equal(shm_client_flock(&client, second, LOCK_EX | LOCK_NB), -EAGAIN);
	for (int i = 0; i < 3; i++) {
		shm_post_flock(&client, 1, second, LOCK_EX);
		assert_int_equal(shm_client_stat(&client, "l", NULL), 0);
		assert_int_equal(atomic_load(&slot->state) & 0xff, SLOT_POSTED);
		atomic_fetch_or(&slot->state, SLOT_CANCEL);
		atomic_fetch_or(&client.channel->doorbell, 2);
		if (atomic_exchange(&client.channel->bell_asleep, 0))
			syscall(SYS_futex, &client.channel->bell_asleep, FUTEX_WAKE, 1, NULL, NULL,
				0);
		shm_wait(&client, 1);
		assert_int_equal(slot->reply.error, -EINTR);
	}
	shm_post_flock(&client, 1, second, LOCK_EX);
	assert_int_equal(shm_client_flock(&client, first, LOCK_UN), 0);
	shm_wait(&client, 1);
	assert_int_equal(slot->reply.error, 0);
	shm_client_detach(&client);
}

static void descriptors_are_named_and_adopted(void **state)
{
	struct shm_client client = sw_attach(), other = sw_attach();
	struct wire_request request;
	struct wire_reply reply;
	uint32_t handle, copy;
	int fd;

	assert_int_equal(shm_client_open(&client, "f", O_RDWR | O_CREAT | O_APPEND, &handle), 0);
	request = shm_request(&client, WIRE_NAME, handle);
	assert_int_equal(shm_socket_call(&client, &request, NULL, -1, &reply, &fd), 0);
	assert_true(fd >= 0);
	request = shm_request(&other, WIRE_ADOPT, 0);
	assert_int_equal(shm_socket_call(&other, &request, NULL, fd, &reply, NULL), 0);
	copy = reply.value;
	assert_int_equal(reply.value2 & (O_APPEND | O_ACCMODE), O_APPEND | O_RDWR);
	assert_int_equal(reply.attr.mode, S_IFREG | 0644);
	/* the same open file: its position is shared */
	request = shm_request(&client, WIRE_WRITE, handle);
	request.offset = WIRE_AT_POSITION;
	request.len1 = 3;
	assert_int_equal(shm_call(&client, 0, &request, "abc", NULL, &reply), 0);
	request = shm_request(&other, WIRE_SEEK, copy);
	request.mode = SEEK_CUR;
	assert_int_equal(shm_call(&other, 0, &request, NULL, NULL, &reply), 0);
	assert_int_equal(reply.value, 3);
	/* it outlives the client that made it, by the descriptor and by the other client */
	shm_client_detach(&client);
	request = shm_request(&other, WIRE_ADOPT, 0);
	assert_int_equal(shm_socket_call(&other, &request, NULL, fd, &reply, NULL), 0);
	close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(shm_socket_call(&other, &request, NULL, fd, &reply, NULL), -EBADF);
	assert_int_equal(shm_socket_call(&other, &request, NULL, -1, &reply, NULL), -EPROTO);
	close(fd);
	request = shm_request(&other, WIRE_STAT, WIRE_ROOT(0));
	request.len1 = 2;
	assert_int_equal(shm_socket_call(&other, &request, ".", -1, &reply, NULL), -EPROTO);
	shm_client_detach(&other);
}

static void a_watch_sees_changes_through_the_door(void **state)
{
	struct shm_client client = sw_attach();
	int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct wire_request request = shm_request(&client, WIRE_WATCH, WIRE_ROOT(0));
	struct wire_reply reply;
	uint32_t handle;
	char events[4096];

	request.len1 = 2;
	request.size = IN_CREATE;
	assert_int_equal(shm_socket_call(&client, &request, ".", inotify, &reply, NULL), 0);
	assert_true((int)reply.value > 0);
	assert_int_equal(shm_client_open(&client, "new", O_RDWR | O_CREAT, &handle), 0);
	assert_true(read(inotify, events, sizeof(events)) > 0);
	assert_string_equal(((struct inotify_event *)events)->name, "new");
	close(inotify);
	shm_client_detach(&client);
}

struct worker {
	struct shm_client *client;
	unsigned slot;
	int failures;
};

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct shm_client client = *worker->client;
	struct wire_request request;
	struct wire_reply reply;
	char name[32], text[64];
	uint32_t handle;

	client.tid = syscall(SYS_gettid);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "t%u", worker->slot);
		request = shm_request(&client, WIRE_OPEN, WIRE_ROOT(0));
		request.flags = O_RDWR | O_CREAT | O_TRUNC;
		request.mode = 0600;
		request.len1 = strlen(name) + 1;
		worker->failures +=
		    shm_call(&client, worker->slot, &request, name, NULL, &reply) != 0;
		handle = reply.value;
		snprintf(text, sizeof(text), "%u-%d", worker->slot, i);
		request = shm_request(&client, WIRE_WRITE, handle);
		request.len1 = strlen(text);
		worker->failures +=
		    shm_call(&client, worker->slot, &request, text, NULL, &reply) != 0;
		if (i % 20 == 0) {
			request = shm_request(&client, WIRE_FSYNC, handle);
			worker->failures +=
			    shm_call(&client, worker->slot, &request, NULL, NULL, &reply) != 0;
		}
		request = shm_request(&client, WIRE_READ, handle);
		request.size = sizeof(text);
		worker->failures +=
		    shm_call(&client, worker->slot, &request, NULL, NULL, &reply) != 0;
		worker->failures +=
		    reply.len != strlen(text) ||
		    memcmp(shm_payload(client.channel, worker->slot), text, reply.len);
		request = shm_request(&client, WIRE_CLOSE, handle);
		worker->failures +=
		    shm_call(&client, worker->slot, &request, NULL, NULL, &reply) != 0;
	}
	return NULL;
}

static void threads_use_slots_at_the_same_time(void **state)
{
	enum { N = 6 };
	struct shm_client client = sw_attach();
	struct worker worker[N];
	pthread_t thread[N];

	for (unsigned i = 0; i < N; i++) {
		worker[i] = (struct worker){.client = &client, .slot = i * 7};
		assert_int_equal(pthread_create(&thread[i], NULL, work, &worker[i]), 0);
	}
	for (unsigned i = 0; i < N; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(worker[i].failures, 0);
	}
	shm_client_detach(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SW_TEST(a_file_is_written_and_read_back),
#ifndef __SANITIZE_THREAD__
	    SW_TEST(a_close_tells_what_was_lost),
	    SW_TEST(a_call_that_waits_is_heard_of_where_a_client_has_threads),
#endif
	    SW_TEST(names_are_made_and_removed),
	    SW_TEST(attributes_and_xattrs_are_set),
	    SW_TEST(a_path_that_leaves_the_volume_is_told),
	    SW_TEST(a_waiting_lock_holds_nobody_up_and_is_cancelled),
	    SW_TEST(descriptors_are_named_and_adopted),
	    SW_TEST(a_watch_sees_changes_through_the_door),
	    SW_TEST(threads_use_slots_at_the_same_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
