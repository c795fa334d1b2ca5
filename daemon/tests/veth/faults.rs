//! What goes wrong on the way, at the client and on the disk: the bytes that arrive are right or the client is told.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::client::{Client, PATIENCE, assert_proper_prefix, connect_here};
use crate::daemon::{Daemon, endpoint};
use crate::lab::{Lab, eventually};
use crate::site::{KIB, MIB, Site, assert_same};

/// A transfer with losses is whole, and the losses were real.
fn a_transfer_survives_loss(per_mille: u32, both_ways: bool, bytes: usize) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", bytes);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    lab.lose(per_mille, both_ways);
    for address in [lab.server.ipv4, lab.server.ipv6] {
        Client::new(&lab.client, address).download(&site, "file.bin");
    }
    assert!(lab.lost() > 10, "only {} frames were lost", lab.lost());
    let report = daemon.finish();
    assert!(
        report.get("tcp_retransmitted_fast") > 0,
        "{}",
        report.text()
    );
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_transfer_survives_one_percent_loss() {
    a_transfer_survives_loss(10, false, 32 * MIB);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_transfer_survives_five_percent_loss() {
    a_transfer_survives_loss(50, false, 8 * MIB);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_transfer_survives_five_percent_loss_both_ways() {
    a_transfer_survives_loss(50, true, 8 * MIB);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn small_files_survive_loss_of_handshakes_and_tails() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let names: Vec<String> = (0..100).map(|number| format!("{number}.bin")).collect();
    for (number, name) in names.iter().enumerate() {
        site.file(name, 100 * number);
    }
    let daemon = Daemon::start(&lab, site.root(), &[]);
    lab.lose(50, true);
    Client::new(&lab.client, lab.server.ipv4).download_all(&site, &names, 100);
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_killed_client_leaves_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 64 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    for _ in 0..5 {
        client.begin("file.bin", "8M").kill();
        fs::remove_file(client.path("file.bin")).expect("curl has begun it");
    }
    let report = daemon.settle();
    assert_eq!(report.get("abandoned by peer"), 5, "{}", report.text());
    client.download(&site, "file.bin");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_file_cut_during_its_transfer_ends_the_transfer_visibly() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 64 * MIB);
    let whole = fs::read(site.path("file.bin")).expect("just written");
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let download = client.begin("file.bin", "16M");
    site.truncate("file.bin", 4 * MIB as u64);
    let (code, said) = download.ended();
    // 18: fewer bytes than Content-Length; 56: the connection was reset.
    assert!(matches!(code, Some(18 | 56)), "curl: {code:?} {said}");
    assert_proper_prefix(&client.path("file.bin"), &whole);
    let report = daemon.settle();
    assert_eq!(
        report.get("aborted, file shrunk") + report.get("aborted, file changed"),
        1,
        "{}",
        report.text()
    );
    // The service goes on, with the file as it is now.
    client.download(&site, "file.bin");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_file_replaced_during_its_transfer_is_served_to_its_end() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 24 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    fs::hard_link(site.path("file.bin"), site.path("old.bin")).expect("a hard link");
    let download = client.begin("file.bin", "12M");
    site.replace("file.bin", 5 * MIB);
    download.succeeded();
    assert_same(&site.path("old.bin"), &client.path("file.bin"));
    client.download(&site, "file.bin");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_transfer_survives_a_link_that_goes_down_for_a_moment() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 24 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let download = client.begin("file.bin", "8M");
    // The server's end: at the client the kernel would forget its routes.
    let state = |state| {
        let link = lab.server.link.as_str();
        lab.server.run("ip", &["link", "set", link, state]);
    };
    state("down");
    // Long enough for a time-out of ours to fire into the dead link.
    let patience = Duration::from_secs(10);
    eventually("the daemon sends into the dead link", patience, || {
        (daemon.report().get("tcp_timeouts") > 0).then_some(())
    });
    state("up");
    download.succeeded();
    assert_same(&site.path("file.bin"), &client.path("file.bin"));
    daemon.finish();
}

/// What one of the ten thousand does with its connection.
fn come_and_go(stream: &mut TcpStream, number: usize) {
    let ask = |stream: &mut TcpStream, close: &str| {
        let request = format!("GET /small.bin HTTP/1.1\r\nHost: lab\r\n{close}\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("the window is open");
    };
    match number % 4 {
        // Leaves without a word.
        0 => {}
        // Takes one answer, then leaves first.
        1 => {
            ask(stream, "");
            let mut answer = [0; 64];
            stream.read_exact(&mut answer).expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
        // Lets the server close, and waits for it.
        2 => {
            ask(stream, "Connection: close\r\n");
            let mut answer = Vec::new();
            stream
                .read_to_end(&mut answer)
                .expect("an answer and its end");
            assert!(answer.len() > KIB);
        }
        // Asks, and resets the connection while the answer is on its way.
        _ => {
            ask(stream, "");
            rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))
                .expect("an open socket");
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn ten_thousand_connections_leave_nothing_behind() {
    const THREADS: usize = 8;
    const CONNECTIONS: usize = 10_000;
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("small.bin", 2 * KIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    Client::new(&lab.client, lab.server.ipv4).download(&site, "small.bin");
    let before = (daemon.settle(), daemon.descriptors());

    let server = endpoint(lab.server.ipv4);
    thread::scope(|scope| {
        for first in 0..THREADS {
            let client = &lab.client;
            scope.spawn(move || {
                client.inside(|| {
                    for number in (first..CONNECTIONS).step_by(THREADS) {
                        let mut stream = connect_here(server, PATIENCE)
                            .unwrap_or_else(|error| panic!("connection {number}: {error}"));
                        come_and_go(&mut stream, number);
                    }
                });
            });
        }
    });

    let after = (daemon.settle(), daemon.descriptors());
    assert_eq!(after.1, before.1, "descriptors");
    let grown = |name: &str| after.0.get(name) - before.0.get(name);
    assert_eq!(grown("tcp_accepted"), CONNECTIONS as u64);
    assert_eq!(after.0.get("frames_total"), before.0.get("frames_total"));
    Client::new(&lab.client, lab.server.ipv4).download(&site, "small.bin");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn clients_that_do_not_read_keep_nobody_from_a_download_and_are_ended() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 64 * MIB);
    site.file("small.bin", MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let server = endpoint(lab.server.ipv4);
    let mut lazy: Vec<TcpStream> = lab.client.inside(|| {
        (0..800)
            .map(|number: usize| {
                let mut stream = connect_here(server, PATIENCE).expect("there is room");
                let from = number * 64 * KIB;
                write!(
                    stream,
                    "GET /file.bin HTTP/1.1\r\nHost: x\r\nRange: bytes={from}-\r\n\r\n"
                )
                .expect("a request fits");
                stream
            })
            .collect()
    });
    client.download(&site, "small.bin");
    // A time of 30 s may have begun just before.
    thread::sleep(Duration::from_secs(65));
    let report = daemon.settle();
    assert_eq!(report.get("reset, too slow"), 800, "{}", report.text());
    let mut rest = Vec::new();
    assert!(
        lazy[0].read_to_end(&mut rest).is_err(),
        "a cut body ends in a reset"
    );
    client.download(&site, "small.bin");
    daemon.finish();
}
