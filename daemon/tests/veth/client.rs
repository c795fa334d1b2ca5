//! Clients in the client namespace: curl over kernel TCP, and plain sockets where curl is too polite.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::{PORT, endpoint};
use crate::lab::{Side, eventually};
use crate::site::{Site, assert_same, sha256};

/// No transfer here takes this long; one that does is a stall, and curl says where it stood.
const CURL_LIMIT_S: &str = "60";
/// The least of `net.ipv4.ip_local_port_range`, as namespaces are made.
const EPHEMERAL_MIN: u16 = 32_768;
/// The same for a step of a plain socket.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where downloads go, and the namespace they are made from.
pub struct Client<'a> {
    side: &'a Side,
    server: IpAddr,
    folder: TempDir,
}

impl<'a> Client<'a> {
    pub fn new(side: &'a Side, server: IpAddr) -> Client<'a> {
        Client {
            side,
            server,
            folder: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn url(&self, name: &str) -> String {
        match self.server {
            IpAddr::V4(address) => format!("http://{address}:{PORT}/{name}"),
            IpAddr::V6(address) => format!("http://[{address}]:{PORT}/{name}"),
        }
    }

    /// Where a download of `name` lands.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Bytes of `name` that have arrived.
    pub fn received(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).map_or(0, |meta| meta.len())
    }

    /// Runs curl with these arguments and gives what it printed, whatever came of it.
    pub fn curl(&self, args: &[&str]) -> Output {
        let mut command = self.side.command("curl");
        command.args(["--silent", "--show-error", "--max-time", CURL_LIMIT_S]);
        command.args(args).current_dir(self.folder.path());
        command.output().expect("ip runs")
    }

    /// Runs curl, which must succeed, and gives what it printed.
    pub fn curl_text(&self, args: &[&str]) -> String {
        let output = self.curl(args);
        assert!(
            output.status.success(),
            "curl {args:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Downloads a file and compares its sum with that of the served one.
    pub fn download(&self, site: &Site, name: &str) {
        self.curl_text(&["--fail", "--output", name, &self.url(name)]);
        assert_same(&site.path(name), &self.path(name));
    }

    /// Downloads all files, `parallel` at a time, and compares every sum. The number of connections used.
    pub fn download_all(&self, site: &Site, names: &[String], parallel: usize) -> usize {
        let config: String = names
            .iter()
            .map(|name| format!("url = \"{}\"\noutput = \"{name}\"\n", self.url(name)))
            .collect();
        fs::write(self.path("curl.conf"), config).expect("the directory is writable");
        let parallel = parallel.to_string();
        let mut args = vec!["--fail", "--config", "curl.conf"];
        args.extend(["--write-out", "%{http_code} %{num_connects}\\n"]);
        if parallel != "1" {
            args.extend([
                "--parallel",
                "--parallel-immediate",
                "--parallel-max",
                &parallel,
            ]);
        }
        let said = self.curl_text(&args);
        let connections = said
            .lines()
            .map(|line| {
                let (status, connects) = line.split_once(' ').expect("two words");
                assert_eq!(status, "200");
                connects.parse::<usize>().expect("a number")
            })
            .sum();
        let served: Vec<_> = names.iter().map(|name| site.path(name)).collect();
        let received: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        assert_eq!(sha256(&served), sha256(&received));
        connections
    }

    /// Starts a download at no more than `bytes_per_second` (curl's notation) and waits until the first
    /// mebibyte has arrived.
    pub fn begin(&self, name: &str, bytes_per_second: &str) -> Download {
        self.begin_with(name, bytes_per_second, &[])
    }

    /// The same from a local port, which must not be one that the kernel gives to others: a connection of theirs that waits
    /// out its TIME-WAIT keeps curl from it.
    pub fn begin_from(&self, name: &str, bytes_per_second: &str, port: u16) -> Download {
        assert!(port < EPHEMERAL_MIN, "{port} may be taken");
        let port = port.to_string();
        self.begin_with(name, bytes_per_second, &["--local-port", &port])
    }

    fn begin_with(&self, name: &str, bytes_per_second: &str, args: &[&str]) -> Download {
        let url = self.url(name);
        let mut command = self.side.command("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                CURL_LIMIT_S,
            ])
            // Else a few hundred KiB arrive at the file in one go, long after they came in.
            .arg("--no-buffer")
            .args(["--limit-rate", bytes_per_second, "--output", name, &url])
            .args(args)
            .current_dir(self.folder.path())
            .stderr(Stdio::piped());
        let mut download = Download {
            child: command.spawn().expect("ip runs"),
        };
        eventually("the first MiB arrives", Duration::from_secs(20), || {
            assert!(
                !download.has_ended(),
                "curl ended early: {}",
                download.words()
            );
            (self.received(name) >= 1 << 20).then_some(())
        });
        download
    }

    /// A connection from the client namespace that gives up reading and writing after some seconds.
    pub fn connect(&self) -> io::Result<TcpStream> {
        self.connect_within(PATIENCE)
    }

    /// A connection, if the handshake does not take longer than this.
    pub fn connect_within(&self, patience: Duration) -> io::Result<TcpStream> {
        let server = endpoint(self.server);
        self.side.inside(|| connect_here(server, patience))
    }

    /// Opens a connection, asks for `name` and reads nothing.
    pub fn ask(&self, name: &str) -> TcpStream {
        let mut stream = self.connect().expect("the service answers");
        stream
            .write_all(format!("GET /{name} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes())
            .expect("a request fits the window");
        stream
    }
}

/// Connects from the namespace of the calling thread.
pub fn connect_here(server: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads a response and compares its body with a file.
pub fn assert_body(stream: &mut TcpStream, file: &Path) {
    let expected = fs::read(file).expect("the file is served");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response head");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    let mut body = vec![0; expected.len()];
    stream.read_exact(&mut body).expect("a whole body");
    assert!(body == expected, "the content differs");
}

/// A curl that runs. Dropping it kills it.
pub struct Download {
    child: Child,
}

impl Download {
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// SIGKILL: the kernel closes the socket, with a reset if data was unread.
    pub fn kill(mut self) {
        self.child.kill().expect("curl is a child of ours");
    }

    /// Waits for the end: its exit code and what it said.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("a child can be waited for");
        (status.code(), self.words())
    }

    /// What it said, until its end.
    fn words(&mut self) -> String {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).expect("curl speaks UTF-8");
        }
        said
    }

    /// Waits for the end, which must be a complete download.
    pub fn succeeded(self) {
        let (code, said) = self.ended();
        assert_eq!(code, Some(0), "curl: {said}");
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that what arrived is the beginning of the file, and less than all of it.
pub fn assert_proper_prefix(received: &Path, whole: &[u8]) {
    let received = fs::read(received).expect("the download exists");
    assert!(received.len() < whole.len(), "the download is complete");
    assert!(
        whole.starts_with(&received),
        "the download is not a prefix of the file"
    );
}
