/* SPDX-License-Identifier: Apache-2.0 */
/* A libservice for tests: it stacks on another and fails chosen operations. */
#pragma once

#include <stdatomic.h>

#include "danaus/libservices/libservice.h"

struct fault_plan {
	_Atomic uint64_t calls;	 /* out: operations so far that can fail */
	_Atomic uint64_t first;	 /* fails the call of this number, counted from 1; 0: none */
	_Atomic bool to_the_end; /* and all after it */
	_Atomic int error;	 /* a negative errno */
};

/* Takes lower over. plan outlives it. */
int fault_new(struct libservice *lower, struct fault_plan *plan, struct libservice **ret);
