#!/usr/bin/env bash
# Two network namespaces joined by a veth pair: the lab of the veth tests, the demo and the benchmark.
# With --middle a third one lies between them, for `sluice-bench link` to forward through; with --narrow it is a router,
# whose link to the client sends no IP packet longer than BYTES.
#
# NAME makes everything unique: namespaces NAME-srv and NAME-cli, links NAMEs and NAMEc; in the middle NAME-mid with
# links NAMEx (towards the server) and NAMEy (towards the client). Each namespace has its
# own loopback, routes, firewall and sysctls, so nothing of the host is touched. The congestion control is set
# because the default differs between kernels; no run learns from the one before (tcp_no_metrics_save).
set -euo pipefail

readonly NETLAB_SERVER_V4=192.0.2.1 NETLAB_CLIENT_V4=192.0.2.2
readonly NETLAB_SERVER_V6=2001:db8::1 NETLAB_CLIENT_V6=2001:db8::2
readonly NETLAB_FAR_V4=198.51.100.2 NETLAB_FAR_V6=2001:db8:1::2
readonly NETLAB_ROUTER_V4=192.0.2.254 NETLAB_ROUTER_V6=2001:db8::fe
readonly NETLAB_ROUTER_FAR_V4=198.51.100.254 NETLAB_ROUTER_FAR_V6=2001:db8:1::fe
readonly NETLAB_CONGESTION=cubic
# Directories of labs are called so, with the name of the lab behind.
readonly NETLAB_SCRATCH=sluice-lab

netlab_usage() {
    cat <<USAGE
usage: netlab.sh up NAME [--mtu BYTES] [--queues COUNT] [--middle|--narrow BYTES]     build it
       netlab.sh hold NAME [--mtu BYTES] [--queues COUNT] [--middle|--narrow BYTES]   build it, say "ready DIR", remove
                                                                                      it when stdin ends
       netlab.sh down NAME                                                  remove it with every process inside

NAME has at most 14 characters (a link name has 15). Server: $NETLAB_SERVER_V4 and $NETLAB_SERVER_V6,
client: $NETLAB_CLIENT_V4 and $NETLAB_CLIENT_V6, or behind a router $NETLAB_FAR_V4 and $NETLAB_FAR_V6. DIR is an empty directory that goes with the lab. Needs root.
USAGE
}

# netlab_namespace NAMESPACE: with loopback, without IPv6 duplicate detection (a second of waiting).
netlab_namespace() {
    ip netns add "$1"
    ip netns exec "$1" bash -euc '
        cd /proc/sys/net
        echo 0 >ipv6/conf/all/accept_dad
        echo 0 >ipv6/conf/default/accept_dad
        echo 1 >ipv4/tcp_no_metrics_save
    '
    ip -n "$1" link set lo up
}

# netlab_address NAMESPACE LINK V4 V6
netlab_address() {
    local control=(congctl "$NETLAB_CONGESTION")
    ip -n "$1" addr add "$3/24" dev "$2" noprefixroute
    ip -n "$1" addr add "$4/64" dev "$2" nodad noprefixroute
    ip -n "$1" link set "$2" up
    ip -n "$1" route add "${3%.*}.0/24" dev "$2" src "$3" "${control[@]}"
    ip -n "$1" route add "${4%::*}::/64" dev "$2" src "$4" "${control[@]}"
}

# netlab_join NAMESPACE LINK NAMESPACE LINK SHAPE...: a veth pair.
netlab_join() {
    local near=$1 near_link=$2 far=$3 far_link=$4
    shift 4
    ip -n "$near" link add "$near_link" "$@" type veth peer name "$far_link" netns "$far" "$@"
}

# netlab_middle NAME SHAPE...: a namespace that forwards nothing by itself, and a veth pair to each end.
#
# Every packet must be one frame with a finished checksum when it gets to the middle: what reads it there sees no
# offload. The middle has no address and no IPv6, so it adds nothing of its own.
netlab_middle() {
    local name=$1
    shift
    netlab_namespace "$name-mid"
    ip netns exec "$name-mid" bash -euc 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
    netlab_join "$name-srv" "${name}s" "$name-mid" "${name}x" "$@"
    netlab_join "$name-cli" "${name}c" "$name-mid" "${name}y" "$@"
    local place
    for place in srv:s mid:x mid:y cli:c; do
        ip netns exec "$name-${place%:*}" ethtool -K "$name${place#*:}" tx off tso off gso off gro off >/dev/null
    done
    ip -n "$name-mid" link set "${name}x" up
    ip -n "$name-mid" link set "${name}y" up
}

# netlab_router NAME NARROW SHAPE...: a router between the ends. Only what it sends to the client is limited, so that
# neither end sees the small MTU on a link of its own.
netlab_router() {
    local name=$1 narrow=$2
    shift 2
    netlab_namespace "$name-mid"
    netlab_join "$name-srv" "${name}s" "$name-mid" "${name}x" "$@"
    netlab_join "$name-mid" "${name}y" "$name-cli" "${name}c" "$@"
    ip netns exec "$name-mid" bash -euc '
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    '
    netlab_address "$name-srv" "${name}s" "$NETLAB_SERVER_V4" "$NETLAB_SERVER_V6"
    netlab_address "$name-mid" "${name}x" "$NETLAB_ROUTER_V4" "$NETLAB_ROUTER_V6"
    netlab_address "$name-mid" "${name}y" "$NETLAB_ROUTER_FAR_V4" "$NETLAB_ROUTER_FAR_V6"
    netlab_address "$name-cli" "${name}c" "$NETLAB_FAR_V4" "$NETLAB_FAR_V6"
    ip -n "$name-mid" link set "${name}y" mtu "$narrow"
    local gateway
    for gateway in "$NETLAB_ROUTER_V4" "$NETLAB_ROUTER_V6"; do
        ip -n "$name-srv" route add default via "$gateway"
    done
    for gateway in "$NETLAB_ROUTER_FAR_V4" "$NETLAB_ROUTER_FAR_V6"; do
        ip -n "$name-cli" route add default via "$gateway"
    done
}

# netlab_neighbour NAMESPACE LINK FAR-NAMESPACE FAR-LINK ADDRESS...: known without asking, because a question that the
# link in the middle loses is asked again a second later, and would decide a short run.
netlab_neighbour() {
    local namespace=$1 link=$2 mac address
    mac=$(ip netns exec "$3" cat "/sys/class/net/$4/address")
    shift 4
    for address in "$@"; do
        ip -n "$namespace" neigh replace "$address" lladdr "$mac" nud permanent dev "$link"
    done
}

# netlab_up NAME [--mtu BYTES] [--queues COUNT] [--middle|--narrow BYTES]
netlab_up() {
    local name=$1 mtu=1500 queues=1 middle=no narrow=
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --mtu) mtu=$2 && shift ;;
            --queues) queues=$2 && shift ;;
            --middle) middle=yes ;;
            --narrow) narrow=$2 && shift ;;
            *) netlab_usage >&2 && return 2 ;;
        esac
        shift
    done
    netlab_namespace "$name-srv"
    netlab_namespace "$name-cli"
    local shape=(mtu "$mtu" numrxqueues "$queues" numtxqueues "$queues")
    if [ -n "$narrow" ]; then
        netlab_router "$name" "$narrow" "${shape[@]}"
        return
    fi
    if [ "$middle" = yes ]; then
        netlab_middle "$name" "${shape[@]}"
    else
        netlab_join "$name-srv" "${name}s" "$name-cli" "${name}c" "${shape[@]}"
    fi
    netlab_address "$name-srv" "${name}s" "$NETLAB_SERVER_V4" "$NETLAB_SERVER_V6"
    netlab_address "$name-cli" "${name}c" "$NETLAB_CLIENT_V4" "$NETLAB_CLIENT_V6"
    if [ "$middle" = yes ]; then
        netlab_neighbour "$name-srv" "${name}s" "$name-cli" "${name}c" "$NETLAB_CLIENT_V4" "$NETLAB_CLIENT_V6"
        netlab_neighbour "$name-cli" "${name}c" "$name-srv" "${name}s" "$NETLAB_SERVER_V4" "$NETLAB_SERVER_V6"
    fi
}

# netlab_down NAME: harmless if there is nothing (left) to remove.
netlab_down() {
    local namespace pids
    for namespace in "$1-srv" "$1-mid" "$1-cli"; do
        mapfile -t pids < <(ip netns pids "$namespace" 2>/dev/null)
        [ "${#pids[@]}" -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
        ip netns del "$namespace" 2>/dev/null || true
    done
}

# netlab_sweep: removes the labs of holders that were killed themselves. A holder locks its directory for as long as it
# lives: what somebody else can lock is nobody's any more, whatever process ids are used again.
netlab_sweep() {
    local place scratch
    for place in "${TMPDIR:-/tmp}" /dev/shm; do
        for scratch in "$place/$NETLAB_SCRATCH".*; do
            if [ -d "$scratch" ] && [ ! -L "$scratch" ] && [ -O "$scratch" ]; then
                netlab_sweep_one "$scratch" || true
            fi
        done
    done
}

# netlab_sweep_one DIR: unless its holder lives.
netlab_sweep_one() (
    exec 9<"$1" && flock --nonblock 9 || exit 0
    local name=${1##*/"$NETLAB_SCRATCH".}
    netlab_down "${name%.*}"
    rm -rf "$1"
)

# Whoever holds the other end of stdin may end in any way, SIGKILL included: the lab goes with it.
netlab_hold() {
    local fresh scratch
    netlab_sweep
    fresh=$(mktemp -d)
    # The lock first, then the name that says what goes with the directory.
    exec 9<"$fresh"
    flock 9
    scratch=${fresh%/*}/$NETLAB_SCRATCH.$1.${fresh##*.}
    mv -T "$fresh" "$scratch"
    # shellcheck disable=SC2064 # the values of now are meant
    trap "netlab_down '$1'; rm -rf '$scratch'" EXIT
    netlab_up "$@"
    echo "ready $scratch"
    cat >/dev/null
}

netlab_main() {
    [ $# -ge 2 ] || { netlab_usage >&2 && return 2; }
    local verb=$1
    shift
    case $verb in
        up) netlab_up "$@" ;;
        hold) netlab_hold "$@" ;;
        down) netlab_down "$@" ;;
        *) netlab_usage >&2 && return 2 ;;
    esac
}

# Sourced by demo.sh, executed by everyone else.
if [ "${BASH_SOURCE[0]:-$0}" = "$0" ]; then
    netlab_main "$@"
fi
