//! The same application over ordinary kernel sockets: epoll, one thread per worker, nothing shared.
//!
//! It serves where AF_XDP cannot, it is the way to try Sluice without privileges, and the fair opponent in
//! the benchmark: HTTP, disk and blocks are those of the XDP worker, so what differs is the stack. Every worker has
//! its own listeners (SO_REUSEPORT), epoll set, connections and [`Services`].
//!
//! One epoll set holds listeners, connections (edge-triggered), the disk's and the control side's eventfd. A turn
//! takes events, then gives every connection with something to do one bounded share. Time limits are looked at
//! when the earliest of them may have passed; a worker without any sleeps without a time-out.

mod connection;
mod counters;
mod listener;
mod table;
#[cfg(test)]
mod tests;

pub use counters::KernelCounters;
pub use listener::{BindError, Listener};

use crate::clock::{monotonic, unix_seconds};
use crate::control::{Command, WorkerControl};
use crate::services::{ServiceReport, Services};
use connection::{Connection, Fate, Overdue};
use core::net::IpAddr;
use core::time::Duration;
use listener::Accepted;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use sluice_tcp::clock::Instant;
use std::collections::VecDeque;
use table::{Key, Table};

/// Connections served with one open of a file. Sixteen small answers take some 100 us.
const OPENS_SHARED_BY: usize = 16;
/// Events taken per epoll_wait(2).
const EVENTS: usize = 512;

/// Connections accepted per listener and turn: those that are served already have their turn in between.
const ACCEPTS: usize = 64;

/// Time limits are looked at no more often than this. All of them are seconds.
const SCAN_GRAIN: Duration = Duration::from_millis(250);

/// Slots looked at for an idle connection to close when all are taken.
const EVICTION_LOOKS: usize = 64;

/// Epoll data that is no connection's key. Listener `n` is `LISTENERS + n`.
const DISK: u64 = 1 << 63;
const CONTROL: u64 = DISK + 1;
const LISTENERS: u64 = DISK + 2;

/// Sizes of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelWorkerConfig {
    /// Connections at once, idle ones included, at least 1. When all are busy, new ones are refused.
    pub connections: usize,
}

/// Everything a worker says about itself at one moment.
#[derive(Debug, Clone, Default)]
pub struct KernelReport {
    /// The application.
    pub service: ServiceReport,
    /// Connections so far.
    pub kernel: KernelCounters,
    /// Connections now.
    pub connections: usize,
}

/// A worker. It is built on the control thread and moved to its own.
pub struct KernelWorker {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    table: Table,
    services: Services,
    /// Connections with something to do, each once.
    runnable: VecDeque<Key>,
    /// Connections that wait for the disk, a block or a workspace, longest first, each once.
    waiting: VecDeque<Key>,
    scratch: Vec<u8>,
    counters: KernelCounters,
    /// A descriptor that can be given up to accept, and close, a connection when there is none left.
    reserve: Option<OwnedFd>,
    accepting: bool,
    next_scan: Option<Instant>,
    last_scan: Instant,
    evict_at: usize,
    drain_at: Option<Instant>,
}

impl KernelWorker {
    /// Assembles a worker over `listeners`, which belong to it alone.
    ///
    /// # Errors
    /// A descriptor could not be made, or not be added to the epoll set (`fs.epoll.max_user_watches`).
    pub fn new(
        config: &KernelWorkerConfig,
        listeners: Vec<Listener>,
        mut services: Services,
        now: Instant,
    ) -> Result<KernelWorker, Errno> {
        // Megabytes of socket buffer stand between a client and what it seems to take; a stalled one holds no block
        // and is ended by its own limit.
        services.min_rate = None;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let connections = config.connections.max(1);
        epoll::add(
            &epoll,
            services.disk.wake_fd(),
            EventData::new_u64(DISK),
            EventFlags::IN,
        )?;
        for (data, listener) in (LISTENERS..).zip(&listeners) {
            epoll::add(&epoll, listener, EventData::new_u64(data), EventFlags::IN)?;
        }
        Ok(KernelWorker {
            epoll,
            listeners,
            table: Table::new(connections),
            scratch: vec![0; services.input_bytes()],
            services,
            // Twice: keys of connections that ended stay in until they are reached.
            runnable: VecDeque::with_capacity(2 * connections),
            waiting: VecDeque::with_capacity(2 * connections),
            counters: KernelCounters::default(),
            reserve: Some(reserve()?),
            accepting: true,
            next_scan: None,
            last_scan: now,
            evict_at: 0,
            drain_at: None,
        })
    }

    /// The loop of the thread: turns until a drain is over.
    ///
    /// # Errors
    /// The epoll set broke, which only running out of kernel memory explains.
    pub fn run(mut self, mut control: WorkerControl<KernelReport>) -> Result<KernelWorker, Errno> {
        let wake = EventData::new_u64(CONTROL);
        epoll::add(&self.epoll, control.wake_fd(), wake, EventFlags::IN)?;
        // Of this thread: an epoll event may hold a pointer, so it cannot move with the worker.
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = monotonic();
            control.clear_wake();
            if self.obey(&mut control, now) {
                return Ok(self);
            }
            self.wait(&mut events, now)?;
            self.turn(&events, monotonic(), unix_seconds());
            control.turn();
        }
    }

    /// Copies the state of the moment into `report`. Does not allocate.
    pub fn report_into(&self, report: &mut KernelReport) {
        self.services.report_into(&mut report.service);
        report.kernel = self.counters;
        report.connections = self.table.len();
    }

    /// Commands of the control side. True when the worker is done.
    fn obey(&mut self, control: &mut WorkerControl<KernelReport>, now: Instant) -> bool {
        while let Some(command) = control.take() {
            match command {
                Command::Drain { deadline } => self.drain(deadline),
                Command::Snapshot(mut report) => {
                    self.report_into(&mut report);
                    control.publish(report);
                }
            }
        }
        if self.drain_at.is_some_and(|deadline| now >= deadline) {
            self.reset_all();
        }
        self.drain_at.is_some() && self.table.is_empty()
    }

    /// Takes what is in the accept queues, closes the listeners, and lets all connections end.
    fn drain(&mut self, deadline: Instant) {
        if self.drain_at.is_none() {
            self.services.draining = true;
            // Closing a listener resets what waits in its queue, and those peers have done nothing wrong.
            for index in 0..self.listeners.len() {
                while self.accept_some(index, monotonic()) {}
            }
            self.listeners.clear();
            for slot in 0..self.table.capacity() {
                if let Some(key) = self.table.key_at(slot) {
                    self.enqueue(key);
                }
            }
        }
        self.drain_at = Some(deadline);
    }

    fn reset_all(&mut self) {
        for slot in 0..self.table.capacity() {
            if let Some(key) = self.table.key_at(slot) {
                let cut = self
                    .table
                    .get_mut(key)
                    .is_some_and(|connection| !connection.is_lingering());
                self.counters.reset_by_drain += u64::from(cut);
                self.end(key);
            }
        }
    }

    /// Sleeps until something happens or is due.
    fn wait(&self, events: &mut Vec<Event>, now: Instant) -> Result<(), Errno> {
        let waiter_may_go_on = self.services.has_freed() && !self.waiting.is_empty();
        let limit = if waiter_may_go_on || !self.runnable.is_empty() {
            Some(Duration::ZERO)
        } else {
            let due = [self.next_scan, self.drain_at].into_iter().flatten().min();
            due.map(|due| due.saturating_since(now))
        };
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// One turn over the events that [`Self::wait`] took.
    fn turn(&mut self, events: &[Event], now: Instant, unix_seconds: i64) {
        for &Event { flags, data } in events {
            self.on_event(data.u64(), flags, now);
        }
        if self.services.poll(unix_seconds) {
            self.wake_waiting();
        }
        for served in 1..=self.runnable.len() {
            // A request may be read after the open of another: that must not be old.
            if served % OPENS_SHARED_BY == 0 {
                self.services.forget_turn();
            }
            if let Some(key) = self.runnable.pop_front() {
                self.serve(key, now);
            }
        }
        if self.next_scan.is_some_and(|due| now >= due) {
            self.scan(now);
        }
        self.services.end_turn(!self.runnable.is_empty());
    }

    fn on_event(&mut self, data: u64, flags: EventFlags, now: Instant) {
        match data {
            // Both eventfds only end the sleep: the turn and `obey` look for themselves.
            DISK | CONTROL => {}
            LISTENERS.. => {
                let index = usize::try_from(data - LISTENERS).unwrap_or(usize::MAX);
                self.accept_some(index, now);
            }
            _ => {
                let key = Key::from_bits(data);
                if let Some(connection) = self.table.get_mut(key) {
                    connection.note(flags);
                    self.enqueue(key);
                }
            }
        }
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(connection) = self.table.get_mut(key)
            && !core::mem::replace(&mut connection.queued, true)
        {
            self.runnable.push_back(key);
        }
    }

    fn wake_waiting(&mut self) {
        while let Some(key) = self.waiting.pop_front() {
            if let Some(connection) = self.table.get_mut(key) {
                connection.waiting = false;
                self.enqueue(key);
            }
        }
    }

    fn serve(&mut self, key: Key, now: Instant) {
        let Some(connection) = self.table.get_mut(key) else {
            return;
        };
        connection.queued = false;
        let fate = connection.serve(
            now,
            &mut self.scratch,
            &mut self.services,
            &mut self.counters,
        );
        let deadline = connection.deadline(&self.services);
        match fate {
            Fate::End => return self.end(key),
            // It moved as much as one may in a turn.
            Fate::Again => {
                self.services.forget_turn();
                self.enqueue(key);
            }
            Fate::Wait => {
                if !core::mem::replace(&mut connection.waiting, true) {
                    self.waiting.push_back(key);
                }
            }
            Fate::Sleep => {}
        }
        self.note_deadline(deadline);
    }

    /// Takes a connection out and closes it: with a FIN if it was ended in order, else with a RST.
    fn end(&mut self, key: Key) {
        if let Some(mut connection) = self.table.remove(key) {
            connection.exchange.teardown(&mut self.services);
        }
    }

    /// Accepts up to [`ACCEPTS`] connections. True if there may be more.
    fn accept_some(&mut self, index: usize, now: Instant) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(index) else {
                return false;
            };
            match listener.accept() {
                Accepted::Connection(socket, peer) => self.admit(socket, peer, now),
                Accepted::Gone => {}
                Accepted::Nothing => return false,
                Accepted::NoDescriptor => {
                    if !self.shed(index) {
                        self.pause_accepting(now);
                        return false;
                    }
                }
            }
        }
        true
    }

    fn admit(&mut self, socket: OwnedFd, peer: Option<IpAddr>, now: Instant) {
        if self.table.len() == self.table.capacity() {
            self.evict_idle();
        }
        let key = match self.table.insert(Connection::new(socket, peer, now)) {
            Ok(key) => key,
            Err(refused) => {
                self.counters.refused_full += 1;
                // Reset by its drop: the peer learns at once.
                drop(refused);
                return;
            }
        };
        let Some(connection) = self.table.get_mut(key) else {
            return;
        };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if epoll::add(
            &self.epoll,
            &*connection,
            EventData::new_u64(key.to_bits()),
            interest,
        )
        .is_err()
        {
            self.counters.refused_descriptors += 1;
            return self.end(key);
        }
        self.counters.accepted += 1;
        let deadline = connection.deadline(&self.services);
        self.note_deadline(deadline);
    }

    /// Closes an idle connection, if a few looks find one, in favour of a new one.
    fn evict_idle(&mut self) {
        let slots = self.table.capacity();
        for _ in 0..EVICTION_LOOKS.min(slots) {
            self.evict_at = (self.evict_at + 1) % slots;
            let Some(key) = self.table.key_at(self.evict_at) else {
                continue;
            };
            let Some(connection) = self.table.get_mut(key) else {
                continue;
            };
            if connection.is_idle() {
                connection.close_in_order();
                self.counters.evicted_idle += 1;
                return self.end(key);
            }
        }
    }

    /// Out of descriptors: gives up the reserve to accept one connection and reset it, so that its peer is not left
    /// waiting and the listener does not stay readable for ever. False if that did not work either.
    fn shed(&mut self, index: usize) -> bool {
        let Some(listener) = self.listeners.get(index) else {
            return false;
        };
        drop(self.reserve.take());
        let accepted = listener.accept();
        let shed = if let Accepted::Connection(socket, _) = accepted {
            self.counters.refused_descriptors += 1;
            // If it fails the peer gets a FIN instead of a RST.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
            true
        } else {
            false
        };
        self.reserve = reserve().ok();
        shed && self.reserve.is_some()
    }

    /// Leaves new connections in the queue for a while: a listener that stays readable would keep the loop awake.
    fn pause_accepting(&mut self, now: Instant) {
        self.accepting = false;
        self.set_interest(EventFlags::empty());
        self.note_deadline(Some(now + SCAN_GRAIN));
    }

    fn resume_accepting(&mut self) {
        self.accepting = true;
        if self.reserve.is_none() {
            self.reserve = reserve().ok();
        }
        self.set_interest(EventFlags::IN);
    }

    fn set_interest(&self, interest: EventFlags) {
        for (data, listener) in (LISTENERS..).zip(&self.listeners) {
            // It is in the set; modifying allocates nothing.
            let _ = epoll::modify(&self.epoll, listener, EventData::new_u64(data), interest);
        }
    }

    /// Something is due at `deadline`.
    fn note_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            let look = deadline.max(self.last_scan + SCAN_GRAIN);
            self.next_scan = Some(self.next_scan.map_or(look, |next| next.min(look)));
        }
    }

    /// Looks at every deadline.
    fn scan(&mut self, now: Instant) {
        self.last_scan = now;
        self.next_scan = None;
        if !self.accepting {
            self.resume_accepting();
        }
        for slot in 0..self.table.capacity() {
            let Some(key) = self.table.key_at(slot) else {
                continue;
            };
            let Some(connection) = self.table.get_mut(key) else {
                continue;
            };
            let deadline = connection.deadline(&self.services);
            if deadline.is_none_or(|deadline| now < deadline) {
                self.note_deadline(deadline);
                continue;
            }
            match connection.overdue(now, &mut self.services, &mut self.counters) {
                Overdue::Serve => self.enqueue(key),
                Overdue::End => self.end(key),
            }
        }
    }
}

impl core::fmt::Debug for KernelWorker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KernelWorker")
            .field("listeners", &self.listeners)
            .field("connections", &self.table.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn reserve() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
