//! Closing descriptors away from the loop, without waking a thread for each.
//!
//! close(2) can wait: for a server (NFS, FUSE), or for the blocks of a deleted file whose last user it was. But a busy
//! service closes a file per request, and waking a thread costs the loop more than a typical close. So the helper
//! that was woken for a close *lingers*: it looks again every [`LINGER`], and while it does, nobody needs waking.
//! When a look finds nothing it goes back to sleep for good: an idle service uses no processor time.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::thread::futex::Timespec;

use crate::tokens::Tokens;

/// How long a closed file may stay open at most: short for an operator who watches the space of deleted files, long
/// for a service that answers a hundred thousand requests a second.
const LINGER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// How many descriptors wait to be closed at most. At half of it a helper is woken out of turn.
const CLOSES_MAX: usize = 256;

/// The descriptors that wait to be closed.
pub(crate) struct Closer {
    waiting: ArrayQueue<OwnedFd>,
    /// Whether a helper is going to look again by itself.
    lingering: AtomicBool,
}

impl Closer {
    pub(crate) fn new() -> Closer {
        Closer {
            waiting: ArrayQueue::new(CLOSES_MAX),
            lingering: AtomicBool::new(false),
        }
    }

    /// Leaves `fd` to the helpers; closes it here and now if too many wait. The loop's side.
    pub(crate) fn push(&self, fd: OwnedFd, work: &Tokens) {
        if self.waiting.push(fd).is_err() {
            return;
        }
        // E: pairs with F. Either the helper's end of lingering is seen here, or this descriptor by its last look.
        fence(Ordering::SeqCst);
        let many = self.waiting.len() == CLOSES_MAX / 2;
        if many || !self.lingering.load(Ordering::Relaxed) {
            work.add(1);
        }
    }

    /// Closes what waits, and goes on to do so until nothing comes or there is other work: true if a token was taken
    /// from `work`. The helpers' side.
    pub(crate) fn close_and_linger(&self, work: &Tokens) -> bool {
        self.close_all();
        // One is enough. The one that lingers sees what comes from now on.
        if self.lingering.swap(true, Ordering::SeqCst) {
            return false;
        }
        loop {
            let token = work.take_within(&LINGER);
            if !token && self.close_all() > 0 {
                continue;
            }
            self.lingering.store(false, Ordering::Relaxed);
            // F: pairs with E.
            fence(Ordering::SeqCst);
            self.close_all();
            return token;
        }
    }

    fn close_all(&self) -> usize {
        // One descriptor is dropped, and with it closed, before the next is taken: others can help meanwhile.
        std::iter::from_fn(|| self.waiting.pop()).map(drop).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A pipe whose reading end shows when the writing end is closed.
    fn watched() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (reader.into(), writer.into())
    }

    fn closes_within(reader: &OwnedFd, limit: Duration) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            reader,
            rustix::event::PollFlags::IN,
        )];
        let limit = Timespec::try_from(limit).expect("a short time");
        rustix::event::poll(&mut fds, Some(&limit)).expect("poll") > 0
    }

    /// Descriptors at random distances, each of which must be closed soon although few wake the helper.
    #[test]
    fn every_descriptor_is_closed_soon_whether_its_helper_lingers_or_sleeps() {
        let closer = Arc::new(Closer::new());
        let work = Arc::new(Tokens::default());
        let stop = Arc::new(AtomicBool::new(false));
        let helper = {
            let (closer, work, stop) = (closer.clone(), work.clone(), stop.clone());
            thread::spawn(move || {
                let mut has_token = false;
                loop {
                    if !has_token {
                        work.take();
                    }
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    has_token = closer.close_and_linger(&work);
                }
            })
        };
        for pause_ms in [0, 0, 1, 9, 10, 11, 10, 25, 0, 10, 9, 40] {
            thread::sleep(Duration::from_millis(pause_ms));
            let (reader, writer) = watched();
            closer.push(writer, &work);
            assert!(closes_within(&reader, Duration::from_secs(10)));
        }
        stop.store(true, Ordering::Release);
        work.add(1);
        helper.join().expect("the helper ends");
    }

    #[test]
    fn what_does_not_fit_is_closed_at_once() {
        let closer = Closer::new();
        let work = Tokens::default();
        let (waiting_reader, waiting) = watched();
        for _ in 0..CLOSES_MAX {
            closer.push(waiting.try_clone().expect("a descriptor"), &work);
        }
        drop(waiting);
        let (reader, one_more) = watched();
        closer.push(one_more, &work);
        assert!(closes_within(&reader, Duration::ZERO));
        assert!(!closes_within(&waiting_reader, Duration::ZERO));
        assert_eq!(closer.close_all(), CLOSES_MAX);
        assert!(closes_within(&waiting_reader, Duration::ZERO));
    }

    #[test]
    fn work_ends_lingering_and_its_token_is_not_lost() {
        let closer = Closer::new();
        let work = Tokens::default();
        work.add(1);
        assert!(closer.close_and_linger(&work));
        assert!(!closer.lingering.load(Ordering::SeqCst));
        assert!(!work.take_within(&LINGER), "it was taken");
    }
}
