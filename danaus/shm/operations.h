/* SPDX-License-Identifier: Apache-2.0 */
/* The operations (proto/ops.def), each a function that turns the wire's fields into a vfs call and
 * its result into the reply's: op_paths.c, op_files.c, op_descriptors.c. call->request and the
 * pieces are a tenant's; call_take() has copied them and checked their shape, the vfs checks their
 * meaning. -errno is the reply's error. */
#pragma once

#include "danaus/shm/dispatch.h"

#define OP(NAME, name, flags, first, second) int op_##name(struct call *call, struct vctx *ctx);
#include "danaus/proto/ops.def"
#undef OP

/* What handle and path name, for CLEANUP_TARGET. -EBADF; -EPERM for a volume's root where the
 * caller is in another mount namespace than the container's. */
static inline int target(struct call *call, uint32_t handle, const char *path, bool nofollow,
			 struct vtarget *ret)
{
	struct container *container = call->session->container;

	*ret = (struct vtarget){.path = path, .nofollow = nofollow};
	if (!WIRE_IS_ROOT(handle))
		return handles_get(&call->session->handles, handle, &ret->file);
	if (call->known->elsewhere)
		return -EPERM;
	if (WIRE_INSTANCE(handle) >= container->nvolumes)
		return -EBADF;
	ret->dir = vfs_instance_root(container->volumes[WIRE_INSTANCE(handle)].instance);
	return 0;
}

static inline void target_done(struct vtarget *at)
{
	vfile_unref(at->file);
}
#define CLEANUP_TARGET __attribute__((cleanup(target_done)))

/* A new reference. -EBADF. */
static inline int file_of(struct call *call, uint32_t handle, struct vfile **ret)
{
	return handles_get(&call->session->handles, handle, ret);
}

/* A count, which sizes the reply's payload too, or a negative errno, that a vfs call returned. */
static inline int counted(struct call *call, int64_t n, bool payload)
{
	if (n < 0)
		return n;
	call->reply.value = n;
	call->reply.len = payload ? n : 0;
	return 0;
}

/* op_paths.c */

/* Into the reply, with the ids that the caller's user namespace has for them. */
void reply_attr(struct call *call, const struct attr *attr);

/* The answer of an operation that opens: a handle for *file, whose reference it takes over on
 * success, and the attributes. As handles_add(). */
static inline int reply_file(struct call *call, struct vfile **file, const struct attr *attr)
{
	uint32_t handle;
	int r = handles_add(&call->session->handles, *file, &handle);

	if (r < 0)
		return r;
	*file = NULL;
	reply_attr(call, attr);
	call->reply.value = handle;
	return 0;
}
