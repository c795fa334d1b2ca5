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
