#!/usr/bin/env bash
# Replaces the committed corpora by small ones: of everything found so far (target/fuzz/corpus and what is
# committed), the fewest inputs that cover the same, at most 150 files of at most a kilobyte per target.
#   fuzz/minimise.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
source fuzz/common.sh

FILES_MAX=150

main() {
    can_fuzz || return 0
    local targets=("$@") target
    [ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(all_targets)
    build_targets "${targets[@]}"
    for target in "${targets[@]}"; do
        minimise "$target"
    done
}

minimise() {
    local target=$1 kept
    kept=$(mktemp -d)
    mkdir -p "$OUT/corpus/$target" "$kept/edges" "$kept/counters"
    merge "$target" 0 "$kept/edges"
    merge "$target" 1 "$kept/counters"
    # Every edge first, the longest inputs before the others because they cover most; then short ones that differ
    # in how often edges are taken, as far as they fit. Names are hashes of the contents.
    rm -rf "fuzz/corpus/$target"
    mkdir -p "fuzz/corpus/$target"
    { by_size "$kept/edges" -nr; by_size "$kept/counters" -n; } | while read -r file; do
        # Reads on to the end: who stops reading early ends the writers by a signal.
        [ "$(find "fuzz/corpus/$target" -type f | wc -l)" -lt "$FILES_MAX" ] || continue
        cp "$file" "fuzz/corpus/$target/$(sha1sum "$file" | cut -c 1-16)"
    done
    rm -rf "$kept"
    printf '%-12s %4d files\n' "$target" "$(find "fuzz/corpus/$target" -type f | wc -l)"
}

# The fewest inputs that cover the same, with or without counts, into a folder.
merge() {
    local target=$1 counters=$2 to=$3
    nice -n 10 "$(binary "$target")" -set_cover_merge=1 -use_counters="$counters" -max_len="$INPUT_BYTES_MAX" \
        "$to" "fuzz/corpus/$target" "$OUT/corpus/$target" >/dev/null 2>&1
}

by_size() {
    find "$1" -type f -size -1025c -printf '%s %p\n' | sort "$2" | cut -d' ' -f2-
}

main "$@"
