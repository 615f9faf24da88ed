/* SPDX-License-Identifier: Apache-2.0 */
/* Where a hook's errors go: standard error, which a container engine may show or throw away, and
 * /run/danaus/hook.log, bounded in size. danaus-hook and danaus-runtime. */
#pragma once

#include "danaus/base/err.h"

#define HOOK_LOG "/run/danaus/hook.log"

/* Reports err (or strerror(-code)) as what's failure and returns 1, an exit status. */
int hook_fail(const char *what, const struct err *err, int code);
