/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The memory of the SYN gate. A gate that only limits a rate drops the repetitions of an honest client as readily as its
 * first SYN. But an honest client repeats the same SYN, of the same addresses, ports and sequence number, about a second
 * later, and a flood of invented senders does not. So the gate remembers what it dropped for some seconds, and what comes
 * again in that time is let through at a rate of its own. A sender who repeats all of his flood spends half of it on that
 * and competes for this rate alone.
 *
 * Sets of seven by a keyed hash, the oldest makes room: a lookup is one cache line, or two. All queues and CPUs share it, because a
 * repeated SYN may come in on another queue. Nothing is locked: a lost store forgets a SYN, and its sender repeats once more.
 */
#ifndef SLUICE_SYN_MEMORY_BPF_H
#define SLUICE_SYN_MEMORY_BPF_H

#include "shared.h"
#include "siphash.bpf.h"

/* What is known of a packet so far. */
struct packet {
	struct sluice_local_key to;
	__u32 offset; /* of the network header in the frame: beyond ETH_HLEN, the frame is tagged */
	__u8 syn; /* for a served pair: SYN without ACK */
	__u8 extensions; /* IPv6 extension headers */
	__u64 ports_and_seq; /* the first 8 bytes of the TCP header, for a served pair */
	__u64 source[2]; /* address; of an IPv4 one the first 4 bytes, the rest 0 */
};

/* Set before load. */
const volatile __u64 dropped_syns_key[2] = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLUICE_DROPPED_SETS);
	__type(key, __u32);
	__type(value, struct sluice_dropped_set);
} sluice_dropped_syns SEC(".maps");

/* Hash of what makes a SYN the same SYN: addresses, ports and sequence number. */
static __always_inline __u64 syn_hash(const struct packet *syn)
{
	struct siphash state = siphash_begin(dropped_syns_key[0], dropped_syns_key[1]);
	__u64 target[2];

	__builtin_memcpy(target, syn->to.address, sizeof(target));
	siphash_add(&state, syn->ports_and_seq);
	if (syn->to.family == 4) {
		siphash_add(&state, syn->source[0] << 32 | (__u32)target[0]);
	} else {
		siphash_add(&state, syn->source[0]);
		siphash_add(&state, syn->source[1]);
		siphash_add(&state, target[0]);
		siphash_add(&state, target[1]);
	}
	return siphash_finish(&state);
}

enum memory {
	SYN_REMEMBERED, /* from now on, or since it was dropped a moment ago */
	SYN_REPEATED, /* was dropped some seconds ago */
};

/*
 * The place of this SYN among those that were dropped, made if it has none; NULL if there is no such set, which cannot be.
 * `*what` says whether it is a repetition.
 */
static __always_inline __u32 *recall(__u64 hash, __u64 now_ns, enum memory *what)
{
	__u32 index = hash & (SLUICE_DROPPED_SETS - 1);
	__u32 tag = hash >> 48 << 16, now = now_ns >> 24 & 0xffff;
	struct sluice_dropped_set *set = bpf_map_lookup_elem(&sluice_dropped_syns, &index);
	__u32 oldest;

	*what = SYN_REMEMBERED;
	if (!set)
		return NULL;
	for (__u32 i = 0; i < SLUICE_DROPPED_WAYS; i++) {
		__u32 syn = set->syns[i];
		__u32 age = (now - syn) & 0xffff;

		if ((syn ^ tag) < 1 << 16 && age <= SLUICE_REPEATED_BEFORE) {
			if (age >= SLUICE_REPEATED_AFTER)
				*what = SYN_REPEATED;
			return &set->syns[i];
		}
	}
	/* Round robin: to compare ages instead makes a path per way, more than the verifier follows without CAP_PERFMON. */
	oldest = set->syns[SLUICE_DROPPED_WAYS]++ % SLUICE_DROPPED_WAYS;
	/* The verifier does not know the bounds of a remainder, and the compiler, who does, must not take them away. */
	asm volatile("" : "+r"(oldest));
	oldest &= SLUICE_DROPPED_WAYS;
	set->syns[oldest] = tag | now;
	return &set->syns[oldest];
}

/* The repetition passes: the next one may in 0.8 s. So a flood of one and the same SYN gets one through now and then. */
static __always_inline void restart(__u32 *place, __u64 now_ns)
{
	*place = (*place & 0xffff0000) | (now_ns >> 24 & 0xffff);
}

#endif
