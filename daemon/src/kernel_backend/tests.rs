//! The backend end to end: real sockets on loopback, real files, real clients.

use super::*;
use crate::control::{self, ControlSide};
use crate::services::ServicesConfig;
use core::net::SocketAddr;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command as Process, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Beyond it a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One worker that serves a temporary directory.
struct Server {
    directory: TempDir,
    address: SocketAddr,
    control: ControlSide<KernelReport>,
    thread: Option<JoinHandle<Result<KernelWorker, Errno>>>,
}

struct Setup {
    address: &'static str,
    blocks: usize,
    connections: usize,
    services: ServicesConfig,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            address: "127.0.0.1:0",
            blocks: 64,
            connections: 256,
            services: ServicesConfig::default(),
        }
    }
}

impl Server {
    fn start(setup: &Setup) -> Server {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk_config = DiskConfig {
            threads: 2,
            files: 256,
            queue_depth: 64,
        };
        let disk = Disk::anonymous(setup.blocks * BLOCK_BYTES, &disk_config).expect("disk");
        let root = Root::open(directory.path(), Symlinks::Never).expect("root");
        let services = Services::new(disk, root, &setup.services);
        let listener = Listener::bind(setup.address.parse().expect("address")).expect("bind");
        let address = listener.address();
        let config = KernelWorkerConfig {
            connections: setup.connections,
        };
        let worker = KernelWorker::new(&config, vec![listener], services, monotonic()).expect("worker");
        let (control, worker_side) = control::channel().expect("control");
        let thread = std::thread::spawn(move || worker.run(worker_side));
        Server {
            directory,
            address,
            control,
            thread: Some(thread),
        }
    }

    fn file(&self, name: &str, size: usize) -> Vec<u8> {
        let mut state = 0x1234_5678u32;
        let content: Vec<u8> = (0..size)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        fs::write(self.directory.path().join(name), &content).expect("write file");
        content
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set time-out");
        stream
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn report(&self) -> KernelReport {
        self.control.snapshot(Box::default()).expect("no other snapshot under way");
        *self.control.wait_report(PATIENCE).expect("a report")
    }

    /// Waits until the report satisfies `condition`.
    fn wait_for(&self, what: &str, condition: impl Fn(&KernelReport) -> bool) -> KernelReport {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let report = self.report();
            if condition(&report) {
                return report;
            }
            assert!(std::time::Instant::now() < end, "{what}: {report:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drains within `patience` and waits for the end of the thread.
    fn drain(&mut self, patience: Duration) -> KernelReport {
        self.control.drain(monotonic() + patience);
        let thread = self.thread.take().expect("not drained before");
        let worker = thread.join().expect("no panic").expect("no error");
        let mut report = KernelReport::default();
        worker.report_into(&mut report);
        report
    }

    /// The end of a test: nothing is left behind.
    fn end(mut self) -> KernelReport {
        let report = self.drain(Duration::ZERO);
        assert_eq!(report.connections, 0);
        assert_eq!(report.service.active, 0);
        let disk = report.service.disk;
        assert!(disk.balanced() && disk.pinned == 0 && disk.tickets == 0, "{disk:?}");
        report
    }
}

fn get(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send request");
}

/// Reads a response with a length.
fn read_response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |value| value.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a whole body");
    (head, body)
}

fn curl(arguments: &[&str]) -> std::process::Output {
    Process::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"])
        .args(arguments)
        .output()
        .expect("curl is installed")
}

#[test]
fn curl_downloads_a_file_byte_for_byte() {
    let server = Server::start(&Setup::default());
    let content = server.file("big", 20_000_001);
    let output = curl(&["--fail", &server.url("/big")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&part).expect("read part") == content);
    // Complete: curl asks for what lies behind the end and takes 416 for a success.
    let output = curl(&["-C", "-", "-o", part_name, &server.url("/big")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
    let contents: Vec<_> = (0..8).map(|n| server.file(&format!("f{n}"), 2_000_000 + n)).collect();
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
    let contents: Vec<_> = (0..50).map(|n| server.file(&format!("f{n}"), 5000 * n)).collect();
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
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("the connection is not reset");
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
    stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
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
    let error = stream.read_to_end(&mut received).expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
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
fn a_drain_finishes_the_running_transfer_and_refuses_new_ones() {
    let mut server = Server::start(&Setup::default());
    let content = server.file("big", 64_000_000);
    let mut idle = server.connect();
    let mut busy = server.connect();
    get(&mut busy, "/big");
    busy.read_exact(&mut [0; 9]).expect("a beginning");
    server.wait_for("both are there", |report| report.connections == 2);
    server.control.drain(monotonic() + PATIENCE);
    assert_eq!(idle.read(&mut [0]).expect("FIN"), 0, "an idle connection ends at once");
    drop(idle);
    server.wait_for("one is left", |report| report.connections == 1);
    assert!(TcpStream::connect(server.address).is_err());
    let mut rest = b"HTTP/1.1 ".chain(&mut busy);
    assert!(read_response(&mut rest).1 == content);
    assert_eq!(busy.read(&mut [0]).expect("FIN"), 0);
    drop(busy);
    let report = server.drain(PATIENCE);
    assert_eq!(report.kernel.reset_by_drain, 0);
}

#[test]
fn the_drain_deadline_resets_what_is_left() {
    let mut server = Server::start(&Setup::default());
    server.file("big", 64_000_000);
    let mut stream = server.connect();
    get(&mut stream, "/big");
    stream.read_exact(&mut [0; 1000]).expect("a beginning");
    let report = server.drain(Duration::from_millis(100));
    assert_eq!(report.kernel.reset_by_drain, 1);
    assert_eq!(report.service.counters.abandoned, 1);
    let error = stream.read_to_end(&mut Vec::new()).expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_request_in_the_accept_queue_is_answered_by_a_draining_worker() {
    // The worker does not run yet, so the connection waits in the queue of its listener.
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::write(directory.path().join("a"), b"hello").expect("write file");
    let disk_config = DiskConfig {
        threads: 1,
        files: 4,
        queue_depth: 4,
    };
    let disk = Disk::anonymous(4 * BLOCK_BYTES, &disk_config).expect("disk");
    let root = Root::open(directory.path(), Symlinks::Never).expect("root");
    let services = Services::new(disk, root, &ServicesConfig::default());
    let listener = Listener::bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let mut stream = TcpStream::connect(listener.address()).expect("connect");
    get(&mut stream, "/a");
    let config = KernelWorkerConfig { connections: 4 };
    let worker = KernelWorker::new(&config, vec![listener], services, monotonic()).expect("worker");
    let (control, worker_side) = control::channel().expect("control");
    control.drain(monotonic() + PATIENCE);
    let thread = std::thread::spawn(move || worker.run(worker_side));
    let (head, body) = read_response(&mut stream);
    assert!(head.contains("Connection: close\r\n"), "{head}");
    assert_eq!(body, b"hello");
    drop(stream);
    thread.join().expect("no panic").expect("no error");
}

#[test]
fn an_idle_worker_does_not_turn() {
    let server = Server::start(&Setup::default());
    server.file("a", 10);
    let mut stream = server.connect();
    get(&mut stream, "/a");
    let _ = read_response(&mut stream);
    // The last wake-ups of the request, and one look at the time limits.
    std::thread::sleep(Duration::from_millis(600));
    let before = server.control.turns();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(server.control.turns(), before);
    drop(stream);
    server.end();
}

#[test]
fn a_head_that_does_not_come_gets_408_and_silence_a_fin() {
    let setup = Setup {
        services: ServicesConfig {
            header_timeout: Duration::from_millis(300),
            idle_timeout: Duration::from_millis(900),
            ..ServicesConfig::default()
        },
        ..Setup::default()
    };
    let server = Server::start(&setup);
    let mut slow = server.connect();
    let mut silent = server.connect();
    slow.write_all(b"GET / HTTP/1.1\r\n").expect("send");
    let (head, _) = read_response(&mut slow);
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    assert_eq!(slow.read(&mut [0]).expect("FIN"), 0);
    assert_eq!(silent.read(&mut [0]).expect("FIN"), 0);
    drop((slow, silent));
    let report = server.end();
    assert_eq!(report.service.counters.head_timeouts, 1);
    assert_eq!(report.service.counters.idle_timeouts, 1);
}

#[test]
fn a_full_worker_closes_an_idle_connection_for_a_new_one() {
    let setup = Setup {
        connections: 2,
        ..Setup::default()
    };
    let server = Server::start(&setup);
    let content = server.file("a", 10);
    let mut busy = server.connect();
    busy.write_all(b"GET /a HTTP/1.1\r\n").expect("send");
    let mut idle = server.connect();
    get(&mut idle, "/a");
    let _ = read_response(&mut idle);
    let mut new = server.connect();
    get(&mut new, "/a");
    assert_eq!(read_response(&mut new).1, content);
    assert_eq!(idle.read(&mut [0]).expect("FIN"), 0);
    busy.write_all(b"Host: test\r\n\r\n").expect("send");
    assert_eq!(read_response(&mut busy).1, content, "the busy one was left alone");
    drop((busy, idle, new));
    assert_eq!(server.end().kernel.evicted_idle, 1);
}

#[test]
fn a_worker_full_of_busy_connections_refuses() {
    let setup = Setup {
        connections: 1,
        ..Setup::default()
    };
    let server = Server::start(&setup);
    let mut busy = server.connect();
    busy.write_all(b"GET /a HTTP/1.1\r\n").expect("send");
    server.wait_for("a request has begun", |report| report.service.active == 1);
    let mut refused = server.connect();
    let error = refused.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop((busy, refused));
    assert_eq!(server.end().kernel.refused_full, 1);
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

/// The child of the next test: a server with few descriptors. Ends with its standard input.
#[test]
#[ignore = "run by running_out_of_descriptors_refuses_and_recovers, in its own process"]
fn child_with_few_descriptors() {
    let server = Server::start(&Setup::default());
    server.file("a", 10);
    let open = fs::read_dir("/proc/self/fd").expect("procfs").count();
    let limit = Rlimit {
        current: Some(u64::try_from(open + 8).expect("small")),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).expect("setrlimit");
    println!("\naddress {}", server.address);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("\nrefused {}", server.end().kernel.refused_descriptors);
}

#[test]
fn running_out_of_descriptors_refuses_and_recovers() {
    let mut child = Process::new(std::env::current_exe().expect("test binary"))
        .args(["--ignored", "--exact", "--nocapture", "kernel_backend::tests::child_with_few_descriptors"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = |start: &str| {
        let found = lines.by_ref().map(|line| line.expect("UTF-8")).find_map(|line| {
            line.strip_prefix(start).map(str::to_owned)
        });
        found.expect("the child says so")
    };
    let address: SocketAddr = line("address ").parse().expect("address");
    // The status, unless the connection was reset, as those are that were accepted only to be refused.
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("set time-out");
        let mut answer = [0; 12];
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n")?;
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let mut streams: Vec<_> = (0..30).map(|_| TcpStream::connect(address).expect("connect")).collect();
    // Where no descriptor is left for the file it is a 503.
    let answered = streams.iter_mut().map(ask).filter(Result::is_ok).count();
    assert!((1..30).contains(&answered), "{answered} of 30 answered");
    drop(streams);
    let recovered = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let answer = ask(&mut TcpStream::connect(address).expect("connect"));
        answer.is_ok_and(|answer| answer == *b"HTTP/1.1 200")
    });
    assert!(recovered, "serves again when descriptors are free");
    drop(child.stdin.take());
    assert!(line("refused ").parse::<u64>().expect("a number") > 0);
    assert!(child.wait().expect("wait").success());
}
