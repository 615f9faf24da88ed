/* SPDX-License-Identifier: Apache-2.0 */
/* The union beside the kernel's own overlayfs, step by step with random operations (DANAUS_SEEDS=N
 * for more seeds), each mounting what the other wrote. */
#include "tests/lib/union_world.h"

#include <errno.h>
#include <limits.h>

#include "danaus/base/cleanup.h"

/* A layer of the given kind, made with plain calls. */
static void random_layer(const char *dir)
{
	char cmd[PATH_MAX];

	for (unsigned i = 0; i < 25; i++) {
		struct union_world plain = {.mnt = ""};
		struct uw_op op;

		snprintf(plain.mnt, sizeof(plain.mnt), "%s", dir);
		uw_random_op(&op);
		op.user = 0;
		do {
			op.kind = uw_pick(KINDS);
		} while (op.kind == UNLINK || op.kind == RMDIR || op.kind == EXCHANGE ||
			 op.kind == RENAME);
		if (op.kind == SYMLINK && op.b[0] != '/')
			op.kind = LINK;
		if (i < 12)
			op.kind = i % 2 ? CREATE : MKDIR;
		uw_op(&plain, &op);
	}
	snprintf(cmd, sizeof(cmd), "chmod 1777 %s; find %s -exec touch -h -d @%u {} +", dir, dir,
		 UW_OLD);
	assert_int_equal(system(cmd), 0);
}

static void compare(const char *what, unsigned seed, const char *expected, const char *got)
{
	const char *a = expected, *b = got;

	if (!strcmp(expected, got))
		return;
	while (*a && *b) {
		const char *ea = strchr(a, '\n'), *eb = strchr(b, '\n');

		if (ea - a != eb - b || memcmp(a, b, ea - a))
			break;
		a = ea + 1;
		b = eb + 1;
	}
	fail_msg("seed %u, %s differs:\n overlayfs %.*s\n union     %.*s", seed, what,
		 (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
}

static void one_seed(unsigned seed)
{
	struct union_world ours = {.mnt = ""}, theirs = {.mnt = ""}, other;
	unsigned nops = 150;
	struct uw_op op;

	uw_sh("mkdir -p %s/k/u %s/k/w %s/k/a %s/k/b %s/k/mnt", uw_base, uw_base, uw_base, uw_base,
	      uw_base);
	uw_seed(seed);
	snprintf(ours.branches, sizeof(ours.branches), "%s/d", uw_base);
	snprintf(theirs.branches, sizeof(theirs.branches), "%s/k", uw_base);
	snprintf(theirs.mnt, sizeof(theirs.mnt), "%s/k/mnt", uw_base);
	for (const char *l = "ab"; *l; l++) {
		char dir[80];

		snprintf(dir, sizeof(dir), "%s/%c", theirs.branches, *l);
		random_layer(dir);
	}
	uw_sh("chmod 1777 %s/u; touch -d @%u %s/u; cp -a %s %s", theirs.branches, UW_OLD,
	      theirs.branches, theirs.branches, ours.branches);
	uw_open(&theirs);
	uw_open(&ours);
	for (unsigned i = 0; i < nops; i++) {
		int a, b;

		uw_random_op(&op);
		a = uw_op(&theirs, &op);
		b = uw_op(&ours, &op);
		/* Which of two refusals comes first depends on fs.protected_hardlinks. */
		if (op.kind == LINK && (a == -EPERM || a == -EACCES) &&
		    (b == -EPERM || b == -EACCES))
			continue;
		if (a != b)
			fail_msg("seed %u op %u: kind %d user %u %s %s n %u: overlayfs %d, union "
				 "%d",
				 seed, i, op.kind, op.user, op.a, op.b, op.n, a, b);
	}
	CLEANUP_FREE char *their_tree = uw_dump(&theirs);
	CLEANUP_FREE char *our_tree = uw_dump(&ours);
	compare("the tree", seed, their_tree, our_tree);
	uw_close(&theirs);
	uw_close(&ours);
	other = (struct union_world){0};
	strcpy(other.branches, theirs.branches);
	uw_open(&other);
	CLEANUP_FREE char *crossed = uw_dump(&other);
	compare("what overlayfs wrote, read by the union,", seed, their_tree, crossed);
	uw_close(&other);
	strcpy(other.branches, ours.branches);
	strcpy(other.mnt, theirs.mnt);
	uw_open(&other);
	CLEANUP_FREE char *crossed2 = uw_dump(&other);
	uw_close(&other);
	compare("what the union wrote, read by overlayfs,", seed, crossed2, our_tree);
	uw_sh("rm -rf %s/k %s/d", uw_base, uw_base);
}

static void does_what_overlayfs_does(void **state)
{
	const char *seeds = getenv("DANAUS_SEEDS"), *first = getenv("DANAUS_SEED");
	unsigned n = seeds ? atoi(seeds) : 30, from = first ? atoi(first) : 1;

	for (unsigned seed = from; seed < from + n; seed++)
		one_seed(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(does_what_overlayfs_does),
	};

	return cmocka_run_group_tests(tests, uw_setup, uw_teardown);
}
