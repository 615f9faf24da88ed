/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target without a fuzzer: over the files of a corpus, and over variations of each that
 * are the same in every run. fuzz_X DIRECTORY... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX  65536
#define VARIATIONS 2000

static uint32_t state;

static uint32_t next(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static void vary(const uint8_t *data, size_t size)
{
	static uint8_t copy[2 * INPUT_MAX];

	for (int i = 0; i < VARIATIONS; i++) {
		size_t n = size;

		memcpy(copy, data, size);
		for (uint32_t changes = next() % 4; changes-- && n;) {
			size_t at = next() % n, len = next() % 8 + 1;

			switch (next() % 4) {
			case 0:
				copy[at] = (uint8_t)next();
				break;
			case 1:
				n = at;
				break;
			case 2: /* doubles a piece */
				if (at + len <= n && n + len <= sizeof(copy)) {
					memmove(copy + at + len, copy + at, n - at);
					n += len;
				}
				break;
			default:
				copy[at] = "/.\0"
					   "0"[next() % 4];
			}
		}
		LLVMFuzzerTestOneInput(copy, n);
	}
}

static int run_file(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f)
		return 1;
	n = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, n);
	state = 2463534242u;
	vary(data, n);
	return 0;
}

int main(int argc, char **argv)
{
	char path[4096];
	int failed = 0, files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *e;

		while (dir && (e = readdir(dir))) {
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			failed |= run_file(path);
			files++;
		}
		if (dir)
			closedir(dir);
	}
	printf("%d inputs\n", files);
	return failed || !files;
}
