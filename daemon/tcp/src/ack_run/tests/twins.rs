//! A stack that hears runs beside one that hears every acknowledgement.

use super::*;

/// A seed, so that a failure can be told and repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let high = u32::try_from(self.0 >> 33).expect("31 bits");
        high % limit
    }

    fn hits(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// What a peer says at one moment: acknowledgements of up to `limit`, honest or not.
fn batch(bed: &mut Bed, limit: u32, wild: bool, chance: &mut Chance) -> Vec<(TcpHeader, Ecn)> {
    let mut said = Vec::new();
    let millis = u32::try_from(bed.now.saturating_since(START).as_millis()).expect("short");
    let echo = bed
        .connection()
        .timestamps
        .expect("negotiated")
        .value(bed.now);
    for _ in 0..chance.below(24) {
        let room = limit.wrapping_sub(bed.ack.ack);
        let step = (1 + chance.below(3)) * MSS - u32::from(chance.hits(10));
        bed.ack.ack = bed.ack.ack.wrapping_add(step.min(room));
        if chance.hits(5) {
            bed.ack.window = u16::try_from(20_000 + chance.below(40_000)).expect("16 bits");
        }
        let late = chance.below(2);
        let age = u32::try_from(ECHOED_BEFORE.as_millis()).expect("short");
        bed.ack = with_timestamps(
            bed.ack,
            2000 + millis,
            echo.wrapping_sub(age + if chance.hits(10) { late } else { 0 }),
        );
        let mut header = bed.ack;
        if wild && chance.hits(10) {
            header = match chance.below(6) {
                // Late, and so old that it is refused.
                0 => TcpHeader {
                    ack: header.ack.wrapping_sub(chance.below(20) * MSS),
                    ..header
                },
                1 => with_sack(
                    TcpHeader {
                        ack: header.ack.wrapping_sub(step.min(room)),
                        ..header
                    },
                    header.ack.wrapping_sub(u32::from(step.min(room) > 0)),
                    header.ack,
                ),
                2 => TcpHeader {
                    ack: limit.wrapping_add((1 << 26) + chance.below(1 << 20)),
                    ..header
                },
                3 => with_timestamps(header, 1500, echo),
                4 => TcpHeader {
                    seq: header.seq.wrapping_sub(1),
                    ..header
                },
                _ => TcpHeader {
                    flags: header.flags.union(TcpFlags::ECE),
                    ..header
                },
            };
        }
        said.push((header, Ecn::NotEct));
    }
    said
}

const ALGORITHMS: [Algorithm; 4] = Algorithm::ALL;

/// Two beds that were told the same so far, one acknowledgement at a time.
fn twins(seed: u32, chance: &mut Chance) -> [Bed; 2] {
    let algorithm = ALGORITHMS[(seed % 4) as usize];
    let ecn = [
        TcpFlags::EMPTY,
        TcpFlags::ECE.union(TcpFlags::CWR),
        TcpFlags::ACE,
    ][chance.below(3) as usize];
    let mut config = config(algorithm);
    if chance.hits(30) {
        config.pacing = None;
    }
    [(), ()].map(|()| Bed::new(ecn, config.clone()))
}

/// One moment later in both, up to the acknowledgements that arrive then.
fn advance(twins: &mut [Bed; 2], wait: Duration) -> u32 {
    let [first, second] = twins.each_mut().map(|bed| {
        // What the pacer lets out in between.
        let until = bed.now + wait;
        while bed.now < until {
            bed.transmit();
            bed.now = bed.now + wait / 4;
            bed.stack.on_timers(bed.now);
        }
        bed.transmit()
    });
    // The peer may acknowledge what both have sent.
    if first.wrapping_sub(second) > i32::MAX as u32 {
        first
    } else {
        second
    }
}

#[test]
fn one_batch_leaves_a_stack_where_every_acknowledgement_would() {
    let mut past_slow_start = 0;
    for seed in 0..600u32 {
        let mut chance = Chance(u64::from(seed) << 20 | 1);
        let mut beds = twins(seed, &mut chance);
        let moments = chance.below(20);
        let mut last = Vec::new();
        for moment in 0..=moments {
            let wait = Duration::from_micros(u64::from(500 + chance.below(8000)));
            let limit = advance(&mut beds, wait);
            let wild = moment < moments && seed % 8 < 4;
            last = batch(&mut beds[0], limit, wild, &mut chance);
            if moment < moments {
                for bed in &mut beds {
                    bed.hear_each(&last);
                }
            }
        }
        let [each, merged] = &mut beds;
        let before = each.stack.control_view(each.conn).expect("alive");
        let una = each.una();
        each.hear_each(&last);
        let longest = merged.longest_wait();
        merged.hear_batch(&last);
        assert_eq!(each.una(), merged.una(), "seed {seed}");
        let window = each.connection().send.window();
        assert_eq!(window, merged.connection().send.window(), "seed {seed}");
        let state = each.stack.state(each.conn);
        assert_eq!(state, merged.stack.state(merged.conn), "seed {seed}");
        let [one, other] = [&*each, &*merged].map(|bed| {
            let view = bed.stack.control_view(bed.conn);
            view.expect("alive")
        });
        assert_eq!(one.in_flight, other.in_flight, "seed {seed}");
        // Slow start takes no more than what is acknowledged, and may take less: two segments of each ACK without a pacer
        // (RFC 3465 section 2.3), of several in a row two of each on average; a quarter from the ACK on at which the
        // round trip is seen to rise (RFC 9406), or from the next. Else growth by parts and growth at once differ by what
        // the parts earn from one another. The window of BBR follows its samples of the rate, of which there are fewer.
        let growth = before.cwnd..=before.cwnd + each.una().wrapping_sub(una);
        let is_reduced = one.cwnd.min(other.cwnd) < before.cwnd;
        let is_within = if each.connection().congestion.algorithm() == Algorithm::Bbr {
            true
        } else if before.cwnd < before.ssthresh && !is_reduced {
            growth.contains(&one.cwnd) && growth.contains(&other.cwnd)
        } else {
            past_slow_start += 1;
            one.cwnd.abs_diff(other.cwnd) <= 2 * MSS
        };
        assert!(is_within, "seed {seed}: {one:?} {other:?} after {before:?}");
        let least = each.connection().rtt.min_rtt();
        assert_eq!(least, merged.connection().rtt.min_rtt(), "seed {seed}");
        // It hears the shortest round trip of a run where the other hears each.
        let longest = longest.max(ECHOED_BEFORE + Duration::from_millis(1));
        let (srtt, of_runs) = (before.srtt.max(Some(longest)), other.srtt);
        assert!(
            least <= of_runs && of_runs <= srtt,
            "seed {seed}: {of_runs:?} of {least:?} to {srtt:?}"
        );
    }
    assert!(past_slow_start > 20, "{past_slow_start}");
}

#[test]
fn a_stack_that_hears_runs_gets_everything_through_as_the_other_does() {
    let mut merges = 0;
    for seed in 0..400u32 {
        let mut chance = Chance(u64::from(seed) << 20 | 3);
        let mut beds = twins(seed, &mut chance);
        for _ in 0..40 {
            let wait = Duration::from_micros(u64::from(500 + chance.below(20_000)));
            let limit = advance(&mut beds, wait);
            let said = batch(&mut beds[0], limit, true, &mut chance);
            let [each, merged] = &mut beds;
            each.hear_each(&said);
            merged.hear_batch(&said);
            let states = [&*each, &*merged].map(|bed| bed.stack.state(bed.conn));
            assert_eq!(states, [Some(State::Established); 2], "seed {seed}");
            assert_eq!(each.una(), merged.una(), "seed {seed}");
            let window = each.connection().send.window();
            assert_eq!(window, merged.connection().send.window(), "seed {seed}");
        }
        // Neither stands still: what is left is sent again and acknowledged.
        for bed in &mut beds {
            let target = bed.una().wrapping_add(200 * MSS);
            for _ in 0..400 {
                bed.now = bed.now + Duration::from_millis(300);
                bed.stack.on_timers(bed.now);
                let end = bed.transmit();
                let value = 3_000_000;
                let echo = bed.connection().timestamps.expect("negotiated");
                let echo = echo.value(bed.now);
                bed.ack.ack = end;
                bed.ack.window = 60_000;
                let header = with_timestamps(bed.ack, value, echo);
                bed.hear_batch(&[(header, Ecn::NotEct)]);
            }
            let una = bed.una();
            assert!(target.wrapping_sub(una) > i32::MAX as u32, "seed {seed}");
        }
        merges += beds[1].stack.counters().acks_merged;
    }
    assert!(merges > 10_000, "{merges} merged");
}
