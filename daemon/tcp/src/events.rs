//! What a stack tells its driver about a connection.

/// Names one connection of a stack. The generation tells a reused slot from its former owner; the default is the first
/// connection a stack ever has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// Index for the driver's own tables: below [`crate::StackConfig::connections`] for a connection. A handshake has
    /// one from there up to [`crate::StackConfig::slots`], under which only its link address is of use.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both directions were closed and acknowledged.
    Finished,
    /// The peer answered our SYN with RST, in SYN-SENT or after both SYNs had crossed.
    Refused,
    /// A router or the peer's host says that what our SYN asks for is not there (RFC 1122 section 4.2.3.9).
    Unreachable,
    /// The peer sent an acceptable RST.
    PeerReset,
    /// The driver aborted it.
    Aborted,
    /// Data stayed unacknowledged, or an open unanswered, for as long as the user timeout (RFC 9293 section 3.9.1.8).
    UserTimeout,
    /// Both directions were closed by the driver, and data of the peer came or was left that nobody reads (RFC 9293
    /// section 3.6.1).
    DataNotRead,
    /// The peer acknowledged what had not left: [`crate::skip`].
    OptimisticAck,
    /// Retransmissions were not answered (RFC 9293 section 3.8.3, R2).
    RetransmissionTimeout,
    /// The peer kept its window closed for too long (RFC 6429).
    NoProgress,
    /// Keep-alive probes were not answered.
    KeepAliveTimeout,
    /// The handshake was not completed.
    HandshakeTimeout,
    /// The peer did not close within the FIN-WAIT-2 limit.
    FinWaitTimeout,
}

/// What happened on a connection since its last event; several bits at once are usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The handshake completed.
    pub established: bool,
    /// In-order bytes are available up to [`crate::Stack::delivered`].
    pub readable: bool,
    /// The peer acknowledged data, its window changed, or a window probe is due or has left: see
    /// [`crate::Stack::send_view`].
    pub acknowledged: bool,
    /// The peer finished its direction: nothing follows what was delivered.
    pub peer_finished: bool,
    /// The deadline set with [`crate::Stack::set_deadline`] passed.
    pub deadline: bool,
    /// The connection is gone; this is its last event and its slot is free afterwards.
    pub closed: Option<CloseReason>,
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Events::default()
    }
}
