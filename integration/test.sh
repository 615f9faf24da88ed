#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All tests: packages, builds, units, sanitizers, fuzzers, and the end-to-end cases, one by one.
# docs/testing.md describes it. As root, on Debian 12.
set -uo pipefail
SRC=$(cd "$(dirname "$0")/.." && pwd)
. "$SRC/integration/lib/build.sh"

usage() {
	cat <<-U
		usage: integration/test.sh [--list] [--only NAME]... [--dir DIR] [--retry] [--nightly] [--keep]
		  --list      names the steps and ends
		  --only      runs this step (and what it needs) alone; may be repeated; a prefix will do
		  --dir       works there instead of in a new directory, and keeps it (a second run is faster)
		  --retry     what fails runs once more; when it passes then, the summary calls it unsteady
		  --nightly   fuzzes for 10 minutes each and runs what is too long for every change
		  --keep      keeps the directory
	U
}

only=() retry=0 keep=0 list=0 work=
export DANAUS_NIGHTLY=0
while [ $# -gt 0 ]; do
	case $1 in
	--list) list=1 ;;
	--only) only+=("${2:?--only needs a name}"); shift ;;
	--dir) work=${2:?--dir needs a directory}; keep=1; shift ;;
	--retry) retry=1 ;;
	--nightly) DANAUS_NIGHTLY=1 ;;
	--keep) keep=1 ;;
	--help | -h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

# What there is to do: set-up steps, which everything after them needs, then checks.
setup=(packages build)
checks=(unit asan tsan fuzz)
for f in "$SRC"/integration/cases/*.sh; do
	f=${f##*/}
	checks+=("${f%.sh}")
done
if [ $list = 1 ]; then
	printf '%s\n' "${setup[@]}" "${checks[@]}"
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo "integration/test.sh: needs root: containers, mounts, cgroups" >&2; exit 2; }

wanted() { # NAME
	local o
	[ ${#only[@]} -gt 0 ] || return 0
	for o in "${only[@]}"; do [[ $1 == "$o"* ]] && return 0; done
	return 1
}
for o in "${only[@]}"; do
	printf '%s\n' "${setup[@]}" "${checks[@]}" | grep -q "^$o" ||
		{ echo "integration/test.sh: no step is called $o (see --list)" >&2; exit 2; }
done

if [ -z "$work" ]; then work=$(mktemp -d /var/tmp/danaus-test.XXXXXX); fi
mkdir -p "$work/logs"
export DANAUS_WORK=$work
end() { # leaves nothing behind, whatever happened
	[ $keep = 1 ] || rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0 unsteady=() failures=() times=()

step_packages() { packages_install; }
step_build() { build_default && install_private; }
units() { # NAME DIR MULTIPLIER [SUITE]: in a sandbox, whose watchdog ends what hangs on its own FUSE mount
	local skipped
	DANAUS_HYBRID=1 SANDBOX_SECONDS=$((300 * $3)) sandbox "$1" \
		meson test -C "$2" --no-rebuild --suite unit ${4:+--suite $4} --print-errorlogs --timeout-multiplier "$3" ||
		return
	# Everything they need is here but a cluster, which 90 has
	skipped=$(jq -r 'select(.result == "SKIP") | .name | select(contains("libservices_ceph") | not)' "$2/meson-logs/testlog.json")
	[ -z "$skipped" ] || { echo "skipped:" $skipped; return 1; }
}
seeds() { # TEST NUMBER: what compares random operations, with more seeds than for every change
	[ "$DANAUS_NIGHTLY" = 1 ] || return 0
	DANAUS_SEEDS=$2 DANAUS_HYBRID=1 SANDBOX_SECONDS=1800 sandbox seeds "$work/build/tests/test_$1"
}
step_unit() {
	units unit "$work/build" 1 service && seeds libservices_union_overlay 3000 && seeds vfs_random 300
}
sanitized() { # NAME OPTIONS: builds and runs the units
	local name=$1 dir=$work/build-$1; shift
	[ -d "$dir" ] || meson setup "$dir" "$SRC" -Db_lundef=false -Dbuildtype=debug -Doptimization=1 "$@" || return
	ninja -C "$dir" && units "$name" "$dir" 4
}
step_asan() {
	ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		sanitized asan -Db_sanitize=address,undefined
}
# Not halt_on_error: a process that serves its own mount would wait for itself when it is ended there
step_tsan() { TSAN_OPTIONS=halt_on_error=0 sanitized tsan -Db_sanitize=thread; }
fuzz_one() { # PROGRAM: a minute from the kept corpus; what it finds goes to the log
	local name=${1##*/fuzz_} seconds=60 code found
	[ "$DANAUS_NIGHTLY" = 0 ] || seconds=600
	mkdir -p "$work/corpus/$name"
	(cd "$work/corpus" && "$1" -max_total_time=$seconds -seed=1 -timeout=20 -print_final_stats=1 \
		-artifact_prefix="$work/logs/$name-" "$work/corpus/$name" "$SRC/tests/fuzz/corpus/$name") \
		> "$work/logs/fuzz-$name.log" 2>&1
	code=$?
	echo "== $name: exit code $code"
	tail -n $((code ? 80 : 12)) "$work/logs/fuzz-$name.log"
	[ $code != 0 ] || return 0
	for found in "$work/logs/$name"-*; do
		[ ! -f "$found" ] || { echo "input ${found##*/}, base64:"; base64 "$found"; }
	done
	return $code
}
step_fuzz() {
	[ -d "$work/build-fuzz" ] || CC=clang meson setup "$work/build-fuzz" "$SRC" -Dfuzz=enabled \
		-Db_lundef=false -Db_sanitize=address,undefined -Dbuildtype=debug -Doptimization=1 || return
	ninja -C "$work/build-fuzz" || return
	# From nothing but the kept corpus and with a fixed seed: a change is judged by much the same inputs.
	local f running=0 code=0
	rm -rf "$work/corpus" "$work"/logs/*-{crash,leak,timeout,oom,slow-unit}-*
	for f in "$SRC"/tests/fuzz/fuzz_*.c; do
		f=${f##*/} f=$work/build-fuzz/tests/${f%.c}
		[ $running -lt 3 ] || { wait -n || code=1; running=$((running - 1)); }
		fuzz_one "$f" & running=$((running + 1))
	done
	while [ $running -gt 0 ]; do wait -n || code=1; running=$((running - 1)); done
	return $code
}
step_case() {
	local file=$SRC/integration/cases/$1.sh needs seconds
	needs=$(sed -n 's/^# image: *//p' "$file")
	for i in $needs; do image "$i" || { echo "the image $i could not be made"; return 1; }; done
	seconds=$(sed -n 's/^# seconds: *//p' "$file")
	# At night a case does more
	SANDBOX_SECONDS=$((${seconds:-120} * (DANAUS_NIGHTLY ? 4 : 1))) \
		DANAUS_HYBRID=$(grep -c '^# cgroups: hybrid$' "$file") sandbox "$1" bash "$file"
}

# Runs a step: its output to a log, its verdict to the terminal and the counts.
run_step() {
	local name=$1 log=$work/logs/$1.log code start=$SECONDS reason; shift
	reason=$(sed -n "s/^$name  *//p" "$SRC/integration/known-failures" 2>/dev/null | head -n 1)
	if [ -n "$reason" ] && [ ${#only[@]} = 0 ]; then
		skipped=$((skipped + 1))
		printf 'skip  %-18s known: %s\n' "$name" "$reason"
		return 0
	fi
	"$@" > "$log" 2>&1 < /dev/null; code=$?
	if [ $code != 0 ] && [ $code != 77 ] && [ $retry = 1 ]; then
		mv "$log" "$log.first"
		"$@" > "$log" 2>&1 < /dev/null; code=$?
		[ $code != 0 ] || unsteady+=("$name")
		echo "----- $name, the run that failed:"; tail -n 60 "$log.first" | cut -c1-300
	fi
	times+=("$((SECONDS - start)) $name")
	case $code in
	0) passed=$((passed + 1)); printf 'ok    %-18s %4d s\n' "$name" $((SECONDS - start)) ;;
	77) skipped=$((skipped + 1)); printf 'skip  %-18s %s\n' "$name" "$(sed -n 's/^SKIP: //p' "$log" | head -n 1)" ;;
	*)
		failed=$((failed + 1)); failures+=("$name")
		[ $code = 124 ] && echo "ran out of its time" >> "$log"
		printf 'FAIL  %-18s %4d s; the end of its log:\n' "$name" $((SECONDS - start))
		tail -n 120 "$log" | sed 's/^/      /'
		;;
	esac
	[ $code = 0 ] || [ $code = 77 ]
}

ready=1
for s in "${setup[@]}"; do
	run_step "$s" "step_$s" || { ready=0; break; }
done
if [ $ready = 1 ]; then
	for c in "${checks[@]}"; do
		wanted "$c" || continue
		if declare -F "step_$c" >/dev/null; then run_step "$c" "step_$c"; else run_step "$c" step_case "$c"; fi
	done
fi

echo
echo "slowest:"
printf '%s\n' "${times[@]}" | sort -rn | head -n 6 | awk '{ printf "  %4d s  %s\n", $1, $2 }'
[ ${#unsteady[@]} = 0 ] || echo "unsteady: ${unsteady[*]}"
[ ${#failures[@]} = 0 ] || echo "failed: ${failures[*]}"
[ $keep = 0 ] || echo "kept: $work"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
