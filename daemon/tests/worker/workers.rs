//! Two workers, and flows that arrive at the wrong one.
//!
//! A veth hashes a flow anew when its client's RTO fires, and RSS tables change: any frame can arrive at any worker.
//! Here a test steers every single frame.

use core::time::Duration;

use sluiced::worker::handoff_ring;

use crate::bed::{Bed, Setup, deliver, get};
use crate::client::Client;
use crate::frames;
use crate::site::{KIB, MIB, Random, Site};

/// The longest chain a client sends, and more.
const FRAME_LEN: usize = 20_000;

struct Team {
    beds: Vec<Bed>,
    /// What the workers sent so far, by worker.
    sent: Vec<usize>,
}

impl Team {
    fn new(site: &Site, workers: usize) -> Team {
        let handoffs = handoff_ring(workers, FRAME_LEN).expect("eventfd");
        let setup = Setup::default();
        let beds: Vec<Bed> = handoffs
            .into_iter()
            .map(|handoff| Bed::with_handoff(site, &setup, Some(handoff)))
            .collect();
        Team {
            sent: vec![0; beds.len()],
            beds,
        }
    }

    /// A round in which `steer` says at which worker each frame arrives.
    fn round(&mut self, client: &mut Client, mut steer: impl FnMut() -> usize) -> usize {
        let frames = core::mem::take(&mut client.out);
        for frame in &frames {
            assert!(self.beds[steer()].nic.inject(frame));
        }
        let mut moved = frames.len();
        for (bed, sent) in self.beds.iter_mut().zip(&mut self.sent) {
            let frames = bed.turn();
            for frame in &frames {
                deliver(frame, core::slice::from_mut(client), bed.now);
            }
            *sent += frames.len();
            moved += frames.len();
        }
        moved
    }

    fn pass(&mut self, time: Duration) {
        for bed in &mut self.beds {
            bed.pass(time);
        }
    }

    /// Rounds until `done`.
    fn run(
        &mut self,
        client: &mut Client,
        mut steer: impl FnMut() -> usize,
        mut done: impl FnMut(&Client) -> bool,
    ) {
        let mut quiet = 0;
        while !done(client) {
            if self.round(client, &mut steer) > 0 {
                self.pass(Duration::from_micros(50));
                quiet = 0;
            } else {
                crate::bed::wait_for_helpers();
                quiet += 1;
                assert!(quiet < 50_000, "nothing moves any more");
            }
        }
    }

    /// Rounds until no frame moves, also none between workers.
    fn settle(&mut self, client: &mut Client, mut steer: impl FnMut() -> usize) {
        let mut quiet = 0;
        while quiet < self.beds.len() {
            quiet = match self.round(client, &mut steer) {
                0 => quiet + 1,
                _ => 0,
            };
        }
    }

    /// A connection whose worker is `owner`.
    fn connect(&mut self, owner: usize) -> Client {
        let mut client = Client::connect(self.beds[owner].take_port());
        self.run(&mut client, || owner, Client::is_established);
        self.settle(&mut client, || owner);
        client
    }

    fn close(&mut self, mut client: Client, mut steer: impl FnMut() -> usize) {
        client.finish();
        self.run(&mut client, &mut steer, Client::is_closed);
        self.settle(&mut client, steer);
        self.assert_at_rest();
    }

    fn passed_on(&self) -> Vec<u64> {
        self.beds.iter().map(|bed| bed.report().passed_on).collect()
    }

    fn refused(&self) -> u64 {
        self.beds.iter().map(|bed| bed.report().tcp.refused).sum()
    }

    fn assert_at_rest(&mut self) {
        for bed in &mut self.beds {
            bed.assert_at_rest();
            assert_eq!(bed.report().pass_on_dropped, 0);
        }
    }
}

#[test]
fn a_flow_that_always_arrives_at_the_wrong_worker_is_served_by_its_owner() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut team = Team::new(&site, 2);
    let mut client = team.connect(0);
    let sent_before = team.sent[1];
    client.write(get("/big"));
    team.run(&mut client, || 1, Client::has_response);
    assert!(client.take_response().is_some_and(|r| r.body == content));
    team.close(client, || 1);
    assert_eq!(team.sent[1], sent_before, "worker 1 says nothing");
    let passed_on = team.passed_on();
    assert!(passed_on[0] == 0 && passed_on[1] > 100, "{passed_on:?}");
    let tcp = team.beds[0].report().tcp;
    assert_eq!((tcp.retransmitted_fast, tcp.timeouts), (0, 0));
    assert_eq!(team.refused(), 0);
}

#[test]
fn a_flow_may_move_in_the_middle_of_a_transfer_and_back() {
    let site = Site::new();
    let content = site.file("big", 2 * MIB);
    let mut team = Team::new(&site, 2);
    let mut client = team.connect(0);
    client.write(get("/big"));
    for (until, worker) in [(300, 0), (900, 1), (1200, 0)] {
        let enough = |client: &Client| client.received.len() > until * KIB;
        team.run(&mut client, || worker, enough);
    }
    team.run(&mut client, || 1, Client::has_response);
    assert!(client.take_response().is_some_and(|r| r.body == content));
    team.close(client, || 0);
    assert_eq!(team.refused(), 0);
}

#[test]
fn every_frame_may_arrive_at_another_of_three_workers() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut team = Team::new(&site, 3);
    let mut random = Random::new(17);
    let mut client = team.connect(1);
    for _ in 0..3 {
        client.write(get("/big"));
        team.run(&mut client, || random.below(3), Client::has_response);
        assert!(client.take_response().is_some_and(|r| r.body == content));
    }
    team.close(client, || random.below(3));
    assert_eq!(team.refused(), 0);
    assert!(team.passed_on().iter().sum::<u64>() > 100);
}

#[test]
fn a_request_in_a_chain_of_frames_is_handed_over_whole() {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut team = Team::new(&site, 2);
    let mut client = team.connect(0);
    let request = format!(
        "GET /small HTTP/1.1\r\nHost: sluice.test\r\nX-Filler: {}\r\n\r\n",
        "f".repeat(7000)
    );
    client.hold_back(&request);
    let frame = client.segment(0..request.len());
    client.out.push(frame);
    team.run(&mut client, || 1, Client::has_response);
    assert!(client.take_response().is_some_and(|r| r.body == content));
    let queue = team.beds[1].report().queue;
    assert_eq!((queue.rx_packets, queue.rx_frames), (1, 2));
    assert_eq!(team.passed_on(), [0, 1]);
    team.close(client, || 0);
}

#[test]
fn the_end_of_a_handshake_may_arrive_at_the_wrong_worker() {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut team = Team::new(&site, 2);
    let mut client = Client::connect(team.beds[0].take_port());
    team.run(&mut client, || 0, Client::is_established);
    client.write(get("/small"));
    team.run(&mut client, || 1, Client::has_response);
    assert!(client.take_response().is_some_and(|r| r.body == content));
    team.close(client, || 1);
}

#[test]
fn a_syn_that_visited_both_workers_makes_one_connection() {
    // The SYN-ACK of worker 0 is late, the SYN comes again and arrives at worker 1. Whichever answer the client
    // takes, the other worker must neither keep nor kill the flow.
    let site = Site::new();
    let content = site.file("small", 3000);
    for owner in [0, 1] {
        let mut team = Team::new(&site, 2);
        let mut client = Client::connect(team.beds[0].take_port());
        let syn = client.out.remove(0);
        for (worker, bed) in team.beds.iter_mut().enumerate() {
            assert!(bed.nic.inject(&syn));
            let syn_ack = bed.turn();
            assert_eq!(syn_ack.len(), 1);
            if worker == owner {
                deliver(&syn_ack[0], core::slice::from_mut(&mut client), bed.now);
            }
        }
        client.write(get("/small"));
        let mut random = Random::new(3);
        team.run(&mut client, || random.below(2), Client::has_response);
        assert!(client.take_response().is_some_and(|r| r.body == content));
        client.finish();
        team.run(&mut client, || random.below(2), Client::is_closed);
        team.settle(&mut client, || 0);
        assert!(!client.reset && team.refused() == 0, "owner {owner}");
        // The half-open twin is forgotten after its repeats, to which a closed client would answer with RST.
        for _ in 0..120 {
            team.pass(Duration::from_secs(1));
            for bed in &mut team.beds {
                bed.turn();
            }
        }
        team.assert_at_rest();
    }
}

#[test]
fn a_reset_that_arrives_at_the_wrong_worker_ends_the_connection() {
    // A client that gave up after its flow has moved: its owner must not send to nobody until it times out.
    let site = Site::new();
    site.file("big", 4 * MIB);
    let mut team = Team::new(&site, 2);
    let mut client = team.connect(0);
    client.write(get("/big"));
    team.run(
        &mut client,
        || 0,
        |client| client.received.len() > 200 * KIB,
    );
    client.out.clear();
    client.abort();
    team.round(&mut client, || 1);
    for bed in &mut team.beds {
        bed.turn();
    }
    assert!(team.beds[0].worker.stack().is_empty());
    assert_eq!(team.beds[0].report().tcp.resets_received, 1);
    team.assert_at_rest();
}

#[test]
fn frames_from_other_workers_are_taken_a_bounded_number_per_turn() {
    let site = Site::new();
    let mut team = Team::new(&site, 2);
    let client = team.connect(0);
    let mut client = client;
    client.hold_back("X");
    let frame = client.segment(0..1);
    for _ in 0..400 {
        assert!(team.beds[1].nic.inject(&frame));
    }
    team.beds[1].turn();
    team.beds[1].turn();
    let before = team.beds[0].report().tcp.segments_in;
    let mut taken = Vec::new();
    for _ in 0..3 {
        team.beds[0].turn();
        taken.push(team.beds[0].report().tcp.segments_in - before);
    }
    assert_eq!(taken, [256, 400, 400]);
}

#[test]
fn a_flow_that_nobody_knows_is_refused_exactly_once() {
    let site = Site::new();
    for workers in [2, 3] {
        let mut forgetful = Bed::new(&site);
        let mut client = forgetful.connect();
        client.write(get("/small"));
        let stray = client.out.remove(0);
        for first in 0..workers {
            let mut team = Team::new(&site, workers);
            assert!(team.beds[first].nic.inject(&stray));
            let mut resets = Vec::new();
            for _ in 0..workers {
                for bed in &mut team.beds {
                    resets.extend(bed.turn());
                }
            }
            assert_eq!(resets.len(), 1, "{workers} workers, first {first}");
            let (packet, payload) = frames::read(&resets[0]);
            assert!(packet.header.flags.contains(sluice_wire::TcpFlags::RST));
            assert!(payload.is_empty());
            assert_eq!(team.refused(), 1);
            let passed_on: u64 = team.passed_on().iter().sum();
            assert_eq!(passed_on, u64::try_from(workers - 1).expect("few"));
            team.assert_at_rest();
        }
    }
}

#[test]
fn a_stranger_s_reset_dies_after_one_round_without_an_answer() {
    let site = Site::new();
    let mut forgetful = Bed::new(&site);
    let mut client = forgetful.connect();
    client.abort();
    let reset = client.out.remove(0);
    let mut team = Team::new(&site, 2);
    assert!(team.beds[0].nic.inject(&reset));
    for _ in 0..3 {
        for bed in &mut team.beds {
            assert!(bed.turn().is_empty());
        }
    }
    assert_eq!(team.passed_on(), [1, 0]);
    assert_eq!(team.refused(), 0);
    team.assert_at_rest();
}

#[test]
fn frames_for_which_no_parcel_is_free_are_dropped_and_counted_and_come_again() {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut team = Team::new(&site, 2);
    let mut client = team.connect(0);
    client.write(get("/small"));
    let request = client.out.remove(0);
    // More than worker 1 has parcels, while worker 0 has no turn.
    for _ in 0..3 {
        for _ in 0..200 {
            assert!(team.beds[1].nic.inject(&request));
        }
        team.beds[1].turn();
    }
    let report = team.beds[1].report();
    assert_eq!((report.passed_on, report.pass_on_dropped), (512, 88));
    team.run(&mut client, || 1, Client::has_response);
    assert!(client.take_response().is_some_and(|r| r.body == content));
    assert_eq!(team.beds[0].report().service.counters.responses(), 1);
    client.finish();
    team.run(&mut client, || 0, Client::is_closed);
    team.settle(&mut client, || 0);
    for bed in &mut team.beds {
        bed.assert_at_rest();
    }
}
