//! How long the segments of a connection are: carries values between [`crate::path_mtu`], loss recovery, congestion
//! control and the segments that leave.
//!
//! A full segment fills the path MTU. When that changes, SMSS changes with it everywhere at once, and what is in
//! flight is cut anew where it is sent again: the record of it knows bytes, not segments.

use core::ops::Range;

use sluice_wire::TcpHeader;

use crate::connection::{Connection, Env, headers_len};
use crate::deadlines::Timer;
use crate::flow_table::FlowKey;
use crate::handshake::TIMESTAMPS_LEN;
use crate::path_mtu::Told;
use crate::path_probe::Probed;
use crate::send::{Cut, Sender};
use crate::verdict::Verdict;

/// Full segments that follow a path probe: DupThresh of them show by their SACKs that it alone is missing
/// (RFC 4821 section 7.2).
const SEGMENTS_BEHIND_PROBE: u32 = 3;

/// Bytes of the IP packet that `payload` bytes make, with the options that every segment carries.
pub(crate) fn packet_len(key: &FlowKey, timestamps: bool, payload: u32) -> u16 {
    let options = if timestamps { TIMESTAMPS_LEN } else { 0 };
    let len = u32::from(headers_len(key)) + options + payload;
    u16::try_from(len).unwrap_or(u16::MAX)
}

impl Connection {
    /// A router says that only `mtu` bytes of a packet pass, quoting the segment at `offset`, which is in flight.
    pub(crate) fn on_too_big(&mut self, mtu: u32, offset: u64, env: &mut Env<'_>) -> Told {
        let probe = self.loss.path_probe();
        let quotes_probe = probe.is_some_and(|probe| probe.contains(&offset));
        let told = self.path_mtu.on_told(mtu, quotes_probe, env.now);
        match told {
            Told::Lowered => {
                let one_segment = self.send.smss();
                self.resize(env);
                self.cut_anew(one_segment, env);
            }
            Told::ProbeRefused => {
                let snd_nxt = self.send.snd_nxt;
                self.loss.refuse_path_probe(snd_nxt, env.flights);
                // It is settled already.
                let _ = self.loss.take_probed();
            }
            Told::NotSmaller | Told::TooSmall => {}
        }
        told
    }

    /// What is in flight leaves again: first as much as `one_segment` had, in at least two segments, so that no
    /// delayed acknowledgement is waited for.
    fn cut_anew(&mut self, one_segment: u32, env: &mut Env<'_>) {
        if self.send.is_stalled_by_window() {
            // A window probe: too short to be too big.
            return;
        }
        let window = u64::from(one_segment.max(2 * self.send.smss()));
        self.loss.recut_all(self.send.snd_nxt, window, env.flights);
        let _ = self.loss.take_probed();
        self.deadlines.clear(Timer::Reorder);
        self.deadlines.clear(Timer::TailProbe);
    }

    /// The segment at SND.UNA is lost once more. It may be too big for the path (RFC 8899 section 4.3).
    pub(crate) fn suspect_black_hole(&mut self, env: &mut Env<'_>) {
        let size = packet_len(&self.key, self.timestamps.is_some(), self.send.first_len());
        if self.path_mtu.on_vanished(size, env.now) {
            env.counters.black_holes += 1;
            self.resize(env);
        }
    }

    /// What to send again in place of `cut`, whose repetition was lost as well if `again`. In a fast recovery shorter
    /// segments get through, and no time-out comes.
    pub(crate) fn recut_if_vanished(&mut self, cut: &Cut, again: bool, env: &mut Env<'_>) -> Cut {
        let is_first = cut.payload.start == self.send.snd_una;
        if again && is_first && !self.loss.is_timeout() {
            self.suspect_black_hole(env);
        }
        self.send.recut(&(cut.payload.start..Sender::end_of(cut)))
    }

    /// The next data as a probe of the path, if it is time for one, and the size of its packet.
    pub(crate) fn next_path_probe(&mut self, env: &Env<'_>) -> Option<(Cut, u16)> {
        let size = self.path_mtu.next_probe(env.now)?;
        if !self.loss.may_probe_path() {
            return None;
        }
        let len = u64::from(self.payload_of(size));
        let behind = u64::from(SEGMENTS_BEHIND_PROBE * self.send.smss());
        let budget = u64::from(env.config.send_limit).saturating_sub(self.send.in_flight());
        if self.send_room().min(budget) < len + behind {
            return None;
        }
        Some((self.send.next_long(len, behind)?, size))
    }

    /// Sends what [`Self::next_path_probe`] found.
    pub(crate) fn send_path_probe(
        &mut self,
        cut: &Cut,
        size: u16,
        env: &mut Env<'_>,
    ) -> (TcpHeader, Range<u64>) {
        env.counters.path_probes += 1;
        self.path_mtu.on_probe_sent(size);
        let segment = self.send_new(cut, env);
        self.loss.on_path_probe_sent(cut.payload.clone());
        segment
    }

    /// What an acknowledgement says about the path MTU. It moved SND.UNA by `acked` bytes and delivered so many: as
    /// many as a full segment has are taken for one, and then full segments pass.
    pub(crate) fn learn_path_mtu(
        &mut self,
        (acked, delivered): (u64, u64),
        verdict: Verdict,
        probed: Option<Probed>,
        env: &mut Env<'_>,
    ) {
        if let Some(probed) = probed {
            self.path_mtu.on_probed(probed, env.now);
            if probed == Probed::Delivered {
                env.counters.path_probes_delivered += 1;
                self.resize(env);
            }
        }
        if verdict == Verdict::Undo {
            self.path_mtu.on_spurious();
            // Also if nothing is restored: congestion control is as it was, with the SMSS of then.
            self.resize(env);
        } else if acked > 0
            || delivered >= u64::from(self.send.smss())
            // A peer that took its window back drops what it gets, and answers it.
            || self.send.window() == 0
        {
            self.path_mtu.on_passed();
        }
    }

    /// SMSS follows the path MTU.
    fn resize(&mut self, env: &Env<'_>) {
        let smss = self.payload_of(self.path_mtu.mtu());
        self.send.set_smss(smss);
        self.congestion.set_mss(smss);
        self.refresh_pacing(env);
    }

    /// Payload bytes of a packet of `size` bytes.
    fn payload_of(&self, size: u16) -> u32 {
        let headers = packet_len(&self.key, self.timestamps.is_some(), 0);
        u32::from(size.saturating_sub(headers))
    }
}
