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
//! | `request`, `response` | what is sent; the head of an answer, and how much body is left |
//! | `schedule` | when requests are due |
//! | `record` | what is counted, and when |
//! | `agenda`, `settling` | who asks next, and who only rests |
//! | `driver` | the loop over all of them |
//! | `afxdp` | the other client: our TCP over AF_XDP |

mod afxdp;
mod agenda;
mod connection;
mod driver;
mod record;
mod request;
mod response;
mod schedule;
mod settling;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_wire::MacAddr;

use crate::error::Error;
use crate::xsk::{Attach, link_address};
use driver::{Driver, Work};
pub use record::{Outcome, read_histograms};
use request::{Request, stored};
use response::{Answer, Expected};

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
/// What stands behind the path of the upload that is compared.
const FIRST: &str = "first";
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

    /// Store the content by PUT instead, each connection under the path with its number behind it. Not over AF_XDP
    #[arg(long)]
    upload: bool,

    /// What the answer must be, or what is stored
    #[arg(long, value_name = "FILE")]
    content: PathBuf,

    /// Connections at the same time
    #[arg(long, default_value_t = 1)]
    connections: u32,

    /// Connections beside them that ask once before anything is measured, and then rest
    #[arg(long, default_value_t = 0, conflicts_with_all = ["close", "idle"])]
    resting: u32,

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
    let name = options.content.display().to_string();
    let mut file = File::open(&options.content).map_err(Error::io(name.clone()))?;
    let work = if options.upload {
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(Error::io(name))?;
        Work::Upload(content.into())
    } else {
        Work::Download(file.metadata().map_err(Error::io(name))?.len())
    };
    verify(options, &work, &mut file).map_err(Error::io(format!("the first {}", options.path)))?;
    let mut driver = Driver::new(options, &work).map_err(Error::io("the loader"))?;
    let outcome = driver.run().map_err(Error::io("the loader"))?;
    let histograms = driver.histograms().map_err(Error::io("histograms"))?;
    Ok((outcome, histograms))
}

/// A word for the parent.
fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}

/// As many connections as the hard limit allows, for this process and those that it starts; the soft one is often 1024.
pub fn raise_file_limit() -> Result<(), Error> {
    let failed = |error: nix::errno::Errno| Error::io("limit of open files")(error.into());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)
}

/// Moves the object once and compares every byte: what is stored is fetched again.
fn verify(options: &Options, work: &Work, file: &mut File) -> io::Result<()> {
    let mut options = Options {
        close: true,
        ..options.clone()
    };
    let length = match work {
        Work::Download(length) => *length,
        Work::Upload(content) => {
            let put = Request::put(&options, FIRST, Rc::clone(content));
            converse(&put, &options, Expected::Stored, |_| Ok(()))?;
            options.path = stored(&options.path, FIRST);
            file.rewind()?;
            content.len() as u64
        }
    };
    let mut expected = vec![0; BUFFER_BYTES];
    let (get, object) = (Request::get(&options), Expected::Object(length));
    converse(&get, &options, object, |body| {
        let expected = &mut expected[..body.len()];
        file.read_exact(expected)?;
        match expected == body {
            true => Ok(()),
            false => Err(io::Error::other(DIFFERS)),
        }
    })
}

/// One request on a connection of its own. `each` gets the body of its answer, piece by piece.
fn converse(
    request: &Request,
    options: &Options,
    expected: Expected,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(options.server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for piece in request.rest(0) {
        stream.write_all(piece)?;
    }
    let mut answer = Answer::new(expected);
    let mut buffer = vec![0; BUFFER_BYTES];
    while !answer.is_complete() {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::Error::other("the answer is cut short"));
        }
        let body = answer.take(&buffer[..read])?;
        each(&buffer[body])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a loader that asks nobody.
    pub fn options() -> Options {
        Options {
            server: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1),
            client: Stack::Kernel,
            interface: None,
            server_link_address: None,
            attach: Attach::default(),
            path: "/x".to_owned(),
            upload: false,
            content: "unused".into(),
            connections: 1,
            resting: 0,
            close: false,
            idle: false,
            rate: None,
            seconds: 0.4,
            warm_up: 0.05,
            attended: false,
            histograms: None,
        }
    }
}
