# SPDX-License-Identifier: Apache-2.0
# bench.sh's containers, inside the sandbox. Writes lines "COLUMN OPERATION NS" to bench.txt.
. "$LIB/case.sh"
results=$DANAUS_WORK/bench.txt
: > "$results"
pin=(); [ -z "$BENCH_CPUS" ] || pin=(--cpuset-cpus "$BENCH_CPUS")

column() { # NAME run|plain PROGRAM DIRECTORY
	local name=$1 how=$2 program=$3 dir=$4
	"$how" "${pin[@]}" -v "$dir:/data" $IMAGE_FULL "/probes/$program" /data "$BENCH_MS" | sed "s/^/$name /" >> "$results"
	find "$dir" -mindepth 1 -delete
}
fuse_overlayfs() {
	local b=$CASE_DIR/fo
	command -v fuse-overlayfs > /dev/null || return 0
	mkdir -p "$b"/{lower,upper,work,merged}
	fuse-overlayfs -o "lowerdir=$b/lower,upperdir=$b/upper,workdir=$b/work" "$b/merged"
	column fuse-overlayfs plain bench "$b/merged"
	umount "$b/merged"
}
start_ms() { # NAME run|plain DIRECTORY: how long one container takes, in ns
	local t
	t=$(date +%s%N)
	"$2" "${pin[@]}" -v "$3:/data" $IMAGE_FULL /bin/true
	echo "$1 container $(($(date +%s%N) - t))" >> "$results"
}
for _ in $(seq "$BENCH_ROUNDS"); do
	column bind plain bench "$(new_dir bind)"
	column danaus run bench "$(new_dir danaus)"
	column danaus-static run bench-static "$(new_dir static)"
	fuse_overlayfs
done
for _ in $(seq 8); do
	start_ms bind plain "$(new_dir bind)"
	start_ms danaus run "$(new_dir danaus)"
done
