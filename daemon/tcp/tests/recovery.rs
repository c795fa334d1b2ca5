//! Loss recovery end to end, in virtual time: a stack, a receiver written from the RFCs, and a path that loses,
//! delays and reorders what the test says. The round trip is 20 ms.

#[path = "recovery/bed.rs"]
mod bed;
#[path = "recovery/peer.rs"]
mod peer;

use core::time::Duration;

use bed::{Bed, Departure, Fate, ONE_WAY, arrives};
use peer::Offer;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const RTT: Duration = Duration::from_millis(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Loses the first `times` transmissions of the segment that leaves as number `index`.
fn losing(index: u64, times: u32) -> impl FnMut(&Departure) -> Fate {
    let mut victim = None;
    move |departure| {
        if departure.index == index {
            victim = Some(departure.range.start);
        }
        if victim == Some(departure.range.start) && departure.repeats < times {
            Fate::Lost
        } else {
            arrives()
        }
    }
}

/// A small generator with a seed to print.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }
}

#[test]
fn a_clean_path_needs_no_repetition() {
    let mut bed = Bed::connected(Offer::default());
    bed.transfer(4 * MIB, |_| arrives());
    bed.settle();
    assert!(bed.repeated().is_empty());
    assert_eq!(bed.counters().fast_recoveries, 0);
}

#[test]
fn one_loss_costs_one_repetition_and_one_round_trip() {
    // RFC 8985 section 6, RFC 5681 section 3.2.
    let mut bed = Bed::connected(Offer::default());
    bed.transfer(MIB, losing(40, 1));
    let repeated = bed.repeated();
    assert_eq!(repeated.len(), 1);
    let delay = repeated[0].at.saturating_since(bed.log[40].at);
    assert!(delay <= RTT + ms(6), "sent again after {delay:?}");
    let tcp = bed.counters();
    assert_eq!((tcp.retransmitted_fast, tcp.fast_recoveries), (1, 1));
    assert_eq!((tcp.timeouts, tcp.spurious_undone), (0, 0));
}

#[test]
fn a_lost_retransmission_is_sent_again_without_a_time_out() {
    // RFC 8985 section 6.2: the purpose of RACK.
    for times in 2..6 {
        let mut bed = Bed::connected(Offer::default());
        bed.transfer(4 * MIB, losing(60, times));
        let tcp = bed.counters();
        assert_eq!(tcp.timeouts, 0, "{times} losses of one segment");
        assert_eq!(bed.repeated().len() as u64, u64::from(times));
        assert_eq!(tcp.retransmitted_fast, 1);
        assert_eq!(tcp.retransmitted_rack, u64::from(times) - 1);
    }
}

#[test]
fn a_lost_tail_of_any_length_is_repaired_by_a_probe() {
    // RFC 8985 section 7.
    for lost in 1..=8 {
        let mut bed = Bed::connected(Offer::default());
        let bytes = 10 * 1448;
        let took = bed.transfer(bytes, |departure| {
            if departure.repeats == 0 && departure.index >= 10 - lost {
                Fate::Lost
            } else {
                arrives()
            }
        });
        let tcp = bed.counters();
        assert_eq!(tcp.timeouts, 0, "{lost} of 10 lost");
        assert_eq!(tcp.tail_probes, 1);
        // A single segment left in flight waits for a delayed ACK first.
        let limit = if lost == 1 { ms(300) } else { ms(200) };
        assert!(took < limit, "{lost} of 10 lost: {took:?}");
    }
}

#[test]
fn a_repetition_that_nothing_follows_is_probed_for() {
    // Beyond RFC 8985 section 7.2: the end of the stream, a hole in it, and its repetition lost too.
    let mut bed = Bed::connected(Offer::default());
    let took = bed.transfer(10 * 1448, losing(4, 2));
    let tcp = bed.counters();
    assert_eq!(
        (tcp.fast_recoveries, tcp.tail_probes, tcp.timeouts),
        (1, 1, 0)
    );
    assert!(took < ms(150), "{took:?}");
}

#[test]
fn the_retransmission_timer_is_left_when_the_probe_is_lost_too() {
    // RFC 8985 section 7.3: one probe per tail.
    let mut bed = Bed::connected(Offer::default());
    let took = bed.transfer(10 * 1448, |departure| {
        if departure.index >= 7 && departure.index <= 10 {
            Fate::Lost
        } else {
            arrives()
        }
    });
    let tcp = bed.counters();
    assert_eq!((tcp.tail_probes, tcp.timeouts), (1, 1));
    assert!(took < ms(500), "{took:?}");
}

#[test]
fn reordering_within_a_quarter_of_the_round_trip_repeats_nothing_once_it_was_seen() {
    // RFC 8985 section 6.2, steps 3 and 4.
    let mut bed = Bed::connected(Offer::default());
    bed.transfer(8 * MIB, |departure| {
        let late = if departure.index % 10 == 3 {
            ms(4)
        } else {
            ms(0)
        };
        Fate::Arrives(ONE_WAY + late)
    });
    bed.settle();
    let repeated = bed.repeated();
    assert!(
        repeated.iter().all(|departure| departure.index < 100),
        "{} repetitions, the last as number {:?}",
        repeated.len(),
        repeated.last().map(|d| d.index)
    );
    assert_eq!(bed.counters().timeouts, 0);
}

#[test]
fn wider_reordering_is_learnt_from_duplicate_reports() {
    // RFC 8985 section 6.2, step 4: DSACK widens the window.
    let mut bed = Bed::connected(Offer::default());
    bed.transfer(16 * MIB, |departure| {
        let late = if departure.index % 50 == 7 {
            ms(9)
        } else {
            ms(0)
        };
        Fate::Arrives(ONE_WAY + late)
    });
    let count = bed.log.len() as u64;
    let late = |d: &&&Departure| d.index > count / 2;
    assert_eq!(bed.repeated().iter().filter(late).count(), 0);
    let tcp = bed.counters();
    assert_eq!(tcp.timeouts, 0);
    assert!(tcp.spurious_undone > 0);
}

#[test]
fn a_path_that_pauses_costs_a_repetition_a_time_out_and_no_window() {
    // RFC 5682, RFC 3522: nothing was lost, everything is late once. The answers of the repetitions come behind those of
    // all originals.
    for (sack, timestamps) in [(true, true), (true, false), (false, true), (false, false)] {
        for pause in [300, 700, 2000] {
            let case = format!("SACK {sack}, timestamps {timestamps}, {pause} ms");
            println!("{case}");
            let mut bed = Bed::connected(Offer {
                sack,
                timestamps,
                ..Offer::default()
            });
            let begin = bed.now + ms(100);
            let over = begin + ms(pause);
            // In order, and not all in one moment: what leaves for one of them is seen before the next.
            let path = |departure: &Departure| {
                let is_late = departure.at >= begin && departure.at < over;
                let waits = if is_late {
                    over.saturating_since(departure.at) + Duration::from_micros(departure.index)
                } else {
                    ms(0)
                };
                Fate::Arrives(waits + ONE_WAY)
            };
            bed.stack.supply(bed.conn, 8 * MIB, false);
            bed.run(begin, |_| false, path);
            let cwnd = bed.cwnd();
            bed.run(over + 4 * RTT, |_| false, path);
            println!("{cwnd} became {}", bed.cwnd());
            assert!(bed.cwnd() >= cwnd, "{case}");
            bed.run(over + ms(10_000), |_| false, path);
            assert_eq!(bed.peer.received, 8 * MIB, "{case}");
            let tcp = bed.counters();
            assert!(tcp.timeouts >= 1, "{case}");
            assert_eq!(tcp.spurious_undone, 1, "{case}");
            assert_eq!(tcp.fast_recoveries, 0, "{case}");
            assert_eq!(bed.repeated().len() as u64, tcp.timeouts, "{case}");
        }
    }
}

#[test]
fn an_outage_is_no_spurious_time_out() {
    for timestamps in [true, false] {
        let mut bed = Bed::connected(Offer {
            timestamps,
            ..Offer::default()
        });
        let begin = bed.now + ms(100);
        let over = begin + ms(300);
        bed.transfer(4 * MIB, |departure| {
            if departure.at >= begin && departure.at < over {
                Fate::Lost
            } else {
                arrives()
            }
        });
        let tcp = bed.counters();
        assert!(tcp.timeouts >= 1);
        assert_eq!(tcp.spurious_undone, 0, "timestamps: {timestamps}");
        assert_eq!(bed.peer.duplicates, 0, "timestamps: {timestamps}");
    }
}

/// Bytes of a segment without timestamps.
const SEGMENT: u64 = peer::MSS as u64;

/// Reductions undone by a report of the retransmitted segment in an acknowledgement up to `ack` bytes before it.
fn undone_by_a_report(before: u64) -> u64 {
    let mut bed = Bed::connected(Offer {
        timestamps: false,
        ..Offer::default()
    });
    bed.stack.supply(bed.conn, 4 * MIB, false);
    let end = bed.now + ms(1000);
    let victim = 20 * SEGMENT;
    bed.run(end, |bed| bed.peer.received > victim, losing(20, 1));
    assert_eq!(bed.repeated().len(), 1);
    bed.run(bed.now + ONE_WAY, |_| false, |_| arrives());
    let mut header = bed.peer.acknowledge(bed.now);
    if before > 0 {
        header.ack = bed.peer.wire(victim - before);
    }
    header.options.sack = sluice_wire::SackBlocks::default();
    header.options.sack.push(sluice_wire::SackBlock {
        start: bed.peer.wire(victim),
        end: bed.peer.wire(victim + SEGMENT),
    });
    bed.inject(&header);
    bed.counters().spurious_undone
}

#[test]
fn a_block_is_a_duplicate_report_only_against_its_own_acknowledgement() {
    // RFC 2883 section 4: an acknowledgement that was overtaken reports what was news when it left.
    assert_eq!(undone_by_a_report(0), 1);
    assert_eq!(undone_by_a_report(SEGMENT), 0);
}

#[test]
fn a_recovery_neither_falls_silent_nor_bursts() {
    // RFC 9937: PRR.
    let mut bed = Bed::connected(Offer {
        ack_every: 1,
        ..Offer::default()
    });
    // A steady stream: the acknowledgements of slow start come in one clump per round trip otherwise.
    let mut busy = bed.now;
    bed.transfer(8 * MIB, |departure| {
        busy = busy.max(departure.at) + Duration::from_micros(100);
        if departure.index == 1500 {
            return Fate::Lost;
        }
        Fate::Arrives(busy.saturating_since(departure.at) + ONE_WAY)
    });
    let lost_at = bed.log[1500].at;
    let begin = bed.repeated().first().expect("it was lost").at;
    let end = begin + begin.saturating_since(lost_at);
    let mut last = begin;
    let mut together = 0;
    for departure in bed.log.iter().filter(|d| d.at >= begin && d.at <= end) {
        let gap = departure.at.saturating_since(last);
        assert!(gap <= ms(3), "silent for {gap:?}");
        together = if departure.at == last {
            together + 1
        } else {
            1
        };
        assert!(together <= 3, "{together} segments at once");
        last = departure.at;
    }
    assert_eq!(bed.counters().timeouts, 0);
}

#[test]
fn a_storm_of_acknowledgements_lets_nothing_out() {
    let mut bed = Bed::connected(Offer::default());
    let end = bed.now + ms(60);
    bed.stack.supply(bed.conn, 4 * MIB, false);
    bed.run(end, |_| false, losing(20, 1000));
    let before = bed.counters().segments_out;
    let una = bed.peer.received;
    let mut random = Random(99);
    for _ in 0..20_000 {
        // Old ones, duplicates, and blocks anywhere in what was sent.
        let mut header = bed.peer.acknowledge(bed.now);
        for _ in 0..random.below(4) {
            let start = una + random.below(100_000);
            header.options.sack.push(sluice_wire::SackBlock {
                start: bed.peer.wire(start),
                end: bed.peer.wire(start + random.below(3)),
            });
        }
        bed.inject(&header);
        while bed.stack.poll_transmit(bed.now).is_some() {}
    }
    let sent = bed.counters().segments_out - before;
    // What the blocks claim has left the network may be replaced, once: it is far less than a window.
    assert!(sent < 300, "{sent} segments answer the storm");
}

#[test]
fn a_peer_without_sack_is_served_too() {
    // RFC 6582.
    let mut bed = Bed::connected(Offer {
        sack: false,
        ..Offer::default()
    });
    bed.transfer(2 * MIB, losing(50, 1));
    let tcp = bed.counters();
    assert_eq!((tcp.fast_recoveries, tcp.timeouts), (1, 0));
    assert_eq!((tcp.retransmitted_fast, tcp.tail_probes), (1, 0));
}

/// A transfer of 8 MiB to a receiver that keeps nothing out of order, whose first flight is lost while its window
/// closes. How long it takes from when the window opens again.
fn to_a_receiver_that_keeps_nothing(offer: Offer, window: u16) -> Duration {
    let mut bed = Bed::connected(Offer {
        keeps: false,
        ack_every: 1,
        ..offer
    });
    let bytes = 8 * MIB;
    bed.stack.supply(bed.conn, bytes, false);
    bed.run(bed.now + ms(30), |_| false, |_| Fate::Lost);
    for window in [0, window] {
        bed.peer.window = window;
        let update = bed.peer.acknowledge(bed.now);
        bed.inject(&update);
        if window == 0 {
            bed.run(bed.now + ms(300), |_| false, |_| Fate::Lost);
        }
    }
    let begin = bed.now;
    let patience = begin + Duration::from_secs(600);
    bed.run(patience, |bed| bed.peer.received >= bytes, |_| arrives());
    assert_eq!(bed.peer.received, bytes, "{offer:?}, window {window}");
    bed.now.saturating_since(begin)
}

#[test]
fn a_receiver_that_keeps_nothing_out_of_order_costs_one_time_out_a_loss() {
    // RFC 5682 section 3.1, step 3a; RFC 2018 section 8 lets a receiver with SACK drop what it holds.
    for timestamps in [false, true] {
        for window in [64, 60_000] {
            let [plain, sack] = [false, true].map(|sack| {
                let offer = Offer {
                    sack,
                    timestamps,
                    ..Offer::default()
                };
                to_a_receiver_that_keeps_nothing(offer, window)
            });
            assert!(plain < ms(4000), "window {window}: {plain:?}");
            assert!(sack < plain + ms(500), "window {window}: {sack:?}");
        }
    }
}

#[test]
fn losses_on_the_way_to_a_receiver_that_keeps_nothing_stall_nothing() {
    let mut bed = Bed::connected(Offer {
        keeps: false,
        ..Offer::default()
    });
    // A loss in every thousand segments: some six, each with a time-out and a slow start.
    let took = bed.transfer(8 * MIB, |departure| {
        if departure.index % 1000 == 500 {
            Fate::Lost
        } else {
            arrives()
        }
    });
    let time_outs = bed.counters().timeouts;
    assert!(took < ms(8000), "{took:?} with {time_outs} time-outs");
}

/// Transfers through random loss on both ways and random reordering. Time-outs and how long it took.
fn through_chaos(seed: u64, loss: u64, reorder: u64, bytes: u64, offer: Offer) -> (u64, Duration) {
    let mut bed = Bed::connected(offer);
    let mut random = Random(seed * 2 + 1);
    let mut ack_random = Random(seed * 7 + 3);
    bed.lose_ack = Box::new(move |_| ack_random.per_mille(loss / 2));
    let took = bed.transfer(bytes, |_| {
        if random.per_mille(loss) {
            Fate::Lost
        } else if random.per_mille(reorder) {
            Fate::Arrives(ONE_WAY + Duration::from_micros(random.below(20_000)))
        } else {
            arrives()
        }
    });
    bed.settle();
    (bed.counters().timeouts, took)
}

#[test]
fn five_percent_loss_costs_hardly_any_time_out() {
    let (mut time_outs, mut seconds) = (0, 0.0);
    for seed in 1..=8 {
        let (count, took) = through_chaos(seed, 50, 0, 4 * MIB, Offer::default());
        time_outs += count;
        seconds += took.as_secs_f64();
    }
    // Each of the 8 transfers loses some 150 segments, 7 of them twice.
    assert!(time_outs <= 8, "{time_outs} time-outs");
    assert!(seconds < 8.0 * 20.0, "{seconds} s for 32 MiB");
}

#[test]
fn the_stream_arrives_whole_through_any_chaos() {
    for (loss, reorder) in [(0, 300), (10, 0), (50, 100), (100, 50), (300, 200)] {
        for seed in 1..=12 {
            for (sack, timestamps) in [(true, true), (true, false), (false, true)] {
                let offer = Offer {
                    sack,
                    timestamps,
                    ..Offer::default()
                };
                println!("seed {seed}, loss {loss}, reordering {reorder}, {offer:?}");
                let _ = through_chaos(seed, loss, reorder, 200 * KIB, offer);
            }
        }
    }
}
