# SPDX-License-Identifier: Apache-2.0
# PostgreSQL: initdb, pgbench, kill -9, recovery; sums and checksums hold.
# image: full
# seconds: 240
. "$LIB/case.sh"
data=$(new_dir data)
chown 101:101 "$data"
seconds=10; [ "$DANAUS_NIGHTLY" = 0 ] || seconds=60
prints "the script" '^recovered$' run --user postgres --shm-size 256m -v "$data:/data" \
	-v "$LIB/../guest/postgres.sh:/postgres.sh:ro" $IMAGE_FULL bash /postgres.sh /data $seconds
