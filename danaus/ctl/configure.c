/* SPDX-License-Identifier: Apache-2.0 */
/* danausctl configure: makes Danaus known to a container engine, by drop-in files that it writes
 * and removes whole. Running it again changes nothing. One file is not ours: containerd reads
 * drop-ins only where its config.toml imports them, so a line goes into that, with a mark. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/ctl/ctl.h"

#define FILE_MAX	(1u << 20)
#define CONTAINERD_TOML "/etc/containerd/config.toml"
#define CONTAINERD_DIR	"/etc/containerd/conf.d"
#define MARK		"# danausctl configure"
#define IMPORT		"imports = [\"" CONTAINERD_DIR "/*.toml\"] " MARK "\n"
#define HEAD		"# Written by danausctl configure; removed by danausctl configure --remove.\n"

static const struct engine {
	const char *name, *path, *content, *after;
} engines[] = {
    {"podman", CTL_PODMAN_DROP_IN,
     HEAD "[engine]\n"
	  "hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\", "
	  "\"" CTL_PODMAN_HOOKS "\"]\n"
	  "[engine.runtimes]\n"
	  "danaus = [\"" DANAUS_BINDIR "/danaus-runtime\"]\n",
     "podman run --annotation danaus=on -v DIR:/data IMAGE"},
    {"containerd", CONTAINERD_DIR "/50-danaus.toml",
     HEAD "version = 2\n"
	  "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.danaus]\n"
	  "  runtime_type = \"io.containerd.danaus.v2\"\n"
	  "  pod_annotations = [\"danaus\", \"danaus.*\"]\n"
	  "  container_annotations = [\"danaus\", \"danaus.*\"]\n",
     "restart containerd; ctr run --runtime io.containerd.danaus.v2, or a RuntimeClass with "
     "handler "
     "danaus"},
    {"crio", CTL_CRIO_DROP_IN,
     HEAD "[crio.runtime.runtimes.danaus]\n"
	  "runtime_path = \"" DANAUS_BINDIR "/danaus-runtime\"\n"
	  "runtime_type = \"oci\"\n"
	  "runtime_root = \"/run/danaus-runtime\"\n",
     "restart crio; a RuntimeClass with handler danaus"},
};

struct change {
	const char *root; /* "" or a directory to take for / */
	bool dry_run, remove;
};

/* mkdir -p of path's directory. */
static int make_parents(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

/* Brings the file at path to content (NULL: not there), and says what it does. */
static int bring_to(const struct change *change, const char *path, const char *content)
{
	CLEANUP_FREE char *old = NULL;
	char full[PATH_MAX];
	int r;

	if (snprintf(full, sizeof(full), "%s%s", change->root, path) >= (int)sizeof(full))
		return -ENAMETOOLONG;
	r = fd_read_file_at(AT_FDCWD, full, FILE_MAX, &old, NULL);
	if (r < 0 && r != -ENOENT)
		return r;
	if (old && content ? !strcmp(old, content) : !old && !content) {
		printf("%s: nothing to do\n", path);
		return 0;
	}
	printf("%s%s %s\n", change->dry_run ? "would " : "", content ? "write" : "remove", path);
	if (change->dry_run) {
		if (content)
			printf("%s", content);
		return 0;
	}
	if (!content)
		return unlink(full) < 0 ? -errno : 0;
	r = make_parents(full);
	return r < 0 ? r : fd_replace_file_at(AT_FDCWD, full, 0644, content, strlen(content));
}

static const char *next_line(const char *line)
{
	const char *end = strchrnul(line, '\n');

	return *end ? end + 1 : end;
}

/* The line of config.toml's own keys (before the first table) that begins with key; NULL. */
static const char *top_key(const char *text, const char *key)
{
	for (const char *line = text; *line; line = next_line(line)) {
		const char *p = line + strspn(line, " \t");

		if (*p == '[')
			return NULL;
		if (!strncmp(p, key, strlen(key)) && strchr(" \t=", p[strlen(key)]))
			return line;
	}
	return NULL;
}

/* config.toml with the import or without it. *ret is NULL where nothing is left of it. */
static int edit_imports(const char *old, bool remove, char **ret)
{
	const char *imports = top_key(old, "imports"), *version = top_key(old, "version"), *at;
	CLEANUP_FREE char *line = imports ? strndup(imports, strcspn(imports, "\n")) : NULL;

	if (!remove && imports && strstr(line, CONTAINERD_DIR "/*.toml")) {
		*ret = strdup(old);
		return *ret ? 0 : -ENOMEM;
	}
	if (!remove && imports) {
		fprintf(stderr,
			"danausctl configure: " CONTAINERD_TOML
			" has imports already: add \"" CONTAINERD_DIR "/*.toml\" to them\n");
		return -EEXIST;
	}
	if (!remove) {
		at = version ? next_line(version) : old;
		if (asprintf(ret, "%.*s%s%s%s", (int)(at - old), old,
			     at > old && at[-1] != '\n' ? "\n"
			     : *old			? ""
							: "version = 2 " MARK "\n",
			     IMPORT, at) < 0)
			return -ENOMEM;
		return 0;
	}
	*ret = malloc(strlen(old) + 1);
	if (!*ret)
		return -ENOMEM;
	**ret = '\0';
	for (at = old; *at; at = next_line(at)) {
		CLEANUP_FREE char *one = strndup(at, next_line(at) - at);

		if (one && !strstr(one, MARK))
			strcat(*ret, one);
	}
	if (!**ret) {
		free(*ret);
		*ret = NULL;
	}
	return 0;
}

static int configure_imports(const struct change *change)
{
	CLEANUP_FREE char *old = NULL, *edited = NULL;
	char full[PATH_MAX];
	int r;

	if (snprintf(full, sizeof(full), "%s" CONTAINERD_TOML, change->root) >= (int)sizeof(full))
		return -ENAMETOOLONG;
	r = fd_read_file_at(AT_FDCWD, full, FILE_MAX, &old, NULL);
	if (r < 0 && r != -ENOENT)
		return r;
	if (change->remove && !old)
		return 0;
	r = edit_imports(old ? old : "", change->remove, &edited);
	return r < 0 ? r : bring_to(change, CONTAINERD_TOML, edited);
}

int verb_configure(int argc, char **argv)
{
	struct change change = {.root = ""};
	const char *name = NULL;

	for (int i = 1; i < argc; i++) {
		const char *value;

		if ((value = ctl_value(argc, argv, &i, "--runtime"))) {
			name = value;
		} else if ((value = ctl_value(argc, argv, &i, "--root"))) {
			change.root = value;
		} else if (!strcmp(argv[i], "--dry-run")) {
			change.dry_run = true;
		} else if (!strcmp(argv[i], "--remove")) {
			change.remove = true;
		} else {
			fprintf(stderr, "danausctl configure: unexpected %s\n", argv[i]);
			return 2;
		}
	}
	for (size_t i = 0; name && i < sizeof(engines) / sizeof(engines[0]); i++) {
		const struct engine *engine = &engines[i];
		int r;

		if (strcmp(name, engine->name) != 0)
			continue;
		r = strcmp(name, "containerd") ? 0 : configure_imports(&change);
		if (!r)
			r = bring_to(&change, engine->path, change.remove ? NULL : engine->content);
		if (r < 0) {
			fprintf(stderr, "danausctl configure: %s: %s\n", name, strerror(-r));
			return 1;
		}
		if (!change.dry_run && !change.remove)
			printf("next: %s\n", engine->after);
		return 0;
	}
	if (name)
		fprintf(stderr, "danausctl configure: no such engine: %s\n", name);
	fprintf(stderr, "usage: danausctl configure --runtime=podman|containerd|crio [--dry-run] "
			"[--remove] [--root=DIR]\n");
	return 2;
}
