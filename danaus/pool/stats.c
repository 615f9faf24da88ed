/* SPDX-License-Identifier: Apache-2.0 */
/* Owns every thread's counters. A thread writes only its own block (relaxed atomics, one writer);
 * whoever asks sums all blocks under the list's lock. A thread that ends leaves its counts to
 * `ended`. */
#include "danaus/pool/stats.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <x86intrin.h>
#endif

/* Bucket: the top bit's position and the two bits below it, up to 2^40 ns. */
#define BUCKETS (40 * 4)

struct counts {
	_Atomic uint64_t count, errors, bytes, max_ns;
	_Atomic uint32_t bucket[BUCKETS];
};

struct block {
	struct counts *_Atomic op[DOOR_COUNT][WIRE_OP_COUNT]; /* made at first use */
	struct block *next, **link;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static struct block ended;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread struct block *mine;

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

#ifdef __x86_64__
static _Atomic uint64_t tsc_mult; /* ns per tick, 32.32 fixed; 0: no invariant counter */

/* The time-stamp counter where the CPU says that it is invariant (Intel SDM vol. 3, 18.17): a
 * third of clock_gettime()'s cost. */
__attribute__((constructor)) static void calibrate(void)
{
	unsigned a, b, c, d;
	uint64_t ns, tsc;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1u << 8))
		return;
	ns = clock_ns();
	tsc = __rdtsc();
	while (clock_ns() - ns < 200000)
		;
	ns = clock_ns() - ns;
	tsc = __rdtsc() - tsc;
	if (tsc)
		tsc_mult = (uint64_t)(((unsigned __int128)ns << 32) / tsc);
}

uint64_t stats_now(void)
{
	uint64_t mult = atomic_load_explicit(&tsc_mult, memory_order_relaxed);

	if (mult)
		return (uint64_t)(((unsigned __int128)__rdtsc() * mult) >> 32);
	return clock_ns();
}
#else
uint64_t stats_now(void)
{
	return clock_ns();
}
#endif

const char *door_name(enum door door)
{
	static const char *const names[] = {"shm", "notify", "fuse", "window", "lease"};

	return names[door];
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void fold(struct counts *into, const struct counts *from)
{
	uint64_t max = atomic_load_explicit(&from->max_ns, memory_order_relaxed);

	add(&into->count, atomic_load_explicit(&from->count, memory_order_relaxed));
	add(&into->errors, atomic_load_explicit(&from->errors, memory_order_relaxed));
	add(&into->bytes, atomic_load_explicit(&from->bytes, memory_order_relaxed));
	if (max > into->max_ns)
		into->max_ns = max;
	for (int i = 0; i < BUCKETS; i++)
		into->bucket[i] += atomic_load_explicit(&from->bucket[i], memory_order_relaxed);
}

static struct counts *counts_of(struct block *block, unsigned door, unsigned op)
{
	struct counts *counts = atomic_load_explicit(&block->op[door][op], memory_order_acquire);

	if (!counts) {
		counts = calloc(1, sizeof(*counts));
		atomic_store_explicit(&block->op[door][op], counts, memory_order_release);
	}
	return counts;
}

static void thread_ended(void *arg)
{
	struct block *block = arg;

	pthread_mutex_lock(&lock);
	*block->link = block->next;
	if (block->next)
		block->next->link = block->link;
	for (unsigned d = 0; d < DOOR_COUNT; d++) {
		for (unsigned op = 0; op < WIRE_OP_COUNT; op++) {
			struct counts *from = block->op[d][op];
			struct counts *into = from ? counts_of(&ended, d, op) : NULL;

			if (into)
				fold(into, from);
			free(from);
		}
	}
	pthread_mutex_unlock(&lock);
	free(block);
}

static void make_key(void)
{
	pthread_key_create(&key, thread_ended);
}

static struct block *make_block(void)
{
	struct block *block = calloc(1, sizeof(*block));

	if (!block)
		return NULL;
	pthread_once(&once, make_key);
	pthread_mutex_lock(&lock);
	block->next = blocks;
	block->link = &blocks;
	if (blocks)
		blocks->link = &block->next;
	blocks = block;
	pthread_mutex_unlock(&lock);
	pthread_setspecific(key, block);
	return mine = block;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned top, index;

	if (ns < 4)
		return ns;
	top = 63 - __builtin_clzll(ns);
	index = (top - 1) * 4 + ((ns >> (top - 2)) & 3);
	return index < BUCKETS ? index : BUCKETS - 1;
}

/* The middle of a bucket. */
static uint64_t bucket_ns(unsigned index)
{
	unsigned top = index / 4 + 1;

	if (index < 4)
		return index;
	return ((4ull + (index & 3)) << (top - 2)) + (1ull << (top - 2)) / 2;
}

void stats_count(enum door door, unsigned op, uint64_t started_ns, uint64_t bytes, int error)
{
	struct block *block = mine ? mine : make_block();
	struct counts *counts;

	if (!block || op >= WIRE_OP_COUNT || !(counts = counts_of(block, door, op)))
		return;
	add(&counts->count, 1);
	if (error)
		add(&counts->errors, 1);
	if (bytes)
		add(&counts->bytes, bytes);
	if (started_ns) {
		uint64_t took = stats_now() - started_ns;
		_Atomic uint32_t *bucket = &counts->bucket[bucket_of(took)];

		atomic_store_explicit(bucket,
				      atomic_load_explicit(bucket, memory_order_relaxed) + 1,
				      memory_order_relaxed);
		if (took > atomic_load_explicit(&counts->max_ns, memory_order_relaxed))
			atomic_store_explicit(&counts->max_ns, took, memory_order_relaxed);
	}
}

void stats_add(enum door door, unsigned op, uint64_t count, uint64_t bytes)
{
	struct block *block = mine ? mine : make_block();
	struct counts *counts;

	if (!block || !(counts = counts_of(block, door, op)))
		return;
	add(&counts->count, count);
	add(&counts->bytes, bytes);
}

static uint64_t percentile(const struct counts *counts, unsigned percent)
{
	uint64_t total = 0, seen = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		total += counts->bucket[i];
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += counts->bucket[i];
		if (seen && seen * 100 >= total * percent)
			return bucket_ns(i);
	}
	return 0;
}

static bool sum(struct counts *into, unsigned door, unsigned op)
{
	struct counts *from = ended.op[door][op];

	*into = (struct counts){0};
	if (from)
		fold(into, from);
	for (struct block *block = blocks; block; block = block->next) {
		from = atomic_load_explicit(&block->op[door][op], memory_order_acquire);
		if (from)
			fold(into, from);
	}
	return into->count != 0;
}

json_t *stats_json(void)
{
	json_t *all = json_object();
	struct counts *total = malloc(sizeof(*total));

	pthread_mutex_lock(&lock);
	for (unsigned d = 0; total && d < DOOR_COUNT; d++) {
		json_t *ops = json_object();

		for (unsigned op = 0; op < WIRE_OP_COUNT; op++) {
			if (!sum(total, d, op))
				continue;
			json_object_set_new(ops, wire_op_name(op),
					    json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "count",
						      (json_int_t)total->count, "errors",
						      (json_int_t)total->errors, "bytes",
						      (json_int_t)total->bytes, "p50_ns",
						      (json_int_t)percentile(total, 50), "p90_ns",
						      (json_int_t)percentile(total, 90), "p99_ns",
						      (json_int_t)percentile(total, 99), "max_ns",
						      (json_int_t)total->max_ns));
		}
		json_object_set_new(all, door_name(d), ops);
	}
	pthread_mutex_unlock(&lock);
	free(total);
	return all;
}
