use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn key(number: u32) -> FlowKey {
    let host = Ipv4Addr::from_bits(0x0a00_0000 + number);
    let server = Ipv4Addr::new(192, 0, 2, 1);
    FlowKey::new(IpAddr::V4(server), 80, IpAddr::V4(host), 50_000)
}

fn handshake(key: FlowKey) -> Handshake {
    Handshake {
        key,
        irs: SeqNumber::new(1),
        iss: SeqNumber::new(2),
        offer: Offer {
            mss: 1460,
            window_scale: Some(0),
            sack: true,
            ecn: EcnTerms::None,
            timestamp: Some(7),
        },
        syn_ack: SynAck::Several { repeats: 0 },
    }
}

fn table(capacity: u32) -> SynTable {
    SynTable::new(capacity, [3; 16], &RtoConfig::default(), Instant::ZERO)
}

/// Sends everything that is due and says how much that was.
fn send(table: &mut SynTable, now: Instant) -> usize {
    core::iter::from_fn(|| table.next_due(now)).count()
}

#[test]
fn an_entry_gives_back_what_the_syn_offered() {
    let mut table = table(4);
    for (number, window_scale) in (0..).zip([None, Some(0), Some(14)]) {
        for timestamp in [None, Some(5)] {
            let mut given = handshake(key(number));
            given.offer.window_scale = window_scale;
            given.offer.timestamp = timestamp;
            given.offer.sack = timestamp.is_none();
            given.offer.ecn = EcnTerms::from_bits(if timestamp.is_some() { 0xf } else { 0x5 });
            let id = table.insert(&given).expect("room");
            let kept = table.handshake(id);
            assert_eq!((kept.offer, kept.key), (given.offer, given.key));
            assert_eq!((kept.irs, kept.iss), (given.irs, given.iss));
            table.remove(id);
        }
    }
}

#[test]
fn a_syn_ack_is_repeated_after_1_2_4_8_and_16_seconds() {
    // RFC 6298 section 5.5.
    let mut table = table(4);
    table.insert(&handshake(key(1))).expect("room");
    assert_eq!(send(&mut table, at(0)), 1);
    let mut sent_at = Vec::new();
    for ms in 1..100_000 {
        let expired = table.expire(at(ms), SYN_ACK_REPEATS_MAX, 10);
        if expired.timed_out == 1 {
            assert_eq!((ms, table.len()), (63_000, 0));
            break;
        }
        if send(&mut table, at(ms)) > 0 {
            sent_at.push(ms);
        }
    }
    assert_eq!(sent_at, [1000, 3000, 7000, 15_000, 31_000]);
}

#[test]
fn the_next_deadline_is_when_something_expires() {
    let mut table = table(4);
    assert_eq!(table.next_deadline(), None);
    for (number, ms) in [(1, 0), (2, 300)] {
        table.insert(&handshake(key(number))).expect("room");
        send(&mut table, at(ms));
    }
    assert_eq!(table.next_deadline(), Some(at(1000)));
    table.expire(at(999), SYN_ACK_REPEATS_MAX, 10);
    assert!(!table.has_due());
    table.expire(at(1000), SYN_ACK_REPEATS_MAX, 10);
    assert_eq!(send(&mut table, at(1000)), 1);
    assert_eq!(table.next_deadline(), Some(at(1300)));
}

#[test]
fn a_single_syn_ack_measures_a_round_trip_and_a_repeated_one_does_not() {
    // Karn (RFC 6298 section 3).
    let mut table = table(4);
    let id = table.insert(&handshake(key(1))).expect("room");
    send(&mut table, at(5));
    assert_eq!(table.handshake(id).syn_ack, SynAck::Once(at(5)));
    assert!(table.on_repeated_syn(id));
    let several = SynAck::Several { repeats: 0 };
    assert_eq!(table.handshake(id).syn_ack, several);
}

#[test]
fn a_repeated_syn_does_not_put_off_the_timer() {
    let mut table = table(4);
    let id = table.insert(&handshake(key(1))).expect("room");
    assert!(!table.on_repeated_syn(id), "the first answer is on its way");
    send(&mut table, at(0));
    for ms in 1..1000 {
        assert!(table.on_repeated_syn(id), "{ms}");
    }
    assert_eq!(table.next_deadline(), Some(at(1000)));
}

#[test]
fn one_challenge_per_wait() {
    // RFC 5961 section 7.
    let mut table = table(4);
    let id = table.insert(&handshake(key(1))).expect("room");
    send(&mut table, at(0));
    assert!(table.take_challenge(id) && !table.take_challenge(id));
    table.expire(at(1000), SYN_ACK_REPEATS_MAX, 10);
    assert!(table.take_challenge(id));
}

#[test]
fn under_pressure_entries_go_after_one_repeat() {
    let mut table = table(4);
    table.insert(&handshake(key(1))).expect("room");
    send(&mut table, at(0));
    assert_eq!(table.expire(at(1000), 1, 10), Expired::default());
    send(&mut table, at(1000));
    let gone = Expired {
        evicted: 1,
        timed_out: 0,
    };
    assert_eq!(table.expire(at(3000), 1, 10), gone);
    assert_eq!((table.len(), table.of_source(&key(1))), (0, 0));
}

#[test]
fn a_source_is_a_host_of_ipv4_and_a_network_of_ipv6() {
    let mut table = table(100);
    let v6 = |low: u16, net: u16| {
        let host = Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, low);
        let server = Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 1);
        FlowKey::new(IpAddr::V6(server), 80, IpAddr::V6(host), 50_000)
    };
    for number in 0..3 {
        table.insert(&handshake(v6(number, 1))).expect("room");
        table.insert(&handshake(key(number.into()))).expect("room");
    }
    assert_eq!(table.of_source(&v6(99, 1)), 3);
    assert_eq!(table.of_source(&v6(1, 2)), 0);
    assert_eq!(table.of_source(&key(1)), 1);
}

#[test]
fn a_full_table_evicts_what_has_waited_longest() {
    let mut table = table(2);
    let first = table.insert(&handshake(key(1))).expect("room");
    send(&mut table, at(0));
    table.insert(&handshake(key(2))).expect("room");
    assert_eq!(table.insert(&handshake(key(3))), None);
    assert!(table.evict_oldest());
    assert_eq!(table.find(&key(1)), None);
    let reused = table.insert(&handshake(key(3))).expect("room");
    assert_eq!(reused.index, first.index);
    assert_ne!(reused, first);
    table.remove(first);
    assert_eq!(table.find(&key(3)), Some(reused), "an old id names nobody");
}

#[test]
fn a_reset_leaves_once_and_takes_the_entry_with_it() {
    let mut table = table(2);
    let id = table.insert(&handshake(key(1))).expect("room");
    send(&mut table, at(0));
    assert!(table.reset(id) && !table.reset(id));
    assert!(matches!(
        table.next_due(at(1)),
        Some((_, Due::Reset(handshake))) if handshake.key == key(1)
    ));
    assert!(table.next_due(at(1)).is_none() && table.len() == 0);
    assert!(!table.reset(id));
}

#[derive(Clone, Debug)]
enum Step {
    Syn(u32),
    SynAgain(u32),
    Complete(u32),
    Abort(u32),
    Pass(u64),
    Transmit,
    Evict,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..12).prop_map(Step::Syn),
        1 => (0u32..12).prop_map(Step::SynAgain),
        2 => (0u32..12).prop_map(Step::Complete),
        1 => (0u32..12).prop_map(Step::Abort),
        3 => (0u64..3000).prop_map(Step::Pass),
        3 => Just(Step::Transmit),
        1 => Just(Step::Evict),
    ]
}

/// The table in slow and plain: entries in the order of their last move.
#[derive(Default)]
struct Twin(VecDeque<(u32, Option<u64>, u8)>);

impl Twin {
    fn position(&self, number: u32) -> Option<usize> {
        self.0.iter().position(|(known, _, _)| *known == number)
    }

    fn expire(&mut self, now: u64) {
        self.0.retain_mut(|(_, sent_at, repeats)| {
            let Some(sent) = *sent_at else {
                return true;
            };
            if sent + (1000 << *repeats) > now {
                return true;
            }
            *sent_at = None;
            *repeats += 1;
            *repeats <= SYN_ACK_REPEATS_MAX
        });
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_plain_twin(steps in proptest::collection::vec(any_step(), 1..200)) {
        let mut table = table(8);
        let mut twin = Twin::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Syn(number) => {
                    let wanted = twin.position(number).is_none() && twin.0.len() < 8;
                    prop_assert_eq!(table.insert(&handshake(key(number))).is_some(), wanted);
                    if wanted {
                        twin.0.push_back((number, None, 0));
                    }
                }
                Step::SynAgain(number) => {
                    if let Some(id) = table.find(&key(number)) {
                        let place = twin.position(number).expect("in both");
                        prop_assert_eq!(table.on_repeated_syn(id), twin.0[place].1.is_some());
                    }
                }
                Step::Complete(number) => {
                    let place = twin.position(number);
                    let id = table.find(&key(number));
                    prop_assert_eq!(id.is_some(), place.is_some());
                    if let (Some(id), Some(place)) = (id, place) {
                        table.remove(id);
                        twin.0.remove(place);
                    }
                }
                Step::Abort(number) => {
                    if let (Some(id), Some(place)) = (table.find(&key(number)), twin.position(number)) {
                        prop_assert!(table.reset(id));
                        send(&mut table, at(now));
                        twin.0.remove(place);
                        for (_, sent_at, _) in &mut twin.0 {
                            sent_at.get_or_insert(now);
                        }
                    }
                }
                Step::Pass(ms) => {
                    now += ms;
                    // One step of the timers at a time, as a driver that sleeps until the next deadline would.
                    table.expire(at(now), SYN_ACK_REPEATS_MAX, u32::MAX);
                    twin.expire(now);
                }
                Step::Transmit => {
                    let due = twin.0.iter().filter(|(_, sent_at, _)| sent_at.is_none()).count();
                    prop_assert_eq!(table.has_due(), due > 0);
                    prop_assert_eq!(send(&mut table, at(now)), due);
                    for (_, sent_at, _) in &mut twin.0 {
                        sent_at.get_or_insert(now);
                    }
                }
                Step::Evict => {
                    // Which one is not the twin's business.
                    prop_assert_eq!(table.evict_oldest(), !twin.0.is_empty());
                    twin.0.retain(|(number, _, _)| table.find(&key(*number)).is_some());
                }
            }
            prop_assert_eq!(table.len() as usize, twin.0.len());
            let deadline = twin.0.iter().filter_map(|(_, sent_at, repeats)| Some((*sent_at)? + (1000 << repeats))).min();
            prop_assert_eq!(table.next_deadline(), deadline.map(at));
            let counted: u32 = table.sources.counts.iter().map(|count| u32::from(*count)).sum();
            prop_assert_eq!(counted, table.len());
        }
    }
}
