/* SPDX-License-Identifier: Apache-2.0 */
/* Whose a path is: decided by its text, the mount table, the working directory and descriptors. A
 * path that only the kernel can follow (".." or a symlink on the way into a volume) goes to the
 * kernel, whose own mount of the volume serves it. */
#pragma once

#include "preload/fdtab.h"
#include "preload/lexical.h"

struct target {
	int dirfd;
	const char *path; /* what the kernel is to be asked about, if it is the kernel's */
	uint32_t handle;  /* ours: a directory handle, and the path from there */
	const char *rest;
	struct ofile *dir;	  /* referenced, or NULL */
	bool empty;		  /* a path of nothing may mean dirfd's file */
	char left[WIRE_PATH_MAX]; /* where a walk that left its volume goes on */
};

#define TARGET(name, dirfd_, path_)                                                                \
	struct target name;                                                                        \
	name.dirfd = (dirfd_);                                                                     \
	name.path = (path_);                                                                       \
	name.empty = false;                                                                        \
	name.dir = NULL

/* 1: ours, target_done() after use; 0: the kernel's. */
int target_find(struct target *target);
void target_done(struct target *target);

struct leased {
	struct wire_attr attr; /* STAT */
	struct ofile *file;    /* OPEN: a reference */
	uint32_t open;	       /* OPEN, when there was a request: the new file's `lease` */
};

/* The parameters of an operation on one path beside the path. */
struct path_args {
	unsigned op;
	uint32_t flags, mode, set;
	uint64_t offset, size;
	const void *data; /* piece 2 */
	uint32_t data_bytes;
	const struct wire_attr *set_attr;
	/* NULL, or where to put an answer that needs no request (STAT, OPEN, ACCESS, READLINK);
	 * PATH_LEASED then, but for an error. */
	struct leased *leased;
	bool needs_name; /* changes the directory's entry: a volume's root is the kernel's */
};

static inline void request_fill(struct wire_request *request, uint32_t handle,
				const struct path_args *args)
{
	request->handle = handle;
	request->flags = args->flags;
	request->mode = args->mode;
	request->set = args->set;
	request->offset = args->offset;
	request->size = args->size;
	if (args->set_attr)
		request->set_attr = *args->set_attr;
}

#define PATH_KERNEL 0x40000000 /* no count is that big */
#define PATH_LEASED 0x40000001
/* Carries an operation out, following where the walk leads. 0 or -errno as the service said, the
 * reply in *call; PATH_LEASED: there was none, it is in args->leased; PATH_KERNEL: it is the
 * kernel's, by target->dirfd and target->path. call_end() in each case. */
int path_run(struct target *target, const struct path_args *args, struct call *call);

/* The same for two paths (LINK, RENAME). PATH_KERNEL when either is the kernel's, or leads out of
 * its volume. */
int path_run_two(struct target *from, struct target *to, const struct path_args *args,
		 struct call *call);

/* For PATH_KERNEL with a directory descriptor of ours: the kernel's own of it in target->dirfd;
 * *ret_fd is to be closed afterwards (-1: nothing). */
int target_kernel_dir(struct target *target, int *ret_fd);

/* The working directory changed, or may have. */
void path_forget_cwd(bool put);
