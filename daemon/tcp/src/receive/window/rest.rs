//! The window of a connection at rest: see [`crate::rest`].

use super::Window;
use crate::seq::SeqNumber;

/// What is left of a [`Window`], and with it of the receiving half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingWindow {
    rcv_nxt: u64,
    origin: SeqNumber,
    /// From RCV.NXT to the right edge.
    promised: u32,
    /// From what the driver has freed to RCV.NXT.
    unread: u32,
    mss: u16,
    scale: u8,
    /// The widest window ever promised, rounded up to this power of two.
    widest_log2: u8,
}

impl Window {
    /// The packed form; `None` while the driver says what room there is.
    pub(in crate::receive) fn rest(&self) -> Option<RestingWindow> {
        if self.is_driven {
            return None;
        }
        Some(RestingWindow {
            rcv_nxt: self.rcv_nxt,
            origin: self.origin,
            promised: distance(self.rcv_nxt, self.right_edge)?,
            unread: distance(self.consumed, self.rcv_nxt)?,
            mss: self.mss,
            scale: self.scale,
            widest_log2: u8::try_from(self.widest.max(1).next_power_of_two().ilog2()).ok()?,
        })
    }
}

impl RestingWindow {
    /// The MSS we advertised.
    pub(crate) fn mss(&self) -> u16 {
        self.mss
    }

    /// `capacity`: what every connection begins with. A window that grew stays promised, and grows anew.
    pub(crate) fn wake(&self, capacity: u32) -> Window {
        Window {
            origin: self.origin,
            rcv_nxt: self.rcv_nxt,
            right_edge: self.rcv_nxt + u64::from(self.promised),
            consumed: self.rcv_nxt - u64::from(self.unread),
            capacity,
            is_driven: false,
            // At most a full field with the largest scale, so below 2^30.
            widest: 1 << self.widest_log2,
            scale: self.scale,
            mss: self.mss,
        }
    }
}

fn distance(from: u64, to: u64) -> Option<u32> {
    u32::try_from(to.checked_sub(from)?).ok()
}
