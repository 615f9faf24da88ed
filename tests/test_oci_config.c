/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/danaus-test-config-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(path);

	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	return unlink(path);
}

static int read_text(const char *text, struct config *ret, struct err *err)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	err->text[0] = '\0';
	return config_read(path, ret, err);
}

static void a_missing_file_is_the_defaults(void **state)
{
	struct config config;
	struct err err = {0};

	assert_int_equal(config_read("/nonexistent/danaus.json", &config, &err), 0);
	assert_int_equal(config.timeout_s, 90);
	assert_int_equal(config.log_level, LOG_INFO);
	assert_true(config_allows_local(&config, true, "/srv"));
	assert_false(config_allows_local(&config, false, "/srv"));
	config_done(&config);
}

static void mistakes_name_the_key(void **state)
{
	static const char *const rows[][2] = {
	    {"{\"runtime\": []}", "\"runtime\""},
	    {"{\"runtimes\": \"/usr/bin/crun\"}", "runtimes"},
	    {"{\"runtimes\": [\"crun\"]}", "runtimes"},
	    {"{\"log_level\": \"loud\"}", "log_level"},
	    {"{\"log_level\": 1}", "log_level"},
	    {"{\"timeout_s\": 0}", "timeout_s"},
	    {"{\"timeout_s\": \"3\"}", "timeout_s"},
	    {"{\"local_sources\": [\"/a/../b\"]}", "local_sources"},
	    {"{\"ceph\": []}", "ceph"},
	    {"{\"ceph\": {\"a\": {\"conf\": \"/c\"}}}", "ceph.a"},
	    {"{\"ceph\": {\"a\": {\"conf\": \"c\", \"id\": \"x\"}}}", "ceph.a.conf"},
	    {"{\"ceph\": {\"a\": {\"conf\": \"/c\", \"id\": \"x\", \"key\": \"/k\"}}}", "\"key\""},
	    {"{\"ceph\": {\"a\": {\"conf\": \"/c\", \"id\": \"x\", \"allow\": \"*\"}}}",
	     "ceph.a.allow takes a list"},
	    {"{\"ceph\": {\"a\": {\"conf\": \"/c\", \"id\": \"x\", \"allow\": [\"*\", 3]}}}",
	     "ceph.a.allow takes a list"},
	    {"not json", "JSON"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config config;
		struct err err;

		assert_int_equal(read_text(rows[i][0], &config, &err), -EINVAL);
		if (!strstr(err.text, rows[i][1]))
			fail_msg("%s: %s", rows[i][0], err.text);
		config_done(&config);
	}
}

static void the_first_runtime_that_exists_counts(void **state)
{
	struct config config;
	struct err err;
	const char *runtime = NULL;

	assert_int_equal(read_text("{\"runtimes\": [\"/nonexistent/crun\", \"/etc\", \"/bin/sh\"]}",
				   &config, &err),
			 0);
	assert_int_equal(config_runtime(&config, &runtime, &err), 0);
	assert_string_equal(runtime, "/bin/sh");
	config_done(&config);
	assert_int_equal(
	    read_text("{\"runtimes\": [\"/nonexistent/crun\", \"/proc/self/exe\"]}", &config, &err),
	    0);
	assert_int_equal(config_runtime(&config, &runtime, &err), -ENOENT);
	assert_non_null(strstr(err.text, "runtimes"));
	config_done(&config);
}

static void identities_are_granted_by_pool_and_path(void **state)
{
	static const char text[] =
	    "{\"ceph\": {\"a\": {\"conf\": \"/c\", \"id\": \"x\", \"keyring\": \"/k\","
	    "\"allow\": [\"ten-a*\", \"both\"], \"paths\": [\"/tenants/a\"]},"
	    "\"b\": {\"conf\": \"/c\", \"id\": \"y\", \"allow\": [\"both\"]},"
	    "\"c\": {\"conf\": \"/c\", \"id\": \"z\"}}}";
	static const struct {
		const char *name, *pool, *path;
		int r;
		const char *id;
	} rows[] = {
	    {"a", "ten-a1", "/tenants/a", 0, "x"},
	    {"a", "ten-a1", "/tenants/a/deep", 0, "x"},
	    {NULL, "ten-a1", "/tenants/a", 0, "x"},
	    {"a", "ten-a1", "/tenants", -EACCES, NULL},
	    {"a", "ten-a1", "/", -EACCES, NULL},
	    {"a", "ten-a1", "/tenants/ab", -EACCES, NULL},
	    {"a", "ten-b1", "/tenants/a", -EACCES, NULL},
	    {"b", "both", "/", 0, "y"},
	    {NULL, "both", "/", -EACCES, NULL},
	    {"c", "both", "/", -EACCES, NULL},
	    {"d", "both", "/", -EACCES, NULL},
	    {NULL, "none", "/", -EACCES, NULL},
	};
	struct config config;
	struct err err;

	assert_int_equal(read_text(text, &config, &err), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_ceph ceph;
		int r = config_ceph(&config, rows[i].name, rows[i].pool, rows[i].path, &ceph, &err);

		assert_int_equal(r, rows[i].r);
		if (!r)
			assert_string_equal(ceph.id, rows[i].id);
		else
			assert_true(err.text[0]);
	}
	config_done(&config);
}

static void local_sources_are_directories_and_below(void **state)
{
	struct config config;
	struct err err;

	assert_int_equal(read_text("{\"local_sources\": [\"/srv/a\"]}", &config, &err), 0);
	assert_true(config_allows_local(&config, false, "/srv/a"));
	assert_true(config_allows_local(&config, false, "/srv/a/b"));
	assert_false(config_allows_local(&config, true, "/srv/ab"));
	assert_false(config_allows_local(&config, true, "/srv"));
	config_done(&config);
	assert_int_equal(read_text("{\"local_sources\": [\"/\"]}", &config, &err), 0);
	assert_true(config_allows_local(&config, false, "/etc"));
	config_done(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_missing_file_is_the_defaults),
	    cmocka_unit_test(mistakes_name_the_key),
	    cmocka_unit_test(the_first_runtime_that_exists_counts),
	    cmocka_unit_test(identities_are_granted_by_pool_and_path),
	    cmocka_unit_test(local_sources_are_directories_and_below),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
