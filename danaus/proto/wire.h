/* SPDX-License-Identifier: Apache-2.0 */
/* What travels between the client library and the service: fixed-width, little-endian (both sides
 * are the same machine), one request and one reply shape for all operations (ops.def).
 *
 * Source of every request field: tenant. The service copies a request out of shared memory first,
 * checks the copy (wire_check()) and uses only the copy. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION	 1
#define WIRE_PAYLOAD_MAX (256u << 10) /* bytes of one slot's payload */
#define WIRE_PATH_MAX	 4096	      /* a path with its NUL, as PATH_MAX */

#define OPF_MAY_BLOCK 1u /* may sleep for long: another thread takes the channel before */
#define OPF_BY_SOCKET 2u /* by the attach socket alone (attach.h), because descriptors travel */
#define OPF_SIZED     4u /* size is what the reply's payload may have */

/* clang-format off */
/* Fields used, per operation (payload: piece 1 of len1 bytes, then piece 2 of len2 bytes; paths are
 * NUL-terminated and the NUL is counted). A "target" is handle + piece 1: the path, relative to the
 * directory `handle`; an empty path means the handle itself.
 *
 * OPEN      target; flags: O_*; mode; size        -> value: handle; attr; payload: see STAT
 * CLOSE     handle; flags: 1 = the program has it open still, as the kernel's: its record locks stay.
 *           It is closed also when an error tells of writes that were lost
 * READ      handle; offset or WIRE_AT_POSITION; size       -> value: bytes, payload
 * WRITE     handle; offset or WIRE_AT_POSITION; piece 1: data, from byte offset2 of the payload on;
 *           flags: RWF_APPEND                              -> value: bytes
 * STAT      target; flags: AT_SYMLINK_NOFOLLOW; size       -> attr; payload, where size has room:
 *           nothing, or a struct lease (proto/lease.h) of the answer, also of ENOENT
 * SETATTR   target; flags: AT_SYMLINK_NOFOLLOW; set: WIRE_SET_*; set_attr     -> attr
 * ACCESS    target; flags: AT_EACCESS, AT_SYMLINK_NOFOLLOW; mode: R_OK|W_OK|X_OK; size
 *                                                          -> payload: see STAT, also of EACCES
 * READLINK  target; size                                   -> value: bytes, payload (no NUL); with
 *           ENOENT, payload: see STAT
 * MAKE      target; mode with type; rdev in offset; piece 2: a symlink's content  -> attr
 * LINK      handle/piece 1 old, handle2/piece 2 new; flags: AT_SYMLINK_FOLLOW, AT_EMPTY_PATH
 * UNLINK    target; flags: AT_REMOVEDIR
 * RENAME    handle/piece 1 old, handle2/piece 2 new; flags: RENAME_*
 * STATFS    target                                         -> payload: struct wire_statfs
 * GETXATTR  target; flags: AT_SYMLINK_NOFOLLOW; piece 2: name; size     -> value, payload
 * SETXATTR  target; flags: AT_SYMLINK_NOFOLLOW | mode: XATTR_*; piece 2: name, NUL, value
 * LISTXATTR target; flags; size                            -> value, payload
 * REMOVEXATTR target; flags; piece 2: name
 * SEEK      handle; offset; mode: whence                   -> value: position
 * FSYNC     handle; flags: 1 = data only
 * SYNCFS    handle
 * ALLOCATE  handle; mode: FALLOC_FL_*; offset; size
 * READDIR   handle; offset or WIRE_AT_POSITION; size       -> value: bytes of
 *           struct linux_dirent64 records (getdents64(2)); value2: the next position
 * LOCK      handle; mode: F_GETLK, F_SETLK, F_SETLKW, F_OFD_*; piece 1: struct wire_lock
 *                                                          -> payload: struct wire_lock (GETLK)
 * FLOCK     handle; mode: LOCK_*
 * COPY      handle: in, handle2: out; offset/offset2 or WIRE_AT_POSITION; size -> value
 * GETFL     handle                                         -> value: O_* status and access mode
 * SETFL     handle; flags: O_*
 * RIGHTS    (none): the caller's identity changed, read it again
 *
 * By the attach socket only, because descriptors travel (attach.h):
 * NAME      handle                -> an anchor descriptor
 * ADOPT     with a descriptor     -> value: handle; value2: O_* status flags; attr
 * KERNEL_FILE handle              -> a kernel face descriptor of the same open file
 * WINDOW    handle                -> a descriptor to map (proto/window.h); value: bytes
 * LEASES    (none)                -> a descriptor to map (proto/lease.h); value: bytes
 * WATCH     with an inotify descriptor; target; size: mask -> value: watch descriptor */
/* clang-format on */
enum wire_op {
#define OP(NAME, name, flags, first, second) WIRE_##NAME,
#include "danaus/proto/ops.def"
#undef OP
	WIRE_OP_COUNT
};

/* What a piece of a request's payload is: nothing, a path, where a new symlink leads (a path;
 * nothing for what is no symlink), a name, bytes, a struct wire_lock. */
enum wire_piece {
	WIRE_PIECE_NONE,
	WIRE_PIECE_PATH,
	WIRE_PIECE_TARGET,
	WIRE_PIECE_NAME,
	WIRE_PIECE_DATA,
	WIRE_PIECE_LOCK
};

#define WIRE_AT_POSITION UINT64_MAX /* offset: the open file's own position */

/* handle: an index into the client's own handle table, or the root of one of its container's
 * instances (the mount table's `instance`). */
#define WIRE_ROOT(instance) (0x80000000u | (uint32_t)(instance))
#define WIRE_IS_ROOT(h)	    (((h)&0x80000000u) != 0)
#define WIRE_INSTANCE(h)    ((h)&0x7fffffffu)
#define WIRE_NO_HANDLE	    0u

struct wire_time {
	int64_t sec;
	uint32_t nsec; /* UTIME_NOW and UTIME_OMIT as in utimensat(2) where a time is set */
	uint32_t pad;
};

/* Attributes as the caller's user namespace sees them (statx(2) names). */
struct wire_attr {
	uint64_t ino;
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	uint32_t mode;	 /* with the type */
	uint32_t nlink;
	uint32_t uid, gid;
	uint32_t rdev_major, rdev_minor;
	uint32_t dev_major, dev_minor; /* the kernel face's device, so that all doors agree */
	uint32_t blksize;
	uint32_t pad;
	struct wire_time atime, mtime, ctime, btime;
};
_Static_assert(sizeof(struct wire_attr) == 128, "wire_attr");

#define WIRE_SET_MODE  1u
#define WIRE_SET_UID   2u
#define WIRE_SET_GID   4u
#define WIRE_SET_SIZE  8u
#define WIRE_SET_ATIME 16u
#define WIRE_SET_MTIME 32u

struct wire_lock {
	int16_t type; /* F_RDLCK, F_WRLCK, F_UNLCK */
	int16_t whence;
	int32_t pid;
	int64_t start, len; /* len 0: to the end, negative as in fcntl(2) */
};
_Static_assert(sizeof(struct wire_lock) == 24, "wire_lock");

struct wire_statfs {
	uint64_t type, bsize, blocks, bfree, bavail, files, ffree, namelen, frsize, flags;
	uint64_t fsid;
};

struct wire_request {
	uint16_t op; /* enum wire_op */
	uint16_t version;
	uint32_t tid; /* the calling thread as its own pid namespace names it; whose rights count */
	uint32_t handle, handle2;
	uint32_t flags;
	uint32_t mode;
	uint32_t umask;
	uint32_t set; /* WIRE_SET_* */
	uint64_t offset, offset2;
	uint64_t size;
	uint64_t fsize_limit; /* RLIMIT_FSIZE; UINT64_MAX for none */
	uint32_t len1, len2;  /* bytes of the payload's two pieces */
	struct wire_attr set_attr;
};
_Static_assert(sizeof(struct wire_request) == 200, "wire_request");

struct wire_reply {
	int32_t error; /* 0 or a negative errno. -EREMCHG: the path leaves the volume; payload: the
			* path to go on with, absolute in the caller's root, NUL-terminated; value:
			* 1 when it is the second path of LINK or RENAME. -ENOTBLK (OPEN): a FIFO or
			* a device that the caller may open: the kernel face opens it */
	uint32_t len;  /* bytes of payload */
	uint64_t value, value2;
	struct wire_attr attr;
};
_Static_assert(sizeof(struct wire_reply) == 152, "wire_reply");

/* Checks a copied request against the payload it came with (payload_bytes >= len1 + len2 are
 * there): operation and version known, lengths in bounds and not overflowing, paths terminated and
 * without an inner NUL, size within WIRE_PAYLOAD_MAX where it sizes a reply. 0, -EPROTO,
 * -ENAMETOOLONG (a path over WIRE_PATH_MAX). payload must be memory that the tenant can no longer
 * change for the pieces that are strings. */
int wire_check(const struct wire_request *request, const char *payload, size_t payload_bytes);

/* "open" for WIRE_OPEN; "?" for a number without a name. */
const char *wire_op_name(unsigned op);

/* OPF_* of an operation; 0 for an unknown one. */
unsigned wire_op_flags(unsigned op);
