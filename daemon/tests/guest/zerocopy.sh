#!/usr/bin/env bash
# Zero copy on drivers that have it, and the way back where they do not: sluiced and a client in a QEMU guest, emulated
# without KVM, which CI machines rarely have. Needs no root and no network but for the packages of the first run.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly CACHE=${GUEST_CACHE:-$HERE/../../../target/guest}
readonly SLUICED=${SLUICED:-$HERE/../../../target/release/sluiced}
# A boot takes seconds; a guest that hangs is ended.
readonly SECONDS_MAX=170

usage() {
    cat <<USAGE
usage: make test-zerocopy     (or daemon/tests/guest/zerocopy.sh after make build)

Boots guests with virtio-net, igb and vmxnet3 and serves a file from each: bound in zero copy where the driver can,
copied with a clear message where it cannot. SLUICED=FILE runs another binary, GUEST_CACHE=DIR keeps the emulator and
the kernels elsewhere.
USAGE
}

# initramfs KERNEL INTO: busybox, the daemon with its libraries, modules.
initramfs() {
    local root=$work/root library
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev"
    cp "$CACHE/emulator/bin/busybox" "$root/bin/"
    "$root/bin/busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    strip -o "$root/bin/sluiced" "$SLUICED"
    # Lines of ldd: "name => path (address)", and the loader's "path (address)".
    ldd "$SLUICED" | grep -o '/[^ ]*' | while read -r library; do
        install -D "$library" "$root$library"
    done
    cp "$CACHE/$1/modules/"* "$root/modules/"
    install -m 755 "$HERE/init" "$root/init"
    (cd "$root" && find . | "$CACHE/emulator/bin/busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$2"
}

# nic DRIVER HUB NUMBER: arguments for a NIC of a driver on a hub. igb wants a root port of its own.
nic() {
    local id=n$2$3 device=$1 bus=
    case $1 in
    virtio) device=virtio-net-pci,disable-legacy=on,iommu_platform=on ;;
    virtio-direct) device=virtio-net-pci,disable-legacy=on ;;
    igb)
        echo "-device pcie-root-port,id=port$id,chassis=$2$3"
        bus=,bus=port$id
        ;;
    esac
    echo "-netdev hubport,id=$id,hubid=$2 -device $device,netdev=$id,romfile=$bus"
}

# guest KERNEL CASES DRIVER...: boots it with a pair of NICs per driver.
guest() {
    local kernel=$1 cases=$2 hub=0 driver libraries=usr/lib/x86_64-linux-gnu nics=()
    shift 2
    printf '== %s: %s\n' "$(cat "$CACHE/$kernel/version")" "$cases"
    initramfs "$kernel" "$work/initramfs.gz"
    for driver in "$@"; do
        # shellcheck disable=SC2207 # arguments
        nics+=($(nic "$driver" "$hub" 0) $(nic "$driver" "$hub" 1))
        hub=$((hub + 1))
    done
    LD_LIBRARY_PATH=$CACHE/emulator/$libraries:$CACHE/emulator/lib/x86_64-linux-gnu \
        timeout "$SECONDS_MAX" "$qemu" \
        -L "$CACHE/emulator/usr/share/qemu" -L "$CACHE/emulator/usr/share/seabios" \
        -nodefaults -no-user-config -display none -no-reboot -machine q35 -accel tcg -cpu max -smp 2 -m 768 \
        -kernel "$CACHE/$kernel/vmlinuz" -initrd "$work/initramfs.gz" -serial stdio "${nics[@]}" \
        -append "console=ttyS0 quiet panic=-1 oops=panic ipv6.disable=1 sluice.cases=$cases" \
        </dev/null 2>"$work/qemu.log" | tr -d '\r' | tee "$work/guest.log" || true
    grep -q '^VERDICT passed$' "$work/guest.log" || {
        cat "$work/qemu.log" >&2
        printf 'zerocopy.sh: FAILED: the guest with %s\n' "$cases" >&2
        exit 1
    }
}

case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
esac
[ -x "$SLUICED" ] || {
    printf 'zerocopy.sh: no %s; run make build first\n' "$SLUICED" >&2
    exit 1
}
"$HERE/fetch.sh" "$CACHE" || {
    echo "SKIP zero-copy test: the packages of the guest cannot be fetched, see above"
    exit 0
}
qemu=$CACHE/emulator/usr/bin/qemu-system-x86_64
[ -x "$qemu" ] || qemu=$(command -v qemu-system-x86_64)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
guest new virtio_net:zero-copy,igb:zero-copy,vmxnet3:copy virtio igb vmxnet3
# Without the IOMMU's addresses virtio_net refuses zero copy.
guest new virtio_net:copy virtio-direct
guest old virtio_net:copy,igb:copy virtio igb
