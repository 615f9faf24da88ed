/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing: the verbs that ask services. One request and one answer per connection to a pool's
 * control socket, with a deadline, so that no service can hang the tool. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/ctl/ctl.h"
#include "oci/rundir.h"

#define ANSWER_MAX (1u << 20)

const char *ctl_value(int argc, char **argv, int *i, const char *name)
{
	size_t len = strlen(name);

	if (!strncmp(argv[*i], name, len) && argv[*i][len] == '=')
		return argv[*i] + len + 1;
	return !strcmp(argv[*i], name) && *i + 1 < argc ? argv[++*i] : NULL;
}

bool ctl_options(int argc, char **argv, bool takes_pool, struct ctl_options *ret)
{
	*ret = (struct ctl_options){.run_dir = RUNDIR};
	for (int i = 1; i < argc; i++) {
		const char *dir = ctl_value(argc, argv, &i, "--run-dir");

		if (dir) {
			ret->run_dir = dir;
		} else if (!strcmp(argv[i], "--json")) {
			ret->json = true;
		} else if (takes_pool && argv[i][0] != '-' && !ret->pool) {
			ret->pool = argv[i];
		} else {
			fprintf(stderr, "danausctl %s: unexpected %s\n", argv[0], argv[i]);
			return false;
		}
	}
	return true;
}

static int connect_pool(int pools, const char *pool, int *ret)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_FD int dir = openat(pools, pool, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (dir < 0 || sock < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/control", dir);
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	*ret = STEAL_FD(sock);
	return 0;
}

int ctl_ask(const char *run_dir, const char *pool, const char *op, json_t **ret, struct err *err)
{
	CLEANUP_FREE char *answer = malloc(ANSWER_MAX);
	CLEANUP_FD int sock = -1;
	char path[4096], request[128];
	struct pollfd wait;
	json_t *json;
	ssize_t n;
	int r;

	if (!answer)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/pools", run_dir);
	CLEANUP_FD int pools = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (pools < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	r = connect_pool(pools, pool, &sock);
	if (r == -ECONNREFUSED || r == -ENOENT)
		return err_set(
		    err, r, "its service is not running; `rm -r %s/%s` when no container uses it",
		    path, pool);
	if (r == -EAGAIN)
		return err_set(err, -ETIMEDOUT, "its service does not answer");
	if (r < 0)
		return err_set(err, r, "cannot connect: %s", strerror(-r));
	snprintf(request, sizeof(request), "{\"op\": \"%s\"}", op);
	r = fd_send(sock, request, strlen(request), NULL, 0);
	if (r < 0)
		return err_set(err, r, "cannot send: %s", strerror(-r));
	wait = (struct pollfd){.fd = sock, .events = POLLIN};
	r = poll(&wait, 1, CTL_TIMEOUT_MS);
	if (r == 0)
		return err_set(err, -ETIMEDOUT, "its service does not answer");
	n = r < 0 ? -1 : recv(sock, answer, ANSWER_MAX, MSG_TRUNC);
	if (n < 0)
		return err_set(err, -errno, "cannot receive: %s", strerror(errno));
	if (n == 0 || n > (ssize_t)ANSWER_MAX)
		return err_set(err, -EPROTO, "its service closed the connection");
	json = json_loadb(answer, n, 0, NULL);
	if (!json)
		return err_set(err, -EPROTO, "its service sent no JSON");
	if (!json_is_true(json_object_get(json, "ok"))) {
		const char *why = json_string_value(json_object_get(json, "error"));

		r = err_set(err, -EIO, "%s", why ? why : "refused without a reason");
		json_decref(json);
		return r;
	}
	*ret = json;
	return 0;
}

static int is_pool(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int ctl_each_pool(const char *run_dir, const char *only, const char *op, ctl_pool_fn *fn, void *arg)
{
	char path[4096];
	struct dirent **names;
	int n, silent = 0, found = 0;

	snprintf(path, sizeof(path), "%s/pools", run_dir);
	n = scandir(path, &names, is_pool, alphasort);
	if (n < 0 && errno != ENOENT)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct err err = {0};
		json_t *answer = NULL;

		if (!only || !strcmp(only, names[i]->d_name)) {
			found++;
			if (ctl_ask(run_dir, names[i]->d_name, op, &answer, &err) < 0)
				silent++;
			fn(names[i]->d_name, answer, &err, arg);
			json_decref(answer);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return only && !found ? -ENOENT : silent;
}

struct collection {
	json_t *all;
	const char *part;
	ctl_pool_fn *print;
	bool any;
};

static void print(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	struct collection *c = arg;

	c->any = true;
	c->print(pool, answer, err, NULL);
}

static void collect(const char *pool, json_t *answer, const struct err *err, void *arg)
{
	const struct collection *c = arg;
	json_t *wanted = c->part ? json_object_get(answer, c->part) : answer;

	json_object_set_new(c->all, pool,
			    answer ? json_incref(wanted) : json_pack("{s:s}", "error", err->text));
}

int ctl_show(const char *run_dir, const char *only, const char *op, const char *part,
	     ctl_pool_fn *print_pool)
{
	struct collection c = {.part = part, .print = print_pool};
	int r;

	if (print_pool) {
		r = ctl_each_pool(run_dir, only, op, print, &c);
		if (!r && !c.any)
			fprintf(stderr, "no pools: no container with Danaus runs\n");
	} else {
		c.all = json_object();
		r = ctl_each_pool(run_dir, only, op, collect, &c);
		json_dumpf(c.all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(c.all);
	}
	if (r == -ENOENT && only)
		fprintf(stderr, "danausctl %s: no pool named %s\n", op, only);
	else if (r < 0)
		fprintf(stderr, "danausctl %s: %s: %s%s\n", op, run_dir, strerror(-r),
			r == -EACCES ? "; run as root" : "");
	return r ? 1 : 0;
}
