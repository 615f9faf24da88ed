/* SPDX-License-Identifier: Apache-2.0 */
/* Capability sets in config.json and process.json (capabilities(7)). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cap_set { CAP_BOUNDING, CAP_EFFECTIVE, CAP_INHERITABLE, CAP_PERMITTED, CAP_AMBIENT, CAP_SETS };

struct caps {
	uint64_t set[CAP_SETS]; /* bit n: capability n of linux/capability.h */
};

/* process.capabilities; an absent object or set is empty, as for the runtimes, and so is a name
 * that this program does not know. */
void caps_of_process(const json_t *process, struct caps *ret);

/* Adds the named capability ("CAP_SYS_ADMIN") to all five sets. -EINVAL when process.capabilities
 * has a wrong type, -ENOMEM. */
int caps_add(json_t *process, const char *name);

/* As init takes it: five hexadecimal masks in the order of enum cap_set, colons between. */
#define CAPS_TEXT_MAX 96
void caps_format(const struct caps *caps, char text[CAPS_TEXT_MAX]);
