#!/usr/bin/env bash
# Installs the given Debian packages that are missing. Quick and quiet when nothing is.
set -euo pipefail

missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || echo "$package"
    done
}

main() {
    command -v dpkg-query >/dev/null || {
        echo "setup: not a Debian system; install by hand: $*" >&2
        return 0
    }
    local wanted
    mapfile -t wanted < <(missing "$@")
    [ "${#wanted[@]}" -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: missing packages: ${wanted[*]}" >&2
        echo "setup: run as root, or: sudo apt-get install ${wanted[*]}" >&2
        return 1
    fi
    echo "setup: installing ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

main "$@"
