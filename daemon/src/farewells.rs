//! What the log hears of connections that ended badly.
//!
//! A worker hands the record of such a connection over a bounded queue and goes on; when nobody reads, records are
//! dropped and counted. The supervisor writes a line for each, but not more than `LINES_PER_TURN` at a time: peers
//! reset connections as fast as they like, and our log is not theirs to fill.

use core::fmt::Write as _;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use sluice_tcp::record::{Cause, ConnectionRecord, Repeat};

/// Records under way from one worker: 85 KiB.
const UNDER_WAY: usize = 64;
/// Lines that one look into the queue may write; the supervisor looks once a second, or when it is woken.
const LINES_PER_TURN: usize = 16;
/// Events in a line: the last ones tell the end.
const EVENTS_PER_LINE: usize = 12;

struct Shared {
    queue: ArrayQueue<ConnectionRecord>,
    dropped: AtomicU64,
}

/// The end of a worker.
pub struct Farewells(Arc<Shared>);

/// The end of the supervisor.
pub struct FarewellBook {
    shared: Arc<Shared>,
    told: u64,
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
        told: 0,
    };
    (Farewells(shared), book)
}

impl Farewells {
    /// Hands a record over. Neither waits nor allocates.
    pub fn push(&self, record: &ConnectionRecord) {
        if self.0.queue.push(*record).is_err() {
            // A number for people: nothing is read because of it.
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FarewellBook {
    /// The lines that are due.
    pub fn lines(&mut self) -> Vec<String> {
        self.lines_up_to(LINES_PER_TURN)
    }

    /// All lines that are left; nothing comes after them, because the worker has ended.
    #[must_use]
    pub fn last_lines(mut self) -> Vec<String> {
        self.lines_up_to(UNDER_WAY)
    }

    fn lines_up_to(&mut self, most: usize) -> Vec<String> {
        let records = core::iter::from_fn(|| self.shared.queue.pop());
        let mut lines: Vec<String> = records.take(most).map(|record| line(&record)).collect();
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.told {
            lines.push(format!(
                "{} more connections ended badly, too many to log",
                dropped - self.told
            ));
            self.told = dropped;
        }
        lines
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
    line + &trail(record)
}

/// ` trail=KIND:DETAIL@MS*TIMES(OFFSET+LEN),...`, oldest first.
fn trail(record: &ConnectionRecord) -> String {
    let events: Vec<_> = record.events().collect();
    let last = events.len().saturating_sub(EVENTS_PER_LINE);
    let told = events[last..].iter().map(|event| {
        let detail = ConnectionRecord::detail(event);
        let detail = detail.map_or(String::new(), |detail| format!(":{detail}"));
        let times = match event.times {
            1 => String::new(),
            times => format!("*{times}"),
        };
        let (at, kind) = (event.at.as_millis(), event.kind.name());
        format!("{kind}{detail}@{at}{times}({}+{})", event.offset, event.len)
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        return String::new();
    }
    format!(" trail={}", told.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use sluice_tcp::clock::Instant;

    use sluice_tcp::flow_table::FlowKey;
    use sluice_tcp::isn::Secret;

    use sluice_tcp::{Stack, StackConfig};

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
        assert_eq!(book.lines().len(), LINES_PER_TURN + 1);
        assert_eq!(book.last_lines().len(), UNDER_WAY - LINES_PER_TURN);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_once() {
        let (worker, mut book) = farewells();
        let record = record();
        for _ in 0..UNDER_WAY + 5 {
            worker.push(&record);
        }
        let first = book.lines();
        assert_eq!(first.len(), LINES_PER_TURN + 1);
        assert_eq!(
            first.last().map(String::as_str),
            Some("5 more connections ended badly, too many to log")
        );
        assert_eq!(book.lines().len(), LINES_PER_TURN);
    }
}
