/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that change what is remembered of the caller. The kernel carries all of them out; the door
 * only forgets. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "danaus/notify/calls_fd.h"
#include "danaus/notify/resolve.h"

int64_t sys_rights(struct call *call)
{
	ncall_changes(call, true);
	return CALL_CONTINUE;
}

int64_t sys_fs_state(struct call *call)
{
	ncall_changes(call, false);
	return CALL_CONTINUE;
}

int64_t sys_fchdir(struct call *call)
{
	int64_t r = descriptor_to_kernel(call, (int)call->arg[0]);

	if (r)
		return r;
	ncall_changes(call, false);
	return CALL_CONTINUE;
}

static int64_t exec(struct call *call)
{
	if (!ncall_caller_known(call))
		return CALL_CONTINUE; /* a child on its way to its program, mostly */
	descriptor_limit_back(call);
	ncall_changes(call, false);
	return CALL_CONTINUE;
}

/* Its identity is read again when the new program makes its first call. A program that is one of
 * its own descriptors (fexecve(3)) has to be a file that the kernel can read. */
int64_t sys_exec(struct call *call)
{
	char path[64];
	const char *rest;
	int64_t r;
	int fd = -1;

	if (!call->crowded && memory_string(call->tid, call->arg[0], path, sizeof(path)) > 0)
		fd = path_descriptor(path, 0, &rest);
	if (fd >= 0 && !*rest && (r = descriptor_to_kernel(call, fd)))
		return r;
	return exec(call);
}

int64_t sys_execveat(struct call *call)
{
	int64_t r = descriptor_to_kernel(call, (int)call->arg[0]);

	return r ? r : exec(call);
}

/* From here on its threads may differ in what is remembered per process. */
int64_t sys_unshare(struct call *call)
{
	int64_t r = ncall_caller(call);

	if (r)
		return r;
	ncall_changes(call, true);
	caller_never_remember(call->caller);
	return CALL_CONTINUE;
}

/* io_uring(7) takes descriptors where no filter sees them. Programs that use it ask whether it is
 * there, and do without it. */
int64_t sys_absent(struct call *call)
{
	return -ENOSYS;
}

int64_t sys_prlimit(struct call *call)
{
	if (!call->arg[2])
		return CALL_CONTINUE;
	if ((int)call->arg[0])
		atomic_store(&call->door->fsize_never, true);
	ncall_changes(call, false);
	return CALL_CONTINUE;
}
