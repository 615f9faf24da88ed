# SPDX-License-Identifier: Apache-2.0
# rsync -aHAX to a volume and back; git: init, commit, clone, gc, fsck.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
prints "the script" '^all well$' run -i -v "$data:/data" -v "$LIB/../guest/git.sh:/git.sh:ro" $IMAGE_FULL bash -euo pipefail -s <<'G'
mkdir /tmp/s; cd /tmp/s
cp -a /usr/include/linux linux; mkdir deep; ln linux/types.h deep/hard; ln -s ../linux deep/soft
truncate -s 1M deep/hole; echo end >> deep/hole
chown -R 1000:1001 linux/netfilter; chmod 4750 linux/types.h; touch -d 2001-01-01 linux/fs.h
setfattr -n user.danaus -v value deep/hard; setfacl -m u:1000:r linux/types.h || true
rsync -aHAX /tmp/s/ /data/s/
[ -z "$(rsync -aHAXin --checksum --delete /tmp/s/ /data/s/)" ]
rsync -aHAX /data/s/ /tmp/back/
[ -z "$(rsync -aHAXin --checksum --delete /tmp/s/ /tmp/back/)" ]
[ "$(stat -c '%a %u:%g %h' /data/s/linux/types.h)" = "$(stat -c '%a %u:%g %h' /tmp/s/linux/types.h)" ]
[ "$(getfattr --only-values -n user.danaus /data/s/deep/hard)" = value ]
echo changed >> /tmp/s/linux/fs.h; rm -r /tmp/s/linux/can
rsync -aHAX --delete --inplace /tmp/s/ /data/s/; diff -r --no-dereference /tmp/s /data/s
bash /git.sh /data /tmp/s/linux
G
