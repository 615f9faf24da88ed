# SPDX-License-Identifier: Apache-2.0
# SQLite in WAL mode: four writers, killed at random; the base is whole and nothing committed is lost.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
seconds=6; [ "$DANAUS_NIGHTLY" = 0 ] || seconds=60
prints "the writers" '^whole$' run -v "$data:/data" -v "$LIB/../guest/sqlite.py:/sqlite.py:ro" $IMAGE_FULL \
	python3 /sqlite.py /data $seconds
eq "integrity, read by the host" "$(sqlite3 "$data/base.db" 'pragma integrity_check')" ok
