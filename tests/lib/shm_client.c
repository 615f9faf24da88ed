/* SPDX-License-Identifier: Apache-2.0 */
/* Owns a connection and a channel's mapping. */
#include "tests/lib/shm_client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "danaus/base/fd.h"
#include "danaus/proto/attach.h"

int shm_client_hello(struct shm_client *client, int sock, int spin)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	struct attach_welcome welcome;
	unsigned nfds = 1;
	int memfd = -1, r;
	size_t len;

	*client = (struct shm_client){.sock = sock, .spin = spin, .tid = syscall(SYS_gettid)};
	r = fd_send(client->sock, &hello, sizeof(hello), NULL, 0);
	if (!r)
		r = fd_recv(client->sock, &welcome, sizeof(welcome), &len, &memfd, &nfds);
	if (!r && len != sizeof(welcome))
		r = -EPROTO;
	if (!r)
		r = welcome.error;
	if (!r) {
		assert(nfds == 1 && welcome.channel_bytes == SHM_CHANNEL_BYTES);
		client->channel =
		    mmap(NULL, SHM_CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
		assert(client->channel != MAP_FAILED);
		fd_close(memfd);
	}
	if (r < 0)
		client->sock = fd_close(client->sock);
	return r;
}

int shm_client_attach(struct shm_client *client, const char *path, int spin)
{
	int sock, r = fd_connect_at(AT_FDCWD, path, &sock);

	*client = (struct shm_client){.sock = -1};
	return r < 0 ? r : shm_client_hello(client, sock, spin);
}

void shm_client_detach(struct shm_client *client)
{
	if (client->channel)
		munmap(client->channel, SHM_CHANNEL_BYTES);
	fd_close(client->sock);
	*client = (struct shm_client){.sock = -1};
}

struct wire_request shm_request(const struct shm_client *client, unsigned op, uint32_t handle)
{
	return (struct wire_request){.op = op,
				     .version = WIRE_VERSION,
				     .tid = client->tid,
				     .handle = handle,
				     .umask = 022,
				     .fsize_limit = UINT64_MAX};
}

void shm_post(struct shm_client *client, unsigned slot)
{
	struct shm_channel *channel = client->channel;

	atomic_store(&channel->slot[slot].state, SLOT_POSTED);
	atomic_fetch_or(&channel->doorbell, 1ull << slot);
	if (atomic_load(&channel->bell_asleep) && atomic_exchange(&channel->bell_asleep, 0))
		syscall(SYS_futex, &channel->bell_asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void shm_wait(struct shm_client *client, unsigned slot)
{
	struct shm_slot *at = &client->channel->slot[slot];
	uint32_t state;

	for (int i = 0; i < client->spin; i++) {
		if ((atomic_load_explicit(&at->state, memory_order_acquire) & 0xff) == SLOT_DONE)
			return;
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	}
	while (((state = atomic_load(&at->state)) & 0xff) != SLOT_DONE) {
		if (!(state & SLOT_WAITING) &&
		    !atomic_compare_exchange_strong(&at->state, &state, state | SLOT_WAITING))
			continue;
		syscall(SYS_futex, &at->state, FUTEX_WAIT, state | SLOT_WAITING, NULL, NULL, 0);
	}
}

int shm_call(struct shm_client *client, unsigned slot, const struct wire_request *request,
	     const void *piece1, const void *piece2, struct wire_reply *reply)
{
	struct shm_slot *at = &client->channel->slot[slot];
	char *payload = shm_payload(client->channel, slot);

	if (request->op == WIRE_SETATTR)
		at->request = *request;
	else
		memcpy(&at->request, request, offsetof(struct wire_request, set_attr));
	if (piece1)
		memcpy(payload, piece1, request->len1);
	if (piece2)
		memcpy(payload + request->len1, piece2, request->len2);
	shm_post(client, slot);
	shm_wait(client, slot);
	*reply = at->reply;
	return reply->error;
}

int shm_socket_call(struct shm_client *client, const struct wire_request *request,
		    const void *piece1, int fd_in, struct wire_reply *reply, int *ret_fd)
{
	char message[sizeof(*request) + WIRE_PATH_MAX], answer[sizeof(*reply) + WIRE_PATH_MAX];
	unsigned nfds = 1;
	int fd = -1, r;
	size_t len;

	assert(request->len1 <= WIRE_PATH_MAX);
	memcpy(message, request, sizeof(*request));
	if (piece1)
		memcpy(message + sizeof(*request), piece1, request->len1);
	r = fd_send(client->sock, message, sizeof(*request) + request->len1, &fd_in, fd_in >= 0);
	if (!r)
		r = fd_recv(client->sock, answer, sizeof(answer), &len, &fd, &nfds);
	if (r < 0)
		return r;
	if (len < sizeof(*reply))
		return -ECONNRESET;
	memcpy(reply, answer, sizeof(*reply));
	if (ret_fd)
		*ret_fd = nfds ? fd : -1;
	else
		fd_close(fd);
	return reply->error;
}

int shm_client_stat(struct shm_client *client, const char *path, struct wire_attr *ret)
{
	struct wire_request request = shm_request(client, WIRE_STAT, WIRE_ROOT(0));
	struct wire_reply reply;
	int r;

	request.len1 = strlen(path) + 1;
	r = shm_call(client, 0, &request, path, NULL, &reply);
	if (!r && ret)
		*ret = reply.attr;
	return r;
}

int shm_client_open(struct shm_client *client, const char *path, int flags, uint32_t *ret_handle)
{
	struct wire_request request = shm_request(client, WIRE_OPEN, WIRE_ROOT(0));
	struct wire_reply reply;
	int r;

	request.len1 = strlen(path) + 1;
	request.flags = flags;
	request.mode = 0666;
	r = shm_call(client, 0, &request, path, NULL, &reply);
	if (!r)
		*ret_handle = reply.value;
	return r;
}

int shm_client_flock(struct shm_client *client, uint32_t handle, int mode)
{
	struct wire_request request = shm_request(client, WIRE_FLOCK, handle);
	struct wire_reply reply;

	request.mode = mode;
	return shm_call(client, 0, &request, NULL, NULL, &reply);
}

void shm_post_flock(struct shm_client *client, unsigned slot, uint32_t handle, int mode)
{
	struct shm_slot *at = &client->channel->slot[slot];

	at->request = shm_request(client, WIRE_FLOCK, handle);
	at->request.mode = mode;
	shm_post(client, slot);
}
