/* SPDX-License-Identifier: Apache-2.0 */
/* Named descriptors: each is an O_TMPFILE inode of a tmpfs that is mounted nowhere, opened with
 * access mode 3 (neither read nor write), whose inode number names an open file. A filesystem-wide
 * fanotify mark (FAN_REPORT_FID, FAN_CLOSE) tells when the last copy in any process is closed
 * (fanotify(7)). */
#pragma once

#include <sys/types.h>

#include "danaus/service/vfs.h"

struct anchors;

int anchors_new(struct anchors **ret, struct err *err);
void anchors_free(struct anchors *anchors);
dev_t anchors_dev(const struct anchors *anchors);
/* fn hears of each last close of an anchor: pid (0: unknown here) closed it, of file. Called with
 * no lock of the anchors but the queue's; set before the first anchor is given. */
typedef void (*anchor_closed_fn)(void *arg, pid_t pid, struct vfile *file);
void anchors_on_closed(struct anchors *anchors, anchor_closed_fn fn, void *arg);
/* To poll for input; then call anchors_closed(). */
int anchors_event_fd(const struct anchors *anchors);
void anchors_closed(struct anchors *anchors);
/* A descriptor that names file; the caller passes it on and closes its own copy with
 * anchor_give_done(). Each call makes an anchor inode of its own (fanotify merges events, so closes
 * of several descriptions of one inode could not be counted), and each holds a reference on file
 * until its last copy is closed. Status flags of the open file are on it (O_NONBLOCK, O_APPEND;
 * O_CLOEXEC is the receiver's). receiver (0: not known): whose close it is when our own copy turns
 * out to be the last, because it has closed its one before anchor_give_done(). */
int anchor_give(struct anchors *anchors, struct vfile *file, pid_t receiver, int *ret_fd);
/* Makes a few in advance, so that anchor_give() need not. On one thread of the service's own. */
void anchors_stock(struct anchors *anchors);
void anchor_give_done(struct anchors *anchors, int fd);
/* The open file that fd names (fstat: device and inode), with a new reference; -EBADF when fd is no
 * anchor. */
int anchor_find(struct anchors *anchors, int fd, struct vfile **ret);
/* As anchor_find() by inode number, for a door that has fstat'ed already. */
int anchor_find_ino(struct anchors *anchors, ino_t ino, struct vfile **ret);
/* The instance is going: forgets every anchor of its files; what is left of them is -EBADF. */
void anchors_drop_instance(struct anchors *anchors, struct vfs_instance *instance);
