//! Segments at the border of the stack: what comes in, what is said about it, what goes out.

use core::ops::Range;
use core::time::Duration;

use sluice_wire::{Ecn, TcpHeader};

use crate::events::ConnId;
use crate::flow_table::FlowKey;
use crate::receive::NewBytes;
use crate::stats::SegmentDrop;

/// A segment that arrived: checked by `sluice-wire`, its payload left with the driver.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Addresses and ports, seen from us.
    pub key: FlowKey,
    /// Header and options.
    pub header: &'a TcpHeader,
    /// Payload bytes.
    pub payload_len: u32,
    /// ECN codepoint of the IP header it came in.
    pub ecn: Ecn,
}

impl Segment<'_> {
    /// SEG.LEN: payload plus one each for SYN and FIN (RFC 9293 section 3.4).
    #[must_use]
    pub fn sequence_len(&self) -> u32 {
        use sluice_wire::TcpFlags;
        self.payload_len
            + u32::from(self.header.flags.contains(TcpFlags::SYN))
            + u32::from(self.header.flags.contains(TcpFlags::FIN))
    }
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It belongs to this connection and was processed.
    Accepted,
    /// It belongs to nothing here. With several workers it may be another's: pass it on, and let the last
    /// one answer with [`crate::Stack::refuse`].
    Unknown,
    /// Refused without an answer of its own.
    Dropped(SegmentDrop),
}

/// What the stack says about one segment.
#[derive(Debug)]
#[must_use]
pub struct Receipt {
    /// The connection it belongs to, if any. A SYN belongs to a handshake, whose id ends with the final ACK.
    pub conn: Option<ConnId>,
    /// What became of it.
    pub disposition: Disposition,
    /// Stream ranges of its payload that are new, in order; the driver keeps exactly these bytes.
    pub pieces: NewBytes,
    /// Stream offset of the first payload byte. Meaningful only with non-empty `pieces`.
    pub payload_start: i64,
    /// Whether the segment was valid and in the window: only then may the link address of the peer follow it.
    pub trusted: bool,
    /// Round-trip time measured by this segment.
    pub rtt: Option<Duration>,
    /// An answer from TIME-WAIT, from a handshake, a SYN cookie, or the RST of an open that is not complete: to go back
    /// the way the segment came.
    pub reply: Option<TcpHeader>,
}

impl Receipt {
    pub(crate) fn dropped(reason: SegmentDrop) -> Self {
        Receipt {
            conn: None,
            disposition: Disposition::Dropped(reason),
            ..Receipt::unknown()
        }
    }

    pub(crate) fn unknown() -> Self {
        Receipt {
            conn: None,
            disposition: Disposition::Unknown,
            pieces: NewBytes::default(),
            payload_start: 0,
            trusted: false,
            rtt: None,
            reply: None,
        }
    }
}

/// A segment to send, or a run of them: neighbours of one flow whose headers differ only in what follows from their
/// place (see [`crate::Stack::poll_transmit_run`]).
#[derive(Clone, Debug)]
#[must_use]
pub struct Outgoing {
    /// The connection it belongs to, or the handshake: then it has no payload.
    pub conn: ConnId,
    /// Addresses and ports, seen from us: `local` is the source.
    pub key: FlowKey,
    /// Header and options; the driver adds checksum and link header. Of a run: SEQ of the first segment, and the flags
    /// of the last, as a device that cuts it wants them.
    pub header: TcpHeader,
    /// Bytes of our stream that follow the header.
    pub payload: Range<u64>,
    /// Payload bytes of every segment but the last, which has at most as many.
    pub segment_len: u32,
    /// Whether the IP header says ECT(0) (RFC 3168 section 5); else Not-ECT.
    pub ect: bool,
}

/// How a connection is steered at this moment, for traces and diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlView {
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Slow start threshold in bytes; `u32::MAX` while the path is unknown.
    pub ssthresh: u32,
    /// Bytes believed to be in the network.
    pub in_flight: u64,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// Bytes per second at which segments leave; 0 if they are not paced.
    pub pacing_rate: u64,
    /// Longest burst of the pacer in bytes; 0 if it has none.
    pub quantum: u32,
    /// Whether ECN was negotiated.
    pub ecn: bool,
    /// Bytes of the longest IP packet that its segments make, probes of the path not.
    pub path_mtu: u16,
}

/// What a connection does about ECN, for traces and diagnostics. Packets are counted modulo 2^16
/// and bytes modulo 2^32; both are zero without AccECN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcnView {
    /// ECN was negotiated, classic (RFC 3168) or accurate.
    pub negotiated: bool,
    /// Every mark is counted (RFC 9768).
    pub accurate: bool,
    /// New data leaves as ECT(0).
    pub sending: bool,
    /// Packets that arrived marked: r.cep less its initial value.
    pub ce_packets_received: u32,
    /// Payload bytes in them: r.ceb.
    pub ce_bytes_received: u32,
    /// Packets that the peer reports as marked: s.cep less its initial value.
    pub ce_packets_reported: u32,
    /// Payload bytes in them as far as options told: s.ceb.
    pub ce_bytes_reported: u32,
}

/// The sending side of a connection in stream offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendView {
    /// Everything below was acknowledged and is not needed any more.
    pub acknowledged: u64,
    /// Highest offset ever sent.
    pub sent: u64,
    /// Bytes below this offset may be sent as far as the peer's window and the congestion window say.
    pub horizon: u64,
    /// Payload bytes of a full segment.
    pub segment: u32,
}
