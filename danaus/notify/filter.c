/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter of a container's processes, from syscalls.def. Called at attach, on any
 * thread.
 *
 * libseccomp gives the numbers of the calls on this machine; the instructions are made here,
 * because libseccomp compares whole 64-bit arguments (a descriptor is an int: its register's upper
 * half is the program's garbage, and AT_FDCWD must stay below the base), and because here all calls
 * of one kind share one test. A call that no row names is allowed by its number alone, so that the
 * kernel's own bitmap of constant answers skips the filter for it.
 *
 * Another ABI of the machine (i386, x32) is allowed: its programs are served by the kernel face.
 */
#include "danaus/notify/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "danaus/notify/calls.h"
#include "danaus/proto/mount_table.h"

#define FILTER_MAX 1024 /* instructions; the kernel's limit is 4096 */
#define X32_BIT	   0x40000000u

/* The program grows from its end: jumps only go forward, so each one's target is known when it is
 * emitted. A position is an index into insn[], counted from the end. */
struct program {
	unsigned n;
	bool overflow;
	struct sock_filter insn[FILTER_MAX]; /* reversed */
};

static unsigned emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (p->n == FILTER_MAX) {
		p->overflow = true;
		return 0;
	}
	p->insn[p->n] = (struct sock_filter){code, jt, jf, k};
	return p->n++;
}

/* A position within a conditional jump's reach that leads to target. */
static unsigned reach(struct program *p, unsigned target)
{
	if (p->n - target < 250)
		return target;
	return emit(p, BPF_JMP | BPF_JA, p->n - target - 1, 0, 0);
}

static unsigned emit_jump(struct program *p, uint16_t test, uint32_t k, unsigned yes, unsigned no)
{
	yes = reach(p, yes);
	no = reach(p, no);
	return emit(p, BPF_JMP | BPF_K | test, k, (uint8_t)(p->n - yes - 1),
		    (uint8_t)(p->n - no - 1));
}

static unsigned emit_load(struct program *p, size_t offset)
{
	return emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

#define ARG_LOW(i)  (offsetof(struct seccomp_data, args) + 8u * (i)) /* little-endian */
#define ARG_HIGH(i) (ARG_LOW(i) + 4)

/* Goes to yes when argument i is a descriptor >= base. */
static unsigned emit_fd(struct program *p, unsigned i, int base, unsigned yes, unsigned no)
{
	unsigned at = emit_jump(p, BPF_JGE, (uint32_t)base, yes, no);

	emit_jump(p, BPF_JGE, 0x80000000u, no, at);
	return emit_load(p, ARG_LOW(i));
}

static unsigned emit_equal(struct program *p, unsigned i, uint32_t value, unsigned yes, unsigned no)
{
	emit_jump(p, BPF_JEQ, value, yes, no);
	return emit_load(p, ARG_LOW(i));
}

/* Goes to yes when argument flags has AT_EMPTY_PATH and argument 0 is a descriptor below base: an
 * fstat() in another form. With a path after all, or a descriptor of a volume's directory, the
 * kernel face answers the same. */
static unsigned emit_fstat(struct program *p, unsigned flags, int base, unsigned yes, unsigned no)
{
	unsigned at;

	emit_jump(p, BPF_JGE, (uint32_t)base, no, yes); /* AT_FDCWD is above any base, unsigned */
	at = emit_load(p, ARG_LOW(0));
	emit_jump(p, BPF_JSET, AT_EMPTY_PATH, at, no);
	return emit_load(p, ARG_LOW(flags));
}

static unsigned emit_cookie(struct program *p, unsigned yes, unsigned no)
{
	unsigned at;

	emit_jump(p, BPF_JEQ, (uint32_t)(GATE_COOKIE >> 32), yes, no);
	at = emit_load(p, ARG_HIGH(5));
	emit_jump(p, BPF_JEQ, (uint32_t)GATE_COOKIE, at, no);
	return emit_load(p, ARG_LOW(5));
}

struct entry {
	int nr;
	unsigned leaf;
};

static int by_number(const void *a, const void *b)
{
	return ((const struct entry *)a)->nr - ((const struct entry *)b)->nr;
}

/* A binary tree over entry[lo, hi). */
static unsigned emit_tree(struct program *p, const struct entry *entry, unsigned lo, unsigned hi,
			  unsigned allow)
{
	unsigned mid = lo + (hi - lo) / 2, left, right;

	if (hi - lo == 1)
		return emit_jump(p, BPF_JEQ, (uint32_t)entry[lo].nr, entry[lo].leaf, allow);
	right = emit_tree(p, entry, mid, hi, allow);
	left = emit_tree(p, entry, lo, mid, allow);
	return emit_jump(p, BPF_JGE, (uint32_t)entry[mid].nr, right, left);
}

int filter_build(int fd_base, void **ret, size_t *ret_bytes, struct err *err)
{
	struct entry entry[CALL_COUNT];
	struct program p = {.n = 0};
	struct sock_filter *out;
	unsigned leaf[WHEN_COUNT], allow, notify, tree, count = 0;

	if (fd_base < 3)
		return err_set(err, -EINVAL, "descriptor base %d is too low", fd_base);

	allow = emit(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	notify = emit(&p, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
	leaf[WHEN_STATE] = leaf[WHEN_STATE_AT0] = notify;
	leaf[WHEN_PATH] = emit_cookie(&p, allow, notify);
	leaf[WHEN_PATH_AT0] = leaf[WHEN_PATH_AT1] = leaf[WHEN_PATH_AT02] = leaf[WHEN_PATH];
	leaf[WHEN_PATH_OR_FSTAT2] = emit_fstat(&p, 2, fd_base, allow, leaf[WHEN_PATH]);
	leaf[WHEN_PATH_OR_FSTAT3] = emit_fstat(&p, 3, fd_base, allow, leaf[WHEN_PATH]);
	leaf[WHEN_FD0] = emit_fd(&p, 0, fd_base, notify, allow);
	leaf[WHEN_FD4] = emit_fd(&p, 4, fd_base, notify, allow);
	leaf[WHEN_FD01] = emit_fd(&p, 1, fd_base, notify, leaf[WHEN_FD0]);
	leaf[WHEN_FD02] = emit_fd(&p, 2, fd_base, notify, leaf[WHEN_FD0]);
	leaf[WHEN_FSIZE0] = emit_equal(&p, 0, RLIMIT_FSIZE, notify, allow);
	leaf[WHEN_FSIZE1] = emit_equal(&p, 1, RLIMIT_FSIZE, notify, allow);

	for (unsigned i = 0; i < CALL_COUNT; i++) {
		int nr = call_number(&call_table[i]);

		if (nr >= 0)
			entry[count++] = (struct entry){nr, leaf[call_table[i].when]};
	}
	qsort(entry, count, sizeof(entry[0]), by_number);
	tree = emit_tree(&p, entry, 0, count, allow);
#ifdef __x86_64__
	emit_jump(&p, BPF_JGE, X32_BIT, allow, tree);
#else
	(void)tree; /* the last one emitted: control falls into it */
#endif
	emit_load(&p, offsetof(struct seccomp_data, nr));
	emit_jump(&p, BPF_JEQ, seccomp_arch_native(), p.n - 1, allow);
	emit_load(&p, offsetof(struct seccomp_data, arch));
	if (p.overflow)
		return err_set(err, -E2BIG, "the filter has more than %u instructions", FILTER_MAX);

	out = malloc(p.n * sizeof(*out));
	if (!out)
		return err_set(err, -ENOMEM, "filter");
	for (unsigned i = 0; i < p.n; i++)
		out[i] = p.insn[p.n - 1 - i];
	*ret = out;
	*ret_bytes = p.n * sizeof(*out);
	return 0;
}
