# SPDX-License-Identifier: Apache-2.0
# fio writes with checksums and verifies what it reads, with several engines and jobs.
# image: full
. "$LIB/case.sh"
. "$LIB/programs.sh"
program_fio -v "$(new_dir data):/data"
