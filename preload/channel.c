/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching, slots, posting and waiting. Contract: danaus/shm/channel.h, danaus/proto/attach.h.
 * Everything that comes from the service is trusted: it may do to this process what it likes. */
#include "preload/channel.h"

#include "danaus/proto/attach.h"
#include "danaus/proto/guest.h"
#include "preload/fdtab.h"

#define SPIN_CLOCKS    100000 /* about 40 us */
#define SPIN_FEW       3000
#define SPIN_MISS_MAX  16
#define LEFT_MAX_BYTES (1u << 20) /* further away it is another stack */
#define AF_UNIX_       1
#define SCM_RIGHTS_    1
#define SOL_SOCKET_    1
#define SEQPACKET_     5
#define CLOEXEC_       02000000
#define NOSIGNAL_      0x4000
#define CMSG_CLOEXEC_  0x40000000

struct unix_address {
	uint16_t family;
	char path[108];
};

union fd_control {
	struct {
		struct cmsg_header head;
		int fd;
	} one;
	char room[64];
};

static long send_message(int socket, const struct iovec *iov, unsigned niov, int fd)
{
	union fd_control control = {
	    .one = {{sizeof(struct cmsg_header) + sizeof(int), SOL_SOCKET_, SCM_RIGHTS_}, fd}};
	struct msg_header msg = {.iov = (struct iovec *)iov, .niov = niov};
	long r;

	if (fd >= 0) {
		msg.control = &control;
		msg.control_bytes = sizeof(control.one);
	}
	do
		r = GATE(sendmsg, socket, &msg, NOSIGNAL_, 0, 0);
	while (r == -EINTR);
	return r;
}

static long receive_message(int socket, void *data, size_t len_bytes, int *ret_fd)
{
	union fd_control control;
	struct iovec iov = {data, len_bytes};
	struct msg_header msg = {
	    .iov = &iov, .niov = 1, .control = &control, .control_bytes = sizeof(control)};
	long r;

	*ret_fd = -1;
	do
		r = SYS(recvmsg, socket, &msg, CMSG_CLOEXEC_);
	while (r == -EINTR);
	if (r >= 0 && msg.control_bytes >= sizeof(control.one) &&
	    control.one.head.type == SCM_RIGHTS_)
		*ret_fd = control.one.fd;
	return r;
}

void limit_raise(void)
{
	struct rlimit_ now, raised;

	if (SYS4(prlimit64, 0, RLIMIT_NOFILE, NULL, &now) < 0 ||
	    now.soft >= (uint64_t)root.fd_limit || now.soft >= now.hard)
		return;
	raised = (struct rlimit_){now.hard, now.hard};
	if (SYS4(prlimit64, 0, RLIMIT_NOFILE, &raised, NULL) < 0)
		return;
	root.soft_limit = (uint32_t)now.soft;
	root.soft_raised = true;
}

/* Moves a descriptor of our own out of the program's sight: right below the base, where calls on it
 * are no matter of the notify door's. Its number is guarded. */
static int guard(int fd)
{
	long high = SYS(fcntl, fd, F_DUPFD_CLOEXEC, root.fd_base - FD_GUARDS);

	for (int i = 0; i < 100 && (high == -EINVAL || high == -EMFILE); i++) {
		limit_raise(); /* another thread lowered it for a program it starts */
		high = SYS(fcntl, fd, F_DUPFD_CLOEXEC, root.fd_base - FD_GUARDS);
	}
	SYS(close, fd, 0, 0);
	return (int)high;
}

static int connect_service(struct unix_address *address)
{
	long fd, r;

	fd = SYS(socket, AF_UNIX_, SEQPACKET_ | CLOEXEC_, 0);
	if (fd < 0)
		return (int)fd;
	r = SYS(connect, fd, address, sizeof(address->family) + sizeof(GUEST_ATTACH));
	if (r < 0) {
		SYS(close, fd, 0, 0);
		return (int)r;
	}
	return guard((int)fd);
}

static int say_hello(int socket, int *ret_memfd)
{
	struct attach_hello hello = {ATTACH_MAGIC, WIRE_VERSION, ATTACH_CLIENT, 0};
	struct attach_welcome welcome;
	struct iovec iov = {&hello, sizeof(hello)};
	long r;

	r = send_message(socket, &iov, 1, -1);
	if (r < 0)
		return (int)r;
	r = receive_message(socket, &welcome, sizeof(welcome), ret_memfd);
	if (r != sizeof(welcome))
		return r < 0 ? (int)r : -ECONNRESET;
	if (welcome.error)
		return welcome.error;
	if (*ret_memfd < 0 || welcome.channel_bytes != SHM_CHANNEL_BYTES ||
	    welcome.nslots != SHM_SLOTS)
		return -EPROTO;
	root.notify = welcome.notify;
	root.umask = welcome.umask;
	if (welcome.elsewhere)
		root.foreign = true;
	return 0;
}

/* A page that reads 0 in a forked child. */
static int make_live(void)
{
	long page =
	    SYS6(mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (failed(page))
		return (int)page;
	if (SYS(madvise, page, 4096, MADV_WIPEONFORK) < 0) {
		SYS(munmap, page, 4096, 0);
		return -ENOSYS;
	}
	*(uint32_t *)page = 1;
	root.live = (const uint32_t *)page;
	return 0;
}

static int attach(void)
{
	struct unix_address address = {AF_UNIX_, GUEST_ATTACH};
	struct rlimit_ fsize;
	int memfd = -1, r;
	long p, fd;

	r = fdtab_start();
	if (r < 0)
		return r;
	limit_raise();
	if (root.anchor < 0) {
		/* O_PATH: what nobody intercepted fails with EBADF */
		fd = GATE(openat, AT_FDCWD, GUEST_MOUNTS, O_PATH | O_CLOEXEC, 0, 0);
		if (fd < 0)
			return (int)fd;
		root.anchor = guard((int)fd);
		if (root.anchor < 0)
			return root.anchor;
	}
	r = connect_service(&address);
	if (r < 0)
		return r;
	root.socket = r;
	r = say_hello(root.socket, &memfd);
	if (r == 0 && !root.live)
		r = make_live();
	if (r < 0) {
		if (memfd >= 0)
			SYS(close, memfd, 0, 0);
		return r;
	}
	p = SYS6(mmap, NULL, SHM_CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	SYS(close, memfd, 0, 0);
	if (failed(p))
		return (int)p;
	SYS(madvise, p, SHM_CHANNEL_BYTES, MADV_DONTFORK);
	root.fsize_limit =
	    SYS4(prlimit64, 0, RLIMIT_FSIZE, NULL, &fsize) < 0 ? UINT64_MAX : fsize.soft;
	for (int i = 0; i < 3; i++)
		if (SYS(fcntl, i, F_GETFD, 0) == -EBADF)
			atomic_fetch_or(&root.low_closed, 1u << i);
	atomic_store(&root.free_slots, ~0ull);
	atomic_store_explicit(&root.channel, (struct shm_channel *)p, memory_order_release);
	return 0;
}

int channel_attach(void)
{
	uint64_t signals;
	int r = 0;

	if (!root_on())
		return -ENOTCONN;
	if (root.attach_error)
		return root.attach_error;
	lock_take(&signals);
	if (!atomic_load(&root.channel) && !root.attach_error) {
		r = attach();
		if (r < 0) {
			if (root.socket >= 0)
				SYS(close, root.socket, 0, 0);
			root.socket = -1;
			if (r != -EMFILE && r != -ENFILE && r != -ENOMEM && r != -EINTR)
				root.attach_error = r;
		}
	}
	lock_give(&signals);
	return r < 0 ? r : root.attach_error;
}

static unsigned claim_slot(void)
{
	uint64_t free = atomic_load_explicit(&root.free_slots, memory_order_relaxed);
	unsigned i = thread.slot;

	for (;;) {
		if (unlikely(!free)) { /* 64 calls are under way */
			SYS(sched_yield, 0, 0, 0);
			free = atomic_load_explicit(&root.free_slots, memory_order_relaxed);
			continue;
		}
		if (!(free & 1ull << i))
			i = (unsigned)__builtin_ctzll(free);
		if (atomic_compare_exchange_weak_explicit(&root.free_slots, &free,
							  free & ~(1ull << i), memory_order_acquire,
							  memory_order_relaxed)) {
			thread.slot = i;
			return i;
		}
	}
}

uint32_t own_tid(void)
{
	if (unlikely(!thread.tid || thread.generation != root.generation)) {
		thread.tid = (uint32_t)SYS(gettid, 0, 0, 0);
		thread.generation = root.generation;
	}
	return thread.tid;
}

void request_init(struct wire_request *request, unsigned op)
{
	__builtin_memset(request, 0, offsetof(struct wire_request, set_attr));
	request->op = (uint16_t)op;
	request->version = WIRE_VERSION;
	request->tid = own_tid();
	request->umask = root.umask;
	request->fsize_limit = root.fsize_limit;
}

static void ring(struct shm_channel *channel, unsigned slot)
{
	uint32_t asleep, one = 1;

	atomic_fetch_or(&channel->doorbell, 1ull << slot);
	asleep = atomic_load(&channel->bell_asleep);
	if (asleep == 1)
		atomic_compare_exchange_strong(&channel->bell_asleep, &one, 2);
	/* also where somebody else is about to: it may be what this signal handler interrupted */
	if (asleep)
		SYS6(futex, &channel->bell_asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void slot_free(unsigned i)
{
	root.holder[i].tid = 0;
	thread.calls -= thread.calls > 0;
	atomic_fetch_or_explicit(&root.free_slots, 1ull << i, memory_order_release);
}

/* A signal handler may leave a call for good, by siglongjmp(3). Its frame was below that of any
 * call which this thread makes later from where it went, while a call that a handler interrupted is
 * above those of the handler; but for a handler that has a stack of its own. What still waits in
 * the service is told to end, and given back when it has. */
__attribute__((noinline)) static void give_up_left_calls(struct shm_channel *channel,
							 uintptr_t frame)
{
	struct sigaltstack_ stack;

	if (SYS(sigaltstack, NULL, &stack, 0) < 0 || (stack.flags & SS_ONSTACK_))
		return;
	for (unsigned i = 0; i < SHM_SLOTS; i++) {
		struct slot_holder *holder = &root.holder[i];
		struct shm_slot *slot = &channel->slot[i];
		uint32_t state;

		if (holder->tid != own_tid() || holder->frame > frame ||
		    frame - holder->frame > LEFT_MAX_BYTES)
			continue;
		state = atomic_load(&slot->state);
		if ((state & 0xff) != SLOT_POSTED)
			slot_free(i);
		else if (!(state & SLOT_CANCEL) &&
			 atomic_compare_exchange_strong(&slot->state, &state, state | SLOT_CANCEL))
			ring(channel, i);
	}
}

int call_begin(struct call *call, unsigned op)
{
	struct shm_channel *channel;
	int r;

	call->slot = NULL;
	r = channel_ready();
	if (unlikely(r < 0))
		return r;
	channel = atomic_load_explicit(&root.channel, memory_order_relaxed);
	if (unlikely(thread.calls))
		give_up_left_calls(channel, (uintptr_t)call);
	call->index = claim_slot();
	root.holder[call->index] = (struct slot_holder){own_tid(), (uintptr_t)call};
	thread.calls++;
	call->slot = &channel->slot[call->index];
	call->payload = shm_payload(channel, call->index);
	request_init(&call->slot->request, op);
	return 0;
}

void call_end(struct call *call)
{
	if (!call->slot)
		return;
	call->slot = NULL;
	slot_free(call->index);
}

static bool service_gone(struct shm_channel *channel)
{
	struct pollfd_ end = {root.socket, 0, 0};

	return atomic_load(&channel->dead) || SYS(poll, &end, 1, 0) > 0;
}

/* What a signal's handler does to a call that waits: restarts it where it has SA_RESTART
 * (signal(7)). */
enum handlers { HANDLERS_INTERRUPT, HANDLERS_RESTART, HANDLERS_DIFFER };

static enum handlers handlers_of_program(void)
{
	bool restart = false, interrupt = false;

	for (int sig = 1; sig <= SIGNALS; sig++) {
		struct sigaction_ action;

		if (sig >= 32 && sig <= 34) /* libcs' own */
			continue;
		if (SYS4(rt_sigaction, sig, NULL, &action, sizeof(action.mask)) < 0 ||
		    (uintptr_t)action.handler <= 1)
			continue;
		restart |= (action.flags & SA_RESTART_) != 0;
		interrupt |= !(action.flags & SA_RESTART_);
	}
	return restart && interrupt ? HANDLERS_DIFFER
	       : restart	    ? HANDLERS_RESTART
				    : HANDLERS_INTERRUPT;
}

/* Looks after the service each second. The kernel does not restart a wait that has a limit, nor
 * tell which signal ended it: where a lock may take for ever and the program's handlers differ, the
 * wait has none, and the kernel decides. Then only a signal ends it when the service was killed. */
static int wait_asleep(struct shm_channel *channel, struct shm_slot *slot, unsigned index)
{
	bool lock = slot->request.op == WIRE_LOCK || slot->request.op == WIRE_FLOCK;
	enum handlers handlers = lock ? handlers_of_program() : HANDLERS_RESTART;
	struct timespec_ second = {1, 0};
	uint32_t state = atomic_fetch_or(&slot->state, SLOT_WAITING) | SLOT_WAITING;

	for (;; state = atomic_load_explicit(&slot->state, memory_order_acquire)) {
		long r;

		if ((state & 0xff) == SLOT_DONE)
			return 0;
		r = SYS6(futex, &slot->state, FUTEX_WAIT, state,
			 handlers == HANDLERS_DIFFER ? NULL : &second, NULL, 0);
		if ((r == -ETIMEDOUT || r == -EINTR || atomic_load(&channel->dead)) &&
		    service_gone(channel) && (atomic_load(&slot->state) & 0xff) != SLOT_DONE) {
			atomic_store(&channel->dead, 1); /* the next call need not wait */
			return -EIO;
		}
		if (r == -EINTR && lock &&
		    (handlers == HANDLERS_DIFFER || handlers_of_program() != HANDLERS_RESTART)) {
			lock = false;
			handlers = HANDLERS_RESTART;
			state = SLOT_POSTED | SLOT_WAITING;
			if (atomic_compare_exchange_strong(&slot->state, &state,
							   state | SLOT_CANCEL))
				ring(channel, index);
		}
	}
}

/* Operations of one kind take as long: stat() tells nothing about unlink(), which a network may
 * have to hear of. */
static _Atomic uint32_t *misses_of(unsigned op, bool makes)
{
	unsigned kind = op < WIRE_OP_COUNT ? op : 0;

	return &root.spin_misses[kind == WIRE_OPEN && makes ? WIRE_OP_COUNT : kind];
}

static bool answers_soon(uint32_t misses)
{
	return misses < SPIN_MISS_MAX || misses % 64 == 0;
}

bool channel_answers_soon(unsigned op)
{
	return root_table()->spin &&
	       answers_soon(atomic_load_explicit(misses_of(op, false), memory_order_relaxed));
}

/* Spins for as long as a wake-up would cost, and hardly at all once that has often not been enough:
 * then only now and then, to notice when it is again. A spin in vain costs more than one saves. */
static bool wait_spinning(struct shm_slot *slot)
{
	_Atomic uint32_t *missed = misses_of(slot->request.op, slot->request.flags & O_CREAT);
	uint32_t misses = atomic_load_explicit(missed, memory_order_relaxed);
	uint64_t clocks = answers_soon(misses) ? SPIN_CLOCKS : SPIN_FEW;
	uint64_t start = 0;

	for (unsigned i = 0;; i++) {
		if (atomic_load_explicit(&slot->state, memory_order_acquire) == SLOT_DONE) {
			if (misses)
				atomic_store_explicit(
				    missed, misses < SPIN_MISS_MAX ? misses - 1 : SPIN_MISS_MAX / 2,
				    memory_order_relaxed);
			return true;
		}
		cpu_relax();
		if (i % 16 == 0) {
			uint64_t now = cpu_clock();

			if (!start)
				start = now;
			else if (now - start > clocks)
				break;
		}
	}
	atomic_store_explicit(missed, misses < SPIN_MISS_MAX ? misses + 2 : misses + 1,
			      memory_order_relaxed);
	return false;
}

int call_post(struct call *call)
{
	struct shm_channel *channel = atomic_load_explicit(&root.channel, memory_order_relaxed);

	if (unlikely(atomic_load_explicit(&channel->dead, memory_order_relaxed)))
		return -EIO;
	atomic_store_explicit(&call->slot->state, SLOT_POSTED, memory_order_release);
	ring(channel, call->index);
	return 0;
}

int call_wait(struct call *call)
{
	struct shm_channel *channel = atomic_load_explicit(&root.channel, memory_order_relaxed);
	struct shm_slot *slot = call->slot;
	int r;

	if (!root_table()->spin || !wait_spinning(slot)) {
		r = wait_asleep(channel, slot, call->index);
		if (r < 0)
			return r;
	}
	r = slot->reply.error;
	return r > 0 ? -EPROTO : r;
}

int call_run(struct call *call)
{
	int r = call_post(call);

	return unlikely(r < 0) ? r : call_wait(call);
}

int socket_request(struct wire_request *request, const char *path, int send_fd,
		   struct wire_reply *ret_reply, int *ret_fd)
{
	struct iovec iov[2] = {{request, sizeof(*request)}, {(void *)path, 0}};
	uint64_t signals;
	int fd = -1;
	long r;

	r = channel_ready();
	if (r < 0)
		return (int)r;
	if (path)
		request->len1 = (uint32_t)(iov[1].iov_len = strlen(path) + 1);
	lock_take(&signals);
	r = send_message(root.socket, iov, path ? 2 : 1, send_fd);
	if (r >= 0)
		r = receive_message(root.socket, ret_reply, sizeof(*ret_reply), &fd);
	lock_give(&signals);
	if (r < (long)sizeof(*ret_reply))
		r = -EIO;
	else
		r = ret_reply->error;
	if (r < 0 || !ret_fd) {
		if (fd >= 0)
			SYS(close, fd, 0, 0);
	} else if (fd < 0) {
		r = -EPROTO;
	} else {
		*ret_fd = fd;
	}
	return r < 0 ? (int)r : 0;
}
