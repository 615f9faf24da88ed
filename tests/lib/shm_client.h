/* SPDX-License-Identifier: Apache-2.0 */
/* A small client of the shared-memory door for tests and benchmarks: attach, then one call at a
 * time per slot. It trusts the service and asserts where the library would cope. */
#pragma once

#include <stdint.h>

#include "danaus/proto/wire.h"
#include "danaus/shm/channel.h"

struct shm_client {
	int sock;
	struct shm_channel *channel; /* NULL when it was refused */
	int spin;		     /* how often to look before sleeping; 0: one CPU */
	uint32_t tid;
};

/* Connects to path and says hello; the welcome's error. */
int shm_client_attach(struct shm_client *client, const char *path, int spin);
/* The same on a connection, which it takes over. */
int shm_client_hello(struct shm_client *client, int sock, int spin);
void shm_client_detach(struct shm_client *client);
/* A request with defaults filled in. */
struct wire_request shm_request(const struct shm_client *client, unsigned op, uint32_t handle);
/* Posts it with up to two pieces (lengths from the request) and waits: reply->error. */
int shm_call(struct shm_client *client, unsigned slot, const struct wire_request *request,
	     const void *piece1, const void *piece2, struct wire_reply *reply);
void shm_post(struct shm_client *client, unsigned slot);
void shm_wait(struct shm_client *client, unsigned slot);
/* The same through the socket, with a descriptor there (-1: none) and back. */
int shm_socket_call(struct shm_client *client, const struct wire_request *request,
		    const void *piece1, int fd_in, struct wire_reply *reply, int *ret_fd);
/* STAT, OPEN and so on by a path below the first volume. */
int shm_client_stat(struct shm_client *client, const char *path, struct wire_attr *ret);
int shm_client_open(struct shm_client *client, const char *path, int flags, uint32_t *ret_handle);
/* flock(2) of an open file: now, or posted in a slot, for shm_wait(). */
int shm_client_flock(struct shm_client *client, uint32_t handle, int mode);
void shm_post_flock(struct shm_client *client, unsigned slot, uint32_t handle, int mode);
