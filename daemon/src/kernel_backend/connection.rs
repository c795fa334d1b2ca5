//! One kernel connection: a socket, an exchange, and the bytes between them.
//!
//! The kernel keeps a copy of what it takes, so for the exchange everything written is acknowledged, and blocks are
//! pinned only for the length of a write: a slow client costs socket buffer, never blocks. Events are
//! edge-triggered; `readable` and `writable` remember an edge until a call has shown that nothing is left.
//!
//! A connection that is dropped before it was ended in order is reset, also when a panic unwinds: a FIN would
//! make a cut body look whole.

use super::counters::KernelCounters;
use crate::clock::monotonic;
use crate::exchange::{Exchange, LINGER, LINGER_MOST};
use crate::services::Services;
use core::net::IpAddr;
use core::time::Duration;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown, sockopt,
};
use sluice_tcp::clock::Instant;

/// Response bytes made ready per write: four blocks. More would pin blocks that the socket buffer does not take.
const STEP_BYTES: u64 = 256 * 1024;

/// Bytes written in one turn before the next connection has its own.
const TURN_BYTES: u64 = 1024 * 1024;

/// Pieces per write: a full queue of short responses, head and body each.
const PIECES: usize = 32;

/// A peer that takes no bytes for so long is reset. With 4 MiB of socket buffer, whose last third must be free before
/// the kernel says writable, 120 s is a client of about 12 KiB/s; TCP_USER_TIMEOUT ends dead ones sooner.
const STALL: Duration = Duration::from_secs(120);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its socket.
    Sleep,
    /// It has more to do, after the others.
    Again,
    /// It waits for the disk, a block or a workspace.
    Wait,
    /// It is over.
    End,
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The exchange has something to say.
    Serve,
    /// It is over.
    End,
}

/// The end of a connection.
#[derive(Debug, Clone, Copy)]
struct Lingering {
    since: Instant,
    /// When the peer last sent something; at first [`Self::since`].
    heard_at: Instant,
}

impl Lingering {
    fn deadline(self) -> Instant {
        (self.heard_at + LINGER).min(self.since + LINGER_MOST)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) exchange: Exchange,
    received: u64,
    sent: u64,
    readable: bool,
    writable: bool,
    /// The peer's FIN is in the socket, perhaps behind data.
    fin_seen: bool,
    /// The peer's FIN is read.
    fin_read: bool,
    /// When the socket last refused bytes, while it does.
    stalled: Option<Instant>,
    /// Our FIN is sent, and what still comes is read away. Closing with unread data would reset the connection and take
    /// away the last response (RFC 9112 section 9.6).
    lingering: Option<Lingering>,
    /// Ended in order: close without a reset.
    in_order: bool,
    /// In the worker's queue of those with something to do.
    pub(super) queued: bool,
    /// In the worker's list of those that wait.
    pub(super) waiting: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, peer: Option<IpAddr>, now: Instant) -> Connection {
        Connection {
            socket,
            exchange: Exchange::new(now).with_peer(peer),
            received: 0,
            sent: 0,
            readable: false,
            writable: false,
            fin_seen: false,
            fin_read: false,
            stalled: None,
            lingering: None,
            in_order: false,
            queued: false,
            waiting: false,
        }
    }

    /// Remembers what epoll says.
    pub(super) fn note(&mut self, events: EventFlags) {
        let broken = events.intersects(EventFlags::ERR | EventFlags::HUP);
        self.fin_seen |= events.contains(EventFlags::RDHUP);
        self.readable |= broken || events.intersects(EventFlags::IN | EventFlags::RDHUP);
        if broken || events.contains(EventFlags::OUT) {
            self.writable = true;
            self.stalled = None;
        }
    }

    /// Reads, answers and writes as much as one turn allows.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        scratch: &mut [u8],
        services: &mut Services,
        counters: &mut KernelCounters,
    ) -> Fate {
        if self.lingering.is_some() {
            return self.read_away(now, scratch);
        }
        let served = self
            .read(scratch, services)
            .and_then(|()| self.answer(now, services));
        match served {
            Ok(fate) => fate,
            Err(Broken::ByPeer) => {
                counters.reset_by_peer += 1;
                Fate::End
            }
            Err(Broken::ByUs) => {
                counters.reset_by_us += 1;
                Fate::End
            }
        }
    }

    /// When [`Self::overdue`] is due.
    pub(super) fn deadline(&self, services: &Services) -> Option<Instant> {
        self.lingering
            .map(|lingering| lingering.deadline())
            .or_else(|| self.stalled.map(|since| since + STALL))
            .or_else(|| self.exchange.deadline(services))
    }

    /// Its deadline has passed.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        services: &mut Services,
        counters: &mut KernelCounters,
    ) -> Overdue {
        if self.lingering.is_some() {
            // Whatever the peer has not taken yet, the kernel goes on to deliver.
            return Overdue::End;
        }
        if self.stalled.is_some() {
            counters.reset_stalled += 1;
            return Overdue::End;
        }
        self.exchange.on_deadline(now, services);
        Overdue::Serve
    }

    /// Everything was written and our FIN is sent.
    pub(super) fn is_lingering(&self) -> bool {
        self.lingering.is_some()
    }

    /// Closing it now takes nothing from the peer.
    pub(super) fn is_idle(&self) -> bool {
        self.lingering.is_none() && self.exchange.is_idle() && !self.readable
    }

    /// Closes an idle connection with a FIN.
    pub(super) fn close_in_order(&mut self) {
        self.in_order = true;
    }

    /// Bytes of an upload are received where they stay; requests into the scratch buffer first.
    fn read(&mut self, scratch: &mut [u8], services: &mut Services) -> Result<(), Broken> {
        let room = self.exchange.room(services).min(scratch.len());
        if !self.readable || room == 0 {
            return Ok(());
        }
        let vacancy = self.exchange.vacancy();
        let is_placed = !vacancy.is_empty();
        let buffer = if is_placed {
            vacancy
        } else {
            &mut scratch[..room]
        };
        let Some(bytes) = receive(&self.socket, self.fin_seen, &mut self.readable, buffer)? else {
            return Ok(());
        };
        if bytes == 0 {
            self.readable = false;
            self.fin_read = true;
            self.exchange.peer_finished();
            return Ok(());
        }
        if !is_placed
            && !self
                .exchange
                .place(self.received, &scratch[..bytes], services)
        {
            // `room` has just said that they fit; a stream with a hole is no stream.
            return Err(Broken::ByUs);
        }
        self.received += as_u64(bytes);
        self.exchange.delivered(self.received);
        Ok(())
    }

    fn answer(&mut self, now: Instant, services: &mut Services) -> Result<Fate, Broken> {
        let turn_end = self.sent + TURN_BYTES;
        loop {
            let may_write = self.writable && self.sent < turn_end;
            // Who writes nothing now wants nothing: what is pinned goes back.
            let wanted = if may_write { STEP_BYTES } else { 0 };
            let progress = self.exchange.advance(self.sent + wanted, now, services);
            let written = self.sent == progress.ready_until;
            if progress.abort {
                return Err(Broken::ByUs);
            }
            if progress.finish && written {
                return Ok(self.finish(now));
            }
            if may_write && !written {
                self.write(progress.ready_until, now, services)?;
                continue;
            }
            return Ok(if progress.waiting {
                Fate::Wait
            } else if self.writable && (progress.more || !written) {
                Fate::Again
            } else {
                match self.fate_of_input(services) {
                    Fate::Sleep if progress.asks_again => Fate::Wait,
                    fate => fate,
                }
            });
        }
    }

    /// Whether there is more to read, and room for it.
    fn fate_of_input(&self, services: &Services) -> Fate {
        if !self.readable {
            Fate::Sleep
        } else if self.exchange.room(services) > 0 {
            Fate::Again
        } else if self.exchange.is_idle() {
            // No workspace was free.
            Fate::Wait
        } else {
            // Room comes with the next response that is written.
            Fate::Sleep
        }
    }

    fn write(&mut self, until: u64, now: Instant, services: &mut Services) -> Result<(), Broken> {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        let mut end = self.sent;
        while end < until && count < PIECES {
            let most = usize::try_from(until - end).unwrap_or(usize::MAX);
            let piece = self.exchange.bytes(end, most, services);
            if piece.is_empty() {
                return Err(Broken::ByUs);
            }
            end += as_u64(piece.len());
            pieces[count] = IoSlice::new(piece);
            count += 1;
        }
        let mut control = SendAncillaryBuffer::default();
        match sendmsg(
            &self.socket,
            &pieces[..count],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(bytes) => {
                // Read again: the time to the first byte includes the plan, the read and the write of this turn.
                let now = monotonic();
                self.sent += as_u64(bytes);
                self.exchange.sent(self.sent, now, services);
                self.exchange.acknowledged(self.sent, now, services);
                if self.sent < end {
                    // The buffer is full and the kernel knows that we want more (epoll(7), question 9).
                    self.blocked(now);
                }
                Ok(())
            }
            Err(Errno::AGAIN) => {
                self.blocked(now);
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(_) => Err(Broken::ByPeer),
        }
    }

    fn blocked(&mut self, now: Instant) {
        self.writable = false;
        self.stalled = Some(now);
    }

    /// Everything is written: FIN, then wait for the peer's.
    fn finish(&mut self, now: Instant) -> Fate {
        self.in_order = true;
        if self.fin_read || shutdown(&self.socket, Shutdown::Write).is_err() {
            return Fate::End;
        }
        self.stalled = None;
        self.lingering = Some(Lingering {
            since: now,
            heard_at: now,
        });
        Fate::Again
    }

    fn read_away(&mut self, now: Instant, scratch: &mut [u8]) -> Fate {
        if !self.readable {
            return Fate::Sleep;
        }
        match receive(&self.socket, self.fin_seen, &mut self.readable, scratch) {
            Ok(Some(0)) | Err(_) => return Fate::End,
            Ok(None) => return Fate::Sleep,
            Ok(Some(_)) => {}
        }
        if let Some(lingering) = &mut self.lingering {
            lingering.heard_at = now;
        }
        match self.readable {
            true => Fate::Again,
            false => Fate::Sleep,
        }
    }
}

/// Bytes received: `Some(0)` at the peer's FIN, `None` if there is nothing. `readable` ends when no more is there.
fn receive(
    socket: &OwnedFd,
    fin_seen: bool,
    readable: &mut bool,
    buffer: &mut [u8],
) -> Result<Option<usize>, Broken> {
    let size = buffer.len();
    match recv(socket, buffer, RecvFlags::empty()) {
        Ok((bytes, _)) => {
            // Fewer than asked for is all there was (epoll(7), question 9), except for a FIN behind it.
            if bytes < size && !fin_seen {
                *readable = false;
            }
            Ok(Some(bytes))
        }
        Err(Errno::AGAIN) => {
            *readable = false;
            Ok(None)
        }
        Err(Errno::INTR) => Ok(None),
        Err(_) => Err(Broken::ByPeer),
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.in_order {
            // SO_LINGER with time 0: close(2) sends a RST (socket(7)). If it fails, the socket is broken already.
            let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
    }
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Reset, time-out or unreachable, as the kernel says.
    ByPeer,
    /// A response cannot be completed.
    ByUs,
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// RFC 9112 section 9.6.
    #[test]
    fn an_ended_connection_is_read_away_until_its_peer_is_silent_but_thirty_seconds_at_most() {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        ours.set_nonblocking(true).expect("a socket");
        let began = Instant::from_nanos(1_000_000_000);
        let mut connection = Connection::new(ours.into(), None, began);
        assert_eq!(connection.finish(began), Fate::Again);
        let deadline = |connection: &Connection| connection.lingering.map(Lingering::deadline);
        assert_eq!(deadline(&connection), Some(began + LINGER));
        for seconds in [4, 8, 12, 16, 20, 24, 28] {
            let now = began + Duration::from_secs(seconds);
            theirs.write_all(b"what was under way").expect("it is read");
            connection.readable = true;
            assert_eq!(connection.read_away(now, &mut [0; 64]), Fate::Sleep);
            let silent_until = (now + LINGER).min(began + LINGER_MOST);
            assert_eq!(deadline(&connection), Some(silent_until));
        }
        drop(theirs);
        connection.readable = true;
        let now = began + Duration::from_secs(29);
        assert_eq!(connection.read_away(now, &mut [0; 64]), Fate::End);
    }
}
