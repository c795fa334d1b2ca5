//! What the kernel says to the system call that makes it look at the TX ring.

/// What a kick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a failed kick leaves packets in the ring"]
pub enum Kick {
    /// Nothing was queued; no system call was made.
    Idle,
    /// The kernel has what was queued, or is at it.
    Done,
    /// Packets are left in the ring and nothing was lost: reap, then kick again. (`EAGAIN`, or unfinished success.)
    Again,
    /// The driver or device dropped one frame, which completes as if sent; others may be left in the ring: kick
    /// again. (`EBUSY`)
    FrameLost,
    /// The kernel had no memory; nothing was lost: kick again later. (`ENOBUFS`, `ENOMEM`)
    NoMemory,
    /// The interface is down: packets wait in the ring. It may come back. (`ENETDOWN`)
    Down,
    /// The socket is not bound any more: the interface was removed or moved. Final. (`ENXIO`)
    Gone,
    /// The kernel refuses the packet at the head of the ring for ever (`EINVAL`), or gave the errno inside, which
    /// nothing here expects. Only a new socket helps. Validation in [`Queue::send`](crate::Queue::send) is there to make it impossible.
    Wedged(i32),
}

impl Kick {
    /// What the answer to a kick means (`xsk_sendmsg`, `__xsk_generic_xmit`).
    #[inline]
    pub(crate) fn of(answer: Result<(), i32>, unfinished: bool) -> Kick {
        match answer {
            Ok(()) if unfinished => Kick::Again,
            Ok(()) => Kick::Done,
            Err(libc::EAGAIN) => Kick::Again,
            Err(libc::EBUSY) => Kick::FrameLost,
            Err(libc::ENOBUFS | libc::ENOMEM) => Kick::NoMemory,
            Err(libc::ENETDOWN) => Kick::Down,
            Err(libc::ENXIO) => Kick::Gone,
            Err(errno) => Kick::Wedged(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_is_classified_by_its_errno() {
        let answers = [
            (libc::EAGAIN, Kick::Again),
            (libc::EBUSY, Kick::FrameLost),
            (libc::ENOBUFS, Kick::NoMemory),
            (libc::ENOMEM, Kick::NoMemory),
            (libc::ENETDOWN, Kick::Down),
            (libc::ENXIO, Kick::Gone),
            (libc::EINVAL, Kick::Wedged(libc::EINVAL)),
        ];
        for (errno, kick) in answers {
            assert_eq!(Kick::of(Err(errno), false), kick);
            assert_eq!(Kick::of(Err(errno), true), kick);
        }
        assert_eq!(Kick::of(Ok(()), false), Kick::Done);
        // Success with packets left in the ring: an invalid descriptor stopped the kernel.
        assert_eq!(Kick::of(Ok(()), true), Kick::Again);
    }
}
