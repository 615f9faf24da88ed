/* SPDX-License-Identifier: Apache-2.0 */
/* danaus-hook: the OCI hooks. precreate edits a config (podman only); createRuntime starts or joins
 * the pool's service in the container's cgroups and attaches the kernel faces; poststop takes the
 * container out of its pool. It runs as root on the host's side, never in the container. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/base/path.h"
#include "danaus/proto/mount_table.h"
#include "hooks/attach_mounts.h"
#include "hooks/service.h"
#include "oci/config.h"
#include "oci/document.h"
#include "oci/edit.h"
#include "oci/hook_log.h"
#include "oci/rundir.h"
#include "oci/state.h"

#define ANSWER_EXTRA_S	30 /* on top of the storage's own timeout */
#define ATTACH_TRIES	100
#define ATTACH_RETRY_MS 50
#define END_WAIT_MS	5000 /* for the service's process to be gone after its last container */

DEFINE_CLEANUP(service, struct service *, service_leave)

/* config.json on standard input, the edited one on standard output; byte by byte the same for a
 * container without Danaus. */
static int precreate(const char *dir, struct err *err)
{
	__attribute__((cleanup(config_done))) struct config config = {0};
	CLEANUP_FREE char *text = NULL, *edited = NULL, *cwd = getcwd(NULL, 0);
	CLEANUP_JSON json_t *document = NULL, *spec = NULL;
	size_t len;
	int r = fd_read_all(STDIN_FILENO, DOCUMENT_MAX, &text, &len);

	if (r < 0)
		return err_prefix(err, r, "standard input");
	r = document_parse(text, len, "config.json", &document, err);
	if (!r)
		r = config_read(CONFIG_PATH, &config, err);
	if (r < 0)
		return r;
	log_open("danaus-hook", config.log_level);

	const struct edit_context context = {
	    .config = &config,
	    .bundle = cwd ? cwd : "/",
	    .containers = RUNDIR_CONTAINERS,
	    .init = EDIT_INIT_FILE,
	    .library = EDIT_LIBRARY_FILE,
	    .hook = EDIT_HOOK_FILE,
	};

	r = edit_config(&context, document, &spec, err);
	if (r < 0)
		return r;
	if (!spec)
		return fd_write_all(STDOUT_FILENO, text, len);
	r = document_dump(document, &edited);
	if (!r)
		r = rundir_make(spec, text, len, err);
	if (r < 0)
		return r;
	r = fd_write_all(STDOUT_FILENO, edited, strlen(edited));
	if (r < 0)
		rundir_remove(json_string_value(json_object_get(spec, "dir")));
	return r;
}

static int read_state(struct state *ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r = fd_read_all(STDIN_FILENO, DOCUMENT_MAX, &text, &len);

	return r < 0 ? err_prefix(err, r, "standard input") : state_parse(text, len, ret, err);
}

static json_t *attach_request(const json_t *spec, const struct state *state)
{
	static const char *const same[] = {"dir",	  "fd_base",   "light_limit", "volumes",
					   "cache_bytes", "timeout_s", "ceph"};
	json_t *request =
	    json_pack("{s:s, s:s, s:i}", "op", "attach", "id", state->id, "pid", (int)state->pid);

	for (size_t i = 0; request && i < sizeof(same) / sizeof(same[0]); i++) {
		json_t *value = json_object_get(spec, same[i]);

		if (value)
			json_object_set(request, same[i], value);
	}
	return request;
}

static int detach(struct service *service, const char *id, unsigned timeout_s, struct err *err)
{
	CLEANUP_JSON json_t *request = json_pack("{s:s, s:s}", "op", "detach", "id", id);
	CLEANUP_JSON json_t *answer = NULL;

	return request ? service_ask(service, request, timeout_s, &answer, NULL, NULL, err)
		       : -ENOMEM;
}

static unsigned answer_time(const json_t *spec)
{
	return json_integer_value(json_object_get(spec, "timeout_s")) + ANSWER_EXTRA_S;
}

static int attach(const json_t *spec, const struct state *state, const char *dir, struct err *err)
{
	__attribute__((cleanup(cleanup_service))) struct service *service = NULL;
	CLEANUP_JSON json_t *request = attach_request(spec, state), *answer = NULL;
	const char *pool = json_string_value(json_object_get(spec, "pool"));
	int fds[MOUNT_TABLE_MAX], r;
	unsigned nfds = MOUNT_TABLE_MAX;

	if (!request || !pool)
		return -EINVAL;
	r = rundir_started(dir, state->pid, err);
	for (int tries = 0; !r && !answer; tries++) {
		err->text[0] = '\0';
		r = service_enter(pool, spec, state->pid, &service, err);
		if (!r)
			r = service_ask(service, request, answer_time(spec), &answer, fds, &nfds,
					err);
		/* It is ending, or still ends an earlier run of this container: a new one, then. */
		if ((r == -ESHUTDOWN || r == -ECONNRESET || r == -EEXIST) && tries < ATTACH_TRIES) {
			service_await_end(service, ATTACH_RETRY_MS);
			service_leave(STEAL_PTR(service));
			nfds = MOUNT_TABLE_MAX;
			r = 0;
		}
	}
	if (r < 0) {
		/* The runtime kills what is in the container's cgroup: the service that was started
		 * for it alone gets to remove its directory before. */
		if (service)
			service_await_end(service, strcmp(pool, state->id) ? 0 : END_WAIT_MS);
		return r;
	}
	r = attach_mounts(state->pid, spec, EDIT_INIT_FILE, json_object_get(answer, "mounts"), fds,
			  nfds, err);
	for (unsigned i = 0; i < nfds; i++)
		fd_close(fds[i]);
	if (r < 0)
		detach(service, state->id, answer_time(spec), NULL);
	return r;
}

static int create_runtime(const char *dir, struct err *err)
{
	CLEANUP_JSON json_t *spec = NULL;
	struct state state;
	int r = read_state(&state, err);

	if (!r && !state.pid)
		r = err_set(err, -EINVAL, "the runtime gave no pid at createRuntime");
	if (!r)
		r = rundir_spec(dir, &spec, err);
	if (r < 0)
		return r;
	/* attach_mounts() changes what paths mean. */
	CLEANUP_FD int host = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	service_sweep(NULL);
	r = rundir_restore(dir, spec, state.bundle, err);
	if (!r)
		r = attach(spec, &state, dir, err);
	if (r < 0 && (host < 0 || setns(host, CLONE_NEWNS) == 0))
		rundir_remove(dir);
	return r;
}

static int poststop(const char *dir, struct err *err)
{
	__attribute__((cleanup(cleanup_service))) struct service *service = NULL;
	CLEANUP_JSON json_t *spec = NULL;
	const char *pool;
	struct state state;
	int r = read_state(&state, err);

	if (r < 0)
		return r;
	if (rundir_spec(dir, &spec, NULL) < 0)
		return 0; /* cleaned up already */
	pool = json_string_value(json_object_get(spec, "pool"));
	r = pool ? service_enter(pool, NULL, 0, &service, err) : -EINVAL;
	if (!r)
		r = detach(service, state.id, answer_time(spec), err);
	if (service)
		service_await_end(service, strcmp(pool, state.id) ? 0 : END_WAIT_MS);
	/* The service also looks after itself: it may have gone in between. */
	if (r == -ENOENT || r == -ECONNRESET || r == -EPIPE)
		r = 0;
	rundir_remove(dir);
	return r;
}

static const struct verb {
	const char *name;
	int (*run)(const char *dir, struct err *err);
	bool dir; /* takes the container's directory as its argument */
} verbs[] = {
    {"precreate", precreate, false},
    {"createRuntime", create_runtime, true},
    {"poststop", poststop, true},
};

int main(int argc, char **argv)
{
	struct err err = {0};

	clearenv();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	close_range(3, ~0u, 0);
	umask(077);
	log_open("danaus-hook", LOG_INFO);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		char what[64];
		int r;

		if (argc != 2 + verbs[i].dir || strcmp(argv[1], verbs[i].name) != 0)
			continue;
		if (verbs[i].dir && !path_below(argv[2], RUNDIR_CONTAINERS))
			break;
		r = verbs[i].run(argv[2], &err);
		snprintf(what, sizeof(what), "danaus-hook %s", verbs[i].name);
		return r < 0 ? hook_fail(what, &err, r) : 0;
	}
	fprintf(stderr, "usage: danaus-hook precreate | createRuntime DIR | poststop DIR\n"
			"The container runtime calls it, with config.json or the container's state "
			"on standard input.\n");
	return 2;
}
