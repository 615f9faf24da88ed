/* SPDX-License-Identifier: Apache-2.0 */
/* One epoll loop on one thread (epoll(7)). Adding, changing and removing: any thread. */
#pragma once

#include <stdint.h>

struct loop;

int loop_new(struct loop **ret);
/* The loop has ended and nothing is watched any more. */
void loop_free(struct loop *loop);
/* fn(arg, events) on the loop's thread whenever fd is ready; it must not block. */
int loop_add(struct loop *loop, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events),
	     void *arg);
/* Other events for a watched fd. -ENOENT when it is not watched. */
int loop_modify(struct loop *loop, int fd, uint32_t events);
/* When this returns, fn is not running and will not be called, unless it is fn that calls. Does not
 * close fd. */
void loop_remove(struct loop *loop, int fd);
/* Serves until loop_stop(). */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
