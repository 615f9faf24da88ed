/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing: a process of its own that gives back what one container's service held when it was
 * killed. Each volume with a client of Ceph is opened as the service had it, which ends the dead
 * session at the MDS, and is closed. One thread. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/libservices/libservice.h"
#include "danaus/server/server.h"

#define SPEC_MAX  (16u << 20)
#define TIMEOUT_S 10

static void give_back_one(const char *id, json_t *volume, struct stack_limits *limits)
{
	const char *target = json_string_value(json_object_get(volume, "target"));
	const char *source = json_string_value(json_object_get(volume, "source"));
	struct libservice *ls;
	struct err err = {0};
	char session[SESSION_MAX];
	int r;

	if (!target || !source || !strstr(source, "ceph:") ||
	    container_session(id, target, session) < 0)
		return;
	limits->session = session;
	r = stack_open(source, limits, &ls, &err);
	if (r < 0) {
		log_warn("what the container's service held stays until the cluster gives it up: "
			 "%s: %s",
			 target, err_text(&err, r));
		return;
	}
	ls_free(ls);
	log_info("container %s: %s: what its service held when it was killed is given back", id,
		 target);
}

int give_back(int fd)
{
	CLEANUP_FREE char *text = NULL;
	struct stack_limits limits;
	json_t *spec, *volume;
	const char *id;
	size_t len, i;
	int r = fd_read_all(fd, SPEC_MAX, &text, &len);

	spec = r < 0 ? NULL : json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	id = json_string_value(json_object_get(spec, "id"));
	if (!id) {
		json_decref(spec);
		return 1;
	}
	limits = container_limits(spec);
	limits.timeout_s = TIMEOUT_S;
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	json_array_foreach (json_object_get(spec, "volumes"), i, volume)
		give_back_one(id, volume, &limits);
	json_decref(spec);
	return 0;
}
