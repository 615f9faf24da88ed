/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/pool/workers.h"

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "danaus/libservices/cred.h"

#define STACK (256u << 10)

int cred_thread(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	return -pthread_create(ret, attr, main, arg);
}

void cred_assume_service(void)
{
}

static atomic_int done;
static sem_t started, go;

static void count(void *arg)
{
	atomic_fetch_add(&done, 1);
}

static void block(void *arg)
{
	sem_post(&started);
	while (sem_wait(&go) < 0)
		;
	atomic_fetch_add(&done, 1);
}

static int setup(void **state)
{
	atomic_store(&done, 0);
	sem_init(&started, 0, 0);
	return sem_init(&go, 0, 0);
}

static void every_task_runs_once(void **state)
{
	struct workers *workers;
	int given = 0;

	assert_int_equal(workers_new(4, 64, STACK, &workers), 0);
	while (given < 1000)
		given += workers_run(workers, count, NULL) == 0;
	workers_drain(workers);
	assert_int_equal(done, 1000);
	workers_free(workers);
}

static void a_full_queue_is_refused(void **state)
{
	struct workers *workers;

	assert_int_equal(workers_new(2, 3, STACK, &workers), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(workers_run(workers, block, NULL), 0);
		sem_wait(&started);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(workers_run(workers, count, NULL), 0);
	assert_int_equal(workers_run(workers, count, NULL), -EAGAIN);
	sem_post(&go);
	sem_post(&go);
	workers_drain(workers);
	assert_int_equal(done, 5);
	workers_free(workers);
}

static void without_a_queue_a_task_starts_at_once_or_not_at_all(void **state)
{
	struct workers *workers;

	assert_int_equal(workers_new(2, 0, STACK, &workers), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(workers_run(workers, block, NULL), 0);
	assert_int_equal(workers_run(workers, block, NULL), -EAGAIN);
	sem_post(&go);
	sem_post(&go);
	workers_drain(workers);
	assert_int_equal(workers_run(workers, count, NULL), 0);
	workers_free(workers);
	assert_int_equal(done, 3);
}

static void freeing_waits_for_what_was_given(void **state)
{
	struct workers *workers;

	assert_int_equal(workers_new(1, 100, STACK, &workers), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(workers_run(workers, count, NULL), 0);
	workers_free(workers);
	assert_int_equal(done, 100);
	workers_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(every_task_runs_once, setup),
	    cmocka_unit_test_setup(a_full_queue_is_refused, setup),
	    cmocka_unit_test_setup(without_a_queue_a_task_starts_at_once_or_not_at_all, setup),
	    cmocka_unit_test_setup(freeing_waits_for_what_was_given, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
