//! The loop around two models and two ports: take what arrived, hold it, release it on time.
//!
//! A frame's clock starts with the kernel's receive stamp, so a forwarder that got the CPU late does not add to the
//! delay unless it is late for the release too; how late it was is part of the summary. It sleeps until shortly
//! before the next release and spins from there ([`Settings::spin`]): a timer alone is tens of microseconds late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::frame;
use super::model::{Fate, Model};
use super::port::{FRAME_BYTES, Look, Port};
use super::summary::{Direction, Summary};

/// Frames taken from one port before the other one and the releases have their turn.
const BATCH: usize = 64;
/// The longest sleep: how soon a signal that came between the check and the sleep is noticed.
const NAP: Duration = Duration::from_millis(100);

/// How the loop runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Ends after this long.
    pub lasts: Option<Duration>,
    /// Spins instead of sleeping when the next release is this close.
    pub spin: Duration,
    /// Longer frames cannot have been on a wire of this MTU: counted and dropped.
    pub frame_max: usize,
}

/// A frame that waits for its release.
struct Held {
    release: Duration,
    /// Keeps frames of the same moment in order.
    number: u64,
    /// Always of its full length, so that nothing has to be zeroed when it is used again.
    buffer: Vec<u8>,
    /// Bytes of the frame in it.
    len: usize,
}

/// From one port to the other.
struct Lane {
    model: Model,
    held: BinaryHeap<Reverse<Held>>,
    /// Buffers that are free again.
    spare: Vec<Vec<u8>>,
    number: u64,
    /// Arrival of the frame before: the model wants time to go forward.
    latest: Duration,
    lateness_us: Histogram<u64>,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets_out: u64,
    bytes_out: u64,
    not_sent: u64,
    receive_overflow: u64,
    super_packets: u64,
}

/// Runs until the time is over or `stop` is set, and says what happened. `ports` and `models` are left and right;
/// the first model is for frames that arrive at the left port.
pub fn run(
    ports: [Port; 2],
    models: [Model; 2],
    settings: &Settings,
    stop: &AtomicBool,
) -> io::Result<Summary> {
    let [mut left, mut right] = ports;
    let mut lanes = models.map(Lane::new);
    let [to_right, to_left] = &mut lanes;
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        if settings.lasts.is_some_and(|lasts| now >= lasts) {
            break;
        }
        let mut busy = to_right.take(&mut left, start, settings.frame_max)?;
        busy |= to_left.take(&mut right, start, settings.frame_max)?;
        busy |= to_right.release(&right, start)?;
        busy |= to_left.release(&left, start)?;
        if !busy {
            let next = to_right.next().into_iter().chain(to_left.next()).min();
            rest([&left, &right], start, next, settings.spin)?;
        }
    }
    let elapsed = start.elapsed();
    let [to_right, to_left] = lanes.map(|lane| lane.summary(elapsed));
    Ok(Summary {
        seconds: elapsed.as_secs_f64(),
        cpu_seconds: cpu_seconds()?,
        to_right,
        to_left,
    })
}

impl Lane {
    fn new(model: Model) -> Lane {
        Lane {
            model,
            held: BinaryHeap::new(),
            spare: Vec::new(),
            number: 0,
            latest: Duration::ZERO,
            // The bounds are constants that the histogram accepts: 1 us to 100 s at 3 digits.
            lateness_us: Histogram::new_with_bounds(1, 100_000_000, 3)
                .expect("1 to 10^8 with 3 digits is a valid histogram"),
            tally: Tally::default(),
        }
    }

    /// Takes a batch from its port; true if there was anything.
    fn take(&mut self, from: &mut Port, start: Instant, frame_max: usize) -> io::Result<bool> {
        for taken in 0..BATCH {
            let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; FRAME_BYTES]);
            let received = match from.receive(&mut buffer)? {
                Look::Frame(received) => received,
                look => {
                    self.spare.push(buffer);
                    if look == Look::Empty {
                        return Ok(taken > 0);
                    }
                    continue;
                }
            };
            if let Some(overflow) = received.overflow {
                self.tally.receive_overflow = u64::from(overflow);
            }
            if received.len > frame_max {
                self.tally.super_packets += 1;
                self.spare.push(buffer);
                continue;
            }
            let arrival = start.elapsed().saturating_sub(received.age);
            self.latest = self.latest.max(arrival);
            self.admit(buffer, received.len);
        }
        Ok(true)
    }

    /// The frame is the first `len` bytes of the buffer.
    fn admit(&mut self, mut buffer: Vec<u8>, len: usize) {
        let frame = &mut buffer[..len];
        let delivery = match self.model.admit(self.latest, frame::arrival(frame)) {
            Fate::Dropped(_) => return self.spare.push(buffer),
            Fate::Delivered(delivery) => delivery,
        };
        if delivery.mark {
            frame::mark(frame);
        }
        if let Some(number) = delivery.corrupt {
            frame::corrupt(frame, number);
        }
        if delivery.duplicate {
            let mut copy = self.spare.pop().unwrap_or_else(|| vec![0; FRAME_BYTES]);
            copy[..len].copy_from_slice(frame);
            self.hold(copy, len, delivery.release);
        }
        self.hold(buffer, len, delivery.release);
    }

    fn hold(&mut self, buffer: Vec<u8>, len: usize, release: Duration) {
        self.number += 1;
        self.held.push(Reverse(Held {
            release,
            number: self.number,
            buffer,
            len,
        }));
    }

    fn next(&self) -> Option<Duration> {
        self.held.peek().map(|Reverse(held)| held.release)
    }

    /// Sends what is due; true if there was anything.
    fn release(&mut self, to: &Port, start: Instant) -> io::Result<bool> {
        for sent in 0..BATCH {
            let now = start.elapsed();
            let due = |Reverse(held): &Reverse<Held>| held.release <= now;
            if !self.held.peek().is_some_and(due) {
                return Ok(sent > 0);
            }
            let Some(Reverse(held)) = self.held.pop() else {
                return Ok(sent > 0);
            };
            let late = (now - held.release).as_micros();
            self.lateness_us
                .saturating_record(u64::try_from(late).unwrap_or(u64::MAX));
            if to.send(&held.buffer[..held.len])? {
                self.tally.packets_out += 1;
                self.tally.bytes_out += held.len as u64;
            } else {
                self.tally.not_sent += 1;
            }
            self.spare.push(held.buffer);
        }
        Ok(true)
    }

    fn summary(self, elapsed: Duration) -> Direction {
        let mut summary = Direction::new(self.model.counters(), &self.lateness_us);
        summary.packets_out = self.tally.packets_out;
        summary.bytes_out = self.tally.bytes_out;
        summary.held_at_end = self.held.len() as u64;
        summary.not_sent = self.tally.not_sent;
        summary.receive_overflow = self.tally.receive_overflow;
        summary.super_packets = self.tally.super_packets;
        summary.rate_out(elapsed);
        summary
    }
}

/// CPU time of this process so far.
fn cpu_seconds() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()).as_secs_f64())
}

/// Waits for a frame or for the next release.
fn rest(
    ports: [&Port; 2],
    start: Instant,
    next: Option<Duration>,
    spin: Duration,
) -> io::Result<()> {
    let until = next.map_or(NAP, |next| next.saturating_sub(start.elapsed()));
    if until <= spin {
        std::hint::spin_loop();
        return Ok(());
    }
    let sleep = (until - spin).min(NAP);
    let mut polled = ports.map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN));
    match ppoll(&mut polled, Some(TimeSpec::from_duration(sleep)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> std::cmp::Ordering {
        (self.release, self.number).cmp(&(other.release, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}
