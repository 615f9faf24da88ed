# SPDX-License-Identifier: Apache-2.0
# stress-ng's file stressors with verification. What fails on a bind volume too does not count.
# image: full
# seconds: 300
. "$LIB/case.sh"
plain_data=$(new_dir plain) data=$(new_dir data)
stressors="access chdir chmod copy-file dentry dir dup fallocate fcntl file-ioctl filename flock fpunch fstat
	getdent hdd iomix link lockf lockofd mknod open readahead rename revio seek sync-file symlink touch utime xattr"
seconds=1; [ "$DANAUS_NIGHTLY" = 0 ] || seconds=15
guest='cd /data; for s in '$(echo $stressors)'; do
	mkdir -p /data/$s; stress-ng --temp-path /data/$s --$s 2 --timeout '$seconds's --verify --hdd-bytes 8m --iomix-bytes 8m \
		--copy-file-bytes 128m --fallocate-bytes 8m --sync-file-bytes 4m > /tmp/log 2>&1 && echo "ok $s" ||
		{ echo "bad $s"; sed "s/^/LOG $s: /" /tmp/log | grep -iE "fail|error|inconsist|abort" | head -n 8; }; rm -rf /data/$s; done'
plain -v "$plain_data:/data" $IMAGE_FULL bash -c "$guest" > "$CASE_DIR/plain.out" &
run -v "$data:/data" $IMAGE_FULL bash -c "$guest" > "$CASE_DIR/danaus.out"
wait
at_least "stressors that ran" "$(grep -c '^ok' "$CASE_DIR/danaus.out")" 15
new=$(comm -13 <(grep '^bad' "$CASE_DIR/plain.out" | sort) <(grep '^bad' "$CASE_DIR/danaus.out" | sort))
[ -z "$new" ] || { cat "$CASE_DIR/danaus.out"; fail "fails on the Danaus volume only: $new"; }
