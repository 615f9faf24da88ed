/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for tasks that may block. Made as needed up to a limit, kept for a while when idle. Any
 * thread may hand over tasks. */
#pragma once

struct workers;

/* At most limit threads with stacks of stack_bytes; queue_limit tasks may wait for one (0: a task
 * that finds no thread free and none to make is refused). */
int workers_new(unsigned limit, unsigned queue_limit, unsigned long stack_bytes,
		struct workers **ret);
/* Waits for all tasks, those that tasks add included; nobody else adds any more. */
void workers_free(struct workers *workers);
/* -EAGAIN at the limit with a full queue. */
int workers_run(struct workers *workers, void (*fn)(void *arg), void *arg);
/* Waits until no task runs or is queued. */
void workers_drain(struct workers *workers);
