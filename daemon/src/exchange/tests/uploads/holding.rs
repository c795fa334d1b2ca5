//! Uploads that wait for the blocks of others. The site has four of them.

use super::*;

const HOLD: u64 = 8;

fn four_blocks() -> Site {
    site(8)
}

/// An upload that has sent its head and `blocks` blocks ready, if it may have them.
fn holder(path: &str, blocks: u32, site: &mut Site) -> Peer {
    let mut peer = begun(put_head(path, "Content-Length: 1000000\r\n"), site);
    peer.exchange.set_wanted(Some(65_536 * (blocks - 1)));
    peer.turn(site);
    peer
}

/// An upload that waits for its first block.
fn unserved(path: &str, site: &mut Site) -> Peer {
    let mut peer = Peer::new(site);
    peer.send(with_length(path, b"hello"), site);
    for _ in 0..TURNS_MAX {
        peer.turn(site);
        if peer.exchange.deadline(&site.services).is_some() {
            assert!(peer.last.waiting);
            return peer;
        }
        site.wait_for_disk();
    }
    panic!("it is served, or waits without an end");
}

#[test]
fn an_upload_that_gets_no_block_is_503_after_the_time_for_a_head() {
    let mut site = four_blocks();
    let holder = holder("/held", 4, &mut site);
    assert_eq!(site.services.disk.ledger().uploading, 4);
    let mut late = unserved("/late", &mut site);
    site.pass(9);
    late.exchange.on_deadline(site.now, &mut site.services);
    late.turn(&mut site);
    assert!(late.last.waiting && late.received.is_empty());
    site.pass(1);
    late.exchange.on_deadline(site.now, &mut site.services);
    late.run(&mut site);
    let (head, _) = late.only_response();
    assert_eq!(
        (status(&head), field(&head, "Retry-After")),
        ("503", Some("10"))
    );
    assert!(late.last.finish);
    late.end(&mut site);
    holder.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), Vec::<String>::new());
}

#[test]
fn who_holds_blocks_and_sends_less_than_one_in_eight_seconds_is_408_while_others_wait() {
    let mut site = four_blocks();
    let mut slow = holder("/slow", 4, &mut site);
    let mut late = unserved("/late", &mut site);
    slow.send(vec![0; BLOCK_BYTES - 1], &mut site);
    slow.turn(&mut site);
    site.pass(HOLD);
    assert_eq!(slow.exchange.deadline(&site.services), Some(site.now));
    slow.exchange.on_deadline(site.now, &mut site.services);
    slow.run(&mut site);
    assert_eq!(slow.statuses(), ["408"]);
    late.run(&mut site);
    assert_eq!(late.statuses(), ["201"]);
    slow.end(&mut site);
    late.end(&mut site);
    site.assert_at_rest();
    assert_eq!(site.services.counters.too_slow, 1);
}

#[test]
fn who_fills_a_block_in_eight_seconds_keeps_its_blocks() {
    let mut site = four_blocks();
    let mut steady = holder("/steady", 4, &mut site);
    let late = unserved("/late", &mut site);
    for _ in 0..3 {
        // What was filled may come back or go to the other, but three are more than both began with.
        steady.send(vec![0; BLOCK_BYTES / 2], &mut site);
        steady.turn(&mut site);
        steady.send(vec![0; BLOCK_BYTES / 2], &mut site);
        steady.exchange.on_deadline(site.now, &mut site.services);
        site.pass(HOLD);
    }
    steady.turn(&mut site);
    assert!(steady.received.is_empty());
    assert_eq!(site.services.counters.too_slow, 0);
    late.end(&mut site);
    steady.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_slow_upload_keeps_its_blocks_while_nobody_wants_them() {
    let mut site = four_blocks();
    let mut slow = holder("/slow", 4, &mut site);
    for _ in 0..3 {
        site.pass(HOLD);
        slow.exchange.on_deadline(site.now, &mut site.services);
        slow.turn(&mut site);
    }
    assert!(slow.received.is_empty());
    assert_eq!(site.services.disk.ledger().uploading, 4);
    slow.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn an_upload_with_room_that_is_refused_a_block_asks_again_and_its_clock_goes_on() {
    let mut site = four_blocks();
    let greedy = holder("/greedy", 3, &mut site);
    let mut other = holder("/other", 2, &mut site);
    assert_eq!(site.services.disk.ledger().uploading, 4);
    assert!(other.last.asks_again && !other.last.waiting);
    let deadline = other.exchange.deadline(&site.services);
    assert_eq!(deadline, Some(site.now + Duration::from_secs(30)));
    let edge = other.window_room(&site);
    greedy.end(&mut site);
    assert!(site.services.poll(784_111_777), "it is told");
    other.turn(&mut site);
    assert!(!other.last.asks_again);
    assert!(other.window_room(&site) > edge);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn what_comes_between_the_end_of_a_slow_upload_and_its_answer_is_dropped() {
    for fields in [
        "Content-Length: 1000000\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let mut site = four_blocks();
        let mut peer = begun(put_head("/a", fields) + "5\r\nhello\r\n", &mut site);
        site.pass(30);
        assert!(peer.received.is_empty());
        peer.exchange.on_deadline(site.now, &mut site.services);
        // As much as a transport reads that asks for room first.
        let room = peer.exchange.room(&site.services).min(200_000);
        assert!(peer.exchange.vacancy().is_empty());
        peer.send(vec![b'0'; room], &mut site);
        assert_eq!(room, 200_000, "it is read away");
        peer.run(&mut site);
        assert_eq!(peer.statuses(), ["408"], "{fields}");
        assert!(peer.last.finish && !peer.last.abort);
        peer.end(&mut site);
        site.assert_at_rest();
    }
}

#[test]
fn blocks_at_the_disk_count_in_the_share_of_their_upload() {
    let mut site = site(12);
    let mut other = holder("/other", 2, &mut site);
    let mut fast = holder("/fast", 2, &mut site);
    assert_eq!(site.services.disk.ledger().uploading, 4);
    let room = other.window_room(&site);
    // What it has sent waits for the disk, since no turn ends.
    for _ in 0..2 {
        fast.send(vec![0; BLOCK_BYTES], &mut site);
        fast.turn(&mut site);
    }
    assert_eq!(site.services.disk.ledger().uploading, 5, "three of six");
    assert!(fast.last.asks_again, "one will come back");
    other.exchange.set_wanted(Some(2 * 65_536));
    other.turn(&mut site);
    assert_eq!(other.window_room(&site), room + BLOCK_BYTES);
    let rest = vec![0; 1_000_000 - 2 * BLOCK_BYTES];
    fast.send_within_window(&rest, BLOCK_BYTES, &mut site);
    fast.run(&mut site);
    assert_eq!(fast.statuses(), ["201"]);
    fast.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_share_of_one_block_leaves_no_room_that_a_window_cannot_say() {
    let mut site = site(12);
    let small: Vec<Peer> = (0..3)
        .map(|n| {
            let head = put_head(&format!("/{n}"), "Content-Length: 10\r\n");
            begun(head, &mut site)
        })
        .collect();
    let mut peer = holder("/long", 1, &mut site);
    assert_eq!(site.services.disk.ledger().uploading, 4);
    assert_eq!(peer.window_room(&site), BLOCK_BYTES);
    peer.send(vec![0; BLOCK_BYTES - 100], &mut site);
    peer.turn(&mut site);
    assert_eq!(peer.window_room(&site), BLOCK_BYTES + 100);
    for peer in small.into_iter().chain([peer]) {
        peer.end(&mut site);
    }
    site.assert_at_rest();
}
