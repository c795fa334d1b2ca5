#!/usr/bin/env bash
# Accurate ECN with Linux as the peer: the veth tests that kernels before 7.0 cannot run, in a guest with a newer one.
set -euo pipefail

# shellcheck source=daemon/tests/guest/guest.sh
source "$(dirname "${BASH_SOURCE[0]}")/guest.sh"
readonly TREE=$HERE/../../..
# What the lab of the veth tests runs.
readonly TOOLS=(bash ip ethtool nft curl sysctl nstat flock)

# veth_tests: builds them and prints where they are.
veth_tests() {
    (cd "$TREE" && cargo test --locked --release -p sluiced --test veth --no-run --message-format=json) |
        sed -n 's/.*"executable":"\([^"]*\/veth-[^"]*\)".*/\1/p'
}

main() {
    local tests programs=() tool
    tests=${VETH_TESTS:-$(veth_tests)}
    # The tests know their daemon by its place in the build.
    local daemon=${SLUICED:-$TREE/target/release/sluiced}
    daemon=$(realpath "$daemon")
    guest_setup "Accurate ECN"
    for tool in "${TOOLS[@]}"; do
        programs+=("$(command -v "$tool")")
    done
    guest_boot new "$(guest_initramfs new accecn "$tests=/bin/veth" "$daemon=$daemon" "${programs[@]}")" ""
}

main "$@"
