/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the pool's containers: makes one from an attach request, serves it, takes it down when it is
 * asked for or when the container's first process has ended. Worker threads, under server->lock.
 * Source of the request: the admin's hook; of what is below guest/: nobody but root writes there,
 * but it is opened as if a tenant could. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cgroups/cgroups.h"
#include "danaus/base/cleanup.h"
#include "danaus/base/fd.h"
#include "danaus/base/log.h"
#include "danaus/fuse/face.h"
#include "danaus/libservices/libservice.h"
#include "danaus/notify/notify.h"
#include "danaus/server/attach.h"
#include "danaus/server/server.h"

struct container_entry {
	struct server *server;
	struct container container;
	struct mount_table table;
	int guest, pidfd;
	struct container_entry *next;
};

static int string_of(json_t *object, const char *key, const char **ret, struct err *err)
{
	const char *text = json_string_value(json_object_get(object, key));

	if (!text) {
		err_set(err, -EINVAL, "attach: %s is missing or no string", key);
		return -EINVAL;
	}
	*ret = text;
	return 0;
}

static int number_of(json_t *object, const char *key, long long min, long long max, long long *ret,
		     struct err *err)
{
	json_t *value = json_object_get(object, key);
	long long number = json_integer_value(value);

	if (!json_is_integer(value) || number < min || number > max) {
		err_set(err, -EINVAL, "attach: %s is not a number from %lld to %lld", key, min,
			max);
		return -EINVAL;
	}
	*ret = number;
	return 0;
}

static ino_t namespace_of(pid_t pid, const char *kind)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

/* The order in the request is kept in mounts[]; in the container, the longest target is first. */
static int compare_volumes(const void *a, const void *b)
{
	size_t la = strlen(((const struct volume *)a)->target);
	size_t lb = strlen(((const struct volume *)b)->target);

	return la < lb ? 1
	       : la > lb
		   ? -1
		   : strcmp(((const struct volume *)a)->target, ((const struct volume *)b)->target);
}

static int read_volumes(struct container *container, json_t *list, struct err *err)
{
	json_t *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > MOUNT_TABLE_MAX)
		return err_set(err, -EINVAL, "attach: volumes is no list of at most %d",
			       MOUNT_TABLE_MAX);
	json_array_foreach (list, i, item) {
		struct volume *volume = &container->volumes[container->nvolumes];
		const char *target, *source;
		int r = string_of(item, "target", &target, err);

		if (!r)
			r = string_of(item, "source", &source, err);
		if (r < 0)
			return r;
		if (target[0] != '/' || strlen(target) >= MOUNT_PATH_MAX)
			return err_set(err, -EINVAL, "target %s: not absolute, or longer than %d",
				       target, MOUNT_PATH_MAX - 1);
		strcpy(volume->target, target);
		volume->ro = json_is_true(json_object_get(item, "ro"));
		volume->spec = strdup(source);
		if (!volume->spec)
			return -ENOMEM;
		container->nvolumes++;
	}
	qsort(container->volumes, container->nvolumes, sizeof(container->volumes[0]),
	      compare_volumes);
	for (i = 1; i < container->nvolumes; i++) {
		if (!strcmp(container->volumes[i].target, container->volumes[i - 1].target))
			return err_set(err, -EINVAL, "two volumes at %s",
				       container->volumes[i].target);
	}
	return 0;
}

int container_session(const char *id, const char *target, char ret[SESSION_MAX])
{
	int n = snprintf(ret, SESSION_MAX, "%s:%s", id, target);

	return n < SESSION_MAX ? 0 : -ENAMETOOLONG;
}

static int open_volume(struct container *container, struct volume *volume,
		       const struct stack_limits *limits, int *ret_mount, struct err *err)
{
	struct stack_limits own = *limits;
	struct libservice *ls;
	char session[SESSION_MAX];
	int r;

	if (!container_session(container->id, volume->target, session))
		own.session = session;
	r = stack_open(volume->spec, &own, &ls, err);

	if (r < 0)
		return err_prefix(err, r, "%s", volume->target);
	ls->ro |= volume->ro;
	r = vfs_instance_add(container->pool->vfs, container->id, volume->target, ls,
			     &volume->instance, err);
	if (r < 0) {
		ls_free(ls);
		return err_prefix(err, r, "%s", volume->target);
	}
	r = face_start(container, volume, ret_mount, err);
	return r < 0 ? err_prefix(err, r, "%s", volume->target) : 0;
}

static int write_guest(struct container_entry *entry, struct err *err)
{
	struct container *container = &entry->container;
	struct mount_table *table = &entry->table;
	dev_t anchor = anchors_dev(container->pool->anchors);
	CLEANUP_FREE void *filter = NULL;
	size_t filter_bytes;
	int r;

	r = filter_build(container->fd_base, &filter, &filter_bytes, err);
	if (r < 0)
		return err_prefix(err, r, "the filter");
	*table = (struct mount_table){
	    .magic = MOUNT_TABLE_MAGIC,
	    .version = MOUNT_TABLE_VERSION,
	    .count = container->nvolumes,
	    .fd_base = container->fd_base,
	    .light_limit = container->light_limit,
	    .spin = container->pool->ncpus > 1,
	    .anchor_dev_major = major(anchor),
	    .anchor_dev_minor = minor(anchor),
	};
	for (unsigned i = 0; i < container->nvolumes; i++) {
		struct volume *volume = &container->volumes[i];
		struct mount_entry *row = &table->entry[i];
		dev_t dev = vfs_instance_dev(volume->instance);

		row->instance = i;
		row->path_bytes = strlen(volume->target);
		row->dev_major = major(dev);
		row->dev_minor = minor(dev);
		memcpy(row->path, volume->target, row->path_bytes + 1);
	}
	container->table = table;
	r = fd_replace_file_at(entry->guest, "mounts", 0644, table, sizeof(*table));
	if (!r)
		r = fd_replace_file_at(entry->guest, "filter", 0644, filter, filter_bytes);
	return r < 0
		   ? err_set(err, r, "cannot write into %s/guest: %s", container->dir, strerror(-r))
		   : 0;
}

/* Flushes and ends everything of a container, half-made ones too. */
static void entry_free(struct container_entry *entry)
{
	struct container *container = &entry->container;
	struct pool *pool = container->pool;

	if (entry->pidfd >= 0) {
		pool_unwatch(pool, entry->pidfd);
		fd_close(entry->pidfd);
	}
	if (entry->guest >= 0)
		unlinkat(entry->guest, "attach", 0);
	notify_stop(container);
	attach_stop(container);
	for (unsigned i = 0; i < container->nvolumes; i++) {
		if (container->volumes[i].face)
			face_stop(container->volumes[i].face);
		container->volumes[i].face = NULL;
	}
	processes_free(container);
	anchors_closed(pool->anchors);
	for (unsigned i = 0; i < container->nvolumes; i++) {
		struct volume *volume = &container->volumes[i];

		if (volume->instance) {
			anchors_drop_instance(pool->anchors, volume->instance);
			vfs_instance_remove(volume->instance);
		}
		free(volume->spec);
	}
	fd_close(entry->guest);
	free(container->id);
	free(container->dir);
	free(entry);
}

struct ended {
	struct server *server;
	char id[CONTAINER_ID_MAX];
};

static void detach_ended(void *arg)
{
	struct ended *ended = arg;
	bool last;

	if (!container_detach(ended->server, ended->id, &last)) {
		log_info("container %s: its first process ended; detached", ended->id);
		if (last)
			server_end(ended->server);
	}
	free(ended);
}

static void first_process_ended(void *arg, uint32_t events)
{
	struct container_entry *entry = arg;
	struct ended *ended = malloc(sizeof(*ended));

	/* level-triggered: tried again when there is no memory or no thread */
	if (!ended)
		return;
	ended->server = entry->server;
	snprintf(ended->id, sizeof(ended->id), "%s", entry->container.id);
	/* The runtime is about to remove the container's cgroup, and some kill what is in it. */
	if (!strcmp(entry->container.pool->name, ended->id))
		cgroups_leave();
	if (pool_run(entry->container.pool, detach_ended, ended) < 0) {
		free(ended);
		return;
	}
	pool_unwatch(entry->container.pool, entry->pidfd);
}

struct stack_limits container_limits(json_t *spec)
{
	json_t *ceph = json_object_get(spec, "ceph");

	return (struct stack_limits){
	    .cache_bytes = json_integer_value(json_object_get(spec, "cache_bytes")),
	    .ceph_conf = json_string_value(json_object_get(ceph, "conf")),
	    .ceph_keyring = json_string_value(json_object_get(ceph, "keyring")),
	    .ceph_id = json_string_value(json_object_get(ceph, "id")),
	    .timeout_s = json_integer_value(json_object_get(spec, "timeout_s")),
	};
}

static int read_request(struct container_entry *entry, json_t *request, struct stack_limits *limits,
			struct err *err)
{
	struct container *container = &entry->container;
	const char *id, *dir;
	long long pid, fd_base, light_limit, timeout;
	int r = string_of(request, "id", &id, err);

	if (!r)
		r = string_of(request, "dir", &dir, err);
	if (!r)
		r = number_of(request, "pid", 1, INT32_MAX, &pid, err);
	if (!r)
		r = number_of(request, "fd_base", 64, INT32_MAX, &fd_base, err);
	if (!r)
		r = number_of(request, "light_limit", fd_base, INT32_MAX, &light_limit, err);
	if (!r && json_object_get(request, "timeout_s"))
		r = number_of(request, "timeout_s", 0, INT32_MAX, &timeout, err);
	if (r < 0)
		return r;
	if (!*id || strlen(id) >= CONTAINER_ID_MAX)
		return err_set(err, -EINVAL, "attach: id is empty or too long");
	container->id = strdup(id);
	container->dir = strdup(dir);
	if (!container->id || !container->dir)
		return -ENOMEM;
	container->init_pid = pid;
	container->fd_base = fd_base;
	container->light_limit = light_limit;
	*limits = container_limits(request);
	return read_volumes(container, json_object_get(request, "volumes"), err);
}

static int find_process(struct container_entry *entry, struct err *err)
{
	struct container *container = &entry->container;
	pid_t pid = container->init_pid;
	int r;

	entry->pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (entry->pidfd < 0)
		return err_set(err, -errno, "process %d: %s", (int)pid, strerror(errno));
	container->user_ns = namespace_of(pid, "user");
	container->mnt_ns = namespace_of(pid, "mnt");
	container->pid_ns = namespace_of(pid, "pid");
	if (!container->user_ns || !container->mnt_ns || !container->pid_ns)
		return err_set(err, -ESRCH, "process %d has ended", (int)pid);
	r = idmap_read(pid, &container->map);
	if (!r)
		r = processes_new(container);
	return r < 0 ? err_set(err, r, "process %d: %s", (int)pid, strerror(-r)) : 0;
}

static int open_guest(struct container_entry *entry, struct err *err)
{
	CLEANUP_FD int dir =
	    open(entry->container.dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir >= 0)
		entry->guest =
		    openat(dir, "guest", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return entry->guest < 0
		   ? err_set(err, -errno, "%s/guest: %s", entry->container.dir, strerror(errno))
		   : 0;
}

/* danaus.cache is all that windows and caches may hold: a half is the caches' and a quarter the
 * windows' where there is a cache; clients below caches share the last one (stack.c). */
static void set_budgets(struct server *server, uint64_t bytes)
{
	struct pool *pool = &server->pool;
	struct cache_counts counts;

	pthread_mutex_lock(&server->lock);
	if (bytes > pool->budget_bytes)
		pool->budget_bytes = bytes;
	cache_store_set_budget(pool->caches, pool->budget_bytes / 2);
	cache_store_count(pool->caches, &counts);
	vfs_set_window_budget(pool->vfs, pool->budget_bytes / (counts.used ? 4 : 1));
	pthread_mutex_unlock(&server->lock);
}

static struct container_entry **find_entry(struct server *server, const char *id)
{
	struct container_entry **link = &server->containers;

	while (*link && strcmp((*link)->container.id, id))
		link = &(*link)->next;
	return link;
}

static int attached_already(const struct container_entry *entry, struct err *err)
{
	return err_set(err, -EEXIST, "container %s is attached already", entry->container.id);
}

static int start(struct container_entry *entry, const struct stack_limits *limits, int *mounts,
		 struct err *err)
{
	struct container *container = &entry->container;
	unsigned n = 0;
	int r = find_process(entry, err);

	if (!r)
		r = open_guest(entry, err);
	while (!r && n < container->nvolumes) {
		r = open_volume(container, &container->volumes[n], limits, &mounts[n], err);
		n += !r;
	}
	if (!r)
		r = write_guest(entry, err);
	if (!r)
		r = attach_start(container, entry->guest, err);
	while (r < 0 && n)
		fd_close(mounts[--n]);
	return r;
}

/* In the list, and watched; or nobody wants it. */
static int enlist(struct server *server, struct container_entry *entry, bool *ret_last,
		  struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&server->lock);
	server->attaching--;
	if (entry && *find_entry(server, entry->container.id))
		r = attached_already(entry, err);
	else if (entry && server->ending)
		r = err_set(err, -ESHUTDOWN, "the pool's service is being stopped");
	if (entry && !r)
		r = pool_watch(&server->pool, entry->pidfd, EPOLLIN, first_process_ended, entry);
	if (entry && !r) {
		entry->next = server->containers;
		server->containers = entry;
		server->ncontainers++;
	}
	*ret_last = !server->ncontainers && !server->attaching;
	server->ending |= *ret_last;
	pthread_mutex_unlock(&server->lock);
	return r;
}

/* One more is on its way, which enlist() ends. */
static int begin_attach(struct server *server, struct err *err)
{
	int r;

	pthread_mutex_lock(&server->lock);
	r = server->ending ? -ESHUTDOWN : 0;
	server->attaching += !r;
	pthread_mutex_unlock(&server->lock);
	return r < 0 ? err_set(err, r, "the pool's service is ending; try again") : 0;
}

/* Everything but the list, from the request on. */
static int prepare(struct server *server, struct container_entry *entry, json_t *request,
		   int *mounts, struct err *err)
{
	struct stack_limits limits;
	bool known;
	int r = read_request(entry, request, &limits, err);

	if (r < 0)
		return r;
	limits.caches = server->pool.caches;
	/* before anything of it is made: guest/ is the other one's */
	pthread_mutex_lock(&server->lock);
	known = *find_entry(server, entry->container.id);
	pthread_mutex_unlock(&server->lock);
	if (known)
		return attached_already(entry, err);
	set_budgets(server, limits.cache_bytes);
	r = start(entry, &limits, mounts, err);
	if (!r)
		set_budgets(server, limits.cache_bytes); /* there may be a cache now */
	return r;
}

static json_t *targets_of(const struct container *container)
{
	json_t *targets = json_array();

	for (unsigned i = 0; i < container->nvolumes; i++)
		json_array_append_new(targets, json_string(container->volumes[i].target));
	return targets;
}

int container_attach(struct server *server, json_t *request, int mounts[MOUNT_TABLE_MAX],
		     unsigned *ret_nmounts, json_t **ret_targets, struct err *err)
{
	struct container_entry *entry = calloc(1, sizeof(*entry));
	char id[CONTAINER_ID_MAX] = "";
	json_t *targets = NULL;
	unsigned n = 0;
	bool last;
	int r;

	if (!entry)
		return -ENOMEM;
	entry->server = server;
	entry->guest = entry->pidfd = -1;
	entry->container.pool = &server->pool;
	r = begin_attach(server, err);
	if (r < 0) {
		free(entry);
		return r;
	}
	r = prepare(server, entry, request, mounts, err);
	if (!r) {
		n = entry->container.nvolumes;
		targets = targets_of(&entry->container);
		snprintf(id, sizeof(id), "%s", entry->container.id);
	}
	/* Once it is in the list, it may end and be freed at any time. */
	if (r < 0)
		enlist(server, NULL, &last, err);
	else
		r = enlist(server, entry, &last, err);
	if (r < 0) {
		while (n)
			fd_close(mounts[--n]);
		json_decref(targets);
		entry_free(entry);
		if (last) {
			control_hide(server);
			server_end(server);
		}
		return r;
	}
	log_info("container %s: attached, %u volumes", id, n);
	*ret_nmounts = n;
	*ret_targets = targets;
	return 0;
}

int container_detach(struct server *server, const char *id, bool *ret_last)
{
	struct container_entry **link, *entry;
	bool last = false;

	pthread_mutex_lock(&server->lock);
	link = find_entry(server, id);
	entry = *link;
	if (entry) {
		*link = entry->next;
		last = --server->ncontainers == 0 && !server->attaching;
		server->ending |= last;
	}
	pthread_mutex_unlock(&server->lock);
	if (!entry)
		return -ENOENT;
	/* before the flush, which may take long: who comes now starts a new service */
	if (last)
		control_hide(server);
	entry_free(entry);
	*ret_last = last;
	return 0;
}

void containers_file_closed(void *arg, pid_t pid, struct vfile *file)
{
	struct server *server = arg;
	struct container_entry *entry;
	uint64_t owner = 0;

	pthread_mutex_lock(&server->lock);
	for (entry = server->containers; entry; entry = entry->next) {
		if (process_owner_of(&entry->container, pid, &owner))
			break;
	}
	pthread_mutex_unlock(&server->lock);
	if (entry)
		vfile_close_owner(file, owner);
}

void containers_detach_all(struct server *server)
{
	for (;;) {
		struct container_entry *entry;

		pthread_mutex_lock(&server->lock);
		server->ending = true;
		entry = server->containers;
		if (entry) {
			server->containers = entry->next;
			server->ncontainers--;
		}
		pthread_mutex_unlock(&server->lock);
		if (!entry)
			return;
		entry_free(entry);
	}
}

json_t *containers_json(struct server *server)
{
	json_t *list = json_array();

	for (struct container_entry *entry = server->containers; entry; entry = entry->next) {
		struct container *container = &entry->container;
		json_t *volumes = json_array();

		for (unsigned i = 0; i < container->nvolumes; i++)
			json_array_append_new(volumes,
					      json_pack("{s:s, s:s, s:b}", "target",
							container->volumes[i].target, "source",
							container->volumes[i].spec, "ro",
							(int)container->volumes[i].ro));
		json_array_append_new(list,
				      json_pack("{s:s, s:i, s:o}", "id", container->id, "pid",
						(int)container->init_pid, "volumes", volumes));
	}
	return list;
}
