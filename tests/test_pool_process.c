/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/pool/process.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/pool/loop.h"
#include "danaus/pool/pool.h"
#include "danaus/pool/workers.h"
#include "danaus/shm/client.h"

static sem_t owner_gone;
static uint64_t gone_owner;

void vfs_owner_gone(struct vfs *vfs, uint64_t owner)
{
	gone_owner = owner;
	sem_post(&owner_gone);
}

void anchors_closed(struct anchors *anchors)
{
}

bool shm_server_settle(struct shm_server *server, struct container *container)
{
	return true;
}

static struct leases leases;
static struct pool pool = {.leases = &leases};
static pthread_t loop_thread;

static ino_t own_ns(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static struct container own_container(void)
{
	return (struct container){.pool = &pool,
				  .id = "0123456789abcdef-no-such-container",
				  .init_pid = getpid(),
				  .user_ns = own_ns("/proc/self/ns/user"),
				  .mnt_ns = own_ns("/proc/self/ns/mnt"),
				  .pid_ns = own_ns("/proc/self/ns/pid")};
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int start(void **state)
{
	sem_init(&owner_gone, 0, 0);
	if (leases_init(&leases))
		return -1;
	if (loop_new(&pool.loop) || workers_new(4, 16, 256 << 10, &pool.workers))
		return -1;
	return pthread_create(&loop_thread, NULL, run_loop, pool.loop);
}

static int stop(void **state)
{
	loop_stop(pool.loop);
	pthread_join(loop_thread, NULL);
	workers_free(pool.workers);
	loop_free(pool.loop);
	leases_done(&leases);
	return 0;
}

static void volumes_are_found_by_their_longest_target(void **state)
{
	static const struct {
		const char *path;
		int volume; /* -1: none */
		const char *rest;
	} rows[] = {
	    {"/data", 1, ""},	     {"/data/", 1, ""},		 {"/data/a/b", 1, "a/b"},
	    {"/data//a", 1, "a"},    {"//data/./a", 1, "a"},	 {"/data/sub", 0, ""},
	    {"/data/sub/x", 0, "x"}, {"/data/./sub//x", 0, "x"}, {"/data/subx", 1, "subx"},
	    {"/datax", -1, NULL},    {"/dat", -1, NULL},	 {"/", -1, NULL},
	    {"/data/.", 1, ""},	     {"/data/..", 1, ".."},	 {"/data/.hidden", 1, ".hidden"},
	};
	static struct container container = {
	    .nvolumes = 2, .volumes = {{.target = "/data/sub"}, {.target = "/data"}}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *rest = NULL;
		struct volume *found = container_volume_of(&container, rows[i].path, &rest);

		if (rows[i].volume < 0) {
			assert_null(found);
			continue;
		}
		assert_ptr_equal(found, &container.volumes[rows[i].volume]);
		assert_string_equal(rest, rows[i].rest);
	}
}

struct thread {
	struct container *container;
	sem_t up, go;
	pid_t tid;
};

static void *live_a_while(void *arg)
{
	struct thread *thread = arg;

	thread->tid = syscall(SYS_gettid);
	sem_post(&thread->up);
	while (sem_wait(&thread->go) < 0)
		;
	return NULL;
}

static void a_thread_is_of_its_process_while_it_lives(void **state)
{
	struct container container = own_container();
	struct process *process, *by_thread;
	struct thread thread = {.container = &container};
	struct cred *cred;
	pthread_t handle;
	pid_t tid;

	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, getpid(), &process), 0);
	assert_int_equal(process_pid(process), getpid());
	assert_true(process_owner(process) != 0);
	sem_init(&thread.up, 0, 0);
	sem_init(&thread.go, 0, 0);
	assert_int_equal(pthread_create(&handle, NULL, live_a_while, &thread), 0);
	sem_wait(&thread.up);
	assert_int_equal(process_get(&container, thread.tid, &by_thread), 0);
	assert_ptr_equal(by_thread, process);
	process_unref(by_thread);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(process_get_waiting(&container, thread.tid, &by_thread), 0);
		assert_ptr_equal(by_thread, process);
		process_unref(by_thread);
	}
	assert_int_equal(process_host_tid(process, thread.tid, &tid), 0);
	assert_int_equal(tid, thread.tid);
	assert_int_equal(process_cred(process, tid, &cred), 0);
	assert_int_equal(cred->fsuid, geteuid());
	cred_unref(cred);
	sem_post(&thread.go);
	pthread_join(handle, NULL);
	/* pthread_join() returns a little before the kernel has done with the thread */
	while (syscall(SYS_tgkill, getpid(), thread.tid, 0) == 0)
		sched_yield();
	assert_int_equal(process_host_tid(process, thread.tid, &tid), -ESRCH);
	assert_true(process_get(&container, thread.tid, &by_thread) < 0);
	assert_true(process_cred(process, 1, &cred) < 0); /* another process' */
	process_unref(process);
	processes_free(&container);
}

static void the_end_of_a_process_frees_its_locks(void **state)
{
	struct container container = own_container();
	struct process *process;
	uint64_t owner;
	pid_t child = fork();

	if (child == 0) {
		for (;;)
			pause();
	}
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, child, &process), 0);
	owner = process_owner(process);
	assert_false(process_ended(process));
	kill(child, SIGKILL);
	while (sem_wait(&owner_gone) < 0)
		;
	assert_int_equal(gone_owner, owner);
	assert_true(process_ended(process));
	process_unref(process);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(process_get(&container, child, &process), -ESRCH);
	processes_free(&container);
}

static void settling_hears_of_ends_before_the_loop(void **state)
{
	struct container container = own_container();
	struct process *process;
	pid_t child = fork();

	if (child == 0) {
		for (;;)
			pause();
	}
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, child, &process), 0);
	process_unref(process);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	container_settle(&container);
	/* by the loop or by this thread: it is out of the table now, and told soon */
	while (sem_wait(&owner_gone) < 0)
		;
	processes_free(&container);
}

static void strangers_are_refused(void **state)
{
	struct container container = own_container();
	struct process *process;

	container.mnt_ns = container.pid_ns = 1;
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, getpid(), &process), -EPERM);
	processes_free(&container);
	container = own_container();
	container.user_ns = 1;
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, getpid(), &process), -EPERM);
	processes_free(&container);
	/* the host's pid namespace makes nobody a member */
	container = own_container();
	container.mnt_ns = 1;
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, getpid(), &process), -EPERM);
	processes_free(&container);
}

static void members_of_the_pid_namespace_belong(void **state)
{
	struct container container = own_container();
	struct process *process;
	char path[64], byte;
	int ends[2];
	pid_t outer, inner = 0;

	assert_int_equal(pipe(ends), 0);
	outer = fork();
	if (outer == 0) {
		if (unshare(CLONE_NEWPID) < 0)
			_exit(write(ends[1], &inner, sizeof(inner)) < 0);
		inner = fork();
		if (inner == 0) {
			for (;;)
				pause();
		}
		if (write(ends[1], &inner, sizeof(inner)) < 0)
			_exit(1);
		_exit(waitpid(inner, NULL, 0) < 0);
	}
	assert_int_equal(read(ends[0], &inner, sizeof(inner)), sizeof(inner));
	if (inner == 0) {
		waitpid(outer, NULL, 0);
		skip();
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)inner);
	container.pid_ns = own_ns(path);
	container.mnt_ns = 1;
	container.init_pid = inner;
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, inner, &process), 0);
	assert_int_equal(process_ns_pid(process), 1);
	assert_int_equal(process_host_tid(process, 1, &outer), 0);
	assert_int_equal(outer, inner);
	process_unref(process);
	processes_free(&container);
	kill(inner, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	assert_int_equal(close(ends[1]), 0);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
}

static void an_execve_makes_another_image(void **state)
{
	struct container container = own_container();
	struct process *process;
	uint64_t before, after;
	int in[2], out[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	child = fork();
	if (child == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		if (read(0, &byte, 1) == 1)
			execl("/bin/sh", "sh", "-c", "echo; read x", (char *)NULL);
		_exit(1);
	}
	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, child, &process), 0);
	assert_int_equal(process_image(process, &before), 0);
	assert_int_equal(process_image(process, &after), 0);
	assert_int_equal(before, after);
	assert_int_equal(write(in[1], "x", 1), 1);
	assert_int_equal(read(out[0], &byte, 1), 1);
	assert_int_equal(process_image(process, &after), 0);
	assert_int_not_equal(before, after);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	process_unref(process);
	processes_free(&container);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

static void rights_are_kept_until_they_change(void **state)
{
	struct container container = own_container();
	struct process *process;
	uint32_t version;

	assert_int_equal(processes_new(&container), 0);
	assert_int_equal(process_get(&container, getpid(), &process), 0);
	version = process_rights_version(process);
	assert_int_not_equal(version, 0);
	assert_int_equal(process_rights_version(process), version);
	process_rights_changed(process);
	assert_int_equal(process_rights_version(process), 0);
	process_rights_settled(process);
	assert_int_not_equal(process_rights_version(process), 0);
	assert_int_not_equal(process_rights_version(process), version);
	process_unref(process);
	processes_free(&container);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(volumes_are_found_by_their_longest_target),
	    cmocka_unit_test_setup_teardown(a_thread_is_of_its_process_while_it_lives, start, stop),
	    cmocka_unit_test_setup_teardown(the_end_of_a_process_frees_its_locks, start, stop),
	    cmocka_unit_test_setup_teardown(settling_hears_of_ends_before_the_loop, start, stop),
	    cmocka_unit_test_setup_teardown(strangers_are_refused, start, stop),
	    cmocka_unit_test_setup_teardown(members_of_the_pid_namespace_belong, start, stop),
	    cmocka_unit_test_setup_teardown(an_execve_makes_another_image, start, stop),
	    cmocka_unit_test_setup_teardown(rights_are_kept_until_they_change, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
