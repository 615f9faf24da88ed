/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the text form of documents. Hooks, runtime wrapper and tests; one thread. */
#include "oci/document.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/parse.h"

/* A string that no engine writes: control characters are dumped as \u escapes. */
#define MARK	   "\x01u64:"
#define MARK_TEXT  "\"\\u0001u64:"
#define INT_DIGITS 18 /* digits that always fit an int64_t */

/* Copies text to out with every integer of more than INT_DIGITS digits as a marked string. Grows by
 * at most sizeof(MARK_TEXT) for each, which has INT_DIGITS + 1 bytes at least: out needs twice. */
static size_t mark_big_integers(const char *text, size_t len, char *out)
{
	bool in_string = false;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		size_t end = i;

		if (in_string && text[i] == '\\' && i + 1 < len) {
			out[n++] = text[i++];
		} else if (text[i] == '"') {
			in_string = !in_string;
		} else if (!in_string && isdigit((unsigned char)text[i])) {
			bool integer = true;
			size_t digits;

			for (; end < len && text[end] && strchr("0123456789.eE+-", text[end]);
			     end++)
				integer &= isdigit((unsigned char)text[end]) != 0;
			digits = end - i;

			if (integer && digits > INT_DIGITS && (i == 0 || text[i - 1] != '-')) {
				n += sprintf(out + n, "%s%.*s\"", MARK_TEXT, (int)digits, text + i);
			} else {
				memcpy(out + n, text + i, digits);
				n += digits;
			}
			i = end - 1;
			continue;
		}
		out[n++] = text[i];
	}
	out[n] = '\0';
	return n;
}

/* The reverse, in place. */
static void unmark_big_integers(char *text)
{
	char *from = text, *to = text;

	for (;;) {
		char *mark = strstr(from, MARK_TEXT);
		size_t plain = mark ? (size_t)(mark - from) : strlen(from), digits;

		memmove(to, from, plain);
		to += plain;
		if (!mark)
			break;
		from = mark + strlen(MARK_TEXT);
		digits = strspn(from, "0123456789");
		memmove(to, from, digits);
		to += digits;
		from += digits + 1; /* and the closing quote */
	}
	*to = '\0';
}

int document_parse(const char *text, size_t len, const char *what, json_t **ret, struct err *err)
{
	json_error_t error;
	json_t *value;

	if (len > DOCUMENT_MAX)
		return err_set(err, -EFBIG, "%s is larger than %u bytes", what, DOCUMENT_MAX);
	/* A tenant cannot have written the mark himself: it would come out as a number. */
	if (memmem(text, len, MARK_TEXT, strlen(MARK_TEXT)))
		return err_set(err, -EINVAL, "%s holds a reserved control character", what);
	CLEANUP_FREE char *marked = malloc(2 * len + sizeof(MARK_TEXT) + 1);
	if (!marked)
		return -ENOMEM;
	len = mark_big_integers(text, len, marked);
	value = json_loadb(marked, len, JSON_ALLOW_NUL, &error);
	if (!value)
		return err_set(err, -EINVAL, "%s is not JSON: %s, line %d", what, error.text,
			       error.line);
	if (!json_is_object(value)) {
		json_decref(value);
		return err_set(err, -EINVAL, "%s is not a JSON object", what);
	}
	*ret = value;
	return 0;
}

int document_dump(const json_t *document, char **ret)
{
	char *text = json_dumps(document, JSON_COMPACT);

	if (!text)
		return -ENOMEM;
	unmark_big_integers(text);
	*ret = text;
	return 0;
}

int document_read_at(int dirfd, const char *path, json_t **ret, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r = fd_read_file_at(dirfd, path, DOCUMENT_MAX, &text, &len);

	if (r < 0)
		return err_prefix(err, r, "cannot read %s", path);
	return document_parse(text, len, path, ret, err);
}

int document_write_at(int dirfd, const char *path, mode_t mode, const json_t *document,
		      struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	int r = document_dump(document, &text);

	if (!r)
		r = fd_replace_file_at(dirfd, path, mode, text, strlen(text));
	return r ? err_prefix(err, r, "cannot write %s", path) : 0;
}

int document_u64(const json_t *value, uint64_t *ret)
{
	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*ret = json_integer_value(value);
		return 0;
	}
	if (json_is_string(value) && !strncmp(json_string_value(value), MARK, strlen(MARK)))
		return parse_u64(json_string_value(value) + strlen(MARK), UINT64_MAX, ret);
	return -EINVAL;
}

static int member(json_t *object, const char *key, json_type type, json_t **ret)
{
	json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value)) {
		value = type == JSON_OBJECT ? json_object() : json_array();
		if (json_object_set_new(object, key, value) < 0)
			return -ENOMEM;
	}
	if (json_typeof(value) != type)
		return -EINVAL;
	*ret = value;
	return 0;
}

int document_object(json_t *object, const char *key, json_t **ret)
{
	return member(object, key, JSON_OBJECT, ret);
}

int document_array(json_t *object, const char *key, json_t **ret)
{
	return member(object, key, JSON_ARRAY, ret);
}
