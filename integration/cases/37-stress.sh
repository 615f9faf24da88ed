# SPDX-License-Identifier: Apache-2.0
# stress-ng's file stressors with verification. What fails on a bind volume too does not count.
# image: full
# seconds: 300
. "$LIB/case.sh"
. "$LIB/programs.sh"
STRESS_SECONDS=1; [ "$DANAUS_NIGHTLY" = 0 ] || STRESS_SECONDS=15
program_stress "$ALL_STRESSORS" /dev/null -v "$(new_dir data):/data"
