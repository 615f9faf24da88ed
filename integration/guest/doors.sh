#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the container: drives the four probes on /data at the same time and compares what each sees.
# Itself it never touches /data. Prints "did KIND OPERATION COUNT" at the end: what the service must have
# served as often.
set -euo pipefail
kinds="glibc musl static go"
declare -A in out did
for k in $kinds; do
	mkfifo "/tmp/$k.in" "/tmp/$k.out"
	"/probes/probe-$k" < "/tmp/$k.in" > "/tmp/$k.out" &
	exec {i}> "/tmp/$k.in" {o}< "/tmp/$k.out"
	in[$k]=$i out[$k]=$o
done

note() { # KIND COMMAND
	local op=
	case $2 in
	pwrite* | append*) op=write ;;
	truncate*) op=setattr ;;
	mkdir* | symlink*) op=make ;;
	unlink* | rmdir*) op=unlink ;;
	lock* | unlock*) op=lock ;;
	rename*) op=rename ;;
	link*) op=link ;;
	esac
	[ -z "$op" ] || did["$1 $op"]=$((${did["$1 $op"]:-0} + 1))
}
tell() { # KIND COMMAND: the answer
	note "$1" "$2"
	echo "$2" >&"${in[$1]}"
	read -r -t 30 reply <&"${out[$1]}" || { echo "$1 does not answer to: $2"; exit 1; }
}
expect() { # KIND COMMAND ANSWER
	tell "$1" "$2"
	[ "$reply" = "$3" ] || { echo "$1: $2: answered '$reply', not '$3'"; exit 1; }
}
all() { for k in $kinds; do expect "$k" "$1" "$2"; done; }

echo "== bytes and sizes of one open file"
all "open /data/f" ok
at=0
for w in $kinds; do
	expect "$w" "pwrite $at <$w>" $((${#w} + 2))
	at=$((at + ${#w} + 2))
	all size $at
	all "stat /data/f" "$at 1"
done
all "pread 0 100" "<glibc><musl><static><go>"
for w in $kinds; do
	expect "$w" "truncate 7" ok
	all size 7
	expect "$w" "pwrite 9 end-$w" $((${#w} + 4))
	all "pread 0 100" "<glibc>..end-$w"
done

echo "== appends"
n=0 text=
for round in 1 2 3; do
	for w in $kinds; do
		expect "$w" "append /data/log $w$round," $((${#w} + 2))
		text+="$w$round,"
		n=${#text}
		all "stat /data/log" "$n 1"
		all "cat /data/log" "$text"
	done
done

echo "== names"
for w in $kinds; do
	expect "$w" "mkdir /data/d-$w" ok
	all "mkdir /data/d-$w" EEXIST
	expect "$w" "rename /data/f /data/d-$w/g" ok
	all "stat /data/f" ENOENT
	all "stat /data/d-$w/g" "$((9 + 6)) 1"
	all "ls /data/d-$w" g
	expect "$w" "link /data/d-$w/g /data/f" ok
	all "stat /data/f" "15 2"
	expect "$w" "unlink /data/d-$w/g" ok
	all "stat /data/f" "15 1"
	expect "$w" "rmdir /data/d-$w" ok
	all "ls /data" "f log"
	expect "$w" "symlink f /data/s" ok
	all "stat /data/s" "15 1"
	expect "$w" "unlink /data/s" ok
	all "cat /data/s" ENOENT
done

echo "== locks"
for w in $kinds; do
	expect "$w" "lock w 0 10" ok
	for k in $kinds; do
		[ "$k" = "$w" ] && continue
		expect "$k" "lock w 5 1" EAGAIN
		expect "$k" "lock r 9 5" EAGAIN
		expect "$k" "lock w 10 1" ok
		expect "$k" "unlock 10 1" ok
	done
	expect "$w" "unlock 0 10" ok
	all "lock r 0 4" ok
	expect "$w" "lock w 0 1" EAGAIN
	all "unlock 0 0" ok
	# POSIX: any close of the file by the process drops all its locks on it
	echo "dropped by a close: $w"
	expect "$w" "lock w 0 0" ok
	expect "$w" "cat /data/f" "<glibc>..end-go"
	all "lock r 0 0" ok
	all "unlock 0 0" ok
done

echo "== all at once"
count=100
for i in $(seq $count); do
	for k in $kinds; do
		note "$k" append
		echo "append /data/many $k-$i," >&"${in[$k]}"
	done
done
for k in $kinds; do
	for i in $(seq $count); do
		want=$((${#k} + ${#i} + 2))
		read -r -t 60 reply <&"${out[$k]}"
		[ "$reply" = $want ] || { echo "$k: append $i: $reply, not $want"; exit 1; }
	done
done
total=0
for k in $kinds; do for i in $(seq $count); do total=$((total + ${#k} + ${#i} + 2)); done; done
all "stat /data/many" "$total 1"

for d in "${!did[@]}"; do echo "did $d ${did[$d]}"; done
if [ "${1:-}" = map ]; then
	echo "== shared mappings"
	expect glibc "truncate 0" ok
	expect glibc "truncate 4096" ok
	at=10
	for w in $kinds; do
		expect "$w" "map $at {$w}" ok
		all "pread $at $((${#w} + 2))" "{$w}"
		expect "$w" "pwrite $((at + 1)) =" 1
		all "pread $at 3" "{=${w:1:1}"
		at=$((at + 10))
	done
	for w in $kinds; do # a mapping made after a write sees it, and what others wrote meanwhile
		expect "$w" "pwrite 100 [$w]" $((${#w} + 2))
		for k in $kinds; do expect "$k" "map 200 $k" ok; done
		all "pread 100 $((${#w} + 2))" "[$w]"
	done
	echo "== mappings that stay"
	all hold ok
	for w in $kinds; do # what nobody has synced is read, what is written is there
		len=$((${#w} + 2))
		expect "$w" "poke 300 {$w}" ok
		all "pread 300 $len" "{$w}"
		all "peek 300 $len" "{$w}"
		expect "$w" "pwrite 301 =" 1
		all "peek 300 3" "{=${w:1:1}"
		expect "$w" "truncate 8192" ok
		expect "$w" "truncate 4096" ok
		all "peek 300 3" "{=${w:1:1}"
	done
	all drop ok
	all "pread 300 4" "{=o}"
fi
echo "all agree"
