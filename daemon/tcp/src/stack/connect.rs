//! Active open (RFC 9293 section 3.10.1): what it takes, and why it may not be had.
//!
//! The handshake itself is the connection's (`open`). A tuple is taken by a connection, by a handshake that the peer began,
//! and by TIME-WAIT.

use super::Stack;
use crate::clock::Instant;
#[cfg(doc)]
use crate::config::StackConfig;
use crate::connection::Connection;
use crate::events::ConnId;
#[cfg(doc)]
use crate::events::{CloseReason, Events};
use crate::flow_table::FlowKey;

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// A connection of this tuple lives or is about to, or did so within TIME-WAIT.
    InUse,
    /// [`StackConfig::connections`] are open.
    Full,
}

impl core::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ConnectError::InUse => "the address and port pair is in use: take another local port",
            ConnectError::Full => "no room for another connection: raise the limit of connections",
        })
    }
}

impl core::error::Error for ConnectError {}

impl Stack {
    /// Active open (RFC 9293 section 3.10.1): the SYN leaves with the next [`poll_transmit`](Self::poll_transmit).
    /// Bytes may be supplied at once. The end of the handshake is [`Events::established`], its failure
    /// [`Events::closed`], mostly with [`CloseReason::Refused`] or [`CloseReason::HandshakeTimeout`].
    ///
    /// # Errors
    /// The tuple is in use or in TIME-WAIT (take another local port), or there is no room.
    pub fn connect(&mut self, key: FlowKey, now: Instant) -> Result<ConnId, ConnectError> {
        let is_half_open = self.listener.table().find(&key).is_some();
        if is_half_open
            || self.flows.find(&key, &self.slots).is_some()
            || self.time_wait.contains(&key)
        {
            return Err(ConnectError::InUse);
        }
        let slot = (self.flows.add(key, &mut self.slots)).ok_or(ConnectError::Full)?;
        let env = self.common.env(now);
        let connection = Connection::active(key, &env);
        self.slots.place(slot, connection);
        self.settle(slot);
        Ok(self.slots.id(slot))
    }
}
