//! Loss recovery of one connection, which costs an idle one next to nothing.
//!
//! All there is to know about what is in flight lives in an [`Outstanding`], taken from the pool of the worker with
//! the first segment and given back with the last acknowledgement; in between only what was learnt about the path
//! stays. Each method says what holds when nothing is in flight and leaves the rest to [`Outstanding`].

use core::ops::Range;
use core::time::Duration;

use crate::clock::Instant;
use crate::congestion::Controller;
use crate::flight_pool::FlightPool;
use crate::outstanding::{Learnt, Outstanding};
use crate::path_probe::Probed;
use crate::rack::Path;
use crate::skip::Skip;
use crate::verdict::{AckSeen, Delivered, Judged, Verdict};

mod rest;

pub(crate) use rest::RestingLoss;

/// Loss recovery of one connection.
#[derive(Debug)]
pub(crate) struct Loss {
    sack: bool,
    learnt: Learnt,
    outstanding: Option<Box<Outstanding>>,
}

impl Loss {
    pub(crate) fn new(sack: bool) -> Self {
        Loss {
            sack,
            learnt: Learnt::default(),
            outstanding: None,
        }
    }

    /// New data up to `end` left.
    pub(crate) fn on_sent(
        &mut self,
        end: u64,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        self.hold(pool).on_sent(end, now, grain, pool);
    }

    fn hold(&mut self, pool: &mut FlightPool) -> &mut Outstanding {
        let (sack, learnt) = (self.sack, &self.learnt);
        self.outstanding
            .get_or_insert_with(|| pool.outstanding.hold(Outstanding::new(sack, learnt)))
    }

    /// `range` left again.
    pub(crate) fn on_sent_again(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.on_sent_again(range, now, grain, pool);
        }
    }

    /// The test for optimistic acknowledgements, while something is in flight.
    pub(crate) fn skip(&self) -> Option<&Skip> {
        self.outstanding
            .as_ref()
            .map(|outstanding| &outstanding.skip)
    }

    pub(crate) fn skip_mut(&mut self) -> Option<&mut Skip> {
        self.outstanding
            .as_mut()
            .map(|outstanding| &mut outstanding.skip)
    }

    /// See [`Outstanding::withhold`].
    pub(crate) fn withhold(&mut self, range: Range<u64>, pool: &mut FlightPool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.withhold(range, pool);
        }
    }

    /// See [`Outstanding::on_shown`].
    pub(crate) fn on_shown(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.on_shown(range, now, grain, pool);
        }
    }

    /// See [`Outstanding::give_up_skip`].
    pub(crate) fn give_up_skip(&mut self, pool: &mut FlightPool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.give_up_skip(pool);
        }
    }

    /// See [`Outstanding::may_run`].
    pub(crate) fn may_run(&self) -> bool {
        self.is(Outstanding::may_run)
    }

    /// Whether nothing is known to be wrong with what is in flight.
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.is(Outstanding::is_undisturbed)
    }

    /// See [`Outstanding::is_steady`].
    pub(crate) fn is_steady(&self) -> bool {
        self.is(Outstanding::is_steady)
    }

    /// A window probe was taken back: SND.NXT is `snd_nxt` again.
    pub(crate) fn take_back(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.take_back(snd_nxt, pool);
        }
    }

    /// See [`Outstanding::deliver`].
    pub(crate) fn deliver(
        &mut self,
        ack: &AckSeen,
        blocks: impl Iterator<Item = Range<u64>>,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Delivered {
        if self.learnt.probe.is_pending() {
            self.hold(pool);
        }
        match &mut self.outstanding {
            Some(outstanding) => outstanding.deliver(ack, blocks, path, pool),
            None => {
                // What was taken back may be acknowledged all the same.
                self.learnt.snd_una = self.learnt.snd_una.max(ack.snd_una);
                Delivered::NOTHING
            }
        }
    }

    /// See [`Outstanding::judge`].
    pub(crate) fn judge(
        &mut self,
        ack: &AckSeen,
        delivered: &Delivered,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Judged {
        match &mut self.outstanding {
            Some(outstanding) => outstanding.judge(ack, delivered, path, pool),
            None => Judged::quiet(Verdict::Grow),
        }
    }

    /// The reordering timer fired.
    pub(crate) fn on_reorder_timer(&mut self, snd_nxt: u64, path: &Path) -> Judged {
        match &mut self.outstanding {
            Some(outstanding) => outstanding.on_reorder_timer(snd_nxt, path),
            None => Judged::quiet(Verdict::Grow),
        }
    }

    /// Before a reduction that could be taken back.
    pub(crate) fn remember(&mut self, controller: &Controller) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.remember(controller);
        }
    }

    /// See [`Outstanding::begin_recovery`].
    pub(crate) fn begin_recovery(
        &mut self,
        cwnd: u32,
        ssthresh: u32,
        delivered: Option<&Delivered>,
        smss: u32,
    ) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.begin_recovery(cwnd, ssthresh, delivered, smss);
        }
    }

    /// What may leave after an acknowledgement that delivered `bytes`; the end of its processing.
    pub(crate) fn regulate(&mut self, bytes: u64, safe: bool, smss: u32, cwnd: u32) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.regulate(bytes, safe, smss, cwnd);
        }
    }

    /// The state of congestion control to return to.
    pub(crate) fn take_undo(&mut self) -> Option<Controller> {
        self.outstanding.as_mut()?.take_undo()
    }

    /// The window to send by, where `cwnd` is that of congestion control. `paced`: segments leave one by one anyway.
    pub(crate) fn window(&self, cwnd: u32, paced: bool) -> u64 {
        let outstanding = self.outstanding.as_ref();
        outstanding.map_or(u64::from(cwnd), |outstanding| {
            outstanding.window(cwnd, paced)
        })
    }

    /// See [`Outstanding::on_timeout`].
    pub(crate) fn on_timeout(&mut self, path: &Path, snd_nxt: u64, pool: &mut FlightPool) -> bool {
        match &mut self.outstanding {
            Some(outstanding) => outstanding.on_timeout(path, snd_nxt, pool),
            None => true,
        }
    }

    /// The range to send again next, and whether it was sent again before.
    pub(crate) fn next_retransmission(&mut self) -> Option<(Range<u64>, bool)> {
        self.outstanding.as_mut()?.next_retransmission()
    }

    /// Whether something is lost and was not sent again.
    pub(crate) fn has_lost(&self) -> bool {
        self.is(Outstanding::has_lost)
    }

    /// Whether the path was ever seen to reorder.
    pub(crate) fn has_seen_reordering(&self) -> bool {
        let outstanding = self.outstanding.as_deref();
        let learnt = outstanding.map_or(self.learnt, Outstanding::learnt);
        learnt.tolerance.has_seen_reordering()
    }

    /// Whether nothing may leave until F-RTO has its answer.
    pub(crate) fn awaits_verdict(&self) -> bool {
        self.is(Outstanding::awaits_verdict)
    }

    /// No new data can leave. True if something is lost that had waited for new data to leave first.
    pub(crate) fn on_nothing_new(&mut self) -> bool {
        let outstanding = self.outstanding.as_mut();
        outstanding.is_some_and(|outstanding| outstanding.on_nothing_new())
    }

    /// Whether the next retransmission ignores the congestion window.
    pub(crate) fn goes_at_once(&self) -> bool {
        self.is(Outstanding::goes_at_once)
    }

    /// Whether the current recovery began with a time-out.
    pub(crate) fn is_timeout(&self) -> bool {
        self.is(Outstanding::is_timeout)
    }

    /// See [`Outstanding::recut_all`].
    pub(crate) fn recut_all(&mut self, snd_nxt: u64, window: u64, pool: &mut FlightPool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.recut_all(snd_nxt, window, pool);
        }
    }

    /// See [`Outstanding::refuse_path_probe`].
    pub(crate) fn refuse_path_probe(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.refuse_path_probe(snd_nxt, pool);
        }
    }

    /// `range` left as a probe of the path MTU.
    pub(crate) fn on_path_probe_sent(&mut self, range: Range<u64>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.path_probe.on_sent(range);
        }
    }

    /// The path probe in flight.
    pub(crate) fn path_probe(&self) -> Option<&Range<u64>> {
        self.outstanding.as_ref()?.path_probe.range()
    }

    /// What became of the path probe; asked once.
    pub(crate) fn take_probed(&mut self) -> Option<Probed> {
        self.outstanding.as_mut()?.path_probe.take_probed()
    }

    /// Whether a loss now would be that of a path probe: see [`Outstanding::may_probe_path`].
    pub(crate) fn may_probe_path(&self) -> bool {
        match &self.outstanding {
            Some(outstanding) => outstanding.may_probe_path(),
            None => self.sack,
        }
    }

    /// Whether what is lost was too big for the path.
    pub(crate) fn is_recut(&self) -> bool {
        self.is(Outstanding::is_recut)
    }

    /// Whether silence is to be probed.
    pub(crate) fn may_probe(&self) -> bool {
        self.is(Outstanding::may_probe)
    }

    /// Whether the peer may hold back its acknowledgement of what is in flight.
    pub(crate) fn may_be_delayed(&self, smss: u32) -> bool {
        self.is(|outstanding| outstanding.may_be_delayed(smss))
    }

    /// The probe timer fired.
    pub(crate) fn want_probe(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.probe.want();
        }
    }

    /// Whether a probe is to be sent now; asked once.
    pub(crate) fn take_wanted_probe(&mut self) -> bool {
        let outstanding = self.outstanding.as_mut();
        outstanding.is_some_and(|outstanding| outstanding.probe.take_wanted())
    }

    pub(crate) fn on_probe_sent(&mut self, snd_nxt: u64, is_retransmission: bool) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.on_probe_sent(snd_nxt, is_retransmission);
        }
    }

    /// A round trip was measured.
    pub(crate) fn on_rtt_sample(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.probe.on_rtt_sample();
        }
    }

    /// The range that a probe without new data sends again.
    pub(crate) fn tail(&self, smss: u32) -> Option<Range<u64>> {
        self.outstanding.as_ref()?.tail(smss)
    }

    /// Bytes believed to be in the network (RFC 6675 section 4).
    #[inline]
    pub(crate) fn pipe(&self, smss: u32) -> u64 {
        let outstanding = self.outstanding.as_ref();
        outstanding.map_or(0, |outstanding| outstanding.pipe(smss))
    }

    /// Whether the record is that of a sender between these two offsets: for debug builds.
    pub(crate) fn is_about(&self, snd_una: u64, snd_nxt: u64) -> bool {
        match &self.outstanding {
            Some(outstanding) => outstanding.is_about(snd_una, snd_nxt),
            None => snd_una == snd_nxt && self.learnt.snd_una == snd_una,
        }
    }

    /// The connection is over: memory goes back.
    pub(crate) fn release(&mut self, pool: &mut FlightPool) {
        if let Some(mut outstanding) = self.outstanding.take() {
            outstanding.release(pool);
            self.learnt = outstanding.learnt();
            pool.outstanding.give_back(outstanding);
        }
    }

    /// Gives the memory back if nothing is in flight. To be called when nothing more can leave, not as soon as
    /// everything is acknowledged: a flow whose acknowledgements come in clumps is not idle between two of them.
    pub(crate) fn clear(&mut self, pool: &mut FlightPool) {
        if self.is(Outstanding::is_over) {
            self.release(pool);
        }
    }

    fn is(&self, ask: impl FnOnce(&Outstanding) -> bool) -> bool {
        self.outstanding.as_deref().is_some_and(ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack_run::Acks;
    use crate::congestion::Algorithm;

    const PATH: Path = Path {
        now: Instant::from_nanos(50_000_000),
        srtt: Some(Duration::from_millis(40)),
        min_rtt: Some(Duration::from_millis(40)),
        smss: 1000,
    };

    fn acknowledge(loss: &mut Loss, snd_una: u64, snd_nxt: u64, pool: &mut FlightPool) {
        let ack = AckSeen {
            snd_una,
            snd_nxt,
            acked: 1000,
            duplicate: false,
            dsack: None,
            echoed_ms: None,
            is_newer: false,
            acks: Acks::ONE,
        };
        let delivered = loss.deliver(&ack, core::iter::empty(), &PATH, pool);
        let _ = loss.judge(&ack, &delivered, &PATH, pool);
        loss.regulate(delivered.bytes, true, 1000, 10_000);
        loss.clear(pool);
    }

    #[test]
    fn an_idle_connection_holds_nothing_and_the_next_flight_goes_on_where_it_was() {
        let mut pool = FlightPool::new(1);
        let mut loss = Loss::new(true);
        for end in [1000, 2000, 3000] {
            loss.on_sent(end, Instant::ZERO, Duration::ZERO, &mut pool);
            assert!(loss.outstanding.is_some());
            assert!(loss.is_about(end - 1000, end));
            acknowledge(&mut loss, end, end, &mut pool);
            assert!(loss.outstanding.is_none());
            assert!(loss.is_about(end, end));
        }
        assert_eq!((loss.pipe(1000), loss.window(7000, false)), (0, 7000));
    }

    #[test]
    fn a_probe_that_is_not_accounted_for_is_remembered() {
        // RFC 8985 section 7.4.2: only what comes after the tail tells.
        let mut pool = FlightPool::new(1);
        let mut loss = Loss::new(true);
        loss.on_sent(1000, Instant::ZERO, Duration::ZERO, &mut pool);
        loss.on_sent_again(&(0..1000), Instant::ZERO, Duration::ZERO, &mut pool);
        loss.on_probe_sent(1000, true);
        acknowledge(&mut loss, 1000, 1000, &mut pool);
        assert!(loss.outstanding.is_none() && loss.learnt.probe.is_pending());
        let mut loss = loss.rest(1000).expect("nothing is in flight").wake(1000);
        assert!(loss.learnt.probe.is_pending());
        loss.on_sent(2000, Instant::ZERO, Duration::ZERO, &mut pool);
        acknowledge(&mut loss, 2000, 2000, &mut pool);
        assert!(loss.outstanding.is_none() && !loss.learnt.probe.is_pending());
    }

    #[test]
    fn the_end_of_a_connection_gives_everything_back() {
        let mut pool = FlightPool::new(1);
        let mut loss = Loss::new(true);
        loss.on_sent(5000, Instant::ZERO, Duration::ZERO, &mut pool);
        assert!(loss.on_timeout(&PATH, 5000, &mut pool));
        loss.remember(&Controller::new(Algorithm::Cubic, 1000));
        loss.release(&mut pool);
        assert!(loss.outstanding.is_none());
        assert_eq!(loss.pipe(1000), 0);
        assert_eq!(loss.next_retransmission(), None);
    }
}
