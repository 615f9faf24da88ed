/* SPDX-License-Identifier: Apache-2.0 */
/* The attach socket: /.danaus/attach in the container, SOCK_SEQPACKET, one message a datagram.
 *
 * A peer sends struct attach_hello first. The service takes the peer's pid from SO_PEERCRED, never
 * from the message, and refuses a process that is not of this socket's container (another user
 * namespace or another pid's container: -EPERM).
 *
 *   ATTACH_CLIENT    answer: struct attach_welcome with the channel's memfd (shm/channel.h). Then
 *                    the connection stays: struct wire_request messages (the OPF_BY_SOCKET
 *                    operations; a descriptor rides along where the operation says so; the
 *                    payload pieces follow the struct in the same message), answered one by one
 *                    with struct wire_reply (and a descriptor). The client's end of the connection
 *                    is CLOEXEC: exec and exit close it, and with it the service drops the channel
 *                    and every handle in it.
 *   ATTACH_LISTENER  with a seccomp listener as descriptor. Answer: struct attach_welcome; then
 *                    the connection ends. */
#pragma once

#include <stdint.h>

#include "danaus/proto/wire.h"

#define ATTACH_MAGIC 0x5541 /* "AU" */

enum attach_kind { ATTACH_CLIENT = 1, ATTACH_LISTENER = 2 };

struct attach_hello {
	uint16_t magic;
	uint16_t version; /* WIRE_VERSION */
	uint16_t kind;	  /* enum attach_kind */
	uint16_t pad;
};

struct attach_welcome {
	int32_t error; /* 0, -EPERM, -EPROTONOSUPPORT (version), -EUSERS (too many clients), ... */
	uint32_t nslots;
	uint64_t channel_bytes;
	uint32_t notify; /* to a client: the notify door hears it, and the programs it execs. Not so
			  * for a process that was started beside init, or where init could not load
			  * the filter */
	uint32_t umask;	 /* to a client: its own, which it cannot ask for without setting it */
	uint32_t elsewhere; /* to a client: it is in another mount namespace than the container's.
			     * Paths are the kernel's to walk there; a volume's root is -EPERM */
	uint32_t pad;
};
