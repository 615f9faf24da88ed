/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the built init (argv[1]) in a root of its own, with this test as its service. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/proto/attach.h"
#include "hooks/loader.h"

#define ADMIN	(1ull << CAP_SYS_ADMIN)
#define SETPCAP (1ull << CAP_SETPCAP)
#define CHOWN	(1ull << CAP_CHOWN)
#define KILL	(1ull << CAP_KILL)

static const char *init_path;
static char tmp[64];
static int listen_fd;

struct run {
	const char *masks; /* init's first argument */
	char *program[4];  /* what init runs */
	const char *path;  /* PATH=... */
	uid_t uid;	   /* of the container's process */
	uint64_t given;	   /* all five sets when init starts; 0: what the test has */
	bool busy;	   /* a listener is in the chain already */
	bool no_service;   /* nobody listens */
	int answer;	   /* the service's answer */
	/* results */
	int status;
	bool listener; /* the service got one */
	char out[8192];
};

static void write_filter(const struct sock_filter *insns, size_t bytes)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/.danaus/filter", tmp);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_int_equal(write(fd, insns, bytes), bytes);
	close(fd);
}

static void allow_all(void)
{
	const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

	write_filter(&allow, sizeof(allow));
}

static int setup(void **state)
{
	static const char *const dirs[] = {".danaus", "bin", "etc", "lib", "lib64", "proc", "usr"};
	char path[128];

	strcpy(tmp, "/tmp/danaus-test-init-XXXXXX");
	if (!mkdtemp(tmp) || chmod(tmp, 0755) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", tmp, dirs[i]);
		if (mkdir(path, 0755) < 0)
			return -1;
	}
	snprintf(path, sizeof(path), "%s/.danaus/init", tmp);
	close(open(path, O_WRONLY | O_CREAT, 0755));
	allow_all();
	snprintf(path, sizeof(path), "%s/.danaus", tmp);
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	int r = fd_listen_at(dir, "attach", 0666, &listen_fd);
	close(dir);
	return r;
}

static int teardown(void **state)
{
	static const char *const files[] = {
	    ".danaus/attach", ".danaus/filter", ".danaus/init", ".danaus", "bin", "etc", "lib",
	    "lib64",	      "proc",		"usr",		""};
	char path[128];

	close(listen_fd);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", tmp, files[i]);
		remove(path);
	}
	return 0;
}

/* In the child: what a runtime does before it executes the first program. */
static void enter_root(const struct run *run)
{
	static const char *const bound[] = {"bin", "etc", "lib", "lib64", "proc", "usr"};
	char from[64], to[128];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(77);
	for (size_t i = 0; i < sizeof(bound) / sizeof(bound[0]); i++) {
		snprintf(from, sizeof(from), "/%s", bound[i]);
		snprintf(to, sizeof(to), "%s/%s", tmp, bound[i]);
		if (access(from, F_OK) == 0 && mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
			_exit(77);
	}
	snprintf(to, sizeof(to), "%s/.danaus/init", tmp);
	if (mount(init_path, to, NULL, MS_BIND, NULL) < 0 || chroot(tmp) < 0 || chdir("/") < 0)
		_exit(78);
	if (run->no_service && unlink("/.danaus/attach") < 0)
		_exit(78);
}

static void give_caps(const struct run *run)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (!run->given)
		return;
	for (int cap = 0; cap < 64; cap++) {
		if (!(run->given >> cap & 1) && prctl(PR_CAPBSET_READ, cap) == 1 &&
		    prctl(PR_CAPBSET_DROP, cap) < 0)
			_exit(78);
	}
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 ||
	    (run->uid && setresuid(run->uid, run->uid, run->uid) < 0))
		_exit(78);
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted = data[i].inheritable = run->given >> 32 * i;
	if (syscall(SYS_capset, &header, data) < 0)
		_exit(78);
	for (int cap = 0; cap < 64; cap++) {
		if (run->given >> cap & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			_exit(78);
	}
}

static void make_busy(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			 &program);

	if (fd < 0 || fcntl(fd, F_SETFD, 0) < 0) /* it counts for as long as it is open */
		_exit(78);
}

/* Answers one init, if it comes before it says something or ends. */
static void serve(struct run *run, int out)
{
	struct pollfd either[] = {{.fd = listen_fd, .events = POLLIN},
				  {.fd = out, .events = POLLIN}};

	if (poll(either, 2, -1) < 0 || !either[0].revents)
		return;
	struct attach_welcome welcome = {.error = run->answer};
	struct attach_hello hello = {0};
	CLEANUP_FD int sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	unsigned nfds = 1;
	size_t len = 0;
	int fd = -1;

	/* Busy: init goes away without a word. */
	if (fd_recv(sock, &hello, sizeof(hello), &len, &fd, &nfds) < 0 || !len)
		return;
	assert_int_equal(len, sizeof(hello));
	assert_int_equal(hello.magic, ATTACH_MAGIC);
	assert_int_equal(hello.version, WIRE_VERSION);
	assert_int_equal(hello.kind, ATTACH_LISTENER);
	run->listener = nfds == 1;
	fd_send(sock, &welcome, sizeof(welcome), NULL, 0);
	if (nfds)
		close(fd);
}

static void run_init(struct run *run)
{
	int out[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char *argv[] = {"/.danaus/init", (char *)run->masks, run->program[0],
				run->program[1], run->program[2],    NULL};
		char *envp[] = {(char *)(run->path ? run->path : "PATH=/bin:/usr/bin"), NULL};

		dup2(out[1], 1);
		dup2(out[1], 2);
		enter_root(run);
		if (run->busy)
			make_busy();
		give_caps(run);
		execve(argv[0], argv, envp);
		_exit(78);
	}
	close(out[1]);
	serve(run, out[0]);
	while ((n = read(out[0], run->out + len, sizeof(run->out) - 1 - len)) > 0)
		len += n;
	run->out[len] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	run->status = WEXITSTATUS(status);
	if (run->status == 77)
		skip();	       /* no mount namespaces here */
	if (run->no_service) { /* the test's own listener is unreachable by name now */
		char path[128];

		close(listen_fd);
		snprintf(path, sizeof(path), "%s/.danaus", tmp);
		int dir = open(path, O_RDONLY | O_DIRECTORY);
		assert_int_equal(fd_listen_at(dir, "attach", 0666, &listen_fd), 0);
		close(dir);
	}
}

/* "Name:\tVALUE" in /proc/self/status, hexadecimal. */
static uint64_t field(const struct run *run, const char *name)
{
	const char *at = strstr(run->out, name);

	if (!at)
		fail_msg("no %s in: %s", name, run->out);
	return strtoull(at + strlen(name) + 1, NULL, 16);
}

static void root_has_exactly_its_sets(void **state)
{
	struct run run = {.masks = "1:1:0:1:0",
			  .program = {"cat", "/proc/self/status"},
			  .given = ADMIN | SETPCAP | CHOWN};

	run_init(&run);
	assert_int_equal(run.status, 0);
	assert_true(run.listener);
	assert_int_equal(field(&run, "CapBnd:"), CHOWN);
	assert_int_equal(field(&run, "CapPrm:"), CHOWN);
	assert_int_equal(field(&run, "CapEff:"), CHOWN);
	assert_int_equal(field(&run, "CapInh:"), 0);
	assert_int_equal(field(&run, "CapAmb:"), 0);
	assert_int_equal(field(&run, "Seccomp:"), 2);
}

#ifdef LOADER_PATH
static void only_the_loader_goes_by_the_filter(void **state)
{
	/* As the service's, but a path call is refused instead of notified. */
	const struct sock_filter no_openat[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct run echo = {.masks = "1:1:0:1:0", .program = {"/bin/echo", "it runs"}};
	struct run cat = {.masks = "1:1:0:1:0", .program = {"/bin/cat", "/etc/passwd"}};
	struct rlimit stack;

	if (access(LOADER_PATH, R_OK) < 0 || getrlimit(RLIMIT_STACK, &stack) < 0 ||
	    stack.rlim_cur == RLIM_INFINITY)
		skip(); /* no such loader, or it is mapped elsewhere */
	write_filter(no_openat, sizeof(no_openat));
	run_init(&echo);
	run_init(&cat);
	allow_all();
	assert_string_equal(echo.out, "it runs\n");
	assert_int_equal(echo.status, 0);
	assert_non_null(strstr(cat.out, strerror(EXDEV)));
	assert_int_equal(cat.status, 1);
}
#endif

static void a_user_keeps_ambient_ones_alone(void **state)
{
	struct run run = {.masks = "21:20:20:20:20",
			  .program = {"cat", "/proc/self/status"},
			  .uid = 1000,
			  .given = ADMIN | SETPCAP | CHOWN | KILL};

	run_init(&run);
	assert_int_equal(run.status, 0);
	assert_true(run.listener);
	assert_int_equal(field(&run, "CapBnd:"), CHOWN | KILL);
	assert_int_equal(field(&run, "CapPrm:"), KILL);
	assert_int_equal(field(&run, "CapEff:"), KILL);
	assert_int_equal(field(&run, "CapInh:"), KILL);
	assert_int_equal(field(&run, "CapAmb:"), KILL);
}

static void ambient_ones_must_be_inheritable(void **state)
{
	struct run run = {.masks = "21:21:1:21:21",
			  .program = {"cat", "/proc/self/status"},
			  .given = ADMIN | SETPCAP | CHOWN | KILL};

	run_init(&run);
	assert_int_equal(run.status, 0);
	assert_int_equal(field(&run, "CapInh:"), CHOWN);
	assert_int_equal(field(&run, "CapAmb:"), CHOWN);
}

static void a_user_without_any_has_none(void **state)
{
	struct run run = {.masks = "0:0:0:0:0",
			  .program = {"cat", "/proc/self/status"},
			  .uid = 1000,
			  .given = ADMIN | SETPCAP};
	static const char *const fields[] = {"CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"};

	run_init(&run);
	assert_int_equal(run.status, 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(field(&run, fields[i]), 0);
}

static void another_listener_is_a_warning(void **state)
{
	struct run run = {.masks = "1:1:0:1:0",
			  .program = {"echo", "it runs"},
			  .given = ADMIN | SETPCAP | CHOWN,
			  .busy = true};

	run_init(&run);
	assert_int_equal(run.status, 0);
	assert_false(run.listener);
	assert_non_null(strstr(run.out, "another agent"));
	assert_non_null(strstr(run.out, "it runs"));
}

static void a_missing_service_is_a_warning(void **state)
{
	struct run run = {.masks = "1:1:0:1:0",
			  .program = {"echo", "it runs"},
			  .given = ADMIN | SETPCAP | CHOWN,
			  .no_service = true};

	run_init(&run);
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "/.danaus/attach: not found"));
	assert_non_null(strstr(run.out, "it runs"));
}

static void a_service_that_refuses_is_an_error(void **state)
{
	struct run run = {.masks = "1:1:0:1:0",
			  .program = {"echo", "it runs"},
			  .given = ADMIN | SETPCAP | CHOWN,
			  .answer = -EUSERS};

	run_init(&run);
	assert_int_equal(run.status, 126);
	assert_null(strstr(run.out, "it runs"));
	assert_non_null(strstr(run.out, "too many"));
}

static void programs_are_found_as_execvp_does(void **state)
{
	static const struct {
		const char *path, *program, *says;
		int status;
	} rows[] = {
	    {"PATH=/nonexistent:/etc/passwd:/bin", "echo", "argument", 0},
	    {"X=PATH=/bin", "echo", "argument", 0}, /* no PATH: the default */
	    {"PATH=/bin", "/bin/echo", "argument", 0},
	    {"PATH=:/etc", "bin/echo", "argument", 0},
	    {"PATH=/nonexistent", "echo", "executable file `echo` not found in $PATH", 127},
	    {"PATH=/bin", "nothing-of-this-name", "not found", 127},
	    {"PATH=/bin", "/nonexistent/echo", "not found", 127},
	    {"PATH=/bin", "", "not found", 127},
	    {"PATH=/bin", "/etc/passwd", "Permission denied", 126},
	    {"PATH=/etc", "passwd", "Permission denied", 126},
	    {"PATH=/bin", "/etc", "Permission denied", 126},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct run run = {.masks = "1:1:0:1:0",
				  .path = rows[i].path,
				  .program = {(char *)rows[i].program, "argument"}};

		run_init(&run);
		if (run.status != rows[i].status || !strstr(run.out, rows[i].says))
			fail_msg("%s with %s: %d %s", rows[i].program, rows[i].path, run.status,
				 run.out);
	}
}

static void wrong_masks_run_nothing(void **state)
{
	static const char *const rows[] = {"", "1", "x", "1111111111111111111"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct run run = {.masks = rows[i], .program = {"echo", "it runs"}};

		run_init(&run);
		assert_int_equal(run.status, 126);
		assert_null(strstr(run.out, "it runs"));
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(root_has_exactly_its_sets),
#ifdef LOADER_PATH
	    cmocka_unit_test(only_the_loader_goes_by_the_filter),
#endif
	    cmocka_unit_test(a_user_keeps_ambient_ones_alone),
	    cmocka_unit_test(ambient_ones_must_be_inheritable),
	    cmocka_unit_test(a_user_without_any_has_none),
	    cmocka_unit_test(another_listener_is_a_warning),
	    cmocka_unit_test(a_missing_service_is_a_warning),
	    cmocka_unit_test(a_service_that_refuses_is_an_error),
	    cmocka_unit_test(programs_are_found_as_execvp_does),
	    cmocka_unit_test(wrong_masks_run_nothing),
	};

	if (argc < 2 || geteuid() != 0) {
		fprintf(stderr, "skipped: needs root, and the path of init\n");
		return 77;
	}
	init_path = argv[1];
	return cmocka_run_group_tests(tests, setup, teardown);
}
