# SPDX-License-Identifier: Apache-2.0
# bash with redirections and pipes, coreutils, find, sed, tar: the same result as on /tmp.
# image: full
. "$LIB/case.sh"
. "$LIB/programs.sh"
program_shell -v "$(new_dir data):/data"
