//! Files arrive whole and unchanged, over every combination that changes the frames on the way.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::client::{Client, assert_body};
use crate::daemon::{Daemon, Settings};
use crate::lab::{Lab, Shape, eventually};
use crate::site::{KIB, MIB, Site, assert_same};

/// Sizes around every border on the way: empty, one segment, one block, and many blocks with a rest.
const SIZES: [usize; 12] = [
    0,
    1,
    1447,
    1448,
    1449,
    8948,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    MIB + 3,
    10 * MIB,
    48 * MIB + 12_345,
];

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Downloads a file of every size and checks the sums.
fn every_size_arrives(family: Family, shape: Shape, settings: Settings) {
    let Some(lab) = Lab::shaped(shape) else {
        return;
    };
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), settings);
    let server = match family {
        Family::V4 => lab.server.ipv4,
        Family::V6 => lab.server.ipv6,
    };
    let client = Client::new(&lab.client, server);
    for size in SIZES {
        let name = format!("{size}.bin");
        site.file(&name, size);
        client.download(&site, &name);
    }
    daemon.finish();
}

fn mtu(mtu: u32) -> Shape {
    Shape {
        mtu,
        ..Shape::default()
    }
}

fn two_queues(mtu: u32) -> Shape {
    Shape {
        mtu,
        queues: 2,
        ..Shape::default()
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_over_ipv4_at_mtu_1500() {
    every_size_arrives(Family::V4, mtu(1500), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_over_ipv6_at_mtu_1500() {
    every_size_arrives(Family::V6, mtu(1500), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_over_ipv4_at_mtu_9000() {
    every_size_arrives(Family::V4, mtu(9000), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_over_ipv6_at_mtu_9000() {
    every_size_arrives(Family::V6, mtu(9000), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_at_the_largest_mtu_of_a_veth() {
    every_size_arrives(Family::V4, mtu(65_535), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_over_two_queues_at_mtu_9000() {
    every_size_arrives(Family::V4, two_queues(9000), &[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_with_a_generic_attach() {
    every_size_arrives(Family::V4, mtu(1500), &[("xdp.attach", "\"generic\"")]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_past_the_page_cache() {
    every_size_arrives(Family::V4, mtu(1500), &[("disk.direct_above", "\"64KiB\"")]);
}

/// Downloads a large file over either IP version with these offloads at the server. Returns super-segments and the
/// segments in them.
fn super_segments(offloads: &[&str], settings: Settings) -> Option<(u64, u64)> {
    let lab = Lab::new()?;
    lab.server.offloads(offloads);
    let site = Site::new();
    site.file("large.bin", 16 * MIB + 17);
    let daemon = Daemon::start(&lab, site.root(), settings);
    for server in [lab.server.ipv4, lab.server.ipv6] {
        Client::new(&lab.client, server).download(&site, "large.bin");
    }
    let report = daemon.finish();
    // Single packets behind a run are among them.
    for not_taken in ["gso_not_taken", "gso_dropped", "gso_refused"] {
        assert_eq!(report.get(not_taken), 0, "{not_taken}");
    }
    Some((report.get("gso_sent"), report.get("gso_segments")))
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn bulk_data_leaves_as_super_segments_whoever_cuts_them() {
    for offloads in [["tso", "on", "gso", "on"], ["tso", "off", "gso", "off"]] {
        let Some((sent, segments)) = super_segments(&offloads, &[]) else {
            return;
        };
        // Some start and end alone.
        let all = 2 * 16 * MIB as u64 / 1448;
        assert!(segments > all * 9 / 10, "{offloads:?}: {segments} of {all}");
        assert!(sent * 5 < segments, "{offloads:?}: {sent} with {segments}");
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_copy_lane_sends_frame_by_frame() {
    let copy = &[("xdp.tx_lane", "\"copy\"")];
    if let Some(sent) = super_segments(&["tso", "on"], copy) {
        assert_eq!(sent, (0, 0));
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_arrives_from_the_kernel_backend() {
    every_size_arrives(Family::V6, mtu(1500), &[("xdp.backend", "\"kernel\"")]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_ready_line_names_the_bound_modes() {
    let Some(lab) = Lab::shaped(two_queues(1500)) else {
        return;
    };
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let line = daemon.ready_line();
    for word in [
        "backend=xdp",
        &format!("interface={}", lab.server.link),
        "attach=native",
        "bind=copy",
        "tx_lane=tso",
        "checksum=offload",
        "queues=[0, 1]",
        "192.0.2.1:8080",
        "[2001:db8::1]:8080",
    ] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    daemon.finish();
}

fn two_hundred_parallel_downloads_arrive(queues: u32) {
    let Some(lab) = Lab::shaped(Shape {
        queues,
        ..Shape::default()
    }) else {
        return;
    };
    let site = Site::new();
    let names: Vec<String> = (0..200).map(|number| format!("{number}.bin")).collect();
    for (number, name) in names.iter().enumerate() {
        site.file(name, 512 * KIB + 1_111 * number);
    }
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let connections = client.download_all(&site, &names, 200);
    assert!(
        connections >= 100,
        "curl used {connections} connections: not parallel"
    );
    let report = daemon.finish();
    assert_eq!(report.get("responses 2xx"), 200);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn two_hundred_parallel_downloads_arrive_over_one_queue() {
    two_hundred_parallel_downloads_arrive(1);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn two_hundred_parallel_downloads_arrive_over_two_queues() {
    two_hundred_parallel_downloads_arrive(2);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn more_files_than_blocks_arrive_in_parallel() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.bin")).collect();
    for name in &names {
        site.file(name, 3 * MIB);
    }
    // The smallest UMEM: some 30 blocks of 64 KiB for 40 transfers that would like more than one each.
    let daemon = Daemon::start(&lab, site.root(), &[("xdp.umem", "\"4MiB\"")]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    client.download_all(&site, &names, 40);
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_kept_connection_serves_many_small_files() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let names: Vec<String> = (0..300).map(|number| format!("{number}.bin")).collect();
    for (number, name) in names.iter().enumerate() {
        site.file(name, 37 * number);
    }
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    assert_eq!(client.download_all(&site, &names, 1), 1);
    let report = daemon.finish();
    assert_eq!(report.get("tcp_accepted"), 1);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn pipelined_requests_are_answered_in_order() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let mut requests = String::new();
    let mut expected = Vec::new();
    for number in 0..20 {
        let name = format!("{number}.bin");
        site.file(&name, 10_000 * number);
        let last = if number == 19 {
            "Connection: close\r\n"
        } else {
            ""
        };
        requests += &format!("GET /{name} HTTP/1.1\r\nHost: lab\r\n{last}\r\n");
        expected.push(std::fs::read(site.path(&name)).expect("just written"));
    }
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let mut stream = Client::new(&lab.client, lab.server.ipv4)
        .connect()
        .expect("it answers");
    stream
        .write_all(requests.as_bytes())
        .expect("the window is open");
    let mut all = Vec::new();
    stream
        .read_to_end(&mut all)
        .expect("the server closes in order");
    let mut rest = all.as_slice();
    for body in &expected {
        let head = rest
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a response head")
            + 4;
        assert!(rest.starts_with(b"HTTP/1.1 200 "));
        assert!(
            rest[head..].starts_with(body),
            "a body of {} bytes differs",
            body.len()
        );
        rest = &rest[head + body.len()..];
    }
    assert_eq!(rest.len(), 0);
    drop(stream);
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_killed_download_resumes_where_it_stood() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("big.bin", 24 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    client.begin("big.bin", "8M").kill();
    let had = client.received("big.bin");
    assert!(had < 24 * MIB as u64);
    let url = client.url("big.bin");
    let said = client.curl_text(&[
        "--fail",
        "--continue-at",
        "-",
        "--write-out",
        "%{http_code} %{size_download}",
        "--output",
        "big.bin",
        &url,
    ]);
    assert_eq!(said, format!("206 {}", 24 * MIB as u64 - had));
    assert_same(&site.path("big.bin"), &client.path("big.bin"));
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn conditions_ranges_and_errors_are_understood_by_curl() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let url = client.url("file.bin");
    let status = |args: &[&str]| {
        let mut all = vec!["--output", "out.bin", "--write-out", "%{http_code}"];
        all.extend(args);
        client.curl_text(&all)
    };

    assert_eq!(status(&["--range", "70000-200000", &url]), "206");
    let whole = std::fs::read(site.path("file.bin")).expect("just written");
    let part = std::fs::read(client.path("out.bin")).expect("just downloaded");
    assert!(part == whole[70_000..=200_000], "the range differs");

    assert_eq!(status(&["--range", "2000000-", &url]), "416");
    assert_eq!(status(&["--head", &url]), "200");
    assert_eq!(status(&[&client.url("absent.bin")]), "404");
    assert_eq!(
        status(&["--path-as-is", &client.url("../../etc/passwd")])
            .chars()
            .next(),
        Some('4')
    );
    assert_eq!(
        status(&["--request", "DELETE", &url]).chars().next(),
        Some('4')
    );

    client.curl_text(&["--etag-save", "tag", "--output", "first.bin", &url]);
    assert_eq!(status(&["--etag-compare", "tag", &url]), "304");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn full_checksums_pass_verification() {
    let Some(lab) = Lab::new() else { return };
    // Without TX checksum offload a kernel peer sums every segment, as one behind a wire does.
    lab.client.offloads(&["tx", "off"]);
    let site = Site::with("file.bin", 4 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[("xdp.checksum_rx", "\"verify\"")]);
    for address in [lab.server.ipv4, lab.server.ipv6] {
        Client::new(&lab.client, address).download(&site, "file.bin");
    }
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_partial_checksum_fails_verification() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 1);
    let daemon = Daemon::start(&lab, site.root(), &[("xdp.checksum_rx", "\"verify\"")]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let output = client.curl(&["--connect-timeout", "2", &client.url("file.bin")]);
    assert_eq!(
        output.status.code(),
        Some(28),
        "curl waits in vain for a connection"
    );
    let report = daemon.finish();
    assert!(
        report.sum("drop_") > 0,
        "no drop was counted:\n{}",
        report.text()
    );
    assert_eq!(report.get("tcp_accepted"), 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_client_that_stops_reading_gets_the_rest_later() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 16 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let mut stream = Client::new(&lab.client, lab.server.ipv4).ask("file.bin");
    // RFC 9293 3.8.6.1: a closed window is probed, and nobody gives up while the probes are answered.
    eventually(
        "the window closes and is probed",
        Duration::from_secs(20),
        || (daemon.report().get("tcp_window_probes") >= 2).then_some(()),
    );
    assert_body(&mut stream, &site.path("file.bin"));
    drop(stream);
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_kernel_keeps_everything_that_is_not_ours() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    // Both ends forget their neighbours: ARP and NDP have to find them again, through the XDP program.
    for side in [&lab.server, &lab.client] {
        side.run("ip", &["neigh", "flush", "dev", &side.link]);
    }
    for address in [lab.server.ipv4, lab.server.ipv6] {
        let listener = lab
            .server
            .inside(|| TcpListener::bind((address, 2222)))
            .expect("the port is free");
        let accepting = thread::spawn(move || listener.accept().map(drop));
        lab.client
            .inside(|| TcpStream::connect_timeout(&(address, 2222).into(), Duration::from_secs(5)))
            .expect("the kernel answers");
        accepting
            .join()
            .expect("no panic")
            .expect("a connection came");
    }
    // What nobody listens on is refused by the kernel, with an ICMP error.
    let refused = lab.client.inside(|| {
        let port = UdpSocket::bind("192.0.2.2:0").expect("any port");
        port.connect((lab.server.ipv4, 9)).expect("a route");
        port.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a time-out");
        port.send(b"?").expect("it goes out");
        port.recv(&mut [0; 1]).expect_err("nobody is there").kind()
    });
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    daemon.finish();
}
