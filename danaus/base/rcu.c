/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what ThreadSanitizer is told by of grace periods. */
#include "danaus/base/rcu.h"

#ifdef __SANITIZE_THREAD__
char rcu_order;
#endif
