//! Nanoseconds per segment for reading and writing headers: `cargo bench -p sluice-wire`.
//!
//! The work of one acknowledgement in and one segment out, payload excluded. The best of several rounds.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use sluice_wire::checksum::Sum;
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader, TcpOptions,
    Timestamps, parse,
};

const ROUNDS: usize = 20;
const CALLS: u32 = 1_000_000;

fn main() {
    let v4: [IpAddr; 2] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv4Addr::new(192, 0, 2, 2).into(),
    ];
    let v6: [IpAddr; 2] = [
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(),
    ];
    println!(
        "{:>6} {:>8} {:>18} {:>8}  ns",
        "", "parse", "parse and verify", "emit"
    );
    for (name, addresses) in [("ipv4", v4), ("ipv6", v6)] {
        bench(name, addresses);
    }
}

fn bench(name: &str, [src, dst]: [IpAddr; 2]) {
    let link = LinkHeader::default();
    let header = TcpHeader {
        flags: TcpFlags::ACK,
        options: TcpOptions {
            timestamps: Some(Timestamps::default()),
            ..TcpOptions::default()
        },
        ..TcpHeader::default()
    };
    let emit = TcpEmit {
        link: &link,
        src,
        dst,
        ecn: Ecn::NotEct,
        header: &header,
        payload_len: 0,
    };
    let config = ParseConfig::default();
    let mut frame = [0; TcpEmit::MAX_HEADERS];
    let written = nanoseconds(|| {
        let unsealed = black_box(&emit).emit(&mut frame).expect("headers fit");
        unsealed.seal_full(&mut frame, Sum::default());
        black_box(&mut frame);
    });
    let len = link.encoded_len() + if src.is_ipv4() { 20 } else { 40 } + header.encoded_len();
    let frame = &frame[..len];
    let parsed = nanoseconds(|| {
        let _ = black_box(parse(black_box(frame), len, &config));
    });
    let verified = nanoseconds(|| {
        let Ok(Packet::Tcp(packet)) = parse(black_box(frame), len, &config) else {
            panic!("our own frame is refused")
        };
        packet
            .verify_checksum([frame], ChecksumPolicy::Verify)
            .expect("our own checksum is right");
        black_box(packet);
    });
    println!("{name:>6} {parsed:>8.1} {verified:>18.1} {written:>8.1}");
}

/// Nanoseconds per call in the best round.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            work();
        }
        best = best.min(start.elapsed());
    }
    best.as_secs_f64() * 1e9 / f64::from(CALLS)
}
