# SPDX-License-Identifier: Apache-2.0
# What every case has: sourced by sandbox-run cases with `. "$LIB/case.sh"`. A case is a bash script
# that ends with 0, or with the first assertion that does not hold. `skip` needs a reason.
set -euo pipefail
trap case_error ERR
trap case_end EXIT
set -E

IMAGE_SMALL=localhost/danaus-small # busybox and the probes: static C, static Go, musl
IMAGE_FULL=localhost/danaus-full   # Debian: bash, coreutils, git, python, postgres, gcc, ...
RUNTIME=${RUNTIME:-crun}
FULL_PROBES=/probes

case_error() { # once, with the line of the case
	[ "$BASH_SUBSHELL" = 0 ] || return 0
	echo "${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}: failed: $BASH_COMMAND" >&2
	trap - ERR
}

case_end() {
	local code=$?
	trap - EXIT ERR
	set +e
	if [ "$code" != 0 ]; then
		for c in $(pod ps -aq 2>/dev/null); do
			echo "--- container $(pod inspect -f '{{.Name}} {{.State.Status}} {{.State.ExitCode}}' "$c"):" >&2
			pod logs --tail 40 "$c" >&2
		done
	fi
	pod rm -fa -t 0 >/dev/null 2>&1
	pod volume rm -fa >/dev/null 2>&1
	if declare -F case_cleanup >/dev/null; then case_cleanup; fi
	exit "$code"
}

say() { echo "# $*"; }
fail() { echo "FAIL: $*" >&2; return 1; }
skip() { echo "SKIP: $*"; exit 77; }

# eq WHAT GOT WANTED
eq() { [ "$2" = "$3" ] || fail "$1: got $(printf %q "$2"), wanted $(printf %q "$3")"; }
# has WHAT TEXT PATTERN (extended regular expression, any line)
has() { grep -Eq -- "$3" <<<"$2" || fail "$1: $(printf %q "$2") has no match for $(printf %q "$3")"; }
hasnt() { ! grep -Eq -- "$3" <<<"$2" || fail "$1: $(printf %q "$2") has a match for $(printf %q "$3")"; }
# at_least WHAT GOT MINIMUM
at_least() { [ "$2" -ge "$3" ] || fail "$1: got $2, wanted at least $3"; }
# refuses WHAT PATTERN COMMAND...: it fails, and what it prints names the reason
refuses() {
	local what=$1 pattern=$2 out; shift 2
	if out=$("$@" 2>&1); then fail "$what: it went through: $out"; return; fi
	has "$what" "$out" "$pattern"
}
# prints WHAT PATTERN COMMAND...: it succeeds, and a line of what it prints matches
prints() {
	local what=$1 pattern=$2 out code=0; shift 2
	out=$("$@" 2>&1) || code=$?
	[ "$code" = 0 ] || { echo "$out"; fail "$what: exit code $code"; return; }
	grep -Eq -- "$pattern" <<<"$out" || { echo "$out"; fail "$what: no line matches $pattern"; return; }
	say "$what: $(tail -n 3 <<<"$out" | tr '\n' ';')"
}
# until_true WHAT SECONDS COMMAND...: asks again and again
until_true() {
	local what=$1 end=$((SECONDS + $2)); shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || { fail "$what: not within the time"; return; }
		sleep 0.1
	done
}

pod() { podman "$@"; }
# run IMAGE-ARGS...: with Danaus; plain: without
run() { pod --runtime "$RUNTIME" run --rm --cgroup-parent "$CASE_CGROUP" --annotation danaus=on "$@"; }
plain() { pod --runtime "$RUNTIME" run --rm --cgroup-parent "$CASE_CGROUP" "$@"; }
# up NAME ARGS...: a container in the background; down NAME
up() {
	local name=$1; shift
	pod --runtime "$RUNTIME" run -d --name "$name" --cgroup-parent "$CASE_CGROUP" \
		--annotation danaus=on "$@" >/dev/null
}
down() { pod rm -f -t 0 "$@" >/dev/null; }
full_id() { pod inspect -f '{{.Id}}' "$1"; }

# A directory of this case for a volume, on the disk
new_dir() { mkdir -p "$CASE_DIR/$1" && chmod 755 "$CASE_DIR/$1" && echo "$CASE_DIR/$1"; }

# ops CONTAINER DOOR [OPERATION]: how many operations the container's service served there
ops() {
	danausctl stats "$(full_id "$1")" --json |
		jq --arg door "$2" --arg op "${3:-}" '
			[.. | objects | select(has($door)) | .[$door]] | map(to_entries[]) |
			map(select($op == "" or .key == $op) | .value.count) | add // 0'
}
