//! Counters of a stack: plain integers, owned by one thread, read as a snapshot.

use core::time::Duration;

use crate::record::Cause;

macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of [`Self::index`].
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Name for tables and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use counted;

counted! {
    /// Why a well-formed segment had no effect.
    SegmentDrop {
        /// RST for a flow we do not know (RFC 9293 section 3.10.7.1).
        UnknownReset = "unknown_reset",
        /// SYN with FIN or RST, or no flags at all.
        IllegalFlags = "illegal_flags",
        /// No ACK, SYN or RST at a listener.
        ListenNoSyn = "listen_no_syn",
        /// No entry for a handshake that cannot have a cookie.
        HalfOpenFull = "half_open_full",
        /// An address that no peer can have, or our own (RFC 9293 MUST-57 and MUST-63).
        BogusAddress = "bogus_address",
        /// No room for another connection.
        ConnectionsFull = "connections_full",
        /// The stack accepts no new connections while it drains.
        Draining = "draining",
        /// Not acceptable: outside the receive window.
        OutsideWindow = "outside_window",
        /// PAWS: an old timestamp (RFC 7323 section 5.3).
        Paws = "paws",
        /// Timestamps were negotiated and this segment has none (RFC 7323 section 3.2).
        TimestampMissing = "timestamp_missing",
        /// An exact RST: it ended the connection, nothing else of it counts.
        ConnectionReset = "connection_reset",
        /// RST outside the window, or in it but not at RCV.NXT (RFC 5961 section 3.2).
        ResetNotExact = "reset_not_exact",
        /// SYN on a synchronized connection (RFC 5961 section 4.2).
        SynInConnection = "syn_in_connection",
        /// ACK bit missing in a synchronized state.
        NoAck = "no_ack",
        /// Acknowledges data never sent, or too old (RFC 5961 section 5.2).
        AckOutOfRange = "ack_out_of_range",
        /// In SYN-SENT, neither a SYN nor an acceptable RST.
        SynSentStray = "syn_sent_stray",
        /// The final ACK of the handshake does not acknowledge our SYN.
        HandshakeAck = "handshake_ack",
        /// RST against TIME-WAIT (RFC 1337).
        TimeWaitReset = "time_wait_reset",
        /// A duplicate in TIME-WAIT.
        TimeWait = "time_wait",
        /// The out-of-order store of the connection is full.
        OutOfOrderFull = "out_of_order_full",
    }
}

counted! {
    /// What became of an ICMP error that quotes a segment of ours.
    IcmpVerdict {
        /// The quoted sequence number is not in flight: forged, or very late (RFC 5927 section 4.1).
        NotInFlight = "icmp_not_in_flight",
        /// "Packet too big" with a size that our segments do not exceed.
        NotSmaller = "icmp_mtu_not_smaller",
        /// "Packet too big" below 552 bytes (IPv4) or 1,280 (IPv6): no such path is worth believing in.
        TooSmall = "icmp_mtu_too_small",
        /// The path MTU was lowered, and what is in flight leaves again in shorter segments.
        Lowered = "icmp_mtu_lowered",
        /// A probe for a larger path MTU was too big.
        ProbeRefused = "icmp_probe_refused",
        /// Remembered by nobody: soft, or hard about a handshake or connection that an error must not end
        /// (RFC 1122 section 4.2.3.9, RFC 5927 section 5.2).
        Soft = "icmp_soft",
        /// A hard error about our SYN: the active open ends with it.
        Refused = "icmp_refused",
    }
}

/// Totals since the stack was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackCounters {
    /// Segments given to [`crate::Stack::on_segment`], or to [`crate::Stack::end_run`] in runs.
    pub segments_in: u64,
    /// Of those, acknowledgements for which a later one of the same batch stood: [`crate::AckRun`].
    pub acks_merged: u64,
    /// Segments returned by [`crate::Stack::poll_transmit`].
    pub segments_out: u64,
    /// Payload bytes sent for the first time.
    pub bytes_out: u64,
    /// Connections of a peer that reached ESTABLISHED.
    pub accepted: u64,
    /// Connections of ours that reached ESTABLISHED.
    pub connected: u64,
    /// Segments sent again in fast recovery, for the first time.
    pub retransmitted_fast: u64,
    /// Segments sent once more in fast recovery, because the first repetition was lost too: what only RACK finds
    /// without a time-out (RFC 8985).
    pub retransmitted_rack: u64,
    /// Segments sent again as a tail loss probe (RFC 8985 section 7).
    pub retransmitted_tlp: u64,
    /// Segments sent again after a time-out (RFC 6298).
    pub retransmitted_timeout: u64,
    /// Segments sent again because they were too big for the path, in segments that are not.
    pub retransmitted_path_mtu: u64,
    /// SYNs sent again.
    pub retransmitted_syn: u64,
    /// SYN-ACKs sent again.
    pub retransmitted_syn_ack: u64,
    /// Times the retransmission timer fired.
    pub timeouts: u64,
    /// Fast recoveries entered.
    pub fast_recoveries: u64,
    /// Reductions taken back, because what was called lost was late (RFC 3522, 3708, 5682).
    pub spurious_undone: u64,
    /// Tail loss probes sent, with those that carry new data.
    pub tail_probes: u64,
    /// Times the path MTU of a connection was lowered because only its full segments vanished (RFC 8899 section 4.3).
    pub black_holes: u64,
    /// Probes for a larger path MTU sent (RFC 8899 section 5).
    pub path_probes: u64,
    /// Of those, how many arrived.
    pub path_probes_delivered: u64,
    /// Zero-window probes sent.
    pub window_probes: u64,
    /// Keep-alive probes sent.
    pub keep_alive_probes: u64,
    /// Challenge ACKs sent (RFC 5961).
    pub challenge_acks: u64,
    /// Resets sent on connections.
    pub resets_sent: u64,
    /// Resets sent for unknown flows.
    pub refused: u64,
    /// Acceptable resets received.
    pub resets_received: u64,
    /// Connections that use ECN (RFC 3168, RFC 9768).
    pub ecn_negotiated: u64,
    /// Of those, the ones whose marks are counted (RFC 9768).
    pub accecn_negotiated: u64,
    /// Packets received with CE: data, and with AccECN any.
    pub ecn_marks_received: u64,
    /// Packets of ours that AccECN peers report as marked.
    pub ecn_marks_reported: u64,
    /// Times the window was reduced for marks.
    pub ecn_reductions: u64,
    /// Connections that gave ECN up because their first marked flight vanished, or their SYN was refused.
    pub ecn_fallbacks: u64,
    /// Connections that send no ECN-capable packets because the path changes what says so (RFC 9768).
    pub ecn_mangled: u64,
    /// SYNs answered by a cookie.
    pub syn_cookies_sent: u64,
    /// Connections that began with the answer to a cookie; [`Self::accepted`] counts them too.
    pub syn_cookies_accepted: u64,
    /// ACKs for no flow while a cookie of this stack was good, and no answer to one.
    pub syn_cookies_failed: u64,
    /// Handshakes given up after all their SYN-ACKs.
    pub half_open_timed_out: u64,
    /// Handshakes given up earlier, because the SYN table was under pressure.
    pub half_open_evicted: u64,
    /// ICMP errors about flows of this stack, by [`IcmpVerdict::index`].
    pub icmp: [u64; IcmpVerdict::ALL.len()],
    /// Connections reset because data stayed unacknowledged for the user timeout.
    pub user_timeouts: u64,
    /// Connections reset because of data that nobody reads any more.
    pub data_not_read: u64,
    /// Segments held back as a test for optimistic acknowledgements.
    pub withheld: u64,
    /// Connections reset because the peer acknowledged what had not left.
    pub optimistic_acks: u64,
    /// Units of 65.5 us in which connections had something to send that the lane did not take yet.
    pub sending_ticks: u64,
    /// Units of 65.5 us in which they paused, by [`Cause::index`].
    pub paused_ticks: [u64; Cause::ALL.len()],
    /// Pauses begun, by [`Cause::index`].
    pub pauses: [u64; Cause::ALL.len()],
    /// Segments without effect, by [`SegmentDrop::index`].
    pub dropped: [u64; SegmentDrop::ALL.len()],
}

impl StackCounters {
    pub(crate) fn drop(&mut self, reason: SegmentDrop) {
        self.dropped[reason.index()] += 1;
    }

    /// Times in milliseconds.
    fn pause_rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        const NAMES: [(&str, &str); Cause::ALL.len()] = [
            ("paused_receive_window_ms", "pauses_receive_window"),
            ("paused_congestion_window_ms", "pauses_congestion_window"),
            ("paused_pacing_ms", "pauses_pacing"),
            ("paused_application_ms", "pauses_application"),
            ("paused_disk_ms", "pauses_disk"),
            ("paused_memory_ms", "pauses_memory"),
        ];
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let pauses = Cause::ALL
            .iter()
            .zip(NAMES)
            .flat_map(move |(cause, (time, count))| {
                let begun = self.pauses[cause.index()];
                [(time, millis(self.paused(*cause))), (count, begun)]
            });
        [("sending_ms", millis(self.sending()))]
            .into_iter()
            .chain(pauses)
    }

    /// Name and value of every counter, for tables.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        [
            ("segments_in", self.segments_in),
            ("acks_merged", self.acks_merged),
            ("segments_out", self.segments_out),
            ("bytes_out", self.bytes_out),
            ("accepted", self.accepted),
            ("connected", self.connected),
            ("retransmitted_fast", self.retransmitted_fast),
            ("retransmitted_rack", self.retransmitted_rack),
            ("retransmitted_tlp", self.retransmitted_tlp),
            ("retransmitted_timeout", self.retransmitted_timeout),
            ("retransmitted_path_mtu", self.retransmitted_path_mtu),
            ("retransmitted_syn", self.retransmitted_syn),
            ("retransmitted_syn_ack", self.retransmitted_syn_ack),
            ("timeouts", self.timeouts),
            ("fast_recoveries", self.fast_recoveries),
            ("spurious_undone", self.spurious_undone),
            ("tail_probes", self.tail_probes),
            ("black_holes", self.black_holes),
            ("path_probes", self.path_probes),
            ("path_probes_delivered", self.path_probes_delivered),
            ("window_probes", self.window_probes),
            ("keep_alive_probes", self.keep_alive_probes),
            ("challenge_acks", self.challenge_acks),
            ("resets_sent", self.resets_sent),
            ("refused", self.refused),
            ("resets_received", self.resets_received),
            ("ecn_negotiated", self.ecn_negotiated),
            ("accecn_negotiated", self.accecn_negotiated),
            ("ecn_marks_received", self.ecn_marks_received),
            ("ecn_marks_reported", self.ecn_marks_reported),
            ("ecn_reductions", self.ecn_reductions),
            ("ecn_fallbacks", self.ecn_fallbacks),
            ("ecn_mangled", self.ecn_mangled),
            ("syn_cookies_sent", self.syn_cookies_sent),
            ("syn_cookies_accepted", self.syn_cookies_accepted),
            ("syn_cookies_failed", self.syn_cookies_failed),
            ("half_open_timed_out", self.half_open_timed_out),
            ("half_open_evicted", self.half_open_evicted),
            ("user_timeouts", self.user_timeouts),
            ("data_not_read", self.data_not_read),
            ("withheld", self.withheld),
            ("optimistic_acks", self.optimistic_acks),
        ]
        .into_iter()
        .chain(self.pause_rows())
        .chain(
            IcmpVerdict::ALL
                .iter()
                .map(|verdict| (verdict.name(), self.icmp[verdict.index()])),
        )
        .chain(
            SegmentDrop::ALL
                .iter()
                .map(|reason| (reason.name(), self.dropped[reason.index()])),
        )
    }
}
