/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * ICMP errors: what they quote. An error is about a packet of ours if it quotes its start: our address, TCP, our port. Which
 * connection, and whether to believe it, is found out in user space; what is looked at here is only enough to leave the errors
 * about the kernel's own connections to the kernel.
 *
 * "Destination unreachable", which has "fragmentation needed" among its codes, and "packet too big". The others (time exceeded,
 * redirect, source quench) say nothing that our TCP would act on.
 */
#ifndef SLUICE_ICMP_BPF_H
#define SLUICE_ICMP_BPF_H

#include "parse.bpf.h"

#define ICMPV4_UNREACHABLE 3
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PACKET_TOO_BIG 2
/* Version 4 and a header of five words: ours has never options. */
#define IPV4_PLAIN 0x45

struct icmp_error {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest; /* the MTU of the next hop, in some of them */
};

struct icmpv4_quote {
	struct icmp_error error;
	__u8 version_ihl;
	__u8 tos;
	__be16 total_len;
	__be32 id_fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src[1];
	__be32 dst[1];
	__be16 src_port;
	__be16 dst_port;
};

struct icmpv6_quote {
	struct icmp_error error;
	__u8 version; /* the upper half */
	__u8 class_flow[3];
	__be16 payload_len;
	__u8 next;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
	__be16 src_port;
	__be16 dst_port;
};

/* A segment of the address that an error came to, as the error quotes it. */
struct quote {
	__u8 tcp; /* it is one */
	__be16 port; /* its source */
};

/* Is the quoted source the address that the error came to? Word by word: there is no memcmp here. */
static __always_inline int is_source(const __be32 *src, int words, const struct sluice_local_key *to)
{
	__be32 address[4], other = 0;

	__builtin_memcpy(address, to->address, sizeof(address));
	for (int i = 0; i < words; i++)
		other |= src[i] ^ address[i];
	return !other;
}

/* Of the message at `offset`, which came to the address `to`. */
static __always_inline struct quote quote_ipv4(struct xdp_md *ctx, __u32 offset, const struct sluice_local_key *to)
{
	struct quote quote = {};
	struct icmpv4_quote icmp;

	if (bpf_xdp_load_bytes(ctx, offset, &icmp, sizeof(icmp)) != 0 || icmp.error.type != ICMPV4_UNREACHABLE ||
	    icmp.version_ihl != IPV4_PLAIN || icmp.protocol != IPPROTO_TCP ||
	    !is_source(icmp.src, 1, to))
		return quote;
	quote.tcp = 1;
	quote.port = icmp.src_port;
	return quote;
}

/* The same for IPv6. Our packets have no extension headers. */
static __always_inline struct quote quote_ipv6(struct xdp_md *ctx, __u32 offset, const struct sluice_local_key *to)
{
	struct quote quote = {};
	struct icmpv6_quote icmp;

	if (bpf_xdp_load_bytes(ctx, offset, &icmp, sizeof(icmp)) != 0 ||
	    (icmp.error.type != ICMPV6_UNREACHABLE && icmp.error.type != ICMPV6_PACKET_TOO_BIG) || icmp.version >> 4 != 6 ||
	    icmp.next != IPPROTO_TCP || !is_source(icmp.src, 4, to))
		return quote;
	quote.tcp = 1;
	quote.port = icmp.src_port;
	return quote;
}

#endif
