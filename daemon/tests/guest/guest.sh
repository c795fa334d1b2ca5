# shellcheck shell=bash
# Boots a guest of QEMU, emulated without KVM, which CI machines rarely have. Sourced by the tests that need another
# kernel or other drivers than this machine has; they need no root.
#
# A guest runs one task, a script that init reads, from an initramfs with busybox, our daemon and what the task names.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly GUEST_CACHE=${GUEST_CACHE:-$HERE/../../../target/guest}
# A boot takes seconds; a guest that hangs is ended.
readonly GUEST_SECONDS=300
# In the order in which they need one another.
readonly GUEST_MODULES=(failover net_failover virtio_net dca i2c-algo-bit igb vmxnet3 veth nfnetlink nf_tables nft_numgen)

# guest_setup NAME: fetches what is needed, or says SKIP and ends the script.
guest_setup() {
    "$HERE/fetch.sh" "$GUEST_CACHE" "${GUEST_MODULES[@]}" || {
        echo "SKIP $1 test: the packages of the guest cannot be fetched, see above"
        exit 0
    }
    guest_work=$(mktemp -d)
    trap 'rm -rf "$guest_work"' EXIT
}

# guest_install ROOT FILE AT: a program and its libraries.
guest_install() {
    local library
    mkdir -p "$(dirname "$1/$3")"
    rm -f "$1/$3"
    strip -o "$1/$3" "$2"
    # Lines of ldd: "name => path (address)", and the loader's "path (address)".
    ldd "$2" | grep -o '/[^ ]*' | while read -r library; do
        install -D "$library" "$1$library"
    done
}

# guest_initramfs KERNEL TASK PROGRAM...: each program is FILE, for /bin, or FILE=AT. Prints where it is.
guest_initramfs() {
    local root=$guest_work/root kernel=$1 task=$2 program at
    shift 2
    rm -rf "$root"
    mkdir -p "$root"/{bin,modules,proc,sys,dev,var}
    ln -s ../run "$root/var/run"
    cp "$GUEST_CACHE/emulator/bin/busybox" "$root/bin/"
    "$root/bin/busybox" --list | while read -r program; do
        [ "$program" = busybox ] || ln -s busybox "$root/bin/$program"
    done
    for program in "$@"; do
        at=/bin/$(basename "$program")
        [ "${program%=*}" = "$program" ] || at=${program#*=}
        guest_install "$root" "${program%=*}" "$at"
    done
    cp "$GUEST_CACHE/$kernel/modules/"* "$root/modules/"
    printf '%s\n' "${GUEST_MODULES[@]}" >"$root/modules/order"
    install -m 755 "$HERE/init" "$root/init"
    cp "$HERE/$task.task" "$root/task"
    (cd "$root" && find . | "$GUEST_CACHE/emulator/bin/busybox" cpio -o -H newc 2>/dev/null) |
        gzip -1 >"$guest_work/initramfs.gz"
    echo "$guest_work/initramfs.gz"
}

# guest_nic DRIVER HUB NUMBER: arguments for a NIC of a driver on a hub. igb wants a root port of its own.
guest_nic() {
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

# guest_boot KERNEL INITRAMFS ARGUMENTS DRIVER...: boots it with two NICs per driver, joined by a hub. Fails unless the
# task says that it passed.
guest_boot() {
    local kernel=$1 initramfs=$2 arguments=$3 hub=0 driver qemu nics=()
    shift 3
    qemu=$GUEST_CACHE/emulator/usr/bin/qemu-system-x86_64
    [ -x "$qemu" ] || qemu=$(command -v qemu-system-x86_64)
    printf '== %s %s\n' "$(cat "$GUEST_CACHE/$kernel/version")" "$arguments"
    for driver in "$@"; do
        # shellcheck disable=SC2207 # arguments
        nics+=($(guest_nic "$driver" "$hub" 0) $(guest_nic "$driver" "$hub" 1))
        hub=$((hub + 1))
    done
    LD_LIBRARY_PATH=$GUEST_CACHE/emulator/usr/lib/x86_64-linux-gnu:$GUEST_CACHE/emulator/lib/x86_64-linux-gnu \
        timeout "$GUEST_SECONDS" "$qemu" \
        -L "$GUEST_CACHE/emulator/usr/share/qemu" -L "$GUEST_CACHE/emulator/usr/share/seabios" \
        -nodefaults -no-user-config -display none -no-reboot -machine q35 -accel tcg -cpu max -smp 2 -m 768 \
        -kernel "$GUEST_CACHE/$kernel/vmlinuz" -initrd "$initramfs" -serial stdio "${nics[@]}" \
        -append "console=ttyS0 quiet panic=-1 oops=panic $arguments" \
        </dev/null 2>"$guest_work/qemu.log" | tr -d '\r' | tee "$guest_work/guest.log" || true
    grep -q '^VERDICT passed$' "$guest_work/guest.log" || {
        cat "$guest_work/qemu.log" >&2
        printf 'guest: FAILED: %s\n' "$arguments" >&2
        return 1
    }
}
