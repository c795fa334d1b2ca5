//! An AF_XDP socket on a queue of an interface, and the program that catches frames for it: the network of clients and
//! receivers that do without the kernel's TCP.
//!
//! Only queue 0 is used, so an interface with more receive queues is refused: what arrives on the others would be lost.

mod interface;

use std::time::Duration;

use clap::ValueEnum;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use sluice_afxdp::{HugePages, Queue, QueueConfig, Umem, UmemConfig};
use sluice_xdp_prog::{AttachMode, Catch, Catcher, Fate};

use crate::error::Error;
pub use interface::{Interface, link_address, link_address_of};

/// Frames of 4 KiB: what both rings hold, four times.
const FRAMES: u32 = 16_384;
/// Entries of each ring.
const RING: u32 = 4096;
/// Frames that a kick may send.
const BUDGET: u32 = 1024;

/// Where the program runs at the client's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// In the driver: the highest packet rate. On a veth pair it turns off the TSO of the other end
    #[default]
    Native,
    /// In the stack: the other end keeps its TSO, and its super-packets arrive whole
    Generic,
}

impl Attach {
    /// As flags, scenarios and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Attach::Native => "native",
            Attach::Generic => "generic",
        }
    }

    fn mode(self) -> AttachMode {
        match self {
            Attach::Native => AttachMode::Native,
            Attach::Generic => AttachMode::Generic,
        }
    }
}

/// A socket, and what brings it frames.
pub struct Xsk {
    /// The rings.
    pub queue: Queue,
    /// The program.
    pub catcher: Catcher,
}

impl Xsk {
    /// Opens queue 0 of the interface and lets the program catch for it.
    pub fn open(
        interface: &Interface,
        what: Catch,
        fate: Fate,
        attach: Attach,
    ) -> Result<Xsk, Error> {
        let said = |error: String| Error::Xdp {
            interface: interface.name.clone(),
            said: error,
        };
        let queues = interface.receive_queues()?;
        if queues != 1 {
            let name = &interface.name;
            return Err(said(format!(
                "it has {queues} receive queues and only the first is used -> ethtool -L {name} combined 1, or rx 1 tx 1"
            )));
        }
        let mut catcher =
            Catcher::load(what, fate, queues).map_err(|error| said(error.to_string()))?;
        let queue = open_queue(interface.index).map_err(said)?;
        catcher
            .insert_socket(0, queue.fd())
            .map_err(|error| said(error.to_string()))?;
        let attached = catcher.attach(interface.index, attach.mode());
        // The mode is in force or there is an error: there is nothing more to know.
        let _ = attached.map_err(|error| said(format!("{error} -> {}", error.fix())))?;
        Ok(Xsk { queue, catcher })
    }
}

/// A socket that only sends, or one that frames are brought to by somebody else.
pub fn open_queue(ifindex: u32) -> Result<Queue, String> {
    let umem = Umem::new(&UmemConfig {
        frames: FRAMES,
        block_bytes: 0,
        huge_pages: HugePages::Auto,
        tx_metadata: true,
    })
    .map_err(|error| error.to_string())?;
    let config = QueueConfig {
        rx_ring: RING,
        tx_ring: RING,
        fill_ring: RING,
        completion_ring: RING,
        tx_budget: BUDGET,
        ..QueueConfig::new(ifindex, 0)
    };
    Queue::open(umem, &config).map_err(|error| error.to_string())
}

/// Sleeps until a frame is there or the time is over.
pub fn sleep(queue: &Queue, time: Duration) {
    let mut polled = [PollFd::new(queue.fd(), PollFlags::POLLIN)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None) {
        // A caller that looks at everything after each sleep needs no reason.
        Ok(_) | Err(Errno::EINTR) | Err(_) => {}
    }
}
