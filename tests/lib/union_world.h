/* SPDX-License-Identifier: Apache-2.0 */
/* Unions over local branches in a tmpfs of their own, and the kernel's overlayfs to compare with:
 * what the tests of the union have in common. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "danaus/libservices/libservice.h"

#define UW_OLD 1000000000 /* a time that only a copy can have */

extern char uw_base[];		 /* the tmpfs */
extern struct cred *uw_users[2]; /* root, and 1000 without capabilities */

/* One file system to compare: a union, or a mounted overlayfs. */
struct union_world {
	char branches[64]; /* directory that holds u, w, a, b */
	char mnt[96];
	struct libservice *ls; /* NULL: through the kernel at mnt */
};

/* cmocka's group fixtures; the process ends with 77 where it may not mount. */
int uw_setup(void **state);
int uw_teardown(void **state);
/* Runs a shell's command, which must succeed. */
void uw_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Branches as the shell commands made them, which run once for the cases that ask again. */
void uw_fresh(struct union_world *w, const char *commands);
/* Mounts the overlayfs, or opens the union, of w's branches. */
void uw_open(struct union_world *w);
void uw_close(struct union_world *w);

/* The node at path, its attributes; a reference of the caller's. */
int uw_walk(struct libservice *ls, const struct cred *cred, const char *path, struct ls_node **ret,
	    struct attr *ret_attr);
/* The node of path's directory, and its last name. */
int uw_walk_dir(struct libservice *ls, const struct cred *cred, const char *path,
		struct ls_node **ret, const char **ret_name);
/* As root; what is not there fails the test. */
struct ls_node *uw_at(struct union_world *w, const char *path, struct attr *attr);

/* Operations. Each returns 0 or -errno; through the kernel with the user's identity. */

enum uw_kind {
	CREATE,
	WRITE,
	TRUNCATE,
	MKDIR,
	SYMLINK,
	MKNOD,
	UNLINK,
	RMDIR,
	RENAME,
	EXCHANGE,
	NOREPLACE,
	LINK,
	CHMOD,
	CHOWN,
	UTIMES,
	SETXATTR,
	REMOVEXATTR,
	READ,
	LIST,
	ACCESS,
	KINDS
};

struct uw_op {
	enum uw_kind kind;
	unsigned user;
	char a[128], b[128];
	unsigned n;
};

extern char uw_payload[16384]; /* what is written */
int uw_op(struct union_world *w, const struct uw_op *op);
/* uw_op() for a union, also in several threads at a time. */
int uw_op_union(struct union_world *w, const struct uw_op *op);
/* The calling thread's random numbers. */
void uw_seed(unsigned seed);
unsigned uw_pick(unsigned n);
void uw_random_op(struct uw_op *op);

struct uw_names {
	unsigned n;
	char name[512][64];
	unsigned char type[512];
	uint64_t ino[512], next[512];
	unsigned stop; /* at most that many a call; 0: all */
};

/* An ls_fill_fn of struct uw_names. */
bool uw_take_name(void *arg, const char *name, uint64_t ino, unsigned char type, uint64_t next);
int uw_names_count(struct libservice *ls, const struct cred *cred, struct ls_node *node);

/* The tree as text, malloc'ed; uw_no_times: without modification times. */
extern bool uw_no_times;
char *uw_dump(struct union_world *w);
/* The same of one that is not open. */
char *uw_dump_closed(struct union_world *w);
