# Shared by run.sh and minimise.sh. The caller stands in the root of the tree.
# shellcheck shell=bash

# Inputs are short, or replaying them would not fit into a test run.
export INPUT_BYTES_MAX=1024

OUT=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
HOST=$(rustc -vV | sed -n 's/^host: //p')

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

# Whether every comparison is reported to the fuzzer. That finds the magic numbers of a format and costs half of the
# executions; the targets that are given operations know none.
compares() {
    case $1 in
        stack | ranges | wheel | flows) return 1 ;;
        *) return 0 ;;
    esac
}

# Builds targets. Without a sanitizer: no unsafe code is reached from a target, and what is wanted are executions.
# Debug assertions and overflow checks are on.
build_targets() {
    local target options
    for target; do
        options=(--fuzz-dir fuzz/targets --sanitizer none)
        compares "$target" || options+=(--no-trace-compares)
        CARGO_TARGET_DIR=$(build_folder "$target") cargo +nightly fuzz build "${options[@]}" "$target"
    done
}

# The two ways of building have folders of their own, or one would undo the other.
build_folder() {
    if compares "$1"; then echo "$OUT"; else echo "$OUT/operations"; fi
}

binary() {
    echo "$(build_folder "$1")/$HOST/release/$1"
}

all_targets() {
    cargo +nightly fuzz list --fuzz-dir fuzz/targets
}

dictionary() {
    case $1 in
        http_chunks) echo fuzz/chunks.dict ;;
        http_*) echo fuzz/http.dict ;;
        config) echo fuzz/config.dict ;;
        *) echo "" ;;
    esac
}
