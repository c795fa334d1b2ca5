//! The sending half: our sequence space and the peer's window.
//!
//! Positions are stream offsets; offset 0 is ISS + 1 and our FIN counts one at the end. The driver *supplies*
//! bytes by saying up to which offset it can produce them; nothing is stored here. Invariant:
//! `snd_una <= snd_nxt <= supplied (+ 1 with the FIN)`.
//!
//! RFC 9293 sections 3.4 (comparisons), 3.8.6 (windows), 3.10.7.4 (window update).

use core::ops::Range;

use crate::clock::Instant;
use crate::seq::SeqNumber;

/// Send sequence space of one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    origin: SeqNumber,
    pub snd_una: u64,
    pub snd_nxt: u64,
    snd_wnd: u32,
    max_snd_wnd: u32,
    snd_wl1: SeqNumber,
    snd_wl2: u64,
    scale: u8,
    /// Payload bytes of a segment without options: the smaller of the peer's MSS and our interface's.
    pub mss: u16,
    supplied: u64,
    more_follows: bool,
    fin_at: Option<u64>,
    /// A byte was sent into a closed window and is not acknowledged (RFC 9293 section 3.8.6.1).
    pub probe_outstanding: bool,
    pub last_sent_at: Instant,
    /// One segment at a time is timed (Karn): its end and when it left.
    timed: Option<(u64, Instant)>,
}

/// A range of our sequence space ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub payload: Range<u64>,
    pub fin: bool,
    pub push: bool,
}

impl Sender {
    pub(crate) fn new(iss: SeqNumber, mss: u16, scale: u8, now: Instant) -> Self {
        Sender {
            origin: iss.add(1),
            snd_una: 0,
            snd_nxt: 0,
            snd_wnd: 0,
            max_snd_wnd: 0,
            snd_wl1: SeqNumber::new(0),
            snd_wl2: 0,
            scale,
            mss,
            supplied: 0,
            more_follows: false,
            fin_at: None,
            probe_outstanding: false,
            last_sent_at: now,
            timed: None,
        }
    }

    /// Sequence number of a stream offset.
    pub(crate) fn seq(&self, offset: u64) -> SeqNumber {
        // Sequence numbers are offsets modulo 2^32.
        #[allow(clippy::cast_possible_truncation)]
        let low = offset as u32;
        self.origin.add(low)
    }

    pub(crate) fn iss(&self) -> SeqNumber {
        self.origin.add(u32::MAX)
    }

    /// Stream offset that an acknowledgement number names; negative for what precedes the stream.
    pub(crate) fn offset_of(&self, ack: SeqNumber) -> i64 {
        let una = i64::try_from(self.snd_una).unwrap_or(i64::MAX);
        una + i64::from(ack.distance(self.seq(self.snd_una)))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.snd_nxt - self.snd_una
    }

    pub(crate) fn supplied(&self) -> u64 {
        self.supplied
    }

    /// The driver can produce bytes up to `until`. That may be less than before, if it dropped what was read
    /// ahead, but never less than what was sent.
    pub(crate) fn supply(&mut self, until: u64, more_follows: bool) {
        if self.fin_at.is_none() {
            self.supplied = until.max(self.snd_nxt);
            self.more_follows = more_follows;
        }
    }

    /// No more bytes follow what was supplied.
    pub(crate) fn finish(&mut self) {
        if self.fin_at.is_none() {
            self.fin_at = Some(self.supplied);
            self.more_follows = false;
        }
    }

    /// Whether our FIN was sent and acknowledged.
    pub(crate) fn is_fin_acknowledged(&self) -> bool {
        self.fin_at.is_some_and(|fin| self.snd_una > fin)
    }

    /// Bytes of the stream acknowledged, without the FIN.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.snd_una.min(self.fin_at.unwrap_or(u64::MAX))
    }

    /// Highest byte of the stream sent, without the FIN.
    pub(crate) fn sent(&self) -> u64 {
        self.snd_nxt.min(self.fin_at.unwrap_or(u64::MAX))
    }

    pub(crate) fn window(&self) -> u32 {
        self.snd_wnd
    }

    pub(crate) fn max_window(&self) -> u32 {
        self.max_snd_wnd
    }

    /// The window of the SYN or of the final ACK: accepted without comparison.
    pub(crate) fn set_first_window(&mut self, seq: SeqNumber, field: u16, scaled: bool) {
        let scale = if scaled { self.scale } else { 0 };
        self.snd_wnd = u32::from(field) << scale;
        self.max_snd_wnd = self.max_snd_wnd.max(self.snd_wnd);
        self.snd_wl1 = seq;
        self.snd_wl2 = self.snd_una;
    }

    /// RFC 9293 section 3.10.7.4: only a newer segment updates the window. True if the window changed.
    pub(crate) fn update_window(&mut self, seq: SeqNumber, ack: u64, field: u16) -> bool {
        let newer = self.snd_wl1.lt(seq) || (self.snd_wl1 == seq && self.snd_wl2 <= ack);
        if !newer {
            return false;
        }
        let window = u32::from(field) << self.scale;
        let changed = window != self.snd_wnd;
        self.snd_wnd = window;
        self.max_snd_wnd = self.max_snd_wnd.max(window);
        self.snd_wl1 = seq;
        self.snd_wl2 = ack;
        changed
    }

    /// The next new bytes that windows and SWS avoidance let go, at most `max_payload` and `allowance` bytes.
    ///
    /// A short segment leaves only if it carries the last bytes the driver has for now, fills half of the
    /// largest window ever seen, or nothing is in flight (RFC 9293 section 3.8.6.2.1, MUST-38; Nagle is off).
    pub(crate) fn next_new(&self, max_payload: u32, allowance: u64) -> Option<Cut> {
        let window_room = (self.snd_una + u64::from(self.snd_wnd)).saturating_sub(self.snd_nxt);
        let unsent = self.supplied.saturating_sub(self.snd_nxt);
        let len = unsent
            .min(window_room)
            .min(allowance)
            .min(u64::from(max_payload));
        let end = self.snd_nxt + len;
        let fin = self.fin_at == Some(end) && self.snd_nxt <= end;
        if len == 0 {
            let bare_fin = fin && unsent == 0 && self.snd_nxt == end;
            return bare_fin.then_some(Cut {
                payload: end..end,
                fin: true,
                push: false,
            });
        }
        let last = end == self.supplied && !self.more_follows;
        let full = len == u64::from(max_payload);
        let half_window = len >= u64::from(self.max_snd_wnd / 2).max(1);
        // Bytes the driver will soon continue are worth a short segment only when nothing else would bring
        // the next acknowledgement.
        let idle = self.snd_nxt == self.snd_una && window_room > len;
        (full || last || half_window || idle).then_some(Cut {
            payload: self.snd_nxt..end,
            fin,
            push: last,
        })
    }

    /// Whether data waits for a window that does not let a useful segment through, with nothing in flight to
    /// bring an update: the condition for window probes.
    pub(crate) fn is_stalled_by_window(&self) -> bool {
        let unsent = self.supplied.saturating_sub(self.snd_nxt);
        let in_flight = self.in_flight();
        let idle = in_flight == 0 || (in_flight == 1 && self.probe_outstanding);
        let room = (self.snd_una + u64::from(self.snd_wnd)).saturating_sub(self.snd_nxt);
        let useful = u64::from(self.max_snd_wnd / 2)
            .min(u64::from(self.mss))
            .min(unsent)
            .max(1);
        idle && (unsent > 0 || self.probe_outstanding) && room < useful
    }

    /// The byte of a window probe: new data beyond the window, or the one probed with before.
    pub(crate) fn probe(&self) -> Option<Cut> {
        let at = self.snd_una;
        (at < self.supplied).then(|| Cut {
            payload: at..at + 1,
            fin: false,
            push: false,
        })
    }

    /// The window opened after a probe that the peer did not take: the byte becomes unsent again, so that it
    /// is cut into a full segment.
    pub(crate) fn take_back_probe(&mut self) {
        if self.probe_outstanding && self.snd_nxt == self.snd_una + 1 && self.snd_wnd > 0 {
            self.snd_nxt = self.snd_una;
            self.probe_outstanding = false;
        }
    }

    /// Cuts the front of a range that is sent again.
    pub(crate) fn recut(&self, range: &Range<u64>, max_payload: u32) -> Cut {
        let data_end = self.fin_at.unwrap_or(u64::MAX);
        let end = range.end.min(range.start + u64::from(max_payload));
        let payload = range.start.min(data_end)..end.min(data_end);
        // The FIN follows when the cut reaches the end of the data and the FIN itself is part of the range.
        let fin = range.end > data_end && payload.end == data_end;
        Cut {
            push: payload.end == self.supplied && !payload.is_empty(),
            payload,
            fin,
        }
    }

    /// End of a cut in sequence space.
    pub(crate) fn end_of(cut: &Cut) -> u64 {
        cut.payload.end + u64::from(cut.fin)
    }

    /// New data left. True if the retransmission timer has to be started.
    pub(crate) fn on_sent_new(&mut self, cut: &Cut, now: Instant) {
        self.snd_nxt = self.snd_nxt.max(Self::end_of(cut));
        self.last_sent_at = now;
        if self.timed.is_none() {
            self.timed = Some((self.snd_nxt, now));
        }
    }

    /// Something was sent again: by Karn's rule the timed segment says nothing any more.
    pub(crate) fn on_sent_again(&mut self, now: Instant) {
        self.last_sent_at = now;
        self.timed = None;
    }

    /// SND.UNA moves to `ack`; the round trip of the timed segment if it is covered.
    pub(crate) fn on_acknowledged(
        &mut self,
        ack: u64,
        now: Instant,
    ) -> Option<core::time::Duration> {
        self.snd_una = ack;
        self.probe_outstanding = false;
        match self.timed {
            Some((end, sent_at)) if end <= ack => {
                self.timed = None;
                Some(now.saturating_since(sent_at))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(window: u16) -> Sender {
        let mut sender = Sender::new(SeqNumber::new(u32::MAX - 1), 1000, 0, Instant::ZERO);
        sender.set_first_window(SeqNumber::new(5), window, true);
        sender
    }

    fn send(sender: &mut Sender) -> Option<Cut> {
        let cut = sender.next_new(1000, u64::MAX)?;
        sender.on_sent_new(&cut, Instant::ZERO);
        Some(cut)
    }

    #[test]
    fn offsets_and_sequence_numbers_agree_across_the_wrap() {
        let sender = sender(1000);
        assert_eq!(sender.seq(0), SeqNumber::new(u32::MAX));
        assert_eq!(sender.offset_of(SeqNumber::new(4)), 5);
        assert_eq!(sender.iss(), SeqNumber::new(u32::MAX - 1));
    }

    #[test]
    fn last_short_segment_carries_push_and_fin() {
        let mut sender = sender(5000);
        sender.supply(1500, false);
        sender.finish();
        assert_eq!(
            send(&mut sender).map(|cut| (cut.payload, cut.fin, cut.push)),
            Some((0..1000, false, false))
        );
        assert_eq!(
            send(&mut sender).map(|cut| (cut.payload, cut.fin, cut.push)),
            Some((1000..1500, true, true))
        );
        assert_eq!(send(&mut sender), None);
    }

    #[test]
    fn a_short_segment_waits_when_more_follows() {
        // RFC 9293 section 3.8.6.2.1.
        let mut sender = sender(60000);
        sender.supply(1500, true);
        assert!(send(&mut sender).is_some());
        assert_eq!(send(&mut sender), None);
        sender.supply(2500, false);
        assert_eq!(send(&mut sender).map(|cut| cut.payload), Some(1000..2000));
    }

    #[test]
    fn a_small_remaining_window_is_not_filled_with_a_sliver() {
        let mut sender = sender(2300);
        sender.supply(10_000, false);
        assert!(send(&mut sender).is_some());
        assert!(send(&mut sender).is_some());
        assert_eq!(send(&mut sender), None);
        assert!(!sender.is_stalled_by_window());
    }

    #[test]
    fn a_closed_window_asks_for_probes_and_the_probe_is_taken_back() {
        let mut sender = sender(0);
        sender.supply(10, false);
        assert_eq!(send(&mut sender), None);
        assert!(sender.is_stalled_by_window());
        let probe = sender.probe().expect("data waits");
        sender.on_sent_new(&probe, Instant::ZERO);
        sender.probe_outstanding = true;
        assert!(sender.is_stalled_by_window());
        assert!(sender.update_window(SeqNumber::new(6), 0, 1000));
        sender.take_back_probe();
        assert_eq!(send(&mut sender).map(|cut| cut.payload), Some(0..10));
    }

    #[test]
    fn an_old_segment_does_not_update_the_window() {
        let mut sender = sender(1000);
        assert!(!sender.update_window(SeqNumber::new(4), 0, 50));
        assert_eq!(sender.window(), 1000);
    }

    #[test]
    fn fin_alone_is_recut_without_payload() {
        let mut sender = sender(5000);
        sender.supply(100, false);
        sender.finish();
        assert!(send(&mut sender).is_some());
        let cut = sender.recut(&(100..101), 1000);
        assert_eq!((cut.payload, cut.fin), (100..100, true));
        let whole = sender.recut(&(0..101), 1000);
        assert_eq!((whole.payload, whole.fin), (0..100, true));
    }
}
