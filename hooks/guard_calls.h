/* SPDX-License-Identifier: Apache-2.0 */
/* The guard's part for programs: it holds the listeners of its service's notify door, so that the
 * kernel does not answer each notified call with ENOSYS once the service is gone, and answers then
 * itself. */
#pragma once

#include <stdbool.h>

#include "danaus/proto/guard.h"

#define GUARD_LISTENERS_MAX 2048

struct guarded {
	int fd;
	uint32_t number;
	bool left; /* by its service: the guard answers */
	struct guard_ledger *ledger;
};

/* Takes both descriptors over, also when it fails: -EINVAL, what is sent is no ledger. */
int guarded_init(uint32_t number, int listener, int ledger, struct guarded *ret);
void guarded_done(struct guarded *listener);
/* Answers what the service received and can answer no more. May be repeated. */
void guarded_answer_received(struct guarded *listener);
/* Receives one notification and answers it, should there be one. */
void guarded_answer_next(struct guarded *listener);
