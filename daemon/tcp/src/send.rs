//! The sending half: our sequence space and the peer's window.
//!
//! Positions are stream offsets; offset 0 is ISS + 1 and our FIN counts one at the end. The driver *supplies*
//! bytes by saying up to which offset it can produce them; nothing is stored here. Invariant:
//! `snd_una <= snd_nxt <= snd_max <= supplied (+ 1 with the FIN)`. `snd_nxt` and `snd_max` differ only by the
//! byte of a window probe that the peer may or may not have taken.
//!
//! RFC 9293 sections 3.4 (comparisons), 3.8.6 (windows), 3.10.7.4 (window update).

use core::ops::Range;

use crate::clock::Instant;
use crate::seq::SeqNumber;

mod rest;

pub(crate) use rest::RestingSender;

/// Send sequence space of one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    origin: SeqNumber,
    pub snd_una: u64,
    pub snd_nxt: u64,
    /// Highest offset ever sent: what an acknowledgement may name.
    snd_max: u64,
    snd_wnd: u32,
    max_snd_wnd: u32,
    snd_wl1: SeqNumber,
    snd_wl2: u64,
    scale: u8,
    /// Payload bytes of a full segment with the options that every segment carries (RFC 6691).
    smss: u32,
    supplied: u64,
    more_follows: bool,
    fin_at: Option<u64>,
    /// A byte was sent into a closed window and is not acknowledged (RFC 9293 section 3.8.6.1).
    probe_outstanding: bool,
    /// When data left last.
    pub last_sent_at: Instant,
    /// One segment at a time is timed (Karn): its end and when it left.
    timed: Option<(u64, Instant)>,
    sent_again: bool,
}

/// A range of our sequence space ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub payload: Range<u64>,
    pub fin: bool,
    pub push: bool,
}

impl Sender {
    /// `smss` as in [`Self::smss`]; the peer's windows are shifted by `scale`.
    pub(crate) fn new(iss: SeqNumber, smss: u32, scale: u8, now: Instant) -> Self {
        Sender {
            origin: iss.add(1),
            snd_una: 0,
            snd_nxt: 0,
            snd_max: 0,
            snd_wnd: 0,
            max_snd_wnd: 0,
            snd_wl1: SeqNumber::new(0),
            snd_wl2: 0,
            scale,
            smss,
            supplied: 0,
            more_follows: false,
            fin_at: None,
            probe_outstanding: false,
            last_sent_at: now,
            timed: None,
            sent_again: false,
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

    /// Sequence number for a segment without data: SND.NXT, but never beyond the peer's window, where nothing is
    /// acceptable and not even our acknowledgement would be read.
    pub(crate) fn bare_seq(&self) -> SeqNumber {
        let edge = self.snd_una + u64::from(self.snd_wnd);
        self.seq(self.snd_nxt.min(edge))
    }

    /// Stream offset that an acknowledgement number names; negative for what precedes the stream.
    pub(crate) fn offset_of(&self, ack: SeqNumber) -> i64 {
        let una = i64::try_from(self.snd_una).unwrap_or(i64::MAX);
        una + i64::from(ack.distance(self.seq(self.snd_una)))
    }

    /// What the peer's SYN says about the segments and windows of a connection that we opened.
    pub(crate) fn negotiate(&mut self, smss: u32, scale: u8) {
        self.smss = smss;
        self.scale = scale;
    }

    /// SMSS in bytes (RFC 5681 section 2).
    pub(crate) fn smss(&self) -> u32 {
        self.smss
    }

    /// The path takes longer segments now, or only shorter ones. What is in flight may be cut anew.
    pub(crate) fn set_smss(&mut self, smss: u32) {
        self.smss = smss;
    }

    /// The highest offset that an acknowledgement may name.
    pub(crate) fn snd_max(&self) -> u64 {
        self.snd_max
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.snd_nxt - self.snd_una
    }

    /// The driver can produce bytes up to `until`. That may be less than before, if it dropped what was read
    /// ahead, but never less than [`Self::needed`].
    pub(crate) fn supply(&mut self, until: u64, more_follows: bool) {
        if self.fin_at.is_none() {
            self.supplied = until.max(self.needed());
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

    /// Whether a FIN follows what was supplied.
    pub(crate) fn is_finishing(&self) -> bool {
        self.fin_at.is_some()
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
        self.snd_max.min(self.fin_at.unwrap_or(u64::MAX))
    }

    /// End of what may have to be sent again. The byte of a window probe does not belong to it: it is asked for
    /// anew each time, so that a peer that does not read keeps nobody's memory.
    pub(crate) fn needed(&self) -> u64 {
        if self.probe_outstanding {
            self.snd_una
        } else {
            self.snd_nxt
        }
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
    ///
    /// A segment whose acknowledgement `advanced` SND.UNA is newer than all before it, whatever its SEQ: it may be
    /// a FIN or data sent again. Without its window the right edge would move on with SND.UNA, beyond what the
    /// peer ever offered.
    pub(crate) fn update_window(
        &mut self,
        seq: SeqNumber,
        ack: u64,
        field: u16,
        advanced: bool,
    ) -> bool {
        let newer = self.snd_wl1.lt(seq) || (self.snd_wl1 == seq && self.snd_wl2 <= ack);
        if !newer && !advanced {
            return false;
        }
        let window = u32::from(field) << self.scale;
        let changed = window != self.snd_wnd;
        self.snd_wnd = window;
        self.max_snd_wnd = self.max_snd_wnd.max(window);
        self.snd_wl1 = self.snd_wl1.max(seq);
        self.snd_wl2 = ack;
        changed
    }

    /// Bytes of the driver that were not sent yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.supplied.saturating_sub(self.snd_nxt)
    }

    /// The same if everything below `from` had been sent.
    pub(crate) fn unsent_behind(&self, from: u64) -> u64 {
        self.supplied.saturating_sub(from)
    }

    /// Whether the driver said that more follows.
    pub(crate) fn has_more(&self) -> bool {
        self.more_follows
    }

    /// Bytes that the peer's window still takes.
    pub(crate) fn window_room(&self) -> u64 {
        (self.snd_una + u64::from(self.snd_wnd)).saturating_sub(self.snd_nxt)
    }

    /// The next new bytes that windows and SWS avoidance let go, at most `allowance` bytes.
    ///
    /// A short segment leaves only if it carries the last bytes the driver has for now, fills half of the
    /// largest window ever seen (RFC 9293 section 3.8.6.2.1, MUST-38; Nagle is off), or carries all there is
    /// with nothing in flight whose acknowledgement it could wait for. A FIN needs no window: receivers take
    /// it right at the edge.
    pub(crate) fn next_new(&self, allowance: u64) -> Option<Cut> {
        self.next_behind(self.snd_nxt, allowance)
    }

    /// The same if everything below `from` had left already, which is at least SND.NXT. `allowance` is what may follow.
    #[inline(always)]
    pub(crate) fn next_behind(&self, from: u64, allowance: u64) -> Option<Cut> {
        let unsent = self.unsent_behind(from);
        let window_end = self.snd_una + u64::from(self.snd_wnd);
        let len = unsent
            .min(window_end.saturating_sub(from))
            .min(allowance)
            .min(u64::from(self.smss));
        let end = from + len;
        let fin = self.fin_at == Some(end);
        if len == 0 {
            return fin.then_some(Cut {
                payload: end..end,
                fin: true,
                push: false,
            });
        }
        let last = end == self.supplied && !self.more_follows;
        let full = len == u64::from(self.smss);
        let half_window = len >= u64::from(self.max_snd_wnd / 2).max(1);
        let all_and_idle = len == unsent && from == self.snd_una;
        // With all there is PSH goes, too (RFC 9293 section 3.9.1.2, MUST-61): the driver may have more only when this is
        // acknowledged, and a receiver that is not pushed may wait with that.
        (full || last || half_window || all_and_idle).then_some(Cut {
            payload: from..end,
            fin,
            push: last || (all_and_idle && !full),
        })
    }

    /// Full segments, at most `most`, of `allowance` bytes that windows let go at once.
    pub(crate) fn full_segments(&self, allowance: u64, most: u64) -> u64 {
        let smss = u64::from(self.smss.max(1));
        let bytes = self.unsent().min(self.window_room()).min(allowance);
        if bytes >= most.saturating_mul(smss) {
            // The usual case costs no division.
            most
        } else {
            bytes / smss
        }
    }

    /// `range` of new data as it leaves: whether FIN and PSH go with its end.
    pub(crate) fn cut_of(&self, range: Range<u64>) -> Cut {
        Cut {
            fin: self.fin_at == Some(range.end),
            push: range.end == self.supplied && !self.more_follows,
            payload: range,
        }
    }

    /// The next `len` new bytes as one segment, however long SMSS is: what a probe of the path carries. None unless
    /// the window has room for it and for `behind` bytes more, which are there to be sent.
    pub(crate) fn next_long(&self, len: u64, behind: u64) -> Option<Cut> {
        let end = self.snd_nxt + len;
        let window_end = self.snd_una + u64::from(self.snd_wnd);
        (self.unsent() >= len + behind && end + behind <= window_end).then_some(Cut {
            payload: self.snd_nxt..end,
            fin: false,
            push: false,
        })
    }

    /// Payload bytes of the first segment in flight, if it were sent again now.
    pub(crate) fn first_len(&self) -> u32 {
        let data_end = self.snd_nxt.min(self.fin_at.unwrap_or(u64::MAX));
        let len = data_end.saturating_sub(self.snd_una);
        u32::try_from(len).unwrap_or(u32::MAX).min(self.smss)
    }

    /// Whether data waits for a window that lets nothing useful through, with nothing in flight to bring an
    /// update: the condition for window probes.
    ///
    /// The driver need not hold the data meanwhile: that more follows is enough, as long as the window has no room
    /// for a segment that is sure to leave.
    pub(crate) fn is_stalled_by_window(&self) -> bool {
        if self.probe_outstanding || self.in_flight() > 0 {
            return self.probe_outstanding;
        }
        if self.unsent() > 0 {
            return self.next_new(u64::MAX).is_none();
        }
        let useful = self.smss.min((self.max_snd_wnd / 2).max(1));
        self.more_follows && self.snd_wnd < useful
    }

    /// Stream offset up to which a probe sent now would reach.
    pub(crate) fn probe_end(&self) -> u64 {
        self.snd_una + u64::from(self.snd_wnd.clamp(1, self.smss))
    }

    /// Whether a byte was sent into a closed window and waits for its answer.
    pub(crate) fn is_probing(&self) -> bool {
        self.probe_outstanding
    }

    /// What a window probe carries, or `None` while the driver has to fetch it: one byte beyond a closed window, or all that a window takes which is too
    /// small for a useful segment (the override of RFC 9293 section 3.8.6.2.1).
    pub(crate) fn probe(&self) -> Option<Cut> {
        if !self.is_stalled_by_window() {
            return None;
        }
        let at = self.snd_una;
        let end = self.supplied.min(self.probe_end());
        (at < end).then_some(Cut {
            payload: at..end,
            fin: false,
            push: false,
        })
    }

    /// A cut of [`Self::probe`] left.
    pub(crate) fn on_probe_sent(&mut self, cut: &Cut, now: Instant) {
        self.on_sent_new(cut, now);
        if self.snd_wnd == 0 {
            // It may be answered at once or when the window opens: no measure of the path.
            self.timed = None;
            self.probe_outstanding = true;
        }
    }

    /// The window opened after a probe that the peer did not take: the byte becomes unsent again, so that it
    /// is cut into a full segment. Should the peer have taken it, its acknowledgement stays welcome.
    pub(crate) fn take_back_probe(&mut self) {
        if self.probe_outstanding && self.snd_wnd > 0 {
            self.snd_nxt = self.snd_una;
            self.probe_outstanding = false;
        }
    }

    /// Cuts the front of a range that is sent again.
    pub(crate) fn recut(&self, range: &Range<u64>) -> Cut {
        let data_end = self.fin_at.unwrap_or(u64::MAX);
        let end = range.end.min(range.start + u64::from(self.smss));
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

    /// New data left.
    pub(crate) fn on_sent_new(&mut self, cut: &Cut, now: Instant) {
        self.snd_nxt = self.snd_nxt.max(Self::end_of(cut));
        self.snd_max = self.snd_max.max(self.snd_nxt);
        self.last_sent_at = now;
        if self.timed.is_none() {
            self.timed = Some((self.snd_nxt, now));
            self.sent_again = false;
        }
    }

    /// Something was sent again: by Karn's rule the timed segment says nothing any more.
    pub(crate) fn on_sent_again(&mut self, now: Instant) {
        self.last_sent_at = now;
        self.timed = None;
        self.sent_again = true;
    }

    /// Whether something was sent again since the last segment that was timed: acknowledgements are then ambiguous
    /// (Karn) unless they carry an echo.
    pub(crate) fn was_sent_again(&self) -> bool {
        self.sent_again
    }

    /// SND.UNA moves to `ack`; the round trip of the timed segment if it is covered.
    pub(crate) fn on_acknowledged(
        &mut self,
        ack: u64,
        now: Instant,
    ) -> Option<core::time::Duration> {
        self.snd_una = ack;
        self.snd_nxt = self.snd_nxt.max(ack);
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
        let cut = sender.next_new(u64::MAX)?;
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
        sender.on_probe_sent(&probe, Instant::ZERO);
        assert!(sender.is_stalled_by_window());
        assert!(sender.update_window(SeqNumber::new(6), 0, 1000, false));
        sender.take_back_probe();
        assert_eq!(send(&mut sender).map(|cut| cut.payload), Some(0..10));
    }

    #[test]
    fn a_probe_that_was_taken_may_be_acknowledged_after_it_was_taken_back() {
        let mut sender = sender(0);
        sender.supply(10, false);
        let probe = sender.probe().expect("data waits");
        sender.on_probe_sent(&probe, Instant::ZERO);
        assert!(sender.update_window(SeqNumber::new(6), 0, 1000, false));
        sender.take_back_probe();
        assert_eq!((sender.snd_nxt, sender.snd_max()), (0, 1));
        sender.supply(0, true);
        assert_eq!(sender.unsent(), 0, "the byte of a probe need not be kept");
        let _ = sender.on_acknowledged(1, Instant::ZERO);
        assert_eq!((sender.snd_una, sender.snd_nxt), (1, 1));
    }

    #[test]
    fn a_window_too_small_for_a_useful_segment_is_filled_by_the_probe() {
        // RFC 9293 section 3.8.6.2.1: the override time-out.
        let mut sender = sender(60_000);
        assert!(sender.update_window(SeqNumber::new(6), 0, 300, false));
        sender.supply(5000, false);
        assert_eq!(send(&mut sender), None);
        assert!(sender.is_stalled_by_window());
        assert_eq!(sender.probe().map(|cut| cut.payload), Some(0..300));
    }

    #[test]
    fn all_there_is_leaves_when_nothing_is_in_flight() {
        // It fits the window exactly and more follows: without this neither data nor probe would ever leave.
        let mut sender = sender(60_000);
        assert!(sender.update_window(SeqNumber::new(6), 0, 300, false));
        sender.supply(300, true);
        assert_eq!(send(&mut sender).map(|cut| cut.payload), Some(0..300));
    }

    #[test]
    fn a_bare_segment_stays_inside_the_window() {
        let mut sender = sender(0);
        sender.supply(10, false);
        let probe = sender.probe().expect("data waits");
        sender.on_probe_sent(&probe, Instant::ZERO);
        assert_eq!(sender.bare_seq(), sender.seq(0));
    }

    #[test]
    fn an_old_segment_does_not_update_the_window() {
        let mut sender = sender(1000);
        assert!(!sender.update_window(SeqNumber::new(4), 0, 50, false));
        assert_eq!(sender.window(), 1000);
    }

    #[test]
    fn fin_alone_is_recut_without_payload() {
        let mut sender = sender(5000);
        sender.supply(100, false);
        sender.finish();
        assert!(send(&mut sender).is_some());
        let cut = sender.recut(&(100..101));
        assert_eq!((cut.payload, cut.fin), (100..100, true));
        let whole = sender.recut(&(0..101));
        assert_eq!((whole.payload, whole.fin), (0..100, true));
    }
}
