/* SPDX-License-Identifier: Apache-2.0 */
/* syscalls.def as a table, and from a number back to its row. Read-only after first use. */
#include "danaus/notify/calls.h"

#include <pthread.h>
#include <seccomp.h>
#include <string.h>

const struct call_row call_table[CALL_COUNT] = {
#define SC(name, when, handler, op) {#name, WHEN_##when, WIRE_##op},
#include "danaus/notify/syscalls.def"
#undef SC
};

/* Calls that are younger than the libseccomp of a distribution; their numbers are the same on all
 * machines. */
static const struct {
	const char *name;
	int nr;
} young[] = {{"fchmodat2", 452}};

int call_number(const struct call_row *row)
{
	int nr = seccomp_syscall_resolve_name(row->name);

	for (size_t i = 0; nr < 0 && i < sizeof(young) / sizeof(young[0]); i++)
		if (!strcmp(row->name, young[i].name))
			nr = young[i].nr;
	return nr;
}

#define NUMBERS 512

static short row_of[NUMBERS]; /* + 1; 0: none */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
	for (unsigned i = 0; i < CALL_COUNT; i++) {
		int nr = call_number(&call_table[i]);

		if (nr >= 0 && nr < NUMBERS)
			row_of[nr] = (short)(i + 1);
	}
}

int call_of_number(int nr)
{
	pthread_once(&once, fill);
	return nr >= 0 && nr < NUMBERS ? row_of[nr] - 1 : -1;
}
