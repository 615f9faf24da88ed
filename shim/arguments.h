/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of crun and runc, as far as danaus-runtime has to understand it. */
#pragma once

#include <stdbool.h>

enum verb {
	VERB_OTHER,  /* also: none; passed through as it came */
	VERB_CREATE, /* create, run */
	VERB_EXEC,
};

struct arguments {
	enum verb verb;
	int id;			     /* index of the container's id; argc: there is none */
	const char *bundle, *config; /* create: as given; NULL */
	const char *process;	     /* exec: the file with the process; NULL */
	bool caps;		     /* exec: capabilities are asked for */
};

/* All that is not understood is left to the low-level runtime to refuse. Pointers are into argv. */
void arguments_read(int argc, char **argv, struct arguments *ret);
