//! Bytes of a body that are written from the transport's memory instead of a block.

use proptest::prelude::*;
use sluice_disk::Loan;

use super::*;

#[derive(Debug)]
struct Lent(Vec<u8>);

impl Loan for Lent {
    fn piece(&self, index: usize) -> Option<&[u8]> {
        (index == 0).then_some(&self.0)
    }
}

fn lending_site(loans: usize) -> Site {
    site_with_loans(32, loans)
}

impl Peer {
    /// Bytes of the stream at `at`, lent as far as that goes. How many were.
    fn arrive(&mut self, at: u64, bytes: &[u8], site: &mut Site) -> usize {
        let until = at + as_u64(bytes.len());
        let services = &mut site.services;
        let Some(to_place) = self.exchange.lends(&(at..until), services) else {
            assert!(self.exchange.place(at, bytes, services), "room");
            return 0;
        };
        let (placed, lent) = bytes.split_at(to_place);
        assert!(self.exchange.place(at, placed, services), "room");
        let loan = Box::new(Lent(lent.to_vec()));
        assert!(self.exchange.lend(until, loan, services).is_ok());
        lent.len()
    }
}

/// Sends a body in pieces of these sizes, the second of each pair before the first where `swap` says so: how many bytes
/// were lent.
fn upload(site: &mut Site, body: &[u8], sizes: &[usize], swap: &[bool]) -> usize {
    let head = put_head("/a", &format!("Content-Length: {}\r\n", body.len()));
    let mut peer = begun(head, site);
    let start = peer.sent;
    let (mut at, mut lent, mut turn) = (0, 0, 0);
    while at < body.len() {
        let room = peer.window_room(site);
        let size = |n: usize| sizes[n % sizes.len()];
        let first = size(2 * turn).min(body.len() - at).min(room);
        let second = size(2 * turn + 1)
            .min(body.len() - at - first)
            .min(room - first);
        let mut pieces = [(at, first), (at + first, second)];
        if swap[turn % swap.len()] {
            pieces.reverse();
        }
        for (from, len) in pieces {
            if len > 0 {
                let bytes = &body[from..from + len];
                lent += peer.arrive(start + as_u64(from), bytes, site);
            }
        }
        at += first + second;
        peer.sent = start + as_u64(at);
        peer.exchange.delivered(peer.sent);
        peer.exchange.set_wanted(Some(200_000));
        peer.turn(site);
        if first == 0 {
            site.wait_for_disk();
        }
        while site.services.disk.take_loan().is_some() {}
        turn += 1;
    }
    peer.run(site);
    assert_eq!(peer.statuses(), ["201"]);
    assert!(stored(site, "a") == body, "the body is the file");
    peer.end(site);
    while site.services.disk.take_loan().is_some() {}
    site.assert_at_rest();
    lent
}

#[test]
fn a_body_in_order_is_lent_but_for_what_came_with_its_head() {
    let mut site = lending_site(64);
    let body = content("a", 1_000_000);
    let lent = upload(&mut site, &body, &[40_000], &[false]);
    assert_eq!(lent, body.len());
}

#[test]
fn the_block_that_was_begun_is_filled_before_anything_is_lent() {
    let mut site = lending_site(64);
    let body = content("a", 300_000);
    let head = put_head("/a", "Content-Length: 300000\r\n").into_bytes();
    let start = as_u64(head.len());
    let mut peer = begun([&head, &body[..1000]].concat(), &mut site);
    peer.exchange.set_wanted(Some(300_000));
    peer.turn(&mut site);
    let first = peer.arrive(start + 1000, &body[1000..60_000], &mut site);
    assert_eq!(first, 0, "all of it belongs in the block");
    let second = peer.arrive(start + 60_000, &body[60_000..120_000], &mut site);
    assert_eq!(second, 120_000 - BLOCK_BYTES);
    let third = peer.arrive(start + 120_000, &body[120_000..180_000], &mut site);
    assert_eq!(third, 60_000);
    peer.end(&mut site);
    while site.services.disk.take_loan().is_some() {}
}

#[test]
fn nothing_is_lent_beside_what_came_out_of_order_nor_of_chunks_nor_beyond_the_limit() {
    let body = content("a", 500_000);
    let mut site = lending_site(64);
    let lent = upload(&mut site, &body, &[20_000], &[true]);
    assert!(lent < body.len() / 2, "{lent}");
    let mut none = lending_site(0);
    assert_eq!(upload(&mut none, &body, &[20_000], &[false]), 0);
    let mut peer = begun(put_head("/b", "Transfer-Encoding: chunked\r\n"), &mut site);
    assert_eq!(
        peer.arrive(peer.sent, &chunked(&body[..9000], 4000), &mut site),
        0
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However it is cut, in whatever order it comes, and whether there are loans or not: the body is the file.
    #[test]
    fn a_body_lent_here_and_copied_there_is_the_file(
        sizes in proptest::collection::vec(1usize..70_000, 1..12),
        swap in proptest::collection::vec(any::<bool>(), 1..8),
        loans in 0usize..8,
        len in 1usize..400_000,
    ) {
        let mut site = lending_site(loans);
        let body = content("a", len);
        upload(&mut site, &body, &sizes, &swap);
    }
}
