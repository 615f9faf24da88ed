# SPDX-License-Identifier: Apache-2.0
# Python's own tests of the system calls: the same failures on a Danaus volume as on a bind volume.
# image: full
# seconds: 600
. "$LIB/case.sh"
. "$LIB/programs.sh"
suites="test_os test_posix test_shutil test_tempfile test_fcntl test_mmap test_io test_subprocess"
program_python "$suites" /dev/null -v "$(new_dir data):/data"
