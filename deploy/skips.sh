#!/usr/bin/env bash
# Counts the tests that were skipped, with their reasons, so that no skip is silent.
# usage: skips.sh FOLDER|LOG: a test that cannot run prints one line that begins with SKIP, or writes it to a file in the folder of logs.
# SKIPS=deny makes a skip a failure: for machines that are known to have everything.
set -euo pipefail

main() {
    local logs=$1 count=0
    count=$({ grep -rhs '^SKIP' "$logs" || true; } | wc -l)
    echo "skipped tests: $count"
    [ "$count" -eq 0 ] && return 0
    grep -rhs '^SKIP' "$logs" | sort | uniq -c
    [ "${SKIPS:-allow}" != "deny" ]
}

main "$@"
