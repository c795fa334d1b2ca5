//! The backend end to end: real sockets on loopback, real files, real clients. Here is the server of the tests.

mod limits;
mod transfers;

use super::*;
use crate::control::{self, ControlSide};
use crate::services::ServicesConfig;
use core::net::SocketAddr;
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command as Process;
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
            direct_above: None,
            uploads: sluice_disk::UploadLimits::NONE,
        };
        let disk = Disk::anonymous(setup.blocks * BLOCK_BYTES, &disk_config).expect("disk");
        let root = Root::open(directory.path(), Symlinks::Never).expect("root");
        let services = Services::new(disk, root, &setup.services);
        let listener = Listener::bind(setup.address.parse().expect("address")).expect("bind");
        let address = listener.address();
        let config = KernelWorkerConfig {
            connections: setup.connections,
        };
        let worker =
            KernelWorker::new(&config, vec![listener], services, monotonic()).expect("worker");
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
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("set time-out");
        stream
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn report(&self) -> KernelReport {
        self.control
            .snapshot(Box::default())
            .expect("no other snapshot under way");
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
        assert!(
            disk.balanced() && disk.pinned == 0 && disk.tickets == 0,
            "{disk:?}"
        );
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
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ])
        .args(arguments)
        .output()
        .expect("curl is installed")
}
