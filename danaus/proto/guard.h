/* SPDX-License-Identifier: Apache-2.0 */
/* What a service tells its guard (hooks/guard.h) over a SOCK_SEQPACKET socket, a message a kernel
 * face: with one descriptor, of the abort file that the face's connection has in fusectl (Linux
 * Documentation/filesystems/fuse/fuse.rst), when it starts; with none when it has ended. */
#pragma once

#include <stdint.h>

struct guard_message {
	uint32_t connection; /* its number in fusectl */
};
