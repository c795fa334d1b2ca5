#!/usr/bin/env bash
# Counts the tests that were skipped, with their reasons, so that no skip is silent.
# A test that cannot run prints one line that begins with SKIP, or writes it to a file in the log folder.
# SKIPS=deny makes a skip a failure: for machines that are known to have everything.
set -euo pipefail

main() {
    local folder=$1 count=0
    count=$({ grep -rhs '^SKIP' "$folder" || true; } | wc -l)
    echo "skipped tests: $count"
    [ "$count" -eq 0 ] && return 0
    grep -rhs '^SKIP' "$folder" | sort | uniq -c
    [ "${SKIPS:-allow}" != "deny" ]
}

main "$@"
