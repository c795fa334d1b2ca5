//! What arrives: whole packets, chains of frames, and a fill ring that runs empty.

use std::os::fd::AsRawFd;

use sluice_afxdp::{MAX_PACKET_FRAMES, Queue, RX_FRAME_BYTES, RxBatch};

use crate::bed::{assert_settled, packets_of, pair, pattern, send};

#[test]
fn the_fill_ring_is_filled_from_the_start() {
    let (queue, mut nic) = pair();
    assert_eq!(nic.fill_level(), 64);
    assert_eq!(queue.ledger().fill, 64);
    assert_settled(queue, nic);
}

#[test]
fn packets_arrive_whole_and_in_order() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    let sent: Vec<_> = [60, 9000, 1, RX_FRAME_BYTES, RX_FRAME_BYTES + 1, 57_986]
        .into_iter()
        .enumerate()
        .map(|(seed, len)| pattern(seed, len))
        .collect();
    for packet in &sent {
        assert!(nic.inject(packet));
    }
    assert_eq!(queue.receive(&mut batch), sent.len());
    assert_eq!(packets_of(&batch), sent);
    let pieces: Vec<_> = batch
        .packets()
        .map(|packet| packet.frames().len())
        .collect();
    assert_eq!(pieces, [1, 3, 1, 1, 2, 16]);
    assert_eq!(queue.ledger().rx_held, 24);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn an_incomplete_chain_is_held_back_until_its_end() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    assert!(nic.inject(&pattern(1, 100)));
    assert!(nic.inject_piece(&pattern(2, 3840), true));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(queue.receive(&mut batch), 0);
    assert_eq!(batch.len(), 1);
    assert!(nic.inject_piece(&pattern(3, 10), false));
    assert_eq!(queue.receive(&mut batch), 1);
    let expected = [pattern(1, 100), [pattern(2, 3840), pattern(3, 10)].concat()];
    assert_eq!(packets_of(&batch), expected);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_that_does_not_fit_in_the_batch_waits_for_the_next() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(18);
    for seed in 0..3 {
        assert!(nic.inject(&pattern(seed, 8 * RX_FRAME_BYTES)));
    }
    assert_eq!(queue.receive(&mut batch), 2);
    assert_eq!(batch.len(), 16);
    queue.recycle(&mut batch);
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [pattern(2, 8 * RX_FRAME_BYTES)]);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_of_eighteen_frames_fits_the_smallest_batch() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(0);
    let packet = pattern(9, MAX_PACKET_FRAMES * RX_FRAME_BYTES);
    assert!(nic.inject(&packet));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [packet]);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_chain_without_end_is_thrown_away_and_the_next_packet_arrives() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    for _ in 0..30 {
        assert!(nic.inject_piece(&[1; 100], true));
    }
    assert!(nic.inject_piece(&[1; 100], false));
    assert!(nic.inject(&pattern(1, 50)));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [pattern(1, 50)]);
    assert_eq!(queue.counters().rx_broken_packets, 1);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn frames_kept_from_a_batch_come_back_one_by_one() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    assert!(nic.inject(&pattern(1, 9000)));
    assert_eq!(queue.receive(&mut batch), 1);
    let kept: Vec<_> = batch.drain().collect();
    queue.recycle(&mut batch);
    assert_eq!(queue.ledger().rx_held, 3);
    let bytes: Vec<_> = kept
        .iter()
        .flat_map(|frame| queue.data(frame).to_vec())
        .collect();
    assert_eq!(bytes, pattern(1, 9000));
    for frame in kept {
        queue.release(frame);
    }
    assert_settled(queue, nic);
}

#[test]
fn an_empty_fill_ring_drops_packets_and_says_so() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    while nic.inject(&[1; 60]) {}
    assert_eq!(queue.receive(&mut batch), 64);
    assert!(!nic.inject(&[1; 60]));
    assert_eq!(
        queue.statistics().expect("memory").rx_fill_ring_empty_descs,
        2
    );
    queue.recycle(&mut batch);
    assert!(nic.inject(&[1; 60]));
    assert_settled(queue, nic);
}

#[test]
fn a_receiver_that_keeps_every_frame_leaves_the_transmit_reserve() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(128);
    loop {
        while nic.inject(&[1; 60]) {}
        if queue.receive(&mut batch) == 0 {
            break;
        }
        queue.refill();
    }
    assert_eq!(queue.ledger().rx_held, 96);
    for _ in 0..32 {
        assert!(send(&mut queue, &[2; 60], false));
    }
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn the_descriptor_is_readable_when_packets_wait() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(32);
    assert!(!readable(&queue));
    assert!(nic.inject(&[1; 60]));
    assert!(readable(&queue));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(queue.receive(&mut batch), 0);
    assert!(!readable(&queue));
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

fn readable(queue: &Queue) -> bool {
    let mut poll = libc::pollfd {
        fd: queue.fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry, borrowed for the call, which does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}
