/* SPDX-License-Identifier: Apache-2.0 */
/* Named descriptors: each is an O_TMPFILE inode of a tmpfs that is mounted nowhere, opened with
 * access mode 3 (neither read nor write), whose inode number names an open file. A filesystem-wide
 * fanotify mark (FAN_REPORT_FID, FAN_CLOSE) tells when the last copy in any process is closed
 * (fanotify(7)). Any thread. What gives the last reference on an open file back may block. */
#pragma once

#include <sys/types.h>

#include "danaus/vfs/vfs.h"

struct anchors;

/* Called with no lock of the anchors but the queue's: the last copy of an anchor is closed, by pid
 * (0: unknown here), of file, whose reference stays the anchors'. */
typedef void (*anchor_closed_fn)(void *arg, pid_t pid, struct vfile *file);

/* The file system and its mark. -errno with err's text: no fanotify, no memory, file handles that
 * are not read as here. */
int anchors_new(struct anchors **ret, struct err *err);
/* Nobody uses them any more. What is left names nothing; its references are given back. NULL is
 * fine. */
void anchors_free(struct anchors *anchors);
/* st_dev of every anchor. */
dev_t anchors_dev(const struct anchors *anchors);
/* Who hears of each last close. Set before the first anchor is given. */
void anchors_on_closed(struct anchors *anchors, anchor_closed_fn fn, void *arg);
/* To poll for input; then call anchors_closed(). Stays the anchors'. */
int anchors_event_fd(const struct anchors *anchors);
/* Reads the queue to its end and drops what was closed. One thread at a time; who returns knows
 * that all closes before the call are dropped. Not from anchor_closed_fn. */
void anchors_closed(struct anchors *anchors);
/* Makes a few in advance, so that anchor_give() need not. On one thread of the service's own. */
void anchors_stock(struct anchors *anchors);
/* A descriptor that names file; the caller passes it on and closes its own copy with
 * anchor_give_done(). Each call makes an anchor inode of its own (fanotify merges events, so closes
 * of several descriptions of one inode could not be counted), and each holds a reference on file
 * until its last copy is closed. Status flags of the open file are on it (O_NONBLOCK, O_APPEND;
 * O_CLOEXEC is the receiver's). receiver (0: not known): whose close it is when our own copy turns
 * out to be the last, because it has closed its one before anchor_give_done(). The thread's
 * identity may be the service's afterwards. -ENOMEM, -errno of open(2). */
int anchor_give(struct anchors *anchors, struct vfile *file, pid_t receiver, int *ret_fd);
void anchor_give_done(struct anchors *anchors, int fd);
/* The open file that fd names (fstat: device and inode), with a new reference; -EBADF when fd is no
 * anchor, or one that names nothing any more. */
int anchor_find(struct anchors *anchors, int fd, struct vfile **ret);
/* As anchor_find() by inode number, for a door that has fstat'ed already. */
int anchor_find_ino(struct anchors *anchors, ino_t ino, struct vfile **ret);
/* The instance is going: forgets every anchor of its files; what is left of them is -EBADF. */
void anchors_drop_instance(struct anchors *anchors, struct vfs_instance *instance);
