/* SPDX-License-Identifier: Apache-2.0 */
/* A file of a cache_world and what it must contain: each step is made on both, and they are the
 * same after it. The steps are random, from one seed. */
#pragma once

#include "tests/lib/cache_world.h"

#define MODEL_BYTES	 (200 * KIB)
#define MODEL_STEP_BYTES (16 * KIB)

struct cache_model {
	struct cache_world w;
	struct cw_handle h; /* of "f" */
	uint64_t random;
	size_t size;
	/* this step's */
	unsigned op; /* below 16 */
	uint64_t offset, len;
	unsigned char data[MODEL_STEP_BYTES];
	unsigned char bytes[MODEL_BYTES];
};

/* Below n. */
static inline uint64_t model_random(struct cache_model *m, uint64_t n)
{
	m->random = m->random * 6364136223846793005u + 1442695040888963407u;
	return (m->random >> 33) % n;
}

static inline void model_next(struct cache_model *m)
{
	m->offset = model_random(m, MODEL_BYTES - 20 * KIB);
	m->len = 1 + model_random(m, MODEL_STEP_BYTES);
	m->op = model_random(m, 16);
	if (model_random(m, 2))
		m->len = 1 + m->len % 300;
	memset(m->data, 1 + model_random(m, 255), m->len);
}

static inline void model_has(struct cache_model *m, uint64_t offset, const void *data)
{
	memcpy(m->bytes + offset, data, m->len);
	m->size = offset + m->len > m->size ? offset + m->len : m->size;
}

static inline void model_write(struct cache_model *m)
{
	assert_int_equal(cw_write(&m->w, &m->h, m->data, m->len, m->offset, false), m->len);
	model_has(m, m->offset, m->data);
}

static inline void model_append(struct cache_model *m)
{
	if (m->size + m->len > MODEL_BYTES)
		return;
	assert_int_equal(cw_write(&m->w, &m->h, m->data, m->len, 0, true), m->len);
	model_has(m, m->size, m->data);
}

static inline void model_truncate(struct cache_model *m)
{
	struct attr attr, set = {.size = m->offset};
	struct ls_file *file = model_random(m, 2) ? m->h.file : NULL;

	assert_int_equal(ls_setattr(m->w.ls, m->w.cred, m->h.node, file, ATTR_SIZE, &set, &attr),
			 0);
	if (m->offset < m->size)
		memset(m->bytes + m->offset, 0, m->size - m->offset);
	m->size = m->offset;
}

static inline void model_punch(struct cache_model *m)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	assert_int_equal(ls_allocate(m->w.ls, m->h.file, mode, m->offset, m->len), 0);
	memset(m->bytes + m->offset, 0, m->len);
}

static inline void model_allocate(struct cache_model *m)
{
	assert_int_equal(ls_allocate(m->w.ls, m->h.file, 0, m->offset, m->len), 0);
	m->size = m->offset + m->len > m->size ? m->offset + m->len : m->size;
}

static inline void model_reopen(struct cache_model *m)
{
	cw_close(&m->w, &m->h);
	m->h = cw_open(&m->w, "f", O_RDWR);
}

static inline void model_read(struct cache_model *m)
{
	size_t third = m->len / 3, left = m->offset < m->size ? m->size - m->offset : 0,
	       want = left < m->len ? left : m->len;
	struct iovec iov[3] = {
	    {m->data, third}, {m->data + third, 0}, {m->data + third, m->len - third}};

	assert_int_equal(ls_read(m->w.ls, m->h.file, iov, 3, m->offset), want);
	assert_memory_equal(m->data, m->bytes + m->offset, want);
}

static inline void model_check_size(struct cache_model *m)
{
	struct attr attr;

	assert_int_equal(ls_getattr(m->w.ls, m->h.node, NULL, &attr), 0);
	assert_int_equal(attr.size, m->size);
}
