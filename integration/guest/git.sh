#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the container: git's life on DIR: init, commit, merge, clone, worktree, gc, fsck. DIR FILES
set -euo pipefail
files=$2
cd "$1"; export HOME=/tmp
git config --global user.email a@b; git config --global user.name n; git config --global init.defaultBranch main
git init -q repo; cd repo; cp -a "$files" linux; git add .; git commit -qm one
for i in $(seq 10); do echo "$i" >> linux/fs.h; git commit -qam "change $i"; done
git checkout -q -b side HEAD~5; echo side > side; git add side; git commit -qm side
git checkout -q main; git merge -q -m merged side; git tag t1
git clone -q "$1/repo" "$1/clone"; git clone -q --no-local "$1/repo" /tmp/clone2
git gc -q --prune=now; git fsck --strict --no-progress; git -C "$1/clone" fsck --no-progress
git -C "$1/clone" log --oneline | wc -l
[ -z "$(git status --porcelain)" ]; git worktree add -q "$1/wt" side; git -C "$1/wt" log -1 --format=%s
diff -r -x .git "$1/clone" /tmp/clone2
echo "all well"
