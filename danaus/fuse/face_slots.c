/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for our /dev/fuse descriptors, below those of every descriptor of our own mounts. When
 * danausd is killed, the kernel closes its descriptors in ascending order, and closing a file of
 * our own mount sends FLUSH to us: with /dev/fuse still open, that waits for an answer for ever and
 * the process can never be reaped. Any thread. */
#include "danaus/fuse/face_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static struct {
	pthread_once_t once;
	pthread_mutex_t lock;
	int null_fd;
	int number[FACE_MAX]; /* held by a copy of null_fd while free */
	bool used[FACE_MAX];
} slots = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static void reserve(void)
{
	slots.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (unsigned i = 0; i < FACE_MAX; i++)
		slots.number[i] = fcntl(slots.null_fd, F_DUPFD_CLOEXEC, 0);
}

void face_reserve(void)
{
	pthread_once(&slots.once, reserve);
}

int face_slot_take(int dev_fuse, int *ret)
{
	int r = -EMFILE;

	face_reserve();
	pthread_mutex_lock(&slots.lock);
	for (unsigned i = 0; i < FACE_MAX; i++) {
		if (slots.used[i] || slots.number[i] < 0)
			continue;
		r = dup3(dev_fuse, slots.number[i], O_CLOEXEC) < 0 ? -errno : 0;
		if (r == 0) {
			slots.used[i] = true;
			*ret = slots.number[i];
		}
		break;
	}
	pthread_mutex_unlock(&slots.lock);
	return r;
}

void face_slot_give(int number)
{
	pthread_mutex_lock(&slots.lock);
	for (unsigned i = 0; i < FACE_MAX; i++) {
		if (!slots.used[i] || slots.number[i] != number)
			continue;
		dup3(slots.null_fd, number, O_CLOEXEC); /* the number is never free in between */
		slots.used[i] = false;
	}
	pthread_mutex_unlock(&slots.lock);
}
