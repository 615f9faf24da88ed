/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel face's tests' world: a pool with a loop and workers, a container that is the test's
 * own process, and one volume: base/back of a temporary directory is served at base/face, in a
 * mount namespace of its own. base/plain is its like on the host. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "danaus/pool/pool.h"

struct world {
	char base[64];
	struct pool pool;
	struct container container;
	struct volume *volume;
	pthread_t loop;
	struct vctx ctx;
	int face, plain; /* directories */
};
extern struct world w;

/* A test's main: 77 where there is no /dev/fuse or no root. */
#define world_run(tests)                                                                           \
	(world_possible() ? cmocka_run_group_tests(tests, world_setup, world_teardown) : 77)
bool world_possible(void);
/* Makes the directory; for a child's world of which the parent cleans up. */
void world_base(void);
/* cmocka's group fixtures. */
int world_setup(void **state);
int world_teardown(void **state);

int path_of(char *buf, size_t cap, const char *dir, const char *name);

/* In a child: only plain system calls. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(2, "child: line %d: %s: errno %d\n", __LINE__, #cond, errno);      \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* Runs fn(arg) in a child; verdict(): its wait status. */
pid_t child(void (*fn)(void *), void *arg);
int verdict(pid_t pid);
