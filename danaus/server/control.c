/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the control socket (docs/protocol.md). A connection is served by a worker from its first
 * message to its end; one that says nothing for CONTROL_IDLE_S is closed. Source: admin (root,
 * which is checked), but a request is read as if it were not. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/base/parse.h"
#include "danaus/pool/stats.h"
#include "danaus/pool/workers.h"
#include "danaus/server/server.h"
#include "danaus/shm/client.h"

#define REQUEST_MAX    (256u << 10)
#define CONTROL_IDLE_S 120

static json_t *failed(struct err *err, int code)
{
	return json_pack("{s:b, s:s, s:i}", "ok", 0, "error", err_text(err, code), "errno", -code);
}

/* "name,name:/path" lines; the key is the controllers' list, "" for version 2. */
static json_t *cgroups_json(void)
{
	json_t *all = json_object();
	CLEANUP_FREE char *text = NULL;
	char *line, *rest;

	if (fd_read_file_at(AT_FDCWD, "/proc/self/cgroup", 65536, &text, NULL) < 0)
		return all;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *name = strchr(line, ':'), *path = name ? strchr(name + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		json_object_set_new(all, name + 1, json_string(path));
	}
	return all;
}

static json_int_t memory_bytes(void)
{
	CLEANUP_FREE char *text = NULL;
	long long size, resident;

	if (fd_read_file_at(AT_FDCWD, "/proc/self/statm", 4096, &text, NULL) < 0 ||
	    sscanf(text, "%lld %lld", &size, &resident) != 2)
		return 0;
	return resident * sysconf(_SC_PAGESIZE);
}

struct connection {
	struct server *server;
	int sock;
	bool ends; /* after the answer that is on its way, the service ends */
	struct connection *next;
};

static json_t *do_list(struct connection *connection, json_t *request, int *fds, unsigned *nfds)
{
	struct server *server = connection->server;
	struct vfs_counts counts = {0};
	struct cache_counts caches;
	json_t *containers;
	char cpus[4096] = "";

	vfs_count(server->pool.vfs, &counts);
	cache_store_count(server->pool.caches, &caches);
	format_cpulist(&server->pool.cpus, cpus, sizeof(cpus));
	pthread_mutex_lock(&server->lock);
	containers = containers_json(server);
	pthread_mutex_unlock(&server->lock);
	return json_pack("{s:b, s:s, s:i, s:o, s:s, s:I, s:o, s:{s:I, s:I, s:I, s:I}}", "ok", 1,
			 "pool", server->pool.name, "pid", (int)getpid(), "cgroup", cgroups_json(),
			 "cpus", cpus, "memory_bytes", memory_bytes(), "containers", containers,
			 "counts", "nodes", (json_int_t)counts.nodes, "files",
			 (json_int_t)counts.files, "locks", (json_int_t)counts.locks,
			 "bytes_cached", (json_int_t)(counts.bytes_cached + caches.bytes));
}

static json_t *do_stats(struct connection *connection, json_t *request, int *fds, unsigned *nfds)
{
	shm_server_count(connection->server->pool.shm);
	return json_pack("{s:b, s:o}", "ok", 1, "stats", stats_json());
}

static json_t *do_attach(struct connection *connection, json_t *request, int *fds, unsigned *nfds)
{
	struct err err = {0};
	json_t *targets;
	int r = container_attach(connection->server, request, fds, nfds, &targets, &err);

	if (r < 0) {
		log_error("attach: %s", err_text(&err, r));
		return failed(&err, r);
	}
	return json_pack("{s:b, s:o}", "ok", 1, "mounts", targets);
}

static json_t *do_detach(struct connection *connection, json_t *request, int *fds, unsigned *nfds)
{
	const char *id = json_string_value(json_object_get(request, "id"));
	struct err err = {0};

	if (!id || container_detach(connection->server, id, &connection->ends) < 0)
		return failed(&err, err_set(&err, -ENOENT, "no container %s in pool %s",
					    id ? id : "", connection->server->pool.name));
	log_info("container %s: detached", id);
	return json_pack("{s:b}", "ok", 1);
}

static const struct {
	const char *op;
	json_t *(*run)(struct connection *connection, json_t *request, int *fds, unsigned *nfds);
} verbs[] = {
    {"attach", do_attach},
    {"detach", do_detach},
    {"list", do_list},
    {"stats", do_stats},
};

static json_t *answer_to(struct connection *connection, const char *text, size_t len, int *fds,
			 unsigned *nfds)
{
	json_error_t where;
	json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where), *answer = NULL;
	const char *op = json_string_value(json_object_get(request, "op"));
	struct err err = {0};

	for (size_t i = 0; op && !answer && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(op, verbs[i].op))
			continue;
		answer = verbs[i].run(connection, request, fds, nfds);
	}
	if (!answer)
		answer = failed(&err, !request ? err_set(&err, -EINVAL, "not JSON: %s", where.text)
					       : err_set(&err, -EINVAL, "unknown operation %s",
							 op ? op : "(none)"));
	json_decref(request);
	return answer;
}

static void connection_unlist(struct connection *connection)
{
	struct server *server = connection->server;
	struct connection **link;

	pthread_mutex_lock(&server->lock);
	for (link = &server->connections; *link != connection; link = &(*link)->next)
		;
	*link = connection->next;
	pthread_mutex_unlock(&server->lock);
}

static void serve_connection(void *arg)
{
	struct connection *connection = arg;
	struct server *server = connection->server;
	CLEANUP_FREE char *request = malloc(REQUEST_MAX);
	const struct timeval idle = {.tv_sec = CONTROL_IDLE_S};
	int sock = connection->sock, room = REQUEST_MAX;
	size_t len;

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle));
	setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	while (request && !fd_recv(sock, request, REQUEST_MAX, &len, NULL, NULL) && len) {
		int fds[MOUNT_TABLE_MAX];
		unsigned nfds = 0;
		json_t *answer = answer_to(connection, request, len, fds, &nfds);
		CLEANUP_FREE char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
		int r = text ? fd_send(sock, text, strlen(text), fds, nfds) : -ENOMEM;

		json_decref(answer);
		while (nfds)
			fd_close(fds[--nfds]);
		if (connection->ends)
			server_end(server);
		if (r < 0)
			break;
	}
	connection_unlist(connection);
	fd_close(sock);
	free(connection);
}

static void on_connection(void *arg, uint32_t events)
{
	struct server *server = arg;
	CLEANUP_FD int sock = accept4(server->control, NULL, NULL, SOCK_CLOEXEC);
	struct connection *connection;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (sock < 0 || getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != 0)
		return;
	connection = malloc(sizeof(*connection));
	if (!connection)
		return;
	pthread_mutex_lock(&server->lock);
	*connection =
	    (struct connection){.server = server, .sock = sock, .next = server->connections};
	server->connections = connection;
	pthread_mutex_unlock(&server->lock);
	if (!pool_run(&server->pool, serve_connection, connection)) {
		sock = -1;
		return;
	}
	connection_unlist(connection);
	free(connection);
}

int control_start(struct server *server, struct err *err)
{
	int r = fd_listen_at(server->dir, "control", 0600, &server->control);

	if (!r && fcntl(server->control, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (!r)
		r = pool_watch(&server->pool, server->control, EPOLLIN, on_connection, server);
	return r < 0 ? err_set(err, r, "%s/control: %s", server->pool.dir, strerror(-r)) : 0;
}

void control_hide(struct server *server)
{
	pthread_mutex_lock(&server->lock);
	if (!server->hidden)
		unlinkat(server->dir, "control", 0);
	server->hidden = true;
	pthread_mutex_unlock(&server->lock);
}

void control_stop(struct server *server)
{
	if (server->control < 0)
		return;
	pool_unwatch(&server->pool, server->control);
	control_hide(server);
	server->control = fd_close(server->control);
	pthread_mutex_lock(&server->lock);
	for (struct connection *at = server->connections; at; at = at->next)
		shutdown(at->sock, SHUT_RD);
	pthread_mutex_unlock(&server->lock);
	workers_drain(server->pool.workers);
}
