/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and CPU lists from text that an administrator or a tenant wrote. */
#pragma once

#include <sched.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal only, whole string, no sign or space. -EINVAL, -ERANGE above max. */
int parse_u64(const char *text, uint64_t max, uint64_t *ret);

/* A size in bytes: digits and an optional suffix k, m, g or t (powers of 1024, either case, an
 * optional trailing "b" or "ib"), as podman's --memory takes it. -EINVAL, -ERANGE. */
int parse_size(const char *text, uint64_t *ret_bytes);

/* "0-3,8" as in cpuset(7), list format. -EINVAL for anything else, -ERANGE for a CPU number that
 * cpu_set_t cannot hold. */
int parse_cpulist(const char *text, cpu_set_t *ret);

/* The canonical list format. -ENOSPC when it does not fit. */
int format_cpulist(const cpu_set_t *set, char *buf, size_t cap_bytes);
