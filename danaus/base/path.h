/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as text: nothing is looked up. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* 0 when path is absolute and normalized: no "." or "..", no empty component, no trailing slash
 * ("/" itself is fine), shorter than max; else -EINVAL. */
int path_check(const char *path, size_t max);

/* path equals dir or lies below it; both as path_check() wants them. */
bool path_below(const char *path, const char *dir);
