//! The probe of the path MTU that is in flight: where it lies in the stream, and what became of it.
//!
//! A probe is a segment of real data, longer than the others (RFC 4821 section 7, RFC 8899 section 4.1). It is lost
//! *alone* if nothing else is lost with it: that says that it was too long and nothing about congestion, and the
//! window is not reduced. Lost together with others it says nothing about the path MTU.

use core::ops::Range;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    /// It arrived.
    Delivered,
    /// It was lost, and nothing else was.
    Refused,
    /// More was lost.
    Unclear,
}

/// The probe of one flight.
#[derive(Debug, Default)]
pub(crate) struct PathProbe {
    range: Option<Range<u64>>,
    probed: Option<Probed>,
}

impl PathProbe {
    /// `range` left as a probe.
    pub(crate) fn on_sent(&mut self, range: Range<u64>) {
        self.range = Some(range);
    }

    /// What is in flight as a probe.
    pub(crate) fn range(&self) -> Option<&Range<u64>> {
        self.range.as_ref()
    }

    /// SND.UNA moved, and nothing of the probe was sent again.
    pub(crate) fn on_acknowledged(&mut self, snd_una: u64) {
        if self
            .range
            .as_ref()
            .is_some_and(|probe| probe.end <= snd_una)
        {
            self.end(Probed::Delivered);
        }
    }

    /// It was lost alone, or a router refused it.
    pub(crate) fn on_refused(&mut self) {
        self.end(Probed::Refused);
    }

    /// Something else is lost.
    pub(crate) fn on_loss(&mut self) {
        if self.range.is_some() {
            self.end(Probed::Unclear);
        }
    }

    /// What became of it; asked once.
    pub(crate) fn take_probed(&mut self) -> Option<Probed> {
        self.probed.take()
    }

    fn end(&mut self, probed: Probed) {
        self.range = None;
        self.probed = Some(probed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_arrives_as_a_whole() {
        let mut probe = PathProbe::default();
        probe.on_sent(1000..2500);
        probe.on_acknowledged(2499);
        assert_eq!(probe.take_probed(), None);
        probe.on_acknowledged(2500);
        assert_eq!(probe.take_probed(), Some(Probed::Delivered));
        assert_eq!((probe.take_probed(), probe.range()), (None, None));
    }

    #[test]
    fn what_is_lost_without_a_probe_in_flight_says_nothing() {
        let mut probe = PathProbe::default();
        probe.on_loss();
        assert_eq!(probe.take_probed(), None);
        probe.on_sent(0..1500);
        probe.on_loss();
        assert_eq!(probe.take_probed(), Some(Probed::Unclear));
    }
}
