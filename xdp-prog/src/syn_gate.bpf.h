/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The SYN gate. User space survives any flood of SYNs, but each costs it a frame, a copy and a lookup; so while its SYN table
 * is under pressure it arms this gate, and what exceeds a rate is dropped before it becomes a frame. Two buckets: one per
 * source network, so that a flood from somewhere leaves the rest alone, and one per receive queue for floods from everywhere.
 * Disarmed, the gate is a branch.
 *
 * A queue is served by one CPU at a time, so its bucket needs no atomics; a source can arrive on several queues at once, and
 * then a lost store lets a SYN too many pass, which is cheaper than a locked instruction on a shared line per SYN.
 */
#ifndef SLUICE_SYN_GATE_BPF_H
#define SLUICE_SYN_GATE_BPF_H

#include "parse.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sluice_settings);
} sluice_config SEC(".maps");

/* Buckets by receive queue; the loader sets the size to the number of queues. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sluice_queue_bucket);
} sluice_queues SEC(".maps");

/* Buckets by source network: the time up to which its SYNs are paid for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SLUICE_SOURCES_MAX);
	__type(key, struct sluice_source);
	__type(value, __u64);
} sluice_sources SEC(".maps");

/* What is known of a packet so far. */
struct packet {
	struct sluice_local_key to;
	__u32 offset; /* of the network header in the frame: beyond ETH_HLEN, the frame is tagged */
	__u8 syn; /* for a served pair: SYN without ACK */
};

static __always_inline __u64 charged(__u64 paid_until, __u64 now, __u64 interval)
{
	return (paid_until > now ? paid_until : now) + interval;
}

/*
 * SLUICE_REDIRECT_TCP, or why this SYN is dropped. Only what passes is charged, and only what passes makes an entry: a flood
 * from everywhere displaces no more sources per second than the queues let through.
 */
static __always_inline enum sluice_reason gate_syn(struct xdp_md *ctx, const struct packet *packet,
						   const struct sluice_settings *settings)
{
	struct sluice_source source = { .family = packet->to.family };
	__u32 queue = ctx->rx_queue_index;
	struct sluice_queue_bucket *by_queue;
	__u64 now = bpf_ktime_get_ns();
	__u64 *by_source, paid_until = 0;
	long failed;

	if (packet->to.family == 4)
		failed = bpf_xdp_load_bytes(ctx, packet->offset + offsetof(struct iphdr, saddr), source.network, 3);
	else
		failed = bpf_xdp_load_bytes(ctx, packet->offset + offsetof(struct ipv6hdr, saddr), source.network, 8);
	/* The header was read before, so it is there. */
	if (failed)
		return SLUICE_DROP_TRUNCATED;

	by_source = bpf_map_lookup_elem(&sluice_sources, &source);
	if (by_source)
		paid_until = *by_source;
	if (paid_until > now + settings->source_burst_ns)
		return SLUICE_DROP_SYN_SOURCE_RATE;
	/* A queue beyond the map has no socket either, and the redirect says so. */
	by_queue = bpf_map_lookup_elem(&sluice_queues, &queue);
	if (by_queue) {
		if (by_queue->paid_until_ns > now + settings->queue_burst_ns)
			return SLUICE_DROP_SYN_RATE;
		by_queue->paid_until_ns = charged(by_queue->paid_until_ns, now, settings->queue_interval_ns);
	}
	paid_until = charged(paid_until, now, settings->source_interval_ns);
	if (by_source)
		*by_source = paid_until;
	else
		bpf_map_update_elem(&sluice_sources, &source, &paid_until, BPF_ANY);
	return SLUICE_REDIRECT_TCP;
}

#endif
