/* SPDX-License-Identifier: Apache-2.0 */
/* A service within the test: pool, one container (whose first process is the test itself) and one
 * volume /data of a temporary directory; no kernel face, no listener. */
#pragma once

#include "danaus/pool/pool.h"

struct service_fixture {
	struct pool pool;
	struct container container;
	char dir[64];	  /* temporary: "data" is the volume's, "attach" the socket */
	char socket[128]; /* its path */
	int dirfd;
	void *loop_thread; /* pthread_t */
};

/* spec NULL: local: of the temporary directory. Aborts on failure; -EPERM: not root. */
int service_fixture_start(struct service_fixture *fixture, const char *spec);
/* For a test's set-up: 0, or the process ends with 77. */
int service_fixture_or_skip(struct service_fixture *fixture);
void service_fixture_stop(struct service_fixture *fixture);
