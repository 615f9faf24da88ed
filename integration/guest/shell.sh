#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the container, cwd on the volume: redirections, pipes, coreutils, find, tar. Compares with the
# same work done in /tmp.
set -euo pipefail
work() { # in the current directory
	mkdir -p src/deep/er && cd src
	for i in $(seq 40); do echo "line $i of $((i * i))" >> lines; done
	{ echo first; cat lines; } > deep/copy 2>&1
	exec 7<> deep/seven; echo through-seven >&7; exec 7>&-
	while read -r a b rest; do echo "$b:$a"; done < lines > deep/er/swapped
	cat <<-HERE > here
		a here document
	HERE
	sort -r lines | tee deep/sorted | head -n 3 > deep/top
	sed -i 's/line 7 /LINE SEVEN /' lines
	printf 'x%.0s' $(seq 5000) > big; truncate -s 20000 big; dd if=big of=dd bs=512 skip=3 count=9 conv=notrunc status=none
	cp -a deep deep2; mv deep2/er deep2/re; ln lines hard; ln -s deep/copy soft; ln -s nowhere dangling
	chmod 640 lines; chmod 1777 deep2; touch -d '2020-02-02 02:02:02Z' here; mkfifo fifo
	(cat fifo > from-fifo &) ; echo through-the-fifo > fifo; until [ -s from-fifo ]; do sleep 0.02; done
	find . -name 'l*' -newer here -print0 | sort -z | xargs -0 wc -c > wc
	split -b 300 lines part-; cat part-* | cmp - lines
	comm -12 <(sort lines) <(sort deep/copy) > common
	# CephFS may bring a directory's times up to date while tar reads it, which tar calls a change
	tar -cf ../t.tar --sort=name . || [ "$?${CHANGES_LATE:-}" = 1yes ]; mkdir ../un; tar -C ../un -xpf ../t.tar; diff -r --no-dereference -x fifo . ../un
	rm -rf deep2/re; rmdir deep2 2>/dev/null || rm -r deep2
	for f in one two three; do : > "$f"; done; rm one; mv -n two three || true
	ls -A | LC_ALL=C sort > ../names
	[ "$(pwd -P)" = "$PWD" ] && [ "$(readlink -f soft)" = "$PWD/deep/copy" ]
	test -p fifo && test -L dangling && ! test -e dangling && test hard -ef lines
	[ "$(stat -c '%a %h %Y' here)" = "644 1 1580608922" ]
	cd ..
	grep -rl 'line 3' src | LC_ALL=C sort > grep
	(cd src && find . -not -name fifo -type f | LC_ALL=C sort | xargs sha256sum) > sums
	bash -c 'cat < src/lines > src/child; echo $(<src/child) | wc -w' > words
	rm -rf un
}
mkdir -p /tmp/here "$1/there"
umask 022
(cd /tmp/here && work)
(cd "$1/there" && work)
for f in names grep sums words; do diff "/tmp/here/$f" "$1/there/$f"; done
(cd "$1/there" && { tar -cf - src || [ "$?${CHANGES_LATE:-}" = 1yes ]; }) | tar -C /tmp -xf - && diff -r --no-dereference -x fifo /tmp/src /tmp/here/src
rm -rf "$1/there"
echo "the same"
