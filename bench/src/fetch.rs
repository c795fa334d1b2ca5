//! A client of our own TCP: fetches one file over raw frames, from an address that no kernel has.
//!
//! `peers` runs it where the kernel's TCP is the sender, and `link` lies between them. It is a program of its own, as
//! curl is, so that it can have a network namespace, a CPU and a priority: the kernel's TCP takes segments in softirqs,
//! before everything else, and so must what is compared with it. Its answer is that of `curl --write-out`: bytes of the
//! body and seconds.

mod client;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use sluice_tcp::CloseReason;
use sluice_tcp::clock;
use sluice_wire::{LinkHeader, MacAddr, VlanTags};

use crate::error::Error;
use crate::link::port::{FRAME_BYTES, Look, Port};
use crate::xsk::link_address;
use client::{Client, Ends};

/// Frames taken before the stack has its turn: about what a NAPI poll takes.
const BATCH: usize = 64;
/// First of the ports that programs may take (RFC 6335 section 6), and how many follow.
const DYNAMIC_PORTS: (u16, u16) = (49_152, 16_384);

/// Flags of the client.
#[derive(Args, Debug)]
pub struct Options {
    /// Where its frames leave and arrive
    #[arg(long)]
    interface: String,

    /// Its address, which no kernel may have; the server must know the way to it. Its port follows from the process id
    #[arg(long, value_name = "IPV4")]
    address: Ipv4Addr,

    /// Its link address
    #[arg(long, value_name = "MAC", value_parser = link_address)]
    link_address: MacAddr,

    /// The server
    #[arg(long, value_name = "IPV4:PORT")]
    server: SocketAddrV4,

    /// The server's link address
    #[arg(long, value_name = "MAC", value_parser = link_address)]
    server_link_address: MacAddr,

    /// What to ask for
    #[arg(long)]
    path: String,

    /// End after this many seconds with what came until then
    #[arg(long, default_value_t = 120)]
    seconds: u32,

    /// Where the body goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Fetches until the connection is closed on both sides or the time is over, and prints the bytes of the body and the
/// seconds from the SYN to its last byte.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut port = Port::open(&options.interface)
        .map_err(Error::io(format!("interface {}", options.interface)))?;
    let mut client = Client::open(&options.ends(), &options.request()).map_err(|error| {
        let error = io::Error::other(error.to_string());
        Error::io("opening a connection")(error)
    })?;
    converse(
        &mut port,
        &mut client,
        Duration::from_secs(options.seconds.into()),
    )
    .map_err(Error::io("packet socket"))?;
    if let Some(reason) = client.closed().filter(|how| *how != CloseReason::Finished) {
        return Err(failed(format!("the connection ended badly: {reason:?}")));
    }
    let body = body(client.stream()).ok_or_else(|| failed("no file in the answer".to_owned()))?;
    fs::write(&options.output, body).map_err(Error::io(options.output.display().to_string()))?;
    println!("{} {:.6}", body.len(), client.took().as_secs_f64());
    Ok(())
}

impl Options {
    fn ends(&self) -> Ends {
        let (first, count) = DYNAMIC_PORTS;
        // The server remembers the tuples of its last minute in TIME-WAIT: the next process takes another one.
        let offset = std::process::id() % u32::from(count);
        let port = first + u16::try_from(offset).unwrap_or(0);
        Ends {
            link: LinkHeader {
                dst: self.server_link_address,
                src: self.link_address,
                vlan: VlanTags::NONE,
            },
            local: SocketAddrV4::new(self.address, port),
            remote: self.server,
        }
    }

    /// HTTP/1.0: the server closes behind the body.
    fn request(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.0\r\n\r\n", self.path).into_bytes()
    }
}

fn converse(port: &mut Port, client: &mut Client, lasts: Duration) -> io::Result<()> {
    let begin = Instant::now();
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let elapsed = begin.elapsed();
        let now = clock::Instant::ZERO + elapsed;
        for _ in 0..BATCH {
            match port.receive(&mut buffer)? {
                Look::Empty => break,
                Look::Skip => {}
                Look::Frame(received) => {
                    if let Some(frame) = buffer.get(..received.len) {
                        client.receive(now, frame);
                    }
                }
            }
        }
        let Some(left) = lasts.checked_sub(elapsed) else {
            client.give_up();
            return client.turn(now, |frame| port.send(frame).map(drop));
        };
        client.turn(now, |frame| port.send(frame).map(drop))?;
        if client.closed().is_some() {
            return Ok(());
        }
        let deadline = client.next_deadline();
        sleep(
            port,
            deadline.map_or(left, |at| at.saturating_since(now).min(left)),
        )?;
    }
}

/// Until a frame is there or the time is over.
fn sleep(port: &Port, time: Duration) -> io::Result<()> {
    let mut polled = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What follows the head of a response that brings a file. Empty while the head is not complete.
fn body(stream: &[u8]) -> Option<&[u8]> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let Some(end) = stream.windows(BLANK.len()).position(|at| at == BLANK) else {
        return Some(&[]);
    };
    let (head, body) = stream.split_at(end + BLANK.len());
    head.starts_with(b"HTTP/1.1 200 ").then_some(body)
}

fn failed(said: String) -> Error {
    Error::Failed {
        program: "sluice-bench fetch".to_owned(),
        said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_what_follows_the_head_of_a_file() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
        assert_eq!(body(whole), Some(&b"\r\n\r\n"[..]));
        assert_eq!(body(&whole[..30]), Some(&b""[..]), "half a head");
        assert_eq!(body(b"HTTP/1.1 404 Not Found\r\n\r\nno"), None);
    }
}
