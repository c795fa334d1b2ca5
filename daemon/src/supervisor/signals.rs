//! Signals as readable descriptors: one pair for "stop", one for "report". And SIGXFSZ, which nobody wants to hear.

use core::time::Duration;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGUSR1.
    Report,
}

pub(super) struct Signals {
    stop: UnixStream,
    report: UnixStream,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // A write beyond RLIMIT_FSIZE raises it, and by default it ends the process: one upload, everybody's. With a
        // handler the write says EFBIG and no more (setrlimit(2)); that is 413. Nobody reads the flag.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Signals {
            stop: receiver(&[SIGTERM, SIGINT])?,
            report: receiver(&[SIGUSR1])?,
        })
    }

    /// Sleeps until a signal comes, one of `others` is readable or `limit` has passed (`None`).
    pub(super) fn wait(&self, others: &[BorrowedFd<'_>], limit: Duration) -> Option<Signal> {
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.report, PollFlags::IN),
        ];
        fds.extend(
            others
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
        );
        let timeout = Timespec::try_from(limit).ok();
        // EINTR: a signal came, and its pipe says which.
        let _ = poll(&mut fds, timeout.as_ref());
        if taken(&self.stop) {
            Some(Signal::Stop)
        } else if taken(&self.report) {
            Some(Signal::Report)
        } else {
            None
        }
    }
}

fn receiver(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Takes one byte: signals that came faster than they were served are served one after the other.
fn taken(mut stream: &UnixStream) -> bool {
    matches!(stream.read(&mut [0u8; 1]), Ok(1))
}
