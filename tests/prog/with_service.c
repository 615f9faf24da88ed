/* SPDX-License-Identifier: Apache-2.0 */
/* with_service [-n] [-p] [-c CEPH.CONF -k KEYRING] DANAUSD LIBDANAUS INIT TARGET=SOURCE... --
 * PROGRAM [ARGUMENT...]
 *
 * Runs PROGRAM with directories served by a danausd of its own, in a private mount namespace that
 * looks like a container's: /.danaus, the kernel faces, the filter, the preloaded library. Needs
 * root. -n: without the notify door; -p: without the library. -c, -k: what ceph: sources use, as
 * client.admin. The exit code is the program's. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "danaus/base/fd.h"
#include "danaus/proto/mount_table.h"
#include "hooks/service.h"

#define FD_BASE	    16384
#define LIGHT_LIMIT 18000
#define MESSAGE_MAX 65536

static struct {
	bool notify, preload;
	const char *ceph_conf, *keyring, *danausd, *library, *init;
	char **volumes;
	int nvolumes;
	char **program;
	char dir[64], guest[256];
	pid_t service;
} run = {.notify = true, .preload = true};

static void die(const char *what)
{
	fprintf(stderr, "with_service: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void check(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void copy_into_guest(const char *from, const char *name, mode_t mode)
{
	char to[320], *data;
	size_t len;
	int fd;

	snprintf(to, sizeof(to), "%s/%s", run.guest, name);
	check(fd_read_file_at(AT_FDCWD, from, 64 << 20, &data, &len) == 0, from);
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	check(fd >= 0 && fd_write_all(fd, data, len) == 0, to);
	close(fd);
	free(data);
}

static void start_service(void)
{
	char ready_fd[16], answer[512];
	int ready[2];
	ssize_t n;

	check(pipe2(ready, O_CLOEXEC) == 0, "pipe");
	run.service = fork();
	check(run.service >= 0, "fork");
	if (run.service == 0) {
		fcntl(ready[1], F_SETFD, 0);
		snprintf(ready_fd, sizeof(ready_fd), "%d", ready[1]);
		if (run.ceph_conf)
			check(putenv((char[]){SERVICE_MALLOC}) == 0, "environment");
		execl(run.danausd, "danausd", "--pool", "test", "--run-dir", run.dir, "--ready-fd",
		      ready_fd, NULL);
		die(run.danausd);
	}
	close(ready[1]);
	n = read(ready[0], answer, sizeof(answer) - 1);
	if (n != 1) {
		answer[n > 0 ? n : 0] = '\0';
		fprintf(stderr, "with_service: danausd: %s\n", answer);
		exit(125);
	}
	close(ready[0]);
}

static json_t *ask(int control, json_t *request, int *fds, unsigned *nfds)
{
	static char answer[MESSAGE_MAX];
	char *text = json_dumps(request, JSON_COMPACT);
	json_t *parsed;
	size_t len;

	check(fd_send(control, text, strlen(text), NULL, 0) == 0, "control socket");
	check(fd_recv(control, answer, sizeof(answer), &len, fds, nfds) == 0, "control socket");
	parsed = json_loadb(answer, len, 0, NULL);
	if (!json_is_true(json_object_get(parsed, "ok"))) {
		fprintf(stderr, "with_service: %.*s\n", (int)len, answer);
		exit(125);
	}
	json_decref(request);
	free(text);
	return parsed;
}

static int attach(int control, pid_t pid, int *fds, unsigned *nfds, json_t **ret_targets)
{
	json_t *volumes = json_array(), *request, *answer;
	char dir[128];

	for (int i = 0; i < run.nvolumes; i++) {
		char *source = strchr(run.volumes[i], '=');
		size_t n = source - run.volumes[i];

		json_array_append_new(volumes,
				      json_pack("{s:s%, s:s, s:b}", "target", run.volumes[i], n,
						"source", source + 1, "ro", 0));
	}
	snprintf(dir, sizeof(dir), "%s/containers/test", run.dir);
	request = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:i}", "op", "attach", "id",
			    "test", "dir", dir, "pid", (int)pid, "fd_base", FD_BASE, "light_limit",
			    LIGHT_LIMIT, "volumes", volumes, "cache_bytes", 256 << 20);
	if (run.ceph_conf)
		json_object_set_new(request, "ceph",
				    json_pack("{s:s, s:s, s:s}", "conf", run.ceph_conf, "keyring",
					      run.keyring, "id", "admin"));
	answer = ask(control, request, fds, nfds);
	*ret_targets = json_object_get(answer, "mounts");
	return 0;
}

static void masks(char *ret, size_t cap_bytes)
{
	static const char *const names[] = {"CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"};
	unsigned long long set[5] = {0};
	char line[256];
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof(line), status))
		for (int i = 0; i < 5; i++)
			if (!strncmp(line, names[i], 6))
				set[i] = strtoull(line + 8, NULL, 16);
	if (status)
		fclose(status);
	snprintf(ret, cap_bytes, "%llx:%llx:%llx:%llx:%llx", set[0], set[1], set[2], set[3],
		 set[4]);
}

/* The container's side: waits for its mounts, then becomes the program. */
static void be_container(int sock)
{
	struct rlimit limit;
	char text[MESSAGE_MAX], caps[128];
	int fds[MOUNT_TABLE_MAX], arguments = 0;
	unsigned nfds = MOUNT_TABLE_MAX;
	json_t *targets, *target;
	char **argv;
	size_t len, i;

	check(unshare(CLONE_NEWNS) == 0, "unshare");
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "make / private");
	check(write(sock, "", 1) == 1, "socket");
	check(fd_recv(sock, text, sizeof(text), &len, fds, &nfds) == 0 && len, "mounts");
	targets = json_loadb(text, len, JSON_DECODE_ANY, NULL);
	json_array_foreach (targets, i, target) {
		check(syscall(SYS_move_mount, fds[i], "", AT_FDCWD, json_string_value(target),
			      4 /* MOVE_MOUNT_F_EMPTY_PATH */) == 0,
		      json_string_value(target));
		close(fds[i]);
	}
	mkdir("/.danaus", 0755);
	check(mount(run.guest, "/.danaus", NULL, MS_BIND, NULL) == 0, "/.danaus");
	close(sock);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 1024;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (run.preload)
		setenv("LD_PRELOAD", "/.danaus/libdanaus.so", 1);
	if (!run.notify) {
		execvp(run.program[0], run.program);
		die(run.program[0]);
	}
	while (run.program[arguments])
		arguments++;
	argv = calloc(arguments + 3, sizeof(*argv));
	check(argv != NULL, "memory");
	masks(caps, sizeof(caps));
	argv[0] = (char *)"init";
	argv[1] = caps;
	memcpy(argv + 2, run.program, arguments * sizeof(*argv));
	execv("/.danaus/init", argv);
	die("/.danaus/init");
}

int main(int argc, char **argv)
{
	int pair[2], control, status, option, fds[MOUNT_TABLE_MAX];
	unsigned nfds = MOUNT_TABLE_MAX;
	char path[128], byte, *text;
	json_t *targets;
	pid_t pid;

	while ((option = getopt(argc, argv, "+npc:k:")) >= 0) {
		if (option == 'n')
			run.notify = false;
		else if (option == 'p')
			run.preload = false;
		else if (option == 'c')
			run.ceph_conf = optarg;
		else if (option == 'k')
			run.keyring = optarg;
		else
			return 125;
	}
	argv += optind;
	if (argc - optind < 6)
		return fprintf(stderr, "with_service: see its first lines\n"), 125;
	run.danausd = argv[0];
	run.library = argv[1];
	run.init = argv[2];
	run.volumes = argv + 3;
	while (run.volumes[run.nvolumes] && strcmp(run.volumes[run.nvolumes], "--"))
		run.nvolumes++;
	run.program = run.volumes + run.nvolumes + 1;
	strcpy(run.dir, "/tmp/with-service-XXXXXX");
	check(mkdtemp(run.dir) && chmod(run.dir, 0755) == 0, run.dir);
	snprintf(path, sizeof(path), "%s/containers", run.dir);
	check(mkdir(path, 0755) == 0, path);
	snprintf(path, sizeof(path), "%s/containers/test", run.dir);
	check(mkdir(path, 0755) == 0, path);
	snprintf(run.guest, sizeof(run.guest), "%s/guest", path);
	check(mkdir(run.guest, 0755) == 0, run.guest);
	copy_into_guest(run.library, "libdanaus.so", 0755);
	copy_into_guest(run.init, "init", 0755);
	start_service();
	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
	pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		close(pair[0]);
		be_container(pair[1]);
	}
	close(pair[1]);
	check(read(pair[0], &byte, 1) == 1, "container");
	snprintf(path, sizeof(path), "%s/pools/test/control", run.dir);
	check(fd_connect_at(AT_FDCWD, path, &control) == 0, path);
	attach(control, pid, fds, &nfds, &targets);
	text = json_dumps(targets, JSON_COMPACT);
	check(fd_send(pair[0], text, strlen(text), fds, nfds) == 0, "container");
	while (nfds)
		close(fds[--nfds]);
	check(waitpid(pid, &status, 0) == pid, "wait");
	kill(run.service, SIGTERM);
	waitpid(run.service, NULL, 0);
	nftw(run.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
