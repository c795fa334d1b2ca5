//! A SYN flood in memory: a million SYNs from random sources, honest clients in between, and not one allocation.
//!
//! One test in a binary of its own, since the count of allocations is of the whole process. It prints what a SYN
//! costs in both modes; those numbers are no assertion.

mod support;

use core::time::Duration;
use std::alloc::System;
use std::time::Instant as WallInstant;

use sluice_tcp::{Disposition, Stack, State};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Peer, START, config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SYNS: u32 = 1_000_000;
/// An honest client knocks after so many of them.
const HONEST_EVERY: u32 = 500;
const HALF_OPEN: u32 = 4096;
/// A flood of 500,000 SYNs per second.
const SPACING: Duration = Duration::from_micros(2);
/// SYNs before allocations count: the test harness makes some of its own while a test begins.
const WARM_UP: u32 = 10_000;
const SEED: u64 = 0x5eed;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A source in 10.0.0.0/8 that is none of the honest, who live in the last /16 of it.
    fn peer(&mut self) -> Peer {
        let bits = self.next();
        let number = u32::try_from(bits & 0x00ff_ffff).expect("24 bits") % 0x00ff_0000;
        let mut peer = Peer::new(number);
        peer.port = u16::try_from(bits >> 24 & 0xffff).expect("16 bits");
        peer.iss = u32::try_from(bits >> 32).expect("32 bits");
        peer
    }
}

#[test]
fn a_million_syns_cost_no_memory_and_every_honest_client_connects() {
    println!("SEED={SEED:#x}");
    let honest_clients = SYNS / HONEST_EVERY;
    let mut stack = Stack::new(config(honest_clients + 1, HALF_OPEN), START);
    let mut random = Random(SEED);
    let mut now = START;
    let mut waiting = None;
    let mut bytes = (0u64, 0u64);

    let mut region = Region::new(ALLOCATOR);
    let wall = WallInstant::now();
    for number in 0..SYNS {
        now = now + SPACING;
        if number == WARM_UP {
            region.reset();
        }
        let attacker = random.peer();
        let receipt = attacker.say(&mut stack, now, &attacker.syn());
        assert_eq!(receipt.disposition, Disposition::Accepted);
        bytes.0 += 1;
        bytes.1 += u64::from(receipt.reply.is_some());
        stack.on_timers(now);
        while stack.poll_transmit(now).is_some() {
            bytes.1 += 1;
        }
        if number % HONEST_EVERY == 0 {
            // The one before has waited for a round trip of a millisecond.
            if let Some((peer, syn_ack)) = waiting.take() {
                complete(&mut stack, now, &peer, &syn_ack);
            }
            let peer = Peer::new(0x00ff_0000 + number / HONEST_EVERY);
            let receipt = peer.say(&mut stack, now, &peer.syn());
            let syn_ack = match receipt.reply {
                Some(header) => header,
                None => stack.poll_transmit(now).expect("its SYN-ACK").header,
            };
            waiting = Some((peer, syn_ack));
        }
        assert!(stack.half_open() <= HALF_OPEN);
    }
    let spent = wall.elapsed();
    if let Some((peer, syn_ack)) = waiting {
        complete(&mut stack, now, &peer, &syn_ack);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));

    let counters = stack.counters();
    assert_eq!(counters.accepted, u64::from(honest_clients));
    assert!(counters.syn_cookies_sent > u64::from(SYNS) * 9 / 10);
    assert!(stack.is_flooded());
    // Answers to the flood: one per SYN, and a repeat for the few that got an entry.
    assert!(bytes.1 <= bytes.0 + counters.retransmitted_syn_ack);
    assert!(counters.retransmitted_syn_ack <= 2 * u64::from(HALF_OPEN));
    println!(
        "{} ns per SYN under flood",
        spent.as_nanos() / u128::from(SYNS)
    );
    println!(
        "{} ns per SYN in cookie mode alone",
        cookie_cost(&mut stack, now)
    );
    println!("{} ns per SYN with a table entry", entry_cost());
}

fn complete(
    stack: &mut Stack,
    now: sluice_tcp::clock::Instant,
    peer: &Peer,
    syn_ack: &sluice_wire::TcpHeader,
) {
    let receipt = peer.say(stack, now, &peer.ack(syn_ack));
    let state = receipt.conn.and_then(|conn| stack.state(conn));
    assert_eq!(state, Some(State::Established), "{peer:?}");
    while stack.poll_event().is_some() {}
}

fn cookie_cost(stack: &mut Stack, now: sluice_tcp::clock::Instant) -> u128 {
    const ROUNDS: u32 = 200_000;
    let mut random = Random(1);
    let peers: Vec<Peer> = (0..ROUNDS).map(|_| random.peer()).collect();
    let wall = WallInstant::now();
    for peer in &peers {
        let receipt = peer.say(stack, now, &peer.syn());
        assert!(receipt.reply.is_some());
    }
    wall.elapsed().as_nanos() / u128::from(ROUNDS)
}

fn entry_cost() -> u128 {
    const ROUNDS: u32 = 45_000;
    let mut stack = Stack::new(config(16, 65_000), START);
    let mut random = Random(2);
    let peers: Vec<Peer> = (0..ROUNDS).map(|_| random.peer()).collect();
    let wall = WallInstant::now();
    for peer in &peers {
        let _ = peer.say(&mut stack, START, &peer.syn());
        let _ = stack.poll_transmit(START);
    }
    let spent = wall.elapsed();
    assert!(stack.counters().syn_cookies_sent < u64::from(ROUNDS) / 100);
    spent.as_nanos() / u128::from(ROUNDS)
}
