//! What a stack is told at construction: capacities, windows and time-outs.

use core::time::Duration;

use crate::autotune::Autotune;
use crate::congestion::Algorithm;
use crate::ecn_terms::{EcnConfig, EcnLevel};
use crate::isn::Secret;
use crate::pacing::PacingConfig;
use crate::rtt::RtoConfig;
use crate::skip::SkipConfig;

/// Parameters of one [`crate::Stack`]. Every capacity is allocated at construction and never grows.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Connections at once. A handshake is none before its final ACK.
    pub connections: u32,
    /// Handshakes at once, 1 to 65,535: from three quarters of them on, SYNs are answered by cookies.
    pub half_open: u32,
    /// Entries in TIME-WAIT; the oldest leaves when a new one needs room.
    pub time_wait: u32,
    /// Bytes of one IP packet on the interface. Our MSS is this minus 40 (IPv4) or 60 (IPv6).
    pub mtu: u16,
    /// Receive buffer of a connection in bytes; the advertised window never exceeds what is left of it. With
    /// [`Self::autotune`] it is what a connection begins with.
    pub receive_buffer: u32,
    /// Bytes that may be in flight on one connection whatever the windows say: bounds the blocks it pins.
    pub send_limit: u32,
    /// How both follow the path; `None` leaves them as they are.
    pub autotune: Option<Autotune>,
    /// Congestion control of connections whose local port is not in [`Self::congestion_by_port`].
    pub congestion: Algorithm,
    /// Local ports with a congestion control of their own. A few: they are compared one by one, once per connection.
    pub congestion_by_port: Vec<(u16, Algorithm)>,
    /// Spreads each window over a round trip; `None` sends it as fast as the lane takes it.
    pub pacing: Option<PacingConfig>,
    /// What is accepted of ECN, and what is offered (RFC 3168, RFC 9768). Nothing with an algorithm that does not
    /// answer to marks.
    pub ecn: EcnConfig,
    /// Retransmission time-out limits (RFC 6298).
    pub rto: RtoConfig,
    /// Keep-alive while waiting for the peer (RFC 9293 section 3.8.4); off when `None`.
    pub keep_alive: Option<KeepAlive>,
    /// Time for which data may stay unacknowledged before the connection is reset (RFC 9293 section 3.9.1.8, user
    /// timeout). It takes the place of the limit of repetitions ([`RETRANSMISSIONS_MAX`]), which is there when this is
    /// `None`. A peer with a closed window has [`NO_PROGRESS`] while it answers probes, and this from the first that it
    /// does not answer.
    pub user_timeout: Option<Duration>,
    /// Whether and when peers are tested for optimistic acknowledgements.
    pub skip: Option<SkipConfig>,
    /// Key of the flow table (SipHash-1-3).
    pub flow_hash_key: [u8; 16],
    /// Key of initial sequence numbers and timestamp offsets.
    pub secret: Secret,
}

impl StackConfig {
    /// Room for so many connections, handshakes and entries in TIME-WAIT, an MTU of 1500, 64 KiB to receive, 1 MiB in
    /// flight, CUBIC; everything that is optional is off.
    #[must_use]
    pub fn new(connections: u32, flow_hash_key: [u8; 16], secret: Secret) -> StackConfig {
        StackConfig {
            connections,
            half_open: connections,
            time_wait: connections,
            mtu: 1500,
            receive_buffer: 65_535,
            send_limit: 1 << 20,
            autotune: None,
            congestion: Algorithm::Cubic,
            congestion_by_port: Vec::new(),
            pacing: None,
            ecn: EcnConfig::OFF,
            rto: RtoConfig::default(),
            keep_alive: None,
            user_timeout: None,
            skip: None,
            flow_hash_key,
            secret,
        }
    }

    /// Every [`ConnId::slot`](crate::ConnId::slot) is below this: one per connection, then one per handshake.
    #[must_use]
    pub fn slots(&self) -> usize {
        let handshakes = self.half_open.clamp(1, crate::syn_table::CAPACITY_MAX);
        self.connections.max(1) as usize + handshakes as usize
    }

    /// Congestion control of a connection with this local port.
    #[must_use]
    pub fn congestion_of(&self, local_port: u16) -> Algorithm {
        self.congestion_by_port
            .iter()
            .find(|(port, _)| *port == local_port)
            .map_or(self.congestion, |(_, algorithm)| *algorithm)
    }

    /// How much of a peer's offer of ECN is taken at this local port.
    pub(crate) fn accepts_ecn(&self, local_port: u16) -> EcnLevel {
        self.ecn_for(local_port, self.ecn.accept)
    }

    /// How much ECN a SYN from this local port offers.
    pub(crate) fn offers_ecn(&self, local_port: u16) -> EcnLevel {
        self.ecn_for(local_port, self.ecn.offer)
    }

    fn ecn_for(&self, local_port: u16, level: EcnLevel) -> EcnLevel {
        if self.congestion_of(local_port).answers_ecn() {
            level
        } else {
            EcnLevel::Off
        }
    }
}

/// Keep-alive timing (RFC 1122 section 4.2.3.6: off by default, two hours at least).
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is reset.
    pub probes: u8,
}

/// Longest time an acknowledgement waits for company. RFC 9293 section 3.8.6.3 allows 500 ms; Linux uses 40 ms.
pub const DELAYED_ACK: Duration = Duration::from_millis(40);
/// FIN-WAIT-2 ends after this long once the application has closed.
pub const FIN_WAIT_2: Duration = Duration::from_secs(60);
/// TIME-WAIT lasts 2 MSL with an MSL of 30 s, as everywhere in the field.
pub const TIME_WAIT: Duration = Duration::from_secs(60);
/// A peer with a closed window gets this long before the connection is reset (RFC 6429).
pub const NO_PROGRESS: Duration = Duration::from_secs(120);
/// Time-outs of the same segment before giving up: with doubling from 200 ms this is beyond R2 = 100 s, and so it is
/// from 10 ms on, the lowest floor that the daemon takes (RFC 9293 section 3.8.3).
pub const RETRANSMISSIONS_MAX: u8 = 15;
/// SYN-ACK repeats of a passive open (after 1, 2, 4, 8, 16 s).
pub const SYN_ACK_REPEATS_MAX: u8 = 5;
/// Repeats of the SYN of an active open, and of the SYN-ACK after a simultaneous one: with doubling from 1 s the last
/// wait ends after 183 s, and R2 for a SYN is at least 3 minutes (RFC 9293 section 3.8.3, MUST-23).
pub const SYN_REPEATS_MAX: u8 = 7;
/// An MSS below this is raised to it: 1-byte segments are an attack on our CPU (CVE-2019-11479).
pub const MSS_FLOOR: u16 = 216;
