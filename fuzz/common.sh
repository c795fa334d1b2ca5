# Shared by run.sh and minimise.sh. The caller stands in the root of the tree.
# shellcheck shell=bash

# Inputs are short, or replaying them would not fit into a test run.
export INPUT_BYTES_MAX=1024

OUT=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
BIN=$OUT/$(rustc -vV | sed -n 's/^host: //p')/release
export BIN

can_fuzz() {
    if ! cargo +nightly --version >/dev/null 2>&1; then
        echo "SKIP fuzz: no nightly toolchain (rustup toolchain install nightly)"
        return 1
    fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        echo "SKIP fuzz: no cargo-fuzz (cargo install cargo-fuzz --locked)"
        return 1
    fi
}

# Without a sanitizer: no unsafe code is reached from a target, and what is wanted are executions. Debug
# assertions and overflow checks are on. FUZZ_COMPARES=yes also reports every comparison to the fuzzer, which finds
# magic numbers and costs half of the executions: the targets of operations know none.
build_targets() {
    local options=(--sanitizer none)
    [ "${FUZZ_COMPARES:-no}" = yes ] || options+=(--no-trace-compares)
    CARGO_TARGET_DIR=$OUT cargo +nightly fuzz build --fuzz-dir fuzz/targets "${options[@]}" "$@"
}

all_targets() {
    cargo +nightly fuzz list --fuzz-dir fuzz/targets
}

dictionary() {
    case $1 in
        http_*) echo fuzz/http.dict ;;
        config) echo fuzz/config.dict ;;
        *) echo "" ;;
    esac
}
