//! Where it happens: Linux at one end of a veth pair, raw frames at the other.
//!
//! The kernel at our end owns neither the address nor the hardware address that Linux talks to, so it adds nothing of
//! its own. Everything that comes from Linux is told apart by its source port: every dialogue has a listener of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use sluice_wire::{Ecn, TcpHeader};

use crate::frame;
use crate::lab::{End, Lab};
use crate::port::{FRAME_BYTES, Look, Port};
use crate::skip::skip;

const MTU: u16 = 1500;
/// What `frame.rs` writes into every frame.
const LINUX_MAC: &str = "02:00:00:00:00:01";
const OUR_MAC: &str = "02:00:00:00:00:02";
const FIRST_PORT: u16 = 10_000;
/// How long the listener to frames sleeps at most, in milliseconds.
const NAP_MS: u16 = 50;

/// A segment from Linux.
#[derive(Debug)]
pub struct Arrival {
    /// When the kernel at our end got it.
    pub at: Instant,
    pub header: TcpHeader,
    pub len: u32,
    pub ecn: Ecn,
}

type Dialogues = Arc<Mutex<BTreeMap<u16, Sender<Arrival>>>>;

/// The pair, and who listens to which port of Linux.
pub struct Place {
    // Dropped in this order: first who listens, then the network.
    listener: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    dialogues: Dialogues,
    sender: Port,
    next_port: AtomicU16,
    lab: Lab,
}

impl Place {
    /// `None`, reported as a skip, if this process may not build it.
    pub fn new() -> Option<Place> {
        if !nix::unistd::geteuid().is_root() {
            skip(
                "wire",
                "needs root for network namespaces: sudo make test-veth",
            );
            return None;
        }
        let lab = Lab::new(MTU).expect("the lab can be built");
        prepare(&lab);
        let link = lab.link(End::Client);
        let open = || Port::open(&link).expect("root may open an interface");
        let (sender, receiver) = inside(&lab, End::Client, || (open(), open()));
        let dialogues = Dialogues::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let listener = {
            let (dialogues, is_over) = (Arc::clone(&dialogues), Arc::clone(&is_over));
            thread::spawn(move || listen(receiver, &dialogues, &is_over))
        };
        Some(Place {
            listener: Some(listener),
            is_over,
            dialogues,
            sender,
            next_port: AtomicU16::new(FIRST_PORT),
            lab,
        })
    }

    /// Where sockets of this thread will be: with Linux.
    pub fn enter(&self) {
        enter(&self.lab, End::Server);
    }

    /// Whether Linux offers and accepts ECN from now on, of the classic kind (tcp_ecn in ip-sysctl.rst).
    pub fn set_ecn(&self, is_on: bool) {
        let set = format!("echo {} >/proc/sys/net/ipv4/tcp_ecn", u8::from(is_on));
        let set = self.lab.run(End::Server, "sh", &["-c", &set]);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// A port of Linux that was never used, and what comes from it.
    pub fn reserve(&self) -> (u16, Receiver<Arrival>) {
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        self.dialogues
            .lock()
            .expect("nobody panics with it")
            .insert(port, sender);
        (port, receiver)
    }

    /// Nobody listens to this port any more.
    pub fn release(&self, port: u16) {
        self.dialogues
            .lock()
            .expect("nobody panics with it")
            .remove(&port);
    }

    /// A frame to Linux.
    pub fn send(&self, frame: &[u8]) {
        let sent = self.sender.send(frame).expect("the link is up");
        assert!(sent, "the link has room for a frame");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Address of Linux.
pub fn linux(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
    }
}

/// Address of all scripted peers.
pub fn peer(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0x99))
    }
}

/// One packet is one frame with a finished checksum; the peer is known without asking, and its route says nothing
/// about congestion control, or it would decide over the socket.
fn prepare(lab: &Lab) {
    let run = |end: End, program: &str, args: &[&str]| {
        lab.run(end, program, args)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    for end in [End::Server, End::Client] {
        let link = lab.link(end);
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        run(end, "ethtool", &[&["-K", &link], &off[..]].concat());
    }
    let link = lab.link(End::Server);
    // Linux sets PSH on every packet of several segments, for the sake of the receiver's GRO.
    let set = [
        "link",
        "set",
        &link,
        "address",
        LINUX_MAC,
        "gso_max_segs",
        "1",
    ];
    run(End::Server, "ip", &set);
    for ipv6 in [false, true] {
        let peer = peer(ipv6).to_string();
        let neighbour = ["neigh", "replace", &peer, "lladdr", OUR_MAC, "nud"];
        let neighbour = [&neighbour[..], &["permanent", "dev", &link]].concat();
        run(End::Server, "ip", &neighbour);
        run(
            End::Server,
            "ip",
            &["route", "replace", &peer, "dev", &link],
        );
    }
}

fn listen(mut port: Port, dialogues: &Dialogues, is_over: &AtomicBool) {
    let mut buffer = vec![0; FRAME_BYTES];
    while !is_over.load(Ordering::Relaxed) {
        let mut polled = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(NAP_MS)).expect("a socket can be polled");
        loop {
            let received = match port.receive(&mut buffer).expect("the link is up") {
                Look::Empty => break,
                Look::Skip => continue,
                Look::Frame(received) => received,
            };
            // What is no TCP is what IPv6 says to itself.
            let Ok((header, len, ecn)) = frame::read(&buffer[..received.len]) else {
                continue;
            };
            let now = Instant::now();
            let arrival = Arrival {
                at: now.checked_sub(received.age).unwrap_or(now),
                header,
                len,
                ecn,
            };
            let dialogues = dialogues.lock().expect("nobody panics with it");
            if let Some(dialogue) = dialogues.get(&arrival.header.src_port) {
                // A dialogue that is over does not listen.
                let _ = dialogue.send(arrival);
            }
        }
    }
}

/// Runs `work` on a thread at one end.
fn inside<R: Send>(lab: &Lab, end: End, work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            enter(lab, end);
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(lab: &Lab, end: End) {
    let path = Path::new("/run/netns").join(lab.namespace(end));
    let namespace = File::open(path).expect("the namespace exists");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
}
