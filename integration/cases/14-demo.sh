# SPDX-License-Identifier: Apache-2.0
# The container that demo.sh ends with: its output, the table of which door served what.
# image: full
. "$LIB/case.sh"
out=$(bash "$LIB/demo-inside.sh")
say "$out"
for line in 'hello from the host' '[0-9a-f]+ 200 files' onetwo '\.\.\.\.\.mapped\.*' \
	'what the host sees: hello from the container; 200 files in the repository'; do
	has "the demo" "$out" "^$line\$"
done
for door in shm notify fuse; do has "its table" "$out" "$door .*[1-9]"; done
