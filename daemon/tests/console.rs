//! Whoever reads what the daemon prints may go away at any time: `sluiced | head` must not end a service.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon on kernel sockets of the loopback interface, killed when dropped.
struct Daemon {
    child: Child,
    port: u16,
    _root: tempfile::TempDir,
}

impl Daemon {
    /// Starts one and waits until it says that it is ready.
    fn start() -> Daemon {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("file"), "content").expect("the directory is ours");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluiced"))
            .args(["--backend", "kernel", "--listen-address", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--root"])
            .arg(root.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sluiced runs");
        let stderr = child.stderr.as_mut().expect("it is piped");
        let ready = BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("ready:"));
        assert!(ready, "sluiced ended at start");
        Daemon {
            child,
            port,
            _root: root,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child of ours");
    }

    /// Whether it answers a request.
    fn serves(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut answer = String::new();
        stream
            .write_all(b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.ends_with("content")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_report_that_nobody_reads_does_not_end_the_service() {
    let mut daemon = Daemon::start();
    drop(daemon.child.stdout.take());
    drop(daemon.child.stderr.take());
    // The signal is handled before the next one, and a request after it finds the service alive or gone.
    daemon.signal(Signal::USR1);
    daemon.signal(Signal::USR1);
    for _ in 0..20 {
        assert!(daemon.serves());
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.signal(Signal::TERM);
    let status = daemon.child.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_configuration_that_nobody_reads_is_no_failure() {
    for arguments in [
        &["--print-config", "default"][..],
        &["--print-config", "effective", "--root", "/"],
        &["--doctor", "--root", "/", "--backend", "kernel"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluiced"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sluiced runs");
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = child.wait().expect("a child of ours");
        // 101 is a panic; what the doctor finds depends on the machine.
        assert!(
            matches!(status.code(), Some(0 | 1)),
            "{arguments:?}: {status}"
        );
    }
}
