//! Packets whose payload lies in the block area, against the in-memory twin of the kernel, which checks every descriptor
//! by the kernel's rules and reads the bytes when it sends.
#![cfg(not(loom))]

use proptest::prelude::*;
use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{
    CHUNK_BYTES, Cut, HugePages, MAX_PACKET_FRAMES, Queue, QueueConfig, Slice, Umem, UmemConfig,
};

const BLOCK_BYTES: usize = 64 << 10;
const BLOCKS: usize = 4;

struct Bench {
    queue: Queue,
    nic: MemoryNic,
    blocks: &'static [u8],
}

/// The block area holds bytes that differ from place to place.
fn bench(tx_metadata: bool) -> Bench {
    let (queue, nic, blocks) = parts(128, tx_metadata);
    for (at, byte) in blocks.iter_mut().enumerate() {
        *byte = (at * 31 + at / 251).to_le_bytes()[0];
    }
    Bench { queue, nic, blocks }
}

/// Rings of 32 entries, and the block area as its owner has it.
fn parts(frames: u32, tx_metadata: bool) -> (Queue, MemoryNic, &'static mut [u8]) {
    let mut umem = Umem::new(&UmemConfig {
        frames,
        block_bytes: BLOCKS * BLOCK_BYTES,
        huge_pages: HugePages::Off,
        tx_metadata,
    })
    .expect("memory");
    let blocks = umem.take_blocks().expect("a block area was asked for");
    let config = QueueConfig {
        rx_ring: 64,
        tx_ring: 32,
        fill_ring: 64,
        completion_ring: 32,
        ..QueueConfig::new(0, 0)
    };
    let (queue, nic) = Queue::in_memory(umem, &config, u32::MAX - 7);
    (queue, nic, blocks)
}

/// The slice that `bytes` are whole.
fn slice(queue: &Queue, bytes: &[u8]) -> Slice {
    match queue.cut(bytes) {
        Cut::Slice(slice) if slice.len() == bytes.len() => slice,
        other => panic!("{other:?} is not all of {}", bytes.len()),
    }
}

/// A frame of 14 bytes and more to follow.
fn begin(queue: &mut Queue) {
    let mut frame = queue.tx_frame().expect("a free frame");
    frame.bytes_mut()[..14].fill(0xee);
    queue.send(frame, 14, true, None).expect("room");
}

fn sent(bench: &mut Bench) -> Vec<Vec<u8>> {
    let _ = bench.queue.kick();
    let mut packets = Vec::new();
    bench
        .nic
        .transmit(u32::MAX, |pieces, _| packets.push(pieces.concat()));
    packets
}

fn assert_at_rest(bench: &mut Bench) {
    bench.nic.complete(u32::MAX);
    bench.queue.reap();
    assert!(bench.queue.ledger().at_rest(), "{:?}", bench.queue.ledger());
    assert_eq!(bench.queue.slices_in_flight(), 0);
    let counters = bench.queue.counters();
    assert_eq!(counters.completions_invalid, 0);
    assert_eq!(
        bench.queue.statistics().expect("memory").tx_invalid_descs,
        0
    );
}

#[test]
fn a_packet_of_a_frame_and_slices_leaves_whole() {
    let mut bench = bench(true);
    let first = &bench.blocks[100..CHUNK_BYTES];
    let second = &bench.blocks[BLOCK_BYTES + 16..BLOCK_BYTES + 500];
    begin(&mut bench.queue);
    for (bytes, more) in [(first, true), (second, false)] {
        let slice = slice(&bench.queue, bytes);
        bench.queue.send_slice(slice, more).expect("room");
    }
    assert_eq!(
        sent(&mut bench),
        [[&[0xee; 14][..], first, second].concat()]
    );
    let counters = bench.queue.counters();
    assert_eq!((counters.tx_frames, counters.tx_slices), (3, 2));
    assert_at_rest(&mut bench);
}

#[test]
fn a_slice_is_under_way_until_its_completion_names_it() {
    let mut bench = bench(true);
    bench.nic.hold_completions(true);
    // The same bytes twice, as when they are sent again.
    for _ in 0..2 {
        begin(&mut bench.queue);
        let slice = slice(&bench.queue, &bench.blocks[64..1064]);
        bench.queue.send_slice(slice, false).expect("room");
    }
    sent(&mut bench);
    let mut places = Vec::new();
    for (completed, left) in [(1, 2), (1, 1), (1, 1), (1, 0)] {
        assert_eq!(bench.nic.complete(completed), completed);
        assert_eq!(bench.queue.reap_each(|place| places.push(place)), 1);
        assert_eq!(bench.queue.slices_in_flight(), left);
    }
    assert_eq!(places, [64, 64]);
    assert_at_rest(&mut bench);
}

#[test]
fn what_no_descriptor_may_name_is_to_be_copied() {
    let bench = bench(true);
    let elsewhere = [7; 100];
    assert_eq!(bench.queue.cut(&elsewhere), Cut::Copy(100));
    let block = &bench.blocks[CHUNK_BYTES..2 * CHUNK_BYTES + 100];
    assert_eq!(bench.queue.cut(block), Cut::Copy(16));
    assert_eq!(bench.queue.cut(&block[..9]), Cut::Copy(9));
    assert_eq!(bench.queue.cut(&block[15..]), Cut::Copy(1));
    match bench.queue.cut(&block[16..]) {
        Cut::Slice(slice) => {
            assert_eq!(slice.len(), CHUNK_BYTES - 16);
            assert_eq!(slice.place(), CHUNK_BYTES as u64 + 16);
        }
        copy @ Cut::Copy(_) => panic!("{copy:?}"),
    }
}

#[test]
fn without_metadata_a_chunk_is_one_slice() {
    let bench = bench(false);
    let slice = slice(&bench.queue, &bench.blocks[..CHUNK_BYTES]);
    assert_eq!((slice.place(), slice.len()), (0, CHUNK_BYTES));
}

#[test]
fn a_slice_does_not_begin_a_packet() {
    let mut bench = bench(true);
    let slice = slice(&bench.queue, &bench.blocks[100..200]);
    assert!(bench.queue.send_slice(slice, false).is_err());
    assert_eq!(bench.queue.counters().tx_refused, 1);
    assert!(sent(&mut bench).is_empty());
    assert_at_rest(&mut bench);
}

#[test]
fn bytes_that_change_under_way_leave_as_they_are_when_they_are_read() {
    let (mut queue, mut nic, blocks) = parts(128, true);
    blocks[100..200].fill(1);
    begin(&mut queue);
    let slice = slice(&queue, &blocks[100..200]);
    queue.send_slice(slice, false).expect("room");
    let _ = queue.kick();
    blocks[100..150].fill(2);
    let mut sent = Vec::new();
    nic.transmit(u32::MAX, |pieces, _| {
        // The owner of the blocks has them to itself, whatever it promised.
        blocks.fill(3);
        sent.extend_from_slice(pieces[1]);
    });
    assert_eq!(sent, [[2; 50], [1; 50]].concat());
}

#[test]
fn a_slice_of_a_queue_with_other_memory_is_refused() {
    let mut bench = bench(true);
    // There the block area begins where this one has frames.
    let (other, _nic, blocks) = parts(64, true);
    let foreign = slice(&other, &blocks[100..200]);
    begin(&mut bench.queue);
    assert!(bench.queue.send_slice(foreign, false).is_err());
    assert_eq!(bench.queue.counters().tx_refused, 1);
    // And there a descriptor may begin where the kernel looks for metadata here.
    let (other, _nic, blocks) = parts(128, false);
    let foreign = slice(&other, &blocks[..100]);
    assert!(bench.queue.send_slice(foreign, false).is_err());
    assert_eq!(bench.queue.abandon_packet(), 1);
    assert!(sent(&mut bench).is_empty());
    assert_at_rest(&mut bench);
}

#[test]
fn a_packet_has_no_more_pieces_than_the_driver_takes() {
    let mut bench = bench(true);
    bench.queue = bench.queue.with_packet_frames(3);
    let slice = slice(&bench.queue, &bench.blocks[100..200]);
    begin(&mut bench.queue);
    bench.queue.send_slice(slice, true).expect("the second");
    assert!(
        bench.queue.send_slice(slice, true).is_err(),
        "the third is the last"
    );
    bench.queue.send_slice(slice, false).expect("the third");
    assert_eq!(sent(&mut bench).len(), 1);
    assert_at_rest(&mut bench);
}

#[test]
fn an_abandoned_packet_gives_its_slices_back_and_nothing_leaves() {
    let mut bench = bench(true);
    let slice = slice(&bench.queue, &bench.blocks[100..200]);
    begin(&mut bench.queue);
    bench.queue.send_slice(slice, true).expect("room");
    bench.queue.send_slice(slice, true).expect("room");
    assert_eq!(bench.queue.slices_in_flight(), 2);
    assert_eq!(bench.queue.abandon_packet(), 3);
    assert_eq!(bench.queue.slices_in_flight(), 0);
    assert!(sent(&mut bench).is_empty());
    assert_at_rest(&mut bench);
}

#[test]
fn slices_need_room_for_their_completions() {
    let mut bench = bench(true);
    bench.nic.hold_completions(true);
    let slice = slice(&bench.queue, &bench.blocks[100..200]);
    for _ in 0..16 {
        begin(&mut bench.queue);
        bench.queue.send_slice(slice, false).expect("room");
    }
    // The TX ring is empty; the completion ring, of 32 entries, is spoken for.
    assert_eq!(sent(&mut bench).len(), 16);
    assert_eq!(bench.queue.tx_slots(), 0);
    bench.nic.complete(2);
    bench.queue.reap();
    assert_eq!(bench.queue.tx_slots(), 2);
    assert_at_rest(&mut bench);
}

/// Sends `bytes` behind a header as a worker would: slices where that is possible, frames between them.
fn send_from_blocks(queue: &mut Queue, bytes: &[u8]) -> Vec<u64> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = queue.cut(rest);
        let len = match cut {
            Cut::Slice(slice) => slice.len(),
            Cut::Copy(len) => len,
        };
        pieces.push((cut, &rest[..len]));
        rest = &rest[len..];
    }
    let mut places = Vec::new();
    begin(queue);
    let last = pieces.len() - 1;
    for (index, (cut, bytes)) in pieces.into_iter().enumerate() {
        let more = index < last;
        match cut {
            Cut::Slice(slice) => {
                places.push(slice.place());
                queue.send_slice(slice, more).expect("room");
            }
            Cut::Copy(len) => {
                let mut frame = queue.tx_frame().expect("a free frame");
                frame.bytes_mut()[..len].copy_from_slice(bytes);
                let len = u32::try_from(len).expect("a few");
                queue.send(frame, len, more, None).expect("room");
            }
        }
    }
    places
}

proptest! {
    /// Any part of the block area arrives as it lies there, and every place comes back as often as it was sent.
    #[test]
    fn any_part_of_the_blocks_arrives_byte_for_byte(
        parts in prop::collection::vec((0..BLOCKS * BLOCK_BYTES - 1, 1_usize..24_000), 1..40),
        tx_metadata: bool,
    ) {
        let mut bench = bench(tx_metadata);
        let mut reaped = Vec::new();
        let mut places = Vec::new();
        for (start, len) in parts {
            let end = (start + len).min(bench.blocks.len());
            let part = &bench.blocks[start..end];
            places.extend(send_from_blocks(&mut bench.queue, part));
            let packets = sent(&mut bench);
            prop_assert_eq!(packets.len(), 1);
            prop_assert_eq!(&packets[0][..14], &[0xee; 14][..]);
            prop_assert!(packets[0][14..] == *part);
            bench.queue.reap_each(|place| reaped.push(place));
        }
        prop_assert!(bench.queue.bound().max_packet_frames == MAX_PACKET_FRAMES);
        prop_assert_eq!(places, reaped);
        assert_at_rest(&mut bench);
    }
}
