/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing; pure formatting. Any thread. */
#include "danaus/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

int err_prefix(struct err *err, int code, const char *fmt, ...)
{
	char tail[ERR_TEXT_MAX];
	va_list ap;
	int n;

	if (!err)
		return code;
	snprintf(tail, sizeof(tail), "%s", err_text(err, code));
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->text))
		snprintf(err->text + n, sizeof(err->text) - n, ": %.*s", ERR_TEXT_MAX - 4, tail);
	return code;
}

const char *err_text(const struct err *err, int code)
{
	return err && err->text[0] ? err->text : strerror(-code);
}
