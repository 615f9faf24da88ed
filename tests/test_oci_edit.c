/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/edit.h"

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

#include "oci/document.h"
#include "oci/rundir.h"
#include "tests/lib/fail_alloc.h"

#define TEXT_MAX 16384

/* A rootfs with "link" -> srv, "up" -> ../../out, "abs" -> /srv; sources a, b, sym -> a; a file. */
static char tmp[64];
static struct config config;

static void touch(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", tmp, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int setup(void **state)
{
	static const char *const dirs[] = {"root", "root/etc", "root/srv", "a",	  "a/deep",
					   "b",	   "out",      "a,ro",	   "[x]", "b\\"};
	char path[256];

	strcpy(tmp, "/tmp/danaus-test-edit-XXXXXX");
	if (!mkdtemp(tmp))
		return -1;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", tmp, dirs[i]);
		if (mkdir(path, 0755) < 0)
			return -1;
	}
	touch("file", "");
	touch("init", "");
	touch("lib", "");
	touch("root/etc/ld.so.preload", "/usr/lib/other.so\n");
	touch("root/etc/inside", "secret");
	snprintf(path, sizeof(path), "%s/root/link", tmp);
	if (symlink("srv", path) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/root/up", tmp);
	if (symlink("../../out", path) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/sym", tmp);
	if (symlink("a", path) < 0)
		return -1;
	config = (struct config){.document = json_object(), .timeout_s = 30};
	return 0;
}

static int teardown(void **state)
{
	json_decref(config.document);
	return rundir_remove(tmp);
}

/* Replaces each '@' by the temporary directory and each '\'' by '"'. */
static char *expand(const char *text, char out[TEXT_MAX])
{
	size_t n = 0;

	for (; *text; text++) {
		if (*text == '@')
			n += sprintf(out + n, "%s", tmp);
		else
			out[n++] = *text == '\'' ? '"' : *text;
		assert_true(n < TEXT_MAX - 128);
	}
	out[n] = '\0';
	return out;
}

static json_t *document(const char *text)
{
	char expanded[TEXT_MAX];
	struct err err = {0};
	json_t *json = NULL;

	expand(text, expanded);
	if (document_parse(expanded, strlen(expanded), "config", &json, &err) < 0)
		fail_msg("%s: %s", err.text, expanded);
	return json;
}

static int edit(json_t *document, json_t **ret_spec, struct err *err)
{
	char containers[128], init[128], library[128];
	const struct edit_context context = {
	    .config = &config,
	    .bundle = tmp,
	    .id = "c1",
	    .containers = containers,
	    .init = init,
	    .library = library,
	    .hook = "/h",
	};

	snprintf(containers, sizeof(containers), "%s/containers", tmp);
	snprintf(init, sizeof(init), "%s/init", tmp);
	snprintf(library, sizeof(library), "%s/lib", tmp);
	err->text[0] = '\0';
	return edit_config(&context, document, ret_spec, err);
}

/* A config with these annotations and mounts. */
static json_t *config_with(const char *annotations, const char *mounts)
{
	char text[2 * TEXT_MAX + 256];

	snprintf(text, sizeof(text),
		 "{'process': {'args': ['sh'], 'rlimits': [{'type': 'RLIMIT_NOFILE',"
		 "'hard': 20000, 'soft': 1024}]}, 'root': {'path': 'root'}, 'mounts': [%s],"
		 "'annotations': {%s}}",
		 mounts, annotations);
	return document(text);
}

static void assert_same(const json_t *json, const char *text)
{
	json_t *want = document(text);
	char *is;

	if (!json_equal(json, want)) {
		is = json_dumps(json, JSON_INDENT(1));
		print_error("is: %s\nwanted: %s\n", is, text);
		free(is);
		fail();
	}
	json_decref(want);
}

static void the_whole_edit(void **state)
{
	json_t *json = document(
	    "{'process': {'args': ['sh', '-c', 'x'], 'env': ['A=b', 'LD_PRELOAD=/x.so'],"
	    "'capabilities': {'bounding': ['CAP_CHOWN'], 'permitted': ['CAP_CHOWN'],"
	    "'effective': ['CAP_CHOWN', 'CAP_SYS_ADMIN']}, 'noNewPrivileges': true,"
	    "'rlimits': [{'type': 'RLIMIT_NOFILE', 'hard': 18446744073709551615, 'soft': 1}]},"
	    "'root': {'path': '@/root'}, 'mounts': [{'destination': '/data', 'type': 'bind',"
	    "'source': '@/a', 'options': ['ro', 'nosuid']}],"
	    "'hooks': {'createRuntime': [{'path': '/other'}]},"
	    "'linux': {'resources': {'memory': {'limit': 104857600}}},"
	    "'annotations': {'danaus': 'on', 'danaus.cpus': '1'}}");
	json_t *spec = NULL;
	struct err err;

	if (edit(json, &spec, &err) < 0)
		fail_msg("%s", err.text);
	assert_same(
	    json,
	    "{'process': {'args': ['/.danaus/init', '1:200001:0:1:0', 'sh', '-c', 'x'],"
	    "'env': ['A=b', 'LD_PRELOAD=/.danaus/libdanaus.so:/x.so'], 'capabilities': {"
	    "'bounding': ['CAP_CHOWN', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
	    "'effective': ['CAP_CHOWN', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
	    "'permitted': ['CAP_CHOWN', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
	    "'inheritable': ['CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
	    "'ambient': ['CAP_SYS_ADMIN', 'CAP_SETPCAP']}, 'noNewPrivileges': true,"
	    "'rlimits': [{'type': 'RLIMIT_NOFILE', 'hard': 18446744073709551615, 'soft': 1}]},"
	    "'root': {'path': '@/root'}, 'mounts': [{'destination': '/data', 'type': 'bind',"
	    "'source': '@/a', 'options': ['ro', 'nosuid']},"
	    "{'destination': '/.danaus', 'type': 'bind', 'source': '@/containers/c1/guest',"
	    "'options': ['bind', 'ro', 'nosuid', 'nodev', 'noexec', 'rprivate']},"
	    "{'destination': '/.danaus/init', 'type': 'bind', 'source': '@/init',"
	    "'options': ['bind', 'ro', 'nosuid', 'nodev', 'rprivate']},"
	    "{'destination': '/.danaus/libdanaus.so', 'type': 'bind', 'source': '@/lib',"
	    "'options': ['bind', 'ro', 'nosuid', 'nodev', 'rprivate']},"
	    "{'destination': '/etc/ld.so.preload', 'type': 'bind',"
	    "'source': '@/containers/c1/guest/ld.so.preload',"
	    "'options': ['bind', 'ro', 'nosuid', 'nodev', 'noexec', 'rprivate']}],"
	    "'hooks': {'createRuntime': [{'path': '/other'}, {'path': '/h', 'args':"
	    "['danaus-hook', 'createRuntime', '@/containers/c1']}],"
	    "'poststop': [{'path': '/h', 'args': ['danaus-hook', 'poststop', '@/containers/c1']}]},"
	    "'linux': {'resources': {'memory': {'limit': 104857600}}},"
	    "'annotations': {'danaus': 'on', 'danaus.cpus': '1'}}");
	assert_same(spec, "{'id': 'c1', 'dir': '@/containers/c1', 'pool': 'c1', 'cpus': '1',"
			  "'fd_base': 8192, 'light_limit': 40960, 'cache_bytes': 26214400,"
			  "'timeout_s': 30, 'rootfs': '@/root',"
			  "'preload': '/.danaus/libdanaus.so\\n/usr/lib/other.so\\n',"
			  "'volumes': [{'target': '/data', 'source': 'local:@/a', 'ro': true,"
			  "'flags': ['nosuid'], 'make': false}]}");
	json_decref(spec);

	/* Once is enough. */
	json_t *again = json_deep_copy(json);

	assert_int_equal(edit(again, &spec, &err), 0);
	assert_null(spec);
	assert_true(json_equal(again, json));
	json_decref(again);
	json_decref(json);
}

static void without_danaus_nothing_changes(void **state)
{
	static const char *const annotations[] = {"", "'danaus': 'off'", "'danaus.pool': '/'"};

	for (size_t i = 0; i < sizeof(annotations) / sizeof(annotations[0]); i++) {
		json_t *json = config_with(annotations[i], "{'destination': '/d', 'type': 'bind',"
							   "'source': '/nonexistent'}");
		json_t *copy = json_deep_copy(json), *spec = NULL;
		struct err err;

		assert_int_equal(edit(json, &spec, &err), 0);
		assert_null(spec);
		assert_true(json_equal(json, copy));
		json_decref(copy);
		json_decref(json);
	}
}

#define BIND(target, source) "{'destination': '" target "', 'type': 'bind', 'source': '" source "'}"

static void volumes_are_chosen(void **state)
{
	static const struct {
		const char *annotations, *mounts, *want; /* target=source[,ro] ... */
	} rows[] = {
	    {"", "", ""},
	    {"", BIND("/data", "@/a"), "/data=local:@/a "},
	    {"", BIND("/data/", "@/sym"), "/data=local:@/a "},
	    {"", BIND("//data/./x", "a"), "/data/x=local:@/a "},
	    {"", BIND("/b/sub", "@/b") "," BIND("/b", "@/a"), "/b=local:@/a /b/sub=local:@/b "},
	    {"", BIND("/etc/hosts", "@/file") "," BIND("/data", "@/a"), "/data=local:@/a "},
	    {"", BIND("/dev/shm", "@/a") "," BIND("/run/secrets", "@/a") "," BIND("/proc/x", "@/a"),
	     ""},
	    {"", BIND("/", "@/a") "," BIND("/sys/fs/cgroup", "@/a") "," BIND("/.danaus/x", "@/a"),
	     ""},
	    {"", BIND("/device", "@/a") "," BIND("/runner", "@/b"),
	     "/device=local:@/a /runner=local:@/b "},
	    {"", "{'destination': '/t', 'type': 'tmpfs', 'source': 'tmpfs'}", ""},
	    {"",
	     "{'destination': '/n', 'type': 'none', 'source': '@/a', 'options': ['rbind', 'ro']}",
	     "/n=local:@/a,ro "},
	    {"", "{'destination': '/n', 'type': 'bind', 'source': '@/a', 'options': ['rshared']}",
	     ""},
	    {"", "{'destination': '/n', 'type': 'bind', 'source': '@/a', 'options': ['idmap']}",
	     ""},
	    {"", BIND("/data", "@/a") "," BIND("/data/conf", "@/file"), ""},
	    {"", BIND("/x", "@/a") "," BIND("/x/y", "@/b") "," BIND("/x/y/z", "@/file"), ""},
	    {"", BIND("/link/d", "@/a"), "/srv/d=local:@/a "},
	    {"", BIND("/c", "@/a,ro") "," BIND("/d", "@/[x]"),
	     "/c=local:@/a\\,ro /d=local:@/\\[x\\] "},
	    {"", BIND("/c", "@/b\\\\"), "/c=local:@/b\\\\ "},
	    {"'danaus.mount': '/m=local:@/a\\\\,ro;ro'", "", "/m=local:@/a\\,ro,ro "},
	    {"'danaus.mount': '/m=union:[local:@/\\\\[x\\\\],rw][local:@/a\\\\,ro,ro]'", "",
	     "/m=union:[local:@/\\[x\\],rw][local:@/a\\,ro,ro] "},
	    {"'danaus.mount': '/m=local:@/b'", BIND("/data", "@/a"), "/m=local:@/b "},
	    {"'danaus.mount': '/m=union:[local:@/a,rw][local:@/b,ro],ro'", "",
	     "/m=union:[local:@/a,rw][local:@/b,ro],ro "},
	    {"'danaus.mount.x': '/m/n=local:@/b', 'danaus.mount.y': '/m=local:@/a'", "",
	     "/m=local:@/a /m/n=local:@/b "},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char annotations[TEXT_MAX], is[TEXT_MAX] = "", want[TEXT_MAX];
		json_t *json, *spec = NULL, *volume;
		struct err err;
		size_t j;

		snprintf(annotations, sizeof(annotations), "'danaus': 'on'%s%s",
			 rows[i].annotations[0] ? "," : "", rows[i].annotations);
		json = config_with(annotations, rows[i].mounts);
		if (edit(json, &spec, &err) < 0)
			fail_msg("row %zu: %s", i, err.text);
		json_array_foreach (json_object_get(spec, "volumes"), j, volume)
			sprintf(is + strlen(is), "%s=%s%s ",
				json_string_value(json_object_get(volume, "target")),
				json_string_value(json_object_get(volume, "source")),
				json_is_true(json_object_get(volume, "ro")) ? ",ro" : "");
		expand(rows[i].want, want);
		if (strcmp(is, want) != 0)
			fail_msg("row %zu: %s, not %s", i, is, want);
		json_decref(spec);
		json_decref(json);
	}
}

static void annotated_mounts_get_a_place(void **state)
{
	json_t *json = config_with("'danaus': 'on', 'danaus.mount': '/m=local:@/a'", "");
	json_t *spec = NULL, *first;
	struct err err;

	assert_int_equal(edit(json, &spec, &err), 0);
	first = json_array_get(json_object_get(json, "mounts"), 0);
	assert_same(first, "{'destination': '/m', 'type': 'bind', 'source':"
			   "'@/containers/c1/empty', 'options': ['bind', 'rw', 'nosuid', 'nodev',"
			   "'rprivate']}");
	json_decref(spec);
	json_decref(json);
}

static void mistakes_stop_the_container(void **state)
{
	static const struct {
		const char *annotations, *mounts, *says;
	} rows[] = {
	    {"'danaus.nope': 'x'", "", "danaus.nope"},
	    {"", BIND("/data", "@/missing"), "/missing"},
	    {"", BIND("/data", "@/a") "," BIND("/data", "@/b"), "two volumes at /data"},
	    {"", BIND("/link", "@/a") "," BIND("/srv", "@/b"), "two volumes at /srv"},
	    {"", BIND("/a/../b", "@/a"), ".."},
	    {"", BIND("relative", "@/a"), "relative"},
	    {"'danaus.mount': '/m=local:@/missing'", "", "/missing"},
	    {"'danaus.mount': '/m=local:@/file'", "", "not a directory"},
	    {"'danaus.mount': '/m=local:@/sym'", "", "symbolic link"},
	    {"'danaus.mount': '/link/m=local:@/a'", "", "/srv/m"},
	    {"'danaus.mount': '/up/m=local:@/a'", "", "symbolic link"},
	    {"'danaus.mount': '/proc/m=local:@/a'", "", "/proc/m"},
	    {"'danaus.mount': '/.danaus=local:@/a'", "", "/.danaus"},
	    {"'danaus.mount': '/m=local:@/a', 'danaus.mount.x': '/m=local:@/b'", "", "two volumes"},
	    {"'danaus.mount': '/data=local:@/a'", BIND("/data", "@/b"), "/data already"},
	    {"'danaus.mount': '/data=local:@/a'", BIND("/data/x", "@/b"), "/data/x"},
	    {"'danaus.mount': '/m=ceph:/x'", "", "0 ceph identities"},
	    {"'danaus.mount': '/m=ceph:/x,id=root'", "", "not granted"},
	    {"'danaus.mount': '/m=local:@/a', 'io.kubernetes.pod.namespace': 'n'", "",
	     "local_sources"},
	    {"'danaus.pool': 'p', 'io.kubernetes.cri.container-type': 'container'", "",
	     "namespace"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char annotations[TEXT_MAX];
		json_t *json, *spec = NULL;
		struct err err;

		snprintf(annotations, sizeof(annotations), "'danaus': 'on'%s%s",
			 rows[i].annotations[0] ? "," : "", rows[i].annotations);
		json = config_with(annotations, rows[i].mounts);
		if (edit(json, &spec, &err) >= 0)
			fail_msg("row %zu passes", i);
		assert_null(spec);
		if (!strstr(err.text, rows[i].says))
			fail_msg("row %zu: %s", i, err.text);
		json_decref(json);
	}
}

static void broken_configs_are_refused(void **state)
{
	static const char *const rows[] = {
	    "{'annotations': {'danaus': 'on'}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "[]}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "[7]}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/none'}, 'process': {'args': "
	    "['x']}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "['x'],"
	    "'capabilities': []}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "['x'],"
	    "'env': {}}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "['x']},"
	    "'hooks': []}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "['x']},"
	    "'mounts': {}}",
	    "{'annotations': {'danaus': 'on'}, 'root': {'path': '@/root'}, 'process': {'args': "
	    "['x'],"
	    "'rlimits': [{'type': 'RLIMIT_NOFILE', 'hard': 64}]}}",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = document(rows[i]), *spec = NULL;
		struct err err;

		if (edit(json, &spec, &err) >= 0)
			fail_msg("row %zu passes", i);
		assert_true(err.text[0]);
		json_decref(json);
	}
}

static void a_symlink_in_the_place_of_the_guest_directory_is_refused(void **state)
{
	json_t *json = config_with("'danaus': 'on'", ""), *spec = NULL;
	char path[128];
	struct err err;

	snprintf(path, sizeof(path), "%s/root/.danaus", tmp);
	assert_int_equal(symlink("srv", path), 0);
	assert_int_equal(edit(json, &spec, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/.danaus"));
	assert_int_equal(unlink(path), 0);
	json_decref(json);
}

static void preload_is_read_inside_of_the_root(void **state)
{
	char path[128], target[128];
	json_t *json, *spec = NULL;
	struct err err;

	snprintf(path, sizeof(path), "%s/root/etc/ld.so.preload", tmp);
	snprintf(target, sizeof(target), "%s/file", tmp);
	assert_int_equal(unlink(path), 0);
	touch("file", "outside");
	assert_int_equal(symlink(target, path), 0); /* absolute: not there in the root */
	json = config_with("'danaus': 'on'", "");
	assert_int_equal(edit(json, &spec, &err), 0);
	assert_string_equal(json_string_value(json_object_get(spec, "preload")),
			    "/.danaus/libdanaus.so\n");
	json_decref(spec);
	json_decref(json);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0); /* does not block */
	json = config_with("'danaus': 'on'", "");
	assert_true(edit(json, &spec, &err) < 0);
	assert_non_null(strstr(err.text, "no regular file"));
	json_decref(json);
	assert_int_equal(unlink(path), 0);
	/* A volume there is what the container would see. */
	json = config_with("'danaus': 'on'", BIND("/etc/ld.so.preload", "@/file"));
	assert_int_equal(edit(json, &spec, &err), 0);
	assert_string_equal(json_string_value(json_object_get(spec, "preload")),
			    "/.danaus/libdanaus.so\noutside");
	json_decref(spec);
	json_decref(json);
}

static void a_missing_part_is_named(void **state)
{
	json_t *json = config_with("'danaus': 'on'", ""), *spec = NULL;
	char path[128];
	struct err err;

	snprintf(path, sizeof(path), "%s/lib", tmp);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(edit(json, &spec, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	touch("lib", "");
	json_decref(json);
}

static void a_kubernetes_pool_is_of_its_namespace(void **state)
{
	json_t *json = config_with(
	    "'danaus': 'on', 'danaus.pool': 'p', 'io.kubernetes.cri.sandbox-namespace': 'team'",
	    "");
	json_t *spec = NULL;
	struct err err;

	assert_int_equal(edit(json, &spec, &err), 0);
	assert_string_equal(json_string_value(json_object_get(spec, "pool")), "team:p");
	json_decref(spec);
	json_decref(json);
}

static void a_pods_sandbox_is_left_alone(void **state)
{
	static const char *const annotations[] = {
	    "'danaus': 'on', 'io.kubernetes.cri.container-type': 'sandbox',"
	    "'io.kubernetes.cri.sandbox-namespace': 'team', 'danaus.pool': 'p'",
	    "'danaus': 'on', 'io.kubernetes.cri-o.ContainerType': 'sandbox'"};

	for (size_t i = 0; i < sizeof(annotations) / sizeof(annotations[0]); i++) {
		json_t *json = config_with(annotations[i], "");
		json_t *copy = json_deep_copy(json), *spec = NULL;
		struct err err;

		assert_int_equal(edit(json, &spec, &err), 0);
		assert_null(spec);
		assert_true(json_equal(json, copy));
		json_decref(copy);
		json_decref(json);
	}
}

static void an_exec_is_edited_once(void **state)
{
	json_t *process =
	    document("{'args': ['ls'], 'capabilities': {'inheritable': ['CAP_KILL'],"
		     "'ambient': ['CAP_KILL'], 'bounding': ['CAP_KILL', 'CAP_NEW']}}");
	struct err err = {0};

	for (int i = 0; i < 2; i++) {
		assert_int_equal(edit_process(process, &err), 0);
		assert_same(process,
			    "{'args': ['/.danaus/init', '20:0:20:0:20', 'ls'],"
			    "'env': ['LD_PRELOAD=/.danaus/libdanaus.so'], 'capabilities': {"
			    "'inheritable': ['CAP_KILL', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
			    "'ambient': ['CAP_KILL', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
			    "'bounding': ['CAP_KILL', 'CAP_NEW', 'CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
			    "'effective': ['CAP_SYS_ADMIN', 'CAP_SETPCAP'],"
			    "'permitted': ['CAP_SYS_ADMIN', 'CAP_SETPCAP']}}");
	}
	json_decref(process);
}

static void descriptor_ranges_fit_the_limit(void **state)
{
	static const struct {
		uint64_t hard;
		int r, base, light;
	} rows[] = {
	    {64, -EINVAL, 0, 0},       {256, 0, 128, 192},	     {1024, 0, 512, 768},
	    {4096, 0, 2048, 3072},     {20000, 0, 8192, 14096},	     {65536, 0, 8192, 36864},
	    {1048576, 0, 8192, 40960}, {UINT64_MAX, 0, 8192, 40960},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int base = 0, light = 0;
		struct err err;

		assert_int_equal(edit_fd_base(rows[i].hard, &base, &light, &err), rows[i].r);
		assert_int_equal(base, rows[i].base);
		assert_int_equal(light, rows[i].light);
	}
}

/* The same, with one allocation that fails: an error that says so, or no difference. */
static void sweep_allocations(const char *annotations)
{
	json_t *whole = NULL, *whole_spec = NULL;
	bool failed = true;

	for (unsigned n = 0; failed; n++) {
		json_t *spec = NULL, *json;
		struct err err;
		int r;

		json = config_with(annotations, "{'destination': '/data', 'type': 'bind',"
						"'source': '@/a', 'options': ['ro', 'nosuid']}");
		fail_alloc_at(n);
		r = edit(json, &spec, &err);
		failed = !n || fail_alloc_done();
		fail_alloc_at(0);
		if (!n) {
			assert_int_equal(r, 0);
			whole = json;
			whole_spec = spec;
			continue;
		}
		/* jansson does not tell what it cannot hold from what it cannot make */
		if (r < 0 && r != -ENOMEM && !strstr(err.text, "no memory"))
			fail_msg("allocation %u: %d: %s", n, r, err.text);
		if (r < 0)
			assert_null(spec);
		else if (!json_equal(json, whole) || !json_equal(spec, whole_spec))
			fail_msg("allocation %u: something is not there", n);
		json_decref(json);
		json_decref(spec);
	}
	json_decref(whole);
	json_decref(whole_spec);
}

static void memory_that_is_not_there(void **state)
{
	json_set_alloc_funcs(malloc, free);
	sweep_allocations("'danaus': 'on'");
	sweep_allocations("'danaus': 'on', 'danaus.mount.a': '/x=local:@/b;ro',"
			  "'danaus.mount.b': '/y=union:[local:@/a;rw][local:@/b;ro]'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_whole_edit),
	    cmocka_unit_test(without_danaus_nothing_changes),
	    cmocka_unit_test(volumes_are_chosen),
	    cmocka_unit_test(annotated_mounts_get_a_place),
	    cmocka_unit_test(mistakes_stop_the_container),
	    cmocka_unit_test(broken_configs_are_refused),
	    cmocka_unit_test(a_symlink_in_the_place_of_the_guest_directory_is_refused),
	    cmocka_unit_test(a_missing_part_is_named),
	    cmocka_unit_test(a_kubernetes_pool_is_of_its_namespace),
	    cmocka_unit_test(a_pods_sandbox_is_left_alone),
	    cmocka_unit_test(an_exec_is_edited_once),
	    cmocka_unit_test(descriptor_ranges_fit_the_limit),
	    cmocka_unit_test(preload_is_read_inside_of_the_root),
	    cmocka_unit_test(memory_that_is_not_there),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
