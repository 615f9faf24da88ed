#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the container: who am I, what may I, what do I have. Compared with and without Danaus.
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Umask|Seccomp|Sig(Blk|Ign|Cgt)|Cpus_allowed_list)' /proc/self/status
echo "umask $(umask) cwd $(pwd) args $*"
ulimit -a
cat /proc/self/limits
env | grep -v -E '^(HOSTNAME|LD_PRELOAD|_)=' | LC_ALL=C sort
ls -l /proc/self/fd | awk 'NR > 1 { print $9, $10, $11 }' | sed -E 's/(pipe|socket):\[[0-9]+\]/\1/; s#/proc/[0-9]+#/proc/PID#'
tr '\0' ' ' < /proc/1/cmdline; echo
echo "pid $$ ppid $PPID"
mount | grep -vE ' on (/data|/\.danaus|/etc/ld.so.preload)[ /]' | sed -E 's/lowerdir=.*//; s#[0-9a-f]{64}#ID#' | LC_ALL=C sort
cat /proc/self/uid_map /proc/self/oom_score_adj /proc/self/attr/current 2>/dev/null
sysctl -n kernel.hostname >/dev/null 2>&1; mkdir /tmp/m && mount -t tmpfs x /tmp/m 2>&1; unshare -m true 2>&1
chroot / true 2>&1; mknod /tmp/n c 1 3 2>&1; chown 5:5 /tmp/m 2>&1; kill -0 1 2>&1
stat -c '%a %U %F' /data /etc/passwd /dev/null /tmp
