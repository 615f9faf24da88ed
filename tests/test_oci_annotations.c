/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/annotations.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *json, struct annotations *ret, struct err *err)
{
	json_t *object = json_loads(json, 0, NULL);
	int r;

	assert_non_null(object);
	err->text[0] = '\0';
	r = annotations_parse(object, ret, err);
	json_decref(object);
	return r;
}

static void without_on_nothing_is_looked_at(void **state)
{
	static const char *const rows[] = {
	    "{}",
	    "{\"danaus\": \"off\", \"danaus.nonsense\": \"x\"}",
	    "{\"danaus.mount\": \"nonsense\"}",
	    "{\"danaus\": 1}",
	    "{\"other\": \"on\"}",
	};
	struct annotations a;
	struct err err;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i], &a, &err), 0);
		assert_false(a.on);
		annotations_done(&a);
	}
	assert_int_equal(annotations_parse(NULL, &a, &err), 0);
	assert_false(a.on);
}

static void all_values_are_read(void **state)
{
	struct annotations a;
	struct err err;

	assert_int_equal(
	    parse(
		"{\"danaus\": \"on\", \"danaus.pool\": \"web\", \"danaus.cpus\": \"3,0-1\","
		"\"danaus.cache\": \"64m\", \"danaus.mount.b\": "
		"\"/b=ceph:fs1:/t/b;id=t,timeout=9\","
		"\"danaus.mount\": \"/a=union:[local:/x,rw][cache:[local:/y,rw;writeback],ro],ro\","
		"\"org.other\": \"z\"}",
		&a, &err),
	    0);
	assert_true(a.on);
	assert_string_equal(a.pool, "web");
	assert_string_equal(a.cpus, "0-1,3");
	assert_int_equal(a.cache_bytes, 64 << 20);
	assert_int_equal(a.nmounts, 2);
	assert_string_equal(a.mount[0].target, "/a");
	assert_string_equal(a.mount[0].source,
			    "union:[local:/x,rw][cache:[local:/y,rw,writeback],ro]");
	assert_true(a.mount[0].ro);
	assert_string_equal(a.mount[1].target, "/b");
	assert_string_equal(a.mount[1].source, "ceph:fs1:/t/b");
	assert_string_equal(a.mount[1].ceph_id, "t");
	assert_int_equal(a.mount[1].timeout_s, 9);
	assert_false(a.mount[1].ro);
	annotations_done(&a);
}

static void mistakes_name_the_annotation(void **state)
{
	static const struct {
		const char *key, *value, *says;
	} rows[] = {
	    {"danaus.mounts", "x", "danaus.mount.NAME, danaus.pool"},
	    {"danaus.mount.", "/a=local:/b", "unknown"},
	    {"danaus.", "", "unknown"},
	    {"danaus.pool", "", "letters"},
	    {"danaus.pool", "../x", "letters"},
	    {"danaus.pool", "a/b", "letters"},
	    {"danaus.cpus", "a", "list of CPUs"},
	    {"danaus.cpus", "3-1", "list of CPUs"},
	    {"danaus.cache", "0", "size"},
	    {"danaus.cache", "-1", "size"},
	    {"danaus.mount", "", "TARGET=SOURCE"},
	    {"danaus.mount", "/data", "TARGET=SOURCE"},
	    {"danaus.mount", "data=local:/a", "absolute"},
	    {"danaus.mount", "/=local:/a", "absolute"},
	    {"danaus.mount", "/a/../b=local:/a", "absolute"},
	    {"danaus.mount", "/a//b=local:/a", "absolute"},
	    {"danaus.mount", "/a/=local:/a", "absolute"},
	    {"danaus.mount", "/a=", "position 1"},
	    {"danaus.mount", "/a=nfs:/x", "position 1"},
	    {"danaus.mount", "/a=local:x", "position 7"},
	    {"danaus.mount", "/a=local:/x/../y", "position 7"},
	    {"danaus.mount", "/a=ceph:fs", "position 6"},
	    {"danaus.mount", "/a=union:", "position 7"},
	    {"danaus.mount", "/a=union:[local:/x", "position 16"},
	    {"danaus.mount", "/a=union:[local:/x]y", "position 17"},
	    {"danaus.mount", "/a=union:[union:[local:y]]", "position 21"},
	    {"danaus.mount", "/a=union:[local:/x,y]", "position 17"},
	    {"danaus.mount", "/a=union:[local:/x,writeback]", "position 17"},
	    {"danaus.mount", "/a=cache:[local:/x,ro,y]", "position 20"},
	    {"danaus.mount", "/a=local:/x]y", "position 9"},
	    {"danaus.mount", "/a=union:[local:/x\\]", "position 18"},
	    {"danaus.mount", "/a=union:[local:/x,ro,rw]", "position 20"},
	    {"danaus.mount", "/a=local:/x,rx", "options"},
	    {"danaus.mount", "/a=local:/x,timeout=0", "options"},
	    {"danaus.mount", "/a=local:/x,id=a/b", "options"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct annotations a;
		struct err err = {0};
		json_t *object =
		    json_pack("{s:s, s:s}", "danaus", "on", rows[i].key, rows[i].value);

		assert_int_equal(annotations_parse(object, &a, &err), -EINVAL);
		if (!strstr(err.text, rows[i].key) || !strstr(err.text, rows[i].says))
			fail_msg("%s=%s: %s", rows[i].key, rows[i].value, err.text);
		annotations_done(&a);
		json_decref(object);
	}
}

static void a_semicolon_is_a_comma_and_two_are_one_semicolon(void **state)
{
	static const struct {
		const char *value, *target, *source;
		bool ro;
	} rows[] = {
	    {"/a=union:[local:/x;rw][local:/y;ro];ro", "/a", "union:[local:/x,rw][local:/y,ro]",
	     true},
	    {"/a=local:/x\\;y;ro", "/a", "local:/x\\,y", true},
	    {"/a=local:/x;;y", "/a", "local:/x;y", false},
	    {"/a;;b=local:/x;;;;;ro", "/a;b", "local:/x;;", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct annotations a;
		struct err err = {0};
		json_t *object =
		    json_pack("{s:s, s:s}", "danaus", "on", "danaus.mount", rows[i].value);

		if (annotations_parse(object, &a, &err) < 0)
			fail_msg("%s: %s", rows[i].value, err.text);
		assert_string_equal(a.mount[0].target, rows[i].target);
		assert_string_equal(a.mount[0].source, rows[i].source);
		assert_int_equal(a.mount[0].ro, rows[i].ro);
		annotations_done(&a);
		json_decref(object);
	}
}

static void wrong_switch_and_types_are_errors(void **state)
{
	struct annotations a;
	struct err err;

	assert_int_equal(parse("{\"danaus\": \"yes\"}", &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "danaus=yes"));
	annotations_done(&a);
	assert_int_equal(parse("{\"danaus\": \"on\", \"danaus.pool\": 7}", &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "danaus.pool"));
	annotations_done(&a);
}

static void mounts_have_a_limit(void **state)
{
	json_t *object = json_pack("{s:s}", "danaus", "on");
	struct annotations a;
	struct err err = {0};

	for (int i = 0; i <= MOUNT_TABLE_MAX; i++) {
		char key[64], value[64];

		snprintf(key, sizeof(key), "danaus.mount.%d", i);
		snprintf(value, sizeof(value), "/v%d=local:/x", i);
		assert_int_equal(annotations_parse(object, &a, &err), 0);
		assert_int_equal(a.nmounts, i);
		annotations_done(&a);
		json_object_set_new(object, key, json_string(value));
	}
	assert_int_equal(annotations_parse(object, &a, &err), -EINVAL);
	annotations_done(&a);
	json_decref(object);
}

static void every_annotation_has_help(void **state)
{
	const char *name, *by_default;
	unsigned n = 0;

	while (annotation_help(n, &name, &by_default)) {
		assert_int_equal(strncmp(name, "danaus", 6), 0);
		assert_true(by_default[0]);
		n++;
	}
	assert_int_equal(n, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(without_on_nothing_is_looked_at),
	    cmocka_unit_test(all_values_are_read),
	    cmocka_unit_test(mistakes_name_the_annotation),
	    cmocka_unit_test(a_semicolon_is_a_comma_and_two_are_one_semicolon),
	    cmocka_unit_test(wrong_switch_and_types_are_errors),
	    cmocka_unit_test(mounts_have_a_limit),
	    cmocka_unit_test(every_annotation_has_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
