# SPDX-License-Identifier: Apache-2.0
# SQLite in WAL mode: four writers, killed at random; the base is whole and nothing committed is lost.
# image: full
. "$LIB/case.sh"
. "$LIB/programs.sh"
data=$(new_dir data)
seconds=6; [ "$DANAUS_NIGHTLY" = 0 ] || seconds=60
program_sqlite $seconds -v "$data:/data"
eq "integrity, read by the host" "$(sqlite3 "$data/base.db" 'pragma integrity_check')" ok
