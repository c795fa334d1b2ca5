//! The sending half of a connection at rest: see [`crate::rest`].

use core::time::Duration;

use super::Sender;
use crate::clock::Instant;
use crate::seq::SeqNumber;

/// What is left of a [`Sender`] with nothing to send and nothing in flight: SND.UNA, SND.NXT and the end of what
/// was supplied are one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingSender {
    snd_una: u64,
    last_sent_at: Instant,
    origin: SeqNumber,
    snd_wnd: u32,
    max_snd_wnd: u32,
    snd_wl1: SeqNumber,
    smss: u16,
    scale: u8,
    more_follows: bool,
}

impl Sender {
    /// No data has ever left.
    pub(crate) fn is_fresh(&self) -> bool {
        self.snd_max == 0
    }

    /// Everything that was supplied was sent and is acknowledged, and no FIN follows.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight() == 0 && self.unsent() == 0 && self.fin_at.is_none()
    }

    /// For so long nothing has left that what is sent next begins anew, if `patience` is no less than the RTO
    /// (RFC 5681 section 4.1).
    pub(crate) fn is_paused(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_since(self.last_sent_at) > patience
    }

    /// The packed form; `None` while there is more to know, and for `patience` after data left.
    pub(crate) fn rest(&self, now: Instant, patience: Duration) -> Option<RestingSender> {
        let una = self.snd_una;
        let is_one = self.snd_max == una && self.supplied == una && self.snd_wl2 == una;
        let is_quiet = self.is_quiet()
            && is_one
            && !self.probe_outstanding
            && !self.is_stalled_by_window()
            && (self.is_fresh() || self.is_paused(now, patience));
        if !is_quiet {
            return None;
        }
        Some(RestingSender {
            snd_una: una,
            last_sent_at: self.last_sent_at,
            origin: self.origin,
            snd_wnd: self.snd_wnd,
            max_snd_wnd: self.max_snd_wnd,
            snd_wl1: self.snd_wl1,
            smss: u16::try_from(self.smss).ok()?,
            scale: self.scale,
            more_follows: self.more_follows,
        })
    }
}

impl RestingSender {
    pub(crate) fn wake(&self) -> Sender {
        Sender {
            origin: self.origin,
            snd_una: self.snd_una,
            snd_nxt: self.snd_una,
            snd_max: self.snd_una,
            snd_wnd: self.snd_wnd,
            max_snd_wnd: self.max_snd_wnd,
            snd_wl1: self.snd_wl1,
            snd_wl2: self.snd_una,
            scale: self.scale,
            smss: self.smss.into(),
            supplied: self.snd_una,
            more_follows: self.more_follows,
            fin_at: None,
            probe_outstanding: false,
            last_sent_at: self.last_sent_at,
            // What is sent next is timed, and decides then what is ambiguous.
            timed: None,
            sent_again: false,
        }
    }
}
