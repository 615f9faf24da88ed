/* SPDX-License-Identifier: Apache-2.0 */
/* Start, fork and the lock of the client library's state. Any thread, signal handlers included. */
#include "preload/root.h"

#include "danaus/proto/guest.h"
#include "preload/fdtab.h"
#include "preload/lease.h"
#include "preload/path.h"

struct root root = {.fd_base = FD_BASE_UNKNOWN, .socket = -1, .anchor = -1};
__thread struct thread thread __attribute__((tls_model("initial-exec")));

/* Two threads, or a thread and its signal handler, may be here at once: each maps the table and
 * the first one's stays. */
int root_start(void)
{
	const struct mount_table *none = NULL, *table;
	long fd, p;

	fd = GATE(openat, AT_FDCWD, GUEST_MOUNTS, O_RDONLY | O_CLOEXEC, 0, 0);
	if (failed(fd))
		goto off;
	p = SYS6(mmap, NULL, sizeof(*table), PROT_READ, MAP_PRIVATE, fd, 0);
	SYS(close, fd, 0, 0);
	if (failed(p))
		goto off;
	table = (const struct mount_table *)p;
	if (table->magic != MOUNT_TABLE_MAGIC || table->version != MOUNT_TABLE_VERSION ||
	    table->count > MOUNT_TABLE_MAX || table->fd_base < 3 ||
	    table->light_limit - table->fd_base < 64)
		goto off;
	if (!atomic_compare_exchange_strong(&root.table, &none, table))
		SYS(munmap, table, sizeof(*table), 0);
	root.fd_base = root_table()->fd_base;
	atomic_store_explicit(&root.state, ROOT_ON, memory_order_release);
	return ROOT_ON;
off:
	root.fd_base = INT32_MAX;
	atomic_store_explicit(&root.state, ROOT_OFF, memory_order_release);
	return ROOT_OFF;
}

void root_forked(void)
{
	int socket = root.socket;

	/* the connection belongs to the parent */
	if (socket >= 0)
		SYS(close, socket, 0, 0);
	root.socket = -1;
	atomic_store(&root.channel, NULL);
	memset(root.holder, 0, sizeof(root.holder));
	thread.calls = 0;
	SYS(munmap, root.live, 4096, 0);
	root.live = NULL;
	root.attach_error = 0;
	root.kernel_calls_left = FORK_KERNEL_CALLS;
	root.generation++;
	atomic_store(&root.lock, 0);
	path_forget_cwd(false);
	lease_forked();
	fdtab_forked();
}

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	SYS6(futex, word, op, value, NULL, NULL, 0);
}

void lock_take(uint64_t *ret_signals)
{
	uint64_t all = ~0ull;
	uint32_t free = 0;

	SYS4(rt_sigprocmask, 0 /* SIG_BLOCK */, &all, ret_signals, 8);
	if (atomic_compare_exchange_strong(&root.lock, &free, 1))
		return;
	while (atomic_exchange(&root.lock, 2) != 0)
		futex(&root.lock, FUTEX_WAIT_PRIVATE, 2);
}

void lock_give(const uint64_t *signals)
{
	if (atomic_exchange(&root.lock, 0) == 2)
		futex(&root.lock, FUTEX_WAKE_PRIVATE, 1);
	SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, signals, NULL, 8);
}
