//! An HTTP client that measures, over kernel TCP or our own: many connections in one thread, in a closed or an open loop.
//!
//! In the closed loop every connection asks again when it was answered. In the open loop requests are due by a fixed
//! schedule whatever happens, and latency counts from when a request was due, not from when a connection was free for
//! it: a server that stalls is charged for everything that had to wait (coordinated omission, Gil Tene). First one
//! whole object is fetched and compared with the file; later the status and the length of every answer are checked.
//!
//! It is a process of its own so that it can have a namespace and a CPU. It says `ready` on stdout once everything that
//! receives for it is there, `begin` and `end` when what it measures does, so that a parent can look at clocks of its own,
//! then the [`Outcome`] as one line of JSON. One that is attended stays until its stdin ends: of a process that is gone
//! nothing can be read.
//!
//! | file | role |
//! |---|---|
//! | `connection` | one connection: non-blocking connect, request, answer |
//! | `response` | the head of an answer, and how much body is left |
//! | `schedule` | when requests are due |
//! | `record` | what is counted, and when |
//! | `agenda` | who asks next |
//! | `driver` | the loop over all of them |
//! | `afxdp` | the other client: our TCP over AF_XDP |

mod afxdp;
mod agenda;
mod connection;
mod driver;
mod record;
mod response;
mod schedule;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_wire::MacAddr;

use crate::error::Error;
use crate::xsk::{Attach, link_address};
use driver::Driver;
pub use record::{Outcome, read_histograms};
use response::Answer;

/// How long the answers to an open loop may take after its end.
const GRACE: Duration = Duration::from_secs(5);
/// How long the first fetch may hang.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it says once its sockets, or its program, receive.
pub const READY: &str = "ready";
/// What it says when what is measured begins.
pub const BEGIN: &str = "begin";
/// What it says when that ends.
pub const END: &str = "end";
/// What it says of an answer that is not the file.
pub const DIFFERS: &str = "the content differs from the file";
const BUFFER_BYTES: usize = 256 << 10;

/// Whose TCP asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stack {
    /// The kernel's: sockets and epoll
    #[default]
    Kernel,
    /// Ours, over an AF_XDP socket. Needs root
    Afxdp,
}

/// Flags of the loader.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server
    #[arg(long, value_name = "IPV4:PORT")]
    server: SocketAddrV4,

    /// Whose TCP asks
    #[arg(long, value_enum, default_value_t)]
    client: Stack,

    /// With AF_XDP: the interface [default: the one that the kernel takes to the server]
    #[arg(long)]
    interface: Option<String>,

    /// With AF_XDP: link address of the server [default: the kernel asks for it]
    #[arg(long, value_name = "MAC", value_parser = link_address)]
    server_link_address: Option<MacAddr>,

    /// With AF_XDP: where the program runs
    #[arg(long, value_enum, default_value_t)]
    attach: Attach,

    /// What to ask for
    #[arg(long)]
    path: String,

    /// What the answer must be
    #[arg(long, value_name = "FILE")]
    content: PathBuf,

    /// Connections at the same time
    #[arg(long, default_value_t = 1)]
    connections: u32,

    /// A new connection for every request
    #[arg(long)]
    close: bool,

    /// Ask once on every connection, then rest
    #[arg(long, conflicts_with_all = ["rate", "close"])]
    idle: bool,

    /// Open loop: requests per second, whatever happens
    #[arg(long)]
    rate: Option<f64>,

    /// What is measured, seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,

    /// What comes before, seconds
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,

    /// Stay until stdin ends
    #[arg(long)]
    attended: bool,

    /// Where the histograms go, one per second
    #[arg(long, value_name = "FILE")]
    histograms: Option<PathBuf>,
}

/// Runs the loader.
pub fn run(options: &Options) -> Result<(), Error> {
    let (outcome, histograms) = match options.client {
        Stack::Kernel => over_kernel(options)?,
        Stack::Afxdp => afxdp::run(options)?,
    };
    if let Some(path) = &options.histograms {
        std::fs::write(path, histograms).map_err(Error::io(path.display().to_string()))?;
    }
    let line = serde_json::to_string(&outcome).map_err(|error| Error::io("JSON")(error.into()))?;
    say(&line).map_err(Error::io("stdout"))?;
    if options.attended {
        io::copy(&mut io::stdin(), &mut io::sink()).map_err(Error::io("stdin"))?;
    }
    Ok(())
}

/// Gives the outcome and the histograms.
fn over_kernel(options: &Options) -> Result<(Outcome, Vec<u8>), Error> {
    raise_file_limit()?;
    say(READY).map_err(Error::io("stdout"))?;
    let length = verify(options)?;
    let mut driver = Driver::new(options, length).map_err(Error::io("the loader"))?;
    let outcome = driver.run().map_err(Error::io("the loader"))?;
    let histograms = driver.histograms().map_err(Error::io("histograms"))?;
    Ok((outcome, histograms))
}

impl Options {
    fn request(&self) -> Vec<u8> {
        let close = if self.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n",
            self.path, self.server
        )
        .into_bytes()
    }
}

/// A word for the parent.
fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}

/// As many connections as the hard limit allows; the soft one is often 1024.
fn raise_file_limit() -> Result<(), Error> {
    let failed = |error: nix::errno::Errno| Error::io("limit of open files")(error.into());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)
}

/// Fetches the object once, compares every byte and gives its length.
fn verify(options: &Options) -> Result<u64, Error> {
    let name = options.content.display().to_string();
    let mut file = File::open(&options.content).map_err(Error::io(name.clone()))?;
    let length = file.metadata().map_err(Error::io(name.clone()))?.len();
    let fetched = Error::io(format!("fetching {}", options.path));
    compare(options, &mut file, length).map_err(fetched)?;
    Ok(length)
}

fn compare(options: &Options, file: &mut File, length: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect(options.server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = Options {
        close: true,
        ..options.clone()
    };
    stream.write_all(&request.request())?;
    let mut answer = Answer::new(length);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut expected = vec![0; BUFFER_BYTES];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::Error::other("the answer is cut short"));
        }
        let body = answer.take(&buffer[..read])?;
        let expected = &mut expected[..body.len()];
        file.read_exact(expected)?;
        if *expected != buffer[body] {
            return Err(io::Error::other(DIFFERS));
        }
        if answer.is_complete() {
            return Ok(());
        }
    }
}
