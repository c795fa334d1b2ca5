//! `sluice-bench link` between two veth pairs, with kernel TCP and UDP on both sides: `make test-veth`.
//!
//! What the model decides is tested beside the model; here the question is whether frames get what was decided, on
//! time, and whether the summary tells the truth about it.

#[expect(dead_code, reason = "the harness uses more of it")]
#[path = "../src/error.rs"]
mod error;
#[expect(dead_code, reason = "the harness uses more of it")]
#[path = "../src/lab.rs"]
mod lab;
#[path = "../../daemon/tests/skip.rs"]
mod skip;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lab::{End, Lab, SERVER};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::unistd::Pid;
use serde_json::Value;
use skip::skip;

const PORT: u16 = 9000;
const MTU: u16 = 1500;
/// Frame bytes per payload byte of a full segment: 1,448 of payload with timestamps in 1,514.
const FRAME_PER_PAYLOAD: f64 = 1514.0 / 1448.0;

/// A lab with a running link in its middle.
struct Bed {
    lab: Lab,
    link: Child,
    json: PathBuf,
}

impl Bed {
    /// `None`, reported as a skip, if this process may not build it.
    fn new(impairments: &[&str]) -> Option<Bed> {
        if !nix::unistd::geteuid().is_root() {
            skip(
                "link",
                "needs root for network namespaces: sudo make test-veth",
            );
            return None;
        }
        let lab = Lab::with_middle(MTU).expect("the lab can be built");
        let json = lab.scratch().join("link.json");
        let middle = lab.middle();
        let mut link = lab
            .middle_command(env!("CARGO_BIN_EXE_sluice-bench"))
            .args([
                "link",
                "--left",
                &middle.to_server,
                "--right",
                &middle.to_client,
            ])
            .args(impairments)
            .arg("--json")
            .arg(&json)
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut said = String::new();
        let mut stderr = BufReader::new(link.stderr.take().expect("stderr is piped"));
        stderr.read_line(&mut said).expect("the link speaks");
        let bed = Bed { lab, link, json };
        assert_eq!(said, "ready\n");
        // Warnings go where the test's own output goes.
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                println!("link: {line}");
            }
        });
        Some(bed)
    }

    /// Ends the link by SIGTERM and reads its summary, whose sums must be right.
    fn finish(mut self) -> Value {
        let pid = Pid::from_raw(self.link.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("the link runs");
        assert!(self.link.wait().expect("the link ends").success());
        let text = fs::read_to_string(&self.json).expect("the link wrote its summary");
        let summary: Value = serde_json::from_str(&text).expect("the summary is JSON");
        for direction in ["to_right", "to_left"] {
            let direction = &summary["link"][direction];
            let count = |name: &str| direction[name].as_u64().expect(name);
            let dropped: u64 = direction["dropped"]
                .as_object()
                .expect("drops by cause")
                .values()
                .filter_map(Value::as_u64)
                .sum();
            assert_eq!(
                count("packets") + count("duplicated"),
                count("packets_out") + count("held_at_end") + count("not_sent") + dropped,
                "{direction:#}"
            );
            for fault in ["super_packets", "receive_overflow", "not_sent"] {
                assert_eq!(count(fault), 0, "{fault} in {direction:#}");
            }
        }
        println!(
            "link: {} s of CPU in {} s",
            summary["link"]["cpu_seconds"], summary["link"]["seconds"]
        );
        summary["link"].clone()
    }

    /// Runs `work` on a thread in the namespace of one end.
    fn inside<R: Send>(&self, end: End, work: impl FnOnce() -> R + Send) -> R {
        let path = Path::new("/run/netns").join(self.lab.namespace(end));
        let namespace = File::open(path).expect("the namespace exists");
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                work()
            });
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends `bytes` over one kernel TCP connection from server to client, and gives the time from the first byte
    /// to the last, at the client. Every byte is compared.
    fn transfer(&self, bytes: usize) -> Duration {
        let listener = self
            .inside(End::Server, || TcpListener::bind((SERVER, PORT)))
            .expect("the port is free");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            for from in (0..bytes).step_by(CHUNK) {
                stream.write_all(&pattern()[..CHUNK.min(bytes - from)])?;
            }
            Ok::<(), std::io::Error>(())
        });
        let mut stream = self
            .inside(End::Client, || TcpStream::connect((SERVER, PORT)))
            .expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time-out");
        let mut buffer = vec![0; CHUNK];
        let mut start = None;
        for from in (0..bytes).step_by(CHUNK) {
            let part = &mut buffer[..CHUNK.min(bytes - from)];
            stream.read_exact(&mut part[..1]).expect("data arrives");
            start.get_or_insert_with(Instant::now);
            stream.read_exact(&mut part[1..]).expect("data arrives");
            assert!(*part == pattern()[..part.len()], "in the 64 KiB at {from}");
        }
        server
            .join()
            .expect("the server does not panic")
            .expect("the server sends everything");
        start.expect("there was data").elapsed()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.link.kill();
        let _ = self.link.wait();
    }
}

const CHUNK: usize = 1 << 16;

/// 64 KiB in which a shift by a segment would be seen.
fn pattern() -> &'static [u8] {
    use std::sync::LazyLock;
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..CHUNK as u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0])
            .collect()
    });
    &PATTERN
}

#[expect(
    clippy::cast_precision_loss,
    reason = "transfers are far below 2^52 bytes"
)]
fn mbit_per_s(bytes: usize, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64() / 1e6
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_delay_of_20_ms_each_way_is_a_round_trip_of_40_ms() {
    const PINGS: usize = 50;
    let Some(bed) = Bed::new(&["--both", "delay=20ms"]) else {
        return;
    };
    let echo = bed
        .inside(End::Server, || UdpSocket::bind((SERVER, PORT)))
        .expect("the port is free");
    let client = bed
        .inside(End::Client, || UdpSocket::bind(("0.0.0.0", 0)))
        .expect("a port is free");
    for socket in [&echo, &client] {
        let limit = Some(Duration::from_secs(10));
        socket.set_read_timeout(limit).expect("a time-out");
    }
    client.connect((SERVER, PORT)).expect("a route exists");
    thread::spawn(move || {
        let mut byte = [0];
        while let Ok((_, from)) = echo.recv_from(&mut byte) {
            let _ = echo.send_to(&byte, from);
        }
    });
    let mut round_trips: Vec<Duration> = (0..=PINGS)
        .map(|_| {
            let start = Instant::now();
            client.send(&[1]).expect("the socket is connected");
            client.recv(&mut [0]).expect("the echo answers");
            start.elapsed()
        })
        // The first one wakes everything up.
        .skip(1)
        .collect();
    round_trips.sort();
    let summary = bed.finish();
    println!(
        "round trips {:?} to {:?}, median {:?}; releases late by {}",
        round_trips[0],
        round_trips[PINGS - 1],
        round_trips[PINGS / 2],
        summary["to_right"]["late_us"]
    );
    assert!(
        round_trips[0] >= Duration::from_millis(40),
        "{round_trips:?}"
    );
    // Two releases within 200 us, and the kernels and threads at both ends.
    assert!(
        round_trips[PINGS / 2] < Duration::from_micros(40_600),
        "{round_trips:?}"
    );
    assert!(summary["to_left"]["late_us"]["p50"].as_u64().expect("late") < 200);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn one_percent_loss_is_counted_and_is_what_does_not_arrive() {
    const SENT: u64 = 20_000;
    let Some(bed) = Bed::new(&["--to-left", "loss=1%", "--seed", "3"]) else {
        return;
    };
    let server = bed
        .inside(End::Server, || UdpSocket::bind((SERVER, PORT)))
        .expect("the port is free");
    // The end of the traffic.
    server
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("a time-out");
    // Room for all of them: what is lost must be lost on the link.
    setsockopt(&server, RcvBufForce, &(64 << 20)).expect("root may have a large buffer");
    let client = bed
        .inside(End::Client, || UdpSocket::bind(("0.0.0.0", 0)))
        .expect("a port is free");
    client.connect((SERVER, PORT)).expect("a route exists");
    let (arrived, count) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        let mut received = 0u64;
        while server.recv(&mut buffer).is_ok() {
            received += 1;
        }
        let _ = arrived.send(received);
    });
    let datagram = [7; 1000];
    for number in 0..SENT {
        // The backlog of a CPU takes a thousand packets (net.core.netdev_max_backlog).
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        client.send(&datagram).expect("the socket is connected");
    }
    let received = count.recv().expect("the receiver ends");
    let summary = bed.finish();
    let lost = summary["to_left"]["dropped"]["loss"]
        .as_u64()
        .expect("losses");
    println!("{lost} of {SENT} lost");
    // Five standard deviations of a binomial around 200.
    assert!((130..=270).contains(&lost), "{lost}");
    // A few lost frames may have been IPv6 neighbour discovery of the client.
    let missing = SENT - received;
    assert!(
        missing <= lost && lost <= missing + 5,
        "{missing} missing, {lost} lost"
    );
    assert_eq!(summary["to_right"]["dropped"]["loss"], 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_rate_of_50_mbit_is_what_a_transfer_gets() {
    const BYTES: usize = 16 << 20;
    let impairment = "delay=5ms,rate=50mbit,buffer=128k";
    let Some(bed) = Bed::new(&["--both", impairment]) else {
        return;
    };
    let took = bed.transfer(BYTES);
    let rate = mbit_per_s(BYTES, took) * FRAME_PER_PAYLOAD;
    let summary = bed.finish();
    println!("{rate:.2} Mbit/s of frames; {}", summary["to_right"]);
    assert!((47.5..=52.5).contains(&rate), "{rate}");
    let peak = summary["to_right"]["queue_peak_bytes"]
        .as_u64()
        .expect("peak");
    assert!((100 << 10..=128 << 10).contains(&peak), "{peak}");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn kernel_tcp_gets_every_byte_through_everything_at_once() {
    // Short bursts: one ends after so many packets, so a long one swallows a whole series of retransmissions.
    let impairment =
        "delay=1ms,jitter=200us,loss=0.5%,burst=0.1%/60%,reorder=1%/2ms,duplicate=1%,corrupt=0.5%";
    let Some(bed) = Bed::new(&["--both", impairment, "--seed", "11"]) else {
        return;
    };
    bed.transfer(8 << 20);
    let summary = bed.finish();
    let to_right = &summary["to_right"];
    println!("{to_right}");
    for count in ["reordered", "duplicated", "corrupted"] {
        assert!(to_right[count].as_u64().expect(count) > 0, "{count}");
    }
    for cause in ["loss", "burst"] {
        assert!(
            to_right["dropped"][cause].as_u64().expect(cause) > 0,
            "{cause}"
        );
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_link_without_limits_carries_far_more_than_100_mbit() {
    const BYTES: usize = 256 << 20;
    let Some(bed) = Bed::new(&[]) else {
        return;
    };
    let rate = mbit_per_s(BYTES, bed.transfer(BYTES));
    let summary = bed.finish();
    println!("{rate:.0} Mbit/s; {}", summary["to_right"]["late_us"]);
    assert!(rate > 300.0, "{rate}");
}
