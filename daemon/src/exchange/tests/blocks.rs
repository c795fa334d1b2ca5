//! Shared things: blocks, files and workspaces, under pressure and under failure.

use super::*;
use proptest::prelude::*;
use rustix::fs::{Advice, fadvise};
use std::fs::File;

#[test]
fn a_file_truncated_while_served_ends_in_an_abort_and_no_wrong_byte() {
    let mut site = Site::new();
    let content = site.file("big", 20 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 100_000;
    peer.get("/big", &mut site);
    for _ in 0..3 {
        peer.turn(&mut site);
    }
    let file = File::options()
        .write(true)
        .open(site.directory.path().join("big"))
        .expect("open");
    file.set_len(as_u64(5 * BLOCK_BYTES)).expect("truncate");
    peer.run(&mut site);
    assert!(peer.last.abort);
    assert!(
        !peer.last.finish,
        "a FIN would make the cut body look whole"
    );
    let (_, body) = peer.only_response();
    assert!(body.len() < content.len());
    assert!(content.starts_with(&body));
    assert_eq!(
        site.services.counters.aborted_shrunk + site.services.counters.aborted_changed,
        1
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn responses_before_a_failing_one_go_out_whole() {
    let mut site = Site::new();
    let small = site.file("small", 100_000);
    site.file("big", 4 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 1000;
    peer.get("/small", &mut site);
    peer.get("/big", &mut site);
    peer.turn(&mut site);
    let file = File::options()
        .write(true)
        .open(site.directory.path().join("big"))
        .expect("open");
    file.set_len(1).expect("truncate");
    peer.window = 1 << 20;
    peer.run(&mut site);
    assert!(peer.last.abort);
    assert!(peer.responses()[0].1 == small);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn unacknowledged_bytes_can_be_read_again() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let progress = peer
        .exchange
        .advance(u64::MAX, site.now, &mut site.services);
    let read_all = |exchange: &Exchange, services: &Services| {
        let mut all = Vec::new();
        while as_u64(all.len()) < progress.ready_until {
            all.extend_from_slice(exchange.bytes(as_u64(all.len()), 999, services));
        }
        all
    };
    let first = read_all(&peer.exchange, &site.services);
    let again = read_all(&peer.exchange, &site.services);
    assert!(first == again);
    assert!(first.ends_with(&content));
    peer.end(&mut site);
}

#[test]
fn a_peer_that_closes_its_window_keeps_no_block() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let _ = peer.exchange.advance(300_000, site.now, &mut site.services);
    assert!(site.services.disk.ledger().pinned > 0);
    let progress = peer.exchange.advance(0, site.now, &mut site.services);
    assert_eq!(site.services.disk.ledger().pinned, 0);
    assert!(progress.more);
    peer.run(&mut site);
    assert_eq!(peer.only_response().1.len(), 8 * BLOCK_BYTES);
    peer.end(&mut site);
    site.assert_at_rest();
}

/// Sets all of a file's pages free, so that the next read of it goes to a helper thread where the file system has a
/// disk behind it.
fn cool(path: &std::path::Path) {
    let file = File::open(path).expect("open");
    file.sync_all().expect("fsync");
    fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
}

#[test]
fn two_hundred_connections_share_sixty_four_blocks() {
    for cold in [false, true] {
        let mut site = Site::with(64, &ServicesConfig::default());
        let files: Vec<_> = (0..200)
            .map(|n| site.file(&format!("f{n}"), 5 * BLOCK_BYTES + n))
            .collect();
        if cold {
            for n in 0..200 {
                cool(&site.directory.path().join(format!("f{n}")));
            }
        }
        let mut peers: Vec<_> = (0..200).map(|_| Peer::new(&site)).collect();
        for (n, peer) in peers.iter_mut().enumerate() {
            peer.window = 1 << 20;
            peer.get(&format!("/f{n}"), &mut site);
        }
        let done = |peer: &Peer| peer.exchange.is_idle() && !peer.received.is_empty();
        let mut turns = 0;
        // In flight for one round each, so that all of them hold what they got at the same time.
        while !peers.iter().all(done) {
            let mut moved = false;
            for peer in &mut peers {
                let from = peer.acknowledged();
                peer.last = peer
                    .exchange
                    .advance(from + peer.window, site.now, &mut site.services);
            }
            assert!(site.services.disk.ledger().balanced());
            for peer in &mut peers {
                let mut at = peer.acknowledged();
                while at < peer.last.ready_until {
                    let piece = peer.exchange.bytes(at, 65_536, &site.services);
                    assert!(!piece.is_empty());
                    peer.received.extend_from_slice(piece);
                    at += as_u64(piece.len());
                    moved = true;
                }
                peer.exchange.acknowledged(at, site.now, &mut site.services);
            }
            if !moved {
                site.wait_for_disk();
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "a connection starves");
        }
        for (peer, content) in peers.iter().zip(&files) {
            assert!(peer.only_response().1 == *content);
        }
        for peer in peers {
            peer.end(&mut site);
        }
        site.assert_at_rest();
    }
}

/// With a single block a connection would stand still at the end of each, until its peer has acknowledged what is left of it
/// behind the last whole segment.
#[test]
fn many_readers_of_one_file_hold_more_than_their_share_of_the_blocks() {
    let mut site = Site::with(64, &ServicesConfig::default());
    site.file("same", 4 * BLOCK_BYTES);
    let mut peers: Vec<_> = (0..200).map(|_| Peer::new(&site)).collect();
    for peer in &mut peers {
        peer.get("/same", &mut site);
    }
    for _ in 0..2 {
        for peer in &mut peers {
            peer.last = peer.exchange.advance(1 << 20, site.now, &mut site.services);
        }
    }
    assert_eq!(site.services.disk.ledger().pinned, 4);
    for peer in peers {
        assert!(
            peer.last.ready_until > as_u64(4 * BLOCK_BYTES),
            "the whole response"
        );
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn a_connection_without_blocks_goes_before_those_that_have_some() {
    let config = ServicesConfig {
        read_ahead_blocks: 0,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(4, &config);
    site.file("greedy", 40 * BLOCK_BYTES);
    let late = site.file("late", 2 * BLOCK_BYTES);
    let mut greedy = Peer::new(&site);
    greedy.window = 1 << 30;
    greedy.get("/greedy", &mut site);
    greedy.last = greedy
        .exchange
        .advance(greedy.window, site.now, &mut site.services);
    assert_eq!(site.services.disk.ledger().pinned, 4, "all there are");
    let mut other = Peer::new(&site);
    other.get("/late", &mut site);
    other.turn(&mut site);
    assert!(other.last.waiting);
    // One block of the greedy one comes back: it is not for the greedy one.
    greedy
        .exchange
        .acknowledged(as_u64(BLOCK_BYTES) + 500, site.now, &mut site.services);
    let progress = greedy
        .exchange
        .advance(1 << 30, site.now, &mut site.services);
    assert_eq!(progress.ready_until, greedy.last.ready_until);
    assert!(site.services.poll(784_111_777));
    other.run(&mut site);
    assert!(other.only_response().1 == late);
    greedy.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn without_a_workspace_request_bytes_are_refused_until_one_is_free() {
    let config = ServicesConfig {
        connections: 1,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(8, &config);
    let content = site.file("a", 10);
    let mut first = Peer::new(&site);
    let mut second = Peer::new(&site);
    first.send("GET /a", &mut site);
    first.run(&mut site);
    assert_eq!(second.exchange.room(&site.services), 0);
    assert!(!second.exchange.place(0, b"GET", &mut site.services));
    assert_eq!(site.services.counters.no_workspace, 1);
    first.send(" HTTP/1.1\r\nHost: test\r\n\r\n", &mut site);
    first.run(&mut site);
    assert!(site.services.poll(784_111_777), "waiters are told");
    second.get("/a", &mut site);
    second.run(&mut site);
    assert_eq!(second.only_response().1, content);
    first.end(&mut site);
    second.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn when_every_file_slot_is_taken_a_request_waits_for_its_own_or_gets_503() {
    let mut site = Site::new();
    let disk_config = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 4,
        direct_above: None,
        uploads: sluice_disk::UploadLimits::NONE,
    };
    site.services.disk = Disk::anonymous(8 * BLOCK_BYTES, &disk_config).expect("disk");
    let (a, b) = (site.file("a", 100), site.file("b", 200));
    let mut own = Peer::new(&site);
    own.get("/a", &mut site);
    own.get("/b", &mut site);
    let _ = own.exchange.advance(10, site.now, &mut site.services);
    let mut other = Peer::new(&site);
    other.get("/b", &mut site);
    other.run(&mut site);
    assert_eq!(status(&other.only_response().0), "503");
    own.run(&mut site);
    let bodies: Vec<_> = own.responses().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [a, b]);
    own.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn tearing_down_in_the_middle_gives_everything_back() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    for _ in 0..5 {
        peer.get("/big", &mut site);
    }
    let _ = peer.exchange.advance(400_000, site.now, &mut site.services);
    peer.end(&mut site);
    assert_eq!(site.services.counters.abandoned, 1);
    site.assert_at_rest();
}

#[test]
fn an_idle_exchange_is_small() {
    assert!(size_of::<Exchange>() <= 128, "{}", size_of::<Exchange>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the transport wants, reads and acknowledges in whatever order, the stream is the same.
    #[test]
    fn any_schedule_of_the_transport_gives_the_same_stream(
        seed_sizes in proptest::collection::vec(0usize..200_000, 1..6),
        steps in proptest::collection::vec((0u64..300_000, 0u64..200_000, any::<bool>()), 20..200),
    ) {
        let mut site = Site::with(6, &ServicesConfig::default());
        let mut expected = Peer::new(&site);
        let mut peer = Peer::new(&site);
        for (n, &size) in seed_sizes.iter().enumerate() {
            site.file(&format!("f{n}"), size);
            // An old file, whose tag is strong whenever it is asked for.
            let path = site.directory.path().join(format!("f{n}"));
            let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(path).and_then(|file| file.set_modified(old)).expect("set mtime");
            expected.get(&format!("/f{n}"), &mut site);
            expected.run(&mut site);
            peer.get(&format!("/f{n}"), &mut site);
        }
        let stream = expected.received.clone();
        let mut in_flight = 0;
        for (window, acknowledge, look) in steps {
            let from = peer.acknowledged();
            // Not below what was sent.
            let horizon = (from + window).max(in_flight);
            let progress = peer.exchange.advance(horizon, site.now, &mut site.services);
            prop_assert!(!progress.abort);
            in_flight = in_flight.max(progress.ready_until.min(horizon));
            if look && from < progress.ready_until {
                let piece = peer.exchange.bytes(from, 5000, &site.services);
                let at = usize::try_from(from).expect("small");
                prop_assert!(stream[at..].starts_with(piece));
            }
            let until = (from + acknowledge).min(in_flight);
            let mut at = from;
            while at < until {
                let most = usize::try_from(until - at).expect("small");
                let piece = peer.exchange.bytes(at, most, &site.services);
                prop_assert!(!piece.is_empty());
                peer.received.extend_from_slice(piece);
                at += as_u64(piece.len());
            }
            peer.exchange.acknowledged(at, site.now, &mut site.services);
            let _ = site.services.poll(784_111_777);
            prop_assert!(site.services.disk.ledger().balanced());
        }
        peer.run(&mut site);
        prop_assert!(peer.received == stream);
        peer.end(&mut site);
        expected.end(&mut site);
        site.assert_at_rest();
    }
}

#[test]
fn a_crowd_of_partial_heads_costs_little_and_is_bounded() {
    let config = ServicesConfig {
        connections: 100,
        request_bytes: 40 * 1024,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(8, &config);
    let mut crowd: Vec<Peer> = (0..100).map(|_| Peer::new(&site)).collect();
    for peer in &mut crowd {
        peer.send("G", &mut site);
        peer.run(&mut site);
    }
    assert_eq!(site.services.queues_out(), 0, "a byte is no request");
    let long = vec![b'x'; 10_000];
    let kept = crowd
        .iter_mut()
        .filter_map(|peer| {
            peer.exchange
                .place(1, &long, &mut site.services)
                .then_some(())
        })
        .count();
    assert_eq!(kept, 2, "of 40 KiB, two heads of up to 16 KiB");
    assert_eq!(site.services.counters.no_workspace, 98);
    for peer in crowd {
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn a_request_for_which_there_is_no_memory_waits_for_it() {
    let config = ServicesConfig {
        response_bytes: 1,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(8, &config);
    let content = site.file("a", 100_000);
    let mut first = Peer::new(&site);
    first.get("/a", &mut site);
    first.window = 1000;
    first.turn(&mut site);
    let mut second = Peer::new(&site);
    second.get("/a", &mut site);
    second.turn(&mut site);
    assert!(second.last.waiting);
    first.window = 1 << 20;
    first.run(&mut site);
    second.run(&mut site);
    assert_eq!(second.only_response().1, content);
    first.end(&mut site);
    second.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_byte_taken_after_its_block_went_back_counts() {
    // A window probe: sent, given back, and acknowledged later.
    let mut site = Site::new();
    let content = site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.get("/a", &mut site);
    peer.window = 1;
    while peer.last.ready_until == 0 {
        peer.turn(&mut site);
        site.wait_for_disk();
    }
    let head_len = peer.last.ready_until;
    let end = head_len + as_u64(content.len());
    let at = end - 1;
    while peer
        .exchange
        .advance(end, site.now, &mut site.services)
        .waiting
    {
        site.wait_for_disk();
    }
    peer.exchange.acknowledged(at, site.now, &mut site.services);
    let given_back = peer.exchange.advance(at, site.now, &mut site.services);
    assert_eq!(given_back.ready_until, at);
    assert_eq!(site.services.disk.ledger().pinned, 0);
    peer.exchange
        .acknowledged(end, site.now, &mut site.services);
    assert!(peer.exchange.is_idle());
    assert_eq!(site.services.disk.ledger().pinned, 0);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_holder_that_takes_nothing_is_told_from_one_that_does() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let hold = Duration::from_secs(8);
    for (per_second, slow) in [(100, true), (20_000, false)] {
        let mut peer = Peer::new(&site);
        peer.get("/big", &mut site);
        let mut acknowledged = 0;
        let mut found = false;
        for _ in 0..10 {
            while peer
                .exchange
                .advance(acknowledged + 200_000, site.now, &mut site.services)
                .waiting
            {
                site.wait_for_disk();
            }
            let holding = peer.exchange.holding(hold, 65_536, site.now);
            found |= matches!(holding, Holding::TooLong { .. });
            acknowledged += per_second;
            site.pass(1);
            peer.exchange
                .acknowledged(acknowledged, site.now, &mut site.services);
        }
        assert_eq!(found, slow, "{per_second} bytes a second");
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn a_queue_that_had_a_long_flight_keeps_no_memory_of_it() {
    let config = ServicesConfig {
        blocks_per_connection: 200,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(200, &config);
    let content = site.file("big", 180 * BLOCK_BYTES);
    let fresh = site.services.take_queue().expect("a warm one");
    let made = fresh.pins_made();
    site.services.give_back_queue(fresh);
    let mut peer = Peer::new(&site);
    peer.window = 1 << 30;
    peer.get("/big", &mut site);
    peer.run(&mut site);
    assert!(peer.only_response().1 == content);
    assert_eq!(site.services.queues_out(), 0, "the response is over");
    let used = site.services.take_queue().expect("that one");
    assert_eq!(used.pins_made(), made);
    site.services.give_back_queue(used);
    peer.end(&mut site);
    site.assert_at_rest();
}
