//! What the log hears of connections that ended badly.
//!
//! A worker hands the record of such a connection over a bounded queue and goes on; when nobody reads, records are
//! dropped and counted. The supervisor writes a line for each, but not more than `LINES_PER_TURN` at a time and
//! `BYTES_PER_SECOND` of each worker: peers reset connections as fast as they like, and our log is not theirs to fill. What
//! was too much is counted, and told with the next line that fits.
//!
//! A line is a whole record, so that one grep finds it, and shorter than what the logs of a system take. Its last word
//! is the trail, all of it: events apart by commas, of which `tr , '\n'` makes a table. The text is made by the
//! supervisor; a worker copies a record of fixed size.

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use sluice_tcp::clock::Instant;
use sluice_tcp::event_ring::Event;
use sluice_tcp::record::{Cause, ConnectionRecord, Repeat};

/// Records under way from one worker: 85 KiB.
const UNDER_WAY: usize = 64;
/// Lines that one look into the queue may write; the supervisor looks once a second, or when it is woken.
const LINES_PER_TURN: usize = 16;
/// What the lines of one worker may take, over any time and once more: two lines with the longest trail, or some eighty
/// without. A day of resets is then 1.4 GB, and not what the peers make of it.
const BYTES_PER_SECOND: u64 = 16 << 10;

struct Shared {
    queue: ArrayQueue<ConnectionRecord>,
    dropped: AtomicU64,
}

/// The end of a worker.
pub struct Farewells(Arc<Shared>);

/// The end of the supervisor.
pub struct FarewellBook {
    shared: Arc<Shared>,
    allowance: Allowance,
    /// Records that came and had no room in the log.
    suppressed: u64,
    /// Of those, and of the ones that the worker dropped, so many have been told.
    told: u64,
}

/// Bytes of lines that may be written now.
struct Allowance {
    bytes: u64,
    at: Instant,
}

impl Allowance {
    fn new() -> Self {
        Allowance {
            bytes: BYTES_PER_SECOND,
            at: Instant::ZERO,
        }
    }

    fn pass(&mut self, now: Instant) {
        let nanos = now.saturating_since(self.at).as_nanos();
        let earned = nanos * u128::from(BYTES_PER_SECOND) / 1_000_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(earned).min(BYTES_PER_SECOND);
        self.at = now;
    }

    /// Whether the line fits, which then counts.
    fn takes(&mut self, line: &str) -> bool {
        let left = self.bytes.checked_sub(line.len() as u64);
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

/// The border between one worker and the log.
#[must_use]
pub fn farewells() -> (Farewells, FarewellBook) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(UNDER_WAY),
        dropped: AtomicU64::new(0),
    });
    let book = FarewellBook {
        shared: Arc::clone(&shared),
        allowance: Allowance::new(),
        suppressed: 0,
        told: 0,
    };
    (Farewells(shared), book)
}

impl Farewells {
    /// Hands a record over. Neither waits nor allocates.
    pub fn push(&self, record: &ConnectionRecord) {
        if self.0.queue.push(*record).is_err() {
            // Relaxed: a number for people, nothing else is read because of it. One that the supervisor sees late is
            // told by its next look; no wake-up hangs on it.
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FarewellBook {
    /// The lines that are due.
    pub fn lines(&mut self, now: Instant) -> Vec<String> {
        self.allowance.pass(now);
        let mut lines = Vec::new();
        for record in self.records(LINES_PER_TURN) {
            let line = line(&record);
            if self.allowance.takes(&line) {
                lines.push(line);
            } else {
                self.suppressed += 1;
            }
        }
        if let Some((line, all)) = self.rest()
            && self.allowance.takes(&line)
        {
            lines.push(line);
            self.told = all;
        }
        lines
    }

    /// All lines that are left, whatever they take; nothing comes after them, because the worker has ended.
    #[must_use]
    pub fn last_lines(self) -> Vec<String> {
        let records = self.records(UNDER_WAY);
        let lines = records.iter().map(line);
        let rest = self.rest().map(|(line, _)| line);
        lines.chain(rest).collect()
    }

    fn records(&self, most: usize) -> Vec<ConnectionRecord> {
        let records = core::iter::from_fn(|| self.shared.queue.pop());
        records.take(most).collect()
    }

    /// The line for those that have none, if there are any, and how many had none until now.
    fn rest(&self) -> Option<(String, u64)> {
        let all = self.shared.dropped.load(Ordering::Relaxed) + self.suppressed;
        let untold = all - self.told;
        let line = || format!("{untold} more connections ended badly, too many to log");
        (untold > 0).then(|| (line(), all))
    }
}

/// `key=value` pairs: times in milliseconds, counters and causes only where there is something to count.
fn line(record: &ConnectionRecord) -> String {
    let key = &record.key;
    let millis = |time: core::time::Duration| time.as_millis();
    let peer = SocketAddr::new(key.remote(), key.remote_port());
    let mut line = format!("connection peer={peer}");
    // Writing to a String cannot fail.
    if let Some(reason) = record.reason {
        let _ = write!(line, " ended={reason:?}");
    }
    let _ = write!(
        line,
        " state={} sent={} acknowledged={} received={} in_flight={} cwnd={} peer_window={}",
        record.state.name(),
        record.sent,
        record.acknowledged,
        record.received,
        record.in_flight,
        record.cwnd,
        record.peer_window,
    );
    if let Some(rtt) = record.smoothed_rtt {
        let _ = write!(line, " srtt_us={}", rtt.as_micros());
    }
    if let Some(rtt) = record.min_rtt {
        let _ = write!(line, " min_rtt_us={}", rtt.as_micros());
    }
    let _ = write!(
        line,
        " busy_ms={} sending_ms={}",
        millis(record.busy()),
        millis(record.sending)
    );
    for cause in Cause::ALL {
        let pauses = record.pauses[cause.index()];
        if pauses.times > 0 || !pauses.total.is_zero() {
            let total = millis(pauses.total);
            let _ = write!(line, " {}_ms={total}/{}", cause.name(), pauses.times);
        }
    }
    for repeat in Repeat::ALL {
        let count = record.sent_again[repeat.index()];
        if count > 0 {
            let _ = write!(line, " sent_again_{}={count}", repeat.name());
        }
    }
    let counts = [
        ("recoveries", record.recoveries),
        ("undone", record.undone),
        ("time_outs", record.time_outs),
        ("reordering", u32::from(record.reordering_seen)),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(line, " {name}={count}");
    }
    line + &trail(record.events())
}

/// ` trail=KIND:DETAIL@MS*TIMES(OFFSET+LEN),...`, oldest first; nothing for a connection without a ring.
fn trail(events: impl Iterator<Item = Event>) -> String {
    let mut trail = String::new();
    for event in events {
        let before = if trail.is_empty() { " trail=" } else { "," };
        let kind = event.kind.name();
        // Writing to a String cannot fail.
        let _ = write!(trail, "{before}{kind}");
        if let Some(detail) = ConnectionRecord::detail(&event) {
            let _ = write!(trail, ":{detail}");
        }
        let _ = write!(trail, "@{}", event.at.as_millis());
        if event.times > 1 {
            let _ = write!(trail, "*{}", event.times);
        }
        let _ = write!(trail, "({}+{})", event.offset, event.len);
    }
    trail
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use core::time::Duration;

    use sluice_tcp::event_ring::{EVENTS_MAX, EventKind};
    use sluice_tcp::flow_table::FlowKey;
    use sluice_tcp::isn::Secret;
    use sluice_tcp::record::Pauses;
    use sluice_tcp::{Stack, StackConfig};

    /// rsyslog cuts a message there by default; journald does at 48 KiB (`LineMax=`).
    const LINE_BYTES: usize = 8 << 10;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// The record of a connection that we opened and gave up.
    fn record() -> ConnectionRecord {
        record_between([1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))))
    }

    fn record_between([local, remote]: [IpAddr; 2]) -> ConnectionRecord {
        let config = StackConfig {
            send_limit: 65_535,
            ..StackConfig::new(1, [0; 16], Secret::new([0; 32]))
        };
        let mut stack = Stack::new(config, Instant::ZERO);
        let key = FlowKey::new(local, 80, remote, 50_000);
        let conn = stack.connect(key, Instant::ZERO).expect("room");
        stack.abort(conn);
        while stack.poll_transmit(Instant::ZERO).is_some() {}
        assert!(stack.poll_event().is_some());
        *stack.last_record().expect("it was aborted")
    }

    #[test]
    fn a_line_has_keys_and_values_and_leaves_out_what_did_not_happen() {
        assert_eq!(
            line(&record()),
            "connection peer=192.0.2.2:50000 ended=Aborted state=SYN-SENT sent=0 acknowledged=0 received=0 \
             in_flight=0 cwnd=5240 peer_window=0 busy_ms=0 sending_ms=0"
        );
    }

    #[test]
    fn a_trail_is_told_whole_from_the_oldest_event_on() {
        let event = |millis, kind, detail, times| Event {
            at: Duration::from_millis(millis),
            kind,
            detail,
            times,
            offset: 9000,
            len: 1448,
        };
        let told = trail(
            [
                event(0, EventKind::Paused, Cause::CongestionWindow as u8, 1),
                event(250, EventKind::TimeOut, 0, 1),
                event(250, EventKind::SentAgain, Repeat::TimeOut as u8, 3),
            ]
            .into_iter(),
        );
        assert_eq!(
            told,
            " trail=paused:congestion_window@0(9000+1448),time_out@250(9000+1448),\
             sent_again:timeout@250*3(9000+1448)"
        );
        assert_eq!(trail(core::iter::empty()), "");
    }

    #[test]
    fn the_longest_line_passes_a_syslog() {
        let longest_of = |kind| {
            (0..=u8::MAX)
                .map(|detail| Event {
                    at: Duration::from_nanos(u64::from(u32::MAX) << 10),
                    kind,
                    detail,
                    times: u16::MAX,
                    offset: u32::MAX,
                    len: u32::MAX,
                })
                .max_by_key(|event| trail(core::iter::once(*event)).len())
        };
        let longest = EventKind::ALL
            .iter()
            .copied()
            .filter_map(longest_of)
            .max_by_key(|event| trail(core::iter::once(*event)).len())
            .expect("there are kinds");
        let trail = trail(core::iter::repeat_n(longest, EVENTS_MAX));
        let ends = [1, 2].map(|last| IpAddr::V6(Ipv6Addr::from(u128::MAX - last)));
        let pauses = Pauses {
            times: u16::MAX.into(),
            total: Duration::from_secs(u32::MAX.into()),
        };
        let mut record = record_between(ends);
        record.sending = pauses.total;
        record.pauses = [pauses; Cause::ALL.len()];
        record.sent_again = [u16::MAX.into(); Repeat::ALL.len()];
        record.recoveries = u16::MAX.into();
        record.undone = u8::MAX.into();
        record.time_outs = u8::MAX.into();
        record.acknowledged = u64::MAX;
        record.sent = u64::MAX;
        record.received = u64::MAX;
        record.in_flight = u64::MAX;
        record.smoothed_rtt = Some(pauses.total);
        record.min_rtt = Some(pauses.total);
        record.cwnd = u32::MAX;
        record.peer_window = u32::MAX;
        record.reordering_seen = true;
        let line = line(&record) + &trail;
        assert!(line.len() < LINE_BYTES, "{} bytes: {line}", line.len());
    }

    #[test]
    fn the_port_of_an_ipv6_peer_can_be_told_from_its_address() {
        let ends = [1, 2].map(|last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
        let line = line(&record_between(ends));
        assert!(
            line.starts_with("connection peer=[2001:db8::2]:50000 "),
            "{line}"
        );
    }

    #[test]
    fn the_last_look_leaves_nothing_untold() {
        let (worker, mut book) = farewells();
        let record = record();
        for _ in 0..UNDER_WAY + 5 {
            worker.push(&record);
        }
        // A line for those that found no room.
        assert_eq!(book.lines(at(1)).len(), LINES_PER_TURN + 1);
        assert_eq!(book.last_lines().len(), UNDER_WAY - LINES_PER_TURN);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_once() {
        let (worker, mut book) = farewells();
        let record = record();
        for _ in 0..UNDER_WAY + 5 {
            worker.push(&record);
        }
        let first = book.lines(at(1));
        assert_eq!(first.len(), LINES_PER_TURN + 1);
        assert_eq!(
            first.last().map(String::as_str),
            Some("5 more connections ended badly, too many to log")
        );
        assert_eq!(book.lines(at(2)).len(), LINES_PER_TURN);
    }

    fn bytes(lines: &[String]) -> u64 {
        lines.iter().map(|line| line.len() as u64).sum()
    }

    /// Of how many connections a line tells.
    fn told_by(line: &str) -> usize {
        let count = line.split_once(" more connections").map(|(count, _)| count);
        count.map_or(1, |count| count.parse().expect("a number"))
    }

    #[test]
    fn what_has_no_bytes_left_is_counted_and_told_in_the_next_second() {
        let (worker, mut book) = farewells();
        let record = record();
        let mut first = Vec::new();
        for _ in 0..20 {
            for _ in 0..LINES_PER_TURN {
                worker.push(&record);
            }
            first.extend(book.lines(at(1)));
        }
        let allowed = BYTES_PER_SECOND - line(&record).len() as u64..=BYTES_PER_SECOND;
        assert!(allowed.contains(&bytes(&first)), "{}", bytes(&first));

        worker.push(&record);
        let second = book.lines(at(2));
        assert_eq!(second.len(), 2, "{second:?}");
        let told: usize = first.iter().chain(&second).map(|line| told_by(line)).sum();
        assert_eq!(told, 20 * LINES_PER_TURN + 1);
    }

    #[test]
    fn however_often_it_is_looked_the_bytes_of_a_second_are_the_same() {
        let (worker, mut book) = farewells();
        let record = record();
        let mut written = 0;
        for look in 0..1000 {
            for _ in 0..LINES_PER_TURN {
                worker.push(&record);
            }
            written += bytes(&book.lines(Instant::ZERO + Duration::from_millis(10 * look)));
        }
        // Ten seconds, and what was there at their begin.
        let allowed = 10 * BYTES_PER_SECOND..=11 * BYTES_PER_SECOND;
        assert!(allowed.contains(&written), "{written}");
    }
}
