# SPDX-License-Identifier: Apache-2.0
# Real programs on a volume at /data, for cases to source. Each function takes the arguments of podman
# that make the volume: -v DIR:/data, or --annotation danaus.mount=/data=… What the storage cannot do,
# and says so, is compared with a bind volume where there is something to compare.
guest=$LIB/../guest

program_shell() {
	prints "bash, coreutils, tar" '^the same$' run "$@" -v "$guest/shell.sh:/shell.sh:ro" $IMAGE_FULL \
		bash /shell.sh /data
}
program_busybox() { # static
	prints "busybox" '^the same$' run "$@" -v "$guest/busybox.sh:/busybox.sh:ro" $IMAGE_SMALL \
		sh /busybox.sh /data
}
program_doors() { # dynamic with glibc and with musl, static C, static Go: at the same time
	prints "the probes of all doors" '^all agree$' run "$@" -v "$guest/doors.sh:/doors.sh:ro" $IMAGE_FULL \
		bash /doors.sh
}
program_git() {
	prints "git" '^all well$' run "$@" -v "$guest/git.sh:/git.sh:ro" $IMAGE_FULL \
		bash /git.sh /data "${GIT_FILES:-/usr/include/linux}"
}
program_sqlite() { # SECONDS
	local seconds=$1; shift
	prints "SQLite's writers" '^whole$' run "$@" -v "$guest/sqlite.py:/sqlite.py:ro" $IMAGE_FULL \
		python3 /sqlite.py /data "$seconds"
}
program_postgres() { # SECONDS; /data belongs to user 101
	local seconds=$1; shift
	prints "PostgreSQL" '^recovered$' run --user postgres --shm-size 256m "$@" \
		-v "$guest/postgres.sh:/postgres.sh:ro" $IMAGE_FULL bash /postgres.sh /data "$seconds"
}

# Python's tests, SUITES in one word: what passes on a bind volume passes here. Neither a failure nor a
# skip nor a test that was not run will do, but for what the file EXPECTED lists, one pattern a line.
program_python() { # SUITES EXPECTED
	local suites=$1 expected=$2 d new plain_data
	shift 2
	plain_data=$(new_dir python-plain)
	local inside="cd /data && export TMPDIR=/data HOME=/data && timeout 500 python3 -m test --timeout 400 \
		--junit-xml /tmp/results.xml $suites > /tmp/log 2>&1; cat /tmp/log; echo; echo '--results--'; cat /tmp/results.xml"
	plain -v "$plain_data:/data" $IMAGE_FULL sh -c "$inside" > "$CASE_DIR/python.plain" &
	run "$@" $IMAGE_FULL sh -c "$inside" > "$CASE_DIR/python.danaus"
	wait
	for d in plain danaus; do
		python3 - "$CASE_DIR/python.$d" > "$CASE_DIR/python.$d.good" <<-'P' || { tail -n 60 "$CASE_DIR/python.$d"; fail "no results of $d"; }
			import sys, xml.etree.ElementTree as E
			text = open(sys.argv[1], errors="replace").read().split("--results--\n")[1]
			def passed(c):
			    skip = c.find("skipped")
			    if skip is not None: # which numbers are free is chance
			        return "two consecutive fds" in skip.text
			    return c.get("status") == "run" and c.find("failure") is None and c.find("error") is None
			print(*(c.get("name") for c in E.fromstring(text).iter("testcase") if passed(c)), sep="\n")
		P
		LC_ALL=C sort -o "$CASE_DIR/python.$d.good" "$CASE_DIR/python.$d.good"
		say "$(wc -l < "$CASE_DIR/python.$d.good") of Python's tests passed: $d"
	done
	at_least "Python's tests" "$(wc -l < "$CASE_DIR/python.plain.good")" 400
	new=$(LC_ALL=C comm -23 "$CASE_DIR/python.plain.good" "$CASE_DIR/python.danaus.good" | grep -vxf "$expected" || true)
	if [ -n "$new" ]; then
		grep -E -A25 '^(ERROR|FAIL):' "$CASE_DIR/python.danaus" | sed -n 1,150p || true
		fail "does not pass on the Danaus volume only: $new"
	fi
}

program_fio() {
	local engine out
	for engine in ${FIO_ENGINES:-psync sync pvsync mmap}; do
		out=$(run "$@" $IMAGE_FULL fio --name=v --directory=/data --ioengine="$engine" --rw=randrw \
			--bsrange=512-64k --size=12m --numjobs=3 --verify=crc32c --verify_fatal=1 --randseed=7 --fallocate=none \
			--do_verify=1 --thread=0 --group_reporting --minimal 2>&1) || { echo "$out"; fail "fio, $engine"; }
	done
	out=$(run "$@" $IMAGE_FULL fio --name=v2 --directory=/data --ioengine=psync --rw=write --bs=128k \
		--size=24m --numjobs=2 --thread --verify=md5 --verify_fatal=1 --fsync=20 --minimal 2>&1) || { echo "$out"; fail "fio, threads"; }
}

ALL_STRESSORS="access chdir chmod copy-file dentry dir dup fallocate fcntl file-ioctl filename flock fpunch fstat \
getdent hdd iomix link lockf lockofd mknod open readahead rename revio seek sync-file symlink touch utime xattr"

# stress-ng's file stressors with verification, as program_python compares. STRESS_SECONDS each.
program_stress() { # STRESSORS EXPECTED
	local stressors=$1 expected=$2 new plain_data inside
	shift 2
	plain_data=$(new_dir stress-plain)
	# A stressor killed at the end of its time has not always noted its last operation: no matter of files.
	inside='cd /data; for s in '$stressors'; do
		mkdir -p /data/$s; stress-ng --temp-path /data/$s --$s 2 --timeout '${STRESS_SECONDS:-1}'s --verify --hdd-bytes 8m --iomix-bytes 8m \
			--copy-file-bytes 128m --fallocate-bytes 8m --sync-file-bytes 4m > /tmp/log 2>&1
		code=$?; sed -i -E "/bogo-ops counter|metrics-check/{w /tmp/uncounted
			d}" /tmp/log
		if [ $code = 0 ] || { [ -s /tmp/uncounted ] && ! grep -qE "stress-ng: (fail|error):" /tmp/log; }; then echo "ok $s"
		else echo "bad $s"; sed "s/^/LOG $s: /" /tmp/log | grep -iE "fail|error|inconsist|abort" | head -n 8; fi; rm -rf /data/$s; done'
	plain -v "$plain_data:/data" $IMAGE_FULL bash -c "$inside" > "$CASE_DIR/stress.plain" &
	run "$@" $IMAGE_FULL bash -c "$inside" > "$CASE_DIR/stress.danaus"
	wait
	say "$(grep -c '^ok' "$CASE_DIR/stress.danaus") stressors passed"
	at_least "stressors that pass on a bind volume" "$(grep -c '^ok' "$CASE_DIR/stress.plain")" $(($(wc -w <<<"$stressors") / 2))
	new=$(comm -23 <(grep '^ok' "$CASE_DIR/stress.plain" | sort) <(grep '^ok' "$CASE_DIR/stress.danaus" | sort) |
		sed 's/^ok //' | grep -vxf "$expected" || true)
	[ -z "$new" ] || { cat "$CASE_DIR/stress.danaus"; fail "does not pass on the Danaus volume only: $new"; }
}

# A cache that is larger than the container's memory: the kernel ends somebody, or nobody; what was synced
# is there, the program was told, and the next container starts. DIR: what is below the cache
program_large() { # DIR
	local dir=$1 code=0; shift
	run --memory 60m --annotation danaus.cache=1g "$@" -v "$guest/large.py:/large.py:ro" $IMAGE_FULL \
		python3 /large.py write /data > "$CASE_DIR/large.out" 2>&1 || code=$?
	has "how it ended: $code" "$code $(tail -n 1 "$CASE_DIR/large.out")" '^0 all read$|^1 OSError: \[Errno (5|107)\]|^137 '
	say "more than its memory: $code $(tail -n 1 "$CASE_DIR/large.out")"
	prints "what was synced" ' files are there$' python3 "$guest/large.py" check "$dir" < "$CASE_DIR/large.out"
	eq "the next container" "$(run "$@" $IMAGE_SMALL sh -c 'head -c 4194304 /data/f3 | tr -d "\003" | wc -c')" 0
}

# All of them, shorter; what needs a directory of its own belongs to it. NOT_PYTHON and NOT_STRESS are
# files of what the storage does not do.
program_all() {
	local seconds=3
	STRESS_SECONDS=1
	[ "$DANAUS_NIGHTLY" = 0 ] || seconds=30 STRESS_SECONDS=10
	program_busybox "$@"
	program_shell --env CHANGES_LATE=yes "$@"
	program_git "$@"
	program_sqlite $seconds "$@"
	FIO_ENGINES="psync mmap" program_fio "$@"
	program_stress "$STRESSORS" "$NOT_STRESS" "$@"
	program_python "$SUITES" "$NOT_PYTHON" "$@"
	run "$@" $IMAGE_SMALL chown 101:101 /data
	program_postgres $seconds "$@"
}
