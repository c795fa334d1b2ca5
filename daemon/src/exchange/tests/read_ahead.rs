//! How many blocks are asked for before the transport needs them.
//!
//! A tmpfs cannot say whether a read would wait, so every read from it goes by the helper threads: to an exchange it is a
//! disk whose every block is cold. What the helpers have read shows at the next poll, so a test that does not poll holds
//! the disk still.

use super::*;

/// A site whose blocks are all cold, with room for `blocks` of them.
fn cold_site(blocks: usize) -> Site {
    Site::within(
        std::path::Path::new("/dev/shm"),
        blocks,
        &ServicesConfig::default(),
    )
}

/// A peer with a window of so many blocks that has asked for "/big".
fn asking(site: &mut Site, window_blocks: usize) -> Peer {
    let mut peer = Peer::new(site);
    peer.window = as_u64(window_blocks * BLOCK_BYTES);
    peer.get("/big", site);
    peer
}

/// Turns until the file is open and its first block asked for.
fn first_block_asked(peer: &mut Peer, site: &mut Site) {
    for _ in 0..TURNS_MAX {
        peer.turn(site);
        if site.services.disk.counters().reads_helper > 0 {
            return;
        }
        site.wait_for_disk();
    }
    panic!("nothing is read");
}

fn asked(site: &Site) -> u64 {
    site.services.disk.counters().reads_helper
}

#[test]
fn a_window_is_read_in_one_go_and_as_much_again() {
    let mut site = cold_site(64);
    site.file("big", 60 * BLOCK_BYTES);
    let mut peer = asking(&mut site, 10);
    first_block_asked(&mut peer, &mut site);
    // Nothing has come yet; a look asks for a bounded number.
    let looks: Vec<u64> = (0..4)
        .map(|_| {
            peer.turn(&mut site);
            asked(&site)
        })
        .collect();
    // Eight were asked for when the file was open: a look that finds the next one coming counts it.
    assert_eq!(looks, [16, 20, 20, 20]);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_small_window_reads_a_few_blocks_ahead() {
    let mut site = cold_site(64);
    site.file("big", 60 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 14_600;
    peer.get("/big", &mut site);
    first_block_asked(&mut peer, &mut site);
    for _ in 0..4 {
        peer.turn(&mut site);
    }
    assert_eq!(asked(&site), 1 + 4);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn read_ahead_keeps_to_the_share_of_the_connection() {
    let mut site = cold_site(12);
    site.file("big", 60 * BLOCK_BYTES);
    let mut other = asking(&mut site, 30);
    first_block_asked(&mut other, &mut site);
    let alone = asked(&site);
    assert!(alone <= 12, "all blocks are its share");
    let mut peer = Peer::new(&site);
    peer.window = 1 << 21;
    let from = 40 * BLOCK_BYTES;
    peer.send(
        format!("GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes={from}-\r\n\r\n"),
        &mut site,
    );
    for _ in 0..4 {
        peer.turn(&mut site);
    }
    // Half of the blocks, as far as the first has left them.
    let second = asked(&site) - alone;
    assert!((1..=6).contains(&second), "{alone}, then {second}");
    peer.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_file_in_memory_is_not_read_further_ahead_than_a_block() {
    let mut site = Site::with(64, &ServicesConfig::default());
    site.file("big", 60 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 14_600;
    peer.get("/big", &mut site);
    for _ in 0..8 {
        peer.turn(&mut site);
        site.wait_for_disk();
    }
    let counters = site.services.disk.counters();
    if counters.reads_helper > 0 {
        // A file system that cannot tell what is in memory.
        return peer.end(&mut site);
    }
    let blocks = peer.acknowledged().div_ceil(as_u64(BLOCK_BYTES));
    assert!(
        counters.reads_inline <= blocks + 2,
        "{counters:?} for {blocks}"
    );
    peer.end(&mut site);
    site.assert_at_rest();
}
