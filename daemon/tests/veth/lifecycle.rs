//! Signals, idling, drains and sudden ends.

use std::io::Read;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{Client, assert_body};
use crate::daemon::Daemon;
use crate::lab::{Lab, Shape, eventually};
use crate::site::{MIB, Site};

/// Waits until a client that does not read has closed its window.
fn assert_stalls(daemon: &Daemon) {
    let patience = Duration::from_secs(10);
    eventually("the client's window closes", patience, || {
        (daemon.report().get("tcp_window_probes") > 0).then_some(())
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sigusr1_prints_the_histogram_table() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 2 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    let report = daemon.settle();
    let row = |name: &str| -> Vec<String> {
        report
            .text()
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no row {name}:\n{}", report.text()))
            .split("  ")
            .filter(|cell| !cell.is_empty())
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    assert_eq!(
        row("latency")[1..],
        ["count", "p50", "p90", "p99", "p99.9", "p99.99", "max"]
    );
    assert_eq!(row("time to first byte")[1], "1");
    assert_eq!(row("request <= 64 MiB")[1], "1");
    assert_ne!(row("round-trip time")[1], "0");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_xdp_program_counts_what_it_redirects() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    let report = daemon.finish();
    assert!(report.get("xdp_tcp") > 0, "{}", report.text());
    assert_eq!(
        report.get("xdp_tcp"),
        report.get("packets_in"),
        "{}",
        report.text()
    );
    // Beside ours there are only ARP and IPv6 neighbour discovery.
    let passed = report.get("xdp_not_ip") + report.get("xdp_not_tcp");
    assert_eq!(
        report.sum("xdp_"),
        report.get("xdp_tcp") + passed,
        "{}",
        report.text()
    );
    assert_eq!(report.sum("drop_"), 0, "{}", report.text());
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_idle_daemon_uses_no_cpu() {
    const SPAN: Duration = Duration::from_secs(5);
    for queues in [1, 2] {
        let Some(lab) = Lab::shaped(Shape {
            queues,
            ..Shape::default()
        }) else {
            return;
        };
        let site = Site::with("file.bin", 16 * MIB);
        let daemon = Daemon::start(&lab, site.root(), &[]);
        let client = Client::new(&lab.client, lab.server.ipv4);
        client.download(&site, "file.bin");
        // A connection that waits for its next request is idle too.
        let waiting = client.connect().expect("the service answers");
        let (began, before) = (Instant::now(), daemon.cpu_time());
        thread::sleep(SPAN);
        let (elapsed, used) = (began.elapsed(), daemon.cpu_time() - before);
        println!("{queues} workers: {used:?} of CPU in {elapsed:?}");
        assert!(
            used * 100 < elapsed,
            "{queues} workers: {used:?} of CPU in {elapsed:?}, 1 % is the limit"
        );
        drop(waiting);
        daemon.finish();
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sigterm_lets_running_transfers_finish() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 24 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let mut running = client.ask("file.bin");
    assert_stalls(&daemon);
    daemon.signal(Signal::TERM);
    eventually("the drain begins", Duration::from_secs(5), || {
        daemon.log().contains("draining").then_some(())
    });
    let answered = client.connect_within(Duration::from_millis(500));
    assert!(answered.is_err(), "a draining daemon takes new connections");
    assert_body(&mut running, &site.path("file.bin"));
    running
        .read_to_end(&mut Vec::new())
        .expect("the server closes in order");
    drop(running);
    daemon.ended();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sigterm_closes_kept_connections_at_once() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 1000);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let mut kept = client.ask("file.bin");
    kept.read_exact(&mut [0; 1000]).expect("an answer");
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    kept.read_to_end(&mut Vec::new())
        .expect("the server closes in order");
    drop(kept);
    daemon.ended();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_drain_deadline_resets_what_is_left() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 64 * MIB);
    let settings = [("limits.drain_timeout", "\"1s\"")];
    let daemon = Daemon::start(&lab, site.root(), &settings);
    let mut stalled = Client::new(&lab.client, lab.server.ipv4).ask("file.bin");
    assert_stalls(&daemon);
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.ended();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1),
        "ended after {took:?}, before the deadline"
    );
    assert!(took < Duration::from_secs(5), "ended after {took:?}");
    let error = stalled
        .read_to_end(&mut Vec::new())
        .expect_err("the rest of the file cannot come");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_second_sigterm_ends_the_drain() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 64 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let stalled = Client::new(&lab.client, lab.server.ipv4).ask("file.bin");
    daemon.signal(Signal::TERM);
    eventually("the drain begins", Duration::from_secs(5), || {
        daemon.log().contains("draining").then_some(())
    });
    daemon.signal(Signal::TERM);
    daemon.ended();
    drop(stalled);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_killed_daemon_leaves_no_xdp_program() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 8 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    assert!(lab.server.has_xdp_program());
    let stream = client.ask("file.bin");
    daemon.kill();
    eventually(
        "the link of the program is gone",
        Duration::from_secs(5),
        || (!lab.server.has_xdp_program()).then_some(()),
    );
    drop(stream);
    // The port is free for the kernel again, and the queue for the next daemon.
    let listener = lab
        .server
        .inside(|| std::net::TcpListener::bind((lab.server.ipv4, crate::daemon::PORT)));
    drop(listener.expect("the port is free"));
    let next = Daemon::start(&lab, site.root(), &[]);
    client.download(&site, "file.bin");
    next.finish();
    assert!(!lab.server.has_xdp_program());
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn restarts_follow_each_other_without_a_pause() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    for _ in 0..5 {
        let daemon = Daemon::start(&lab, site.root(), &[]);
        Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
        daemon.finish();
    }
}

/// Asserts that a daemon ends by itself with status 1, and says what was lost with every one of `words` and a fix.
fn gives_up(daemon: Daemon, words: &[&str]) {
    let (status, said) = daemon.gave_up();
    assert_eq!(status.code(), Some(1), "{said}");
    let stopping = said
        .lines()
        .find(|line| line.contains("stopping:"))
        .unwrap_or_else(|| panic!("no reason: {said}"));
    for word in words.iter().chain(&["-> "]) {
        assert!(stopping.contains(word), "`{word}` is missing: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_deleted_interface_ends_the_daemon() {
    let Some(lab) = Lab::shaped(Shape {
        queues: 2,
        ..Shape::default()
    }) else {
        return;
    };
    let site = Site::with("file.bin", 64 * MIB);
    let link = lab.server.link.as_str();
    // Idle, and with a transfer under way.
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let _running = Client::new(&lab.client, lab.server.ipv4).ask("file.bin");
    lab.server.run("ip", &["link", "del", "dev", link]);
    gives_up(daemon, &[link, "is gone"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_program_detached_by_somebody_else_ends_the_daemon() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    // Links of all namespaces are listed; ours is the one that holds the program of the interface.
    let program = lab.server.xdp_program().expect("it is attached");
    let links = lab.server.run("bpftool", &["link", "show"]);
    let words = links.lines().map(|line| line.split_whitespace().collect());
    let id = words
        .filter_map(|words: Vec<&str>| match words[..] {
            [id, "xdp", "prog", held, ..] if held == program => id.strip_suffix(':'),
            _ => None,
        })
        .next()
        .unwrap_or_else(|| panic!("no link of program {program}: {links}"));
    lab.server.run("bpftool", &["link", "detach", "id", id]);
    gives_up(
        daemon,
        &[&lab.server.link, "detached", "bpftool link detach"],
    );
    assert!(!lab.server.has_xdp_program());
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn addresses_that_only_we_have_are_found_and_served() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let owned: [IpAddr; 2] =
        ["192.0.2.77", "2001:db8::77"].map(|text| text.parse().expect("valid"));
    let settings = [
        ("xdp.addresses", "[]"),
        ("xdp.owned_addresses", "[\"192.0.2.77\", \"2001:db8::77\"]"),
    ];
    let daemon = Daemon::start(&lab, site.root(), &settings);
    for address in owned {
        Client::new(&lab.client, address).download(&site, "file.bin");
    }
    // Nobody but us answers for them: the neighbour has the address of the interface.
    let file = format!("/sys/class/net/{}/address", lab.server.link);
    let mac = lab.server.run("cat", &[&file]);
    let neighbours = lab.client.run("ip", &["neigh", "show"]);
    for address in owned {
        let line = neighbours
            .lines()
            .find(|line| line.starts_with(&format!("{address} ")))
            .unwrap_or_else(|| panic!("{address} is unknown: {neighbours}"));
        assert!(line.contains(mac.trim()), "{line}");
    }
    daemon.finish();
}
