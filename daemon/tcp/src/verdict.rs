//! What loss detection hears, and what it answers: values between [`crate::outstanding`] and the connection.

use core::ops::Range;
use core::time::Duration;

use crate::ack_run::Acks;
use crate::clock::Instant;

/// What an acknowledgement means for the congestion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The window may grow by what was delivered.
    Grow,
    /// A loss was proven: reduce the window now, and call `begin_recovery`.
    Reduce,
    /// A recovery is under way: the window stays.
    Hold,
    /// A tail loss probe was the repair: reduce the window, nothing has to be sent again.
    ReduceForProbe,
    /// The last reduction was spurious: `take_undo` has the state to return to.
    Undo,
}

/// An acknowledgement as the loss detector sees it.
#[derive(Clone, Debug)]
pub(crate) struct AckSeen {
    /// SND.UNA after it, in stream offsets.
    pub snd_una: u64,
    /// SND.NXT.
    pub snd_nxt: u64,
    /// Bytes by which it moved SND.UNA.
    pub acked: u64,
    /// A duplicate in the sense of RFC 5681 section 2 (without any SACK block).
    pub duplicate: bool,
    /// What it says came twice (RFC 2883).
    pub dsack: Option<Range<u64>>,
    /// When the segment left whose timestamp it echoes, in milliseconds.
    pub echoed_ms: Option<u64>,
    /// Its timestamp is newer than all before it.
    pub is_newer: bool,
    /// How many it stands for.
    pub acks: Acks,
}

/// What an acknowledgement delivered: collected first, judged when the round trip is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    /// Bytes that were not known to have arrived.
    pub bytes: u64,
    /// Round trip of what was sent once and arrived now: the shortest.
    pub rtt: Option<Duration>,
    /// Bytes that were neither acknowledged nor SACKed before.
    pub outstanding_before: u64,
    /// Some were sent before the time-out and never again.
    pub original: bool,
    /// When the byte at SND.UNA left last (at the earliest), if it was sent again and is now acknowledged.
    pub first_sent_again_at: Option<Instant>,
    /// Some of what is now acknowledged was held lost, and had never been sent again.
    pub late: bool,
}

/// What the caller has to do about an acknowledgement or a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub verdict: Verdict,
    /// Look again after this time (RFC 8985 section 6.2, step 5).
    pub reorder_timeout: Option<Duration>,
    /// More was found lost.
    pub found_lost: bool,
}

impl Delivered {
    /// Nothing was in flight.
    pub(crate) const NOTHING: Delivered = Delivered {
        bytes: 0,
        rtt: None,
        outstanding_before: 0,
        original: false,
        first_sent_again_at: None,
        late: false,
    };
}

impl Judged {
    pub(crate) fn quiet(verdict: Verdict) -> Self {
        Judged {
            verdict,
            reorder_timeout: None,
            found_lost: false,
        }
    }
}
