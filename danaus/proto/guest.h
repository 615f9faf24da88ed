/* SPDX-License-Identifier: Apache-2.0 */
/* What a container finds of Danaus: a directory that is bound into it read-only (docs/protocol.md).
 * Macros alone: init and the client library link no libc. */
#pragma once

#define GUEST_DIR     "/.danaus"
#define GUEST_INIT    GUEST_DIR "/init"
#define GUEST_LIBRARY GUEST_DIR "/libdanaus.so"
#define GUEST_MOUNTS  GUEST_DIR "/mounts" /* mount_table.h */
#define GUEST_FILTER  GUEST_DIR "/filter" /* struct sock_filter[] */
#define GUEST_ATTACH  GUEST_DIR "/attach" /* attach.h */
