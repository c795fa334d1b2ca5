/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What both sides of the border know: the layouts of the maps and the number and name of every verdict.
 *
 * The loader (reason.rs, config.rs) keeps its own copy and a test compares it with this text, so a change here
 * without one there does not build green. A number is never reused: dashboards and pinned maps of another version
 * must not show one thing under the name of another.
 */
#ifndef SLUICE_SHARED_H
#define SLUICE_SHARED_H

/*
 * Why a frame got its verdict. The number is the index in sluice_stats and its range is the verdict:
 * 0-15 pass to the kernel, 16-31 redirect to a socket, 32-63 drop.
 */
enum sluice_reason {
	/* EtherType is not IP (or a third VLAN tag stands before it). */
	SLUICE_PASS_NOT_IP = 0,
	/* IP that carries neither TCP nor anything a Sluice-owned address wants. */
	SLUICE_PASS_NOT_TCP = 1,
	/* TCP for an address or port that is not served here. */
	SLUICE_PASS_NOT_LOCAL = 2,
	/* Not the first fragment: without its first one, which is dropped if ours, the kernel never answers it. */
	SLUICE_PASS_LATER_FRAGMENT = 3,
	/* Ends before the destination address. */
	SLUICE_PASS_UNREADABLE = 4,
	/* For a socket, the queue has none, and the service is not up yet. */
	SLUICE_PASS_NOT_ENABLED = 5,

	/* A TCP segment for a served address and port. */
	SLUICE_REDIRECT_TCP = 16,
	/* ARP, NDP or ICMP for an address that Sluice answers for itself. */
	SLUICE_REDIRECT_OWNED = 17,
	/* An ICMP error about a segment from a served address and port. */
	SLUICE_REDIRECT_ICMP = 18,
	/* A SYN that the gate dropped before and that its sender repeats: it passes at a rate of its own. */
	SLUICE_REDIRECT_SYN_AGAIN = 19,

	/* For a socket, the queue has none, and the service is up: the kernel would answer RST. */
	SLUICE_DROP_NO_SOCKET = 32,
	/* For a served address, and the headers end early. */
	SLUICE_DROP_TRUNCATED = 33,
	/* For a served address: IP version or header length impossible. */
	SLUICE_DROP_IP_HEADER = 34,
	/* IP total length beyond the frame or too short for a TCP header; IPv6 jumbograms. */
	SLUICE_DROP_IP_LENGTH = 35,
	/* IPv4 options. */
	SLUICE_DROP_IP_OPTIONS = 36,
	/* First fragment, or an IPv6 atomic fragment. */
	SLUICE_DROP_FRAGMENT = 37,
	/* More than 8 IPv6 extension headers, or more than 256 bytes of them. */
	SLUICE_DROP_EXTENSION_HEADERS = 38,
	/* IPv6 routing header of type 0, or of any type with segments left. */
	SLUICE_DROP_ROUTING_HEADER = 39,
	/* VLAN tag where none is configured (the kernel accepts priority tags). */
	SLUICE_DROP_VLAN_TAG = 40,
	/* TCP data offset below 20 bytes or beyond the packet. */
	SLUICE_DROP_TCP_HEADER = 41,
	/* A SYN beyond the rate of its receive queue, while the gate is armed. */
	SLUICE_DROP_SYN_RATE = 42,
	/* A SYN beyond the rate of its source network, while the gate is armed. */
	SLUICE_DROP_SYN_SOURCE_RATE = 43,
};

#define SLUICE_REDIRECT_FIRST 16
#define SLUICE_DROP_FIRST 32
/* Slots of sluice_stats: every number there can ever be. */
#define SLUICE_REASON_SLOTS 64

/* At most this many served address and port pairs, and as many owned addresses. */
#define SLUICE_ENDPOINTS_MAX 64
#define SLUICE_OWNED_MAX 64
/* Room in sluice_local: an entry per pair, one per distinct address. */
#define SLUICE_LOCAL_MAX (2 * SLUICE_ENDPOINTS_MAX + SLUICE_OWNED_MAX)

#define SLUICE_VLAN_TAGS_MAX 2
#define SLUICE_EXTENSION_HEADERS_MAX 8
#define SLUICE_EXTENSION_BYTES_MAX 256
/* Of a SYN that an armed gate looks at. No client sends one; for a flood of them the walk shall be the whole cost. */
#define SLUICE_SYN_EXTENSION_HEADERS_MAX 2

/* What sluice_sources has room for: sets of two source networks. */
#define SLUICE_SOURCE_SETS_LOG2 12
#define SLUICE_SOURCE_SETS (1 << SLUICE_SOURCE_SETS_LOG2)

/*
 * What sluice_dropped_syns remembers: sets of eight SYNs, 4 MiB in all. At 500,000 dropped SYNs per second a set gets two
 * in the second after which a client repeats its own, and forgets that only for the eighth.
 */
#define SLUICE_DROPPED_SETS 262144
/* The time in an entry: units of 2^28 ns, and the 5 bits below the 11 bits of the hash. */
#define SLUICE_DROPPED_TIME_SHIFT 28
#define SLUICE_DROPPED_TIMES 31ULL
/*
 * When a SYN that is seen again is a repetition and not the same flood: in those units, so surely 0.8 to 3.7 s after it was
 * dropped, and at the edges of a unit from 0.5 to 4 s. Clients repeat theirs after 1 s (RFC 6298 section 2.1) or 3 s (RFC
 * 1122).
 */
#define SLUICE_REPEATED_AFTER 3
#define SLUICE_REPEATED_BEFORE 14

/* Key of sluice_local. An IPv4 address fills the first 4 bytes, the rest is 0. */
struct sluice_local_key {
	unsigned char address[16];
	/* Network byte order; 0 is the entry of the address itself. */
	unsigned short port;
	/* 4 or 6: a mapped IPv6 address on the wire must not match an IPv4 entry. */
	unsigned short family;
};

/* Value of sluice_local: bits. */
#define SLUICE_LOCAL_SERVED 1
#define SLUICE_LOCAL_OWNED 2

/* The one entry of sluice_config: what changes while the program runs. */
struct sluice_settings {
	/* 1: the service is up, and what finds no socket is dropped. 0: it passes. */
	unsigned int enabled;
	/* 1: the gate is armed, SYNs beyond the rates below are dropped. */
	unsigned int syn_gate;
	/* What a SYN costs the bucket of its queue and that of its source network, and what each may be ahead by. */
	unsigned long long queue_interval_ns;
	unsigned long long queue_burst_ns;
	unsigned long long source_interval_ns;
	unsigned long long source_burst_ns;
	/* The same for the second bucket of a queue, which only repeated SYNs use. */
	unsigned long long repeat_interval_ns;
	unsigned long long repeat_burst_ns;
};

/*
 * Token buckets in one word each: the time up to which their SYNs are paid for (the generic cell rate algorithm, ITU-T I.371
 * annex A). A whole cache line, so that queues on different CPUs share none.
 */
struct sluice_queue_bucket {
	unsigned long long paid_until_ns;
	unsigned long long repeats_paid_until_ns;
	unsigned long long unused[6];
};

/* Eight dropped SYNs of 16 bits, from the youngest in the lowest bits of the first word to the oldest. */
struct sluice_dropped_set {
	unsigned long long syns[2];
};

/* The bucket of the /24 of an IPv4 source or the /64 of an IPv6 one, which is xored with a key of its family. */
struct sluice_source_bucket {
	unsigned long long network;
	unsigned long long paid_until_ns;
};

struct sluice_source_set {
	struct sluice_source_bucket buckets[2];
};

#endif
