#!/usr/bin/env bash
# Counts the tests that were skipped, with their reasons, so that no skip is silent.
# A test that cannot run writes one line to a file in the given directory.
set -euo pipefail

main() {
    local folder=$1 count=0
    if [ -d "$folder" ]; then
        count=$(find "$folder" -type f -exec cat {} + | wc -l)
    fi
    if [ "$count" -gt 0 ]; then
        echo "skipped tests: $count"
        find "$folder" -type f -exec cat {} +
        # CI runs as root on a kernel that has everything: a skip there is a failure.
        [ "${CI:-}" != "true" ] || return 1
    else
        echo "skipped tests: 0"
    fi
}

main "$@"
