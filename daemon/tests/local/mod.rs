//! A daemon on kernel sockets of the loopback interface, which needs no privilege.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that is killed when dropped.
pub struct Daemon {
    pub child: Child,
    port: u16,
    pub root: tempfile::TempDir,
}

impl Daemon {
    /// Starts one with these lines as its configuration, and waits until it says that it is ready.
    pub fn start(config: &str) -> Daemon {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("file"), "content").expect("the directory is ours");
        let settings = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(settings.path(), config).expect("the file is ours");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluiced"))
            .args(["--backend", "kernel", "--listen-address", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--root"])
            .arg(root.path())
            .arg("--config")
            .arg(settings.path())
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
        Daemon { child, port, root }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child of ours");
    }

    /// Whether it answers a request.
    pub fn serves(&self) -> bool {
        let request = b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        self.ask(request)
            .is_some_and(|answer| answer.ends_with("content"))
    }

    /// Its answer, up to the end of the connection.
    pub fn ask(&self, request: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut answer = String::new();
        stream.write_all(request).ok()?;
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
