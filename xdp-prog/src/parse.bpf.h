/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading headers. The daemon loads this program without CAP_PERFMON, and then the verifier forbids three habits of other
 * XDP programs: to subtract packet pointers, to compare one with null, and to add anything but a constant to one. So:
 *
 * - Up to the fixed part of the IP header a cursor moves in constant steps. Each step checks its bounds and says whether
 *   the linear part of the frame reaches that far; headers are read through a pointer taken before the step.
 * - What follows at a computed offset (behind IPv4 options or IPv6 extension headers) is copied to the stack.
 *
 * Multi-byte fields stay in network byte order, as on the wire.
 */
#ifndef SLUICE_PARSE_BPF_H
#define SLUICE_PARSE_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

#define IPV4_FRAGMENT_MASK 0x3fff /* MF and the offset, without DF and the reserved bit */
#define IPV4_OFFSET_MASK 0x1fff
#define IPV6_OFFSET_MASK 0xfff8
#define TCP_HEADER_MIN 20
#define TCP_PORTS_LEN 4
#define ICMPV6_NEIGHBOR_SOLICITATION 135
#define ARP_HARDWARE_ETHERNET 1

struct cursor {
	void *pos;
	void *end;
};

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_ip[4];
} __attribute__((packed));

/* The common start of hop-by-hop, routing and destination options (RFC 8200 section 4), and the fragment header. */
struct extension {
	__u8 next;
	__u8 len; /* in 8 bytes, without the first 8; reserved in a fragment header */
	union {
		struct {
			__u8 type;
			__u8 segments_left;
		} routing;
		__be16 fragment; /* offset, 2 reserved bits, M */
	};
	__be32 rest;
};

struct icmpv6_solicitation {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 reserved;
	__u8 target[16];
};

/* Are `len` bytes left? */
static __always_inline int holds(const struct cursor *at, __u32 len)
{
	return at->pos + len <= at->end;
}

/* Moves over `len` bytes if they are there. */
static __always_inline int step(struct cursor *at, __u32 len)
{
	if (!holds(at, len))
		return 0;
	at->pos += len;
	return 1;
}

/* Steps over up to two tags. Returns the EtherType behind them; a third tag is simply not IP. */
static __always_inline __be16 take_vlan_tags(struct cursor *at, __be16 proto, __u32 *tags)
{
	for (int i = 0; i < SLUICE_VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = at->pos;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if (!step(at, sizeof(*tag)))
			return 0;
		proto = tag->proto;
		*tags += 1;
	}
	return proto;
}

/* What has been read of a TCP header. */
struct tcp_view {
	__u8 ports; /* the first 4 bytes were there */
	__u8 whole; /* all 20 fixed bytes were there */
	__u8 syn; /* SYN without ACK, if `whole` */
	__be16 port; /* destination, if `ports` */
	__u8 header_len; /* as it claims, in bytes, if `whole` */
	__u64 ports_and_seq; /* its first 8 bytes, if `syn` */
};

/* The TCP header at the cursor. */
static __always_inline struct tcp_view tcp_at(const struct cursor *at)
{
	const struct tcphdr *tcp = at->pos;
	struct tcp_view view = {};

	if (holds(at, TCP_PORTS_LEN)) {
		view.ports = 1;
		view.port = tcp->dest;
	}
	if (holds(at, sizeof(*tcp))) {
		view.whole = 1;
		view.syn = tcp->syn && !tcp->ack;
		view.header_len = tcp->doff * 4;
		if (view.syn)
			__builtin_memcpy(&view.ports_and_seq, tcp, sizeof(view.ports_and_seq));
	}
	return view;
}

/* The TCP header at a computed offset. */
static __always_inline struct tcp_view tcp_copy(struct xdp_md *ctx, __u32 offset)
{
	struct tcphdr tcp = {};
	struct tcp_view view = {};

	if (bpf_xdp_load_bytes(ctx, offset, &tcp, sizeof(tcp)) == 0) {
		view.whole = 1;
		view.syn = tcp.syn && !tcp.ack;
		view.header_len = tcp.doff * 4;
		if (view.syn)
			__builtin_memcpy(&view.ports_and_seq, &tcp, sizeof(view.ports_and_seq));
	} else if (bpf_xdp_load_bytes(ctx, offset, &tcp, TCP_PORTS_LEN) != 0) {
		return view;
	}
	view.ports = 1;
	view.port = tcp.dest;
	return view;
}

enum walk_end {
	WALK_UPPER, /* `next` is the upper-layer protocol, `bytes` behind the IPv6 header */
	WALK_TRUNCATED,
	WALK_LATER_FRAGMENT,
	WALK_TOO_LONG,
};

struct walk {
	__u32 bytes; /* extension headers stepped over */
	__u8 headers; /* how many */
	__u8 next;
	__u8 fragment; /* a fragment header was among them */
	__u8 routing; /* a routing header that RFC 5095 forbids, or that has segments left */
};

/*
 * Steps over the IPv6 extension headers that a host processes, the first of which is at `offset`. AH, ESP and the mobility
 * headers are no TCP to us and end the walk like any other protocol.
 */
static __always_inline enum walk_end walk_extensions(struct xdp_md *ctx, __u32 offset, struct walk *walk)
{
	for (int i = 0; i <= SLUICE_EXTENSION_HEADERS_MAX; i++) {
		struct extension ext;

		if (walk->next != IPPROTO_HOPOPTS && walk->next != IPPROTO_ROUTING &&
		    walk->next != IPPROTO_FRAGMENT && walk->next != IPPROTO_DSTOPTS)
			return WALK_UPPER;
		if (i == SLUICE_EXTENSION_HEADERS_MAX)
			break;
		if (bpf_xdp_load_bytes(ctx, offset + walk->bytes, &ext, sizeof(ext)) != 0)
			return WALK_TRUNCATED;
		walk->bytes += sizeof(ext);
		walk->headers++;
		if (walk->next == IPPROTO_FRAGMENT) {
			if (ext.fragment & bpf_htons(IPV6_OFFSET_MASK))
				return WALK_LATER_FRAGMENT;
			walk->fragment = 1;
		} else {
			walk->bytes += ext.len * 8;
			if (walk->next == IPPROTO_ROUTING)
				walk->routing |= ext.routing.type == 0 || ext.routing.segments_left != 0;
		}
		walk->next = ext.next;
		if (walk->bytes > SLUICE_EXTENSION_BYTES_MAX)
			break;
	}
	return WALK_TOO_LONG;
}

#endif
