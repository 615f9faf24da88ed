/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the log level and the rate limiter. Any thread. */
#include "danaus/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_LINES    20
#define LIMIT_PERIOD_S 10

static const char *program = "danaus";
static enum log_level lowest = LOG_INFO;
static atomic_long period;
static atomic_uint lines, dropped;

void log_open(const char *name, enum log_level level)
{
	program = name;
	lowest = level;
}

static void write_line(enum log_level level, unsigned lost, const char *fmt, va_list ap)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char line[1024];
	int saved = errno, n;

	n = snprintf(line, sizeof(line) - 1, "%s: %s: ", program, names[level]);
	n += vsnprintf(line + n, sizeof(line) - 1 - n, fmt, ap);
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	if (lost && (size_t)n < sizeof(line) - 40)
		n += snprintf(line + n, sizeof(line) - 1 - n, " (%u lines left out)", lost);
	for (int i = 0; i < n; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		n = 0;
	errno = saved;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > lowest)
		return;
	va_start(ap, fmt);
	write_line(level, 0, fmt, ap);
	va_end(ap);
}

void log_limited(enum log_level level, const char *fmt, ...)
{
	struct timespec now;
	va_list ap;
	long this, then;

	if (level > lowest)
		return;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	this = now.tv_sec / LIMIT_PERIOD_S;
	then = atomic_load(&period);
	if (this != then && atomic_compare_exchange_strong(&period, &then, this))
		atomic_store(&lines, 0);
	if (atomic_fetch_add(&lines, 1) >= LIMIT_LINES) {
		atomic_fetch_add(&dropped, 1);
		return;
	}
	va_start(ap, fmt);
	write_line(level, atomic_exchange(&dropped, 0), fmt, ap);
	va_end(ap);
}
