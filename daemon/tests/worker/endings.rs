//! How connections end, and that nothing is left of them.

use core::time::Duration;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::thread;

use rustix::io::Errno;
use sluice_tcp::{SegmentDrop, StackCounters};
use sluiced::control::channel;

use crate::bed::{Bed, Setup, deliver, get};
use crate::client::{Client, Offer};
use crate::site::{KIB, MIB, Site};

/// 2 MSL: how long the tuple of a connection that we closed first is remembered.
const TIME_WAIT: Duration = Duration::from_secs(60);
/// How long a peer that does not finish its side is waited for.
const FIN_WAIT_2: Duration = Duration::from_secs(60);

fn last_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\nConnection: close\r\n\r\n")
}

fn dropped(tcp: &StackCounters, reason: SegmentDrop) -> u64 {
    tcp.dropped[reason.index()]
}

/// Asks for `/big` and takes the first 200 KiB.
fn begin_transfer(bed: &mut Bed) -> Client {
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 200 * KIB);
    client
}

/// What came of the body.
fn body(client: &Client) -> &[u8] {
    let end = client.received.windows(4).position(|at| at == b"\r\n\r\n");
    &client.received[end.expect("the head came whole") + 4..]
}

#[test]
fn a_client_that_ends_first_leaves_nothing_behind() {
    // RFC 9293 figure 12, seen from the passive side: CLOSE-WAIT, LAST-ACK, gone.
    let site = Site::new();
    site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    bed.get(&mut client, "/small");
    bed.close(client);
    assert_eq!(bed.worker.stack().time_wait(), 0);
    bed.assert_at_rest();
}

#[test]
fn a_server_that_ends_first_remembers_the_tuple_for_two_msl() {
    // RFC 9293 section 3.6.1.
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(last_request("/small"));
    assert!(bed.response(&mut client).body == content);
    bed.run_one(&mut client, |client| client.finished);
    bed.close(client);
    assert_eq!(bed.worker.stack().time_wait(), 1);
    bed.assert_at_rest();
    bed.pass(TIME_WAIT + Duration::from_secs(1));
    bed.turn();
    assert_eq!(bed.worker.stack().time_wait(), 0);
}

#[test]
fn both_may_end_at_the_same_time() {
    // RFC 9293 figure 13: CLOSING.
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(last_request("/small"));
    bed.inject_from(&mut client);
    let mut on_the_way = bed.turn();
    while on_the_way.is_empty() {
        on_the_way = bed.turn();
    }
    client.finish();
    bed.inject_from(&mut client);
    on_the_way.extend(bed.turn());
    for frame in &on_the_way {
        deliver(frame, core::slice::from_mut(&mut client), bed.now);
    }
    assert!(bed.response(&mut client).body == content);
    bed.run_one(&mut client, Client::is_closed);
    bed.settle_one(&mut client);
    assert_eq!(bed.worker.stack().time_wait(), 1);
    bed.assert_at_rest();
}

#[test]
fn a_client_that_has_finished_still_gets_the_whole_answer() {
    // RFC 9293 section 3.6: a connection half closed goes on in the other direction.
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    client.finish();
    assert!(bed.response(&mut client).body == content);
    bed.run_one(&mut client, Client::is_closed);
    bed.settle_one(&mut client);
    assert_eq!(client.unparsed(), b"");
    bed.assert_at_rest();
}

#[test]
fn a_client_that_finishes_within_a_head_is_closed_without_an_answer() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("GET /big HTT");
    client.finish();
    bed.run_one(&mut client, Client::is_closed);
    bed.settle_one(&mut client);
    assert_eq!(client.received, b"");
    bed.assert_at_rest();
}

#[test]
fn a_reset_in_the_middle_of_a_transfer_gives_everything_back_at_once() {
    let site = Site::new();
    site.file("big", 4 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    assert!(bed.report().service.disk.pinned > 0);
    assert_eq!(site.open_files(), 1);
    client.out.clear();
    client.abort();
    bed.inject_from(&mut client);
    bed.turn();
    assert!(bed.worker.stack().is_empty());
    bed.assert_at_rest();
    let report = bed.report();
    assert_eq!(report.service.counters.abandoned, 1);
    assert_eq!((report.tcp.resets_received, report.tcp.resets_sent), (1, 0));
}

#[test]
fn a_guessed_reset_is_challenged_and_ends_nothing() {
    // RFC 5961 section 3.2: in the window, but not exactly where the next byte is expected.
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    client.abort_ahead(1);
    assert!(bed.response(&mut client).body == content);
    let tcp = bed.report().tcp;
    assert_eq!(dropped(&tcp, SegmentDrop::ResetNotExact), 1);
    assert_eq!((tcp.challenge_acks, tcp.resets_received), (1, 0));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_file_cut_off_during_its_transfer_ends_in_a_reset_after_right_bytes_only() {
    let site = Site::new();
    let content = site.file("big", 8 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    let file = fs::File::options().write(true).open(site.path("big"));
    file.and_then(|file| file.set_len(1 << 20))
        .expect("the site is ours");
    bed.run_one(&mut client, |client| client.reset);
    assert!(!client.finished, "a FIN would make a cut body look whole");
    assert!(content.starts_with(body(&client)), "wrong bytes");
    let counters = bed.report().service.counters;
    assert_eq!(counters.aborted_shrunk + counters.aborted_changed, 1);
    bed.turn();
    bed.assert_at_rest();
}

#[test]
fn a_file_written_to_during_its_transfer_ends_in_a_reset_after_right_bytes_only() {
    let site = Site::new();
    let content = site.file("big", 8 * MIB);
    // Kernels before 6.13 stamp files by the tick: let the next change be in another one.
    thread::sleep(Duration::from_millis(25));
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    let mut file = fs::File::options()
        .write(true)
        .open(site.path("big"))
        .expect("the site is ours");
    file.seek(SeekFrom::Start(6 << 20))
        .and_then(|_| file.write_all(&[0; 4096]))
        .expect("the site is ours");
    bed.run_one(&mut client, |client| client.reset);
    assert!(!client.finished, "a FIN would make a mixed body look whole");
    assert!(content.starts_with(body(&client)), "bytes of two versions");
    assert_eq!(bed.report().service.counters.aborted_changed, 1);
    bed.turn();
    bed.assert_at_rest();
}

#[test]
fn a_file_replaced_during_its_transfer_is_sent_as_it_was() {
    let site = Site::new();
    let old = site.file("big", 8 * MIB);
    let new = site.file("new", 2 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    fs::rename(site.path("new"), site.path("big")).expect("the site is ours");
    assert!(bed.response(&mut client).body == old);
    assert!(bed.get(&mut client, "/big").body == new);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_connection_without_a_request_is_closed_after_the_idle_time_out() {
    let site = Site::new();
    site.file("small", 3000);
    let setup = Setup {
        idle_timeout: Duration::from_secs(7),
        ..Setup::default()
    };
    for requests in [0, 1] {
        let mut bed = Bed::with(&site, &setup);
        let mut client = bed.connect();
        for _ in 0..requests {
            bed.get(&mut client, "/small");
            bed.settle_one(&mut client);
        }
        bed.pass(Duration::from_millis(6_900));
        bed.settle_one(&mut client);
        assert!(!client.finished, "too early, after {requests} requests");
        bed.pass(Duration::from_millis(200));
        bed.settle_one(&mut client);
        assert!(client.finished, "too late, after {requests} requests");
        assert_eq!(client.unparsed(), b"", "in silence");
        assert_eq!(bed.report().service.counters.idle_timeouts, 1);
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_408_however_lively_it_is() {
    let site = Site::new();
    let setup = Setup {
        header_timeout: Duration::from_secs(3),
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut client = bed.connect();
    for _ in 0..29 {
        client.write("X");
        bed.settle_one(&mut client);
        bed.pass(Duration::from_millis(100));
    }
    assert_eq!(client.received, b"", "too early");
    client.write("X");
    bed.pass(Duration::from_millis(200));
    let response = bed.response(&mut client);
    assert_eq!(response.status, 408);
    assert_eq!(response.field("Connection"), Some("close"));
    bed.run_one(&mut client, |client| client.finished);
    assert_eq!(bed.report().service.counters.head_timeouts, 1);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_transfer_is_not_ended_by_the_time_outs_of_requests() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let setup = Setup {
        header_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut client = Client::with(
        bed.take_port(),
        Offer {
            window_scale: None,
            ..Offer::default()
        },
    );
    bed.run_one(&mut client, Client::is_established);
    client.write(get("/big"));
    // Some 30 round trips of 150 ms: short of a retransmission, far beyond the limits.
    let begun = bed.now;
    while !client.has_response() {
        bed.round(core::slice::from_mut(&mut client));
        bed.pass(Duration::from_millis(150));
    }
    assert!(bed.now.saturating_since(begun) > Duration::from_secs(2));
    assert!(client.take_response().is_some_and(|r| r.body == content));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_peer_that_never_finishes_its_side_is_waited_for_a_minute() {
    let site = Site::new();
    site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(last_request("/small"));
    bed.run_one(&mut client, |client| client.finished);
    bed.settle_one(&mut client);
    bed.pass(FIN_WAIT_2 - Duration::from_secs(1));
    bed.turn();
    assert_eq!(bed.worker.stack().len(), 1);
    bed.pass(Duration::from_secs(2));
    bed.turn();
    bed.assert_at_rest();
}

#[test]
fn a_caller_that_does_not_complete_the_handshake_is_forgotten() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    bed.inject_from(&mut client);
    let mut answers = bed.turn().len();
    assert_eq!(bed.worker.stack().half_open(), 1);
    for _ in 0..120 {
        bed.pass(Duration::from_secs(1));
        answers += bed.turn().len();
    }
    // The SYN-ACK and five repeats.
    assert_eq!(answers, 6);
    bed.assert_at_rest();
}

/// The ways in which the ten thousand end.
fn part(client: &mut Client, way: usize) {
    match way {
        0 => client.finish(),
        1 => client.abort(),
        // The server ends it, since it was asked to.
        _ => {}
    }
}

#[test]
fn ten_thousand_connections_leave_no_frame_block_timer_connection_or_descriptor() {
    const AT_ONCE: usize = 100;
    let site = Site::new();
    let contents: Vec<Vec<u8>> = (0..5)
        .map(|n| site.file(&format!("f{n}"), 500 + n * 20_000))
        .collect();
    let mut bed = Bed::new(&site);
    let mut served: u64 = 0;
    for wave in 0..100 {
        let mut clients: Vec<Client> = (0..AT_ONCE)
            .map(|_| Client::connect(bed.take_port()))
            .collect();
        for (n, client) in clients.iter_mut().enumerate() {
            let path = format!("/f{}", (n + wave) % contents.len());
            match n % 3 {
                2 => client.write(last_request(&path)),
                _ => client.write(get(&path)),
            }
        }
        bed.run(&mut clients, |clients| {
            clients.iter().all(Client::has_response)
        });
        bed.settle(&mut clients);
        for (n, client) in clients.iter_mut().enumerate() {
            let content = &contents[(n + wave) % contents.len()];
            assert!(client.take_response().is_some_and(|r| r.body == *content));
            part(client, n % 3);
            served += 1;
        }
        bed.settle(&mut clients);
        for client in clients.iter_mut().filter(|client| client.finished) {
            client.finish();
        }
        bed.settle(&mut clients);
        assert_eq!(bed.worker.stack().len(), 0, "wave {wave}");
    }
    assert_eq!(served, 10_000);
    let report = bed.report();
    assert_eq!(report.tcp.accepted, 10_000);
    assert_eq!(report.service.counters.responses(), 10_000);
    assert_eq!(report.tcp.resets_received, 3_300);
    assert_eq!((report.tcp.timeouts, report.worker.tx_not_built), (0, 0));
    bed.assert_at_rest();
    bed.pass(TIME_WAIT + Duration::from_secs(1));
    bed.turn();
    assert_eq!(bed.worker.stack().time_wait(), 0);
    // Helper threads close files a little later.
    for _ in 0..200 {
        if site.open_files() == 0 {
            break;
        }
        bed.turn();
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(site.open_files(), 0, "descriptors");
}

#[test]
fn a_worker_whose_queue_is_lost_ends_by_itself() {
    let site = Site::new();
    for errno in [Errno::NXIO, Errno::INVAL] {
        let mut bed = Bed::new(&site);
        let (control, side) = channel().expect("eventfd");
        let mut client = Client::connect(bed.take_port());
        bed.inject_from(&mut client);
        bed.nic.stall(true);
        // ENXIO: the socket was unbound. EINVAL: the ring is wedged. Both at the kick for the SYN-ACK.
        bed.nic.fail_next_kick(errno.raw_os_error());
        let worker = thread::spawn(|| bed.worker.run(side))
            .join()
            .expect("no panic");
        assert!(control.finished());
        assert_eq!(worker.stack().half_open(), 1, "it was not asked to drain");
    }
}
