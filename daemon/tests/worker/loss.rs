//! Lost, doubled and reordered segments, and windows that close.
//!
//! A test takes the frames of a turn in its own hands and decides which of them arrive.

use core::time::Duration;

use sluice_tcp::StackCounters;

use crate::bed::{Bed, deliver, get};
use crate::client::{Client, Offer};
use crate::frames;
use crate::site::{KIB, MIB, Site};

/// Longer than any RTO before back-off on this link.
const RTO: Duration = Duration::from_millis(250);

/// Runs a transfer until the client has `bytes` and more are under way.
fn until_received(bed: &mut Bed, client: &mut Client, bytes: usize) {
    bed.run_one(client, |client| client.received.len() >= bytes);
}

/// One round of which only the frames that `keep` accepts arrive at the client. Returns how many were lost.
fn round_losing(
    bed: &mut Bed,
    client: &mut Client,
    mut keep: impl FnMut(usize, &[u8]) -> bool,
) -> usize {
    bed.inject_from(client);
    let mut lost = 0;
    for (index, frame) in bed.turn().iter().enumerate() {
        if keep(index, frame) {
            deliver(frame, core::slice::from_mut(client), bed.now);
        } else {
            lost += 1;
        }
    }
    bed.pass(Duration::from_micros(50));
    lost
}

/// Closes the window with nothing in flight: the one ACK that arrives says both.
fn close_window(client: &mut Client) {
    client.out.clear();
    client.set_window(0);
}

#[test]
fn a_lost_segment_is_sent_again_on_sack_without_a_time_out() {
    // RFC 6675 section 5.
    assert_recovers_fast(Offer::default());
}

#[test]
fn a_lost_segment_is_sent_again_on_the_third_duplicate_without_a_time_out() {
    // RFC 5681 section 3.2, RFC 6582.
    assert_recovers_fast(Offer {
        sack: false,
        ..Offer::default()
    });
}

fn assert_recovers_fast(offer: Offer) {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = Client::with(bed.take_port(), offer);
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    assert_eq!(
        round_losing(&mut bed, &mut client, |index, _| index != 3),
        1
    );
    assert!(bed.response(&mut client).body == content);
    let tcp = *bed.worker.stack().counters();
    assert_eq!((tcp.retransmitted_fast, tcp.fast_recoveries), (1, 1));
    assert_eq!(tcp.timeouts, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn several_holes_in_one_window_are_filled_in_one_recovery() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 200 * KIB);
    let lost = round_losing(&mut bed, &mut client, |index, _| index % 5 != 1);
    assert!(lost >= 3, "{lost} segments were lost");
    assert!(bed.response(&mut client).body == content);
    let tcp = *bed.worker.stack().counters();
    assert_eq!((tcp.fast_recoveries, tcp.timeouts), (1, 0));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_lost_tail_is_found_by_a_probe_without_a_time_out() {
    // RFC 8985 section 7.
    let tcp = lose_a_whole_response(Offer::default());
    assert_eq!(
        (tcp.tail_probes, tcp.retransmitted_tlp, tcp.timeouts),
        (1, 1, 0)
    );
}

#[test]
fn a_lost_tail_is_sent_again_when_the_retransmission_timer_fires() {
    // RFC 6298 section 5: a peer without SACK cannot be probed.
    let tcp = lose_a_whole_response(Offer {
        sack: false,
        ..Offer::default()
    });
    assert_eq!((tcp.tail_probes, tcp.timeouts), (0, 1));
    assert!(tcp.retransmitted_timeout >= 1);
}

/// All of a short response is lost; it arrives whole in the end.
fn lose_a_whole_response(offer: Offer) -> StackCounters {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = Client::with(bed.take_port(), offer);
    client.write(get("/small"));
    while round_losing(&mut bed, &mut client, |_, frame| {
        frames::read(frame).1.is_empty()
    }) == 0
    {}
    bed.settle_one(&mut client);
    assert!(client.received.is_empty(), "everything was lost");
    bed.pass(RTO);
    assert!(bed.response(&mut client).body == content);
    let tcp = *bed.worker.stack().counters();
    bed.close(client);
    bed.assert_at_rest();
    tcp
}

#[test]
fn lost_acknowledgements_cost_nothing_if_a_later_one_arrives() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    while !client.has_response() {
        // Acknowledgements are cumulative: the last one of every round says it all.
        let last = client.out.pop();
        client.out.clear();
        client.out.extend(last);
        if bed.round(core::slice::from_mut(&mut client)) == 0 {
            crate::bed::wait_for_helpers();
        }
        bed.pass(Duration::from_micros(50));
    }
    assert!(client.take_response().is_some_and(|r| r.body == content));
    let tcp = *bed.worker.stack().counters();
    assert_eq!((tcp.retransmitted_fast, tcp.timeouts), (0, 0));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn the_acknowledgement_of_the_end_may_be_lost() {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/small"));
    let before = client.received.len();
    client.mute = true;
    assert!(bed.response(&mut client).body == content);
    client.mute = false;
    assert!(client.received.len() > before && client.out.is_empty());
    bed.pass(RTO);
    bed.run_one(&mut client, |client| client.duplicates > 0);
    bed.settle_one(&mut client);
    assert_eq!(bed.report().service.counters.response_bytes, {
        u64::try_from(client.received.len()).expect("small")
    });
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn every_frame_may_come_twice() {
    let site = Site::new();
    let contents = [site.file("one", 70_000), site.file("two", 3000)];
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/one") + &get("/two"));
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let doubled: Vec<Vec<u8>> = client
            .out
            .drain(..)
            .flat_map(|frame| [frame.clone(), frame])
            .collect();
        client.out = doubled;
        bed.inject_from(&mut client);
        for frame in bed.turn() {
            deliver(&frame, core::slice::from_mut(&mut client), bed.now);
            deliver(&frame, core::slice::from_mut(&mut client), bed.now);
        }
        bed.pass(Duration::from_micros(50));
        bodies.extend(client.take_response().map(|response| response.body));
    }
    assert!(bodies == contents);
    bed.settle_one(&mut client);
    assert_eq!(client.unparsed(), b"", "each request is answered once");
    assert_eq!(bed.report().service.counters.responses(), 2);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn segments_may_arrive_in_any_order() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    while !client.has_response() {
        bed.inject_from(&mut client);
        for frame in bed.turn().iter().rev() {
            deliver(frame, core::slice::from_mut(&mut client), bed.now);
        }
        bed.pass(Duration::from_micros(50));
    }
    assert!(client.take_response().is_some_and(|r| r.body == content));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_lost_syn_ack_comes_again_after_a_second() {
    // RFC 6298 section 2.1.
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    assert_eq!(round_losing(&mut bed, &mut client, |_, _| false), 1);
    bed.pass(Duration::from_millis(900));
    assert!(bed.turn().is_empty());
    bed.pass(Duration::from_millis(200));
    bed.run_one(&mut client, Client::is_established);
    assert_eq!(bed.worker.stack().counters().retransmitted_syn_ack, 1);
    bed.settle_one(&mut client);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_repeated_syn_gets_the_same_syn_ack() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    // Three SYNs in one round; the client compares the sequence numbers of the answers.
    client.resend();
    client.resend();
    bed.run_one(&mut client, Client::is_established);
    bed.settle_one(&mut client);
    assert_eq!(bed.worker.stack().len(), 1);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_peer_without_acknowledgements_is_given_up_and_its_blocks_come_back() {
    // RFC 9293 section 3.8.3: R2.
    let site = Site::new();
    site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    let mut seconds = 0;
    while bed.worker.stack().len() > 0 {
        bed.turn();
        bed.pass(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 1000, "a dead peer holds its connection for ever");
    }
    assert!(seconds > 100, "given up after {seconds} s");
    bed.assert_at_rest();
}

#[test]
fn a_window_that_closes_stops_the_transfer_and_opens_it_again() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    close_window(&mut client);
    bed.settle_one(&mut client);
    let stopped_at = client.received.len();
    assert!(stopped_at < MIB);
    client.set_window(1 << 20);
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_closed_window_is_probed_so_that_a_lost_update_does_not_end_the_transfer() {
    // RFC 9293 section 3.8.6.1, MUST-36: the update that opens a window is a bare ACK, which nobody repeats.
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    close_window(&mut client);
    bed.settle_one(&mut client);
    client.set_window(1 << 20);
    client.out.clear();
    for _ in 0..20 {
        bed.pass(Duration::from_millis(500));
        bed.settle_one(&mut client);
    }
    assert!(
        client.received.len() > 200 * KIB,
        "stopped for ever at {}",
        client.received.len()
    );
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_peer_that_keeps_its_window_closed_is_given_up() {
    // RFC 6429: a peer that answers probes but never reads must not hold memory for ever.
    let site = Site::new();
    site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    until_received(&mut bed, &mut client, 100 * KIB);
    close_window(&mut client);
    let mut seconds = 0;
    while !client.reset {
        bed.settle_one(&mut client);
        bed.pass(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 600, "a closed window holds a connection for ever");
    }
    assert!(client.probes > 3, "{} probes", client.probes);
    bed.turn();
    bed.assert_at_rest();
}
