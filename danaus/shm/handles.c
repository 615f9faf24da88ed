/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of one client. The lock is held for a few loads and stores only; who takes it
 * beside the client's own threads takes idle files away (shm_server_drop_idle()). */
#include "danaus/shm/handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void handles_init(struct handles *handles)
{
	*handles = (struct handles){.lock = PTHREAD_MUTEX_INITIALIZER, .used = 1};
}

void handles_done(struct handles *handles)
{
	for (uint32_t i = 1; i < handles->used; i++)
		vfile_unref(handles->entry[i].file);
	free(handles->entry);
	pthread_mutex_destroy(&handles->lock);
}

static int grow(struct handles *handles)
{
	uint32_t cap = handles->cap ? handles->cap * 2 : 32;
	struct handle *entry;

	if (handles->cap >= HANDLES_MAX)
		return -EMFILE;
	entry = realloc(handles->entry, cap * sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	memset(entry + handles->cap, 0, (cap - handles->cap) * sizeof(*entry));
	handles->entry = entry;
	handles->cap = cap;
	return 0;
}

int handles_add(struct handles *handles, struct vfile *file, uint32_t *ret)
{
	uint32_t handle;
	int r = 0;

	pthread_mutex_lock(&handles->lock);
	handle = handles->first_free;
	if (handle) {
		handles->first_free = handles->entry[handle].next_free;
	} else {
		r = handles->used < handles->cap ? 0 : grow(handles);
		if (!r)
			handle = handles->used++;
	}
	if (!r) {
		handles->entry[handle].file = file;
		*ret = handle;
	}
	pthread_mutex_unlock(&handles->lock);
	return r;
}

int handles_get(struct handles *handles, uint32_t handle, struct vfile **ret)
{
	struct vfile *file = NULL;

	pthread_mutex_lock(&handles->lock);
	if (handle < handles->used && handle && handles->entry[handle].file)
		file = vfile_ref(handles->entry[handle].file);
	pthread_mutex_unlock(&handles->lock);
	if (!file)
		return -EBADF;
	*ret = file;
	return 0;
}

bool handles_has(struct handles *handles, uint32_t handle, const struct vnode *node)
{
	struct vfile *file = NULL;
	bool has;

	pthread_mutex_lock(&handles->lock);
	if (handle < handles->used && handle)
		file = handles->entry[handle].file;
	has = file && (!node || vfile_node(file) == node);
	pthread_mutex_unlock(&handles->lock);
	return has;
}

int handles_take(struct handles *handles, uint32_t handle, struct vfile **ret)
{
	struct vfile *file = NULL;

	pthread_mutex_lock(&handles->lock);
	if (handle < handles->used && handle && handles->entry[handle].file) {
		file = handles->entry[handle].file;
		handles->entry[handle].file = NULL;
		handles->entry[handle].next_free = handles->first_free;
		handles->first_free = handle;
	}
	pthread_mutex_unlock(&handles->lock);
	if (!file)
		return -EBADF;
	*ret = file;
	return 0;
}
