//! What an idle connection costs, all in: everything that a stack for so many connections ever asked the allocator
//! for, and has not given back, after each of them has carried a request and its response.
//!
//! A binary of its own, since the allocator counts for the whole process; for the same reason its tests take turns.

mod support;

use core::time::Duration;
use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::{Segment, Stack, StackConfig, State};
use sluice_wire::{Ecn, TcpFlags, TcpHeader, Timestamps};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Peer, START, config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static TURN: Mutex<()> = Mutex::new(());

const CONNECTIONS: u32 = 100_000;
/// Between two connections; each is idle for seconds when the last one begins.
const SPACING: Duration = Duration::from_micros(50);
const REQUEST: u32 = 100;
const RESPONSE: u64 = 5_000;
/// Bytes per idle connection, of which the goal is 512, and per entry in TIME-WAIT.
const IDLE_MAX: usize = 480;
const TIME_WAIT_MAX: usize = 64;

fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    let reallocated = isize::try_from(change.bytes_allocated).expect("not half of memory")
        - isize::try_from(change.bytes_deallocated).expect("not half of memory");
    usize::try_from(reallocated).expect("it holds something")
}

fn sizes(congestion: Algorithm) -> StackConfig {
    StackConfig {
        congestion,
        pacing: Some(sluice_tcp::pacing::PacingConfig::default()),
        time_wait: 1,
        ..config(CONNECTIONS, 64)
    }
}

/// A peer in mid-connection.
struct Client {
    peer: Peer,
    seq: u32,
    ack: u32,
    timestamp: Option<u32>,
}

impl Client {
    fn connect(number: u32, stack: &mut Stack, now: Instant) -> Client {
        let peer = Peer::new(number);
        let syn_ack = peer.knock(stack, now);
        let _ = peer.say(stack, now, &peer.ack(&syn_ack));
        Client {
            peer,
            seq: peer.iss.wrapping_add(1),
            ack: syn_ack.seq.wrapping_add(1),
            timestamp: syn_ack.options.timestamps.map(|option| option.value),
        }
    }

    fn say(&mut self, stack: &mut Stack, now: Instant, flags: TcpFlags, payload_len: u32) {
        let mut header = self.peer.header(self.seq, self.ack, flags);
        header.options.timestamps = self.timestamp.map(|echo| Timestamps { value: 1002, echo });
        let receipt = stack.on_segment(
            now,
            &Segment {
                key: self.peer.key(),
                header: &header,
                payload_len,
                ecn: Ecn::NotEct,
            },
        );
        assert_eq!(receipt.disposition, sluice_tcp::Disposition::Accepted);
        self.seq = self.seq.wrapping_add(payload_len);
    }

    fn hear(&mut self, header: &TcpHeader, len: u64) {
        let len = u32::try_from(len).expect("a segment");
        self.ack = header.seq.wrapping_add(len);
        self.timestamp = header.options.timestamps.map(|option| option.value);
    }
}

/// A request and its response on a connection of its own.
fn transfer(number: u32, stack: &mut Stack, now: Instant) {
    let mut client = Client::connect(number, stack, now);
    client.say(stack, now, TcpFlags::ACK, REQUEST);
    while let Some((conn, events)) = stack.poll_event() {
        if events.readable {
            let delivered = stack.delivered(conn);
            stack.consume(conn, delivered);
            stack.supply(conn, RESPONSE, false);
        }
    }
    while let Some(outgoing) = stack.poll_transmit(now) {
        client.hear(
            &outgoing.header,
            outgoing.payload.end - outgoing.payload.start,
        );
    }
    client.say(stack, now, TcpFlags::ACK, 0);
    while stack.poll_event().is_some() {}
    while stack.poll_transmit(now).is_some() {}
}

/// Bytes per connection when all have been idle for a while.
fn bytes_per_idle(congestion: Algorithm, carry: bool) -> usize {
    let region = Region::new(ALLOCATOR);
    let mut stack = Stack::new(sizes(congestion), START);
    let mut now = START;
    for number in 0..CONNECTIONS {
        now = now + SPACING;
        if carry {
            transfer(number, &mut stack, now);
        } else {
            let _ = Client::connect(number, &mut stack, now);
            while stack.poll_event().is_some() {}
            while stack.poll_transmit(now).is_some() {}
        }
        stack.on_timers(now);
    }
    for _ in 0..200 {
        now = now + Duration::from_millis(10);
        stack.on_timers(now);
        while stack.poll_transmit(now).is_some() {}
    }
    assert_eq!((stack.len(), stack.awake()), (CONNECTIONS, 0));
    let established = |conn| stack.state(conn) == Some(State::Established);
    assert!(stack.connections().take(100).all(established));
    held(&region) / CONNECTIONS as usize
}

#[test]
fn an_idle_connection_that_has_carried_data_fits_in_its_share() {
    let _turn = alone();
    for congestion in Algorithm::ALL {
        let bytes = bytes_per_idle(congestion, true);
        println!("{congestion:?}: {bytes} bytes per idle connection");
        assert!(bytes <= IDLE_MAX, "{congestion:?}: {bytes} bytes");
    }
}

#[test]
fn a_fresh_connection_fits_in_its_share() {
    let _turn = alone();
    for congestion in Algorithm::ALL {
        let bytes = bytes_per_idle(congestion, false);
        println!("{congestion:?}: {bytes} bytes per fresh connection");
        assert!(bytes <= IDLE_MAX, "{congestion:?}: {bytes} bytes");
    }
}

#[test]
fn an_entry_in_time_wait_fits_in_its_share_with_its_index() {
    let _turn = alone();
    let bytes_of = |time_wait| {
        let region = Region::new(ALLOCATOR);
        let stack = Stack::new(
            StackConfig {
                time_wait,
                ..config(1, 1)
            },
            START,
        );
        let bytes = held(&region);
        drop(stack);
        bytes
    };
    let bytes = (bytes_of(CONNECTIONS + 1) - bytes_of(1)) / CONNECTIONS as usize;
    println!("{bytes} bytes per entry in TIME-WAIT");
    assert!(bytes <= TIME_WAIT_MAX, "{bytes} bytes");
}
