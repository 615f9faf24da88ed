#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the container as user postgres: initdb, pgbench, kill -9, recovery, checks. DIR SECONDS
set -euo pipefail
export PATH=/usr/lib/postgresql/15/bin:$PATH PGHOST=/tmp PGUSER=postgres
dir=$1/pg
initdb -D "$dir" -A trust --no-locale -E UTF8 --data-checksums > /tmp/initdb.log || { cat /tmp/initdb.log; exit 1; }
cat >> "$dir/postgresql.conf" <<-C
	listen_addresses = ''
	unix_socket_directories = '/tmp'
	jit = off
	shared_buffers = 32MB
	checkpoint_timeout = 30s
C
start() { pg_ctl -D "$dir" -l "$dir/log" -w -t 60 start > /dev/null || { cat "$dir/log"; exit 1; }; }
start
createdb bench
pgbench -q -i -s 2 bench 2>&1 | tail -n 1
pgbench -c 4 -j 2 -T "$2" -n bench > /tmp/pgbench.log 2>&1 || { cat /tmp/pgbench.log; tail "$dir/log"; exit 1; }
grep -E 'tps|failed' /tmp/pgbench.log
psql -qAt bench -c 'create table marks (n int); insert into marks select generate_series(1, 1000)'
kill -KILL "$(head -n 1 "$dir/postmaster.pid")"
until ! pgrep -x postgres >/dev/null; do sleep 0.1; done
rm -f /tmp/.s.PGSQL*
start
grep -q 'automatic recovery in progress' "$dir/log" || { echo "no recovery in the log"; exit 1; }
[ "$(psql -qAt bench -c 'select count(*), sum(n) from marks')" = '1000|500500' ]
a=$(psql -qAt bench -c 'select sum(abalance) from pgbench_accounts')
t=$(psql -qAt bench -c 'select sum(tbalance) from pgbench_tellers')
b=$(psql -qAt bench -c 'select sum(bbalance) from pgbench_branches')
h=$(psql -qAt bench -c 'select sum(delta) from pgbench_history')
[ "$a" = "$t" ] && [ "$t" = "$b" ] && [ "$b" = "$h" ] || { echo "sums differ: $a $t $b $h"; exit 1; }
pg_ctl -D "$dir" -w stop > /dev/null
pg_checksums -D "$dir" --check | grep -E 'Bad checksums: +0$'
echo "recovered"
