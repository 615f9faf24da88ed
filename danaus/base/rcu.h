/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that take no lock: liburcu's bulletproof flavour, which registers threads by itself
 * (Desnoyers et al., User-Level Implementations of Read-Copy Update, 2012). Inside a section
 * nothing blocks. ThreadSanitizer does not see into liburcu, so it is told what a grace period
 * orders. */
#pragma once

#include <urcu/urcu-bp.h>

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
extern char rcu_order; /* rcu.c */
#define RCU_RELEASE() __tsan_release(&rcu_order)
#define RCU_ACQUIRE() __tsan_acquire(&rcu_order)
#else
#define RCU_RELEASE() ((void)0)
#define RCU_ACQUIRE() ((void)0)
#endif

static inline void rcu_enter(void)
{
	urcu_bp_read_lock();
}

static inline void rcu_leave(void)
{
	RCU_RELEASE();
	urcu_bp_read_unlock();
}

/* Every section that had begun is over. */
static inline void rcu_wait(void)
{
	urcu_bp_synchronize_rcu();
	RCU_ACQUIRE();
}
