/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the names of capabilities and of their sets. Pure; one thread. */
#include "oci/caps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "oci/document.h"

/* By number (linux/capability.h). */
static const char *const cap_names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

static const char *const set_names[CAP_SETS] = {
    [CAP_BOUNDING] = "bounding",   [CAP_EFFECTIVE] = "effective", [CAP_INHERITABLE] = "inheritable",
    [CAP_PERMITTED] = "permitted", [CAP_AMBIENT] = "ambient",
};

static uint64_t mask_of(const char *name)
{
	for (size_t i = 0; name && i < sizeof(cap_names) / sizeof(cap_names[0]); i++) {
		if (!strcmp(name, cap_names[i]))
			return 1ull << i;
	}
	return 0;
}

void caps_of_process(const json_t *process, struct caps *ret)
{
	const json_t *object = json_object_get(process, "capabilities");
	json_t *name;
	size_t i;

	for (int set = 0; set < CAP_SETS; set++) {
		ret->set[set] = 0;
		json_array_foreach (json_object_get(object, set_names[set]), i, name)
			ret->set[set] |= mask_of(json_string_value(name));
	}
}

int caps_add(json_t *process, const char *name)
{
	json_t *object, *array, *have;
	int r = document_object(process, "capabilities", &object);
	size_t i;

	for (int set = 0; !r && set < CAP_SETS; set++) {
		bool found = false;

		r = document_array(object, set_names[set], &array);
		if (r < 0)
			break;
		json_array_foreach (array, i, have)
			found |= json_is_string(have) && !strcmp(json_string_value(have), name);
		if (!found && json_array_append_new(array, json_string(name)) < 0)
			r = -ENOMEM;
	}
	return r;
}

void caps_format(const struct caps *caps, char text[CAPS_TEXT_MAX])
{
	int n = 0;

	for (int set = 0; set < CAP_SETS; set++)
		n += snprintf(text + n, CAPS_TEXT_MAX - n, "%s%" PRIx64, set ? ":" : "",
			      caps->set[set]);
}
