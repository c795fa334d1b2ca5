#!/usr/bin/env bash
# usage: fetch.sh DIR MODULE...
# Puts an emulator and kernels into DIR, once: QEMU with igb (8 or newer), a busybox for the guest, a kernel whose
# virtio_net and igb have zero copy, and one whose drivers have none, with these modules. All are Debian packages, from backports of the
# mirror that this machine uses anyway; nothing is installed.
set -euo pipefail

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    printf 'fetch.sh: %s\n' "$*" >&2
    exit 1
}

# mirror: the Debian mirror that apt uses here.
mirror() {
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk '$2 == "bookworm" || $2 == "oldstable" || $2 == "stable" { print $1; exit }'
}

# apt_for SUITE...: makes apt see these suites and nothing else, with the packages of this machine as installed.
apt_for() {
    local suite
    rm -rf "$state"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    for suite in "$@"; do
        echo "deb [signed-by=$KEYRING] $site $suite main"
    done >"$state/sources.list"
    cat >"$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$state/lists";
Dir::Cache "$state/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
    export APT_CONFIG=$state/apt.conf
    apt-get update -qq
}

# depends PACKAGE PATTERN: the first dependency of a package that matches.
depends() {
    apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr ',' '\n' | tr -d ' ' |
        sed 's/(.*//' | grep -E -m 1 "$2"
}

# unpack DEBS INTO: every package in a directory.
unpack() {
    local package
    for package in "$1"/*.deb; do
        dpkg-deb -x "$package" "$2"
    done
}

emulator() {
    apt_for bookworm bookworm-backports
    apt-get install -qq -y --download-only --reinstall --no-install-recommends -t bookworm-backports \
        qemu-system-x86 busybox-static >/dev/null
    unpack "$state/cache/archives" "$dir/emulator"
}

# kernel NAME SUITE: the kernel of a suite and our modules.
kernel() {
    local into=$dir/$1 image module packages file
    apt_for "$2"
    image=$(depends "linux-image-amd64/$2" '^linux-image-[0-9]') || fail "$2 has no linux-image-amd64"
    # From 7 on a kernel is several packages.
    if packages=$(depends "$image" '^linux-binary-'); then
        packages="$packages $(depends "$image" '^linux-modules-')"
    else
        packages=$image
    fi
    (cd "$state/cache/archives" && for package in $packages; do apt-get download -qq "$package"; done)
    unpack "$state/cache/archives" "$state/root"
    mkdir -p "$into/modules"
    for module in "${modules[@]}"; do
        # Some are built in.
        file=$(find "$state/root" \( -name "$module.ko*" -o -name "${module//-/_}.ko*" \) -print -quit)
        case $file in
        *.xz) xz -dc "$file" >"$into/modules/$module.ko" ;;
        *.ko) cp "$file" "$into/modules/$module.ko" ;;
        esac
    done
    find "$state/root" -name 'vmlinuz*' -exec cp {} "$into/vmlinuz" \;
    echo "$image" >"$into/version"
}

[ $# -ge 2 ] || fail "usage: fetch.sh DIR MODULE..."
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
modules=("$@")
state=$dir/apt
# With the modules in it: another list fetches again.
complete=$dir/complete
[ "$(cat "$complete" 2>/dev/null)" != "${modules[*]}" ] || exit 0
rm -rf "$dir/emulator" "$dir/new" "$dir/old"
site=$(mirror)
[ -n "$site" ] || fail "apt knows no Debian mirror; see 'apt-get indextargets'"
trap 'rm -rf "$state"' EXIT
emulator
kernel new trixie-backports
kernel old bookworm-backports
echo "${modules[*]}" >"$complete"
