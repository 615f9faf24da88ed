/* SPDX-License-Identifier: Apache-2.0 */
/* filecalls, a program of every family of file system calls: what its parts share, and the parts,
 * in the order in which they are called: each finds what those before it have made. */
#pragma once

#include <stdbool.h>

#define R(expr) fc_report(__func__, __LINE__, #expr, (long)(expr))
/* Only whether it worked: for numbers that may differ. */
#define OK(expr) fc_report(__func__, __LINE__, #expr, (long)(expr) < 0 ? -1 : 0)

struct stat;

extern char fc_dir[];
extern bool fc_kernel; /* the kernel finds fc_dir, too */

/* A line of output; r < 0: with errno, which is 0 afterwards. */
void fc_report(const char *where, int line, const char *what, long r);
void fc_show(const struct stat *st);
/* name in fc_dir; good for the next three calls of the thread. */
const char *fc_in(const char *name);

void fc_opening(void);
void fc_data(void);
void fc_attributes(void);
void fc_names(void);
void fc_directories(void);
void fc_locks(void);
void fc_processes(const char *self);
/* Only what the kernel finds. */
void fc_relative(void);
void fc_kernel_files(const char *self);
