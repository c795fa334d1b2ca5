//! What is sent: packets of one frame and of several, what is refused, and what a full ring gives back.

use sluice_afxdp::{
    HugePages, Kick, MAX_PACKET_FRAMES, Queue, QueueConfig, TxChecksum, Umem, UmemConfig,
};

use crate::bed::{START, assert_settled, config, pair, pattern, send, umem};

#[test]
fn sent_packets_are_seen_after_the_kick_and_not_before() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 60), false));
    assert!(send(&mut queue, &pattern(2, 1514), false));
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 0);
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    assert_eq!(
        nic.transmit(u32::MAX, |pieces, _| seen.push(pieces.concat())),
        2
    );
    assert_eq!(seen, [pattern(1, 60), pattern(2, 1514)]);
    assert_eq!(queue.reap(), 2);
    assert_eq!(queue.kick(), Kick::Idle);
    assert_eq!(nic.kicks(), 1);
    assert_settled(queue, nic);
}

#[test]
fn a_multi_buffer_packet_appears_only_when_whole() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 4080), true));
    assert!(send(&mut queue, &pattern(2, 4080), true));
    let _ = queue.kick();
    assert_eq!(nic.tx_queued(), 0);
    assert!(send(&mut queue, &pattern(3, 1), false));
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    nic.transmit(u32::MAX, |pieces, _| {
        seen.push((pieces.len(), pieces.concat()))
    });
    assert_eq!(
        seen,
        [(
            3,
            [pattern(1, 4080), pattern(2, 4080), pattern(3, 1)].concat()
        )]
    );
    assert_settled(queue, nic);
}

#[test]
fn an_abandoned_packet_leaves_no_trace() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 60), false));
    assert!(send(&mut queue, &pattern(2, 60), true));
    assert!(send(&mut queue, &pattern(3, 60), true));
    assert_eq!(queue.abandon_packet(), 2);
    assert_eq!(queue.abandon_packet(), 0);
    assert!(send(&mut queue, &pattern(4, 60), false));
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    nic.transmit(u32::MAX, |pieces, _| seen.push(pieces.concat()));
    assert_eq!(seen, [pattern(1, 60), pattern(4, 60)]);
    assert_settled(queue, nic);
}

#[test]
fn the_checksum_request_travels_with_its_packet_only() {
    let (mut queue, mut nic) = pair();
    let request = TxChecksum {
        start: 34,
        offset: 16,
    };
    for checksum in [Some(request), None] {
        let frame = queue.tx_frame().expect("a free frame");
        queue.send(frame, 60, false, checksum).expect("room");
        // The same frame is used again: metadata left in it must not count.
        let _ = queue.kick();
        let mut seen = Vec::new();
        nic.transmit(u32::MAX, |_, checksum| seen.push(checksum));
        assert_eq!(seen, [checksum]);
        queue.reap();
    }
    assert_settled(queue, nic);
}

#[test]
fn what_the_kernel_would_refuse_is_not_sent() {
    let (mut queue, nic) = pair();
    let fits = TxChecksum {
        start: 34,
        offset: 16,
    };
    let beyond = TxChecksum {
        start: 34,
        offset: 25,
    };
    let wraps = TxChecksum {
        start: u16::MAX,
        offset: u16::MAX,
    };
    let bad = [
        (0, false, None),
        (13, false, None),
        (4081, false, None),
        (u32::MAX, false, None),
        (60, false, Some(beyond)),
        (60, false, Some(wraps)),
    ];
    for (refused, (len, more, checksum)) in (1..).zip(bad) {
        let frame = queue.tx_frame().expect("a free frame");
        let frame = queue.send(frame, len, more, checksum).expect_err("refused");
        queue.unused(frame);
        assert_eq!(queue.counters().tx_refused, refused);
    }
    // A checksum belongs to the first frame.
    assert!(send(&mut queue, &[1; 60], true));
    let frame = queue.tx_frame().expect("a free frame");
    let frame = queue
        .send(frame, 60, false, Some(fits))
        .expect_err("refused");
    queue.unused(frame);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_of_eighteen_frames_is_sent_and_a_nineteenth_refused() {
    let (mut queue, mut nic) = pair();
    for _ in 0..MAX_PACKET_FRAMES - 1 {
        assert!(send(&mut queue, &[1; 60], true));
    }
    assert!(!send(&mut queue, &[1; 60], true));
    assert_eq!(queue.counters().tx_refused, 1);
    assert!(send(&mut queue, &[1; 60], false));
    assert_eq!(queue.kick(), Kick::Done);
    assert_eq!(
        nic.transmit(u32::MAX, |pieces, _| assert_eq!(pieces.len(), 18)),
        1
    );
    assert_settled(queue, nic);
}

#[test]
fn without_multi_buffer_a_packet_is_one_frame_both_ways() {
    let config = QueueConfig {
        multi_buffer: false,
        ..config()
    };
    let (mut queue, mut nic) = Queue::in_memory(umem(), &config, START);
    assert_eq!(queue.bound().max_packet_frames, 1);
    assert!(!nic.inject(&[1; 3841]));
    assert_eq!(queue.statistics().expect("memory").rx_dropped, 1);
    assert!(!send(&mut queue, &[1; 60], true));
    assert!(send(&mut queue, &[1; 60], false));
    assert_settled(queue, nic);
}

#[test]
fn without_metadata_the_buffer_is_the_whole_chunk_and_checksums_are_refused() {
    let umem = Umem::new(&UmemConfig {
        frames: 64,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: false,
    })
    .expect("memory");
    let (mut queue, nic) = Queue::in_memory(umem, &config(), START);
    assert!(!queue.bound().tx_checksum);
    assert!(send(&mut queue, &[1; 4096], false));
    let frame = queue.tx_frame().expect("a free frame");
    let request = TxChecksum {
        start: 34,
        offset: 16,
    };
    let frame = queue
        .send(frame, 60, false, Some(request))
        .expect_err("refused");
    queue.unused(frame);
    assert_settled(queue, nic);
}

#[test]
fn a_full_ring_returns_the_frame() {
    let (mut queue, mut nic) = pair();
    for slots in (1..=32).rev() {
        assert_eq!(queue.tx_slots(), slots);
        assert!(send(&mut queue, &[1; 60], false));
    }
    assert_eq!(queue.tx_slots(), 0);
    assert!(!send(&mut queue, &[1; 60], false));
    assert_eq!(queue.counters().tx_refused, 0);
    let _ = queue.kick();
    nic.transmit(10, |_, _| {});
    // Ring entries are free again, but nothing more may be in flight than the completion ring holds.
    assert_eq!(queue.tx_slots(), 0);
    queue.reap();
    assert_eq!(queue.tx_slots(), 10);
    assert_settled(queue, nic);
}

#[test]
fn the_budget_never_splits_a_packet() {
    let (mut queue, mut nic) = pair();
    for _ in 0..3 {
        assert!(send(&mut queue, &[1; 60], true));
        assert!(send(&mut queue, &[1; 60], false));
    }
    let _ = queue.kick();
    assert_eq!(nic.transmit(5, |_, _| {}), 2);
    assert_eq!(nic.tx_queued(), 2);
    assert_settled(queue, nic);
}
