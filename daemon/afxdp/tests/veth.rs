//! Real AF_XDP sockets on a veth pair, each test in a network namespace of its own.
//!
//! They need root; without it each prints `SKIP` and the reason.
#![cfg(not(loom))]

mod rig;

use std::time::{Duration, Instant};

use rig::{Attach, Link, PacketSocket, Redirect, Seen, frame, on_a_link};
use sluice_afxdp::{
    Bind, Cut, HugePages, Kick, MAX_PACKET_FRAMES, OpenError, Queue, QueueConfig, RxBatch,
    TxChecksum, Umem, UmemConfig,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn umem() -> Umem {
    Umem::new(&UmemConfig {
        frames: 512,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory")
}

fn config(link: &Link, queue: u32) -> QueueConfig {
    QueueConfig {
        bind: Bind::Copy,
        rx_ring: 256,
        tx_ring: 256,
        fill_ring: 256,
        completion_ring: 256,
        tx_budget: 256,
        ..QueueConfig::new(link.near, queue)
    }
}

fn open(link: &Link, queue: u32) -> Queue {
    Queue::open(umem(), &config(link, queue)).expect("a veth in copy mode")
}

/// Queues `bytes` as one packet of frames of at most `most` bytes.
fn send(queue: &mut Queue, bytes: &[u8], most: usize, checksum: Option<TxChecksum>) {
    let pieces = bytes.len().div_ceil(most);
    for (index, piece) in bytes.chunks(most).enumerate() {
        let mut frame = queue.tx_frame().expect("a free frame");
        queue.buffer(&mut frame)[..piece.len()].copy_from_slice(piece);
        let len = u32::try_from(piece.len()).expect("a piece");
        let checksum = checksum.filter(|_| index == 0);
        queue
            .send(frame, len, index + 1 < pieces, checksum)
            .expect("room in the ring");
    }
}

/// Kicks until everything is sent, reaps until everything came back.
fn flush(queue: &mut Queue) {
    let start = Instant::now();
    while queue.ledger().tx_in_flight > 0 {
        assert!(
            start.elapsed() < PATIENCE,
            "{:?} {:?}",
            queue.ledger(),
            queue.counters()
        );
        let kick = queue.kick();
        assert!(
            matches!(kick, Kick::Idle | Kick::Done | Kick::Again),
            "{kick:?}"
        );
        queue.reap();
    }
}

/// Receives until `count` packets of the tests came; others (neighbour discovery) are skipped.
fn receive(queue: &mut Queue, count: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut batch = RxBatch::with_capacity(64);
    let mut packets = Vec::new();
    while packets.len() < count {
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {count}, {:?}, {:?}",
            packets.len(),
            queue.counters(),
            queue.statistics()
        );
        queue.receive(&mut batch);
        packets.extend(
            batch
                .packets()
                .map(|packet| packet.pieces().collect::<Vec<_>>().concat())
                .filter(|packet| packet.get(12..14) == Some(&rig::ETHERTYPE.to_be_bytes())),
        );
        queue.recycle(&mut batch);
    }
    packets
}

fn assert_settled(queue: &Queue) {
    let ledger = queue.ledger();
    assert!(ledger.balanced() && ledger.at_rest(), "{ledger:?}");
    assert_eq!(queue.counters().rx_invalid, 0);
    assert_eq!(queue.counters().completions_invalid, 0);
    let statistics = queue.statistics().expect("a bound socket");
    assert_eq!(statistics.tx_invalid_descs, 0);
    assert_eq!(statistics.rx_invalid_descs, 0);
}

#[test]
fn a_queue_reports_how_it_is_really_bound() {
    on_a_link(|link| {
        for bind in [Bind::Copy, Bind::Auto] {
            let config = QueueConfig {
                bind,
                ..config(link, 0)
            };
            let queue = Queue::open(umem(), &config).expect("a veth can be bound");
            let bound = queue.bound();
            // A veth has no zero copy, and "auto" says so.
            assert!(!bound.zero_copy);
            assert!(
                bound.tx_checksum && bound.multi_buffer && bound.need_wakeup && !bound.huge_pages
            );
            assert_eq!(bound.max_packet_frames, MAX_PACKET_FRAMES);
            assert!(matches!(bound.tx_budget, None | Some(256)));
            assert!(bound.send_buffer >= 16 << 20, "{bound:?}");
            assert_settled(&queue);
        }
    });
}

#[test]
fn huge_pages_are_used_if_there_are_any_and_carry_packets() {
    on_a_link(|link| {
        let umem = Umem::new(&UmemConfig {
            frames: 512,
            block_bytes: 1 << 20,
            huge_pages: HugePages::Auto,
            tx_metadata: true,
        })
        .expect("memory");
        let huge = umem.huge_pages();
        let mut queue = Queue::open(umem, &config(link, 0)).expect("a veth in copy mode");
        assert_eq!(queue.bound().huge_pages, huge);
        let far = PacketSocket::open(link.far);
        send(&mut queue, &frame(1, 100), 4080, None);
        flush(&mut queue);
        assert_eq!(far.receive().bytes, frame(1, 100));
        assert_settled(&queue);
    });
}

#[test]
fn forced_zero_copy_on_a_veth_is_a_clear_error() {
    on_a_link(|link| {
        for multi_buffer in [false, true] {
            let config = QueueConfig {
                bind: Bind::ZeroCopy,
                multi_buffer,
                ..config(link, 0)
            };
            let error = Queue::open(umem(), &config).expect_err("a veth has no zero copy");
            assert!(
                matches!(error, OpenError::ZeroCopyUnsupported { .. }),
                "{error:?}"
            );
        }
    });
}

#[test]
fn a_queue_that_the_interface_does_not_have_is_refused_with_its_channels() {
    on_a_link(|link| {
        let error = Queue::open(umem(), &config(link, 2)).expect_err("there are two");
        assert!(
            matches!(
                error,
                OpenError::NoSuchQueue {
                    queue: 2,
                    rx: Some(2),
                    tx: Some(2)
                }
            ),
            "{error:?}"
        );
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    on_a_link(|link| {
        let absent = QueueConfig {
            ifindex: 9999,
            ..config(link, 0)
        };
        let error = Queue::open(umem(), &absent).expect_err("no such interface");
        assert!(
            matches!(error, OpenError::NoSuchInterface { ifindex: 9999 }),
            "{error:?}"
        );
    });
}

#[test]
fn a_queue_of_a_downed_interface_can_be_opened_and_works_once_it_is_up() {
    on_a_link(|link| {
        link.set_near("down");
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        send(&mut queue, &frame(1, 100), 4080, None);
        assert_eq!(queue.kick(), Kick::Down);
        link.set_near("up");
        flush(&mut queue);
        assert_eq!(far.receive().bytes, frame(1, 100));
        assert_settled(&queue);
    });
}

#[test]
fn a_busy_queue_is_waited_for_and_then_named() {
    on_a_link(|link| {
        let first = open(link, 0);
        let start = Instant::now();
        let error = Queue::open(umem(), &config(link, 0)).expect_err("it is in use");
        assert!(
            matches!(error, OpenError::QueueBusy { queue: 0, .. }),
            "{error:?}"
        );
        assert!(start.elapsed() >= Duration::from_millis(500));
        assert_settled(&first);
    });
}

#[test]
fn a_queue_can_be_opened_again_at_once_after_it_was_dropped() {
    on_a_link(|link| {
        for _ in 0..3 {
            assert_settled(&open(link, 0));
        }
    });
}

#[test]
fn a_waiting_open_gets_the_queue_when_it_is_given_up() {
    on_a_link(|link| {
        let first = open(link, 0);
        let releaser = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        let mut queue = open(link, 0);
        releaser.join().expect("the other thread only drops");
        // What was filled before the failed attempts is still there.
        let redirect = Redirect::attach(link.near, Attach::Native);
        redirect.insert(0, queue.fd());
        PacketSocket::open(link.far).send(&frame(1, 100));
        assert_eq!(receive(&mut queue, 1), [frame(1, 100)]);
        assert_settled(&queue);
    });
}

#[test]
fn frames_arrive_at_the_far_end_with_their_checksum_request() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        let request = TxChecksum {
            start: 34,
            offset: 16,
        };
        send(&mut queue, &frame(1, 46), 4080, Some(request));
        send(&mut queue, &frame(2, 1500), 4080, None);
        send(&mut queue, &frame(3, 1500), 4080, Some(request));
        flush(&mut queue);
        for (seed, payload, checksum) in [
            (1, 46, Some((34, 16))),
            (2, 1500, None),
            (3, 1500, Some((34, 16))),
        ] {
            let expected = Seen {
                bytes: frame(seed, payload),
                checksum,
            };
            assert_eq!(far.receive(), expected);
        }
        assert_settled(&queue);
    });
}

#[test]
fn long_frames_leave_as_chains_up_to_the_limit_of_the_kernel() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        let request = TxChecksum {
            start: 34,
            offset: 16,
        };
        // Three frames, and the eighteen that are allowed.
        for (seed, most) in [(1, 4080), (2, 9014_usize.div_ceil(MAX_PACKET_FRAMES))] {
            send(&mut queue, &frame(seed, 9000), most, Some(request));
            flush(&mut queue);
            let expected = Seen {
                bytes: frame(seed, 9000),
                checksum: Some((34, 16)),
            };
            assert_eq!(far.receive(), expected);
        }
        assert_eq!(queue.counters().tx_frames, 21);
        assert_settled(&queue);
    });
}

#[test]
fn slices_of_the_block_area_leave_as_they_lie_there_and_come_back_by_name() {
    for tx_metadata in [true, false] {
        on_a_link(move |link| {
            let mut umem = Umem::new(&UmemConfig {
                frames: 512,
                block_bytes: 64 << 10,
                huge_pages: HugePages::Off,
                tx_metadata,
            })
            .expect("memory");
            let blocks = umem.take_blocks().expect("a block area was asked for");
            for (at, byte) in blocks.iter_mut().enumerate() {
                *byte = (at * 31 + at / 251).to_le_bytes()[0];
            }
            let blocks = &*blocks;
            let mut queue = Queue::open(umem, &config(link, 0)).expect("a veth in copy mode");
            let far = PacketSocket::open(link.far);
            let head = frame(1, 50);
            // Up to the last byte of a chunk, and from the first that a descriptor may name.
            let parts = [&blocks[4096 + 16..8192], &blocks[16_500..17_500]];
            let mut first = queue.tx_frame().expect("a free frame");
            first.bytes_mut()[..head.len()].copy_from_slice(&head);
            let len = u32::try_from(head.len()).expect("short");
            queue.send(first, len, true, None).expect("room");
            for (index, part) in parts.iter().enumerate() {
                let Cut::Slice(slice) = queue.cut(part) else {
                    panic!("{index} can be named");
                };
                assert_eq!(slice.len(), part.len());
                queue.send_slice(slice, index == 0).expect("room");
            }
            let mut places = Vec::new();
            let start = Instant::now();
            while queue.tx_in_flight() > 0 {
                assert!(start.elapsed() < PATIENCE, "{:?}", queue.counters());
                let kick = queue.kick();
                assert!(
                    matches!(kick, Kick::Idle | Kick::Done | Kick::Again),
                    "{kick:?}"
                );
                queue.reap_each(|place| places.push(place));
            }
            assert_eq!(
                far.receive().bytes,
                [&head[..], parts[0], parts[1]].concat()
            );
            assert_eq!(places, [4096 + 16, 16_500]);
            assert_settled(&queue);
        });
    }
}

#[test]
fn a_burst_above_the_budget_is_kicked_again_and_loses_nothing() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let config = QueueConfig {
            tx_budget: 32,
            ..config(link, 0)
        };
        let mut queue = Queue::open(umem(), &config).expect("a veth in copy mode");
        for seed in 0..100 {
            send(&mut queue, &frame(seed, 1000), 4080, None);
        }
        assert_eq!(queue.kick(), Kick::Again);
        flush(&mut queue);
        assert!(queue.counters().kicks_again >= 3, "{:?}", queue.counters());
        for seed in 0..100 {
            assert_eq!(far.receive().bytes, frame(seed, 1000));
        }
        assert_settled(&queue);
    });
}

#[test]
fn rings_wrap_many_times_without_losing_a_frame() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        for round in 0..40 {
            for seed in 0..50 {
                send(&mut queue, &frame(round * 50 + seed, 200), 4080, None);
            }
            flush(&mut queue);
            for seed in 0..50 {
                assert_eq!(far.receive().bytes, frame(round * 50 + seed, 200));
            }
        }
        assert_eq!(queue.counters().tx_packets, 2000);
        assert_settled(&queue);
    });
}

#[test]
fn an_oversized_frame_is_one_lost_frame_and_the_rest_goes_on() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        send(&mut queue, &frame(1, 9100), 4080, None);
        send(&mut queue, &frame(2, 100), 4080, None);
        assert_eq!(queue.kick(), Kick::FrameLost);
        flush(&mut queue);
        assert_eq!(far.receive().bytes, frame(2, 100));
        assert_eq!(queue.counters().kicks_frame_lost, 1);
        assert_settled(&queue);
    });
}

#[test]
fn a_downed_interface_says_so_and_resumes() {
    on_a_link(|link| {
        let far = PacketSocket::open(link.far);
        let mut queue = open(link, 0);
        link.set_near("down");
        send(&mut queue, &frame(1, 100), 4080, None);
        assert_eq!(queue.kick(), Kick::Down);
        link.set_near("up");
        flush(&mut queue);
        assert_eq!(far.receive().bytes, frame(1, 100));
        assert_settled(&queue);
    });
}

fn receives_short_and_long(link: &Link, mode: Attach) {
    let mut queue = open(link, 0);
    let redirect = Redirect::attach(link.near, mode);
    redirect.insert(0, queue.fd());
    let far = PacketSocket::open(link.far);
    let sent: Vec<_> = [46, 1500, 3826, 3827, 9000, 9000, 60]
        .into_iter()
        .enumerate()
        .map(|(seed, payload)| frame(seed, payload))
        .collect();
    // The far end spreads packets over its queues by their hash; these all have the same.
    for frame in &sent {
        far.send(frame);
    }
    assert_eq!(receive(&mut queue, sent.len()), sent);
    assert!(queue.counters().rx_frames > queue.counters().rx_packets);
    assert_settled(&queue);
}

#[test]
fn long_frames_arrive_as_chains_in_native_mode() {
    on_a_link(|link| receives_short_and_long(link, Attach::Native));
}

#[test]
fn long_frames_arrive_as_chains_in_generic_mode() {
    on_a_link(|link| receives_short_and_long(link, Attach::Generic));
}

#[test]
fn without_multi_buffer_long_frames_are_dropped_and_counted_by_the_kernel() {
    on_a_link(|link| {
        let config = QueueConfig {
            multi_buffer: false,
            ..config(link, 0)
        };
        let mut queue = Queue::open(umem(), &config).expect("a veth in copy mode");
        let redirect = Redirect::attach(link.near, Attach::Native);
        redirect.insert(0, queue.fd());
        let far = PacketSocket::open(link.far);
        far.send(&frame(1, 9000));
        far.send(&frame(2, 100));
        assert_eq!(receive(&mut queue, 1), [frame(2, 100)]);
        assert_eq!(queue.statistics().expect("a bound socket").rx_dropped, 1);
        assert_settled(&queue);
    });
}

#[test]
fn two_queues_work_side_by_side() {
    on_a_link(|link| {
        let mut queues = [open(link, 0), open(link, 1)];
        let redirect = Redirect::attach(link.near, Attach::Native);
        for (index, queue) in (0..).zip(&queues) {
            redirect.insert(index, queue.fd());
        }
        let far = PacketSocket::open(link.far);
        for (seed, queue) in queues.iter_mut().enumerate() {
            send(queue, &frame(seed, 500), 4080, None);
            flush(queue);
            assert_eq!(far.receive().bytes, frame(seed, 500));
        }
        for queue in &queues {
            assert_settled(queue);
        }
    });
}

#[test]
fn in_copy_mode_a_ring_that_was_filled_to_bind_drains_to_the_first_depth_and_a_burst_deepens_it() {
    on_a_link(|link| {
        let umem = Umem::new(&UmemConfig {
            frames: 8192,
            block_bytes: 0,
            huge_pages: HugePages::Off,
            tx_metadata: true,
        })
        .expect("memory");
        let config = QueueConfig {
            bind: Bind::Copy,
            ..QueueConfig::new(link.near, 0)
        };
        let mut queue = Queue::open(umem, &config).expect("a veth in copy mode");
        let redirect = Redirect::attach(link.near, Attach::Native);
        redirect.insert(0, queue.fd());
        let far = PacketSocket::open(link.far);
        assert_eq!((queue.fill_depth(), queue.ledger().fill), (512, 2048));
        for _ in 0..40 {
            for seed in 0..50 {
                far.send(&frame(seed, 100));
            }
            receive(&mut queue, 50);
        }
        assert_eq!(queue.fill_depth(), 512);
        // And what else came on the link since the last refill.
        assert!((512..530).contains(&queue.ledger().fill));
        let start = Instant::now();
        while queue.fill_depth() == 512 {
            assert!(start.elapsed() < PATIENCE);
            for seed in 0..100 {
                far.send(&frame(seed, 9000));
            }
            // Until the kernel has brought all three hundred frames.
            std::thread::sleep(Duration::from_millis(20));
            receive(&mut queue, 100);
        }
        assert_eq!(queue.fill_depth(), 1024);
        let statistics = queue.statistics().expect("a bound socket");
        assert_eq!(statistics.rx_fill_ring_empty_descs, 0);
        assert_settled(&queue);
    });
}
