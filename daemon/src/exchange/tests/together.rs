//! How many calls the blocks of a response cost that are in memory, and that none is read for nothing.

use super::*;

const BLOCKS: usize = 240;

/// Takes all of "/big", `window` bytes at a time. Returns what it cost; none where nothing is read without a helper.
fn download(site: &mut Site, window: usize) -> Option<sluice_disk::DiskCounters> {
    let content = site.file("big", BLOCKS * BLOCK_BYTES);
    let mut peer = Peer::new(site);
    peer.window = as_u64(window);
    peer.get("/big", site);
    peer.run(site);
    assert!(peer.only_response().1 == content);
    peer.end(site);
    site.assert_at_rest();
    let counters = site.services.disk.counters();
    if counters.reads_helper > 0 {
        eprintln!("the temporary directory cannot tell what is in memory: calls are not counted");
        return None;
    }
    assert_eq!(counters.reads_inline, as_u64(BLOCKS), "each once");
    Some(counters)
}

#[test]
fn a_long_window_costs_a_read_and_a_look_for_four_blocks() {
    // Eight super-segments, and what kernel sockets write at a time.
    for window in [8 * 65_160, 4 * BLOCK_BYTES] {
        let mut site = Site::new();
        if let Some(counters) = download(&mut site, window) {
            let quarter = as_u64(BLOCKS / 4);
            let calls = quarter..quarter + quarter / 4;
            assert!(calls.contains(&counters.read_calls), "{counters:?}");
            // The last block is looked at once more if it leaves in a later turn.
            let looks = counters.version_checks - counters.read_calls;
            assert!(looks <= 1, "{counters:?}");
        }
    }
}

#[test]
fn a_short_window_reads_as_far_as_it_did_block_by_block() {
    let mut site = Site::new();
    site.file("big", BLOCKS * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 100_000;
    peer.get("/big", &mut site);
    for _ in 0..100 {
        peer.turn(&mut site);
        site.wait_for_disk();
        let counters = site.services.disk.counters();
        if counters.reads_helper > 0 {
            eprintln!("the temporary directory cannot tell what is in memory: nothing to see");
            break;
        }
        // To the end of the window, and a block ahead.
        let reach = peer.acknowledged() + peer.window;
        let most = reach.div_ceil(as_u64(BLOCK_BYTES)) + 1;
        assert!(counters.reads_inline <= most, "{counters:?}, not {most}");
    }
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn what_is_read_together_keeps_to_the_share_of_the_connection() {
    let config = ServicesConfig {
        blocks_per_connection: 6,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(64, &config);
    site.file("big", BLOCKS * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    for _ in 0..10 {
        let _ = peer
            .exchange
            .advance(20 * as_u64(BLOCK_BYTES), site.now, &mut site.services);
        site.wait_for_disk();
        let ledger = site.services.disk.ledger();
        let had = ledger.pinned + ledger.cached + ledger.loading;
        assert!(had <= 6, "{ledger:?}");
    }
    assert_eq!(site.services.disk.ledger().pinned, 6);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn who_stands_in_line_before_others_reads_one_block() {
    let mut site = Site::with(4, &ServicesConfig::default());
    site.file("big", BLOCKS * BLOCK_BYTES);
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::new(&site)).collect();
    // All of one file, which the first shows to be in memory.
    for (number, peer) in peers.iter_mut().enumerate() {
        let from = number * 20 * BLOCK_BYTES;
        let request = format!("GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes={from}-\r\n\r\n");
        peer.send(request, &mut site);
    }
    let advance = |peer: &mut Peer, site: &mut Site| {
        peer.last = peer.exchange.advance(1 << 20, site.now, &mut site.services);
        site.wait_for_disk();
    };
    for _ in 0..TURNS_MAX {
        advance(&mut peers[0], &mut site);
        if site.services.disk.ledger().pinned == 4 {
            break;
        }
    }
    for _ in 0..TURNS_MAX {
        advance(&mut peers[1], &mut site);
        advance(&mut peers[2], &mut site);
        if site.services.waiting_for_blocks() == 2 {
            break;
        }
    }
    assert_eq!(site.services.waiting_for_blocks(), 2);
    let ready = peers[0].last.ready_until;
    peers[0]
        .exchange
        .acknowledged(ready, site.now, &mut site.services);
    let read = |site: &Site| {
        let counters = site.services.disk.counters();
        counters.reads_inline + counters.reads_helper
    };
    let before = read(&site);
    advance(&mut peers[1], &mut site);
    assert_eq!(read(&site) - before, 1, "somebody stands behind it");
    for peer in peers {
        peer.end(&mut site);
    }
    site.assert_at_rest();
}
