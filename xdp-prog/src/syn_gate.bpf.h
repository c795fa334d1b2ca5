/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The SYN gate. User space survives any flood of SYNs, but each costs it a frame, a copy and a lookup; so while its SYN table
 * is under pressure it arms this gate, and what exceeds a rate is dropped before it becomes a frame. Two buckets: one per
 * source network, so that a flood from somewhere leaves the rest alone, and one per receive queue for floods from everywhere.
 * A third, also per queue, is for SYNs that were dropped and come again as those of honest clients do (syn_memory.bpf.h).
 * Disarmed, the gate is a branch.
 *
 * A queue is served by one CPU at a time, so its buckets need no atomics; a source can arrive on several queues at once, and
 * then a lost store lets a SYN too many pass, which is cheaper than a locked instruction on a shared line per SYN.
 */
#ifndef SLUICE_SYN_GATE_BPF_H
#define SLUICE_SYN_GATE_BPF_H

#include "parse.bpf.h"
#include "syn_memory.bpf.h"

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

static __always_inline __u64 charged(__u64 paid_until, __u64 now, __u64 interval)
{
	return (paid_until > now ? paid_until : now) + interval;
}

/* Charges the buckets of source and queue, or says which of them is empty. Only what passes is charged, and only what passes
 * makes an entry: a flood from everywhere displaces no more sources per second than the queues let through. */
static __always_inline enum sluice_reason charge(const struct sluice_settings *settings, const struct sluice_source *source,
						 struct sluice_queue_bucket *queue, __u64 now)
{
	__u64 *by_source = bpf_map_lookup_elem(&sluice_sources, source);
	__u64 paid_until = by_source ? *by_source : 0;

	if (paid_until > now + settings->source_burst_ns)
		return SLUICE_DROP_SYN_SOURCE_RATE;
	if (queue) {
		if (queue->paid_until_ns > now + settings->queue_burst_ns)
			return SLUICE_DROP_SYN_RATE;
		queue->paid_until_ns = charged(queue->paid_until_ns, now, settings->queue_interval_ns);
	}
	paid_until = charged(paid_until, now, settings->source_interval_ns);
	if (by_source)
		*by_source = paid_until;
	else
		bpf_map_update_elem(&sluice_sources, source, &paid_until, BPF_ANY);
	return SLUICE_REDIRECT_TCP;
}

/* A SYN for which the other buckets are empty: does it come again, and is something left for those that do? */
static __always_inline int passes_again(const struct sluice_settings *settings, struct sluice_queue_bucket *queue, __u64 hash,
					__u64 now)
{
	enum memory what;
	__u32 *place = recall(hash, now, &what);

	if (!place || !queue || what != SYN_REPEATED || queue->repeats_paid_until_ns > now + settings->repeat_burst_ns)
		return 0;
	queue->repeats_paid_until_ns = charged(queue->repeats_paid_until_ns, now, settings->repeat_interval_ns);
	restart(place, now);
	return 1;
}

/* How this SYN passes, or why it is dropped. */
static __always_inline enum sluice_reason gate_syn(struct xdp_md *ctx, const struct packet *packet,
						   const struct sluice_settings *settings)
{
	struct sluice_source source = { .family = packet->to.family };
	__u32 index = ctx->rx_queue_index;
	/* A queue beyond the map has no socket either, and the redirect says so. */
	struct sluice_queue_bucket *queue = bpf_map_lookup_elem(&sluice_queues, &index);
	enum sluice_reason verdict;
	__u64 now;

	if (packet->extensions > SLUICE_SYN_EXTENSION_HEADERS_MAX)
		return SLUICE_DROP_SYN_RATE;
	now = bpf_ktime_get_ns();
	if (packet->to.family == 4)
		__builtin_memcpy(source.network, packet->source, 3);
	else
		__builtin_memcpy(source.network, packet->source, 8);
	verdict = charge(settings, &source, queue, now);
	if (verdict != SLUICE_REDIRECT_TCP && passes_again(settings, queue, syn_hash(packet), now))
		return SLUICE_REDIRECT_SYN_AGAIN;
	return verdict;
}

#endif
