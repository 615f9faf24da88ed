/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's inode numbers. A number is a slot of a table and the slot's generation, so that a
 * number that the kernel no longer holds (or that a program put into a made-up file handle) is
 * recognised. Any thread; one lock, held for a few instructions. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <stdlib.h>

#define NODES_MAX (4u << 20)

/* id = generation << 32 | slot + 1. */
static uint32_t slot_of(uint64_t id)
{
	return (uint32_t)id - 1;
}

static uint32_t *bucket_of(struct face_nodes *nodes, const struct vnode *vnode)
{
	uint64_t h = ((uintptr_t)vnode >> 4) * 0x9e3779b97f4a7c15ull;

	return &nodes->bucket[(h >> 32) & (nodes->nbuckets - 1)];
}

struct face_node *face_node_at(struct face_nodes *nodes, uint64_t id)
{
	uint32_t slot = slot_of(id);

	if (slot >= nodes->nslots || nodes->slot[slot].id != id || !nodes->slot[slot].vnode)
		return NULL;
	return &nodes->slot[slot];
}

static struct face_node *node_of(struct face_nodes *nodes, const struct vnode *vnode)
{
	for (uint32_t i = *bucket_of(nodes, vnode); i != 0; i = nodes->slot[i - 1].next)
		if (nodes->slot[i - 1].vnode == vnode)
			return &nodes->slot[i - 1];
	return NULL;
}

static int grow(struct face_nodes *nodes)
{
	uint32_t n = nodes->nslots ? nodes->nslots * 2 : 256;
	struct face_node *slot;
	uint32_t *bucket;

	if (n > NODES_MAX)
		return -ENFILE;
	slot = realloc(nodes->slot, n * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	nodes->slot = slot;
	bucket = calloc(n, sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	free(nodes->bucket);
	nodes->bucket = bucket;
	nodes->nbuckets = n;
	for (uint32_t i = 0; i < nodes->nslots; i++) { /* all in use: there was no free one */
		uint32_t *b = bucket_of(nodes, slot[i].vnode);

		slot[i].next = *b;
		*b = i + 1;
	}
	for (uint32_t i = n; i-- > nodes->nslots;) {
		slot[i] = (struct face_node){.id = i + 1, .next = nodes->free, .io_fd = -1};
		nodes->free = i + 1;
	}
	nodes->nslots = n;
	return 0;
}

int face_node_enter(struct face_nodes *nodes, struct vnode *vnode, uint64_t size, uint64_t *ret_id)
{
	struct face_node *node;
	bool known;
	int r = 0;

	pthread_mutex_lock(&nodes->lock);
	node = node_of(nodes, vnode);
	known = node != NULL;
	if (!known && nodes->free == 0)
		r = grow(nodes);
	if (!known && r == 0) {
		uint32_t *b = bucket_of(nodes, vnode);

		node = &nodes->slot[nodes->free - 1];
		nodes->free = node->next;
		__atomic_fetch_add(&nodes->used, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&nodes->made, 1, __ATOMIC_RELAXED);
		node->vnode = vnode;
		node->next = *b;
		*b = (uint32_t)(node - nodes->slot) + 1;
	}
	if (r == 0) {
		node->nlookup++;
		node->size = size;
		node->asked = true;
		*ret_id = node->id;
	}
	pthread_mutex_unlock(&nodes->lock);
	if (known || r < 0)
		vnode_unref(vnode);
	return r;
}

void face_node_forget(struct face_nodes *nodes, uint64_t id, uint64_t count)
{
	struct vnode *vnode = NULL;
	struct face_node *node;
	int32_t backing = 0;

	pthread_mutex_lock(&nodes->lock);
	node = face_node_at(nodes, id);
	if (node && node->nlookup <= count) {
		uint32_t slot = slot_of(id), *link = bucket_of(nodes, node->vnode);

		while (*link != slot + 1)
			link = &nodes->slot[*link - 1].next;
		*link = node->next;
		vnode = node->vnode;
		backing = node->backing;
		if (backing)
			vnode_face_apart(vnode, node->backing_written);
		*node = (struct face_node){
		    .id = node->id + (1ull << 32), .next = nodes->free, .io_fd = -1};
		nodes->free = slot + 1;
		__atomic_fetch_sub(&nodes->used, 1, __ATOMIC_RELAXED);
	} else if (node) {
		node->nlookup -= count;
	}
	pthread_mutex_unlock(&nodes->lock);
	if (backing)
		face_backing_close(nodes->face, backing);
	if (vnode)
		vnode_unref(vnode);
}

unsigned face_nodes_idle(struct face_nodes *nodes, uint64_t *ids, unsigned cap)
{
	unsigned n = 0;

	pthread_mutex_lock(&nodes->lock);
	for (uint32_t seen = 0; seen < nodes->nslots && n < cap; seen++) {
		struct face_node *node = &nodes->slot[nodes->hand];

		nodes->hand = (nodes->hand + 1) % nodes->nslots;
		if (node->vnode && !node->asked && node->id != FUSE_ROOT_ID)
			ids[n++] = node->id;
		node->asked = false;
	}
	pthread_mutex_unlock(&nodes->lock);
	return n;
}

struct vnode *face_node_get(struct face_nodes *nodes, uint64_t id)
{
	struct face_node *node;
	struct vnode *vnode;

	pthread_mutex_lock(&nodes->lock);
	node = face_node_at(nodes, id);
	vnode = node ? vnode_ref(node->vnode) : NULL;
	if (node)
		node->asked = true;
	pthread_mutex_unlock(&nodes->lock);
	return vnode;
}

uint64_t face_node_find_locked(struct face_nodes *nodes, const struct vnode *vnode)
{
	struct face_node *node = node_of(nodes, vnode);

	return node ? node->id : 0;
}

uint64_t face_node_find(struct face_nodes *nodes, const struct vnode *vnode)
{
	uint64_t id;

	pthread_mutex_lock(&nodes->lock);
	id = face_node_find_locked(nodes, vnode);
	pthread_mutex_unlock(&nodes->lock);
	return id;
}

void face_node_set_size(struct face_nodes *nodes, uint64_t id, uint64_t size)
{
	struct face_node *node;

	pthread_mutex_lock(&nodes->lock);
	node = face_node_at(nodes, id);
	if (node)
		node->size = size;
	pthread_mutex_unlock(&nodes->lock);
}

int face_nodes_init(struct face_nodes *nodes, struct face_mount *face, struct vnode *root)
{
	uint64_t id;
	int r;

	*nodes = (struct face_nodes){.lock = PTHREAD_MUTEX_INITIALIZER, .face = face};
	r = grow(nodes);
	if (r < 0)
		return r;
	/* The first slot: FUSE_ROOT_ID. The kernel never forgets it. */
	return face_node_enter(nodes, vnode_ref(root), 0, &id);
}

void face_nodes_done(struct face_nodes *nodes)
{
	for (uint32_t i = 0; i < nodes->nslots; i++) {
		struct face_node *node = &nodes->slot[i];

		if (node->backing) {
			vnode_face_apart(node->vnode, node->backing_written);
			face_backing_close(nodes->face, node->backing);
		}
		if (node->vnode)
			vnode_unref(node->vnode);
	}
	free(nodes->slot);
	free(nodes->bucket);
	pthread_mutex_destroy(&nodes->lock);
}
