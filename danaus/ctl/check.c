/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl check: what this machine lacks for Danaus. Every line is "ok" or what to do; features
 * of the kernel are tried, not read off its version. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroups/cgroups.h"
#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/ctl/ctl.h"
#include "oci/config.h"
#include "oci/document.h"
#include "oci/edit.h"

#define HOOK_JSON  CTL_PODMAN_HOOKS "/danaus.json"
#define NOFILE_MIN 1024

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* Each check: 0 with a detail in note, 1 when it does not matter here (with the reason), or a
 * negative errno with what to do. */
typedef int check_fn(struct err *note);

static int check_root(struct err *note)
{
	return geteuid() == 0 ? 0
			      : err_set(note, -EPERM, "run as root, or the lines below mislead");
}

static int check_kernel(struct err *note)
{
	struct utsname u;

	uname(&u);
	return err_set(note, 0, "%s", u.release);
}

/* In a child: a filter stays with its process. The result is the child's exit status. */
static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int load_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			     SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			 &program);

	if (fd < 0)
		return errno;
	return ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) < 0
		   ? 200
		   : 0;
}

static int check_seccomp(struct err *note)
{
	int r = in_child(load_filter);

	if (r == 200)
		return err_set(
		    note, 0,
		    "without SYNC_WAKE_UP, so before Linux 6.6: the notify door is slower, "
		    "and files on volumes cannot be mapped shared (SQLite's WAL, LMDB)");
	if (r == EINVAL)
		return err_set(note, -r,
			       "no WAIT_KILLABLE_RECV: use Linux 5.19 or later; containers run "
			       "without the notify door until then");
	return r ? err_set(note, -r, "cannot load a filter with a listener: %s; run as root",
			   strerror(r))
		 : 0;
}

static int check_fuse(struct err *note)
{
	CLEANUP_FD int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC), fs = -1;

	if (dev < 0)
		return err_set(note, -errno, "/dev/fuse: %s; modprobe fuse", strerror(errno));
	fs = syscall(SYS_fsopen, "fuse", FSOPEN_CLOEXEC);
	return fs < 0
		   ? err_set(note, -errno, "fsopen(fuse): %s; run as root, on Linux 5.2 or later",
			     strerror(errno))
		   : 0;
}

static int check_paths(struct err *note)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	CLEANUP_FD int fd = syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));

	return fd < 0
		   ? err_set(note, -errno, "openat2: %s; use Linux 5.6 or later", strerror(errno))
		   : 0;
}

static int check_fanotify(struct err *note)
{
	CLEANUP_FD int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC, O_RDONLY);

	return fd < 0 ? err_set(note, -errno,
				"fanotify: %s; run as root, on Linux 5.1 or later with "
				"CONFIG_FANOTIFY",
				strerror(errno))
		      : 0;
}

static int check_cgroups(struct err *note)
{
	struct cgroups *groups = calloc(1, sizeof(*groups));
	CLEANUP_FREE void *owned = groups;
	int r = groups ? cgroups_of(getpid(), groups, note) : -ENOMEM;

	if (r < 0)
		return r;
	return err_set(note, 0, "%s, %u %s", groups->at[0].v2 ? "v2" : "v1", groups->n,
		       groups->n == 1 ? "hierarchy" : "hierarchies");
}

static int check_nofile(struct err *note)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_max < NOFILE_MIN
		   ? err_set(note, -EMFILE,
			     "the hard limit of open files is %llu: raise it to %d at least",
			     (unsigned long long)limit.rlim_max, NOFILE_MIN)
		   : err_set(note, 0, "hard limit %llu", (unsigned long long)limit.rlim_max);
}

static int check_parts(struct err *note)
{
	static const char *const parts[] = {EDIT_INIT_FILE, EDIT_LIBRARY_FILE, EDIT_HOOK_FILE,
					    DANAUS_LIBEXECDIR "/danausd",
					    DANAUS_BINDIR "/danaus-runtime"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (access(parts[i], R_OK) < 0)
			return err_set(note, -errno, "%s: %s; install Danaus again", parts[i],
				       strerror(errno));
	}
	return 0;
}

/* What the cluster's client would only say when a container starts. */
static int check_identities(const json_t *identities, struct err *note)
{
	static const char *const files[] = {"conf", "keyring"};
	const char *name;
	json_t *identity;

	json_object_foreach ((json_t *)identities, name, identity) {
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			const char *path = json_string_value(json_object_get(identity, files[i]));

			if (path && access(path, R_OK) < 0)
				return err_set(note, -errno, "%s: ceph.%s.%s: %s: %s", CONFIG_PATH,
					       name, files[i], path, strerror(errno));
		}
	}
	return 0;
}

static int check_config(struct err *note)
{
	struct config config;
	int r = config_read(CONFIG_PATH, &config, note);

	if (!r)
		r = check_identities(json_object_get(config.document, "ceph"), note);
	config_done(&config);
	return r ? r : err_set(note, 0, "%s", CONFIG_PATH);
}

static int check_runtime(struct err *note)
{
	struct config config;
	const char *path;
	int r = config_read(CONFIG_PATH, &config, note);

	if (!r)
		r = config_runtime(&config, &path, note);
	if (!r)
		err_set(note, 0, "%s", path);
	config_done(&config);
	return r;
}

static bool in_path(const char *name)
{
	CLEANUP_FREE char *path = strdup(getenv("PATH") ? getenv("PATH") : "/usr/sbin:/usr/bin");
	char *rest = path, *dir, full[4096];

	while ((dir = strsep(&rest, ":"))) {
		snprintf(full, sizeof(full), "%s/%s", dir, name);
		if (access(full, X_OK) == 0)
			return true;
	}
	return false;
}

/* podman skips a hook whose program is missing without a word. */
static int check_podman(struct err *note)
{
	CLEANUP_FREE char *drop_in = NULL;
	CLEANUP_JSON json_t *json = NULL;
	const char *path;
	int r;

	if (!in_path("podman"))
		return err_set(note, 1, "not installed");
	r = document_read_at(AT_FDCWD, HOOK_JSON, &json, note);
	if (r < 0)
		return err_prefix(note, r, "the hook is not registered; install Danaus again");
	path = json_string_value(json_object_get(json_object_get(json, "hook"), "path"));
	if (!path || access(path, X_OK) < 0)
		return err_set(note, -ENOENT,
			       HOOK_JSON " names %s, which cannot be executed: install "
					 "Danaus again",
			       path ? path : "no program");
	if (fd_read_file_at(AT_FDCWD, CTL_PODMAN_DROP_IN, DOCUMENT_MAX, &drop_in, NULL) < 0 ||
	    !strstr(drop_in, CTL_PODMAN_HOOKS))
		return err_set(note, -ENOENT,
			       "podman does not read " HOOK_JSON ": run danausctl configure "
			       "--runtime=podman");
	return 0;
}

static int check_containerd(struct err *note)
{
	if (!in_path("containerd"))
		return err_set(note, 1, "not installed");
	if (!in_path("containerd-shim-runc-v2"))
		return err_set(note, -ENOENT, "containerd-shim-runc-v2 is not in PATH: install it");
	if (!in_path("containerd-shim-danaus-v2"))
		return err_set(note, -ENOENT,
			       "containerd-shim-danaus-v2 is not in PATH: add " DANAUS_BINDIR
			       " to containerd's");
	return 0;
}

static int check_crio(struct err *note)
{
	if (!in_path("crio"))
		return err_set(note, 1, "not installed");
	if (access(CTL_CRIO_DROP_IN, R_OK) < 0)
		return err_set(note, -errno,
			       "it does not know Danaus: run danausctl configure --runtime=crio");
	return 0;
}

static const struct {
	const char *name;
	check_fn *run;
} checks[] = {
    {"root", check_root},
    {"kernel", check_kernel},
    {"seccomp", check_seccomp},
    {"fuse", check_fuse},
    {"paths", check_paths},
    {"fanotify", check_fanotify},
    {"cgroups", check_cgroups},
    {"open files", check_nofile},
    {"installation", check_parts},
    {"configuration", check_config},
    {"runtime", check_runtime},
    {"podman", check_podman},
    {"containerd", check_containerd},
    {"crio", check_crio},
};

int verb_check(int argc, char **argv)
{
	int failed = 0;

	if (argc > 1) {
		fprintf(stderr, "danausctl check: unexpected %s\n", argv[1]);
		return 2;
	}
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct err note = {0};
		int r = checks[i].run(&note);

		printf("%-14s %-7s %s\n", checks[i].name,
		       r < 0 ? "FAILED"
		       : r   ? "skipped"
			     : "ok",
		       r < 0 ? err_text(&note, r) : note.text);
		failed |= r < 0;
	}
	return failed;
}
