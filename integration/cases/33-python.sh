# SPDX-License-Identifier: Apache-2.0
# Python's own tests of the system calls: the same failures on a Danaus volume as on a bind volume.
# image: full
# seconds: 400
. "$LIB/case.sh"
suites="test_os test_posix test_shutil test_tempfile test_fcntl test_mmap"
[ "$DANAUS_NIGHTLY" = 0 ] || suites+=" test_io test_subprocess"
plain_data=$(new_dir plain) data=$(new_dir data)
guest="cd /data && export TMPDIR=/data HOME=/data && timeout 150 python3 -m test --timeout 100 --junit-xml /data/results.xml $suites > /data/log 2>&1; true"
plain -v "$plain_data:/data" $IMAGE_FULL sh -c "$guest" &
run -v "$data:/data" $IMAGE_FULL sh -c "$guest"
wait
bad() { # the tests that did not pass, and how many there were
	python3 - "$1" <<'P'
import sys, xml.etree.ElementTree as E
for c in sorted(E.parse(sys.argv[1]).iter("testcase"), key=lambda c: c.get("name")):
    if c.find("failure") is not None or c.find("error") is not None or c.get("status") not in (None, "run") :
        print(c.get("name"))
P
}
for d in "$plain_data" "$data"; do
	[ -s "$d/results.xml" ] || { tail -n 60 "$d/log"; fail "no results in $d"; }
	bad "$d/results.xml" > "$d/bad"
	say "$(grep -o '<testcase ' "$d/results.xml" | wc -l) tests, $(wc -l < "$d/bad") tests not passed in ${d##*/}"
done
at_least "tests that ran" "$(grep -o '<testcase ' "$data/results.xml" | wc -l)" 400
new=$(comm -13 <(sort "$plain_data/bad") <(sort "$data/bad"))
if [ -n "$new" ]; then
	grep -E -A25 '^(ERROR|FAIL):' "$data/log" | head -n 150
	fail "fails on the Danaus volume only: $new"
fi
