# SPDX-License-Identifier: Apache-2.0
# PostgreSQL: initdb, pgbench, kill -9, recovery; sums and checksums hold.
# image: full
# seconds: 240
. "$LIB/case.sh"
. "$LIB/programs.sh"
data=$(new_dir data)
chown 101:101 "$data"
program_postgres 60 -v "$data:/data"
