//! Downloads with real clients, whole and cut.

use super::*;

#[test]
fn curl_downloads_a_file_byte_for_byte() {
    let server = Server::start(&Setup::default());
    let content = server.file("big", 20_000_001);
    let output = curl(&["--fail", &server.url("/big")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stdout == content);
    let report = server.end();
    assert_eq!(report.service.counters.responses_2xx, 1);
    assert!(report.service.counters.response_bytes > 20_000_001);
}

#[test]
fn curl_resumes_a_download() {
    let server = Server::start(&Setup::default());
    let content = server.file("big", 3_000_000);
    let part = server.directory.path().join("part");
    fs::write(&part, &content[..1_234_567]).expect("write part");
    let part_name = part.to_str().expect("UTF-8");
    let output = curl(&["--fail", "-C", "-", "-o", part_name, &server.url("/big")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(&part).expect("read part") == content);
    // Complete: curl asks for what lies behind the end and takes 416 for a success.
    let output = curl(&["-C", "-", "-o", part_name, &server.url("/big")]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(&part).expect("read part") == content);
    server.end();
}

#[test]
fn curl_gets_a_range_and_the_head_alone() {
    let server = Server::start(&Setup::default());
    let content = server.file("a", 200_000);
    let output = curl(&["--range", "65530-131080", &server.url("/a")]);
    assert!(output.stdout == content[65_530..=131_080]);
    let output = curl(&["--head", &server.url("/a")]);
    let head = String::from_utf8(output.stdout).expect("ASCII");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Length: 200000\r\n"), "{head}");
    server.end();
}

#[test]
fn sixty_four_downloads_at_once_are_equal() {
    let setup = Setup {
        blocks: 16,
        ..Setup::default()
    };
    let server = Server::start(&setup);
    let contents: Vec<_> = (0..8)
        .map(|n| server.file(&format!("f{n}"), 2_000_000 + n))
        .collect();
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (server, content) = (&server, &contents[n % 8]);
            scope.spawn(move || {
                let mut stream = server.connect();
                for _ in 0..2 {
                    get(&mut stream, &format!("/f{}", n % 8));
                    let (head, body) = read_response(&mut stream);
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    assert!(body == *content);
                }
            });
        }
    });
    let report = server.end();
    assert_eq!(report.service.counters.responses_2xx, 128);
}

#[test]
fn pipelined_requests_on_one_connection_are_answered_in_order() {
    let server = Server::start(&Setup::default());
    let contents: Vec<_> = (0..50)
        .map(|n| server.file(&format!("f{n}"), 5000 * n))
        .collect();
    let mut stream = server.connect();
    for n in 0..50 {
        get(&mut stream, &format!("/f{n}"));
    }
    for content in &contents {
        assert!(read_response(&mut stream).1 == *content);
    }
    drop(stream);
    server.end();
}

#[test]
fn the_connection_ends_after_a_response_that_says_so() {
    let server = Server::start(&Setup::default());
    let content = server.file("a", 100_000);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .expect("send request");
    assert!(read_response(&mut stream).1 == content);
    assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
    // Late bytes are read away: no reset takes the response from a client that has not read it yet.
    stream
        .write_all(b"GET / HTTP/1.1\r\n")
        .expect("the connection is not reset");
    drop(stream);
    server.wait_for("the connection ends", |report| report.connections == 0);
    server.end();
}

#[test]
fn a_peer_that_half_closes_gets_its_whole_response() {
    let server = Server::start(&Setup::default());
    let content = server.file("big", 8_000_000);
    let mut stream = server.connect();
    get(&mut stream, "/big");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("shutdown");
    assert!(read_response(&mut stream).1 == content);
    assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
    server.wait_for("the connection ends", |report| report.connections == 0);
    server.end();
}

#[test]
fn a_file_truncated_while_served_resets_the_connection() {
    let server = Server::start(&Setup::default());
    let content = server.file("big", 64_000_000);
    let mut stream = server.connect();
    get(&mut stream, "/big");
    let mut received = vec![0; 100_000];
    stream.read_exact(&mut received).expect("a beginning");
    let path = server.directory.path().join("big");
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_len(1_000_000).expect("truncate");
    let error = stream
        .read_to_end(&mut received)
        .expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let head = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head")
        + 4;
    assert!(content.starts_with(&received[head..]), "no wrong byte");
    let report = server.wait_for("the connection ends", |report| report.connections == 0);
    assert_eq!(report.kernel.reset_by_us, 1);
    server.end();
}

#[test]
fn a_client_that_resets_leaves_nothing_behind() {
    let server = Server::start(&Setup::default());
    server.file("big", 64_000_000);
    let mut stream = server.connect();
    get(&mut stream, "/big");
    stream.read_exact(&mut [0; 1000]).expect("a beginning");
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("linger");
    drop(stream);
    let report = server.wait_for("the connection ends", |report| report.connections == 0);
    assert_eq!(report.kernel.reset_by_peer, 1);
    assert_eq!(report.service.disk.files_open, 0);
    server.end();
}

#[test]
fn a_slow_client_pins_no_block() {
    let server = Server::start(&Setup::default());
    server.file("big", 64_000_000);
    let mut stream = server.connect();
    get(&mut stream, "/big");
    stream.read_exact(&mut [0; 1000]).expect("a beginning");
    // As soon as the socket buffers are full.
    let report = server.wait_for("the socket is full", |report| {
        report.service.counters.response_bytes > 100_000 && report.service.disk.pinned == 0
    });
    assert_eq!(report.connections, 1);
    drop(stream);
    server.end();
}

#[test]
fn ipv6_is_served_too() {
    let server = Server::start(&Setup {
        address: "[::1]:0",
        ..Setup::default()
    });
    let content = server.file("a", 70_000);
    let mut stream = server.connect();
    get(&mut stream, "/a");
    assert_eq!(read_response(&mut stream).1, content);
    drop(stream);
    server.end();
}

#[test]
fn latencies_are_recorded_per_request() {
    let server = Server::start(&Setup::default());
    server.file("a", 10);
    let mut stream = server.connect();
    for _ in 0..3 {
        get(&mut stream, "/a");
        let _ = read_response(&mut stream);
    }
    drop(stream);
    let report = server.end();
    for (name, series) in report.service.histograms.series().take(2) {
        assert_eq!(series.len(), 3, "{name}");
    }
}
