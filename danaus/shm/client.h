/* SPDX-License-Identifier: Apache-2.0 */
/* The service's side of the channels: clients and the threads that serve them.
 *
 * One thread owns a client's channel: it takes requests from the doorbell, spins for a while when
 * there are none and then sleeps on bell_asleep. Before it runs a call that may block it lets
 * another thread take the channel over, and when a call blocks unexpectedly the steward does so;
 * the first thread leaves when its call has ended and nothing is pending. */
#pragma once

#include "danaus/shm/dispatch.h"

#define CLIENTS_MAX 512

struct shm_server;
struct client;

int shm_server_new(struct pool *pool, struct shm_server **ret);
/* All clients are gone. */
void shm_server_free(struct shm_server *server);
/* Adds what windows and leases answered since the last time to the statistics. */
void shm_server_count(struct shm_server *server);

/* Closes what clients keep open for the next open of the same path; node not NULL: only of it. */
void shm_server_drop_idle(struct shm_server *server, struct vnode *node);

/* A channel for process, served from now on; *ret_memfd is for the peer, the caller closes it.
 * -EUSERS with CLIENTS_MAX clients or threads. */
int client_new(struct shm_server *server, struct process *process, struct client **ret,
	       int *ret_memfd);
/* The peer is gone: cancels what blocks, drops the handles when the last call has ended. Takes the
 * caller's reference. Does not block. */
void client_end(struct client *client);
struct session *client_session(struct client *client);
/* More references, for calls by the attach socket. */
struct client *client_ref(struct client *client);
void client_unref(struct client *client);
/* Waits until no client of container is left; all of them have been ended. */
void shm_server_wait(struct shm_server *server, struct container *container);
/* Waits (a fifth of a second at most) until the clients of processes that have ended have given
 * their files back: the kernel drops a process' locks before its parent learns of its end. */
bool shm_server_settle(struct shm_server *server, struct container *container);
