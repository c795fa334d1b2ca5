//! B: segments forged into conversations of others, over IPv4 and IPv6. Who cannot see the sequence numbers changes
//! nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sluice_wire::{TcpFlags, TcpOptions, Timestamps};

use super::{Bed, over_both_families};
use crate::client::{Client, Download};
use crate::raw::{ACK, ANSWER, FIN, Flow, PSH_ACK, RST, Random, SYN, SYN_ACK};
use crate::site::assert_same;

/// A port for the curl that is attacked, known to the attacker like everything but the sequence numbers. A new one each
/// time: the kernel of the client remembers the last.
fn victim() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Downloads of 8 MiB that others try to break, over both families at once.
struct Victims<'a> {
    /// Over IPv4 and over IPv6.
    clients: [Client<'a>; 2],
    running: [Download; 2],
    ports: [u16; 2],
}

impl<'a> Victims<'a> {
    fn begin(bed: &'a Bed) -> Victims<'a> {
        let clients = [bed.client(), bed.client_v6()];
        let ports = [victim(), victim()];
        let running = [0, 1].map(|at| clients[at].begin_from("file.bin", "4M", ports[at]));
        Victims {
            clients,
            running,
            ports,
        }
    }

    fn have_ended(&mut self) -> bool {
        // Both are asked.
        !self
            .running
            .iter_mut()
            .any(|download| !download.has_ended())
    }

    /// The ends of the clients, as those who forge their segments know them.
    fn addresses(&self, bed: &Bed) -> [SocketAddr; 2] {
        let [v4, v6] = self.ports;
        [
            SocketAddr::new(bed.lab.client.ipv4, v4),
            SocketAddr::new(bed.lab.client.ipv6, v6),
        ]
    }

    /// Both downloads have to be whole.
    fn survived(self, bed: &Bed) {
        self.running.into_iter().for_each(Download::succeeded);
        for client in &self.clients {
            assert_same(&bed.site.path("file.bin"), &client.path("file.bin"));
        }
    }
}

/// Runs downloads and forges segments from their clients all the while.
fn a_download_survives(forged: impl Fn(&mut Random) -> (TcpFlags, u32, u32, usize)) {
    let Some(bed) = Bed::new() else { return };
    let mut random = Random(11);
    let mut victims = Victims::begin(&bed);
    let from = victims.addresses(&bed);
    let mut sent = 0;
    while !victims.have_ended() {
        for number in 0..200 {
            let (flags, seq, ack, payload) = forged(&mut random);
            let mut sketch = bed.wire.sketch(from[number % 2], flags, seq, ack);
            sketch.payload = vec![b'!'; payload];
            bed.wire.send(&sketch.frame());
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(sent > 500, "only {sent} forged segments");
    victims.survived(&bed);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_rsts() {
    a_download_survives(|random| (RST, random.word(), 0, 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_rst_acks() {
    a_download_survives(|random| (RST | ACK, random.word(), random.word(), 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_syns() {
    a_download_survives(|random| (SYN, random.word(), 0, 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_syn_acks() {
    a_download_survives(|random| (SYN_ACK, random.word(), random.word(), 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_data() {
    a_download_survives(|random| (PSH_ACK, random.word(), random.word(), 100));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_acks() {
    a_download_survives(|random| (ACK, random.word(), random.word(), 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_fins() {
    a_download_survives(|random| (FIN | ACK, random.word(), random.word(), 0));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_segments_with_any_flags() {
    a_download_survives(|random| {
        let flags = TcpFlags::from_bits(random.next().to_be_bytes()[0].into());
        (flags, random.word(), random.word(), 0)
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_download_survives_forged_icmp_errors() {
    let Some(bed) = Bed::new() else { return };
    let mut random = Random(12);
    let mut victims = Victims::begin(&bed);
    let [v4, v6] = victims.addresses(&bed);
    while !victims.have_ended() {
        // Port, protocol, host unreachable; too big for 68 bytes; source quench; time exceeded; redirect.
        for (kind, code) in [(3, 3), (3, 2), (3, 1), (3, 4), (4, 0), (11, 0), (5, 1)] {
            bed.wire
                .send(&icmp_error(&bed, v4, (kind, code), random.word()));
        }
        // Port unreachable, no route, prohibited; too big for 68 bytes; time exceeded; next header; redirect.
        for (kind, code) in [(1, 4), (1, 0), (1, 1), (2, 0), (3, 0), (4, 1), (137, 0)] {
            bed.wire
                .send(&icmp_error(&bed, v6, (kind, code), random.word()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    victims.survived(&bed);
    bed.healthy();
}

/// An ICMP error from a router that quotes a segment of the server to the victim.
fn icmp_error(bed: &Bed, victim: SocketAddr, (kind, code): (u8, u8), seq: u32) -> Vec<u8> {
    let (router, server) = match victim {
        SocketAddr::V4(_) => (bed.wire.stranger(0), bed.wire.server_v4),
        SocketAddr::V6(_) => (bed.wire.stranger_v6(0), bed.wire.server_v6),
    };
    let mut quoted = bed.wire.sketch(server, ACK, seq, 0);
    quoted.to = victim;
    (quoted.header.src_port, quoted.header.dst_port) = (server.port(), victim.port());
    let quoted = quoted.frame();
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 68];
    // The headers of the error are those of a segment, written over.
    let mut frame = bed.wire.sketch(router, ACK, 0, 0).frame();
    if victim.is_ipv4() {
        message.extend(&quoted[14..42]);
        let sum = sluice_wire::checksum::sum(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        frame.truncate(34);
        frame[23] = 1;
        let length = u16::try_from(20 + message.len()).expect("short");
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[24..26].fill(0);
        let sum = sluice_wire::checksum::sum(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        message.extend(&quoted[14..]);
        let length = u16::try_from(message.len()).expect("short");
        let ends = (router.ip(), server.ip());
        let mut sum = sluice_wire::checksum::pseudo_header(ends.0, ends.1, 58, length.into());
        sum.add_bytes(&message);
        message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        frame.truncate(54);
        frame[20] = 58;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    }
    frame.extend(message);
    frame
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_rst_in_the_window_is_challenged_one_outside_is_dropped_and_the_exact_one_ends_it() {
    over_both_families(|bed, me| {
        let flow = Flow::open(&bed.wire, me);
        let next = flow.snd_nxt;
        flow.forge(RST, |sketch| sketch.header.seq = next.wrapping_sub(1));
        flow.forge(RST, |sketch| sketch.header.seq = next.wrapping_add(1 << 30));
        bed.wire.assert_silent("a RST outside of the window");
        flow.forge(RST, |sketch| sketch.header.seq = next.wrapping_add(1));
        let challenge = flow.next(ANSWER).expect("a challenge");
        assert_eq!(challenge.header.flags, ACK);
        assert_eq!(
            (challenge.header.seq, challenge.header.ack),
            (flow.rcv_nxt, next)
        );
        flow.reset();
        bed.wire.assert_silent("the exact RST");
        bed.counted(&["tcp_resets_received"], 1);
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_syn_into_a_connection_is_challenged_and_changes_nothing() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let next = flow.snd_nxt;
        flow.forge(SYN, |sketch| sketch.header.seq = next.wrapping_add(99));
        let challenge = flow.next(ANSWER).expect("a challenge");
        assert_eq!(challenge.header.flags, ACK);
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

/// Answers to 400 segments of one kind within two seconds, for each of these connections.
fn answers_to(flows: &[Flow; 2], flags: TcpFlags, offset: u32) -> [usize; 2] {
    for _ in 0..400 {
        for flow in flows {
            let seq = flow.snd_nxt.wrapping_add(offset);
            flow.forge(flags, |sketch| sketch.header.seq = seq);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    [0, 1].map(|at| flows[at].all(Duration::from_millis(50)).len())
}

/// A connection of the peer at this port, over each family.
fn both(bed: &Bed, port: u16) -> [Flow<'_>; 2] {
    bed.wire.strangers(port).map(|me| Flow::open(&bed.wire, me))
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn challenges_of_a_connection_are_few_and_have_two_budgets() {
    let Some(bed) = Bed::new() else { return };
    let flows = both(&bed, 1);
    let begun = Instant::now();
    let resets = answers_to(&flows, RST, 1);
    let halves = usize::try_from(begun.elapsed().as_millis() / 450).expect("few") + 1;
    for (flow, resets) in flows.into_iter().zip(resets) {
        assert!((2..=halves.min(10)).contains(&resets), "{resets} for RSTs");
        // The budget for other segments is untouched.
        flow.forge(ACK, |sketch| {
            sketch.header.seq = sketch.header.seq.wrapping_sub(70_000);
        });
        assert!(flow.next(ANSWER).is_some(), "the other budget");
        flow.reset();
    }
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn what_one_connection_used_up_another_still_has() {
    let Some(bed) = Bed::new() else { return };
    let mine = both(&bed, 1);
    let others = both(&bed, 2);
    let used = answers_to(&mine, SYN, 5);
    assert!(used.iter().all(|used| *used >= 2), "{used:?} challenges");
    for number in 1..=2 {
        if number == 2 {
            std::thread::sleep(Duration::from_millis(600));
        }
        for other in &others {
            other.forge(SYN, |_| {});
            assert!(other.next(ANSWER).is_some(), "challenge {number}");
        }
    }
    mine.into_iter().chain(others).for_each(Flow::reset);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn two_desynchronised_peers_do_not_shout_at_each_other() {
    let Some(bed) = Bed::new() else { return };
    let flows = both(&bed, 1);
    let outside = |flow: &Flow| {
        flow.forge(ACK, |sketch| {
            sketch.header.seq = sketch.header.seq.wrapping_add(1 << 30);
        });
    };
    flows.iter().for_each(outside);
    let begun = Instant::now();
    let mut heard = [0, 0];
    while begun.elapsed() < Duration::from_secs(3) {
        for (flow, heard) in flows.iter().zip(&mut heard) {
            // This peer answers every answer, at once.
            if flow.next(Duration::from_millis(5)).is_some() {
                *heard += 1;
            }
            outside(flow);
        }
    }
    let few = heard.iter().all(|heard| (1..=7).contains(heard));
    assert!(few, "{heard:?} answers in 3 s");
    flows.into_iter().for_each(Flow::reset);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_ack_of_what_was_never_sent_or_long_ago_takes_its_data_with_it() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        for wrong in [1u32, 1 << 20, 0u32.wrapping_sub(1 << 20)] {
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.ack = sketch.header.ack.wrapping_add(wrong);
                sketch.payload = b"DELETE / HTTP/1.1\r\n\r\n".to_vec();
            });
        }
        bed.counted(&["tcp_ack_out_of_range"], 3);
        let answers = flow.all(Duration::from_millis(100));
        assert!(
            answers
                .iter()
                .all(|seen| seen.header.flags == ACK && seen.header.ack == flow.snd_nxt)
        );
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn data_outside_of_the_window_never_gets_into_a_request() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let text = crate::raw::request("/small.bin");
        let (head, tail) = text.as_bytes().split_at(9);
        flow.send(PSH_ACK, head);
        for offset in [1u32 << 16, 1 << 20, 1 << 31, 0u32.wrapping_sub(1000)] {
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_add(offset);
                sketch.payload = vec![b'?'; 100];
            });
        }
        bed.counted(&["tcp_outside_window"], 4);
        flow.send(PSH_ACK, tail);
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_half_open_handshake_survives_inexact_rsts_and_other_syns() {
    over_both_families(|bed, me| {
        let mut flow = Flow::half_open(&bed.wire, me, TcpOptions::default());
        let next = flow.snd_nxt;
        for offset in [1u32, 1000, 1 << 30] {
            flow.forge(RST, |sketch| sketch.header.seq = next.wrapping_add(offset));
            flow.forge(SYN, |sketch| sketch.header.seq = next.wrapping_add(offset));
        }
        let answers = flow.all(Duration::from_millis(200));
        assert!(answers.len() <= 2, "{answers:?}");
        assert!(answers.iter().all(|seen| !seen.has(RST)));
        flow.send(ACK, b"");
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn segments_with_old_or_missing_timestamps_do_nothing() {
    over_both_families(|bed, me| {
        let options = TcpOptions {
            mss: Some(1460),
            timestamps: Some(Timestamps {
                value: 100_000,
                echo: 0,
            }),
            ..TcpOptions::default()
        };
        let mut flow = Flow::offering(&bed.wire, me, options);
        for age in [1u32, 5000, 1 << 30] {
            flow.forge(PSH_ACK, |sketch| {
                if let Some(stamp) = &mut sketch.header.options.timestamps {
                    stamp.value = stamp.value.wrapping_sub(age);
                }
                sketch.payload = b"x".to_vec();
            });
        }
        flow.forge(PSH_ACK, |sketch| {
            sketch.header.options.timestamps = None;
            sketch.payload = b"x".to_vec();
        });
        bed.counted(&["tcp_paws"], 3);
        bed.counted(&["tcp_timestamp_missing"], 1);
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}
