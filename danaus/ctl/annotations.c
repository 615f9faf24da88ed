/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl annotations. */
#include <stdio.h>

#include "danaus/ctl/ctl.h"
#include "oci/annotations.h"

int verb_annotations(int argc, char **argv)
{
	const char *name, *by_default, *help;

	if (argc > 1) {
		fprintf(stderr, "danausctl annotations: unexpected %s\n", argv[1]);
		return 2;
	}
	for (unsigned i = 0; (help = annotation_help(i, &name, &by_default)); i++)
		printf("%-14s %s (default: %s)\n", name, help, by_default);
	return 0;
}
