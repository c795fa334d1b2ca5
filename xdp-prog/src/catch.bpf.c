/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sluice_catch: the other end of a measurement. A load generator has its TCP in user space and a raw receiver has none, so
 * what they wait for must not reach the kernel, which would answer segments of connections it does not know with RST.
 *
 * Caught: TCP segments from one IPv4 address and port, or frames of one EtherType. They go to the AF_XDP socket of their
 * receive queue, and are dropped if it has none; or all are dropped, which is the least that a receiver can do. Everything
 * else passes: the kernel goes on answering ARP and whatever else comes for the host.
 *
 * Not for a service: it knows neither IPv6 nor VLAN tags, IPv4 options or fragments, which pass. That program is steer.bpf.c.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before load; in network byte order. An EtherType of 0 stands for the segments of `source`. */
const volatile __be16 ether_type = 0;
const volatile __be32 source = 0;
const volatile __be16 source_port = 0;
/* 1: what is caught is dropped. */
const volatile __u8 drops = 0;

/* Sockets by receive queue; the loader sets the size to the number of queues. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sluice_catch_to SEC(".maps");

/* Frames that were caught. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sluice_caught SEC(".maps");

/* An unfragmented IPv4 header of 20 bytes, and the ports behind it. */
struct segment {
	struct ethhdr eth;
	struct iphdr ip;
	__be16 source_port;
	__be16 target_port;
} __attribute__((packed));

static __always_inline int is_from_source(const struct segment *segment, const void *end)
{
	if ((const void *)(segment + 1) > end || segment->eth.h_proto != bpf_htons(ETH_P_IP))
		return 0;
	return segment->ip.version == 4 && segment->ip.ihl == 5 && segment->ip.protocol == IPPROTO_TCP &&
	       !(segment->ip.frag_off & bpf_htons(0x3fff)) && segment->ip.saddr == source && segment->source_port == source_port;
}

static __always_inline int is_wanted(const struct xdp_md *ctx)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = data;

	if (!ether_type)
		return is_from_source(data, end);
	return (const void *)(eth + 1) <= end && eth->h_proto == ether_type;
}

SEC("xdp.frags")
int sluice_catch(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *caught;

	if (!is_wanted(ctx))
		return XDP_PASS;
	/* A plain addition: the slot belongs to this CPU, and XDP on it is not interrupted by XDP. */
	caught = bpf_map_lookup_elem(&sluice_caught, &zero);
	if (caught)
		*caught += 1;
	return drops ? XDP_DROP : bpf_redirect_map(&sluice_catch_to, ctx->rx_queue_index, XDP_DROP);
}
