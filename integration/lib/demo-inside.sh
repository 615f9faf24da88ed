# SPDX-License-Identifier: Apache-2.0
# demo.sh's container, inside the sandbox.
. "$LIB/case.sh"
mkdir data
echo "hello from the host" > data/greeting
cat <<T

\$ podman run --annotation danaus=on -v $PWD/data:/data IMAGE sh -c '...'
T
up demo -v "$PWD/data:/data" $IMAGE_FULL bash -c '
	cat /data/greeting
	echo "hello from the container" > /data/answer
	cd /data && git init -q r && cd r && git config user.email d@d && git config user.name d
	for i in $(seq 200); do echo $i > f$i; done
	git add . && git commit -qm "200 files" && git log --oneline | cat
	printf "append /data/log one\nappend /data/log two\ncat /data/log\n" | /probes/probe-static
	printf "open /data/mapped\ntruncate 64\nmap 5 mapped\npread 0 20\n" | /probes/probe-glibc
	echo done; exec sleep 1000'
until_true "the container's end" 60 sh -c 'podman logs demo 2>&1 | grep -q ^done'
pod logs demo
echo
echo "\$ danausctl list"
danausctl list
echo
echo "\$ danausctl stats"
danausctl stats
echo
echo "what the host sees: $(cat data/answer); $(ls data/r | wc -l) files in the repository"
down demo
