# SPDX-License-Identifier: Apache-2.0
# bash with redirections and pipes, coreutils, find, sed, tar: the same result as on /tmp.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
prints "the script" '^the same$' run -v "$data:/data" -v "$LIB/../guest/shell.sh:/shell.sh:ro" $IMAGE_FULL \
	bash /shell.sh /data
