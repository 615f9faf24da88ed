# SPDX-License-Identifier: Apache-2.0
# fio writes with checksums and verifies what it reads, with several engines and jobs.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
for engine in psync sync pvsync mmap; do
	out=$(run -v "$data:/data" $IMAGE_FULL fio --name=v --directory=/data --ioengine=$engine --rw=randrw \
		--bsrange=512-64k --size=12m --numjobs=3 --verify=crc32c --verify_fatal=1 --randseed=7 --fallocate=none \
		--do_verify=1 --thread=0 --group_reporting --minimal 2>&1) || { echo "$out"; fail "fio, $engine"; }
done
out=$(run -v "$data:/data" $IMAGE_FULL fio --name=v2 --directory=/data --ioengine=psync --rw=write --bs=128k \
	--size=24m --numjobs=2 --thread --verify=md5 --verify_fatal=1 --fsync=20 --minimal 2>&1) || { echo "$out"; fail "fio, threads"; }
