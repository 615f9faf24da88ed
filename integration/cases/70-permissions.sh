# SPDX-License-Identifier: Apache-2.0
# What may whom do? Thousands of attempts by several identities on files and directories of all
# kinds, on a bind volume and on Danaus: the same answers and the same outcome.
# image: full
# seconds: 400
. "$LIB/case.sh"
guest=$LIB/../guest/permissions.py
plain_data=$(new_dir plain) data=$(new_dir data)
chmod 755 "$plain_data" "$data"
plain -v "$plain_data:/data" -v "$guest:/p.py:ro" $IMAGE_FULL python3 /p.py /data > "$CASE_DIR/plain.out" &
run -v "$data:/data" -v "$guest:/p.py:ro" $IMAGE_FULL python3 /p.py /data > "$CASE_DIR/danaus.out"
wait
at_least "attempts" "$(wc -l < "$CASE_DIR/plain.out")" 4000
if ! diff "$CASE_DIR/plain.out" "$CASE_DIR/danaus.out" > "$CASE_DIR/diff"; then
	head -n 60 "$CASE_DIR/diff"
	fail "$(grep -c '^>' "$CASE_DIR/diff") answers differ from a bind volume's (< bind, > Danaus)"
fi
