/* SPDX-License-Identifier: Apache-2.0 */
#include "danaus/proto/source.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void format_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr(",[]\\", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void format_source(FILE *out, const struct source *source, bool nested)
{
	fprintf(out, "%s:%s%s", source_kind_name(source->kind), source->fs ? source->fs : "",
		source->fs ? ":" : "");
	if (source->path)
		format_text(out, source->path);
	for (unsigned i = 0; i < source->nlower; i++) {
		fputc('[', out);
		format_source(out, source->lower[i], true);
		fputc(']', out);
	}
	if (source->ro || nested)
		fputs(source->ro ? ",ro" : ",rw", out);
	if (source->writeback)
		fputs(",writeback", out);
}

/* What was understood of spec, written in the one canonical way. */
static int format(const char *spec, char **ret, struct err *err)
{
	struct source *source;
	int r = source_parse(spec, &source, NULL, err);
	size_t len;
	FILE *out;

	if (r < 0)
		return r;
	out = open_memstream(ret, &len);
	format_source(out, source, false);
	fclose(out);
	source_free(source);
	return 0;
}

static void a_spec_has_one_canonical_form(void **state)
{
	static const struct {
		const char *spec, *canonical;
	} rows[] = {
	    {"local:/srv/a", "local:/srv/a"},
	    {"local:/srv/a,rw", "local:/srv/a"},
	    {"local:/srv/a,ro", "local:/srv/a,ro"},
	    {"local:/srv/a b", "local:/srv/a b"},
	    {"local:/srv/a\\,b\\[c\\]", "local:/srv/a\\,b\\[c\\]"},
	    {"ceph:/a", "ceph:/a"},
	    {"ceph:fs:/a:b", "ceph:fs:/a:b"},
	    {"local:/srv/a\\b", "local:/srv/a\\\\b"},
	    {"union:[local:/a,rw][local:/b,ro]", "union:[local:/a,rw][local:/b,ro]"},
	    {"cache:[local:/a]", "cache:[local:/a,rw]"},
	    {"cache:[union:[local:/a][local:/b,ro]],ro",
	     "cache:[union:[local:/a,rw][local:/b,ro],rw],ro"},
	    {"cache:[local:/a,writeback]", "cache:[local:/a,rw,writeback]"},
	    {"cache:[union:[local:/a][local:/b,ro],writeback,rw],ro",
	     "cache:[union:[local:/a,rw][local:/b,ro],rw,writeback],ro"},
	    {"union:[local:/a][local:/b,ro],ro", "union:[local:/a,rw][local:/b,ro],ro"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {""};
		char *text = NULL, *again = NULL;

		assert_int_equal(format(rows[i].spec, &text, &err), 0);
		assert_string_equal(text, rows[i].canonical);
		assert_int_equal(format(text, &again, &err), 0);
		assert_string_equal(again, text);
		free(text);
		free(again);
	}
}

static void a_mistake_has_a_position(void **state)
{
	static const struct {
		const char *spec, *position;
	} rows[] = {
	    {"", "position 1:"},
	    {"/srv/a", "position 1:"},
	    {"nothing:/a", "position 1:"},
	    {"local:", "position 7:"},
	    {"local:a", "position 7:"},
	    {"local:/a/../b", "position 7:"},
	    {"local:/a/", "position 7:"},
	    {"ceph:fs", "position 6:"},
	    {"ceph::/a", "position 6:"},
	    {"ceph:fs:a", "position 9:"},
	    {"local:/a,wo", "position 10:"},
	    {"local:/a,ro,ro", "position 13:"},
	    {"local:/a]", "position 9:"},
	    {"local:/a,writeback", "position 10:"},
	    {"union:[local:/a,writeback]", "position 17:"},
	    {"cache:[local:/a],writeback", "position 18:"},
	    {"cache:[local:/a,writeback,writeback]", "position 27:"},
	    {"union:", "position 7:"},
	    {"cache:/a", "position 7:"},
	    {"cache:[local:/a][local:/b]", "position 17:"},
	    {"union:[local:/a", "position 16:"},
	    {"union:[local:/a][cephfs:/b]", "position 18:"},
	    {"union:[local:/a]x", "position 17:"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {""};
		char *text = NULL;

		assert_int_equal(format(rows[i].spec, &text, &err), -EINVAL);
		if (!strstr(err.text, rows[i].position))
			print_error("%s: %s\n", rows[i].spec, err.text);
		assert_non_null(strstr(err.text, rows[i].position));
		assert_null(text);
	}
}

static void nesting_has_an_end(void **state)
{
	char spec[512] = "";
	struct err err = {""};
	char *text;

	for (int i = 0; i < 20; i++)
		strcat(spec, "union:[");
	strcat(spec, "local:/");
	assert_int_equal(format(spec, &text, &err), -EINVAL);
	assert_non_null(strstr(err.text, "too deep"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_spec_has_one_canonical_form),
	    cmocka_unit_test(a_mistake_has_a_position),
	    cmocka_unit_test(nesting_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
