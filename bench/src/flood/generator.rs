//! A flood: frames at a given rate from a packet socket, on a thread of its own.
//!
//! Every SYN is one of a kind: address, port and sequence number are drawn anew, and all sums are right, so that what the
//! gate lets through costs the daemon what an honest SYN does. Batches of one sendmmsg(2), as many as are due.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{LinkAddr, MsgFlags, MultiHeaders, sendmmsg};
use nix::unistd::Pid;
use sluice_wire::{Ecn, LinkHeader, TcpEmit, TcpFlags, TcpHeader, TcpOptions, checksum};

/// Frames of a system call: at 500,000 per second one every 128 us.
const BATCH: usize = 64;
const IP: usize = 14;
const TCP: usize = IP + 20;
const FRAME: usize = TCP + 20;
/// Length in the pseudo header.
const TCP_BYTES: u16 = 20;

/// What the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs from anywhere in 11.0.0.0 to 126.255.255.255.
    Everywhere,
    /// SYNs from 203.0.113.0/24.
    Network,
    /// The SYNs of [`Kind::Everywhere`] with an IP header length of 0: the program drops them before it looks for a port,
    /// so they cost what it costs to send them and to start it.
    Control,
}

/// Where they go.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// MAC addresses: the sender's, which is the client's or nobody's, and the server's.
    pub link: LinkHeader,
    /// The service.
    pub server: SocketAddrV4,
}

/// A running flood. It ends with the value.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    begun: Instant,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Flood {
    /// Starts `rate` frames per second through a socket of the client's end, on this CPU if one is given.
    pub fn start(socket: OwnedFd, kind: Kind, aim: Aim, rate: u32, cpu: Option<usize>) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (ended, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            if let Some(cpu) = cpu {
                let mut set = CpuSet::new();
                set.set(cpu)?;
                sched_setaffinity(Pid::from_raw(0), &set)?;
            }
            run(&socket, kind, &aim, rate, &ended, &counter)
        });
        Flood {
            stop,
            sent,
            begun: Instant::now(),
            thread: Some(thread),
        }
    }

    /// Frames per second that the link took so far.
    #[expect(clippy::cast_precision_loss, reason = "frame counts are below 2^52")]
    pub fn rate(&self) -> f64 {
        self.sent.load(Ordering::Relaxed) as f64 / self.begun.elapsed().as_secs_f64()
    }

    /// Ends it and tells what went wrong, if anything did.
    pub fn stop(mut self) -> io::Result<()> {
        self.end().unwrap_or(Ok(()))
    }

    fn end(&mut self) -> Option<io::Result<()>> {
        // Only a flag: nothing else is read by who sees it.
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        Some(
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the generator panicked"))),
        )
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn run(
    socket: &OwnedFd,
    kind: Kind,
    aim: &Aim,
    rate: u32,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<()> {
    let mut frames = [template(aim); BATCH];
    let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH, None);
    let nobody = [None::<LinkAddr>; BATCH];
    let mut random = Random(u64::from(std::process::id()));
    let begun = Instant::now();
    let mut done = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = begun.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        if u128::from(done) + BATCH as u128 > due {
            thread::sleep(Duration::from_micros(20));
            continue;
        }
        for frame in &mut frames {
            vary(frame, kind, &mut random);
        }
        let slices: Vec<[IoSlice; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let results = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, nobody, [], flags);
        let taken = match results {
            Ok(results) => results.count() as u64,
            // The device has no room: the frames that are due later come in their place.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => 0,
            Err(error) => return Err(error.into()),
        };
        // What was refused is not made up for: the rate is an upper bound.
        done += BATCH as u64;
        sent.fetch_add(taken, Ordering::Relaxed);
    }
    Ok(())
}

/// A SYN whose source, port, number and sums are still to come.
fn template(aim: &Aim) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let emit = TcpEmit {
        link: &aim.link,
        src: Ipv4Addr::new(192, 0, 2, 99).into(),
        dst: SocketAddr::from(aim.server).ip(),
        ecn: Ecn::NotEct,
        header: &TcpHeader {
            src_port: 1,
            dst_port: aim.server.port(),
            seq: 0,
            ack: 0,
            flags: TcpFlags::SYN,
            window: 65_535,
            urgent: 0,
            options: TcpOptions::default(),
        },
        payload_len: 0,
    };
    let mut room = [0; TcpEmit::MAX_HEADERS];
    if let Ok(unsealed) = emit.emit(&mut room) {
        unsealed.seal_full(&mut room, checksum::Sum::default());
    }
    frame.copy_from_slice(&room[..FRAME]);
    frame
}

/// Makes another SYN of it.
fn vary(frame: &mut [u8; FRAME], kind: Kind, random: &mut Random) {
    let [a, b, c, d, ports @ ..] = random.next().to_be_bytes();
    let source = match kind {
        Kind::Everywhere | Kind::Control => [11 + a % 116, b, c, d],
        Kind::Network => [203, 0, 113, d],
    };
    frame[IP + 12..IP + 16].copy_from_slice(&source);
    frame[TCP..TCP + 2].copy_from_slice(&ports[..2]);
    // No client uses port 0.
    frame[TCP] |= 4;
    frame[TCP + 4..TCP + 8].copy_from_slice(&random.next().to_be_bytes()[..4]);
    frame[IP] = if kind == Kind::Control { 0x40 } else { 0x45 };
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum::sum(&frame[IP..TCP]).finish();
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    frame[TCP + 16..TCP + 18].fill(0);
    let mut sum = checksum::Sum::default();
    // The pseudo header: both addresses, protocol, length.
    sum.add_bytes(&frame[IP + 12..TCP]);
    sum.add_u16(6);
    sum.add_u16(TCP_BYTES);
    sum.add_bytes(&frame[TCP..]);
    frame[TCP + 16..TCP + 18].copy_from_slice(&sum.finish().to_be_bytes());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}
