/* SPDX-License-Identifier: Apache-2.0 */
/* What each descriptor number at or above the base means to this process.
 *
 * A light descriptor is a duplicate of the process's anchor: the kernel keeps the number, the table
 * its meaning and its close-on-exec flag (in the kernel it is always set: a light descriptor means
 * nothing to another program). A named one shows the service's own inode in the kernel and can be
 * inherited; it is this table's too once it was used. Lock-free: an entry is one atomic word, an
 * open file is held by a reference during each call. A number that the program closed is parked for
 * the next open, so that open and close need no system call.
 *
 * libc closes some descriptors itself (fclose, closedir, ...): those functions are intercepted to
 * keep the table true. */
#pragma once

#include "preload/channel.h"

struct ofile {
	_Atomic uint32_t refs; /* numbers, calls under way, the working directory; 0: free */
	uint32_t handle;
	uint32_t flags; /* O_* at open */
	uint32_t type;	/* S_IFMT bits */
	_Atomic uint32_t numbers;
	_Atomic uint32_t reads; /* at an offset, without a window */
	const struct window *_Atomic window;
	uint64_t serial;	/* no other open file of the process has it, nor a volume's root */
	_Atomic uint32_t lease; /* what it may be opened again by (lease.h); 0: nothing */
	_Atomic uint64_t position; /* position.h */
	_Atomic bool kernels;	   /* its numbers are the kernel's now, or closed already: its end
				    * is no close(2) */
	_Atomic bool again;	   /* it was opened by a lease */
};

#define FD_PARKED_MAX 16
#define FD_GUARDS     8 /* numbers below the base that may hold our own descriptors */

/* stat(2)'s st_dev against its two numbers. */
static inline bool device_is(uint64_t device, uint32_t major, uint32_t minor)
{
	return (device >> 8 & 0xfff) == major &&
	       ((device & 0xff) | (device >> 12 & 0xfff00)) == minor;
}

/* The tables' memory, when a number at or above the base is first looked at; with the root's lock.
 * -EMFILE: the hard limit leaves no numbers; -ENOMEM. */
int fdtab_start(void);
/* In a fork's child, on its one thread: light numbers mean nothing there. */
void fdtab_forked(void);

int fd_find_slow(int fd, struct ofile **ret);
/* 1: ours, *ret with a reference (ofile_put()); 0: the kernel's; -EBADF: not open as far as the
 * program is concerned, as our own are not. */
static inline int fd_find(int fd, struct ofile **ret)
{
	return likely(fd < root.fd_base - FD_GUARDS) ? 0 : fd_find_slow(fd, ret);
}
/* Whether the number is ours, without a reference. */
bool fd_is_ours(int fd);

/* A new open file without a number, one reference. NULL when there are too many. */
struct ofile *ofile_new(uint32_t handle, uint32_t flags, uint32_t mode);
struct ofile *ofile_ref(struct ofile *file);
/* For one that nobody may hold any more: false then. It may be another one's by now: look again
 * where it came from. */
bool ofile_tryref(struct ofile *file);
/* The last one closes the handle: what closing said. */
int ofile_put(struct ofile *file);
/* One that the service has closed: the reference goes, and nothing is to be closed. */
void ofile_drop(struct ofile *file);
/* Its next close is its end: something about it is not as open(2) gives it. */
static inline void ofile_spoil(struct ofile *file)
{
	if (atomic_load_explicit(&file->lease, memory_order_relaxed))
		atomic_store_explicit(&file->lease, 0, memory_order_relaxed);
}
uint32_t ofile_index(const struct ofile *file);
struct ofile *ofile_at(uint32_t index);

/* A number >= min for file; takes over one reference of the caller's on success. -EMFILE, as the
 * program's own limit or the table's end says. */
int fd_install(struct ofile *file, int min, bool cloexec);
/* Makes exactly this number (>= base) mean file, as dup3(2); takes a reference over on success. */
int fd_install_at(struct ofile *file, int fd, bool cloexec);
/* 1: it was ours and is closed, *ret_error says how; 0: the kernel's to close, the table has
 * forgotten it; -EBADF. */
int fd_close(int fd, int *ret_error);
/* The number is about to be closed by libc itself. */
void fd_forget(int fd);
/* The kernel's file was just put under this number (>= base): what it was before ends. */
void fd_set_native(int fd);
/* A descriptor of our own, which the program's close and dup2 must not hit. */
static inline bool fd_is_guarded(int fd)
{
	return fd >= root.fd_base - FD_GUARDS && fd >= 0 &&
	       (fd == root.anchor || fd == root.socket);
}
/* FD_CLOEXEC of a light number: 0/1, or -ENOENT: the kernel knows. */
int fd_cloexec(int fd);
int fd_set_cloexec(int fd, bool on);

/* Before descriptors leave the process. Light numbers become named, or kernel files when there is
 * no notify door to understand names; only_inherited: only those without close-on-exec. 0, also for
 * numbers that are not ours, or what the service says. */
int fd_export(int fd);
void fd_export_all(bool only_inherited);
/* A kernel face descriptor of file; the caller closes it. What the service says, as the next two.
 */
int file_kernel_fd(struct ofile *file, int *ret_fd);
/* Turns all numbers of this open file into kernel descriptors in place. */
int file_to_kernel(struct ofile *file);
/* The same, with one more descriptor of it: the lowest free number, close-on-exec, the caller's. */
int file_to_kernel_fd(struct ofile *file, int *ret_fd);
/* The highest number + 1 that the table ever held. */
int fd_high(void);
