//! The client over rings in memory, with our stack on a thread as the server behind them.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{HugePages, Queue, QueueConfig, Umem, UmemConfig};
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{ConnId, Outgoing, Segment, Stack, StackConfig};
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, Packet, ParseConfig, TcpEmit, TcpHeader, parse,
};

use super::host::repeat;
use super::*;
use crate::load::DIFFERS;
use crate::report::Latency;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 8080);
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// More than two segments, so that pieces can come out of order.
const BODY: usize = 4000;
const CONNECTIONS: u32 = 64;

fn body() -> Vec<u8> {
    (0..BODY).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

/// What the server does wrong.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// It loses one frame in so many, either way.
    loses_each: Option<u32>,
    /// It does not lose that frame on its way to the client, but a bit of it is another.
    spoils: bool,
    /// It closes behind every answer.
    closes: bool,
    /// A byte of its answers is another.
    lies: bool,
    /// It needs so long for everything.
    pause: Duration,
}

/// A server that answers every request with the same bytes.
struct Server {
    nic: MemoryNic,
    stack: Stack,
    clock: Clock,
    faults: Faults,
    request: u64,
    response: Vec<u8>,
    frames: u32,
}

impl Server {
    /// Whether this frame gets through.
    fn passes(&mut self) -> bool {
        self.frames += 1;
        let each = self.faults.loses_each;
        each.is_none_or(|each| !self.frames.is_multiple_of(each))
    }

    fn turn(&mut self) {
        let now = self.clock.at(Instant::now());
        let mut frames = Vec::new();
        self.nic
            .transmit(u32::MAX, |pieces, _| frames.push(pieces.concat()));
        if !frames.is_empty() {
            thread::sleep(self.faults.pause);
        }
        for frame in frames {
            if self.passes() {
                self.receive(&frame, now);
            }
        }
        self.stack.on_timers(now);
        while let Some((conn, events)) = self.stack.poll_event() {
            if events.readable {
                self.answer(conn, now);
            }
            if events.peer_finished {
                self.stack.close(conn, now);
            }
        }
        while let Some(Outgoing {
            key,
            header,
            payload,
            ..
        }) = self.stack.poll_transmit(now)
        {
            let len = usize::try_from(payload.end - payload.start).unwrap();
            self.send(&key, &header, payload.start, len);
        }
    }

    fn receive(&mut self, frame: &[u8], now: clock::Instant) {
        let packet = match parse(frame, frame.len(), &ParseConfig::default()) {
            Ok(Packet::Tcp(packet)) => packet,
            other => panic!("{other:?}"),
        };
        packet
            .verify_checksum([frame], ChecksumPolicy::AcceptPartial)
            .expect("a right checksum");
        let key = FlowKey::new(
            packet.dst,
            packet.header.dst_port,
            packet.src,
            packet.header.src_port,
        );
        let receipt = self.stack.on_segment(
            now,
            &Segment {
                key,
                header: &packet.header,
                payload_len: u32::try_from(packet.payload_len).unwrap(),
                ecn: packet.ecn,
            },
        );
        if let Some(header) = receipt.reply {
            self.send(&key, &header, 0, 0);
        }
    }

    /// As many answers as whole requests came.
    fn answer(&mut self, conn: ConnId, now: clock::Instant) {
        let delivered = self.stack.delivered(conn);
        self.stack.consume(conn, delivered);
        let answers = delivered / self.request;
        self.stack
            .supply(conn, answers * self.response.len() as u64, false);
        if self.faults.closes && answers > 0 {
            self.stack.close(conn, now);
        }
    }

    fn send(&mut self, key: &FlowKey, header: &TcpHeader, from: u64, len: usize) {
        let mut frame = vec![0; 128 + len];
        let emit = TcpEmit {
            link: &LinkHeader::default(),
            src: key.local(),
            dst: key.remote(),
            ecn: Ecn::NotEct,
            header,
            payload_len: len,
        };
        let unsealed = emit.emit(&mut frame).expect("room");
        let end = unsealed.headers_len() + len;
        let sum = repeat(
            &mut frame[unsealed.headers_len()..end],
            &self.response,
            from,
        );
        unsealed.seal_full(&mut frame, sum);
        let passes = self.passes();
        if !passes && self.faults.spoils {
            frame[end - 1] ^= 1;
        }
        if passes || self.faults.spoils {
            self.nic.inject(&frame[..end]);
        }
    }
}

fn options(close: bool) -> Options {
    Options {
        server: SERVER,
        client: crate::load::Stack::Afxdp,
        path: "/".to_owned(),
        connections: CONNECTIONS,
        close,
        ..crate::load::tests::options()
    }
}

/// Runs the client against such a server.
fn run(options: &Options, faults: Faults) -> io::Result<(Outcome, Vec<u8>)> {
    let umem = Umem::new(&UmemConfig {
        frames: 4096,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    });
    let (queue, nic) =
        Queue::in_memory(umem.expect("memory"), &QueueConfig::new(0, 0), u32::MAX - 5);
    let clock = Clock::new(Instant::now());
    let mut sent = body();
    if faults.lies {
        sent[BODY - 1] ^= 1;
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    let mut server = Server {
        nic,
        stack: Stack::new(
            StackConfig::new(4 * CONNECTIONS + CLOSING, [1; 16], Secret::new([2; 32])),
            clock.epoch,
        ),
        clock,
        faults,
        request: Request::get(options).len() as u64,
        response: [head.as_bytes(), &sent].concat(),
        frames: 0,
    };
    let ends = Ends {
        link: LinkHeader::default(),
        addresses: vec![HERE],
        server: SERVER,
        mtu: 1500,
    };
    let slots = 2 * options.connections + options.resting + CLOSING;
    let request = Request::get(options).head().to_vec();
    let host = Host::new(queue, ends, slots, request, 64_500, clock.epoch);
    let mut driver = Driver::new(host, clock, body().into(), slots);
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            server.turn();
        }
    });
    let done = driver.verify(options).and_then(|()| driver.run(options));
    is_over.store(true, Ordering::Relaxed);
    thread.join().expect("the server lives");
    done
}

#[test]
fn every_connection_is_answered_again_and_again() {
    let (outcome, _) = run(&options(false), Faults::default()).unwrap();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert_eq!(outcome.lost.total(), 0, "{outcome:?}");
    assert!(outcome.requests > u64::from(CONNECTIONS), "{outcome:?}");
    // What is at its beginning or end is in one of them only.
    let bodies = outcome.requests * BODY as u64;
    let edge = u64::from(CONNECTIONS) * BODY as u64;
    assert!(outcome.bytes.abs_diff(bodies) <= edge, "{outcome:?}");
}

#[test]
fn those_that_rest_stay_open_beside_those_that_ask() {
    let options = Options {
        resting: 700,
        connections: 4,
        ..options(false)
    };
    let (outcome, _) = run(&options, Faults::default()).unwrap();
    assert_eq!((outcome.at_rest, outcome.failed), (700, 0), "{outcome:?}");
    assert!(outcome.requests > 4, "{outcome:?}");
}

#[test]
fn those_that_the_server_closes_do_not_rest() {
    let options = Options {
        resting: 20,
        connections: 1,
        ..options(false)
    };
    let faults = Faults {
        closes: true,
        ..Faults::default()
    };
    let (outcome, _) = run(&options, faults).unwrap();
    assert_eq!(outcome.at_rest, 0, "{outcome:?}");
}

#[test]
fn a_connection_of_its_own_for_every_request_ends_on_both_sides() {
    let faults = Faults {
        closes: true,
        ..Faults::default()
    };
    let (outcome, _) = run(&options(true), faults).unwrap();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.requests > u64::from(CONNECTIONS), "{outcome:?}");
}

#[test]
fn what_the_link_loses_comes_again() {
    let faults = Faults {
        loses_each: Some(37),
        ..Faults::default()
    };
    let (outcome, _) = run(&options(false), faults).unwrap();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.requests > u64::from(CONNECTIONS), "{outcome:?}");
}

#[test]
fn frames_that_the_client_does_not_take_are_said_at_the_end() {
    let faults = Faults {
        loses_each: Some(37),
        spoils: true,
        ..Faults::default()
    };
    let (outcome, _) = run(&options(false), faults).unwrap();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert!(outcome.lost.refused > 0, "{outcome:?}");
}

#[test]
fn an_answer_that_is_not_the_file_is_found() {
    let faults = Faults {
        lies: true,
        ..Faults::default()
    };
    let error = run(&options(false), faults).unwrap_err();
    assert_eq!(error.to_string(), DIFFERS);
}

#[test]
fn an_open_loop_counts_from_when_a_request_was_due() {
    // One connection, 200 requests a second of a server that needs 20 ms or more for each: the median waits long.
    let options = Options {
        connections: 1,
        rate: Some(200.0),
        ..options(false)
    };
    let faults = Faults {
        pause: Duration::from_millis(10),
        ..Faults::default()
    };
    let (outcome, histograms) = run(&options, faults).unwrap();
    assert_eq!(outcome.requests, 80, "{outcome:?}");
    let intervals = crate::load::read_histograms(&histograms, 1, 0.4).unwrap();
    let p50 = Latency::of(&intervals).unwrap().p50_us;
    assert!(p50 > 200_000.0, "{p50}");
}

#[test]
fn the_other_addresses_of_the_client_give_more_ports() {
    let mut seen = std::collections::BTreeSet::new();
    let umem = Umem::new(&UmemConfig {
        frames: 64,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: false,
    });
    let config = QueueConfig {
        rx_ring: 64,
        tx_ring: 64,
        fill_ring: 64,
        completion_ring: 64,
        ..QueueConfig::new(0, 0)
    };
    let (queue, _nic) = Queue::in_memory(umem.expect("memory"), &config, 0);
    let ends = Ends {
        link: LinkHeader::default(),
        addresses: vec![HERE, Ipv4Addr::new(192, 0, 2, 9)],
        server: SERVER,
        mtu: 1500,
    };
    let now = clock::Instant::ZERO + Duration::from_secs(1);
    let mut host = Host::new(queue, ends, 1000, b"GET".to_vec(), u32::MAX, now);
    for _ in 0..1000 {
        host.open(now).unwrap();
    }
    assert!(host.open(now).is_err(), "there is no room");
    while let Some(outgoing) = host.stack().poll_transmit(now) {
        seen.insert((outgoing.key.local(), outgoing.key.local_port()));
    }
    assert_eq!(seen.len(), 1000);
    let second = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
    assert_eq!(seen.iter().filter(|(own, _)| *own == second).count(), 500);
}
