/* SPDX-License-Identifier: Apache-2.0 */
/* Pure functions on hostile text. Any thread. */
#include "danaus/base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

static int digits(const char **text, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v) || v > max)
			return -ERANGE;
	}
	*text = p;
	*ret = v;
	return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = digits(&text, max, &v);

	if (r < 0)
		return r;
	if (*text)
		return -EINVAL;
	*ret = v;
	return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "kmgt";
	uint64_t v;
	int r = digits(&text, UINT64_MAX, &v), shift = 0;

	if (r < 0)
		return r;
	for (int i = 0; suffixes[i]; i++) {
		if (tolower((unsigned char)*text) == suffixes[i]) {
			shift = 10 * (i + 1);
			text++;
			break;
		}
	}
	if (*text && strcasecmp(text, "b") != 0 && !(shift && strcasecmp(text, "ib") == 0))
		return -EINVAL;
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = v << shift;
	return 0;
}

int parse_cpulist(const char *text, cpu_set_t *ret)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (;;) {
		uint64_t first, last;
		int r = digits(&text, CPU_SETSIZE - 1, &first);

		if (r < 0)
			return r;
		last = first;
		if (*text == '-') {
			text++;
			r = digits(&text, CPU_SETSIZE - 1, &last);
			if (r < 0)
				return r;
			if (last < first)
				return -EINVAL;
		}
		for (uint64_t c = first; c <= last; c++)
			CPU_SET(c, &set);
		if (!*text)
			break;
		if (*text++ != ',')
			return -EINVAL;
	}
	*ret = set;
	return 0;
}

int format_cpulist(const cpu_set_t *set, char *buf, size_t cap_bytes)
{
	size_t len = 0;

	if (!cap_bytes)
		return -ENOSPC;
	buf[0] = '\0';
	for (int c = 0; c < CPU_SETSIZE; c++) {
		int end = c, n;

		if (!CPU_ISSET(c, set))
			continue;
		while (end + 1 < CPU_SETSIZE && CPU_ISSET(end + 1, set))
			end++;
		n = end == c
			? snprintf(buf + len, cap_bytes - len, "%s%d", len ? "," : "", c)
			: snprintf(buf + len, cap_bytes - len, "%s%d-%d", len ? "," : "", c, end);
		if ((size_t)n >= cap_bytes - len)
			return -ENOSPC;
		len += n;
		c = end;
	}
	return 0;
}
