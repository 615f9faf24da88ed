/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the shape of an edited config. Precreate hook and danaus-runtime; one thread. Source of the
 * config: the container engine, with parts that a tenant wrote (args, env, annotations). */
#include "oci/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "oci/annotations.h"
#include "oci/caps.h"
#include "oci/document.h"
#include "oci/rootfs.h"
#include "oci/state.h"
#include "oci/volumes.h"

#define PRELOAD_MAX	  (64u << 10) /* bytes of an image's /etc/ld.so.preload */
#define CACHE_DEFAULT_MAX (1ull << 30)
/* Each fork copies the kernel's descriptor table up to the highest number; a program with more
 * descriptors of its own pays a notification for each call on those. */
#define FD_BASE_MAX  8192
#define FD_RANGE_MAX 32768
#define FD_HARD_MIN  256

static int wrong(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "config.json: %s", what);
}

bool edit_is_done(const json_t *config)
{
	const json_t *args = json_object_get(json_object_get(config, "process"), "args");
	const char *first = json_string_value(json_array_get(args, 0));

	return first && !strcmp(first, GUEST_INIT);
}

int edit_fd_base(uint64_t hard, int *ret_base, int *ret_light_limit, struct err *err)
{
	uint64_t base = 1, range;

	if (hard < FD_HARD_MIN)
		return err_set(err, -EINVAL,
			       "the limit of open files (%u) is too small for Danaus: at least %d, "
			       "as in --ulimit nofile=1024",
			       (unsigned)hard, FD_HARD_MIN);
	while (base * 2 <= hard / 8 * 7 && base < FD_BASE_MAX)
		base *= 2;
	range = (hard - base) / 2;
	*ret_base = base;
	*ret_light_limit = base + (range < FD_RANGE_MAX ? range : FD_RANGE_MAX);
	return 0;
}

static uint64_t hard_limit(const json_t *process)
{
	struct rlimit own;
	const json_t *limit;
	uint64_t value;
	size_t i;

	json_array_foreach (json_object_get(process, "rlimits"), i, limit) {
		const char *type = json_string_value(json_object_get(limit, "type"));

		if (type && !strcmp(type, "RLIMIT_NOFILE") &&
		    !document_u64(json_object_get(limit, "hard"), &value))
			return value;
	}
	return getrlimit(RLIMIT_NOFILE, &own) < 0 ? 1024 : own.rlim_max;
}

/* LD_PRELOAD=LIBRARY[:what was there] */
static int preload_env(json_t *process)
{
	static const char name[] = "LD_PRELOAD=";
	CLEANUP_FREE char *merged = NULL;
	json_t *env, *entry;
	int r = document_array(process, "env", &env);
	size_t i, at = SIZE_MAX;
	const char *old = "";

	if (r < 0)
		return r;
	json_array_foreach (env, i, entry) {
		const char *text = json_string_value(entry);

		if (text && !strncmp(text, name, strlen(name))) {
			at = i; /* the last one counts */
			old = text + strlen(name);
		}
	}
	if (asprintf(&merged, "%s%s%s%s", name, GUEST_LIBRARY, *old ? ":" : "", old) < 0)
		return -ENOMEM;
	if (at == SIZE_MAX)
		return json_array_append_new(env, json_string(merged)) < 0 ? -ENOMEM : 0;
	return json_array_set_new(env, at, json_string(merged)) < 0 ? -ENOMEM : 0;
}

int edit_process(json_t *process, struct err *err)
{
	json_t *args = json_object_get(process, "args");
	const char *first = json_string_value(json_array_get(args, 0));
	char text[CAPS_TEXT_MAX];
	struct caps caps;
	int r;

	if (!first)
		return wrong(err, "process.args is missing or empty");
	if (!strcmp(first, GUEST_INIT))
		return 0;
	caps_of_process(process, &caps);
	caps_format(&caps, text);
	if (json_array_insert_new(args, 0, json_string(GUEST_INIT)) < 0 ||
	    json_array_insert_new(args, 1, json_string(text)) < 0)
		return -ENOMEM;
	/* SYS_ADMIN loads the filter, SETPCAP takes both out of the bounding set again. */
	r = caps_add(process, "CAP_SYS_ADMIN");
	if (!r)
		r = caps_add(process, "CAP_SETPCAP");
	if (r == -EINVAL)
		return wrong(err, "process.capabilities has a wrong type");
	if (!r)
		r = preload_env(process);
	return r == -EINVAL ? wrong(err, "process.env is not a list") : r;
}

static int add_mount(json_t *mounts, const char *target, const char *source, const char *options)
{
	json_t *list = json_array();
	CLEANUP_FREE char *copy = strdup(options);
	char *rest = copy, *option;
	bool whole = copy;

	while (whole && (option = strsep(&rest, ",")))
		whole = json_array_append_new(list, json_string(option)) == 0;
	if (!whole) {
		json_decref(list);
		return -ENOMEM;
	}
	return json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:o}", "destination",
						       target, "type", "bind", "source", source,
						       "options", list)) < 0
		   ? -ENOMEM
		   : 0;
}

static int add_hook(json_t *hooks, const char *stage, const char *path, const char *dir)
{
	json_t *list;
	int r = document_array(hooks, stage, &list);

	if (r < 0)
		return r;
	return json_array_append_new(list, json_pack("{s:s, s:[s, s, s]}", "path", path, "args",
						     "danaus-hook", stage, dir)) < 0
		   ? -ENOMEM
		   : 0;
}

/* The container's id as podman and CRI-O write it into cgroupsPath ("/parent/libpod-ID",
 * "slice:libpod:ID"), else a random one: the directory's name is all that depends on it. */
static int find_id(const json_t *config, char ret[ID_MAX])
{
	const char *path =
	    json_string_value(json_object_get(json_object_get(config, "linux"), "cgroupsPath"));
	unsigned char random[16];

	if (path) {
		const char *tail = path + strlen(path);

		while (tail > path && strchr("/:", tail[-1]) == NULL)
			tail--;
		for (const char *dash = strchr(tail, '-'); dash; dash = strchr(tail, '-'))
			tail = dash + 1;
		if (strspn(tail, "0123456789abcdef") == 64 && !tail[64]) {
			memcpy(ret, tail, 65);
			return 0;
		}
	}
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		sprintf(ret + 2 * i, "%02x", random[i]);
	return 0;
}

/* The image's /etc/ld.so.preload, or that of a volume that is mounted there; "" without one. */
static int read_preload(const json_t *config, int root, char **ret, struct err *err)
{
	CLEANUP_FD int fd = -1;
	const json_t *mount;
	const char *source = NULL;
	struct stat st;
	size_t i;
	int r;

	json_array_foreach (json_object_get(config, "mounts"), i, mount) {
		const char *target = json_string_value(json_object_get(mount, "destination"));

		if (target && !strcmp(target, EDIT_LD_PRELOAD))
			source = json_string_value(json_object_get(mount, "source"));
	}
	if (source) {
		fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		r = fd < 0 ? -errno : 0;
	} else {
		r = rootfs_open(root, EDIT_LD_PRELOAD, O_RDONLY | O_NONBLOCK | O_NOCTTY,
				RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, &fd);
	}
	if (r == -ENOENT || r == -ENOTDIR) {
		*ret = strdup("");
		return *ret ? 0 : -ENOMEM;
	}
	if (!r && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
		return err_set(err, -EINVAL,
			       "the image's " EDIT_LD_PRELOAD
			       " is no regular file: remove it from the image");
	if (!r)
		r = fd_read_all(fd, PRELOAD_MAX, ret, NULL);
	return r < 0 ? err_prefix(err, r, "the image's " EDIT_LD_PRELOAD) : 0;
}

static int preload_file(const json_t *config, int root, json_t *spec, struct err *err)
{
	CLEANUP_FREE char *old = NULL, *text = NULL;
	json_t *value;
	int r = read_preload(config, root, &old, err);

	if (r < 0)
		return r;
	if (asprintf(&text, "%s\n%s", GUEST_LIBRARY, old) < 0)
		return -ENOMEM;
	value = json_string(text);
	if (!value)
		return err_set(err, -EINVAL,
			       "the image's " EDIT_LD_PRELOAD
			       " is not text, or there is no memory for it");
	return json_object_set_new(spec, "preload", value) < 0 ? -ENOMEM : 0;
}

static uint64_t cache_default(const json_t *config)
{
	const json_t *resources = json_object_get(json_object_get(config, "linux"), "resources");
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE), limit;

	if (!document_u64(json_object_get(json_object_get(resources, "memory"), "limit"), &limit) &&
	    limit && limit < memory)
		memory = limit;
	return memory / 4 < CACHE_DEFAULT_MAX ? memory / 4 : CACHE_DEFAULT_MAX;
}

/* What containerd and CRI-O write (not the pod, which cannot take it away either): a tenant of a
 * cluster wrote the danaus annotations, not somebody who may bind-mount anything. */
static bool is_kubernetes(const json_t *annotations)
{
	static const char *const signs[] = {
	    "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-namespace",
	    "io.kubernetes.cri-o.ContainerType", "io.kubernetes.pod.namespace"};

	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		if (json_object_get(annotations, signs[i]))
			return true;
	}
	return false;
}

/* The container that only holds a pod's namespaces open: it has the pod's annotations, and neither
 * volumes nor room in its cgroup for a service, which the pod's others might share. */
static bool is_sandbox(const json_t *annotations)
{
	static const char *const types[] = {"io.kubernetes.cri.container-type",
					    "io.kubernetes.cri-o.ContainerType"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const char *type = json_string_value(json_object_get(annotations, types[i]));

		if (type && !strcmp(type, "sandbox"))
			return true;
	}
	return false;
}

/* A pool that a Kubernetes pod names is one of its namespace: a tenant cannot join another's. */
static int pool_name(const json_t *annotations, const struct annotations *a, const char *id,
		     char ret[POOL_NAME_MAX], struct err *err)
{
	const char *ns =
	    json_string_value(json_object_get(annotations, "io.kubernetes.cri.sandbox-namespace"));

	if (!ns)
		ns = json_string_value(json_object_get(annotations, "io.kubernetes.pod.namespace"));
	if (!a->pool)
		ns = NULL;
	else if (!ns && is_kubernetes(annotations))
		return err_set(
		    err, -EACCES,
		    "annotation danaus.pool: this container engine does not tell the pod's "
		    "namespace, whose pools alone it may join: leave danaus.pool out");
	snprintf(ret, POOL_NAME_MAX, "%s%s%s", ns ? ns : "", ns ? ":" : "", a->pool ? a->pool : id);
	return id_check(ret, POOL_NAME_MAX) < 0
		   ? err_set(err, -EINVAL, "%.150s is no usable name for a pool: set danaus.pool",
			     ret)
		   : 0;
}

/* The rootfs as a descriptor, and its absolute path into the spec. */
static int open_root(const struct edit_context *c, const json_t *config, json_t *spec, int *ret,
		     struct err *err)
{
	const char *path =
	    json_string_value(json_object_get(json_object_get(config, "root"), "path"));
	CLEANUP_FREE char *joined = NULL, *real = NULL;
	struct stat st;
	int fd;

	if (!path)
		return wrong(err, "root.path is missing");
	if (asprintf(&joined, "%s%s%s", *path == '/' ? "" : c->bundle, *path == '/' ? "" : "/",
		     path) < 0)
		return -ENOMEM;
	real = realpath(joined, NULL);
	fd = real ? open(real, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0)
		return err_set(err, -errno, "the root file system %s: %s", joined, strerror(errno));
	*ret = fd;
	if (json_object_set_new(spec, "rootfs", json_string(real)) < 0)
		return -ENOMEM;
	/* The runtime mounts on what this path resolves to. As a symlink it could lead to where the
	 * image, or a volume that others write to, decides which program gets init's rights. */
	if (fstatat(fd, ".danaus", &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
		return err_set(err, -EINVAL,
			       "the image has a " GUEST_DIR " that is no directory: remove it "
			       "from the image");
	return 0;
}

static int installed(const char *path, struct err *err)
{
	return access(path, F_OK) < 0
		   ? err_set(err, -errno, "%s is missing: install Danaus again", path)
		   : 0;
}

static int edit_mounts(const struct edit_context *c, json_t *config, const json_t *spec,
		       const char *dir)
{
	json_t *mounts, *volume;
	char guest[4200], preload[4224], empty[4200];
	size_t i;
	int r = document_array(config, "mounts", &mounts);

	snprintf(guest, sizeof(guest), "%s/guest", dir);
	snprintf(preload, sizeof(preload), "%s/ld.so.preload", guest);
	snprintf(empty, sizeof(empty), "%s/empty", dir);
	json_array_foreach (json_object_get(spec, "volumes"), i, volume) {
		if (!r && json_is_true(json_object_get(volume, "make")))
			r = add_mount(mounts, json_string_value(json_object_get(volume, "target")),
				      empty, "bind,rw,nosuid,nodev,rprivate");
	}
	if (!r)
		r = add_mount(mounts, GUEST_DIR, guest, "bind,ro,nosuid,nodev,noexec,rprivate");
	if (!r)
		r = add_mount(mounts, GUEST_INIT, c->init, "bind,ro,nosuid,nodev,rprivate");
	if (!r)
		r = add_mount(mounts, GUEST_LIBRARY, c->library, "bind,ro,nosuid,nodev,rprivate");
	if (!r)
		r = add_mount(mounts, EDIT_LD_PRELOAD, preload,
			      "bind,ro,nosuid,nodev,noexec,rprivate");
	return r;
}

static int edit_hooks(const struct edit_context *c, json_t *config, const char *dir)
{
	json_t *hooks;
	int r = document_object(config, "hooks", &hooks);

	if (!r)
		r = add_hook(hooks, "createRuntime", c->hook, dir);
	if (!r)
		r = add_hook(hooks, "poststop", c->hook, dir);
	return r;
}

struct names {
	char id[ID_MAX], pool[POOL_NAME_MAX], dir[4096];
};

static int find_names(const struct edit_context *c, const json_t *config,
		      const struct annotations *a, struct names *ret, struct err *err)
{
	int r = 0;

	if (c->id && id_check(c->id, ID_MAX) < 0)
		return err_set(err, -EINVAL, "the container's id %.100s is not usable", c->id);
	if (c->id)
		strcpy(ret->id, c->id);
	else
		r = find_id(config, ret->id);
	if (!r)
		r = pool_name(json_object_get(config, "annotations"), a, ret->id, ret->pool, err);
	if (r < 0)
		return r;
	return (size_t)snprintf(ret->dir, sizeof(ret->dir), "%s/%s", c->containers, ret->id) >=
		       sizeof(ret->dir)
		   ? -ENAMETOOLONG
		   : 0;
}

static int new_spec(const json_t *config, const struct annotations *a, const struct names *names,
		    json_t **ret, struct err *err)
{
	uint64_t cache_bytes = a->cache_bytes ? a->cache_bytes : cache_default(config);
	int fd_base, light_limit;
	int r = edit_fd_base(hard_limit(json_object_get(config, "process")), &fd_base, &light_limit,
			     err);

	if (r < 0)
		return r;
	*ret = json_pack("{s:s, s:s, s:s, s:s*, s:i, s:i, s:I, s:[]}", "id", names->id, "dir",
			 names->dir, "pool", names->pool, "cpus", a->cpus, "fd_base", fd_base,
			 "light_limit", light_limit, "cache_bytes", (json_int_t)cache_bytes,
			 "volumes");
	return *ret ? 0 : -ENOMEM;
}

/* Into the spec: the volumes and what their sources need. */
static int collect_volumes(const struct edit_context *c, const json_t *config,
			   const struct annotations *a, const char *pool, int root, json_t *spec,
			   struct err *err)
{
	const struct volumes_context context = {
	    .annotations = a,
	    .config = c->config,
	    .pool = pool,
	    .bundle = c->bundle,
	    .root = root,
	    .trusted = !is_kubernetes(json_object_get(config, "annotations")),
	};
	struct config_ceph ceph;
	unsigned timeout_s;
	int r = volumes_collect(&context, json_object_get(config, "mounts"),
				json_object_get(spec, "volumes"), &ceph, &timeout_s, err);

	if (r < 0)
		return r;
	if (json_object_set_new(spec, "timeout_s", json_integer(timeout_s)) < 0 ||
	    (ceph.name &&
	     json_object_set_new(spec, "ceph",
				 json_pack("{s:s, s:s*, s:s}", "conf", ceph.conf, "keyring",
					   ceph.keyring, "id", ceph.id)) < 0))
		return -ENOMEM;
	return 0;
}

int edit_config(const struct edit_context *c, json_t *config, json_t **ret_spec, struct err *err)
{
	__attribute__((cleanup(annotations_done))) struct annotations a;
	const json_t *annotations = json_object_get(config, "annotations");
	CLEANUP_JSON json_t *spec = NULL;
	CLEANUP_FD int root = -1;
	struct names names;
	int r;

	r = annotations_parse(annotations, &a, err);
	if (r < 0)
		return r;
	*ret_spec = NULL;
	if (!a.on || is_sandbox(annotations) || edit_is_done(config))
		return 0;
	r = find_names(c, config, &a, &names, err);
	if (!r)
		r = installed(c->init, err);
	if (!r)
		r = installed(c->library, err);
	if (!r)
		r = new_spec(config, &a, &names, &spec, err);
	if (!r)
		r = open_root(c, config, spec, &root, err);
	if (!r)
		r = collect_volumes(c, config, &a, names.pool, root, spec, err);
	if (!r)
		r = preload_file(config, root, spec, err);
	if (!r)
		r = edit_process(json_object_get(config, "process"), err);
	if (r < 0)
		return r;
	r = edit_mounts(c, config, spec, names.dir);
	if (r == -EINVAL)
		return wrong(err, "mounts is not a list");
	if (!r)
		r = edit_hooks(c, config, names.dir);
	if (r == -EINVAL)
		return wrong(err, "hooks has a wrong type");
	if (r < 0)
		return r;
	*ret_spec = STEAL_PTR(spec);
	return 0;
}
