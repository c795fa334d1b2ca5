//! Proportional rate reduction: how much may leave in a fast recovery (RFC 9937).
//!
//! Congestion control has set ssthresh; PRR takes the flight there. While more than ssthresh is in flight, the
//! peer's deliveries are answered in the proportion of ssthresh to the flight at the begin of the recovery, so
//! that the window shrinks evenly over a round trip instead of falling silent for half of one. Below ssthresh, as
//! after a burst of losses, as much leaves as was delivered (packet conservation), and one segment more per
//! acknowledgement that shows progress and no further loss (slow start). All counts are bytes.

/// State of one recovery (RFC 9937 section 5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prr {
    ssthresh: u32,
    /// RecoverFS: what the recovery can deliver.
    recover_fs: u64,
    delivered: u64,
    out: u64,
    cwnd: u64,
}

/// One acknowledgement in recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrrAck {
    /// DeliveredData: newly acknowledged and newly SACKed bytes.
    pub delivered: u64,
    /// Bytes in flight after it, by the pipe of RFC 6675.
    pub in_flight: u64,
    /// safeACK: SND.UNA advanced and nothing more was found lost.
    pub safe: bool,
    pub smss: u32,
}

impl Prr {
    /// A recovery begins with `recover_fs` bytes that are neither acknowledged nor SACKed before the
    /// acknowledgement that proved the loss. `credit`: what limited transmit (RFC 3042) would have let out for the
    /// deliveries before it, and did not because they came in one batch.
    pub(crate) fn new(ssthresh: u32, recover_fs: u64, credit: u64) -> Self {
        Prr {
            ssthresh,
            recover_fs: recover_fs.max(1),
            delivered: credit,
            out: 0,
            cwnd: 0,
        }
    }

    pub(crate) fn on_ack(&mut self, ack: PrrAck) {
        let (ssthresh, smss) = (u64::from(self.ssthresh), u64::from(ack.smss));
        if ack.delivered == 0 && self.out > 0 {
            // It says nothing about what left the network: the window is what it was.
            return;
        }
        self.delivered += ack.delivered;
        let mut allowed = if ack.in_flight > ssthresh {
            let share = u128::from(self.delivered) * u128::from(ssthresh);
            let share = share.div_ceil(u128::from(self.recover_fs));
            u64::try_from(share)
                .unwrap_or(u64::MAX)
                .saturating_sub(self.out)
        } else {
            let conserving = self.delivered.saturating_sub(self.out).max(ack.delivered);
            let bounded = conserving + if ack.safe { smss } else { 0 };
            bounded.min(ssthresh - ack.in_flight)
        };
        if self.out == 0 {
            // The fast retransmit goes out at once.
            allowed = allowed.max(smss);
        }
        self.cwnd = ack.in_flight + allowed;
    }

    /// `len` bytes left, new or again.
    pub(crate) fn on_sent(&mut self, len: u64) {
        self.out += len;
    }

    /// The window to send by instead of that of congestion control.
    pub(crate) fn cwnd(&self) -> u64 {
        self.cwnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u32 = 1000;

    fn ack(delivered: u64, in_flight: u64, safe: bool) -> PrrAck {
        PrrAck {
            delivered,
            in_flight,
            safe,
            smss: SMSS,
        }
    }

    /// Acknowledges `count` segments one by one and sends what PRR allows; returns what was sent and is then
    /// in flight.
    fn recover(prr: &mut Prr, mut in_flight: u64, count: u64) -> (Vec<u64>, u64) {
        let mut sent = Vec::new();
        for _ in 0..count {
            in_flight -= 1000;
            prr.on_ack(ack(1000, in_flight, false));
            let segments = prr.cwnd().saturating_sub(in_flight) / 1000;
            prr.on_sent(segments * 1000);
            in_flight += segments * 1000;
            sent.push(segments);
        }
        (sent, in_flight)
    }

    #[test]
    fn the_flight_shrinks_evenly_to_ssthresh_over_a_round_trip() {
        // RFC 9937 section 6.2: proportional part. 100 segments in flight, one of them lost, ssthresh 70.
        let mut prr = Prr::new(70_000, 100_000, 0);
        let (sent, in_flight) = recover(&mut prr, 99_000, 99);
        assert_eq!(in_flight, 70_000);
        assert!(sent.windows(3).all(|three| three.iter().sum::<u64>() >= 1));
        assert!(sent.iter().all(|segments| *segments <= 1));
    }

    #[test]
    fn below_ssthresh_packets_are_conserved() {
        // RFC 9937: PRR-CRB, when the losses took more than the reduction would.
        let mut prr = Prr::new(70_000, 100_000, 0);
        let (sent, in_flight) = recover(&mut prr, 40_000, 30);
        assert_eq!(in_flight, 40_000);
        assert!(sent.iter().all(|segments| *segments == 1));
    }

    #[test]
    fn progress_without_further_loss_adds_a_segment_up_to_ssthresh() {
        // RFC 9937: PRR-SSRB.
        let mut prr = Prr::new(10_000, 20_000, 0);
        prr.on_sent(1000);
        prr.on_ack(ack(1000, 5000, true));
        assert_eq!(prr.cwnd(), 7000);
        prr.on_sent(2000);
        prr.on_ack(ack(3000, 9500, true));
        assert_eq!(prr.cwnd(), 10_000);
    }

    #[test]
    fn the_first_retransmission_always_leaves() {
        let mut prr = Prr::new(2000, 100_000, 0);
        prr.on_ack(ack(1000, 99_000, false));
        assert_eq!(prr.cwnd(), 100_000);
    }

    #[test]
    fn deliveries_that_came_in_one_batch_are_answered_as_if_they_had_not() {
        // RFC 3042: two new segments beside the fast retransmit.
        let mut prr = Prr::new(5000, 10_000, 2000);
        prr.on_ack(ack(1000, 1000, false));
        assert_eq!(prr.cwnd(), 4000);
    }

    #[test]
    fn an_acknowledgement_that_delivers_nothing_changes_nothing() {
        let mut prr = Prr::new(70_000, 100_000, 0);
        let _ = recover(&mut prr, 99_000, 10);
        let before = prr.cwnd();
        prr.on_ack(ack(0, 50_000, false));
        assert_eq!(prr.cwnd(), before);
    }
}
