/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes. */
#include "preload/wrap.h"

#define NAME_MAX_  255
#define VALUE_MAX_ 65536

static bool bad_name(const char *name, long *ret_error)
{
	size_t n;

	if (bad_address(name, 1)) {
		*ret_error = -EFAULT;
		return true;
	}
	n = strlen(name);
	*ret_error = -ERANGE;
	return n == 0 || n > NAME_MAX_;
}

/* The reply's value and, where the caller has room, its bytes. */
static long take(long r, struct call *call, void *to, size_t cap_bytes)
{
	if (r == 0) {
		r = (long)call_reply(call)->value;
		if (cap_bytes && (size_t)r > cap_bytes)
			r = -ERANGE;
		else if (cap_bytes)
			memcpy(to, call->payload, (size_t)r);
	}
	call_end(call);
	return r;
}

long do_getxattr(int fd, const char *path, const char *name, void *value, size_t cap_bytes,
		 int flags)
{
	TARGET(target, AT_FDCWD, path);
	struct path_args args = {.op = WIRE_GETXATTR,
				 .flags = (uint32_t)flags,
				 .size = cap_bytes < VALUE_MAX_ ? cap_bytes : VALUE_MAX_,
				 .data = name};
	struct call call;
	long r;

	if (bad_name(name, &r))
		return r;
	if (cap_bytes && bad_address(value, cap_bytes))
		return -EFAULT;
	args.data_bytes = (uint32_t)strlen(name) + 1;
	if (fd >= 0)
		return FD_CALL(fd,
			       f->flags & O_PATH
				   ? -EBADF
				   : take(file_run(f, &args, &call), &call, value, cap_bytes),
			       SYS4(fgetxattr, fd, name, value, cap_bytes));
	r = take(path_run(&target, &args, &call), &call, value, cap_bytes);
	if (r != PATH_KERNEL)
		return r;
	return flags ? GATE(lgetxattr, target.path, name, value, cap_bytes, 0)
		     : GATE(getxattr, target.path, name, value, cap_bytes, 0);
}

long do_setxattr(int fd, const char *path, const char *name, const void *value, size_t len_bytes,
		 int xattr_flags, int flags)
{
	TARGET(target, AT_FDCWD, path);
	char data[NAME_MAX_ + 1 + 4096], *big = NULL;
	struct path_args args = {
	    .op = WIRE_SETXATTR, .flags = (uint32_t)flags, .mode = (uint32_t)xattr_flags};
	size_t n;
	long r, p;

	if (bad_name(name, &r))
		return r;
	if (len_bytes > VALUE_MAX_)
		return -E2BIG;
	if (len_bytes && bad_address(value, len_bytes))
		return -EFAULT;
	n = strlen(name) + 1;
	args.data = data;
	args.data_bytes = (uint32_t)(n + len_bytes);
	if (args.data_bytes > sizeof(data)) {
		p = SYS6(mmap, NULL, args.data_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (failed(p))
			return p;
		args.data = big = (char *)p;
	}
	memcpy((char *)args.data, name, n);
	memcpy((char *)args.data + n, value, len_bytes);
	if (fd >= 0)
		r = FD_CALL(fd, f->flags & O_PATH ? -EBADF : file_do(f, &args),
			    SYS6(fsetxattr, fd, name, value, len_bytes, xattr_flags, 0));
	else
		r = path_do(&target, &args);
	if (big)
		SYS(munmap, big, args.data_bytes, 0);
	if (fd >= 0 || r != PATH_KERNEL)
		return r;
	return flags ? GATE(lsetxattr, target.path, name, value, len_bytes, xattr_flags)
		     : GATE(setxattr, target.path, name, value, len_bytes, xattr_flags);
}

long do_listxattr(int fd, const char *path, char *names, size_t cap_bytes, int flags)
{
	TARGET(target, AT_FDCWD, path);
	struct path_args args = {.op = WIRE_LISTXATTR,
				 .flags = (uint32_t)flags,
				 .size = cap_bytes < VALUE_MAX_ ? cap_bytes : VALUE_MAX_};
	struct call call;
	long r;

	if (cap_bytes && bad_address(names, cap_bytes))
		return -EFAULT;
	if (fd >= 0)
		return FD_CALL(fd,
			       f->flags & O_PATH
				   ? -EBADF
				   : take(file_run(f, &args, &call), &call, names, cap_bytes),
			       SYS(flistxattr, fd, names, cap_bytes));
	r = take(path_run(&target, &args, &call), &call, names, cap_bytes);
	if (r != PATH_KERNEL)
		return r;
	return flags ? GATE(llistxattr, target.path, names, cap_bytes, 0, 0)
		     : GATE(listxattr, target.path, names, cap_bytes, 0, 0);
}

long do_removexattr(int fd, const char *path, const char *name, int flags)
{
	TARGET(target, AT_FDCWD, path);
	struct path_args args = {.op = WIRE_REMOVEXATTR, .flags = (uint32_t)flags, .data = name};
	long r;

	if (bad_name(name, &r))
		return r;
	args.data_bytes = (uint32_t)strlen(name) + 1;
	if (fd >= 0)
		return FD_CALL(fd, f->flags & O_PATH ? -EBADF : file_do(f, &args),
			       SYS(fremovexattr, fd, name, 0));
	r = path_do(&target, &args);
	if (r != PATH_KERNEL)
		return r;
	return flags ? GATE(lremovexattr, target.path, name, 0, 0, 0)
		     : GATE(removexattr, target.path, name, 0, 0, 0);
}
