/* SPDX-License-Identifier: Apache-2.0 */
/* What a process is and becomes: fork, exec, working directory, identity, limits.
 *
 * Before descriptors can reach another process they get a form that means something there (fdtab.h,
 * fd_export_all()). A fork's child starts its own connection when it needs one. */
#include "preload/wrap.h"

#define CLONE_VM_    0x100
#define CLONE_FILES_ 0x400
#define CLONE_VFORK_ 0x4000

void fork_prepare(void)
{
	if (root.fds)
		fd_export_all(false);
}

void fork_child(void)
{
	if (atomic_load(&root.state) != ROOT_ON)
		return;
	root_check_fork();
	if (!root.live) { /* another thread of the parent may have been attaching */
		atomic_store(&root.lock, 0);
		root.socket = -1;
	}
	root.kernel_calls_left = FORK_KERNEL_CALLS;
}

/* The program's own limit for the next one. */
static void limit_restore(void)
{
	struct rlimit_ limit;

	if (!root.soft_raised || SYS4(prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
		return;
	limit.soft = root.soft_limit;
	SYS4(prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
}

void exec_prepare(void)
{
	if (!root.fds || thread.vfork_child)
		return;
	root_check_fork();
	fd_export_all(true);
	limit_restore();
}

void exec_failed(void)
{
	if (root.fds && !thread.vfork_child && root.soft_raised)
		limit_raise();
}

long do_execveat(int dirfd, const char *path, char *const *argv, char *const *envp, int flags)
{
	struct ofile *file;
	int fd = -1;
	long r;

	if (dirfd >= root.fd_base && fd_find(dirfd, &file) > 0) {
		r = file_kernel_fd(file, &fd);
		ofile_put(file);
		if (r < 0)
			return r;
		SYS(fcntl, fd, F_SETFD, 0); /* a script's interpreter opens it by its number */
		dirfd = fd;
	}
	exec_prepare();
	r = SYS6(execveat, dirfd, path, argv, envp, flags, GATE_COOKIE);
	exec_failed();
	if (fd >= 0)
		SYS(close, fd, 0, 0);
	return r;
}

long do_fexecve(int fd, char *const *argv, char *const *envp)
{
	return do_execveat(fd, "", argv, envp, AT_EMPTY_PATH);
}

struct start {
	int (*fn)(void *arg);
	void *arg;
};

/* The child of a vfork-like clone, on its own stack but with its parent's thread block. */
static int start_vfork_child(void *opaque)
{
	struct start *start = opaque;

	thread.vfork_child = 1;
	return start->fn(start->arg);
}

static int start_child(void *opaque)
{
	struct start *start = opaque;

	fork_child();
	return start->fn(start->arg);
}

long do_clone(int (*fn)(void *), void *stack, int flags, void *arg, void *ptid, void *tls,
	      void *ctid)
{
	struct start start = {fn, arg};
	int (*first)(void *) = NULL;
	uint32_t was = thread.vfork_child;
	int r;

	if (!(flags & CLONE_FILES_))
		fork_prepare();
	if (!(flags & CLONE_VM_))
		first = start_child;
	else if (flags & CLONE_VFORK_ && !(flags & CLONE_FILES_))
		first = start_vfork_child;
	r = first ? LIBC(int, clone)(first, stack, flags, &start, ptid, tls, ctid)
		  : LIBC(int, clone)(fn, stack, flags, arg, ptid, tls, ctid);
	if (first == start_vfork_child)
		thread.vfork_child = was;
	return r < 0 ? -*__errno_location() : r;
}

long do_chdir(const char *path)
{
	long r = GATE(chdir, path, 0, 0, 0, 0);

	if (root_on() && !thread.vfork_child)
		path_forget_cwd(true);
	return r;
}

static long chdir_file(struct ofile *f)
{
	int fd;
	long r;

	if (!S_ISDIR(f->type))
		return -ENOTDIR;
	r = file_kernel_fd(f, &fd);
	if (r < 0)
		return r;
	r = SYS(fchdir, fd, 0, 0);
	SYS(close, fd, 0, 0);
	return r;
}

long do_fchdir(int fd)
{
	long r = FD_CALL(fd, chdir_file(f), SYS(fchdir, fd, 0, 0));

	if (root_on() && !thread.vfork_child)
		path_forget_cwd(true);
	return r;
}

long do_chroot(const char *path)
{
	long r = GATE(chroot, path, 0, 0, 0, 0);

	if (r == 0 && root_on() && !thread.vfork_child) {
		root.foreign = true;
		path_forget_cwd(true);
	}
	return r;
}

long do_umask(unsigned mask)
{
	if (!thread.vfork_child)
		root.umask = mask & 0777;
	return SYS(umask, mask, 0, 0);
}

long rights_changed(long r)
{
	int error = *__errno_location();

	if (r == 0 && !thread.vfork_child && atomic_load(&root.state) == ROOT_ON) {
		struct call call;

		root_check_fork();
		if (atomic_load(&root.channel) && call_begin(&call, WIRE_RIGHTS) == 0) {
			call_run(&call);
			call_end(&call);
		}
		*__errno_location() = error;
	}
	return r;
}

long program_open_max(void)
{
	return root.soft_raised ? (long)root.soft_limit : -1;
}

/* The raised limit is this library's business: the program sees and sets its own. */
static long own_limit(const struct rlimit_ *set, struct rlimit_ *ret)
{
	struct rlimit_ now, raised;
	long r = SYS4(prlimit64, 0, RLIMIT_NOFILE, NULL, &now);

	if (r < 0)
		return r;
	now.soft = root.soft_limit;
	if (set) {
		if (set->soft > set->hard)
			return -EINVAL;
		raised = (struct rlimit_){set->hard, set->hard};
		r = SYS4(prlimit64, 0, RLIMIT_NOFILE, &raised, NULL);
		if (r < 0)
			return r;
		root.soft_limit = (uint32_t)set->soft;
	}
	if (ret)
		*ret = now;
	return 0;
}

long do_prlimit(int pid, unsigned resource, const struct rlimit_ *set, struct rlimit_ *ret)
{
	bool self = pid == 0 || pid == SYS(getpid, 0, 0, 0);
	long r;

	if (self && resource == RLIMIT_NOFILE && root.soft_raised && !thread.vfork_child &&
	    !(set && bad_address(set, sizeof(*set))) && !(ret && bad_address(ret, sizeof(*ret))))
		return own_limit(set, ret);
	r = SYS4(prlimit64, pid, resource, set, ret);
	if (r == 0 && self && resource == RLIMIT_FSIZE && set)
		root.fsize_limit = set->soft;
	return r;
}
