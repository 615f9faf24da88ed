/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/face_world.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "danaus/fuse/face.h"
#include "danaus/pool/loop.h"
#include "danaus/pool/workers.h"

struct world w;

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static ino_t own_ns(const char *which)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", which);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

int path_of(char *buf, size_t cap, const char *dir, const char *name)
{
	return snprintf(buf, cap, "%s/%s%s%s", w.base, dir, name ? "/" : "", name ? name : "");
}

static int make_dir(const char *name)
{
	char path[128];

	path_of(path, sizeof(path), name, NULL);
	assert_int_equal(mkdir(path, 0777), 0);
	assert_int_equal(chmod(path, 0777), 0);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool world_possible(void)
{
	if (geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0 && unshare(CLONE_NEWNS) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	fprintf(stderr, "skipped: needs root, /dev/fuse and mount namespaces\n");
	return false;
}

void world_base(void)
{
	snprintf(w.base, sizeof(w.base), "/var/tmp/test-face-XXXXXX");
	assert_non_null(mkdtemp(w.base));
}

int world_setup(void **state)
{
	char back[128], face[128];
	struct libservice *ls;
	struct err err = {""};
	int mount_fd;

	umask(0);
	if (!w.base[0])
		world_base();
	assert_int_equal(mount("tmpfs", w.base, "tmpfs", 0, "mode=755"), 0);
	close(make_dir("back"));
	close(make_dir("face"));
	w.plain = make_dir("plain");

	w.pool.guard_fd = -1;
	assert_int_equal(vfs_new(&w.pool.vfs), 0);
	w.pool.leases = vfs_leases(w.pool.vfs);
	assert_int_equal(anchors_new(&w.pool.anchors, &err), 0);
	assert_int_equal(loop_new(&w.pool.loop), 0);
	assert_int_equal(workers_new(16, 64, 256 << 10, &w.pool.workers), 0);
	assert_int_equal(pthread_create(&w.loop, NULL, run_loop, w.pool.loop), 0);
	w.container = (struct container){
	    .pool = &w.pool,
	    .id = (char *)"test",
	    .init_pid = getpid(),
	    .user_ns = own_ns("user"),
	    .mnt_ns = own_ns("mnt"),
	    .pid_ns = own_ns("pid"),
	    .nvolumes = 1,
	};
	assert_int_equal(idmap_read(getpid(), &w.container.map), 0);
	assert_int_equal(processes_new(&w.container), 0);
	w.volume = &w.container.volumes[0];
	path_of(back, sizeof(back), "back", NULL);
	path_of(face, sizeof(face), "face", NULL);
	snprintf(w.volume->target, sizeof(w.volume->target), "%s", face);
	assert_int_equal(local_new(back, &ls, &err), 0);
	assert_int_equal(vfs_instance_add(w.pool.vfs, "test", face, ls, &w.volume->instance, &err),
			 0);
	if (face_start(&w.container, w.volume, &mount_fd, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(move_mount(mount_fd, "", AT_FDCWD, face, MOVE_MOUNT_F_EMPTY_PATH), 0);
	close(mount_fd);
	w.face = open(face, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w.face >= 0);
	w.ctx = (struct vctx){
	    .cred = cred_root(), .owner = 1ull << 40, .pid = 1, .fsize_limit = UINT64_MAX};
	return 0;
}

int world_teardown(void **state)
{
	char path[128];
	struct stat st;

	/* The end of the face: a program gets ENOTCONN. */
	face_stop(w.volume->face);
	assert_int_equal(fstat(w.face, &st), -1);
	assert_int_equal(errno, ENOTCONN);
	close(w.face);
	close(w.plain);
	path_of(path, sizeof(path), "face", NULL);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
	processes_free(&w.container);
	anchors_drop_instance(w.pool.anchors, w.volume->instance);
	vfs_instance_remove(w.volume->instance);
	loop_stop(w.pool.loop);
	pthread_join(w.loop, NULL);
	workers_free(w.pool.workers);
	anchors_free(w.pool.anchors);
	vfs_free(w.pool.vfs);
	loop_free(w.pool.loop);
	cred_unref(w.ctx.cred);
	assert_int_equal(umount2(w.base, MNT_DETACH), 0);
	return rmdir(w.base);
}

pid_t child(void (*fn)(void *), void *arg)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(arg);
		_exit(0);
	}
	return pid;
}

int verdict(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}
