//! A passive handshake as a value: what the peer's SYN offered, what our SYN-ACK answers, and what a connection
//! is made of once the final ACK has come.
//!
//! It exists three times: as an entry of the SYN table, as a SYN cookie on the wire, and for a moment on the way
//! into a connection slot. Nothing here keeps state or time.

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::accecn::Reporter;
use crate::clock::Instant;
use crate::config::{MSS_FLOOR, StackConfig};
use crate::connection::{WINDOW_SCALE_MAX, headers_len, interface_mss, window_scale_for};
use crate::ecn_terms::EcnTerms;
use crate::flow_table::FlowKey;
use crate::isn;
use crate::receive::Receiver;
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::timestamps::TimestampState;

/// MSS to assume when a SYN names none (RFC 9293 section 3.7.1, MUST-15).
const DEFAULT_MSS_V4: u16 = 536;
const DEFAULT_MSS_V6: u16 = 1220;

/// Bytes that the timestamps option takes from every segment, padding included (RFC 7323 appendix A).
pub(crate) const TIMESTAMPS_LEN: u32 = 12;

/// What a SYN offers, as far as the connection will depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The MSS option, or the default of the address family.
    pub mss: u16,
    /// Shift of the peer's windows, at most 14; `None` if it does not scale.
    pub window_scale: Option<u8>,
    pub sack: bool,
    /// What we take of the offer of ECN.
    pub ecn: EcnTerms,
    /// TS.Recent, if the peer sends timestamps.
    pub timestamp: Option<u32>,
}

impl Offer {
    /// A SYN without options.
    pub(crate) fn none(key: &FlowKey) -> Self {
        Offer {
            mss: if key.local().is_ipv4() {
                DEFAULT_MSS_V4
            } else {
                DEFAULT_MSS_V6
            },
            window_scale: None,
            sack: false,
            ecn: EcnTerms::None,
            timestamp: None,
        }
    }

    pub(crate) fn of_syn(segment: &Segment<'_>, config: &StackConfig) -> Self {
        let header = segment.header;
        let options = &header.options;
        let none = Offer::none(&segment.key);
        let accept = config.accepts_ecn(segment.key.local_port());
        Offer {
            mss: options.mss.filter(|mss| *mss > 0).unwrap_or(none.mss),
            window_scale: options
                .window_scale
                .map(|shift| shift.min(WINDOW_SCALE_MAX)),
            sack: options.sack_permitted,
            ecn: EcnTerms::of_syn(header.flags, segment.ecn, accept),
            timestamp: options.timestamps.map(|timestamps| timestamps.value),
        }
    }

    /// Shift of our windows: offered only to a peer that offered one (RFC 7323 section 2.2).
    fn our_scale(&self, config: &StackConfig) -> Option<u8> {
        self.window_scale
            .map(|_| window_scale_for(config.receive_max(), config.receive_buffer))
    }

    /// Timestamps of the connection, TS.Recent as of `now`.
    fn timestamps(
        &self,
        key: &FlowKey,
        config: &StackConfig,
        now: Instant,
    ) -> Option<TimestampState> {
        self.timestamp.map(|recent| {
            let offset = isn::timestamp_offset(key, &config.secret);
            TimestampState::new(offset, recent, now)
        })
    }
}

/// What a connection is made with: our side and the offer of the peer, brought together.
#[derive(Debug)]
pub(crate) struct Terms {
    pub our_mss: u16,
    /// SMSS (RFC 5681), less the options that every segment carries.
    pub smss: u32,
    /// Bytes of the IP packet that a full segment makes.
    pub path_mtu: u16,
    /// The scale of our windows, if the peer takes scaled ones.
    pub offered_scale: Option<u8>,
    pub peer_scale: u8,
    pub timestamps: Option<TimestampState>,
    pub sack: bool,
    pub ecn: EcnTerms,
}

impl Terms {
    pub(crate) fn new(key: &FlowKey, offer: &Offer, config: &StackConfig, now: Instant) -> Self {
        let our_mss = interface_mss(config.mtu, key);
        let mss = offer.mss.clamp(MSS_FLOOR, our_mss);
        let timestamps = offer.timestamps(key, config, now);
        Terms {
            our_mss,
            smss: u32::from(mss) - timestamps.map_or(0, |_| TIMESTAMPS_LEN),
            path_mtu: mss + headers_len(key),
            offered_scale: offer.our_scale(config),
            peer_scale: offer.window_scale.unwrap_or(0),
            timestamps,
            sack: offer.sack,
            ecn: offer.ecn,
        }
    }

    /// The receive side with which the connection begins.
    pub(crate) fn receiver(&self, irs: SeqNumber, config: &StackConfig) -> Receiver {
        let scale = self.offered_scale.unwrap_or(0);
        Receiver::new(irs, config.receive_buffer, scale, self.our_mss)
    }
}

/// How the SYN-ACK travelled: what the final ACK says about the path depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SynAck {
    /// Sent once, at this time: the final ACK measures a round trip.
    Once(Instant),
    /// Sent several times, `repeats` of them by the timer: only an echoed timestamp tells which one arrived (Karn).
    Several { repeats: u8 },
    /// A cookie: when it was sent is not known to the millisecond.
    Cookie,
}

/// A handshake whose SYN came and whose final ACK is awaited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub key: FlowKey,
    pub irs: SeqNumber,
    pub iss: SeqNumber,
    pub offer: Offer,
    pub syn_ack: SynAck,
}

impl Handshake {
    /// The receive side with which the connection will begin: also the judge of what is acceptable before.
    pub(crate) fn receiver(&self, config: &StackConfig) -> Receiver {
        Receiver::new(
            self.irs,
            config.receive_buffer,
            self.offer.our_scale(config).unwrap_or(0),
            interface_mss(config.mtu, &self.key),
        )
    }

    /// Timestamps of the connection, TS.Recent as of `now`.
    pub(crate) fn timestamps(&self, config: &StackConfig, now: Instant) -> Option<TimestampState> {
        self.offer.timestamps(&self.key, config, now)
    }

    /// The SYN-ACK (RFC 9293 section 3.10.7.2). Options other than the MSS answer those of the SYN.
    pub(crate) fn syn_ack(&self, config: &StackConfig, now: Instant) -> TcpHeader {
        let (repeats, is_first) = match self.syn_ack {
            SynAck::Once(_) | SynAck::Cookie => (0, true),
            SynAck::Several { repeats } => (repeats, false),
        };
        let flags = TcpFlags::SYN
            .union(TcpFlags::ACK)
            .union(self.offer.ecn.syn_ack_flags(repeats));
        let window = syn_window(config);
        let mut header = self.header(self.iss, flags, window, config, now);
        header.options.mss = Some(interface_mss(config.mtu, &self.key));
        header.options.window_scale = self.offer.our_scale(config);
        header.options.sack_permitted = self.offer.sack;
        if is_first && self.offer.ecn.is_accurate() {
            // Repeats go without, in case it is what does not pass (RFC 9768 section 3.2.3.2.2).
            header.options.accecn = Some(Reporter::of_syn_ack());
        }
        header
    }

    /// `<SEQ=SND.NXT><ACK=RCV.NXT>` with these flags: a challenge ACK or a RST.
    pub(crate) fn bare(&self, flags: TcpFlags, config: &StackConfig, now: Instant) -> TcpHeader {
        let counts = self.offer.ecn.is_accurate() && !flags.contains(TcpFlags::RST);
        let flags = if counts {
            flags.with_ace(Reporter::new().ace())
        } else {
            flags
        };
        // No more than the SYN-ACK did: with that the connection begins, and what lies beyond it would not be taken
        // (RFC 7323 section 2.2; RFC 9293 section 3.8.6).
        let window = syn_window(config) >> self.offer.our_scale(config).unwrap_or(0);
        self.header(self.iss.add(1), flags, window, config, now)
    }

    fn header(
        &self,
        seq: SeqNumber,
        flags: TcpFlags,
        window: u16,
        config: &StackConfig,
        now: Instant,
    ) -> TcpHeader {
        TcpHeader {
            src_port: self.key.local_port(),
            dst_port: self.key.remote_port(),
            seq: seq.raw(),
            ack: self.irs.add(1).raw(),
            flags,
            window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self
                    .timestamps(config, now)
                    .map(|timestamps| timestamps.option(now)),
                ..TcpOptions::default()
            },
        }
    }
}

/// Window field of a SYN-ACK, which is never scaled (RFC 7323 section 2.2).
fn syn_window(config: &StackConfig) -> u16 {
    u16::try_from(config.receive_buffer).unwrap_or(u16::MAX)
}
