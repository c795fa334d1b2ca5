//! The phase of a recovery, and what may leave in it.
//!
//! *Open*: nothing is known to be lost. *Fast*: a loss was proven by acknowledgements; the window was reduced once, and
//! the phase lasts until everything that was out then is acknowledged. *Timeout*: the timer fired, and what is lost is
//! sent again in slow start, after F-RTO has asked whether it is. *Recut*: what was too big for the path is sent again in
//! shorter segments. Which phase begins when is decided by the caller, who knows the flight.

use super::catch_up::CatchUp;
use crate::prr::{Prr, PrrAck};
use crate::undo::Frto;
use crate::verdict::Verdict;

/// Phases end when everything below `until` is acknowledged.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Open,
    Fast {
        until: u64,
        /// Not with a peer without SACK: its deliveries cannot be counted.
        prr: Option<Prr>,
    },
    Timeout {
        until: u64,
        frto: Frto,
    },
    /// What is lost was too big for the path, which says nothing about congestion.
    Recut {
        until: u64,
    },
}

/// Where the recovery of one flight stands.
#[derive(Debug)]
pub(super) struct Phase {
    kind: Kind,
    /// The first retransmission of a recovery does not wait for the window (RFC 6675 section 5, step 4.3).
    first_goes_at_once: bool,
    catch_up: CatchUp,
}

impl Phase {
    /// Nothing is known to be wrong.
    pub(super) fn new() -> Self {
        Phase {
            kind: Kind::Open,
            first_goes_at_once: false,
            catch_up: CatchUp::NONE,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Open)
    }

    pub(super) fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Timeout { .. })
    }

    pub(super) fn is_recut(&self) -> bool {
        matches!(self.kind, Kind::Recut { .. })
    }

    /// What has to be acknowledged for the phase to end.
    pub(super) fn until(&self) -> Option<u64> {
        match self.kind {
            Kind::Open => None,
            Kind::Fast { until, .. } | Kind::Timeout { until, .. } | Kind::Recut { until } => {
                Some(until)
            }
        }
    }

    /// The same of a fast recovery only.
    pub(super) fn fast_until(&self) -> Option<u64> {
        match self.kind {
            Kind::Fast { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The same of a time-out only, and the step of F-RTO.
    pub(super) fn time_out(&self) -> Option<(u64, Frto)> {
        match self.kind {
            Kind::Timeout { until, frto } => Some((until, frto)),
            _ => None,
        }
    }

    /// Where the new segments begin that F-RTO sends, while it does or has.
    pub(super) fn frto_sends_from(&self) -> Option<u64> {
        match self.kind {
            Kind::Timeout {
                until,
                frto: Frto::SendNew { .. } | Frto::AwaitVerdict,
            } => Some(until),
            _ => None,
        }
    }

    /// What an acknowledgement means for the window if it proves nothing.
    pub(super) fn verdict(&self) -> Verdict {
        match self.kind {
            Kind::Fast { .. } => Verdict::Hold,
            Kind::Open | Kind::Timeout { .. } | Kind::Recut { .. } => Verdict::Grow,
        }
    }

    /// A loss was proven, of what is in flight below `until`.
    pub(super) fn begin_fast(&mut self, until: u64) {
        self.kind = Kind::Fast { until, prr: None };
        self.first_goes_at_once = true;
        self.catch_up = CatchUp::NONE;
    }

    /// From now on `prr` says what leaves, if this is a fast recovery.
    pub(super) fn pace(&mut self, recovery: Prr) {
        if let Kind::Fast { prr, .. } = &mut self.kind {
            *prr = Some(recovery);
        }
    }

    /// The retransmission timer fired. True if no recovery was under way: then ssthresh is lowered (RFC 5681
    /// section 3.1), else it has been.
    pub(super) fn begin_time_out(&mut self, until: u64, sack: bool) -> bool {
        let is_first = matches!(self.kind, Kind::Open | Kind::Recut { .. });
        // Not after a fast recovery: what arrives then may answer its retransmissions (RFC 5682 section 3.1).
        let frto = match self.kind {
            Kind::Open | Kind::Timeout { .. } if sack => Frto::AwaitFirst,
            // Without SACK only while nothing but the first segment was sent again (section 2.1, step 1).
            Kind::Open
            | Kind::Timeout {
                frto: Frto::AwaitFirst,
                ..
            } => Frto::AwaitFirst,
            _ => Frto::Off,
        };
        self.kind = Kind::Timeout { until, frto };
        self.first_goes_at_once = true;
        self.catch_up = CatchUp::NONE;
        is_first
    }

    /// What was sent since belongs to the time-out as well.
    pub(super) fn extend_time_out(&mut self, to: u64) {
        if let Kind::Timeout { until, .. } = &mut self.kind {
            *until = to;
        }
    }

    /// The next step of F-RTO, if this is a time-out.
    pub(super) fn set_frto(&mut self, step: Frto) {
        if let Kind::Timeout { frto, .. } = &mut self.kind {
            *frto = step;
        }
    }

    /// What is lost below `until` was too big for the path.
    pub(super) fn begin_recut(&mut self, until: u64) {
        self.kind = Kind::Recut { until };
        self.first_goes_at_once = true;
    }

    /// A fast recovery or a time-out is over: `pipe` bytes are in flight, and `smss` more may follow at once.
    pub(super) fn end(&mut self, pipe: u64, smss: u32) {
        self.kind = Kind::Open;
        self.first_goes_at_once = false;
        self.catch_up = CatchUp::from(pipe + u64::from(smss));
    }

    /// A recut is over. What is caught up with by slow start goes on, unless nothing is in flight.
    pub(super) fn end_recut(&mut self, is_flight_over: bool) {
        self.kind = Kind::Open;
        self.first_goes_at_once = false;
        if is_flight_over {
            self.catch_up = CatchUp::NONE;
        }
    }

    /// The flight begins again from `window` bytes.
    pub(super) fn catch_up_from(&mut self, window: u64) {
        self.catch_up = CatchUp::from(window);
    }

    /// `len` bytes of new data left.
    pub(super) fn on_sent(&mut self, len: u64) {
        match &mut self.kind {
            Kind::Fast { prr: Some(prr), .. } => prr.on_sent(len),
            Kind::Timeout { frto, .. } => *frto = frto.on_new_segment(),
            _ => {}
        }
    }

    /// `len` bytes left again.
    pub(super) fn on_sent_again(&mut self, len: u64) {
        self.first_goes_at_once = false;
        if let Kind::Fast { prr: Some(prr), .. } = &mut self.kind {
            prr.on_sent(len);
        }
    }

    /// No new data can leave. True if something is lost that had waited for new data to leave first.
    pub(super) fn on_nothing_new(&mut self) -> bool {
        match &mut self.kind {
            Kind::Timeout { frto, .. } if *frto != Frto::Off => {
                *frto = frto.on_nothing_new();
                *frto == Frto::Off
            }
            _ => false,
        }
    }

    /// The end of an acknowledgement, by congestion control's `cwnd`; `is_flight_over`: nothing is left to be
    /// acknowledged.
    pub(super) fn regulate(&mut self, ack: PrrAck, is_flight_over: bool, cwnd: u32) {
        if let Kind::Fast { prr: Some(prr), .. } = &mut self.kind {
            prr.on_ack(ack);
        } else if is_flight_over {
            self.catch_up = CatchUp::NONE;
        } else {
            self.catch_up.on_delivered(&ack, cwnd);
        }
    }

    /// The window to send by, where `cwnd` is that of congestion control. A pacer leaves no burst to be prevented
    /// after a recovery: what is paced has the whole of `cwnd` at once.
    pub(super) fn window(&self, cwnd: u32, paced: bool) -> u64 {
        match self.kind {
            Kind::Fast { prr: Some(prr), .. } => prr.cwnd(),
            _ if paced => u64::from(cwnd),
            _ => self.catch_up.window(cwnd),
        }
    }

    /// Whether what is lost is sent again now: a recovery is under way, and F-RTO does not try new data first.
    pub(super) fn repeats(&self) -> bool {
        !self.is_open() && self.frto_sends_from().is_none()
    }

    /// Whether nothing may leave until F-RTO has its answer.
    pub(super) fn awaits_verdict(&self) -> bool {
        matches!(
            self.kind,
            Kind::Timeout {
                frto: Frto::AwaitVerdict,
                ..
            }
        )
    }

    /// The next retransmission ignores the window.
    pub(super) fn hurry(&mut self) {
        self.first_goes_at_once = true;
    }

    /// Whether it does.
    pub(super) fn goes_at_once(&self) -> bool {
        self.first_goes_at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_after(begin: impl FnOnce(&mut Phase), sack: bool) -> Frto {
        let mut phase = Phase::new();
        begin(&mut phase);
        let _ = phase.begin_time_out(9000, sack);
        phase.time_out().expect("it has just begun").1
    }

    #[test]
    fn f_rto_is_not_tried_after_a_fast_recovery() {
        // RFC 5682 section 3.1.
        assert_eq!(step_after(|_| {}, true), Frto::AwaitFirst);
        let fast = |phase: &mut Phase| phase.begin_fast(5000);
        assert_eq!(step_after(fast, true), Frto::Off);
    }

    #[test]
    fn a_second_time_out_tries_f_rto_anew_without_sack_only_before_its_first_answer() {
        // RFC 5682 section 2.1, step 1.
        let after = |frto, sack| {
            let time_out = |phase: &mut Phase| {
                let _ = phase.begin_time_out(5000, sack);
                phase.set_frto(frto);
            };
            step_after(time_out, sack)
        };
        assert_eq!(after(Frto::AwaitFirst, false), Frto::AwaitFirst);
        assert_eq!(after(Frto::AwaitVerdict, false), Frto::Off);
        assert_eq!(after(Frto::AwaitVerdict, true), Frto::AwaitFirst);
    }

    #[test]
    fn a_time_out_in_a_recovery_is_not_the_first() {
        let mut phase = Phase::new();
        phase.begin_recut(5000);
        assert!(phase.begin_time_out(6000, true), "a recut reduced nothing");
        assert!(!phase.begin_time_out(7000, true));
        assert_eq!(phase.until(), Some(7000));
    }

    #[test]
    fn nothing_is_sent_again_while_f_rto_tries_new_data() {
        let mut phase = Phase::new();
        assert!(!phase.repeats());
        let _ = phase.begin_time_out(5000, true);
        assert!(phase.repeats(), "the first");
        phase.set_frto(Frto::SendNew { sent: 0 });
        assert!(!phase.repeats());
        assert_eq!(phase.frto_sends_from(), Some(5000));
        assert!(phase.on_nothing_new());
        assert!(phase.repeats());
    }

    #[test]
    fn the_first_repetition_of_a_recovery_goes_at_once() {
        // RFC 6675 section 5, step 4.3.
        let mut phase = Phase::new();
        phase.begin_fast(5000);
        assert!(phase.goes_at_once());
        phase.on_sent_again(1000);
        assert!(!phase.goes_at_once());
    }
}
