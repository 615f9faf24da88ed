/* SPDX-License-Identifier: Apache-2.0 */
/* The notify door: seccomp user notification (seccomp_unotify(2)) for the file system calls that
 * the client library did not make. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "danaus/base/err.h"
#include "danaus/pool/pool.h"

/* Serves a listener that an init of container sent, until its last process is gone. Takes listener
 * over. Starts its own supervisor threads. -EINVAL when the descriptor is no seccomp listener,
 * -EUSERS when the container has too many. */
int notify_serve(struct container *container, int listener);
/* The container is going: ends its supervisors and waits for them. */
void notify_stop(struct container *container);

/* The filter as BPF instructions (struct sock_filter[]), made with libseccomp from syscalls.def for
 * this fd_base: path calls notify unless argument 6 is GATE_COOKIE, descriptor calls notify when
 * the descriptor is >= fd_base, everything else is allowed. *ret is malloc'ed. */
int filter_build(int fd_base, void **ret, size_t *ret_bytes, struct err *err);
