/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing; pure. init, one thread. */
#include "hooks/loader.h"

#include <asm/unistd.h>
#include <linux/seccomp.h>

#define PAGE_MASK     0xfffu
#define MAPPINGS_HIGH 0x7000u /* the region of mappings, an address's upper half */
#define NUMBER_BYTES  5	      /* mov $number, %eax */
#define BETWEEN_MAX   16      /* other instructions' bytes before the system call */

_Static_assert(LOADER_BEFORE == NUMBER_BYTES + BETWEEN_MAX + 2 - 1, "no call is seen in halves");

#ifdef __x86_64__
static const uint16_t calls[] = {__NR_open, __NR_stat, __NR_access, __NR_openat, __NR_newfstatat};
#define NCALLS	  (sizeof(calls) / sizeof(calls[0]))
#define FIRST_AT  3 /* from here on they start at a descriptor, which may be a Danaus one */
#define AT_FDCWD_ 0xffffff9cu

/* The call whose number is set here; negative when none of ours is. */
static int number_at(const unsigned char *code) /* mov $number, %eax */
{
	int nr = code[1] | code[2] << 8;

	if (code[0] != 0xb8 || code[3] || code[4])
		return -1;
	for (size_t i = 0; i < NCALLS; i++)
		if (nr == calls[i])
			return nr;
	return -1;
}

static void add_site(struct loader *loader, uint32_t site)
{
	for (unsigned i = 0; i < loader->nsites; i++)
		if (loader->site[i] == site)
			return;
	if (loader->nsites < LOADER_SITES)
		loader->site[loader->nsites++] = site;
}

void loader_scan(struct loader *loader, const unsigned char *code, size_t len_bytes,
		 uint64_t offset_bytes)
{
	for (size_t i = 0; i + NUMBER_BYTES <= len_bytes; i++) {
		size_t at = i + NUMBER_BYTES, last = at + BETWEEN_MAX;
		int nr = number_at(code + i);

		if (nr < 0)
			continue;
		while (at <= last && at + 2 <= len_bytes &&
		       !(code[at] == 0x0f && code[at + 1] == 0x05))
			at++; /* syscall */
		if (at <= last && at + 2 <= len_bytes)
			add_site(loader, (uint32_t)nr << 12 |
					     ((uint32_t)(offset_bytes + at + 2) & PAGE_MASK));
	}
}

unsigned loader_filter(const struct loader *loader, struct sock_filter insns[LOADER_INSNS])
{
	const uint32_t ip = offsetof(struct seccomp_data, instruction_pointer);
	const unsigned at_fdcwd = NCALLS + 2, place = at_fdcwd + 2; /* where each part starts */
	const unsigned end = place + 8 + loader->nsites + 2;
	unsigned n = 0;

	if (!loader->nsites)
		return 0;
	/* what call? */
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < NCALLS; i++, n++)
		insns[n] = (struct sock_filter)BPF_JUMP(
		    BPF_JMP | BPF_JEQ | BPF_K, calls[i],
		    (uint8_t)((i < FIRST_AT ? place : at_fdcwd) - n - 1), 0);
	insns[n] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, end - n - 1);
	n++;
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, args));
	insns[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AT_FDCWD_, 0,
						(uint8_t)(end - n - 1));
	n++;
	/* number << 12 | page offset, when it comes from the region of mappings */
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, nr));
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 12);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4);
	insns[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, MAPPINGS_HIGH, 0,
						(uint8_t)(end - n - 1));
	n++;
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PAGE_MASK);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0);
	for (unsigned i = 0; i < loader->nsites; i++, n++)
		insns[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, loader->site[i],
							(uint8_t)(end - 1 - n - 1), 0);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return n;
}
#else
void loader_scan(struct loader *loader, const unsigned char *code, size_t len_bytes,
		 uint64_t offset_bytes)
{
	(void)loader, (void)code, (void)len_bytes, (void)offset_bytes;
}

unsigned loader_filter(const struct loader *loader, struct sock_filter insns[LOADER_INSNS])
{
	(void)loader, (void)insns;
	return 0;
}
#endif
