/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that make, change and read names. */
#include "preload/wrap.h"

long do_mknodat(int dirfd, const char *path, unsigned mode, uint64_t rdev)
{
	TARGET(target, dirfd, path);
	struct path_args args = {.op = WIRE_MAKE, .mode = mode, .offset = rdev, .needs_name = true};
	long r;

	if (!(mode & S_IFMT))
		args.mode |= S_IFREG;
	if (S_ISDIR(mode))
		return -EPERM;
	r = path_do(&target, &args);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(mknodat, target.dirfd, target.path, mode, rdev, 0));
	return r;
}

long do_mkdirat(int dirfd, const char *path, unsigned mode)
{
	TARGET(target, dirfd, path);
	struct path_args args = {
	    .op = WIRE_MAKE, .mode = S_IFDIR | (mode & 07777), .needs_name = true};
	long r = path_do(&target, &args);

	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(mkdirat, target.dirfd, target.path, mode, 0, 0));
	return r;
}

long do_symlinkat(const char *content, int dirfd, const char *path)
{
	TARGET(target, dirfd, path);
	struct path_args args = {
	    .op = WIRE_MAKE, .mode = S_IFLNK | 0777, .data = content, .needs_name = true};
	size_t n;
	long r = PATH_KERNEL;

	if (!bad_address(content, 1)) {
		n = strlen(content);
		if (!n)
			return -ENOENT;
		if (n >= WIRE_PATH_MAX)
			return -ENAMETOOLONG;
		args.data_bytes = (uint32_t)n + 1;
		r = path_do(&target, &args);
	}
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(symlinkat, content, target.dirfd, target.path, 0, 0));
	return r;
}

/* Both names are the kernel's, or it knows best how to refuse. */
static long two_kernel(unsigned op, struct target *from, struct target *to, unsigned flags)
{
	int from_dir = -1, to_dir = -1;
	long r;

	r = target_kernel_dir(from, &from_dir);
	if (r >= 0)
		r = target_kernel_dir(to, &to_dir);
	if (r < 0)
		;
	else if (op == WIRE_LINK)
		r = GATE(linkat, from->dirfd, from->path, to->dirfd, to->path, flags);
	else if (flags)
		r = GATE(renameat2, from->dirfd, from->path, to->dirfd, to->path, flags);
	else
		r = GATE(renameat, from->dirfd, from->path, to->dirfd, to->path, 0);
	if (from_dir >= 0)
		SYS(close, from_dir, 0, 0);
	if (to_dir >= 0)
		SYS(close, to_dir, 0, 0);
	return r;
}

static long two_names(unsigned op, struct target *from, struct target *to, unsigned flags)
{
	struct path_args args = {.op = op, .flags = flags};
	struct call call;
	long r;

	if (op == WIRE_LINK && flags & AT_SYMLINK_FOLLOW && !bad_address(from->path, 1) &&
	    path_own_fd(from->path) >= 0)
		args.flags |= AT_EMPTY_PATH; /* /proc/self/fd/N: how O_TMPFILE gets a name */
	r = path_run_two(from, to, &args, &call);
	call_end(&call);
	return r == PATH_KERNEL ? two_kernel(op, from, to, flags) : r;
}

long do_linkat(int from_dirfd, const char *from, int to_dirfd, const char *to, int flags)
{
	TARGET(old, from_dirfd, from);
	TARGET(new, to_dirfd, to);

	if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	old.empty = flags & AT_EMPTY_PATH;
	return two_names(WIRE_LINK, &old, &new, (unsigned)flags);
}

long do_renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)
{
	TARGET(old, from_dirfd, from);
	TARGET(new, to_dirfd, to);

	return two_names(WIRE_RENAME, &old, &new, flags);
}

long do_unlinkat(int dirfd, const char *path, int flags)
{
	TARGET(target, dirfd, path);
	struct path_args args = {
	    .op = WIRE_UNLINK, .flags = (uint32_t)flags & AT_REMOVEDIR, .needs_name = true};
	long r;

	if (flags & ~AT_REMOVEDIR)
		return -EINVAL;
	r = path_do(&target, &args);
	if (r == PATH_KERNEL)
		return KERNEL(target, GATE(unlinkat, target.dirfd, target.path, flags, 0, 0));
	return r;
}

long do_remove(const char *path)
{
	long r = do_unlinkat(AT_FDCWD, path, 0), second;

	if (r != -EISDIR && r != -EPERM)
		return r;
	second = do_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
	return second == -ENOTDIR ? r : second;
}

/* What a link of /proc says about one of our numbers: the kernel face's name of the file. */
static long read_own_fd(struct ofile *f, char *buf, size_t cap_bytes)
{
	char path[32] = "/proc/self/fd/", digits[12];
	size_t n = strlen(path), d = 0;
	int fd, number;
	long r = file_kernel_fd(f, &fd);

	if (r < 0)
		return r;
	number = fd;
	do
		digits[d++] = (char)('0' + number % 10);
	while (number /= 10);
	while (d)
		path[n++] = digits[--d];
	path[n] = '\0';
	r = GATE(readlinkat, AT_FDCWD, path, buf, cap_bytes, 0);
	SYS(close, fd, 0, 0);
	return r;
}

long do_readlinkat(int dirfd, const char *path, char *buf, size_t cap_bytes)
{
	TARGET(target, dirfd, path);
	struct leased leased;
	struct path_args args = {.op = WIRE_READLINK, .leased = &leased};
	struct call call;
	long r;

	if (bad_address(path, 1) || !cap_bytes || bad_address(buf, cap_bytes))
		return GATE(readlinkat, dirfd, path, buf, cap_bytes, 0);
	if (*path == '/' && (path[1] == 'p' || path[1] == 'd')) {
		int fd = path_own_fd(path);

		if (fd >= root.fd_base && fd_is_ours(fd))
			return FD_CALL(fd, read_own_fd(f, buf, cap_bytes), -ENOENT);
	}
	target.empty = true; /* of a symlink that was opened with O_PATH */
	r = path_run(&target, &args, &call);
	if (r == -EINVAL && !*path)
		r = -ENOENT;
	if (r == 0) {
		r = (long)call_reply(&call)->value;
		if ((size_t)r > cap_bytes)
			r = (long)cap_bytes;
		memcpy(buf, call.payload, (size_t)r);
	}
	call_end(&call);
	if (r == PATH_KERNEL)
		return KERNEL(target,
			      GATE(readlinkat, target.dirfd, target.path, buf, cap_bytes, 0));
	return r;
}
