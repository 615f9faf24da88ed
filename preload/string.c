/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and strings without a libc. The compiler may call the first four by itself. */
#include "preload/sys.h"

void *memcpy(void *restrict to, const void *restrict from, size_t len_bytes)
{
	char *t = to;
	const char *f = from;

	if (len_bytes >= 256) {
		void *ret = to;

		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len_bytes) : : "memory");
		return ret;
	}
	for (; len_bytes >= 16; len_bytes -= 16, t += 16, f += 16) {
		uint64_t a, b;

		__builtin_memcpy(&a, f, 8);
		__builtin_memcpy(&b, f + 8, 8);
		__builtin_memcpy(t, &a, 8);
		__builtin_memcpy(t + 8, &b, 8);
	}
	for (; len_bytes; len_bytes--)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t len_bytes)
{
	char *t = to;
	const char *f = from;

	if (t <= f || t >= f + len_bytes) {
		for (size_t i = 0; i < len_bytes; i++)
			t[i] = f[i];
		return to;
	}
	while (len_bytes--)
		t[len_bytes] = f[len_bytes];
	return to;
}

void *memset(void *to, int byte, size_t len_bytes)
{
	void *t = to;

	__asm__ volatile("rep stosb" : "+D"(t), "+c"(len_bytes) : "a"(byte) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t len_bytes)
{
	const unsigned char *x = a, *y = b;

	for (; len_bytes; len_bytes--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

size_t copy_string(char *to, const char *from, size_t cap_bytes)
{
	size_t n = 0;

	for (; n < cap_bytes; n++)
		if (!(to[n] = from[n]))
			return n;
	return cap_bytes;
}

bool same_string(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}
