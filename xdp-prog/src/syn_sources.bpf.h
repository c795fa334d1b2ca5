/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The buckets of the SYN gate by source network. A bucket that has refilled says what a missing one says, so only those of
 * the last moments need a place: on average as many as SYNs pass in the time that one costs its source, 50 with the default
 * rates, however many sources there are. Hence a small table that stays in the cache, in place of a kernel hash with a list
 * of all that were ever seen.
 *
 * Sets of two by a keyed hash; the bucket that refills first makes room. Where both are in debt, a source is forgiven some.
 */
#ifndef SLUICE_SYN_SOURCES_BPF_H
#define SLUICE_SYN_SOURCES_BPF_H

#include "shared.h"
#include "syn_hash.bpf.h"
#include "syn_memory.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLUICE_SOURCE_SETS);
	__type(key, __u32);
	__type(value, struct sluice_source_set);
} sluice_sources SEC(".maps");

/* The bucket of this packet's source network, made if it has none; NULL if there is no such set, which cannot be. */
static __always_inline struct sluice_source_bucket *source_bucket(const struct packet *packet)
{
	__u64 network = packet->to.family == 4 ? packet->source[0] & bpf_cpu_to_be64(0xffffff0000000000ULL) : packet->source[0];
	struct sluice_source_bucket *bucket;
	struct sluice_source_set *set;
	__u32 index;

	/* With the family: who has the /64 of the same bytes as a /24 must not have its bucket. */
	network ^= gate_key[0] + packet->to.family * HASH_MULTIPLIER;
	/* Twice, and of that the upper bits: the last bytes of a /64 are the upper ones of the word, which reach no lower ones. */
	index = hash_add(hash_add(0, network), gate_key[1]) >> (64 - SLUICE_SOURCE_SETS_LOG2);
	set = bpf_map_lookup_elem(&sluice_sources, &index);
	if (!set)
		return NULL;
	if (set->buckets[0].network == network)
		return &set->buckets[0];
	if (set->buckets[1].network == network)
		return &set->buckets[1];
	bucket = set->buckets[0].paid_until_ns <= set->buckets[1].paid_until_ns ? &set->buckets[0] : &set->buckets[1];
	bucket->network = network;
	bucket->paid_until_ns = 0;
	return bucket;
}

#endif
