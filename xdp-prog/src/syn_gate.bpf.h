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
#include "syn_sources.bpf.h"

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

static __always_inline __u64 charged(__u64 paid_until, __u64 now, __u64 interval)
{
	return (paid_until > now ? paid_until : now) + interval;
}

/*
 * Charges the buckets of queue and source, or says which of them is empty. The queue is asked first: under a flood from
 * everywhere its answer decides nearly always, and is in the cache.
 */
static __always_inline enum sluice_reason charge(const struct sluice_settings *settings, const struct packet *packet,
						 struct sluice_queue_bucket *queue, __u64 now)
{
	struct sluice_source_bucket *source;

	if (queue && queue->paid_until_ns > now + settings->queue_burst_ns)
		return SLUICE_DROP_SYN_RATE;
	source = source_bucket(packet);
	if (source) {
		if (source->paid_until_ns > now + settings->source_burst_ns)
			return SLUICE_DROP_SYN_SOURCE_RATE;
		source->paid_until_ns = charged(source->paid_until_ns, now, settings->source_interval_ns);
	}
	/* Behind the source: what its network has spent costs the others nothing. */
	if (queue)
		queue->paid_until_ns = charged(queue->paid_until_ns, now, settings->queue_interval_ns);
	return SLUICE_REDIRECT_TCP;
}

/* A SYN for which the other buckets are empty: does it come again, and is something left for those that do? */
static __always_inline int passes_again(const struct sluice_settings *settings, const struct packet *packet,
					struct sluice_queue_bucket *queue, __u64 now)
{
	__u64 hash = syn_hash(packet), entry = dropped_entry(hash, now);
	__u32 index = hash >> 32 & (SLUICE_DROPPED_SETS - 1);
	struct sluice_dropped_set *set = bpf_map_lookup_elem(&sluice_dropped_syns, &index);
	enum memory what;

	/* There is no such set? There is: the verifier wants to be told. */
	if (!set)
		return 0;
	what = recall(set, entry);
	if (what == SYN_NEW)
		remember(set, entry);
	if (what != SYN_REPEATED || !queue || queue->repeats_paid_until_ns > now + settings->repeat_burst_ns)
		return 0;
	queue->repeats_paid_until_ns = charged(queue->repeats_paid_until_ns, now, settings->repeat_interval_ns);
	/* The next repetition may pass in 0.8 s: so a flood of one and the same SYN gets one through now and then. */
	remember(set, entry);
	return 1;
}

/*
 * How this SYN passes, or why it is dropped. A function with registers of its own: inlined, it would have the compiler spill
 * pointers of the caller to slots that hold numbers on other paths, which the verifier refuses without CAP_PERFMON.
 */
static __noinline enum sluice_reason gate_syn(struct xdp_md *ctx, const struct packet *packet,
					      const struct sluice_settings *settings)
{
	__u32 index = ctx->rx_queue_index;
	/* A queue beyond the map has no socket either, and the redirect says so. */
	struct sluice_queue_bucket *queue = bpf_map_lookup_elem(&sluice_queues, &index);
	enum sluice_reason verdict;
	__u64 now;

	if (packet->extensions > SLUICE_SYN_EXTENSION_HEADERS_MAX)
		return SLUICE_DROP_SYN_RATE;
	/* The time of the last tick of the kernel: buckets of a quarter of a second need no better, and reading the clock would
	 * cost what the rest of the gate does. */
	now = bpf_ktime_get_coarse_ns();
	verdict = charge(settings, packet, queue, now);
	if (verdict != SLUICE_REDIRECT_TCP && passes_again(settings, packet, queue, now))
		return SLUICE_REDIRECT_SYN_AGAIN;
	return verdict;
}

#endif
