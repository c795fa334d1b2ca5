//! States of a connection (RFC 9293 section 3.3.2).
//!
//! CLOSED is the absence of a connection, LISTEN belongs to the listener and TIME-WAIT to its own compact
//! table, so none of them is a state of a `Connection`.

/// State of a live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// We sent a SYN; waiting for the peer's.
    SynSent,
    /// Both SYNs are out; waiting for the acknowledgement of ours.
    SynReceived,
    /// Both directions open.
    Established,
    /// We closed; our FIN is not acknowledged yet.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// Both sides sent FIN at the same time; ours is not acknowledged yet.
    Closing,
    /// The peer closed; we may still send.
    CloseWait,
    /// The peer closed, then we did; our FIN is not acknowledged yet.
    LastAck,
}

impl State {
    /// Whether both sides have agreed on initial sequence numbers (RFC 9293 section 3.3.2).
    #[must_use]
    pub fn is_synchronized(self) -> bool {
        !matches!(self, State::SynSent | State::SynReceived)
    }

    /// Whether the peer may still send new bytes.
    #[must_use]
    pub fn can_receive(self) -> bool {
        matches!(
            self,
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
        )
    }

    /// Whether our side has not closed its direction yet.
    #[must_use]
    pub fn can_send(self) -> bool {
        matches!(
            self,
            State::SynSent | State::SynReceived | State::Established | State::CloseWait
        )
    }

    /// Name as the RFC writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::Closing => "CLOSING",
            State::CloseWait => "CLOSE-WAIT",
            State::LastAck => "LAST-ACK",
        }
    }
}
