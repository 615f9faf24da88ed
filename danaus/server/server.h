/* SPDX-License-Identifier: Apache-2.0 */
/* One danausd: its pool, its containers, its control socket. */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <time.h>

#include "danaus/pool/pool.h"

struct server {
	struct pool pool;
	int dir, control, timer,
	    signals;	  /* dir: the pool's; control: listening, or -1 at the end */
	cpu_set_t wanted; /* --cpus */
	bool has_wanted;
	time_t started;	   /* monotonic */
	pthread_t anchors; /* reads their events */
	bool has_anchors_thread;
	int anchors_wake;     /* eventfd: the anchors' thread ends */
	pthread_mutex_t lock; /* what follows; held shortly */
	struct container_entry *containers;
	unsigned ncontainers, attaching;
	bool ending;			/* takes no more containers */
	bool hidden;			/* the control socket's name is gone */
	struct connection *connections; /* of the control socket */
};

struct server_options {
	const char *pool, *run_dir, *cpus; /* cpus may be NULL */
	int ready_fd;			   /* -1: none */
	int guard_fd;			   /* of danaus/proto/guard.h; -1: none */
};

/* Serves until the last container is gone or SIGTERM; the program's exit code. Any error is on
 * ready_fd and in the log. */
int server_run(const struct server_options *options);
/* Begins the end, from any thread: the loop stops. */
void server_end(struct server *server);

/* container.c. Worker threads, several at a time. */
#define CONTAINER_ID_MAX 256 /* with its NUL, as ID_MAX of oci/state.h */
/* The request of docs/protocol.md. On success mounts has one mount descriptor per volume, in the
 * order of *ret_targets (a new reference); the caller closes them. */
int container_attach(struct server *server, json_t *request, int mounts[MOUNT_TABLE_MAX],
		     unsigned *ret_nmounts, json_t **ret_targets, struct err *err);
/* Flushes and ends one. *ret_last: there is none left, and the service takes no more. -ENOENT. */
int container_detach(struct server *server, const char *id, bool *ret_last);
void containers_detach_all(struct server *server);
/* pid closed a descriptor of file: its record locks there go (fcntl(2)). For anchors_on_closed().
 */
void containers_file_closed(void *server, pid_t pid, struct vfile *file);
json_t *containers_json(struct server *server);

/* What a storage knows a volume of a container's service by. -ENAMETOOLONG. */
#define SESSION_MAX 200
int container_session(const char *id, const char *target, char ret[SESSION_MAX]);

/* What its stacks may use, of a spec.json or the request that is made of one; the texts are spec's.
 */
struct stack_limits container_limits(json_t *spec);

/* give_back.c. A container's spec.json (oci/rundir.h) is read from fd, to the end; the program's
 * exit code. */
int give_back(int fd);

/* control.c */
int control_start(struct server *server, struct err *err);
/* Nobody finds the service any more; a new one may take its place. */
void control_hide(struct server *server);
/* Takes no more requests and waits until those that are being served have their answers. */
void control_stop(struct server *server);
