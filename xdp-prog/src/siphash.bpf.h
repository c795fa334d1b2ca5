/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * SipHash-1-3 (Aumasson, Bernstein 2012) over whole 64-bit words: one round per word and three at the end. Begin, add the
 * words, finish; the length that the last word carries is left out, because every caller hashes a fixed number of words.
 */
#ifndef SLUICE_SIPHASH_BPF_H
#define SLUICE_SIPHASH_BPF_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct siphash {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 word, __u32 bits)
{
	return word << bits | word >> (64 - bits);
}

static __always_inline void siphash_round(struct siphash *state)
{
	state->v0 += state->v1;
	state->v1 = rotate_left(state->v1, 13) ^ state->v0;
	state->v0 = rotate_left(state->v0, 32);
	state->v2 += state->v3;
	state->v3 = rotate_left(state->v3, 16) ^ state->v2;
	state->v0 += state->v3;
	state->v3 = rotate_left(state->v3, 21) ^ state->v0;
	state->v2 += state->v1;
	state->v1 = rotate_left(state->v1, 17) ^ state->v2;
	state->v2 = rotate_left(state->v2, 32);
}

/* The constants are the letters of "somepseudorandomlygeneratedbytes", as in the paper. */
static __always_inline struct siphash siphash_begin(__u64 key0, __u64 key1)
{
	struct siphash state = {
		.v0 = key0 ^ 0x736f6d6570736575ULL,
		.v1 = key1 ^ 0x646f72616e646f6dULL,
		.v2 = key0 ^ 0x6c7967656e657261ULL,
		.v3 = key1 ^ 0x7465646279746573ULL,
	};

	return state;
}

static __always_inline void siphash_add(struct siphash *state, __u64 word)
{
	state->v3 ^= word;
	siphash_round(state);
	state->v0 ^= word;
}

static __always_inline __u64 siphash_finish(struct siphash *state)
{
	state->v2 ^= 0xff;
	siphash_round(state);
	siphash_round(state);
	siphash_round(state);
	return state->v0 ^ state->v1 ^ state->v2 ^ state->v3;
}

#endif
