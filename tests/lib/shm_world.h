/* SPDX-License-Identifier: Apache-2.0 */
/* A service, started anew for each case, and clients of its shared-memory door. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/lib/service_fixture.h"
#include "tests/lib/shm_client.h"

#define SW_SPIN 200

static struct service_fixture sw_fixture;

static inline int sw_start(void **state)
{
	return service_fixture_or_skip(&sw_fixture);
}

static inline int sw_stop(void **state)
{
	service_fixture_stop(&sw_fixture);
	return 0;
}

static inline struct shm_client sw_attach(void)
{
	struct shm_client client;

	assert_int_equal(shm_client_attach(&client, sw_fixture.socket, SW_SPIN), 0);
	return client;
}

#define SW_TEST(name) cmocka_unit_test_setup_teardown(name, sw_start, sw_stop)
