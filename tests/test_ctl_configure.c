/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "danaus/base/fd.h"
#include "danaus/ctl/ctl.h"

static char tmp[64];

static int setup(void **state)
{
	strcpy(tmp, "/tmp/danaus-test-configure-XXXXXX");
	return mkdtemp(tmp) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", tmp);
	return system(command);
}

static int configure(const char *runtime, char *option)
{
	char root[96], name[64];
	char *argv[] = {"configure", name, root, option, NULL};

	snprintf(root, sizeof(root), "--root=%s", tmp);
	snprintf(name, sizeof(name), "--runtime=%s", runtime);
	return verb_configure(option ? 4 : 3, argv);
}

/* The file's text, "" where there is none; the caller frees it. */
static char *text_of(const char *path)
{
	char full[256], *text;

	snprintf(full, sizeof(full), "%s%s", tmp, path);
	return fd_read_file_at(AT_FDCWD, full, 65536, &text, NULL) < 0 ? strdup("") : text;
}

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", tmp, path);
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void drop_ins_come_and_go(void **state)
{
	static const char *const rows[][3] = {
	    {"podman", "/etc/containers/containers.conf.d/50-danaus.conf", CTL_PODMAN_HOOKS},
	    {"containerd", "/etc/containerd/conf.d/50-danaus.toml", "io.containerd.danaus.v2"},
	    {"crio", "/etc/crio/crio.conf.d/50-danaus.conf", "danaus-runtime"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *first, *again;

		assert_int_equal(configure(rows[i][0], "--dry-run"), 0);
		first = text_of(rows[i][1]);
		assert_string_equal(first, "");
		free(first);
		assert_int_equal(configure(rows[i][0], NULL), 0);
		first = text_of(rows[i][1]);
		assert_non_null(strstr(first, rows[i][2]));
		assert_int_equal(configure(rows[i][0], NULL), 0);
		again = text_of(rows[i][1]);
		assert_string_equal(first, again);
		free(first);
		free(again);
		assert_int_equal(configure(rows[i][0], "--remove"), 0);
		assert_int_equal(configure(rows[i][0], "--remove"), 0);
		first = text_of(rows[i][1]);
		assert_string_equal(first, "");
		free(first);
	}
	char *toml = text_of("/etc/containerd/config.toml");
	assert_string_equal(toml, "");
	free(toml);
}

#define TOML   "/etc/containerd/config.toml"
#define IMPORT "imports = [\"/etc/containerd/conf.d/*.toml\"] # danausctl configure\n"

static void imports_are_added_to_an_existing_config(void **state)
{
	static const char *const rows[][2] = {
	    {"version = 2\n[grpc]\n x = 1\n", "version = 2\n" IMPORT "[grpc]\n x = 1\n"},
	    {"[grpc]\nimports = 1\nversion = 9\n", IMPORT "[grpc]\nimports = 1\nversion = 9\n"},
	    {"root = \"/r\"\nversion = 2", "root = \"/r\"\nversion = 2\n" IMPORT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *text;

		assert_int_equal(configure("containerd", NULL), 0); /* makes the directory */
		put(TOML, rows[i][0]);
		assert_int_equal(configure("containerd", NULL), 0);
		text = text_of(TOML);
		assert_string_equal(text, rows[i][1]);
		free(text);
		assert_int_equal(configure("containerd", "--remove"), 0);
		text = text_of(TOML);
		assert_null(strstr(text, "danausctl"));
		assert_int_equal(strncmp(text, rows[i][0], strlen(rows[i][0])), 0);
		free(text);
	}
}

static void imports_of_somebody_else_are_not_touched(void **state)
{
	char *text;

	put(TOML, "imports = [\"/x.toml\"]\n");
	assert_int_equal(configure("containerd", NULL), 1);
	text = text_of(TOML);
	assert_string_equal(text, "imports = [\"/x.toml\"]\n");
	free(text);
	put(TOML, "imports = [\"/x.toml\", \"/etc/containerd/conf.d/*.toml\"]\n");
	assert_int_equal(configure("containerd", NULL), 0);
}

static void values_may_stand_in_words_of_their_own(void **state)
{
	char *argv[] = {"configure", "--runtime", "crio", "--root", tmp, "--dry-run", NULL};
	char *list[] = {"list", "--run-dir=/nonexistent", "--run-dir", NULL};
	struct ctl_options options;

	assert_int_equal(verb_configure(6, argv), 0);
	assert_int_equal(verb_configure(4, argv), 2); /* --root without a value */
	assert_true(ctl_options(2, list, false, &options));
	assert_string_equal(options.run_dir, "/nonexistent");
	assert_false(ctl_options(3, list, false, &options));
}

static void wrong_arguments_are_usage_errors(void **state)
{
	assert_int_equal(configure("docker", NULL), 2);
	assert_int_equal(configure("podman", "--force"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(drop_ins_come_and_go),
	    cmocka_unit_test(imports_are_added_to_an_existing_config),
	    cmocka_unit_test(imports_of_somebody_else_are_not_touched),
	    cmocka_unit_test(values_may_stand_in_words_of_their_own),
	    cmocka_unit_test(wrong_arguments_are_usage_errors),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
