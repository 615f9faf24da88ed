/* SPDX-License-Identifier: Apache-2.0 */
/* maps DIR: many threads that lock and map files, with the capabilities that a container leaves.
 * Linked statically: the notify door's receivers are made while others wait, and each must be able
 * to do all that the service may. Checks itself. */
#include <err.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS 64
#define TURNS	10
#define BYTES	8192

static const char *top;
static pthread_barrier_t start;

static void *work(void *arg)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/map%p", top, arg);
	pthread_barrier_wait(&start);
	for (int i = 0; i < TURNS; i++) {
		int fd = open(path, O_RDWR | O_CREAT, 0600);
		char *map;

		if (fd < 0 || pwrite(fd, "x", 1, BYTES - 1) != 1 || flock(fd, LOCK_EX))
			err(1, "%s", path);
		map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			err(1, "mapping %s", path);
		munmap(map, BYTES);
		close(fd);
	}
	return NULL;
}

static int crowd(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	top = argv[1];
	if (argc > 2)
		return crowd();
	if (prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH) || prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN))
		err(1, "prctl");
	if (syscall(SYS_capget, &head, data))
		err(1, "capget");
	data[0].effective &= ~(1u << CAP_DAC_READ_SEARCH | 1u << CAP_SYS_ADMIN);
	data[0].permitted = data[0].effective;
	if (syscall(SYS_capset, &head, data))
		err(1, "capset");
	execl("/proc/self/exe", "maps", top, "again", NULL);
	err(1, "exec");
}
