//! Active opens with their answers, and ICMP errors, which may end them.

use sluice_tcp::{ConnectError, IcmpVerdict, State};
use sluice_wire::{IcmpError, IcmpErrorKind, QuotedSegment, TcpFlags};

use super::ops::{Ack, Error, Syn};
use super::shadow::Shadow;
use super::{BURST_MAX, Bench, key};

impl Bench {
    /// RFC 9293 section 3.10.1: a tuple is opened once, while there is room.
    pub(super) fn open(&mut self, flow: u8) {
        self.forget_lost_handshakes();
        let key = key(flow);
        let is_live = self.live.iter().any(|shadow| shadow.key == key);
        match self.stack.connect(key, self.now) {
            Ok(id) => {
                assert!(!is_live, "a second connection of the tuple");
                self.live.push(Shadow::active(id, key, self.limits));
            }
            Err(ConnectError::InUse) => assert!(is_live || self.stack.time_wait() > 0),
            Err(ConnectError::Full) => assert!(!self.stack.has_room()),
        }
    }

    /// The peer's SYN to an active open (RFC 9293 sections 3.5, figures 6 and 7).
    pub(super) fn answer(&mut self, flow: u8, seq: u32, syn: Syn, crossing: bool) {
        self.transmit(BURST_MAX);
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut flags = syn.flags();
        if !crossing {
            flags = flags | TcpFlags::ACK;
        }
        let mut header = shadow.honest(flags);
        header.seq = seq;
        header.ack = shadow.seq_out(0);
        header.window = syn.window;
        header.options = syn.options();
        if let (Some(stamps), false) = (&mut header.options.timestamps, crossing) {
            stamps.echo = shadow.stamp().1;
        }
        self.give(flow, &header, u32::from(syn.payload_len), false);
    }

    /// RFC 5927 section 4.1: what quotes nothing that is in flight changes nothing.
    pub(super) fn icmp(&mut self, flow: u8, error: Error, quoted: &Ack) {
        self.forget_lost_handshakes();
        let key = key(flow);
        let at = self.live.iter().rposition(|shadow| shadow.key == key);
        let seq = match (at.map(|at| &self.live[at]), quoted) {
            (Some(shadow), Ack::Sent(by)) => {
                let end = shadow.seq_out(shadow.sent_end);
                end.wrapping_add_signed((*by).into())
            }
            (Some(shadow), Ack::Una(by)) => {
                let una = shadow.seq_out(shadow.acknowledged());
                una.wrapping_add_signed((*by).into())
            }
            (_, Ack::Absolute(seq)) => *seq,
            (None, _) => 0,
        };
        let kind = match error {
            Error::Unreachable(code) => IcmpErrorKind::Unreachable { code },
            Error::TooBig(mtu) => IcmpErrorKind::PacketTooBig { mtu: mtu.into() },
        };
        let quoted = QuotedSegment {
            src: key.local(),
            dst: key.remote(),
            src_port: key.local_port(),
            dst_port: key.remote_port(),
            seq,
        };
        let view = at
            .and_then(|at| self.live[at].id)
            .and_then(|id| self.stack.send_view(id).zip(self.stack.state(id)));
        let verdict = self.stack.on_icmp(self.now, &IcmpError { kind, quoted });
        assert_eq!(verdict.is_some(), at.is_some());
        let (Some(verdict), Some(at)) = (verdict, at) else {
            return;
        };
        self.seen.icmp += 1;
        let shadow = &mut self.live[at];
        let is_refused = verdict == IcmpVerdict::Refused;
        match view {
            None => assert_eq!(verdict, IcmpVerdict::Soft, "about a handshake"),
            Some((_, State::SynSent)) => {
                let is_about_syn = shadow.iss == Some(seq);
                assert!(is_about_syn || verdict == IcmpVerdict::NotInFlight);
                assert!(!is_refused || matches!(kind, IcmpErrorKind::Unreachable { .. }));
                shadow.refused |= is_refused;
            }
            Some((view, state)) => {
                let judged = match state {
                    State::SynReceived => verdict == IcmpVerdict::Soft,
                    _ => shadow.may_be_in_flight(seq, &view),
                };
                assert!(judged || verdict == IcmpVerdict::NotInFlight);
                assert!(!is_refused, "an error ends no connection");
            }
        }
        if let (IcmpVerdict::Lowered, Error::TooBig(mtu)) = (verdict, error) {
            shadow.on_path_lowered(mtu, self.now);
        }
    }
}
