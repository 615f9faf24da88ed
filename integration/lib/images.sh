#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the images that the cases run, from this machine's own files: there may be no registry.
#   images.sh small|full      (inside the sandbox: podman's store is the run's)
set -euo pipefail
work=${DANAUS_WORK:?}
src=$(cd "$(dirname "$0")/../src" && pwd)

probes() { # DIR: the test program once per door
	mkdir -p "$1"
	gcc -O2 -Wall -Wextra -o "$1/probe-glibc" "$src/probe.c"
	gcc -O2 -Wall -Wextra -static -o "$1/probe-static" "$src/probe.c"
	musl-gcc -O2 -Wall -Wextra -o "$1/probe-musl" "$src/probe.c"
	(cd "$src" && HOME=$work GOFLAGS=-mod=mod GO111MODULE=off CGO_ENABLED=0 GOCACHE=$work/gocache \
		go build -o "$1/probe-go" probe.go)
}

import() { # ROOT NAME
	tar -C "$1" --numeric-owner -c . | podman import -q - "$2" >/dev/null
}

passwd() { # ROOT
	mkdir -p "$1/etc"
	cat > "$1/etc/passwd" <<-P
		root:x:0:0:root:/root:/bin/sh
		daemon:x:1:1::/:/bin/sh
		www-data:x:33:33::/var/www:/bin/sh
		postgres:x:101:101::/var/lib/postgresql:/bin/sh
		user:x:1000:1000::/tmp:/bin/sh
		other:x:1001:1001::/tmp:/bin/sh
		nobody:x:65534:65534::/:/bin/sh
	P
	sed 's/^\([^:]*\):x:[0-9]*:\([0-9]*\):.*/\1:x:\2:/' "$1/etc/passwd" > "$1/etc/group"
	echo 'hosts: files' > "$1/etc/nsswitch.conf"
	echo '127.0.0.1 localhost' > "$1/etc/hosts"
	mkdir -p "$1"/{tmp,root,proc,sys,dev,run,var/tmp}
	chmod 1777 "$1/tmp" "$1/var/tmp"
}

small() {
	local root=$work/root-small
	rm -rf "$root"
	mkdir -p "$root"/{bin,lib}
	cp /bin/busybox "$root/bin/"
	for applet in $(busybox --list); do ln -s busybox "$root/bin/$applet" 2>/dev/null || true; done
	probes "$root/probes"
	rm "$root/probes/probe-glibc" # no glibc here
	cp -L /lib/ld-musl-x86_64.so.1 "$root/lib/"
	passwd "$root"
	import "$root" danaus-small
}

full() {
	local root=$work/root-full packages
	rm -rf "$root"
	mkdir -p "$root"
	packages="base-files bash coreutils tar gzip rsync git sqlite3 python3 libpython3.11-testsuite
		postgresql-15 gcc libc6-dev linux-libc-dev nginx-light fio stress-ng attr acl procps grep sed findutils
		diffutils debianutils util-linux mawk strace dash hostname login perl-base libnss-myhostname"
	# shellcheck disable=SC2086
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances --installed $packages 2>/dev/null |
		grep '^[a-z0-9]' | cut -d: -f1 | sort -u |
		grep -vE '^(systemd|udev|linux-image|linux-headers|libllvm|llvm|perl-modules|postgresql-common|init|locales|ssl-cert)' > "$work/full.packages"
	# Files of a merged /usr: the packages list /bin and /lib, the machine has them in /usr
	ln -s usr/bin "$root/bin"; ln -s usr/sbin "$root/sbin"
	ln -s usr/lib "$root/lib"; ln -s usr/lib64 "$root/lib64"; ln -s usr/lib32 "$root/lib32"
	(cd / && while read -r p; do cat "/var/lib/dpkg/info/$p.list" "/var/lib/dpkg/info/$p:amd64.list" 2>/dev/null || true; done < "$work/full.packages" |
		sed -nE 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#; s#^/##; /^(usr|etc)\//p' |
		grep -vE '^usr/share/(doc|man|locale|info|bug|lintian|perl/)|^etc/(passwd|group|shadow)' | sort -u |
		tar -c --no-recursion --ignore-failed-read -T - 2>/dev/null) | tar -x -C "$root"
	cp -a /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/"
	mkdir -p "$root/etc/alternatives" "$root/var/lib/nginx" "$root/var/log/nginx"
	cp -a /etc/alternatives/{awk,cc} "$root/etc/alternatives/" 2>/dev/null || true
	ln -sf mawk "$root/usr/bin/awk"
	passwd "$root"
	probes "$root/probes"
	mkdir -p "$root/usr/lib/x86_64-linux-musl"
	cp -L /lib/ld-musl-x86_64.so.1 "$root/usr/lib/"
	chroot "$root" /sbin/ldconfig
	import "$root" danaus-full
}

"$@"
rm -rf "$work/root-$1"
