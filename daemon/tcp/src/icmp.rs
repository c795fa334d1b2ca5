//! ICMP errors: claims by anybody on the path, or by nobody on it.
//!
//! A claim counts only if it quotes a sequence number that is in flight, which an attacker off the path has to
//! guess (RFC 5927 section 4.1). Then "packet too big" may shorten our segments, and a hard error may end an active
//! open; it never ends a connection (RFC 5927 section 5.2, RFC 1122 section 4.2.3.9). Whatever else is claimed is
//! counted and forgotten; source quench (RFC 6633) and redirects do not even get here.

use sluice_wire::{IcmpError, IcmpErrorKind};

use crate::connection::{Connection, Env};
use crate::events::CloseReason;
use crate::path_mtu::Told;
use crate::seq::SeqNumber;
use crate::state::State;
use crate::stats::IcmpVerdict;

/// Protocol and port unreachable (RFC 9293 section 3.9.2.2).
const HARD_V4: [u8; 2] = [2, 3];
/// Communication administratively prohibited, and port unreachable (RFC 9293 section 3.9.2.2).
const HARD_V6: [u8; 2] = [1, 4];

impl Connection {
    /// An error that quotes a segment of this connection.
    pub(crate) fn on_icmp(&mut self, error: &IcmpError, env: &mut Env<'_>) -> IcmpVerdict {
        if self.finish.is_some() {
            return IcmpVerdict::NotInFlight;
        }
        match self.state {
            State::SynSent => return self.on_icmp_syn_sent(error),
            State::SynReceived => return IcmpVerdict::Soft,
            _ => {}
        }
        let offset = self.send.offset_of(SeqNumber::new(error.quoted.seq));
        let in_flight = self.send.snd_una..self.send.snd_nxt;
        let Some(offset) = u64::try_from(offset).ok().filter(|o| in_flight.contains(o)) else {
            return IcmpVerdict::NotInFlight;
        };
        match error.kind {
            IcmpErrorKind::Unreachable { .. } => IcmpVerdict::Soft,
            IcmpErrorKind::PacketTooBig { mtu } => match self.on_too_big(mtu, offset, env) {
                Told::Lowered => IcmpVerdict::Lowered,
                Told::ProbeRefused => IcmpVerdict::ProbeRefused,
                Told::NotSmaller => IcmpVerdict::NotSmaller,
                Told::TooSmall => IcmpVerdict::TooSmall,
            },
        }
    }

    /// Only the SYN is in flight.
    fn on_icmp_syn_sent(&mut self, error: &IcmpError) -> IcmpVerdict {
        if self.syns_sent == 0 || error.quoted.seq != self.send.iss().raw() {
            return IcmpVerdict::NotInFlight;
        }
        let hard = if self.key.local().is_ipv4() {
            HARD_V4
        } else {
            HARD_V6
        };
        match error.kind {
            IcmpErrorKind::Unreachable { code } if hard.contains(&code) => {
                self.end(CloseReason::Unreachable, false);
                IcmpVerdict::Refused
            }
            IcmpErrorKind::Unreachable { .. } | IcmpErrorKind::PacketTooBig { .. } => {
                IcmpVerdict::Soft
            }
        }
    }
}
