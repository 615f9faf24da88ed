# SPDX-License-Identifier: Apache-2.0
# podman with runc, through the hooks, in the machine's own cgroup layout.
# image: small
# cgroups: hybrid
RUNTIME=$(command -v runc)
. "$LIB/case.sh"
. "$LIB/hello.sh"
hello runc
