/* SPDX-License-Identifier: Apache-2.0 */
/* The front driver: this process's connection to the service, and one request over it. Any thread,
 * any signal handler. After a fork the child has no channel until it asks for one. */
#pragma once

#include "preload/root.h"

/* One request under way: its slot is this call's alone from call_begin() to call_end(). */
struct call {
	struct shm_slot *slot; /* NULL: not begun */
	char *payload;
	unsigned index;
};

/* Attaches if there is no channel yet. 0, or why there is none. */
int channel_attach(void);
static inline int channel_ready(void)
{
	root_check_fork();
	return likely(atomic_load_explicit(&root.channel, memory_order_acquire) != NULL)
		   ? 0
		   : channel_attach();
}

/* Claims a slot and fills the request's head: op, who asks. All other fields but set_attr are 0. */
int call_begin(struct call *call, unsigned op);
/* Posts the request and waits: the reply's error, or -EIO when the service is gone. */
int call_run(struct call *call);
/* The two halves of it. Meanwhile the request and the bytes that it names are the service's. */
int call_post(struct call *call);
int call_wait(struct call *call);
/* Whether requests of enum wire_op op are answered while their callers spin, as far as the last
 * ones tell. */
bool channel_answers_soon(unsigned op);
/* Gives the slot back; fine for a call that never began. */
void call_end(struct call *call);

static inline struct wire_request *call_request(struct call *call)
{
	return &call->slot->request;
}

static inline struct wire_reply *call_reply(struct call *call)
{
	return &call->slot->reply;
}

/* A request by the attach socket (OPF_BY_SOCKET), with a path after it where path is not NULL.
 * send_fd and *ret_fd may be absent (-1, NULL); a received descriptor is CLOEXEC and the caller's.
 * 0 or a negative errno. */
int socket_request(struct wire_request *request, const char *path, int send_fd,
		   struct wire_reply *ret_reply, int *ret_fd);
/* The head of a request that goes by the socket. */
void request_init(struct wire_request *request, unsigned op);

/* The calling thread as its own pid namespace names it. */
uint32_t own_tid(void);

/* Sees to it that descriptor numbers up to the table's limit may be used. */
void limit_raise(void);
