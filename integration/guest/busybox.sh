#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the container, with nothing but a static busybox: a shell's and its tools' work on DIR, against
# the same done in /tmp. DIR
set -eu
work() { # in the current directory
	mkdir -p src/deep/er; cd src
	i=0; while [ $i -lt 60 ]; do i=$((i + 1)); echo "line $i of $((i * i))" >> lines; done
	{ echo first; cat lines; } > deep/copy 2>&1
	exec 7> deep/seven; echo through-seven >&7; exec 7>&-
	while read -r a b rest; do echo "$b:$a"; done < lines > deep/er/swapped
	sort -r lines | tee deep/sorted | head -n 3 > deep/top
	sed -i 's/line 7 /LINE SEVEN /' lines
	head -c 3000 /bin/busybox > big; truncate -s 20000 big
	dd if=/bin/busybox of=dd bs=4096 skip=3 count=90 conv=notrunc 2> /dev/null
	dd if=lines of=dd bs=512 seek=9 count=1 conv=notrunc 2> /dev/null
	cp -a deep deep2; mv deep2/er deep2/re; ln lines hard; ln -s deep/copy soft; ln -s nowhere dangling
	chmod 640 lines; chmod 1777 deep2; touch -d '2020-02-02 02:02:02' dd; mkfifo fifo
	(cat fifo > from-fifo &); echo through-the-fifo > fifo; until [ -s from-fifo ]; do sleep 0.02; done
	gzip -k dd; gunzip -c dd.gz | cmp - dd
	tar -cf ../t.tar .; mkdir ../un; tar -C ../un -xpf ../t.tar
	(cd ../un && find . -type f | sort | xargs sha256sum) > ../un.sums
	find . -type f | sort | xargs sha256sum > ../sums
	diff ../sums ../un.sums
	rm -r deep2/re; mv deep2 deep3; rm -r deep3
	[ "$(readlink -f soft)" = "$PWD/deep/copy" ]; [ -p fifo ]; [ -L dangling ]
	[ "$(stat -c '%a %h' lines)" = "640 2" ]; [ "$(stat -c %s big)" = 20000 ]
	ls -A | sort > ../names; rm fifo; cd ..; grep -rl 'line 3' src | sort > grep; wc -c src/lines src/deep/copy > wc
	rm -r un
}
umask 022
mkdir -p /tmp/here "$1/there"
(cd /tmp/here && work)
(cd "$1/there" && work)
for f in names grep wc sums; do diff "/tmp/here/$f" "$1/there/$f"; done
rm -r "$1/there" /tmp/here
echo "the same"
