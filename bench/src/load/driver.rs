//! The loop of the loader: one epoll over all connections, in the closed loop, the open loop, or at rest.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::agenda::Agenda;
use super::connection::{Connection, Step};
use super::record::Outcome;
use super::request::Request;
use super::response::Expected;
use super::{BUFFER_BYTES, Options};

/// Events of one call.
const EVENTS: usize = 256;
/// What the timer is called in epoll; slots are far fewer.
const ALARM: u64 = u64::MAX;

/// What every request moves.
#[derive(Clone, Debug)]
pub enum Work {
    /// An object of so many bytes, which the server has.
    Download(u64),
    /// These bytes, which the server stores.
    Upload(Rc<[u8]>),
}

/// All connections, and what they did.
pub struct Driver<'a> {
    options: &'a Options,
    expected: Expected,
    /// One for all slots, or one for each.
    requests: Vec<Rc<Request>>,
    epoll: Epoll,
    /// Wakes the loop for what is due: a timeout of epoll has milliseconds, and to spin would take the CPU from the bulk
    /// client beside, or from the server.
    alarm: TimerFd,
    slots: Vec<Option<Connection>>,
    agenda: Agenda,
    buffer: Vec<u8>,
}

impl<'a> Driver<'a> {
    /// The clock runs from now on.
    pub fn new(options: &'a Options, work: &Work) -> io::Result<Driver<'a>> {
        let agenda = Agenda::new(options, Instant::now())?;
        let (requests, expected) = match work {
            Work::Download(length) => (
                vec![Rc::new(Request::get(options))],
                Expected::Object(*length),
            ),
            Work::Upload(content) => {
                let put =
                    |slot: usize| Request::put(options, &slot.to_string(), Rc::clone(content));
                let each = (0..agenda.seats()).map(|slot| Rc::new(put(slot)));
                (each.collect(), Expected::Stored)
            }
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let alarm = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Edge-triggered: it is never read, each setting of it is an edge to come.
        let wants = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&alarm, EpollEvent::new(wants, ALARM))?;
        Ok(Driver {
            options,
            expected,
            requests,
            epoll,
            alarm,
            slots: (0..agenda.seats()).map(|_| None).collect(),
            agenda,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Until the end, or in the open loop until everything is answered or the grace is over.
    pub fn run(&mut self) -> io::Result<Outcome> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            let now = Instant::now();
            if let Some(outcome) = self.agenda.proceed(now)? {
                return Ok(outcome);
            }
            self.assign(now);
            let timeout = self.set_alarm(now)?;
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in events[..count].iter().filter(|event| event.data() != ALARM) {
                self.step(usize::try_from(event.data()).unwrap_or(usize::MAX));
            }
        }
    }

    /// See [`Record::histograms`](super::record::Record::histograms).
    pub fn histograms(&self) -> io::Result<Vec<u8>> {
        self.agenda.record.histograms()
    }

    /// What is due gets a slot, as long as one is free.
    fn assign(&mut self, now: Instant) {
        // Each once: one that fails at once waits again.
        for _ in 0..self.agenda.collect(now) {
            let Some((slot, due)) = self.agenda.next(now) else {
                return;
            };
            self.begin_request(slot, due, now);
        }
    }

    fn begin_request(&mut self, slot: usize, due: Instant, now: Instant) {
        let (before, begun) = match self.slots[slot].take() {
            Some(mut resting) => {
                let begun = resting.ask(due).map(|bytes| {
                    self.agenda.record.body(now, bytes);
                    resting
                });
                (Some(EpollFlags::EPOLLIN), begun)
            }
            None => {
                let Options { server, close, .. } = *self.options;
                let request = Rc::clone(&self.requests[slot % self.requests.len()]);
                let opened = Connection::open(server, request, self.expected, close, due);
                (None, opened)
            }
        };
        let watched = begun.and_then(|connection| {
            self.watch(slot, before, &connection)?;
            Ok(connection)
        });
        match watched {
            Ok(connection) => self.slots[slot] = Some(connection),
            Err(error) => self.fail(slot, &error),
        }
    }

    /// Tells epoll what the connection waits for, if it was something else before.
    fn watch(
        &self,
        slot: usize,
        before: Option<EpollFlags>,
        connection: &Connection,
    ) -> io::Result<()> {
        let wants = connection.wants();
        let mut event = EpollEvent::new(wants, slot as u64);
        match before {
            None => self.epoll.add(connection.stream(), event)?,
            Some(before) if before != wants => {
                self.epoll.modify(connection.stream(), &mut event)?
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// What an event says about a connection.
    fn step(&mut self, slot: usize) {
        let Some(mut connection) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let (before, was_resting) = (connection.wants(), connection.is_resting());
        let step = connection.proceed(&mut self.buffer);
        let now = Instant::now();
        let step = step.and_then(|step| {
            self.watch(slot, Some(before), &connection)?;
            Ok(step)
        });
        match step {
            Ok(Step::Nothing) => {}
            Ok(Step::Body(bytes)) => self.agenda.record.body(now, bytes),
            Ok(Step::Answered(bytes)) => {
                self.agenda.record.body(now, bytes);
                self.agenda.record.answered(connection.due, now);
                if connection.is_resting() {
                    self.slots[slot] = Some(connection);
                    self.agenda.release(slot, now);
                    return;
                }
            }
            Ok(Step::Closed) => {
                drop(connection);
                return self.agenda.release(slot, now);
            }
            // A server may close what rests; the slot is free already and opens another next time.
            Err(error) if was_resting && error.kind() == io::ErrorKind::UnexpectedEof => {
                return self.agenda.lose(slot);
            }
            Err(error) => return self.fail(slot, &error),
        }
        self.slots[slot] = Some(connection);
    }

    /// Its connection is gone too.
    fn fail(&mut self, slot: usize, error: &io::Error) {
        self.slots[slot] = None;
        self.agenda.fail(slot, error, Instant::now());
    }

    /// Has the loop woken when something is due. What epoll may wait: not at all if it is due already.
    fn set_alarm(&self, now: Instant) -> io::Result<EpollTimeout> {
        let left = self.agenda.rest(now);
        if left.is_zero() {
            return Ok(EpollTimeout::ZERO);
        }
        let expiration = Expiration::OneShot(TimeSpec::from(left));
        self.alarm.set(expiration, TimerSetTimeFlags::empty())?;
        Ok(EpollTimeout::NONE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A server with a thread for every connection.
    fn served_by(talk: fn(TcpStream, Duration), pause: Duration) -> std::net::SocketAddrV4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address");
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || talk(stream, pause));
            }
        });
        address
    }

    /// A server that needs `pause` for an answer.
    fn server(pause: Duration) -> std::net::SocketAddrV4 {
        served_by(answer, pause)
    }

    fn answer(mut stream: TcpStream, pause: Duration) {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            thread::sleep(pause);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
            if String::from_utf8_lossy(&buffer[..read]).contains("close") {
                break;
            }
        }
    }

    /// Answers a request when [`UPLOAD`] bytes came behind its head.
    fn store(mut stream: TcpStream, _: Duration) {
        let (mut got, mut buffer) = (Vec::new(), [0; 1 << 16]);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            got.extend_from_slice(&buffer[..read]);
            let head = got.windows(4).position(|end| end == b"\r\n\r\n");
            if head.is_some_and(|at| got.len() == at + 4 + UPLOAD) {
                got.clear();
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    }

    /// More than a socket takes at once.
    const UPLOAD: usize = 8 << 20;
    /// What the server has.
    const BODY: Work = Work::Download(4);

    fn options(server: std::net::SocketAddrV4) -> Options {
        Options {
            server,
            ..crate::load::tests::options()
        }
    }

    fn p50_us(driver: &Driver<'_>) -> f64 {
        let bytes = driver.histograms().unwrap();
        let intervals = super::super::read_histograms(&bytes, 1, 0.4).unwrap();
        crate::report::Latency::of(&intervals).unwrap().p50_us
    }

    #[test]
    fn a_known_sleep_is_measured_right() {
        let options = options(server(Duration::from_millis(20)));
        let mut driver = Driver::new(&options, &BODY).unwrap();
        let outcome = driver.run().unwrap();
        assert_eq!(
            (outcome.failed, outcome.bytes),
            (0, 4 * outcome.requests),
            "{outcome:?}"
        );
        assert!((5..=20).contains(&outcome.requests), "{outcome:?}");
        let p50 = p50_us(&driver);
        assert!((20_000.0..60_000.0).contains(&p50), "{p50}");
    }

    #[test]
    fn an_open_loop_charges_the_server_for_what_had_to_wait() {
        // 100 requests a second of a server that can do 25: the median waits for most of a second.
        let options = Options {
            rate: Some(100.0),
            ..options(server(Duration::from_millis(40)))
        };
        let mut driver = Driver::new(&options, &BODY).unwrap();
        let outcome = driver.run().unwrap();
        assert_eq!(
            (outcome.requests, outcome.unfinished),
            (40, 0),
            "{outcome:?}"
        );
        let p50 = p50_us(&driver);
        assert!(p50 > 400_000.0, "{p50}");
    }

    #[test]
    fn a_connection_of_its_own_for_every_request() {
        let options = Options {
            close: true,
            ..options(server(Duration::from_millis(5)))
        };
        let outcome = Driver::new(&options, &BODY).unwrap().run().unwrap();
        assert_eq!(outcome.failed, 0, "{outcome:?}");
        assert!(outcome.requests > 5, "{outcome:?}");
    }

    #[test]
    fn an_idle_connection_asks_once() {
        let options = Options {
            idle: true,
            warm_up: 0.0,
            ..options(server(Duration::from_millis(50)))
        };
        let outcome = Driver::new(&options, &BODY).unwrap().run().unwrap();
        assert_eq!(outcome.requests, 1, "{outcome:?}");
    }

    #[test]
    fn those_that_rest_ask_once_and_are_not_measured() {
        let options = Options {
            resting: 5,
            warm_up: 0.0,
            ..options(server(Duration::from_millis(10)))
        };
        let outcome = Driver::new(&options, &BODY).unwrap().run().unwrap();
        assert_eq!((outcome.at_rest, outcome.failed), (5, 0), "{outcome:?}");
        assert!((5..=40).contains(&outcome.requests), "{outcome:?}");
    }

    #[test]
    fn an_upload_counts_when_it_is_answered_and_its_bytes_as_they_leave() {
        let options = Options {
            connections: 2,
            upload: true,
            ..options(served_by(store, Duration::ZERO))
        };
        let work = Work::Upload(vec![7; UPLOAD].into());
        let outcome = Driver::new(&options, &work).unwrap().run().unwrap();
        assert!(outcome.requests > 2 && outcome.failed == 0, "{outcome:?}");
        let bodies = outcome.requests * UPLOAD as u64;
        assert!(
            outcome.bytes.abs_diff(bodies) <= 2 * UPLOAD as u64,
            "{outcome:?}"
        );
    }

    #[test]
    fn a_server_that_is_not_there_ends_the_run() {
        let options = options("127.0.0.1:1".parse().unwrap());
        let error = Driver::new(&options, &BODY).unwrap().run().unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
