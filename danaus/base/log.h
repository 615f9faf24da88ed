/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one line per event to standard error (the service's is redirected to its log file).
 * A function logs or returns an error, never both. Any thread; one write(2) per line. */
#pragma once

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The program's name in front of every line, and the lowest level that is written (default
 * LOG_INFO). name is kept by reference. */
void log_open(const char *name, enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* At most 20 lines in 10 s over all callers, so that a tenant cannot fill the host's log; what was
 * dropped is counted in the next line that is written. For events that a tenant can cause. */
void log_limited(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
