//! The client without the kernel's TCP: our own stack over an AF_XDP socket of the client's interface, one thread.
//!
//! It asks in the same ways as the client over kernel TCP and counts the same. What differs: no system call per request
//! but one per turn of the loop, and the time of an answer is when its frame was taken from the ring. While it runs,
//! segments from the server's address and port reach nobody else on this interface.
//!
//! | file | role |
//! |---|---|
//! | `host` | our TCP on the rings |
//! | `talk` | one connection: request, answer |
//! | `table` | all of them: seats, answers, failures |

mod host;
mod table;
mod talk;

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::prctl::set_timerslack;
use sluice_tcp::clock;
use sluice_wire::{LinkHeader, VlanTags};
use sluice_xdp_prog::{Catch, Fate};

use super::agenda::Agenda;
use super::record::Outcome;
use super::request::Request;
use super::{Options, PATIENCE, READY, say};
use crate::error::Error;
use crate::usage::thread_time;
use crate::xsk::{Interface, Xsk, link_address_of};
use host::{Ends, Host};
use table::{Asking, Table};

/// Connections that are being closed beside those that ask.
const CLOSING: u32 = 1024;
/// How long the loop goes on without work before it sleeps: longer than the gaps in a busy exchange, and short enough that
/// a client which waits is not busy.
const SPIN: Duration = Duration::from_micros(20);
/// The same in the closed loop, where every connection has asked and an answer is certain to come. A client that sleeps
/// there lets the server wait until it is awake again, by turns: what is measured then is how fast CPUs wake. What it looks in
/// vain does not count as work ([`Outcome::waited_s`]).
const SPIN_CLOSED: Duration = Duration::from_micros(500);

/// The host with the loop around it.
struct Driver {
    host: Host,
    clock: Clock,
    content: Rc<[u8]>,
    /// Connections that the stack has room for.
    slots: usize,
    /// When something was done last.
    busy_at: Instant,
    /// The turn before this one had nothing to do and did not sleep: this thread's CPU time then. By the clock it would also
    /// count what the thread does that brings the frames to this CPU.
    waits_since: Option<Duration>,
}

/// The stack's clock. It shows the time of day and not that since the start, so that sequence numbers and timestamps of
/// a tuple go on from one process to the next.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    epoch: clock::Instant,
}

impl Clock {
    fn new(start: Instant) -> Clock {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(0);
        Clock {
            start,
            epoch: clock::Instant::from_nanos(nanos),
        }
    }

    fn at(&self, now: Instant) -> clock::Instant {
        self.epoch + now.saturating_duration_since(self.start)
    }
}

/// Asks as the options say. Gives the outcome and the histograms.
pub fn run(options: &Options) -> Result<(Outcome, Vec<u8>), Error> {
    let name = options.content.display().to_string();
    let content = std::fs::read(&options.content).map_err(Error::io(name))?;
    let interface = match &options.interface {
        Some(name) => Interface::named(name)?,
        None => Interface::towards(options.server)?,
    };
    let ends = ends(options, &interface)?;
    let what = Catch::SegmentsFrom(options.server);
    // The program is attached as long as this lives.
    let xsk = Xsk::open(&interface, what, Fate::ToSocket, options.attach)?;
    say(READY).map_err(Error::io("stdout"))?;
    let clock = Clock::new(Instant::now());
    let slots = 2 * options.connections + options.resting + CLOSING;
    // Processes that follow one another begin with other ports.
    let first = std::process::id().wrapping_mul(997);
    let host = Host::new(
        xsk.queue,
        ends,
        slots,
        Request::get(options).head().to_vec(),
        first,
        clock.epoch,
    );
    let mut driver = Driver::new(host, clock, content.into(), slots);
    // A sleep shall end when it is over: what is due is asked late otherwise, by 50 us (prctl(2)).
    let _ = set_timerslack(1);
    driver
        .verify(options)
        .map_err(Error::io(format!("fetching {}", options.path)))?;
    driver.run(options).map_err(Error::io("the loader"))
}

fn ends(options: &Options, interface: &Interface) -> Result<Ends, Error> {
    let server_link_address = match options.server_link_address {
        Some(address) => address,
        None => link_address_of(*options.server.ip(), &interface.name)?,
    };
    Ok(Ends {
        link: LinkHeader {
            dst: server_link_address,
            src: interface.link_address,
            vlan: VlanTags::NONE,
        },
        addresses: interface.addresses.clone(),
        server: options.server,
        mtu: interface.mtu()?,
    })
}

impl Driver {
    fn new(host: Host, clock: Clock, content: Rc<[u8]>, slots: u32) -> Driver {
        Driver {
            host,
            clock,
            content,
            slots: usize::try_from(slots).unwrap_or(usize::MAX),
            busy_at: clock.start,
            waits_since: None,
        }
    }

    /// Fetches the object once and compares every byte.
    fn verify(&mut self, options: &Options) -> io::Result<()> {
        let once = Options {
            connections: 1,
            resting: 0,
            idle: true,
            rate: None,
            seconds: PATIENCE.as_secs_f64(),
            warm_up: 0.0,
            ..options.clone()
        };
        let begin = Instant::now();
        let mut table = self.table(&once)?.thorough();
        while table.answers() == 0 {
            let now = Instant::now();
            self.turn(&mut table, now)?;
            let (failed, first) = table.agenda.record.failures();
            if failed > 0 {
                return Err(io::Error::other(first.to_owned()));
            }
            if now - begin > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Until the end, or in the open loop until everything is answered or the grace is over. Gives the outcome and the
    /// histograms.
    fn run(&mut self, options: &Options) -> io::Result<(Outcome, Vec<u8>)> {
        let mut table = self.table(options)?;
        loop {
            let now = Instant::now();
            if let Some(mut outcome) = table.agenda.proceed(now)? {
                outcome.lost = self.host.lost()?;
                return Ok((outcome, table.agenda.record.histograms()?));
            }
            self.turn(&mut table, now)?;
        }
    }

    /// For requests from now on.
    fn table(&self, options: &Options) -> io::Result<Table> {
        let agenda = Agenda::new(options, Instant::now())?;
        let content = Rc::clone(&self.content);
        Ok(Table::new(agenda, self.slots, content, options.close))
    }

    /// Receives, asks and sends, or rests if there is nothing to do.
    fn turn(&mut self, table: &mut Table, now: Instant) -> io::Result<()> {
        if let Some(since) = self.waits_since.take() {
            table
                .agenda
                .record
                .waited(now, thread_time().unwrap_or(since).saturating_sub(since));
        }
        let at = self.clock.at(now);
        let frames = self.host.receive(at, |conn, offset, bytes| {
            table.take(conn, offset, bytes, now);
        });
        for conn in table.doomed.drain(..) {
            self.host.stack().abort(conn);
        }
        self.host.stack().on_timers(at);
        self.hear(table, now, at);
        self.assign(table, now, at);
        let segments = self.host.transmit(at)?;
        if frames + segments > 0 {
            self.busy_at = now;
        } else {
            let spin = match table.agenda.asks_again() {
                true => SPIN_CLOSED,
                false => SPIN,
            };
            self.rest(spin, table.agenda.rest(now), now);
        }
        Ok(())
    }

    /// What the stack has to say about connections.
    fn hear(&mut self, table: &mut Table, now: Instant, at: clock::Instant) {
        let stack = self.host.stack();
        while let Some((conn, events)) = stack.poll_event() {
            if events.readable {
                // It was read in the frame.
                let delivered = stack.delivered(conn);
                stack.consume(conn, delivered);
            }
            if let Some(reason) = events.closed {
                table.closed(conn, reason, now);
            } else if events.peer_finished {
                table.peer_finished(conn, now);
                stack.close(conn, at);
            }
        }
    }

    /// What is due gets a seat, as long as one is free.
    fn assign(&mut self, table: &mut Table, now: Instant, at: clock::Instant) {
        // Each once: one that fails at once waits again.
        for _ in 0..table.agenda.collect(now) {
            let Some((seat, due)) = table.agenda.next(now) else {
                return;
            };
            match table.ask(seat, due) {
                Asking::Again(conn, times) => self.host.ask(conn, times),
                Asking::Open => match self.host.open(at) {
                    Ok(conn) => {
                        self.host.ask(conn, 0);
                        table.opened(seat, conn, due);
                    }
                    Err(error) => table.fail(seat, &io::Error::other(error), now),
                },
            }
        }
    }

    /// After a turn with nothing to do: `spin` after the last one that had, it sleeps. Nothing is due for `left`, if nobody
    /// answers.
    fn rest(&mut self, spin: Duration, left: Duration, now: Instant) {
        if now - self.busy_at < spin {
            self.waits_since = thread_time().ok();
            // The thread that brings the frames may wait for this CPU.
            thread::yield_now();
        } else {
            self.host.sleep(self.clock.at(now), left);
        }
    }
}

#[cfg(test)]
mod tests;
