# SPDX-License-Identifier: Apache-2.0
# stress-ng's file stressors with verification. What fails on a bind volume too does not count.
# image: full
# seconds: 300
. "$LIB/case.sh"
. "$LIB/programs.sh"
stressors="access chdir chmod copy-file dentry dir dup fallocate fcntl file-ioctl filename flock fpunch fstat
	getdent hdd iomix link lockf lockofd mknod open readahead rename revio seek sync-file symlink touch utime xattr"
STRESS_SECONDS=1; [ "$DANAUS_NIGHTLY" = 0 ] || STRESS_SECONDS=15
program_stress "$(echo $stressors)" /dev/null -v "$(new_dir data):/data"
