//! What the fuzzer found, each as the shortest dialogue that shows it.

use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{CloseReason, ConnId, Receipt, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

const IRS: u32 = 1000;
const BUFFER: u32 = 1 << 20;

struct Dialogue {
    stack: Stack,
    now: Instant,
    /// SEG.ACK of the peer.
    ack: u32,
}

impl Dialogue {
    /// An established connection whose peer offered nothing.
    fn established() -> (Dialogue, ConnId) {
        let config = StackConfig {
            receive_buffer: BUFFER,
            send_limit: BUFFER,
            congestion: Algorithm::NewReno,
            ..StackConfig::new(1, [7; 16], Secret::new([7; 32]))
        };
        let now = Instant::ZERO + Duration::from_secs(1);
        let mut dialogue = Dialogue {
            stack: Stack::new(config, now),
            now,
            ack: 0,
        };
        let _ = dialogue.give(TcpFlags::SYN, IRS, 0);
        let syn_ack = dialogue.stack.poll_transmit(now).expect("a SYN-ACK");
        dialogue.ack = syn_ack.header.seq.wrapping_add(1);
        let receipt = dialogue.give(TcpFlags::ACK, IRS + 1, 0);
        let conn = receipt.conn.expect("a connection");
        let (_, events) = dialogue.stack.poll_event().expect("an event");
        assert!(events.established);
        (dialogue, conn)
    }

    fn give(&mut self, flags: TcpFlags, seq: u32, payload_len: u32) -> Receipt {
        let header = TcpHeader {
            src_port: 40_000,
            dst_port: 80,
            seq,
            ack: self.ack,
            flags,
            window: u16::MAX,
            ..TcpHeader::default()
        };
        let segment = Segment {
            key: FlowKey::new([192, 0, 2, 1].into(), 80, [192, 0, 2, 2].into(), 40_000),
            header: &header,
            payload_len,
            ecn: Ecn::NotEct,
        };
        self.stack.on_segment(self.now, &segment)
    }
}

#[test]
fn an_ack_that_was_owed_is_no_answer_to_a_reset() {
    // RFC 5961 section 3.2: an exact RST ends the connection, and nothing is said any more.
    let (mut dialogue, _) = Dialogue::established();
    for segment in 0..2 {
        let _ = dialogue.give(TcpFlags::ACK, IRS + 1 + segment * 1448, 1448);
    }
    let _ = dialogue.give(TcpFlags::RST, IRS + 1 + 2 * 1448, 0);
    assert!(dialogue.stack.poll_transmit(dialogue.now).is_none());
    let (_, events) = dialogue.stack.poll_event().expect("the end");
    assert_eq!(events.closed, Some(CloseReason::PeerReset));
}

#[test]
fn reading_after_a_reset_sends_no_window_update() {
    let (mut dialogue, conn) = Dialogue::established();
    let _ = dialogue.give(TcpFlags::RST, IRS + 1, 0);
    dialogue.stack.consume(conn, 0);
    assert!(dialogue.stack.poll_transmit(dialogue.now).is_none());
}

#[test]
fn nothing_follows_the_reset_of_an_abort() {
    // RFC 9293 section 3.10.5: with the RST the connection is deleted, also while nobody has been told yet.
    let (mut dialogue, conn) = Dialogue::established();
    dialogue.stack.abort(conn);
    let reset = dialogue.stack.poll_transmit(dialogue.now).expect("a RST");
    assert!(reset.header.flags.contains(TcpFlags::RST));
    dialogue.stack.consume_with_room(conn, 0, 2 * BUFFER);
    assert!(dialogue.stack.poll_transmit(dialogue.now).is_none());
    let (_, events) = dialogue.stack.poll_event().expect("the end");
    assert_eq!(events.closed, Some(CloseReason::Aborted));
}

#[test]
fn a_challenge_in_a_handshake_promises_no_more_than_the_syn_ack() {
    // RFC 5961 section 4.2 asks for the ACK; its window is scaled, that of the SYN-ACK is not (RFC 7323 section 2.2), and
    // the connection begins with the latter: the larger one would be taken back (RFC 9293 section 3.8.6).
    let now = Instant::ZERO + Duration::from_secs(1);
    let config = StackConfig {
        receive_buffer: BUFFER,
        ..StackConfig::new(4, [7; 16], Secret::new([7; 32]))
    };
    let mut stack = Stack::new(config, now);
    let mut syn = TcpHeader {
        src_port: 40_000,
        dst_port: 80,
        seq: IRS,
        flags: TcpFlags::SYN,
        window: u16::MAX,
        ..TcpHeader::default()
    };
    syn.options.window_scale = Some(7);
    let give = |header: &TcpHeader, stack: &mut Stack| {
        let segment = Segment {
            key: FlowKey::new([192, 0, 2, 1].into(), 80, [192, 0, 2, 2].into(), 40_000),
            header,
            payload_len: 0,
            ecn: Ecn::NotEct,
        };
        stack.on_segment(now, &segment).reply
    };
    assert_eq!(give(&syn, &mut stack), None);
    let syn_ack = stack.poll_transmit(now).expect("a SYN-ACK").header;
    let scale = syn_ack.options.window_scale.expect("it was offered");
    assert!(scale > 0);
    syn.seq = IRS + 1000;
    let challenge = give(&syn, &mut stack).expect("a challenge");
    assert_eq!(challenge.flags, TcpFlags::ACK);
    assert!(u32::from(challenge.window) << scale <= u32::from(syn_ack.window));
}

#[test]
fn room_that_is_told_before_the_peer_has_answered_promises_nothing() {
    // RFC 9293 section 3.8.6: the window of the SYN is that of the receiver that the answer makes, and is not shrunk.
    let now = Instant::ZERO + Duration::from_secs(1);
    for room in [0, 10, 4 * BUFFER] {
        let config = StackConfig {
            receive_buffer: 20_000,
            ..StackConfig::new(1, [7; 16], Secret::new([7; 32]))
        };
        let mut stack = Stack::new(config, now);
        let key = FlowKey::new([192, 0, 2, 1].into(), 40_000, [192, 0, 2, 2].into(), 80);
        let conn = stack.connect(key, now).expect("there is room");
        stack.consume_with_room(conn, 0, room);
        let syn = stack.poll_transmit(now).expect("a SYN");
        assert_eq!(syn.header.window, 20_000, "{room}");
    }
}
