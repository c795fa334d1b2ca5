/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The keyed hash of the SYN gate: a multiplication per 64-bit word, the good bits of which are the upper ones.
 *
 * It spreads and it is not to be foretold, but it is no cryptography, and here need not be: half of SipHash is half of what the
 * gate may cost. Who finds two SYNs of one hash has what he gets by sending one of them twice. To have somebody else's SYN
 * forgotten he would have to know its port and sequence number, and who sees those does not need the gate. Among source
 * networks there are no collisions: a network is its own tag, the hash only finds the place.
 */
#ifndef SLUICE_SYN_HASH_BPF_H
#define SLUICE_SYN_HASH_BPF_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Set before load: random. */
const volatile __u64 gate_key[2] = {};

/* 2^64 divided by the golden ratio, odd: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4). */
#define HASH_MULTIPLIER 0x9e3779b97f4a7c15ULL

/* Adds a word. What comes next depends on all upper bits of this. */
static __always_inline __u64 hash_add(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * HASH_MULTIPLIER;
	return hash ^ hash >> 32;
}

#endif
