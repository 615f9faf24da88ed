# SPDX-License-Identifier: Apache-2.0
# containerd with its own root, state and socket: ctr run --runtime io.containerd.danaus.v2.
# image: small
. "$LIB/case.sh"

cat > "$CASE_DIR/containerd.toml" <<C
version = 2
root = "$CASE_DIR/containerd"
state = "/run/test-containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/test-containerd.sock"
C
containerd -c "$CASE_DIR/containerd.toml" > "$CASE_DIR/containerd.log" 2>&1 &
daemon=$!
case_cleanup() {
	for t in $(ctr -a /run/test-containerd.sock task ls -q 2>/dev/null); do
		ctr -a /run/test-containerd.sock task kill -s KILL "$t"
		ctr -a /run/test-containerd.sock task rm -f "$t"
	done
	kill "$daemon" && wait "$daemon"
	[ "${code:-0}" = 0 ] || tail -n 30 "$CASE_DIR/containerd.log"
	for m in $(findmnt -rno TARGET | grep -E 'test-containerd|/containerd/' | tac); do umount "$m"; done
	rm -rf /run/test-containerd* "$CASE_DIR/containerd"
}
c() { ctr -a /run/test-containerd.sock "$@"; }
until_true "containerd's start" 20 c version
pod save -q --format oci-archive -o "$CASE_DIR/image.tar" $IMAGE_SMALL
c image import --index-name small:1 "$CASE_DIR/image.tar" > /dev/null
rm "$CASE_DIR/image.tar"
data=$(new_dir data)
echo from-the-host > "$data/in"
ctr_run() {
	c run --runtime io.containerd.danaus.v2 --annotation danaus=on --cgroup "$CASE_CGROUP/$RANDOM" \
		--mount "type=bind,src=$data,dst=/data,options=rbind:rw" "$@"
}
eq "one command" "$(ctr_run --rm small:1 one sh -c 'cat /data/in; echo out > /data/out')" from-the-host
eq "what it wrote" "$(cat "$data/out")" out
ctr_run -d small:1 long sleep 1000
eq "exec" "$(c task exec --exec-id e1 long sh -c 'echo second > /data/out; cat /data/out')" second
stats=$(danausctl stats)
has "the notify door served it" "$stats" notify
c task kill -s KILL long > /dev/null
until_true "its end" 10 c task rm long
c container rm long
