/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The memory of the SYN gate. A gate that only limits a rate drops the repetitions of an honest client as readily as its
 * first SYN. But an honest client repeats the same SYN, of the same addresses, ports and sequence number, about a second
 * later, and a flood of invented senders does not. So the gate remembers what it dropped for some seconds, and what comes
 * again in that time is let through at a rate of its own. A sender who repeats all of his flood spends half of it on that
 * and competes for this rate alone.
 *
 * Sets of eight by a keyed hash, each a shift register: a new SYN moves the others up, and the oldest out. A SYN of the flood
 * costs one cache line, which is all there is to be saved here: everything else of the gate stays in the cache. All queues
 * and CPUs share the memory, because a repeated SYN may come in on another queue. Nothing is locked: a lost store forgets a
 * SYN, and its sender repeats once more.
 */
#ifndef SLUICE_SYN_MEMORY_BPF_H
#define SLUICE_SYN_MEMORY_BPF_H

#include "shared.h"
#include "syn_hash.bpf.h"

#define WAYS_PER_WORD 4

/* What is known of a packet so far. */
struct packet {
	struct sluice_local_key to;
	__u32 offset; /* of the network header in the frame: beyond ETH_HLEN, the frame is tagged */
	__u8 syn; /* for a served pair: SYN without ACK */
	__u8 extensions; /* IPv6 extension headers */
	__u64 ports_and_seq; /* of a SYN, the first 8 bytes of the TCP header */
	__u64 source[2]; /* of a SYN: address; of an IPv4 one the first 4 bytes, the rest 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLUICE_DROPPED_SETS);
	__type(key, __u32);
	__type(value, struct sluice_dropped_set);
} sluice_dropped_syns SEC(".maps");

/* Hash of what makes a SYN the same SYN: addresses, ports and sequence number. */
static __always_inline __u64 syn_hash(const struct packet *syn)
{
	__u64 hash = hash_add(gate_key[0], syn->ports_and_seq);
	__u64 target[2];

	__builtin_memcpy(target, syn->to.address, sizeof(target));
	if (syn->to.family == 4) {
		hash = hash_add(hash, syn->source[0] << 32 | (__u32)target[0]);
	} else {
		hash = hash_add(hash, syn->source[0]);
		hash = hash_add(hash, syn->source[1]);
		hash = hash_add(hash, target[0]);
		hash = hash_add(hash, target[1]);
	}
	return hash_add(hash, gate_key[1]);
}

enum memory {
	SYN_NEW,
	SYN_RECENT, /* was dropped a moment ago */
	SYN_REPEATED, /* was dropped some seconds ago */
};

/* What the word holds of the SYN with this `entry`, the youngest first. */
static __always_inline enum memory recall_in(__u64 word, __u64 entry)
{
	for (__u32 way = 0; way < WAYS_PER_WORD; way++, word >>= 16) {
		__u32 age = (entry - word) & SLUICE_DROPPED_TIMES;

		if (((word ^ entry) & 0xffff & ~SLUICE_DROPPED_TIMES) == 0 && age <= SLUICE_REPEATED_BEFORE)
			return age >= SLUICE_REPEATED_AFTER ? SYN_REPEATED : SYN_RECENT;
	}
	return SYN_NEW;
}

/* What is known of the SYN with this `entry`. */
static __always_inline enum memory recall(const struct sluice_dropped_set *set, __u64 entry)
{
	enum memory what = recall_in(set->syns[0], entry);

	return what == SYN_NEW ? recall_in(set->syns[1], entry) : what;
}

/* Puts the youngest entry in. */
static __always_inline void remember(struct sluice_dropped_set *set, __u64 entry)
{
	set->syns[1] = set->syns[1] << 16 | set->syns[0] >> 48;
	set->syns[0] = set->syns[0] << 16 | entry;
}

/* The 16 bits that stand for a SYN now. */
static __always_inline __u64 dropped_entry(__u64 hash, __u64 now_ns)
{
	return (hash >> 48 & ~SLUICE_DROPPED_TIMES) | (now_ns >> SLUICE_DROPPED_TIME_SHIFT & SLUICE_DROPPED_TIMES);
}

#endif
