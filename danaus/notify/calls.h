/* SPDX-License-Identifier: Apache-2.0 */
/* The table of system calls (syscalls.def) and their handlers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "danaus/proto/wire.h"

struct call;

/* A handler's answer: what the system call returns (>= 0 or a negative errno), or one of these. */
#define CALL_CONTINUE INT64_MIN	      /* the kernel carries the call out itself */
#define CALL_ANSWERED (INT64_MIN + 1) /* a descriptor was the answer, and it is sent */
#define CALL_GONE     (INT64_MIN + 2) /* the caller went away: nobody to answer */

enum call_when {
	WHEN_PATH,
	WHEN_PATH_AT0,
	WHEN_PATH_AT1,
	WHEN_PATH_AT02,
	WHEN_PATH_OR_FSTAT2,
	WHEN_PATH_OR_FSTAT3,
	WHEN_FD0,
	WHEN_FD4,
	WHEN_FD01,
	WHEN_FD02,
	WHEN_STATE,
	WHEN_STATE_AT0,
	WHEN_FSIZE0,
	WHEN_FSIZE1,
	WHEN_COUNT
};

enum call_index {
#define SC(name, when, handler, op) CALL_##name,
#include "danaus/notify/syscalls.def"
#undef SC
	CALL_COUNT
};

struct call_row {
	const char *name;
	enum call_when when;
	enum wire_op op;
};

extern const struct call_row call_table[CALL_COUNT];

/* The machine's number of a row's call; negative when it has none. */
int call_number(const struct call_row *row);
/* The row of a number; negative when no row has it. */
int call_of_number(int nr);

#define SC(name, when, handler, op) int64_t sys_##handler(struct call *call);
#include "danaus/notify/syscalls.def"
#undef SC
