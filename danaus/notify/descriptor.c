/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing. A number is looked at by a copy (pidfd_getfd(2)): close(2) is not notified, so
 * nothing can be remembered of it. New numbers lie in [light_limit, the process's limit), where the
 * client library allocates none; while one is chosen the caller's `numbers` lock is held, so that
 * two threads of one program never get the same. */
#include "danaus/notify/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "danaus/fuse/face.h"

/* A copy of number fd of the caller, or a negative errno (-EBADF: free). */
static int copy_of(struct call *call, int fd)
{
	char path[48];
	int copy;

	copy = (int)syscall(SYS_pidfd_getfd, process_pidfd(call->caller->process), fd, 0);
	if (copy >= 0)
		return copy;
	if (errno != ESRCH)
		return -errno;
	/* Its first thread has ended, the others go on: the caller's own table of files. */
	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", call->tid, fd);
	copy = open(path, O_PATH | O_CLOEXEC);
	if (copy >= 0)
		return copy;
	return errno == ENOENT ? -EBADF : -errno;
}

int64_t descriptor_find_anchor(struct call *call, int fd, struct vfile **ret, int *ret_anchor)
{
	struct anchors *anchors = call->container->pool->anchors;
	CLEANUP_FD int copy = -1;
	struct stat st;
	int64_t r = ncall_caller(call);

	if (r)
		return r;
	copy = copy_of(call, fd);
	if (copy == -EMFILE || copy == -ENFILE || copy == -ENOMEM)
		return -ENFILE; /* the service's own limit: the number may well be good */
	if (copy < 0)
		return CALL_CONTINUE;
	if (fstat(copy, &st) || st.st_dev != anchors_dev(anchors) ||
	    anchor_find_ino(anchors, st.st_ino, ret))
		return CALL_CONTINUE;
	*ret_anchor = STEAL_FD(copy);
	return 0;
}

int64_t descriptor_find(struct call *call, int fd, struct vfile **ret)
{
	CLEANUP_FD int anchor = -1;

	return descriptor_find_anchor(call, fd, ret, &anchor);
}

/* Sets the caller's soft limit of open files. prlimit(2) wants CAP_SYS_RESOURCE, or that the target
 * has no other ids than the calling thread's real ones: where the service lacks the capability this
 * thread takes them meanwhile (and may be killed by who has the same, so not for nothing). */
static int change_limit(struct call *call, const struct rlimit *want, struct rlimit *ret_old)
{
	pid_t pid = process_pid(call->caller->process);
	const struct cred *cred = call->ctx.cred;
	int r;

	cred_assume_service(); /* setresuid(2) changes the fsuid as well */
	r = prlimit(pid, RLIMIT_NOFILE, want, ret_old) ? -errno : 0;
	if (r != -EPERM || !(cred->ruid || cred->rgid))
		return r;
	syscall(SYS_setresgid, cred->rgid, -1, -1);
	syscall(SYS_setresuid, cred->ruid, -1, -1);
	r = prlimit(pid, RLIMIT_NOFILE, want, ret_old) ? -errno : 0;
	syscall(SYS_setresuid, 0, -1, -1);
	syscall(SYS_setresgid, 0, -1, -1);
	return r;
}

/* Up to the hard limit: libcs take a descriptor at or above the soft one for a bad one. */
static int raise_limit(struct call *call, int number)
{
	struct caller *caller = call->caller;
	struct rlimit limit;

	if (!call->ctx.cred || change_limit(call, NULL, &limit))
		return -EPERM;
	if (limit.rlim_max <= (rlim_t)number)
		return -EMFILE;
	if (!caller->soft_files)
		caller->soft_files = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	return change_limit(call, &limit, NULL);
}

void descriptor_limit_back(struct call *call)
{
	struct caller *caller = call->caller;
	struct rlimit limit;

	if (!caller || !caller->soft_files || ncall_begin(call))
		return;
	pthread_mutex_lock(&caller->numbers);
	if (!change_limit(call, NULL, &limit) && limit.rlim_cur == limit.rlim_max) {
		limit.rlim_cur = caller->soft_files;
		change_limit(call, &limit, NULL);
	}
	caller->soft_files = 0;
	pthread_mutex_unlock(&caller->numbers);
}

/* caller->numbers is held. */
static int add(struct call *call, int fd, int number, int flags, bool answer)
{
	int r = ncall_add_descriptor(call, fd, number, flags, answer);

	if ((r == -EBADF || r == -EMFILE) && !raise_limit(call, number))
		r = ncall_add_descriptor(call, fd, number, flags, answer);
	return r;
}

int64_t descriptor_give_anchor(struct call *call, int anchor, int flags)
{
	struct caller *caller = call->caller;
	int first = call->container->light_limit, start, number, r;
	bool wrapped = false;
	int64_t result = CALL_CONTINUE;

	pthread_mutex_lock(&caller->numbers);
	start = number = caller->next_number >= first ? caller->next_number : first;
	for (;;) {
		int copy = copy_of(call, number);

		if (copy >= 0) {
			fd_close(copy);
			number++;
			goto next;
		}
		if (copy != -EBADF)
			break;
		r = add(call, anchor, number, flags, true);
		if (r >= 0) {
			caller->next_number = number;
			result = CALL_ANSWERED;
			break;
		}
		if (r == -ENOENT || r == -EINPROGRESS) {
			result = CALL_GONE;
			break;
		}
		if (r == -EBUSY) { /* another thread of the program opens it just now */
			number++;
			continue;
		}
		if (r != -EBADF && r != -EMFILE)
			break;
		/* Above the limit: what is free below where the search began? */
		if (wrapped || start == first)
			break;
		wrapped = true;
		number = first;
	next:
		if (wrapped && number >= start) {
			result = -EMFILE;
			break;
		}
	}
	pthread_mutex_unlock(&caller->numbers);
	return result;
}

int64_t descriptor_replace(struct call *call, int from, int to, int flags)
{
	CLEANUP_FD int there = -1;
	CLEANUP_FD int copy = -1;
	int64_t r = ncall_begin(call);
	int added;

	if (r)
		return r;
	there = copy_of(call, to);
	copy = there < 0 ? -1 : copy_of(call, from);
	if (copy < 0)
		return CALL_CONTINUE;
	pthread_mutex_lock(&call->caller->numbers);
	added = add(call, copy, to, flags, true);
	pthread_mutex_unlock(&call->caller->numbers);
	if (added < 0)
		return added == -ENOENT ? CALL_GONE : CALL_CONTINUE;
	return CALL_ANSWERED;
}

int64_t descriptor_give(struct call *call, struct vfile *file, int flags)
{
	struct anchors *anchors = call->container->pool->anchors;
	int64_t r;
	int anchor;

	if (anchor_give(anchors, file, process_pid(call->caller->process), &anchor))
		return CALL_CONTINUE;
	r = descriptor_give_anchor(call, anchor, flags);
	anchor_give_done(anchors, anchor);
	return r;
}

int descriptor_kernel_file(struct call *call, struct vfile *file, int *ret_fd)
{
	struct container *container = call->container;
	struct vfs_instance *instance = vnode_instance(vfile_node(file));

	for (unsigned i = 0; i < container->nvolumes; i++) {
		struct volume *volume = &container->volumes[i];

		if (volume->instance == instance)
			return volume->face ? face_kernel_fd(volume->face, file, ret_fd) : -ENXIO;
	}
	return -ENXIO;
}

/* The number's close-on-exec flag: proc(5), /proc/pid/fdinfo. */
static int cloexec_of(struct call *call, int fd)
{
	char path[64], text[512];
	CLEANUP_FD int info = -1;
	const char *at;
	ssize_t n;

	cred_assume_service();
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", call->tid, fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "flags:");
	return at && (strtoul(at + 6, NULL, 8) & O_CLOEXEC) ? O_CLOEXEC : 0;
}

int64_t descriptor_to_kernel(struct call *call, int fd)
{
	struct vfile *file;
	CLEANUP_FD int kernel = -1;
	int64_t r;
	int added;

	if (fd < call->container->fd_base)
		return 0;
	r = descriptor_find(call, fd, &file);
	if (r)
		return r == CALL_CONTINUE ? 0 : r;
	r = ncall_begin(call);
	if (!r)
		r = descriptor_kernel_file(call, file, &kernel);
	vfile_unref(file);
	if (r)
		return r == CALL_CONTINUE ? 0 : r;
	pthread_mutex_lock(&call->caller->numbers);
	added = add(call, kernel, fd, cloexec_of(call, fd), false);
	pthread_mutex_unlock(&call->caller->numbers);
	if (added < 0)
		return added == -ENOENT ? CALL_GONE : added;
	return 0;
}
