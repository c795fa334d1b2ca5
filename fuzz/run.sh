#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other, and prints what was executed.
#   fuzz/run.sh SECONDS [TARGET...]
# Inputs that show something new go to target/fuzz/corpus; the committed corpora are read, never written
# (fuzz/minimise.sh does that). A failing input is kept in target/fuzz/artifacts and its path is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
source fuzz/common.sh

main() {
    local seconds=$1 target failed=0 total=0
    shift
    can_fuzz || return 0
    local targets=("$@")
    [ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(all_targets)
    build_targets "${targets[@]}"
    printf '%-12s %14s %10s %8s %8s\n' target executions per-second edges inputs
    for target in "${targets[@]}"; do
        run_target "$target" "$seconds" || failed=1
        total=$((total + $(stat_of "$target" number_of_executed_units)))
    done
    printf '%-12s %14d\n' total "$total"
    return "$failed"
}

run_target() {
    local target=$1 seconds=$2 log status=0
    log=$OUT/logs/$target.log
    mkdir -p "$OUT/logs" "$OUT/corpus/$target" "$OUT/artifacts/$target"
    local options=(-max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1
        -max_len="$INPUT_BYTES_MAX" -artifact_prefix="$OUT/artifacts/$target/")
    [ "$(dictionary "$target")" = "" ] || options+=("-dict=$(dictionary "$target")")
    nice -n 10 "$(binary "$target")" "${options[@]}" "$OUT/corpus/$target" "fuzz/corpus/$target" >"$log" 2>&1 || status=$?
    printf '%-12s %14d %10d %8s %8s\n' "$target" "$(stat_of "$target" number_of_executed_units)" \
        "$(stat_of "$target" average_exec_per_sec)" "$(last_of "$target" cov)" "$(last_of "$target" corp)"
    if [ "$status" -ne 0 ]; then
        echo "FAILED $target:"
        grep -m 1 -A 2 -E 'panicked at|ERROR: libFuzzer' "$log" || tail -n 5 "$log"
        grep 'Test unit written to' "$log" || true
        return 1
    fi
}

# A number that libFuzzer prints at its end: 0 if it did not come so far.
stat_of() {
    local number
    number=$(sed -n "s/^stat::$2: *//p" "$OUT/logs/$1.log" | tail -n 1)
    echo "${number:-0}"
}

# A field of its last progress line, such as `cov: 557` or `corp: 657/56Kb`.
last_of() {
    sed -n "s/^#.* $2: \([0-9]*\).*/\1/p" "$OUT/logs/$1.log" | tail -n 1
}

main "${@:-60}"
