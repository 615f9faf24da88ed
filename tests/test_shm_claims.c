/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads look for work in one channel and are stopped anywhere: each request is begun by
 * one of them, and answered. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void stop_here(void);
#define CLAIMS_POINT stop_here
#include "danaus/shm/claims.h"

#define OWNERS	 3
#define CLIENTS	 2 /* and as many slots */
#define REQUESTS 3000

static struct shm_channel memory, *const channel = &memory;
static struct claims claims;
static atomic_bool ending;
static atomic_uint served[CLIENTS], running[CLIENTS], twice;
static __thread unsigned dice;

/* Lets the others run: not at all, once, or for a while. */
static void stop_here(void)
{
	dice = dice * 1103515245u + 12345u;
	for (unsigned n = (dice >> 16) % 8; n > 4; n--)
		sched_yield();
}

static void *own(void *arg)
{
	dice = (unsigned)(uintptr_t)arg;
	while (!atomic_load(&ending)) {
		uint64_t again;
		int slot = claims_next(&claims, channel, &again);

		if (slot < 0) {
			sched_yield();
			continue;
		}
		stop_here();
		if ((atomic_load(&channel->slot[slot].state) & 0xff) != SLOT_POSTED) {
			claims_end(&claims, channel, slot);
			continue;
		}
		if (atomic_fetch_add(&running[slot], 1))
			atomic_fetch_add(&twice, 1);
		stop_here();
		atomic_fetch_add(&served[slot], 1);
		atomic_fetch_sub(&running[slot], 1);
		atomic_exchange(&channel->slot[slot].state, SLOT_DONE);
		claims_end(&claims, channel, slot);
	}
	return NULL;
}

static void ring(unsigned slot)
{
	atomic_fetch_or(&channel->doorbell, 1ull << slot);
}

/* Every other request is rung for once more, as for a cancellation, now and then when it is over.
 */
static void *post(void *arg)
{
	unsigned slot = (unsigned)(uintptr_t)arg;

	dice = slot + 77;
	for (unsigned i = 0; i < REQUESTS; i++) {
		atomic_store(&channel->slot[slot].state, SLOT_POSTED);
		ring(slot);
		stop_here();
		if (i % 2)
			ring(slot);
		while ((atomic_load(&channel->slot[slot].state) & 0xff) != SLOT_DONE)
			sched_yield();
	}
	return NULL;
}

static void each_request_is_served_once(void **state)
{
	pthread_t owner[OWNERS], client[CLIENTS];

	for (uintptr_t i = 0; i < OWNERS; i++)
		assert_int_equal(pthread_create(&owner[i], NULL, own, (void *)(i + 1)), 0);
	for (uintptr_t i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&client[i], NULL, post, (void *)i), 0);
	for (unsigned i = 0; i < CLIENTS; i++) /* a lost request: meson's time limit ends it */
		pthread_join(client[i], NULL);
	atomic_store(&ending, true);
	for (unsigned i = 0; i < OWNERS; i++)
		pthread_join(owner[i], NULL);
	for (unsigned i = 0; i < CLIENTS; i++)
		assert_int_equal(served[i], REQUESTS);
	assert_int_equal(twice, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_request_is_served_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
