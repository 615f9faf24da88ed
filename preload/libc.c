/* SPDX-License-Identifier: Apache-2.0 */
/* Symbol lookup. Where the loader shows its list of objects (glibc), by their hash tables (ELF
 * gABI, "Hash Table"; GNU hash: binutils' elf-hash): that takes no lock and no memory, so that it
 * may happen in a signal handler or inside of a malloc that is just starting, and it needs no
 * libdl, which old programs do not load. Elsewhere (musl) by dlsym(RTLD_NEXT). */
#include "preload/libc.h"

#include <elf.h>
#include <stdatomic.h>

struct map { /* struct link_map's public head, the same in every libc */
	Elf64_Addr base;
	char *name;
	Elf64_Dyn *dynamic;
	struct map *next, *prev;
};
struct debug { /* struct r_debug */
	int version;
	struct map *maps;
};

extern void *dlsym(void *handle, const char *name) __attribute__((weak));
extern struct debug _r_debug __attribute__((weak));
extern Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

#define NEXT ((void *)-1l)

static long nothing(void)
{
	*__errno_location() = ENOSYS;
	return -1;
}

struct symbols {
	const Elf64_Sym *table;
	const char *names;
	const uint32_t *gnu_hash, *hash;
	const uint16_t *versions;
};

static void symbols_of(const struct map *map, struct symbols *ret)
{
	*ret = (struct symbols){0};
	for (const Elf64_Dyn *d = map->dynamic; d->d_tag != DT_NULL; d++) {
		/* glibc relocates these, musl and the vdso do not */
		Elf64_Addr at =
		    d->d_un.d_ptr < map->base ? d->d_un.d_ptr + map->base : d->d_un.d_ptr;

		switch (d->d_tag) {
		case DT_SYMTAB:
			ret->table = (const Elf64_Sym *)at;
			break;
		case DT_STRTAB:
			ret->names = (const char *)at;
			break;
		case DT_GNU_HASH:
			ret->gnu_hash = (const uint32_t *)at;
			break;
		case DT_HASH:
			ret->hash = (const uint32_t *)at;
			break;
		case DT_VERSYM:
			ret->versions = (const uint16_t *)at;
			break;
		}
	}
}

static bool matches(const struct symbols *symbols, uint32_t i, const char *name)
{
	const Elf64_Sym *symbol = &symbols->table[i];

	/* an old version beside the default one is marked hidden */
	return symbol->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
	       !(symbols->versions && symbols->versions[i] & 0x8000) &&
	       same_string(symbols->names + symbol->st_name, name);
}

static const Elf64_Sym *find_gnu(const struct symbols *symbols, const char *name)
{
	const uint32_t *table = symbols->gnu_hash;
	uint32_t nbuckets = table[0], first = table[1], bloom_words = table[2], i, hash = 5381;
	const uint32_t *buckets = table + 4 + 2 * bloom_words, *chains = buckets + nbuckets;

	for (const char *p = name; *p; p++)
		hash = hash * 33 + (unsigned char)*p;
	i = nbuckets ? buckets[hash % nbuckets] : 0;
	if (i < first)
		return NULL;
	for (;; i++) {
		uint32_t h = chains[i - first];

		if ((h | 1) == (hash | 1) && matches(symbols, i, name))
			return &symbols->table[i];
		if (h & 1)
			return NULL;
	}
}

static const Elf64_Sym *find_sysv(const struct symbols *symbols, const char *name)
{
	const uint32_t *buckets = symbols->hash + 2, *chains = buckets + symbols->hash[0];
	uint32_t hash = 0;

	for (const char *p = name; *p; p++) {
		uint32_t high;

		hash = (hash << 4) + (unsigned char)*p;
		high = hash & 0xf0000000u;
		hash = (hash ^ high >> 24) & ~high;
	}
	for (uint32_t i = buckets[hash % symbols->hash[0]]; i; i = chains[i])
		if (matches(symbols, i, name))
			return &symbols->table[i];
	return NULL;
}

static void *find_in(const struct map *map, const char *name)
{
	const Elf64_Sym *symbol = NULL;
	struct symbols symbols;

	symbols_of(map, &symbols);
	if (!symbols.table || !symbols.names)
		return NULL;
	if (symbols.gnu_hash)
		symbol = find_gnu(&symbols, name);
	else if (symbols.hash && symbols.hash[0])
		symbol = find_sysv(&symbols, name);
	return symbol ? (void *)(map->base + symbol->st_value) : NULL;
}

static void *find_in_map(const char *name)
{
	const struct map *map;
	bool passed = false;

	if (!&_r_debug)
		return NULL;
	for (map = _r_debug.maps; map; map = map->next) {
		void *found = passed ? find_in(map, name) : NULL;

		if (found)
			return found;
		passed = passed || map->dynamic == _DYNAMIC;
	}
	return NULL;
}

static void *look_up(const char *name)
{
	void *found = find_in_map(name);

	if (!found && !&_r_debug && dlsym)
		found = dlsym(NEXT, name);
	return found;
}

/* What look finds, kept in *slot; absent where it finds nothing. */
static inline void *find_once(void *_Atomic *slot, void *(*look)(const char *), const char *name,
			      void *absent)
{
	void *found = atomic_load_explicit(slot, memory_order_relaxed);

	if (likely(found != NULL))
		return found;
	found = look(name);
	if (!found)
		found = absent;
	atomic_store_explicit(slot, found, memory_order_relaxed);
	return found;
}

void *libc_find(void *_Atomic *slot, const char *name)
{
	return find_once(slot, look_up, name, (void *)nothing);
}

static long no_vdso(void)
{
	return -ENOSYS;
}

static void *look_up_vdso(const char *name)
{
	unsigned long at = LIBC(unsigned long, getauxval)(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)at;
	const Elf64_Phdr *part;
	struct map map = {0};

	if (!at || failed((long)at))
		return NULL;
	part = (const Elf64_Phdr *)(at + head->e_phoff);
	for (unsigned i = 0; i < head->e_phnum; i++) {
		if (part[i].p_type == PT_LOAD && !map.base)
			map.base = at + part[i].p_offset - part[i].p_vaddr;
		if (part[i].p_type == PT_DYNAMIC)
			map.dynamic = (Elf64_Dyn *)(at + part[i].p_offset);
	}
	return map.dynamic ? find_in(&map, name) : NULL;
}

void *libc_find_vdso(void *_Atomic *slot, const char *name)
{
	return find_once(slot, look_up_vdso, name, (void *)no_vdso);
}

static void never(void)
{
}

void libc_testcancel(void)
{
	static void *_Atomic slot;
	/* never: a program without threads */
	void *found = find_once(&slot, look_up, "pthread_testcancel", (void *)never);

	((void (*)(void))found)();
}
