/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the configuration's document and its keys. Source: admin. One thread. */
#include "oci/config.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/path.h"
#include "oci/document.h"
#include "oci/state.h"

#define DEFAULT_TIMEOUT_S 90

static int absolute_paths(const char *path, const char *key, const json_t *array, struct err *err)
{
	const json_t *value;
	size_t i;

	if (!json_is_array(array))
		return err_set(err, -EINVAL, "%s: \"%s\" is a list of absolute paths", path, key);
	json_array_foreach (array, i, value) {
		if (!json_is_string(value) || path_check(json_string_value(value), 4096) < 0)
			return err_set(err, -EINVAL,
				       "%s: \"%s\" takes absolute paths without \"..\"", path, key);
	}
	return 0;
}

static bool is_strings(const json_t *array)
{
	const json_t *value;
	size_t i;

	json_array_foreach (array, i, value) {
		if (!json_is_string(value))
			return false;
	}
	return json_is_array(array);
}

static int read_log_level(struct config *config, const char *text)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i])) {
			config->log_level = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int check_identity(const char *path, const char *name, const json_t *identity,
			  struct err *err)
{
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(identity) || id_check(name, CONFIG_IDENTITY_MAX) < 0)
		return err_set(err, -EINVAL, "%s: \"ceph\" is {\"NAME\": {...}}", path);
	json_object_foreach ((json_t *)identity, key, value) {
		if (!strcmp(key, "conf") || !strcmp(key, "keyring")) {
			if (!json_is_string(value) ||
			    path_check(json_string_value(value), 4096) < 0)
				return err_set(err, -EINVAL,
					       "%s: ceph.%s.%s takes an absolute path", path, name,
					       key);
		} else if (!strcmp(key, "id")) {
			if (!json_is_string(value))
				return err_set(err, -EINVAL, "%s: ceph.%s.id takes a string", path,
					       name);
		} else if (!strcmp(key, "paths")) {
			r = absolute_paths(path, "paths", value, err);
			if (r < 0)
				return r;
		} else if (!strcmp(key, "allow")) {
			if (!is_strings(value))
				return err_set(err, -EINVAL,
					       "%s: ceph.%s.allow takes a list of patterns of "
					       "pools, as in [\"*\"]",
					       path, name);
		} else {
			return err_set(err, -EINVAL,
				       "%s: ceph.%s has conf, keyring, id, allow [patterns of "
				       "pools], paths [directories]; not \"%s\"",
				       path, name, key);
		}
	}
	if (!json_object_get(identity, "conf") || !json_object_get(identity, "id"))
		return err_set(err, -EINVAL, "%s: ceph.%s needs \"conf\" and \"id\"", path, name);
	return 0;
}

static int read_key(struct config *config, const char *path, const char *key, json_t *value,
		    struct err *err)
{
	const char *name;
	json_t *identity;
	int r;

	if (!strcmp(key, "runtimes")) {
		config->runtimes = value;
		return absolute_paths(path, key, value, err);
	}
	if (!strcmp(key, "local_sources")) {
		config->local_sources = value;
		return absolute_paths(path, key, value, err);
	}
	if (!strcmp(key, "log_level"))
		return read_log_level(config, json_string_value(value)) < 0
			   ? err_set(err, -EINVAL,
				     "%s: \"log_level\" is error, warning, info or debug", path)
			   : 0;
	if (!strcmp(key, "timeout_s")) {
		json_int_t seconds = json_integer_value(value);

		if (seconds < 1 || seconds > CONFIG_TIMEOUT_MAX_S)
			return err_set(err, -EINVAL,
				       "%s: \"timeout_s\" is a number of seconds, 1 to %d", path,
				       CONFIG_TIMEOUT_MAX_S);
		config->timeout_s = seconds;
		return 0;
	}
	if (strcmp(key, "ceph") != 0)
		return err_set(err, -EINVAL,
			       "%s: unknown key \"%.100s\": runtimes, local_sources, log_level, "
			       "timeout_s and ceph are known",
			       path, key);
	if (!json_is_object(value))
		return err_set(err, -EINVAL, "%s: \"ceph\" is {\"NAME\": {...}}", path);
	json_object_foreach (value, name, identity) {
		r = check_identity(path, name, identity, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int config_read(const char *path, struct config *ret, struct err *err)
{
	const char *key;
	json_t *value;
	int r;

	*ret = (struct config){.log_level = LOG_INFO, .timeout_s = DEFAULT_TIMEOUT_S};
	r = document_read_at(AT_FDCWD, path, &ret->document, err);
	if (r == -ENOENT) {
		err_set(err, 0, "%s", "");
		ret->document = json_object();
		return ret->document ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	json_object_foreach (ret->document, key, value) {
		r = read_key(ret, path, key, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

void config_done(struct config *config)
{
	json_decref(config->document);
	config->document = NULL;
}

int config_runtime(const struct config *config, const char **ret, struct err *err)
{
	static const char *const defaults[] = {"/usr/bin/crun", "/usr/bin/runc", "/usr/sbin/runc"};
	size_t n = config->runtimes ? json_array_size(config->runtimes)
				    : sizeof(defaults) / sizeof(defaults[0]);
	struct stat self = {0}, st;

	stat("/proc/self/exe", &self);
	for (size_t i = 0; i < n; i++) {
		const char *path = config->runtimes
				       ? json_string_value(json_array_get(config->runtimes, i))
				       : defaults[i];

		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0 ||
		    (st.st_dev == self.st_dev && st.st_ino == self.st_ino))
			continue;
		*ret = path;
		return 0;
	}
	return err_set(
	    err, -ENOENT,
	    "no low-level runtime found: install crun or runc, or name one in \"runtimes\" "
	    "of " CONFIG_PATH);
}

static bool below_any(const json_t *dirs, const char *path)
{
	const json_t *dir;
	size_t i;

	json_array_foreach (dirs, i, dir) {
		if (path_below(path, json_string_value(dir)))
			return true;
	}
	return false;
}

bool config_allows_local(const struct config *config, bool trusted, const char *dir)
{
	return config->local_sources ? below_any(config->local_sources, dir) : trusted;
}

static bool granted(const json_t *identity, const char *pool)
{
	const json_t *pattern;
	size_t i;

	json_array_foreach (json_object_get(identity, "allow"), i, pattern) {
		if (json_is_string(pattern) && !fnmatch(json_string_value(pattern), pool, 0))
			return true;
	}
	return false;
}

int config_ceph(const struct config *config, const char *name, const char *pool, const char *path,
		struct config_ceph *ret, struct err *err)
{
	json_t *all = json_object_get(config->document, "ceph"), *identity = NULL, *value;
	const char *key;
	unsigned n = 0;

	if (name) {
		identity = json_object_get(all, name);
	} else {
		json_object_foreach (all, key, value) {
			if (!granted(value, pool))
				continue;
			identity = value;
			name = key;
			n++;
		}
		if (n != 1)
			return err_set(
			    err, -EACCES,
			    "%u ceph identities are granted to pool %s: %s " CONFIG_PATH, n, pool,
			    n ? "choose one with ,id=NAME; they are in"
			      : "add one under \"ceph\", with the pool in its \"allow\", to");
	}
	if (!identity || !granted(identity, pool))
		return err_set(err, -EACCES,
			       "ceph identity %s is not granted to pool %s: see \"ceph\" and its "
			       "\"allow\" in " CONFIG_PATH,
			       name, pool);
	*ret = (struct config_ceph){
	    .name = name,
	    .conf = json_string_value(json_object_get(identity, "conf")),
	    .keyring = json_string_value(json_object_get(identity, "keyring")),
	    .id = json_string_value(json_object_get(identity, "id")),
	    .allow = json_object_get(identity, "allow"),
	    .paths = json_object_get(identity, "paths"),
	};
	if (ret->paths && !below_any(ret->paths, path))
		return err_set(
		    err, -EACCES,
		    "ceph identity %s may not mount %s: see its \"paths\" in " CONFIG_PATH, name,
		    path);
	return 0;
}
