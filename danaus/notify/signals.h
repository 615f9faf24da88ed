/* SPDX-License-Identifier: Apache-2.0 */
/* Signals of calling programs. A received notification sleeps killably only (WAIT_KILLABLE_RECV):
 * a signal that would have ended the system call's sleep has to be looked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A signal waits for thread tid that it neither blocks nor ignores (/proc/TID/status). */
bool signals_pending(pid_t tid);
/* How a call that such a signal ended is answered: the kernel's own restart code where the signal
 * is sure to be taken by this thread, so that SA_RESTART and stop/continue behave; -EINTR
 * otherwise; 0 when there is no such signal (any more): the call goes on. */
int64_t signals_interrupted(pid_t tid);
/* The thread's real user, as the host has it. False: it is gone. */
bool signals_user(pid_t tid, uid_t *ret);

/* The signal that takes one of the door's own threads out of a system call; its handler does
 * nothing. */
void signals_init(void);
int signals_wakeup(void);
