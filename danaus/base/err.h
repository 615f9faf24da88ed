/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that a person reads. Set-up code (hooks, config, attach) carries a struct err beside its
 * negative errno; hot paths return the errno alone and never format. */
#pragma once

#define ERR_TEXT_MAX 512

struct err {
	char text[ERR_TEXT_MAX]; /* "" until set; one line, no newline */
};

/* Formats into err (which may be NULL) and returns code, so that `return err_set(...)` reads well.
 * code is a negative errno. The text names what was wrong and what to do about it. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the text that is there (or of strerror(-code) when there is none)
 * and returns code. */
int err_prefix(struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The text, or strerror(-code) when none was set. Never NULL; valid while err is. */
const char *err_text(const struct err *err, int code);
