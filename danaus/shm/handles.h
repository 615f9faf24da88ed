/* SPDX-License-Identifier: Apache-2.0 */
/* A client's handles: small numbers for its open files, private to it. Any thread. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "danaus/vfs/vfs.h"

#define HANDLES_MAX 65536u

struct handles {
	pthread_mutex_t lock;
	struct handle {
		struct vfile *file; /* NULL: free */
		uint32_t next_free;
	} * entry; /* [0] is never used: WIRE_NO_HANDLE */
	uint32_t cap, used, first_free;
};

void handles_init(struct handles *handles);
/* Gives all references back. */
void handles_done(struct handles *handles);
/* Takes the reference over on success. -EMFILE at HANDLES_MAX, -ENOMEM. */
int handles_add(struct handles *handles, struct vfile *file, uint32_t *ret);
/* A new reference, or -EBADF. */
int handles_get(struct handles *handles, uint32_t handle, struct vfile **ret);
/* Whether it is one, of node (NULL: of any). */
bool handles_has(struct handles *handles, uint32_t handle, const struct vnode *node);
/* Out of the table; the reference is the caller's. -EBADF. */
int handles_take(struct handles *handles, uint32_t handle, struct vfile **ret);
