#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Breaks one line at a time (the table integration/mutations) in a copy of the sources and runs the one
# step that must turn red then, and that is green without it. Prints those that stay green; fails when
# there is one. As test.sh: root.
#   mutate.sh [--dir DIR] [--known-green] [STEP]...
#   mutate.sh --check
# With --known-green the steps are not run without the change first. --check runs nothing: does each line
# still change its file, and has each case one? A unit test asks that.
set -uo pipefail
SRC=$(cd "$(dirname "$0")/.." && pwd)
dir= known= check=
while [[ ${1:-} == --* ]]; do
	case $1 in
	--dir) dir=${2:?--dir needs a directory}; shift ;;
	--known-green) known=1 ;;
	--check) check=1 ;;
	*) sed -n 's/^#   \(mutate.sh\)/usage: \1/p' "$0" >&2; exit 2 ;;
	esac
	shift
done
own=$([ -n "$dir" ] || echo 1)
[ -n "$dir" ] || dir=$(mktemp -d /var/tmp/danaus-mutate.XXXXXX)
trap '[ -z "$own" ] || rm -rf --one-file-system "$dir"' EXIT
mkdir -p "$dir"
if [ -z "$check" ]; then
	rm -rf "$dir/src"
	mkdir "$dir/src"
	git -C "$SRC" ls-files -z | tar -C "$SRC" --null -T - -c | tar -C "$dir/src" -xm || exit 1
fi

run() { # STEP
	case $1 in
	unit:*)
		[ -d "$dir/build" ] || meson setup "$dir/build" "$dir/src" || return 2
		ninja -C "$dir/build" && meson test -C "$dir/build" --no-rebuild "${1#unit:}" ;;
	*) "$dir/src/integration/test.sh" --dir "$dir/test" --only "$1" ;;
	esac > "$dir/log" 2>&1
}
green=() tried=0
declare -A sound
while read -r step file expression; do
	[[ $step != '#'* ]] || continue
	[ $# = 0 ] || [[ " $* " == *" $step "* ]] || continue
	if ! sed "$expression" "$SRC/$file" > "$dir/changed" || cmp -s "$dir/changed" "$SRC/$file"; then
		echo "STALE  $step: nothing to change in $file"
		green+=("$step")
		continue
	fi
	[ -z "$check" ] || { sound[$step]=1; continue; }
	if [ -z "$known${sound[$step]:-}" ] && ! run "$step"; then
		echo "UNFIT  $step: red without a change"
		green+=("$step")
		continue
	fi
	sound[$step]=1
	cat "$dir/changed" > "$dir/src/$file"
	tried=$((tried + 1))
	if run "$step"; then
		echo "GREEN  $step: $file $expression"
		green+=("$step")
	elif grep -q 'FAIL  build\|^FAILED: \|ninja: build stopped' "$dir/log"; then
		echo "BROKEN $step: does not build"
		green+=("$step")
	elif grep -q 'ran out of its time' "$dir/log"; then
		echo "LATE   $step: red by its time alone"
		green+=("$step")
	else
		echo "red    $step: $(grep -m 1 -E '^ *(FAIL: |\[ *FAILED)|not ok|^Fail: +[1-9]|: failed: ' "$dir/log" | cut -c1-120)"
	fi
	cat "$SRC/$file" > "$dir/src/$file"
done < "$SRC/integration/mutations"
if [ -n "$check" ]; then
	for step in "$SRC"/integration/cases/*.sh; do
		step=$(basename "$step" .sh)
		[ -n "${sound[$step]:-}" ] || { echo "NONE   $step: no line of mutations is about it"; green+=("$step"); }
	done
	[ ${#green[@]} = 0 ]
	exit
fi
echo "$tried tried, ${#green[@]} not caught${green[*]:+: ${green[*]}}"
[ ${#green[@]} = 0 ]
