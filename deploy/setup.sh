#!/usr/bin/env bash
# usage: setup.sh RUST PACKAGE...
# Installs the given Debian packages that are missing and sees that Rust is at least RUST. Quick and quiet when all is
# there. No service that comes with them is started, now or at the next boot; what was there before is left alone.
set -euo pipefail

readonly POLICY=/usr/sbin/policy-rc.d

missing() {
    local package
    for package in "$@"; do
        # A package that was removed is still known by its configuration files.
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

packages() {
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
    forbid_starts
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
    # Only one that was not here before: an nginx of the user's own is to start with the machine as it did.
    if [[ " ${wanted[*]} " == *" nginx-light "* ]] && command -v systemctl >/dev/null; then
        systemctl disable --quiet nginx || true
    fi
}

# A web server that somebody wants to measure is not to take port 80. invoke-rc.d(8) asks this file, and 101 is no.
forbid_starts() {
    [ -e "$POLICY" ] && return 0
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

# rust LEAST: Debian's own is too old, and a toolchain is not a thing to install behind somebody's back.
rust() {
    local least=$1 found
    if ! found=$(cargo --version 2>/dev/null | cut -d' ' -f2); then
        echo "setup: no cargo in PATH; Rust $least or newer is needed: https://rustup.rs" >&2
        echo "setup: installed for your user only? sudo env \"PATH=\$PATH\" make ..." >&2
        return 1
    fi
    if [ "$(printf '%s\n' "$least" "$found" | sort -V | head -n 1)" != "$least" ]; then
        echo "setup: cargo $found is too old, Rust $least or newer is needed: rustup update stable" >&2
        return 1
    fi
}

rust "$1"
shift
packages "$@"
