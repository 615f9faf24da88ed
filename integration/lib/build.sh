# SPDX-License-Identifier: Apache-2.0
# Packages, builds, the private install: sourced by test.sh, demo.sh and bench.sh. They set $SRC,
# the sources, and $DANAUS_WORK, the directory of the whole run:
#   build build-asan build-tsan build-fuzz   meson's
#   dest     what `meson install` puts on a machine (DESTDIR)
#   conf     podman's configuration of the run
#   store    podman's images and containers
#   cases    one directory per case
#   logs     one log per step

packages_missing() { # PREFIX: "" the needed ones, "?" those that cases can do without
	local p
	for p in $(sed -n "s/^$1\([a-z0-9]\)/\1/p" "$SRC/integration/packages"); do
		dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || echo "$p"
	done
}

packages_install() {
	local needed optional
	needed=$(packages_missing '') optional=$(packages_missing '?')
	[ -n "$needed$optional" ] || return 0
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q || true
	# shellcheck disable=SC2086 # RUNLEVEL: no server of theirs is started
	[ -z "$optional" ] || RUNLEVEL=1 apt-get install -q -y --no-install-recommends $optional || true
	# shellcheck disable=SC2086
	[ -z "$needed" ] || RUNLEVEL=1 apt-get install -q -y --no-install-recommends $needed
}

build_default() { # MESON-OPTIONS...
	[ -d "$DANAUS_WORK/build" ] || meson setup "$DANAUS_WORK/build" "$SRC" --werror "$@"
	ninja -C "$DANAUS_WORK/build"
}

install_private() { # what the cases run, laid over /usr/local and /etc in their sandbox
	rm -rf "$DANAUS_WORK/dest"
	DESTDIR=$DANAUS_WORK/dest meson install -C "$DANAUS_WORK/build" --no-rebuild --quiet
	mkdir -p "$DANAUS_WORK"/dest/{etc,usr/local} "$DANAUS_WORK/conf"
	local nofile nproc
	nofile=$(ulimit -Hn); nproc=$(ulimit -Hu)
	[ "$nproc" != unlimited ] && [ "$nproc" -lt 30000 ] || nproc=30000
	[ "$nofile" != unlimited ] || nofile=1048576
	cat > "$DANAUS_WORK/conf/containers.conf" <<-C
		[containers]
		default_ulimits = ["nofile=$nofile:$nofile", "nproc=$nproc:$nproc"]
		netns = "none"
		log_driver = "k8s-file"
		[network]
		network_backend = "netavark"
		network_config_dir = "$DANAUS_WORK/conf/networks"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "none"
		volume_path = "$DANAUS_WORK/store/volumes"
		hooks_dir = ["/usr/local/libexec/danaus/hooks.d"]
	C
	cat > "$DANAUS_WORK/conf/storage.conf" <<-C
		[storage]
		driver = "overlay"
		graphroot = "$DANAUS_WORK/store/graph"
		runroot = "/run/containers/storage"
	C
}

sandbox() { LIB=$SRC/integration/lib "$SRC/integration/lib/sandbox.sh" "$@"; }

image() { # small|full, once
	[ ! -e "$DANAUS_WORK/image-$1" ] || return 0
	sandbox "image-$1" "$SRC/integration/lib/images.sh" "$1" || return
	touch "$DANAUS_WORK/image-$1"
}
