#!/usr/bin/env bash
# The first transfer: sluiced on AF_XDP in one network namespace, curl over kernel TCP in another.
# Every byte is compared by SHA-256, every step prints its throughput, and the kernel backend repeats the first.
set -euo pipefail

readonly PORT=8080
readonly BIG_MIB=1024 LOSSY_MIB=100 SMALL_FILES=1000 PARALLEL=64
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly SLUICED=${SLUICED:-$HERE/../target/release/sluiced}
readonly NAME=sld$$

# shellcheck source=bench/netlab.sh
source "$HERE/netlab.sh"

usage() {
    cat <<USAGE
usage: make demo     (or bench/demo.sh after make build; needs root)

Downloads from sluiced over a veth pair and compares every SHA-256: 1 GiB, $SMALL_FILES small files, $PARALLEL files
at once, a range, a resume after a killed client, ${LOSSY_MIB} MiB with 1 % loss, and the 1 GiB once more from the
kernel backend. Network namespaces and files are removed at the end, also after Ctrl-C.
SLUICED=FILE runs another binary.
USAGE
}

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'demo: FAILED: %s\n' "$*" >&2
    exit 1
}

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ] && [ -s "${folder:-}/sluiced.log" ]; then
        printf '\n-- the log of sluiced\n' >&2
        cat "$folder/sluiced.log" >&2
    fi
    netlab_down "$NAME"
    [ -z "${folder:-}" ] || rm -rf "$folder"
    exit "$status"
}

client() { ip netns exec "$NAME-cli" "$@"; }
url() { printf 'http://%s:%s/%s' "$NETLAB_SERVER_V4" "$PORT" "$1"; }
now_ms() { date +%s%3N; }

# poll SECONDS COMMAND...: until the command succeeds.
poll() {
    local end=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$end" ] || return 1
        sleep 0.02
    done
}

# rate BYTES MILLISECONDS
rate() {
    awk -v bytes="$1" -v ms="$2" 'BEGIN {
        ms = ms < 1 ? 1 : ms
        printf "%.2f Gbit/s (%.0f MiB in %.2f s)", bytes * 8 / ms / 1e6, bytes / 1048576, ms / 1000
    }'
}

# step WHAT BYTES COMMAND...: runs and times a command and prints what came of it.
step() {
    local what=$1 bytes=$2 begin
    shift 2
    begin=$(now_ms)
    "$@" || fail "$what"
    printf '  %-44s %s\n' "$what" "$(rate "$bytes" $(($(now_ms) - begin)))"
}

make_files() {
    mkdir "$folder/site" "$folder/got"
    head -c "${BIG_MIB}M" /dev/urandom >"$folder/site/big.bin"
    head -c "${LOSSY_MIB}M" "$folder/site/big.bin" >"$folder/site/lossy.bin"
    # 0 to 16 KiB, and 64 files of 4 MiB; all are pieces of the big one.
    (cd "$folder/site" && python3 - "$SMALL_FILES" "$PARALLEL" <<'PYTHON'
import sys
small, parallel = map(int, sys.argv[1:])
with open("big.bin", "rb") as big:
    for number in range(small):
        with open(f"small-{number}.bin", "wb") as file:
            file.write(big.read(number * 7919 % 16384))
    for number in range(parallel):
        with open(f"parallel-{number}.bin", "wb") as file:
            file.write(big.read(4 << 20))
PYTHON
        sha256sum -- *.bin >"$folder/sums")
}

# verify PATTERN: the sums of what was downloaded under these names.
verify() {
    (cd "$folder/got" && grep -E " $1\$" "$folder/sums" | sha256sum --check --quiet --strict) ||
        fail "SHA-256 of $1 differs"
}

# bytes_of GLOB: of the served files.
bytes_of() { find "$folder/site" -name "$1" -printf '%s\n' | awk '{ sum += $1 } END { print sum }'; }

# start_daemon BACKEND
start_daemon() {
    local backend=$1
    : >"$folder/sluiced.log"
    : >"$folder/sluiced.out"
    ip netns exec "$NAME-srv" "$SLUICED" --root "$folder/site" --port "$PORT" --interface "${NAME}s" \
        --backend "$backend" --listen-address "$NETLAB_SERVER_V4" \
        >"$folder/sluiced.out" 2>"$folder/sluiced.log" &
    daemon=$!
    poll 20 is_ready_or_gone || fail "sluiced is not ready"
    kill -0 "$daemon" 2>/dev/null || fail "sluiced did not start"
    sed -n 's/^.*ready: /  /p' "$folder/sluiced.log"
}

is_ready_or_gone() { grep -q 'ready:' "$folder/sluiced.log" || ! kill -0 "$daemon" 2>/dev/null; }

stop_daemon() {
    kill -TERM "$daemon"
    wait "$daemon" || fail "sluiced ended with status $?"
}

download() { client curl -sS --no-progress-meter --fail --max-time 60 -o "$folder/got/$1" "$(url "$1")"; }

download_small() {
    (cd "$folder/got" && client curl -sS --no-progress-meter --fail --max-time 60 --remote-name "$(url "small-[0-$((SMALL_FILES - 1))].bin")")
}

download_parallel() {
    (cd "$folder/got" && client curl -sS --no-progress-meter --fail --max-time 60 --parallel --parallel-immediate \
        --parallel-max "$PARALLEL" --remote-name "$(url "parallel-[0-$((PARALLEL - 1))].bin")")
}

download_range() {
    local first=123456789 last=234567890
    client curl -sS --no-progress-meter --fail --max-time 60 --range "$first-$last" -o "$folder/got/range" "$(url big.bin)"
    cmp -- "$folder/got/range" <(tail -c "+$((first + 1))" "$folder/site/big.bin" | head -c "$((last - first + 1))")
}

# A client that is killed when some of the file has arrived, and a second one that fetches the rest.
begin_and_kill() {
    rm -f "$folder/got/big.bin"
    # Not `client`: a function in the background is a shell, and killing it would leave curl running.
    ip netns exec "$NAME-cli" \
        curl -sS --no-buffer --limit-rate 400M -o "$folder/got/big.bin" "$(url big.bin)" &
    local victim=$!
    poll 20 has_some || fail "the download that was to be killed did not begin"
    kill -KILL "$victim"
    wait "$victim" 2>/dev/null || true
}

has_some() { [ "$(stat -c %s "$folder/got/big.bin" 2>/dev/null || echo 0)" -ge $((100 << 20)) ]; }
resume() { client curl -sS --no-progress-meter --fail --max-time 60 -C - -o "$folder/got/big.bin" "$(url big.bin)"; }

lose_one_percent() {
    client nft "table netdev loss {
        chain ingress { type filter hook ingress device \"${NAME}c\" priority 0; policy accept;
            numgen random mod 100 < 1 counter drop
        }
    }"
}

# report FROM: the tables that SIGUSR1 or the end printed after byte FROM of the output.
report() { tail -c "+$(($1 + 1))" "$folder/sluiced.out"; }

main() {
    case ${1:-} in
        '') ;;
        -h | --help) usage && return ;;
        *) usage >&2 && return 2 ;;
    esac
    [ "$(id -u)" -eq 0 ] || fail "needs root for network namespaces and AF_XDP: sudo make demo"
    [ -x "$SLUICED" ] || fail "$SLUICED is missing: make build"
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    folder=$(mktemp -d)

    say "files: $BIG_MIB MiB of random bytes, $SMALL_FILES small files, $PARALLEL of 4 MiB"
    make_files
    netlab_up "$NAME"

    say "sluiced on AF_XDP, kernel $(uname -r), $(nproc) CPUs"
    start_daemon xdp
    local before kept
    step "$BIG_MIB MiB, one connection" $((BIG_MIB << 20)) download big.bin
    verify big.bin
    step "$SMALL_FILES small files, one connection" "$(bytes_of 'small-*')" download_small
    verify 'small-[0-9]+.bin'
    step "$PARALLEL files at once" "$(bytes_of 'parallel-*')" download_parallel
    verify 'parallel-[0-9]+.bin'
    step "a range" $((234567890 - 123456789 + 1)) download_range
    begin_and_kill
    kept=$(stat -c %s "$folder/got/big.bin")
    step "the rest after a kill at $((kept >> 20)) MiB (-C -)" $(((BIG_MIB << 20) - kept)) resume
    verify big.bin
    lose_one_percent
    step "$LOSSY_MIB MiB with 1 % loss" $((LOSSY_MIB << 20)) download lossy.bin
    verify lossy.bin
    client nft list table netdev loss | sed -n 's/.*counter packets \([0-9]*\).*/  frames lost on the way: \1/p'
    client nft delete table netdev loss
    before=$(stat -c %s "$folder/sluiced.out")
    stop_daemon
    say "latencies and counters of that run"
    report "$before"

    say "the same file from the kernel backend"
    start_daemon kernel
    step "$BIG_MIB MiB, one connection" $((BIG_MIB << 20)) download big.bin
    verify big.bin
    stop_daemon
    printf '  (between the namespaces kernel TCP sends super-packets of 64 KiB that no wire sees;\n'
    printf '   make bench compares at equal packet size)\n'

    say "every SHA-256 was right; removing the namespaces"
}

main "$@"
