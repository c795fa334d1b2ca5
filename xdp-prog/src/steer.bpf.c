/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sluice_steer: one verdict per frame.
 *
 * Redirected to the AF_XDP socket of its receive queue: TCP over IPv4 or IPv6 to a served address and port; also ARP, NDP
 * and ICMP for an owned address, one that Sluice answers for in place of the kernel; and ICMP errors that quote a segment of
 * ours ("packet too big" above all), about which the kernel knows nothing. A flow's queue is not looked for: the error comes
 * from a router and lies on any queue, and the workers pass it on.
 *
 * Dropped: what is for a served address and port but is not fit for our TCP, or finds no socket while the service is up.
 * The kernel has no connection there and would answer RST to a peer whose connection lives in user space. Where the headers
 * are too broken to show a port, the address decides.
 *
 * Everything else passes: the host stays the host (SSH, other ports, UDP, its own ARP and ping).
 *
 * The filter is an optimisation and never a guard: user space checks every frame again. So there is no checksum work here,
 * and no state but counters and, while the daemon has armed it against a flood, the buckets and the memory of the SYN gate.
 */
#include "icmp.bpf.h"
#include "syn_gate.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before load: the verifier cuts the branches that are off. */
const volatile __u8 vlan_accepted = 0;
const volatile __u8 owned_present = 0;

/* Sockets by receive queue; the loader sets the size to the number of queues. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sluice_xsks SEC(".maps");

/* Frames by enum sluice_reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLUICE_REASON_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sluice_stats SEC(".maps");

/* Served pairs, and the served and owned addresses: a hash, so that 64 pairs cost what one costs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLUICE_LOCAL_MAX);
	__type(key, struct sluice_local_key);
	__type(value, __u32);
} sluice_local SEC(".maps");

static __always_inline __u32 local_bits(const struct sluice_local_key *key)
{
	__u32 *bits = bpf_map_lookup_elem(&sluice_local, key);

	return bits ? *bits : 0;
}

/* Is the address, without its port, one of ours in the sense of `bit`? */
static __always_inline int address_is(struct packet *packet, __u32 bit)
{
	packet->to.port = 0;
	return (local_bits(&packet->to) & bit) != 0;
}

static __always_inline int tag_refused(const struct packet *packet)
{
	return !vlan_accepted && packet->offset > ETH_HLEN;
}

/* For ARP, NDP and ICMP. */
static __always_inline int address_is_owned(struct packet *packet)
{
	return owned_present && !tag_refused(packet) && address_is(packet, SLUICE_LOCAL_OWNED);
}

/*
 * The verdict on an ICMP error that came to the address in `packet`: ours if the segment it quotes went out from there and from
 * a served port. The kernel keeps all others.
 */
static __always_inline enum sluice_reason classify_icmp_error(struct packet *packet, struct quote quote)
{
	if (!quote.tcp || !quote.port || tag_refused(packet))
		return SLUICE_PASS_NOT_TCP;
	packet->to.port = quote.port;
	return local_bits(&packet->to) & SLUICE_LOCAL_SERVED ? SLUICE_REDIRECT_ICMP : SLUICE_PASS_NOT_TCP;
}

/* No port can be read from this TCP packet (or what should be one): fail closed, by address alone. */
static __always_inline enum sluice_reason unparsable(struct packet *packet, enum sluice_reason reason)
{
	return address_is(packet, SLUICE_LOCAL_SERVED) ? reason : SLUICE_PASS_NOT_LOCAL;
}

/*
 * The verdict on a packet that carries TCP. By its IP header it has `packet_len` bytes, `header_len` of them before the TCP
 * header. `verdict` is what the IP layer thinks of it, SLUICE_REDIRECT_TCP if nothing is wrong: that matters only once the
 * port is known to be ours.
 */
static __always_inline enum sluice_reason classify_tcp(struct xdp_md *ctx, struct packet *packet, struct tcp_view tcp,
						       __u32 packet_len, __u32 header_len, enum sluice_reason verdict)
{
	if (!tcp.ports)
		return unparsable(packet, SLUICE_DROP_TRUNCATED);
	packet->to.port = tcp.port;
	/* Port 0 is the entry of an address, not of a service. */
	if (!tcp.port || !(local_bits(&packet->to) & SLUICE_LOCAL_SERVED))
		return SLUICE_PASS_NOT_LOCAL;

	if (packet_len < header_len + TCP_HEADER_MIN || packet_len > bpf_xdp_get_buff_len(ctx) - packet->offset)
		return SLUICE_DROP_IP_LENGTH;
	if (verdict != SLUICE_REDIRECT_TCP)
		return verdict;
	if (tag_refused(packet))
		return SLUICE_DROP_VLAN_TAG;
	/* Not linear: our own parser wants the headers in the first piece as well. */
	if (!tcp.whole)
		return SLUICE_DROP_TRUNCATED;
	if (tcp.header_len < TCP_HEADER_MIN || header_len + tcp.header_len > packet_len)
		return SLUICE_DROP_TCP_HEADER;
	packet->syn = tcp.syn;
	packet->ports_and_seq = tcp.ports_and_seq;
	return SLUICE_REDIRECT_TCP;
}

static __always_inline enum sluice_reason classify_ipv4(struct xdp_md *ctx, struct cursor *at, struct packet *packet)
{
	struct iphdr *ip = at->pos;
	enum sluice_reason verdict = SLUICE_REDIRECT_TCP;
	struct tcp_view tcp;
	__u32 header_len;

	if (!step(at, sizeof(*ip)))
		return SLUICE_PASS_UNREADABLE;
	packet->to.family = 4;
	__builtin_memcpy(packet->to.address, &ip->daddr, sizeof(ip->daddr));
	if (ip->protocol == IPPROTO_ICMP) {
		if (address_is_owned(packet))
			return SLUICE_REDIRECT_OWNED;
		/* Options and fragments: user space would not read it. */
		if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
			return SLUICE_PASS_NOT_TCP;
		return classify_icmp_error(packet, quote_ipv4(ctx, packet->offset + sizeof(*ip), &packet->to));
	}
	if (ip->protocol != IPPROTO_TCP)
		return SLUICE_PASS_NOT_TCP;
	if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return SLUICE_PASS_LATER_FRAGMENT;

	header_len = ip->ihl * 4;
	if (ip->version != 4 || header_len < sizeof(*ip))
		return unparsable(packet, SLUICE_DROP_IP_HEADER);
	if (header_len == sizeof(*ip)) {
		tcp = tcp_at(at);
	} else {
		tcp = tcp_copy(ctx, packet->offset + header_len);
		verdict = SLUICE_DROP_IP_OPTIONS;
	}
	if (tcp.syn)
		__builtin_memcpy(packet->source, &ip->saddr, sizeof(ip->saddr));
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		verdict = SLUICE_DROP_FRAGMENT;
	return classify_tcp(ctx, packet, tcp, bpf_ntohs(ip->tot_len), header_len, verdict);
}

/* Neighbour solicitations go to a multicast group: what they ask for is in the body. */
static __always_inline enum sluice_reason classify_icmpv6(struct xdp_md *ctx, struct packet *packet, __u32 offset,
							  const struct walk *walk)
{
	struct icmpv6_solicitation ask;

	if (address_is_owned(packet))
		return SLUICE_REDIRECT_OWNED;
	if (!walk->fragment && !walk->routing &&
	    classify_icmp_error(packet, quote_ipv6(ctx, offset, &packet->to)) == SLUICE_REDIRECT_ICMP)
		return SLUICE_REDIRECT_ICMP;
	if (!owned_present)
		return SLUICE_PASS_NOT_TCP;
	if (bpf_xdp_load_bytes(ctx, offset, &ask, sizeof(ask)) != 0 || ask.type != ICMPV6_NEIGHBOR_SOLICITATION)
		return SLUICE_PASS_NOT_TCP;
	__builtin_memcpy(packet->to.address, ask.target, sizeof(ask.target));
	return address_is_owned(packet) ? SLUICE_REDIRECT_OWNED : SLUICE_PASS_NOT_TCP;
}

static __always_inline enum sluice_reason classify_ipv6(struct xdp_md *ctx, struct cursor *at, struct packet *packet)
{
	struct ipv6hdr *ip = at->pos;
	enum sluice_reason verdict = SLUICE_REDIRECT_TCP;
	struct walk walk = {};
	__u32 body, packet_len;
	struct tcp_view tcp;

	if (!step(at, sizeof(*ip)))
		return SLUICE_PASS_UNREADABLE;
	packet->to.family = 6;
	__builtin_memcpy(packet->to.address, &ip->daddr, sizeof(ip->daddr));
	if (ip->version != 6)
		return unparsable(packet, SLUICE_DROP_IP_HEADER);
	/* A jumbogram says 0 here, and is refused with all that are too short. */
	packet_len = sizeof(*ip) + bpf_ntohs(ip->payload_len);

	body = packet->offset + sizeof(*ip);
	walk.next = ip->nexthdr;
	switch (walk_extensions(ctx, body, &walk)) {
	case WALK_UPPER:
		break;
	case WALK_TRUNCATED:
		return unparsable(packet, SLUICE_DROP_TRUNCATED);
	case WALK_LATER_FRAGMENT:
		return SLUICE_PASS_LATER_FRAGMENT;
	case WALK_TOO_LONG:
		return unparsable(packet, SLUICE_DROP_EXTENSION_HEADERS);
	}
	if (walk.next == IPPROTO_ICMPV6)
		return classify_icmpv6(ctx, packet, body + walk.bytes, &walk);
	if (walk.next != IPPROTO_TCP)
		return SLUICE_PASS_NOT_TCP;

	tcp = walk.bytes ? tcp_copy(ctx, body + walk.bytes) : tcp_at(at);
	packet->extensions = walk.headers;
	if (tcp.syn)
		__builtin_memcpy(packet->source, &ip->saddr, sizeof(ip->saddr));
	if (walk.fragment)
		verdict = SLUICE_DROP_FRAGMENT;
	else if (walk.routing)
		verdict = SLUICE_DROP_ROUTING_HEADER;
	return classify_tcp(ctx, packet, tcp, packet_len, sizeof(*ip) + walk.bytes, verdict);
}

static __always_inline enum sluice_reason classify_arp(struct cursor *at, struct packet *packet)
{
	struct arp_ipv4 *arp = at->pos;

	if (!step(at, sizeof(*arp)) || arp->hardware != bpf_htons(ARP_HARDWARE_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_len != ETH_ALEN || arp->protocol_len != sizeof(arp->target_ip))
		return SLUICE_PASS_NOT_IP;
	packet->to.family = 4;
	__builtin_memcpy(packet->to.address, arp->target_ip, sizeof(arp->target_ip));
	return address_is_owned(packet) ? SLUICE_REDIRECT_OWNED : SLUICE_PASS_NOT_IP;
}

static __always_inline enum sluice_reason classify(struct xdp_md *ctx, struct packet *packet)
{
	struct cursor at = { .pos = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	struct ethhdr *eth = at.pos;
	__u32 tags = 0;
	__be16 proto;

	if (!step(&at, sizeof(*eth)))
		return SLUICE_PASS_UNREADABLE;
	proto = take_vlan_tags(&at, eth->h_proto, &tags);
	packet->offset = ETH_HLEN + tags * sizeof(struct vlan_tag);
	switch (proto) {
	case bpf_htons(ETH_P_IP):
		return classify_ipv4(ctx, &at, packet);
	case bpf_htons(ETH_P_IPV6):
		return classify_ipv6(ctx, &at, packet);
	case bpf_htons(ETH_P_ARP):
		return owned_present ? classify_arp(&at, packet) : SLUICE_PASS_NOT_IP;
	default:
		return SLUICE_PASS_NOT_IP;
	}
}

/* A plain addition: the slot belongs to this CPU, and XDP on it is not interrupted by XDP. */
static __always_inline void count(enum sluice_reason reason)
{
	__u32 slot = reason;
	__u64 *frames = bpf_map_lookup_elem(&sluice_stats, &slot);

	if (frames)
		*frames += 1;
}

static __always_inline int pass(enum sluice_reason reason)
{
	count(reason);
	return XDP_PASS;
}

static __always_inline int drop(enum sluice_reason reason)
{
	count(reason);
	return XDP_DROP;
}

/* An empty slot, or a queue beyond the map, gives the fallback back at once. */
static __always_inline int redirect(struct xdp_md *ctx, const struct packet *packet, enum sluice_reason reason)
{
	__u32 zero = 0;
	struct sluice_settings *settings = bpf_map_lookup_elem(&sluice_config, &zero);
	__u64 fallback = settings && settings->enabled ? XDP_DROP : XDP_PASS;
	int action;

	if (packet->syn && settings && settings->syn_gate) {
		reason = gate_syn(ctx, packet, settings);
		if (reason >= SLUICE_DROP_FIRST)
			return drop(reason);
	}
	action = bpf_redirect_map(&sluice_xsks, ctx->rx_queue_index, fallback);
	if (action != XDP_REDIRECT)
		return fallback == XDP_DROP ? drop(SLUICE_DROP_NO_SOCKET) : pass(SLUICE_PASS_NOT_ENABLED);
	count(reason);
	return action;
}

SEC("xdp.frags")
int sluice_steer(struct xdp_md *ctx)
{
	struct packet packet = {};
	enum sluice_reason reason = classify(ctx, &packet);

	if (reason < SLUICE_REDIRECT_FIRST)
		return pass(reason);
	if (reason < SLUICE_DROP_FIRST)
		return redirect(ctx, &packet, reason);
	return drop(reason);
}
