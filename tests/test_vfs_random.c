/* SPDX-License-Identifier: Apache-2.0 */
/* The same random operations on a volume and on a plain directory, with the same identities: the
 * same results and the same trees (DANAUS_SEEDS=N for more seeds). */
#include "danaus/libservices/local/node.h"
#include "tests/lib/vfs_env.h"

#include <sys/syscall.h>
#include <sys/xattr.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#define STEPS	600
#define SEEDS	20
#define HANDLES 6

static uint64_t random_state;

static unsigned rnd(unsigned n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 33) % n;
}

struct pair {
	struct env env;
	char plain[64];
	int root; /* of the plain directory */
	struct cred *who[5];
	struct vctx ctx;
	struct {
		struct vfile *file;
		int fd;
		char path[96];
	} handle[HANDLES];
	char log[256];
};

static void random_path(char *buf)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "a", "b", ".", ".."};
	unsigned depth = 1 + rnd(3);

	buf[0] = '\0';
	for (unsigned i = 0; i < depth; i++) {
		strcat(buf, names[rnd(i + 1 == depth ? 9 : 7)]);
		if (i + 1 < depth)
			strcat(buf, "/");
	}
	if (!rnd(12))
		strcat(buf, "/");
}

static struct vtarget at_of(struct pair *p, const char *path, bool nofollow)
{
	struct vtarget at = env_at(&p->env, path);

	at.nofollow = nofollow;
	return at;
}

static void become(struct pair *p)
{
	assert_int_equal(cred_assume(p->ctx.cred, p->ctx.cred->caps), 0);
	local_umask(p->ctx.umask);
}

static void same(struct pair *p, long ours, long theirs)
{
	if (theirs == -1)
		theirs = -errno;
	if (getenv("DANAUS_SEED"))
		print_message("%s by %u: %ld\n", p->log, p->ctx.cred->fsuid, theirs);
	if (ours != theirs)
		print_error("%s: volume %ld, directory %ld\n", p->log, ours, theirs);
	assert_int_equal(ours, theirs);
}

/* The op left the volume: it did nothing, so the other must do nothing either. */
#define LEFT(r) ((r) == -EREMCHG)

static void compare_stat(struct pair *p, const struct attr *attr, const struct stat *st)
{
	if (attr->mode != st->st_mode || attr->nlink != st->st_nlink || attr->uid != st->st_uid ||
	    attr->gid != st->st_gid || (S_ISREG(st->st_mode) && attr->size != (size_t)st->st_size))
		print_error("%s: volume %o %u %u:%u %lu, directory %o %lu %u:%u %ld\n", p->log,
			    attr->mode, attr->nlink, attr->uid, attr->gid, attr->size, st->st_mode,
			    st->st_nlink, st->st_uid, st->st_gid, st->st_size);
	assert_int_equal(attr->mode, st->st_mode);
	assert_int_equal(attr->nlink, st->st_nlink);
	assert_int_equal(attr->uid, st->st_uid);
	assert_int_equal(attr->gid, st->st_gid);
	if (S_ISREG(st->st_mode))
		assert_int_equal(attr->size, st->st_size);
}

static void step_make(struct pair *p, const char *path, const char *other)
{
	static const mode_t kinds[] = {S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO, S_IFREG, S_IFSOCK};
	static const mode_t perms[] = {0755, 0777, 0700, 01777, 02775, 0640, 0500};
	mode_t kind = kinds[rnd(6)], perm = perms[rnd(7)];
	struct vtarget at = at_of(p, path, true);
	int r;

	if (kind != S_IFDIR)
		perm &= 0777;
	snprintf(p->log, sizeof(p->log), "make %o %s (%s)", kind | perm, path, other);
	r = vfs_make(&p->ctx, &at, kind | perm, 0, kind == S_IFLNK ? other : NULL, NULL);
	if (LEFT(r))
		return;
	become(p);
	if (kind == S_IFDIR)
		same(p, r, mkdirat(p->root, path, perm));
	else if (kind == S_IFLNK)
		same(p, r, symlinkat(other, p->root, path));
	else
		same(p, r, mknodat(p->root, path, kind | perm, 0));
}

static void step_open(struct pair *p, const char *path)
{
	static const int accs[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
	static const int extras[] = {0,
				     O_CREAT,
				     O_CREAT,
				     O_CREAT | O_EXCL,
				     O_TRUNC,
				     O_APPEND,
				     O_NOFOLLOW,
				     O_DIRECTORY,
				     O_CREAT | O_TRUNC,
				     O_CREAT | O_APPEND,
				     O_PATH,
				     O_NOATIME,
				     O_CREAT | O_NOFOLLOW,
				     O_TMPFILE};
	static const mode_t perms[] = {0644, 0666, 0600, 04755, 02755, 0444, 0};
	int flags = accs[rnd(4)] | extras[rnd(14)], r, fd;
	mode_t perm = perms[rnd(7)];
	struct vtarget at = at_of(p, path, false);
	unsigned h = rnd(HANDLES);
	struct vfile *file = NULL;

	snprintf(p->log, sizeof(p->log), "open %s %o mode %o by %u", path, flags, perm,
		 p->ctx.cred->fsuid);
	r = vfs_open(&p->ctx, &at, flags, perm, &file, NULL);
	if (LEFT(r) || r == -VFS_ESPECIAL)
		return;
	become(p);
	fd = openat(p->root, path, flags | O_CLOEXEC | O_NONBLOCK, perm);
	same(p, r, fd < 0 ? -1 : 0);
	if (r < 0)
		return;
	if (p->handle[h].file) {
		vfile_unref(p->handle[h].file);
		close(p->handle[h].fd);
	}
	p->handle[h].file = file;
	p->handle[h].fd = fd;
	snprintf(p->handle[h].path, sizeof(p->handle[h].path), "%.60s %o", path, flags);
}

static void step_handle(struct pair *p)
{
	unsigned h = rnd(HANDLES), op = rnd(11);
	struct vfile *file = p->handle[h].file;
	int fd = p->handle[h].fd, r;
	struct vtarget at = {.file = file, .path = ""};
	char ours[300], theirs[300];
	size_t len = 1 + rnd(300);
	off_t offset = rnd(9000);
	struct setattr set = {.set = ATTR_SIZE, .attr.size = offset};
	struct iovec iov = {.iov_base = ours, .iov_len = len};
	struct attr attr;
	struct stat st;
	ssize_t n;

	if (!file)
		return;
	snprintf(p->log, sizeof(p->log), "handle %s: op %u, %zu at %ld by %u", p->handle[h].path,
		 op, len, offset, p->ctx.cred->fsuid);
	memset(ours, 'A' + rnd(26), sizeof(ours));
	memcpy(theirs, ours, sizeof(theirs));
	switch (op) {
	case 0:
		n = vfs_write(&p->ctx, file, &iov, 1, VFS_AT_POSITION, false);
		become(p);
		same(p, n, write(fd, theirs, len));
		break;
	case 1:
		n = vfs_write(&p->ctx, file, &iov, 1, offset, false);
		become(p);
		same(p, n, pwrite(fd, theirs, len, offset));
		break;
	case 2:
		n = vfs_read(&p->ctx, file, &iov, 1, VFS_AT_POSITION);
		become(p);
		same(p, n, read(fd, theirs, len));
		if (n > 0)
			assert_memory_equal(ours, theirs, n);
		break;
	case 3:
		n = vfs_read(&p->ctx, file, &iov, 1, offset);
		become(p);
		same(p, n, pread(fd, theirs, len, offset));
		if (n > 0)
			assert_memory_equal(ours, theirs, n);
		break;
	case 4:
		if ((vfile_flags(file) & O_PATH) || S_ISDIR(vnode_type(vfile_node(file))))
			return;
		n = vfs_seek(&p->ctx, file, offset, op = rnd(5));
		become(p);
		same(p, n, lseek(fd, offset, op));
		break;
	case 5:
		r = vfs_stat(&p->ctx, &at, &attr);
		same(p, r, fstat(fd, &st));
		compare_stat(p, &attr, &st);
		break;
	case 6:
		r = vfs_setattr(&p->ctx, &at, &set, NULL);
		become(p);
		same(p, r, ftruncate(fd, offset));
		break;
	case 7:
		op = rnd(2); /* FALLOC_FL_KEEP_SIZE */
		r = vfs_allocate(&p->ctx, file, op, offset, len);
		become(p);
		same(p, r, fallocate(fd, op, offset, len));
		break;
	case 8:
		r = vfs_fsync(&p->ctx, file, true);
		become(p);
		same(p, r, fdatasync(fd));
		break;
	case 9:
		if (vfile_flags(file) & O_PATH)
			return;
		r = vfs_setfl(&p->ctx, file, vfile_flags(file) ^ O_APPEND);
		assert_int_equal(r, 0);
		assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ O_APPEND), 0);
		break;
	default:
		vfile_unref(file);
		close(fd);
		p->handle[h].file = NULL;
	}
}

static void step_rights(struct pair *p, const char *path)
{
	static const mode_t perms[] = {0755, 0777, 0700, 01777, 02775, 0640, 0500, 04711, 06777};
	static const uid_t ids[] = {0, 1000, 1001, 2000};
	struct vtarget at = at_of(p, path, false);
	struct setattr set = {.set = ATTR_MODE};
	int r;

	if (rnd(2)) {
		set.attr.mode = perms[rnd(9)];
		snprintf(p->log, sizeof(p->log), "chmod %o %s", set.attr.mode, path);
		r = vfs_setattr(&p->ctx, &at, &set, NULL);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, fchmodat(p->root, path, set.attr.mode, 0));
	} else {
		at.nofollow = rnd(2);
		set.set = 0;
		set.attr.uid = set.attr.gid = -1;
		if (rnd(2)) {
			set.attr.uid = ids[rnd(4)];
			set.set |= ATTR_UID;
		}
		if (!set.set || rnd(2)) {
			set.attr.gid = ids[rnd(4)];
			set.set |= ATTR_GID;
		}
		snprintf(p->log, sizeof(p->log), "chown %d:%d %s by %u", set.attr.uid, set.attr.gid,
			 path, p->ctx.cred->fsuid);
		r = vfs_setattr(&p->ctx, &at, &set, NULL);
		if (LEFT(r))
			return;
		become(p);
		same(p, r,
		     fchownat(p->root, path, set.attr.uid, set.attr.gid,
			      at.nofollow ? AT_SYMLINK_NOFOLLOW : 0));
	}
}

static void step_names(struct pair *p, const char *path, const char *other)
{
	struct vtarget at = at_of(p, path, true), to = at_of(p, other, true);
	unsigned flags;
	int r;

	switch (rnd(5)) {
	case 0:
		snprintf(p->log, sizeof(p->log), "unlink %s", path);
		r = vfs_unlink(&p->ctx, &at, false);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, unlinkat(p->root, path, 0));
		break;
	case 1:
		snprintf(p->log, sizeof(p->log), "rmdir %s", path);
		r = vfs_unlink(&p->ctx, &at, true);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, unlinkat(p->root, path, AT_REMOVEDIR));
		break;
	case 2:
		at.nofollow = rnd(2);
		snprintf(p->log, sizeof(p->log), "link %s %s by %u", path, other,
			 p->ctx.cred->fsuid);
		r = vfs_link(&p->ctx, &at, &to);
		if (LEFT(r))
			return;
		become(p);
		same(p, r,
		     linkat(p->root, path, p->root, other, at.nofollow ? 0 : AT_SYMLINK_FOLLOW));
		break;
	default:
		flags = rnd(6);
		if (flags > 2)
			flags = 0;
		snprintf(p->log, sizeof(p->log), "rename %s %s flags %u by %u", path, other, flags,
			 p->ctx.cred->fsuid);
		r = vfs_rename(&p->ctx, &at, &to, flags);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, renameat2(p->root, path, p->root, other, flags));
	}
}

static void step_look(struct pair *p, const char *path)
{
	struct vtarget at = at_of(p, path, rnd(2));
	char ours[256], theirs[256], real[200];
	struct attr attr;
	struct stat st;
	long n;
	int mask;

	switch (rnd(5)) {
	case 0:
		mask = rnd(8);
		at.nofollow = false;
		snprintf(p->log, sizeof(p->log), "access %s %d by %u", path, mask,
			 p->ctx.cred->fsuid);
		n = vfs_access(&p->ctx, &at, mask, true);
		if (LEFT(n))
			return;
		become(p);
		same(p, n, syscall(SYS_faccessat2, p->root, path, mask, AT_EACCESS));
		break;
	case 1:
		snprintf(p->log, sizeof(p->log), "readlink %s", path);
		n = vfs_readlink(&p->ctx, &at, ours, sizeof(ours));
		if (LEFT(n))
			return;
		become(p);
		same(p, n, readlinkat(p->root, path, theirs, sizeof(theirs)));
		if (n > 0)
			assert_memory_equal(ours, theirs, n);
		break;
	case 2:
		snprintf(p->log, sizeof(p->log), "setxattr %s", path);
		at.nofollow = false;
		snprintf(real, sizeof(real), "%s/%s", p->plain, path);
		n = vfs_setxattr(&p->ctx, &at, "user.x", "value", 5, rnd(2) ? 0 : XATTR_CREATE);
		if (LEFT(n))
			return;
		become(p);
		if (n == -EEXIST)
			same(p, n, setxattr(real, "user.x", "value", 5, XATTR_CREATE));
		else
			same(p, n, setxattr(real, "user.x", "value", 5, 0));
		break;
	case 3:
		snprintf(p->log, sizeof(p->log), "getxattr %s", path);
		at.nofollow = false;
		snprintf(real, sizeof(real), "%s/%s", p->plain, path);
		n = vfs_getxattr(&p->ctx, &at, "user.x", ours, sizeof(ours));
		if (LEFT(n))
			return;
		become(p);
		same(p, n, getxattr(real, "user.x", theirs, sizeof(theirs)));
		break;
	default:
		snprintf(p->log, sizeof(p->log), "stat %s by %u", path, p->ctx.cred->fsuid);
		n = vfs_stat(&p->ctx, &at, &attr);
		if (LEFT(n))
			return;
		become(p);
		same(p, n, fstatat(p->root, path, &st, at.nofollow ? AT_SYMLINK_NOFOLLOW : 0));
		if (!n)
			compare_stat(p, &attr, &st);
	}
}

static size_t random_acl(char *buf)
{
	uint32_t version = POSIX_ACL_XATTR_VERSION;
	struct posix_acl_xattr_entry entries[] = {
	    {ACL_USER_OBJ, rnd(8), ACL_UNDEFINED_ID},  {ACL_USER, rnd(8), 1001},
	    {ACL_GROUP_OBJ, rnd(8), ACL_UNDEFINED_ID}, {ACL_GROUP, rnd(8), 2000},
	    {ACL_MASK, rnd(8), ACL_UNDEFINED_ID},      {ACL_OTHER, rnd(8), ACL_UNDEFINED_ID}};

	memcpy(buf, &version, sizeof(version));
	memcpy(buf + sizeof(version), entries, sizeof(entries));
	return sizeof(version) + sizeof(entries);
}

static void step_more(struct pair *p, const char *path)
{
	struct vtarget at = at_of(p, path, false), file;
	struct timespec times[2] = {{.tv_sec = rnd(100000)}, {.tv_nsec = UTIME_NOW}};
	struct setattr set = {.set = ATTR_ATIME | ATTR_MTIME};
	char acl[128], real[200], proc[32];
	unsigned h = rnd(HANDLES);
	const char *name;
	size_t len;
	long r;

	snprintf(real, sizeof(real), "%s/%s", p->plain, path);
	switch (rnd(4)) {
	case 0:
		if (rnd(2))
			times[0] = times[1];
		set.attr.atime = times[0];
		set.attr.mtime = times[1];
		snprintf(p->log, sizeof(p->log), "utimens %s", path);
		r = vfs_setattr(&p->ctx, &at, &set, NULL);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, utimensat(p->root, path, times, 0));
		break;
	case 1:
		name = rnd(2) ? "system.posix_acl_access" : "system.posix_acl_default";
		len = random_acl(acl);
		snprintf(p->log, sizeof(p->log), "%s %s", name, path);
		r = vfs_setxattr(&p->ctx, &at, name, acl, len, 0);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, setxattr(real, name, acl, len, 0));
		break;
	case 2:
		name = rnd(2) ? "user.x" : "system.posix_acl_access";
		snprintf(p->log, sizeof(p->log), "remove %s %s", name, path);
		r = vfs_removexattr(&p->ctx, &at, name);
		if (LEFT(r))
			return;
		become(p);
		same(p, r, removexattr(real, name));
		break;
	default:
		/* A name for what is open, O_TMPFILE or unlinked perhaps. */
		if (!p->handle[h].file)
			return;
		file = (struct vtarget){.file = p->handle[h].file};
		snprintf(p->log, sizeof(p->log), "link handle %s to %s", p->handle[h].path, path);
		r = vfs_link(&p->ctx, &file, &at);
		if (LEFT(r))
			return;
		become(p);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", p->handle[h].fd);
		same(p, r, linkat(AT_FDCWD, proc, p->root, path, AT_SYMLINK_FOLLOW));
	}
}

static char *tree_of(const char *dir)
{
	char command[512], *text = NULL;
	size_t len = 0, cap = 0;
	FILE *out;

	snprintf(command, sizeof(command),
		 "cd %s && find . -printf '%%p %%y %%m %%U:%%G %%n %%l\\n' | sort; "
		 "find . -type f | sort | xargs -r cksum; find . | sort | "
		 "xargs -r getfattr -h -d -m - 2>/dev/null",
		 dir);
	out = popen(command, "r");
	assert_non_null(out);
	for (;;) {
		if (cap - len < 4096)
			text = realloc(text, cap += 65536);
		size_t n = fread(text + len, 1, cap - len - 1, out);

		if (!n)
			break;
		len += n;
	}
	text[len] = '\0';
	pclose(out);
	return text;
}

static void run(unsigned seed, const char *spec)
{
	static const gid_t groups[] = {2000};
	static const mode_t masks[] = {022, 0, 077, 027};
	struct pair p = {0};
	char path[64], other[64], *ours, *theirs;

	random_state = seed;
	umask(0);
	env_start_on(&p.env, spec);
	snprintf(p.plain, sizeof(p.plain), "%s/danaus-plain-XXXXXX", env_base());
	assert_non_null(mkdtemp(p.plain));
	assert_int_equal(chmod(p.plain, 0777), 0);
	p.root = open(p.plain, O_PATH | O_DIRECTORY | O_CLOEXEC);
	p.who[0] = cred_root();
	p.who[1] = env_cred(1000, 1000, 0, 1, groups);
	p.who[2] = env_cred(1001, 1001, 0, 1, groups);
	p.who[3] = env_cred(0, 0, 0, 0, NULL);
	p.who[4] = env_cred(0, 0,
			    CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_FOWNER) |
				CAP_BIT(CAP_FSETID),
			    0, NULL);
	p.ctx = p.env.ctx;
	for (unsigned i = 0; i < STEPS; i++) {
		if (!rnd(6))
			p.ctx.cred = p.who[rnd(5)];
		if (!rnd(20))
			p.ctx.umask = masks[rnd(4)];
		random_path(path);
		random_path(other);
		switch (rnd(11)) {
		case 0:
		case 1:
			step_make(&p, path, other);
			break;
		case 2:
		case 3:
			step_open(&p, path);
			break;
		case 4:
		case 5:
			step_handle(&p);
			break;
		case 6:
			step_rights(&p, path);
			break;
		case 7:
			step_names(&p, path, other);
			break;
		case 8:
			step_more(&p, path);
			break;
		default:
			step_look(&p, path);
		}
	}
	cred_assume_service();
	ours = tree_of(p.env.dir);
	theirs = tree_of(p.plain);
	assert_string_equal(ours, theirs);
	free(ours);
	free(theirs);
	for (unsigned i = 0; i < HANDLES; i++) {
		if (p.handle[i].file) {
			vfile_unref(p.handle[i].file);
			close(p.handle[i].fd);
		}
	}
	for (unsigned i = 0; i < 5; i++)
		cred_unref(p.who[i]);
	close(p.root);
	env_stop(&p.env);
	env_remove_tree(p.plain);
	umask(022);
}

static void like_a_directory(const char *spec)
{
	const char *one = getenv("DANAUS_SEED"), *seeds = getenv("DANAUS_SEEDS");
	unsigned n = seeds ? atoi(seeds) : SEEDS;
	unsigned before = env_count_fds();

	if (one) {
		run(atoi(one), spec);
		return;
	}
	for (unsigned seed = 1; seed <= n; seed++) {
		print_message("seed %u\n", seed);
		run(seed, spec);
	}
	assert_int_equal(env_count_fds(), before);
}

static void a_volume_is_like_a_directory(void **state)
{
	like_a_directory("local:%s");
}

static void a_cached_volume_is_like_a_directory(void **state)
{
	like_a_directory("cache:[local:%s]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_volume_is_like_a_directory),
	    cmocka_unit_test(a_cached_volume_is_like_a_directory),
	};

	return env_run(tests);
}
