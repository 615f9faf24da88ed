/* SPDX-License-Identifier: Apache-2.0 */
/* A real cluster and a directory of the test's own in it: what the tests of the ceph libservice
 * have in common. DANAUS_CEPH_CONF names the cluster's ceph.conf, with a keyring that has
 * client.admin (integration/ceph-dev-up.sh makes one). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "danaus/libservices/libservice.h"

extern struct stack_limits cf_limits;		  /* of what is opened next */
extern struct cred *cf_root, *cf_user, *cf_other; /* users 1000 and 1001, without capabilities */
extern char cf_dir[64];				  /* the directory's path */
extern struct libservice *cf_ls;		  /* opened at it, as root's client.admin */
extern struct ls_node *cf_top;			  /* its root */

/* False, and says so, where no cluster is named; cf_limits names it otherwise. */
bool cf_has_cluster(void);
/* cmocka's group fixtures; the process ends with 77 where there is no cluster. */
int cf_setup(void **state);
int cf_teardown(void **state);

/* Opens ceph:PATH, and fails the test unless that returns expected. */
struct libservice *cf_open_at(const char *path, int expected);
/* As root, and what fails, fails the test. References are the caller's; attr may be NULL. */
struct ls_node *cf_get(struct libservice *at, struct ls_node *parent, const char *name,
		       struct attr *attr);
struct ls_file *cf_create(struct libservice *at, struct ls_node *parent, const char *name,
			  mode_t mode, struct ls_node **ret);
struct ls_node *cf_make(struct ls_node *parent, const char *name, mode_t mode); /* in cf_ls */
/* Writes text; UINT64_MAX: appends it. ls_write()'s result. */
ssize_t cf_put(struct libservice *at, struct ls_file *file, const char *text, uint64_t offset);
/* What is there from offset to the file's end is text. */
void cf_expect(struct libservice *at, struct ls_file *file, uint64_t offset, const char *text);

/* Whether cf_admin() may be asked: `ceph` is installed. */
bool cf_has_admin(void);
/* Runs `ceph COMMAND`; system()'s result. */
int cf_admin(const char *command);
/* Sends a signal to a daemon of integration/ceph-dev-up.sh, "mds.a"; SIGSTOP: returns when it has
 * stopped. 0, or -errno where there is none. */
int cf_signal(const char *daemon, int signal);
