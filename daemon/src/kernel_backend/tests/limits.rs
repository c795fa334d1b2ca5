//! Draining, time limits, and what happens when slots or descriptors run out.

use super::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

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
    assert_eq!(
        idle.read(&mut [0]).expect("FIN"),
        0,
        "an idle connection ends at once"
    );
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
    let error = stream
        .read_to_end(&mut Vec::new())
        .expect_err("not a clean end");
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
        direct_above: None,
        uploads: sluice_disk::UploadLimits::NONE,
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
    assert_eq!(
        read_response(&mut busy).1,
        content,
        "the busy one was left alone"
    );
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
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "kernel_backend::tests::limits::child_with_few_descriptors",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = |start: &str| {
        let found = lines
            .by_ref()
            .map(|line| line.expect("UTF-8"))
            .find_map(|line| line.strip_prefix(start).map(str::to_owned));
        found.expect("the child says so")
    };
    let address: SocketAddr = line("address ").parse().expect("address");
    // The status, unless the connection was reset, as those are that were accepted only to be refused.
    let ask = |stream: &mut TcpStream| {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("set time-out");
        let mut answer = [0; 12];
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n")?;
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let mut streams: Vec<_> = (0..30)
        .map(|_| TcpStream::connect(address).expect("connect"))
        .collect();
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
