#!/usr/bin/env bash
# Zero copy on drivers that have it, and the way back where they do not: sluiced and a client in a guest, on NICs that
# QEMU emulates.
set -euo pipefail

# shellcheck source=daemon/tests/guest/guest.sh
source "$(dirname "${BASH_SOURCE[0]}")/guest.sh"
readonly SLUICED=${SLUICED:-$HERE/../../../target/release/sluiced}

usage() {
    cat <<USAGE
usage: make test-zerocopy     (or daemon/tests/guest/zerocopy.sh after make build)

Boots guests with virtio-net, igb and vmxnet3, where sluiced sends a file and stores one over each: bound in zero copy
where the driver can, copied with a clear message where it cannot; in the driver and where "auto" attaches; and in packets of
several frames where driver and kernel have those. SLUICED=FILE runs another binary, GUEST_CACHE=DIR keeps
the emulator and the kernels elsewhere.
USAGE
}

main() {
    local new old curl
    case ${1:-} in
        -h | --help)
            usage
            return 0
            ;;
    esac
    [ -x "$SLUICED" ] || {
        printf 'zerocopy.sh: no %s; run make build first\n' "$SLUICED" >&2
        return 1
    }
    guest_setup zero-copy
    # Of the guests, without what was fetched.
    SECONDS=0
    # busybox has no PUT.
    curl=$(command -v curl)
    new=$(guest_initramfs new zerocopy "$SLUICED=/bin/sluiced" "$curl")
    guest_boot new "$new" ipv6.disable=1\ sluice.cases=virtio_net:zero-copy,igb:zero-copy,vmxnet3:copy \
        virtio igb vmxnet3
    # Without the IOMMU's addresses virtio_net refuses zero copy.
    guest_boot new "$new" ipv6.disable=1\ sluice.cases=virtio_net:copy:jumbo virtio-direct
    old=$(guest_initramfs old zerocopy "$SLUICED=/bin/sluiced" "$curl")
    guest_boot old "$old" ipv6.disable=1\ sluice.cases=virtio_net:copy,igb:copy virtio igb
    echo "zero copy: passed in $SECONDS s"
}

main "$@"
