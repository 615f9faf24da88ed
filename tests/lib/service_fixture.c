/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the parts that server.c and container.c own in danausd. */
#include "tests/lib/service_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "danaus/pool/loop.h"
#include "danaus/pool/workers.h"
#include "danaus/server/attach.h"
#include "danaus/shm/client.h"

#define CHECK(expression)                                                                          \
	do {                                                                                       \
		int check_ = (expression);                                                         \
		if (check_ < 0) {                                                                  \
			fprintf(stderr, "fixture: %s: %s (%s)\n", #expression, strerror(-check_),  \
				err.text);                                                         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static ino_t own_ns(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

int service_fixture_start(struct service_fixture *fixture, const char *spec)
{
	struct container *container = &fixture->container;
	struct pool *pool = &fixture->pool;
	struct libservice *ls;
	struct err err = {0};
	char text[128];
	pthread_t thread;

	if (geteuid() != 0)
		return -EPERM;
	memset(fixture, 0, sizeof(*fixture));
	pool->guard_fd = -1;
	strcpy(fixture->dir, "/tmp/danaus-test-XXXXXX");
	CHECK(mkdtemp(fixture->dir) ? 0 : -errno);
	chmod(fixture->dir, 0755);
	fixture->dirfd = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(mkdirat(fixture->dirfd, "data", 0755) ? -errno : 0);
	CHECK(sched_getaffinity(0, sizeof(pool->cpus), &pool->cpus));
	pool->ncpus = CPU_COUNT(&pool->cpus);
	pool->name = pool->dir = fixture->dir;
	CHECK(loop_new(&pool->loop));
	CHECK(workers_new(32, 256, 1 << 20, &pool->workers));
	CHECK(vfs_new(&pool->vfs));
	pool->leases = vfs_leases(pool->vfs);
	CHECK(anchors_new(&pool->anchors, &err));
	CHECK(shm_server_new(pool, &pool->shm));
	*container = (struct container){.pool = pool,
					.id = "danaus-test-container",
					.dir = fixture->dir,
					.init_pid = getpid(),
					.user_ns = own_ns("/proc/self/ns/user"),
					.mnt_ns = own_ns("/proc/self/ns/mnt"),
					.pid_ns = own_ns("/proc/self/ns/pid"),
					.nvolumes = 1};
	CHECK(idmap_read(getpid(), &container->map));
	CHECK(processes_new(container));
	snprintf(text, sizeof(text), "local:%s/data", fixture->dir);
	CHECK(stack_open(spec ? spec : text, NULL, &ls, &err));
	strcpy(container->volumes[0].target, "/data");
	CHECK(vfs_instance_add(pool->vfs, container->id, "/data", ls,
			       &container->volumes[0].instance, &err));
	vfs_instance_set_dev(container->volumes[0].instance, makedev(0, 12345));
	CHECK(attach_start(container, fixture->dirfd, &err));
	snprintf(fixture->socket, sizeof(fixture->socket), "%s/attach", fixture->dir);
	CHECK(-pthread_create(&thread, NULL, run_loop, pool->loop));
	fixture->loop_thread = (void *)(uintptr_t)thread;
	return 0;
}

int service_fixture_or_skip(struct service_fixture *fixture)
{
	if (service_fixture_start(fixture, NULL) == -EPERM) {
		fprintf(stderr, "skipped: needs root\n");
		exit(77);
	}
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void service_fixture_stop(struct service_fixture *fixture)
{
	struct container *container = &fixture->container;
	struct pool *pool = &fixture->pool;

	attach_stop(container);
	processes_free(container);
	workers_drain(pool->workers);
	anchors_closed(pool->anchors);
	anchors_drop_instance(pool->anchors, container->volumes[0].instance);
	vfs_instance_remove(container->volumes[0].instance);
	loop_stop(pool->loop);
	pthread_join((pthread_t)fixture->loop_thread, NULL);
	shm_server_free(pool->shm);
	anchors_free(pool->anchors);
	workers_free(pool->workers);
	vfs_free(pool->vfs);
	loop_free(pool->loop);
	close(fixture->dirfd);
	nftw(fixture->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
