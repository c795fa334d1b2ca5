//! Blocks and slots for several uploads at once, and windows that promise no more than there is.

use super::*;

#[test]
fn the_window_never_promises_more_than_there_are_blocks_for() {
    let mut site = site(8);
    let body = content("a", 3_000_000);
    let mut peer = Peer::new(&site);
    peer.exchange.set_wanted(None);
    let request = with_length("/a", &body);
    let mut edge = 0;
    let mut rest = request.as_slice();
    for _ in 0..TURNS_MAX {
        peer.exchange.set_wanted(None);
        let room = peer.window_room(&site);
        assert!(peer.sent + as_u64(room) >= edge, "it never shrinks");
        edge = peer.sent + as_u64(room);
        assert!(
            room <= 4 * BLOCK_BYTES + site.services.input_bytes(),
            "{room}"
        );
        let len = room.min(rest.len());
        peer.send(&rest[..len], &mut site);
        rest = &rest[len..];
        peer.turn(&mut site);
        if rest.is_empty() {
            break;
        }
        site.wait_for_disk();
    }
    peer.end_stored("a", &body, &mut site);
}

#[test]
fn several_uploads_and_a_download_share_few_blocks() {
    let mut site = site(6);
    let there = site.file("there", 500_000);
    let bodies: Vec<Vec<u8>> = (0..3).map(|n| content(&n.to_string(), 400_000)).collect();
    let mut peers: Vec<Peer> = bodies.iter().map(|_| Peer::new(&site)).collect();
    let mut reader = Peer::new(&site);
    reader.get("/there", &mut site);
    let requests: Vec<Vec<u8>> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| with_length(&format!("/u{n}"), body))
        .collect();
    let mut sent = [0; 3];
    for _ in 0..TURNS_MAX {
        reader.turn(&mut site);
        for (n, peer) in peers.iter_mut().enumerate() {
            let len = peer
                .window_room(&site)
                .min(20_000)
                .min(requests[n].len() - sent[n]);
            peer.send(&requests[n][sent[n]..sent[n] + len], &mut site);
            sent[n] += len;
            peer.turn(&mut site);
        }
        if peers.iter().all(|peer| !peer.received.is_empty()) {
            break;
        }
        site.wait_for_disk();
    }
    reader.run(&mut site);
    assert_eq!(reader.only_response().1, there);
    for (n, peer) in peers.into_iter().enumerate() {
        assert_eq!(peer.statuses(), ["201"]);
        assert_eq!(stored(&site, &format!("u{n}")), bodies[n]);
        peer.end(&mut site);
    }
    reader.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn more_uploads_than_slots_are_503() {
    let mut site = site(16);
    let request = with_length("/a", b"hello");
    let begun: Vec<Peer> = (0..4)
        .map(|_| uploaded(&mut site, &request[..request.len() - 1], 1000))
        .collect();
    let peer = uploaded(&mut site, &request, 1000);
    assert_eq!(peer.statuses(), ["503"]);
    assert_eq!(site.services.counters.uploads_refused, 1);
    peer.end(&mut site);
    for peer in begun {
        peer.end(&mut site);
    }
    site.assert_at_rest();
    assert_eq!(uploaded(&mut site, &request, 1000).statuses(), ["201"]);
}

#[test]
fn one_network_leaves_slots_for_others() {
    let mut site = site(16);
    let request = with_length("/a", b"hello");
    let unfinished = |address: [u8; 4], site: &mut Site| {
        let mut peer = Peer::new(site);
        peer.exchange = Exchange::new(site.now).with_peer(Some(address.into()));
        peer.send(&request[..request.len() - 1], site);
        peer.run(site);
        peer
    };
    let mut begun = vec![
        unfinished([192, 0, 2, 1], &mut site),
        unfinished([192, 0, 2, 1], &mut site),
    ];
    let refused = unfinished([192, 0, 2, 7], &mut site);
    assert_eq!(refused.statuses(), ["503"], "two of four are its half");
    begun.push(unfinished([198, 51, 100, 1], &mut site));
    assert!(begun.iter().all(|peer| peer.received.is_empty()));
    assert_eq!(site.services.counters.uploads_refused, 1);
    refused.end(&mut site);
    for mut peer in begun {
        peer.send(b"o", &mut site);
        peer.run(&mut site);
        assert_eq!(peer.statuses().len(), 1, "it goes on to its end");
        peer.end(&mut site);
    }
    let next = unfinished([192, 0, 2, 7], &mut site);
    assert!(next.received.is_empty(), "they were given back");
    next.end(&mut site);
    site.assert_at_rest();
}
