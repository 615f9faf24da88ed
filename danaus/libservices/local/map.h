/* SPDX-License-Identifier: Apache-2.0 */
/* Writes through a mapping of the host's file: what a program writes again and again in place is a
 * copy, and no system call of the host's.
 *
 * A page is written so from the second time in a second on, in a file that is open
 * for reading and writing, on a file system whose mappings and write(2) are of one page cache. The
 * first write in each tick of the kernel's clock goes by pwrite(2), so that mtime, ctime, set-id
 * bits and the host's watches are what they would be to the tick (Documentation:
 * inode_set_ctime_current() of Linux 6.12 and earlier takes the time from the same clock).
 *
 * Locks: the caller holds node->write_lock around both calls. */
#pragma once

#include "danaus/libservices/local/node.h"

#define LOCAL_MAPS_MAX	    1024u	   /* of a volume */
#define LOCAL_MAP_BYTES_MAX (256ull << 30) /* of addresses, of a volume */
#define LOCAL_MAP_WRITE_MAX 16384u /* bytes; larger writes are the system call's work anyway */

/* True: data is in the file. False: the caller writes it. */
bool local_map_write(const struct local *local, struct ls_file *file, const void *data,
		     size_t len_bytes, uint64_t offset);
/* The caller wrote it, on local; started: local_map_clock() from before. */
void local_map_wrote(struct local *local, struct ls_file *file, uint64_t started, size_t len_bytes,
		     uint64_t offset);
uint64_t local_map_clock(void);
/* The file's attributes were set: the next write is pwrite(2)'s. */
void local_map_expire(struct ls_node *node);
void local_map_free(struct ls_file *file);
