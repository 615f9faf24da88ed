/* SPDX-License-Identifier: Apache-2.0 */
/* The attach socket of one container (proto/attach.h). Everything a peer sends is hostile; no peer
 * holds up another one. */
#pragma once

#include "danaus/base/err.h"
#include "danaus/pool/process.h"

#define ATTACH_PENDING_MAX 64 /* connections that have not said hello; then the oldest goes */

/* Listens at "attach" in guest_dir. */
int attach_start(struct container *container, int guest_dir, struct err *err);
/* Takes no more peers, ends all clients and waits until their files are given back. Not on the
 * loop's thread. */
void attach_stop(struct container *container);
