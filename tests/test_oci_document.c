/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/document.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/state.h"

static void documents_go_there_and_back(void **state)
{
	static const char *const rows[] = {
	    "{}",
	    "{\"a\":18446744073709551615,\"b\":[9223372036854775807,-9223372036854775808]}",
	    "{\"a\":\"18446744073709551615 \\\" \\\\\",\"b\":1234567890123456789}",
	    "{\"args\":[\"sh\",\"-c\",\"echo \\\"x\\\"; \\u0001\"],\"t\":true,\"n\":null}",
	    "{\"12345678901234567890\":\"\\\\\\\"99999999999999999999\"}",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {0};
		json_t *json;
		char *text;

		assert_int_equal(document_parse(rows[i], strlen(rows[i]), "x", &json, &err), 0);
		assert_int_equal(document_dump(json, &text), 0);
		assert_string_equal(text, rows[i]);
		free(text);
		json_decref(json);
	}
}

static void numbers_above_int64_are_read(void **state)
{
	static const char text[] =
	    "{\"hard\":18446744073709551615,\"soft\":1024,\"x\":-1,\"y\":\"7\"}";
	struct err err = {0};
	uint64_t value = 0;
	json_t *json;

	assert_int_equal(document_parse(text, strlen(text), "x", &json, &err), 0);
	assert_int_equal(document_u64(json_object_get(json, "hard"), &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(document_u64(json_object_get(json, "soft"), &value), 0);
	assert_int_equal(value, 1024);
	assert_int_equal(document_u64(json_object_get(json, "x"), &value), -EINVAL);
	assert_int_equal(document_u64(json_object_get(json, "y"), &value), -EINVAL);
	assert_int_equal(document_u64(NULL, &value), -EINVAL);
	json_decref(json);
}

static void wrong_documents_are_refused(void **state)
{
	static const char *const rows[] = {"",
					   "[]",
					   "{",
					   "{}x",
					   "7",
					   "{\"a\":01}",
					   "{\"a\":\"\\u0001u64:7\"}",
					   "{\"a\":1234567890123456789012x}"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {0};
		json_t *json = NULL;

		assert_int_equal(document_parse(rows[i], strlen(rows[i]), "the thing", &json, &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, "the thing"));
		assert_null(json);
	}
}

static void states_are_read(void **state)
{
	static const struct {
		const char *text;
		int r;
		pid_t pid;
	} rows[] = {
	    {"{\"ociVersion\":\"1.0\",\"id\":\"c1\",\"pid\":12,\"bundle\":\"/b\"}", 0, 12},
	    {"{\"id\":\"c1\",\"status\":\"stopped\"}", 0, 0},
	    {"{\"id\":\"c1\",\"pid\":-1}", -EINVAL, 0},
	    {"{\"id\":\"c1\",\"pid\":4294967296}", -EINVAL, 0},
	    {"{\"id\":\"../c1\",\"pid\":1}", -EINVAL, 0},
	    {"{\"id\":\"\",\"pid\":1}", -EINVAL, 0},
	    {"{\"id\":7,\"pid\":1}", -EINVAL, 0},
	    {"{\"pid\":1}", -EINVAL, 0},
	    {"", -EINVAL, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct state s = {.pid = -7};
		struct err err = {0};

		assert_int_equal(state_parse(rows[i].text, strlen(rows[i].text), &s, &err),
				 rows[i].r);
		if (rows[i].r) {
			assert_int_equal(s.pid, -7);
			assert_true(err.text[0]);
		} else {
			assert_int_equal(s.pid, rows[i].pid);
			assert_string_equal(s.id, "c1");
		}
	}
}

static void ids_are_one_component(void **state)
{
	assert_int_equal(id_check("a.b_c-d+e:9", 64), 0);
	assert_int_equal(id_check("", 64), -EINVAL);
	assert_int_equal(id_check(".", 64), -EINVAL);
	assert_int_equal(id_check("..", 64), -EINVAL);
	assert_int_equal(id_check("a/b", 64), -EINVAL);
	assert_int_equal(id_check("a b", 64), -EINVAL);
	assert_int_equal(id_check("abcd", 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(documents_go_there_and_back),
	    cmocka_unit_test(numbers_above_int64_are_read),
	    cmocka_unit_test(wrong_documents_are_refused),
	    cmocka_unit_test(states_are_read),
	    cmocka_unit_test(ids_are_one_component),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
