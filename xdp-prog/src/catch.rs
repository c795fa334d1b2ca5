//! `catch.bpf.c` loaded: frames for a load generator or a raw receiver, which are no service.
//!
//! It is what [`Steer`](crate::Steer) is for the daemon, without everything that only a service needs: no settings, no
//! gate, no reasons. One value catches one kind of frame on one interface.

use std::fmt;
use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle};

use crate::attach::{self, AttachMode, Attached, Link};
use crate::catch_skeleton::CatchSkelBuilder;
use crate::error::{AttachError, LoadError, MapError};
use crate::libbpf_log;
use crate::steer::{insert_socket, sum_percpu};

/// What is caught; everything else passes to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Catch {
    /// TCP segments from this address and port: the answers of a server.
    SegmentsFrom(SocketAddrV4),
    /// Frames of this EtherType, such as 0x88b5, which IEEE 802 keeps for local experiments. Nothing has 0, which tells the
    /// program that it is to look for segments.
    EtherType(NonZeroU16),
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes to the socket of its receive queue, and is dropped where there is none.
    ToSocket,
    /// It is counted and dropped: the least that a receiver can do.
    Dropped,
}

/// The program in the kernel, attached or not. Dropping it detaches the program.
pub struct Catcher {
    link: Option<Link>,
    program: OwnedFd,
    sockets: MapHandle,
    caught: MapHandle,
    queues: u32,
}

impl Catcher {
    /// Loads program and maps for an interface with so many receive queues, at least 1. Takes `CAP_BPF` and
    /// `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// [`LoadError`]; nothing is left behind in the kernel.
    pub fn load(what: Catch, fate: Fate, queues: u32) -> Result<Self, LoadError> {
        if queues == 0 {
            return Err(LoadError::NoQueue);
        }
        let (loaded, log) = libbpf_log::collect(|| Self::load_object(what, fate, queues));
        loaded.map_err(|error| LoadError::of(error, log))
    }

    fn load_object(what: Catch, fate: Fate, queues: u32) -> libbpf_rs::Result<Self> {
        let mut storage = MaybeUninit::uninit();
        let mut open = CatchSkelBuilder::default().open(&mut storage)?;
        let constants = open
            .maps
            .rodata_data
            .as_mut()
            .expect("catch.bpf.c has const volatile settings, so .rodata exists");
        match what {
            Catch::EtherType(number) => constants.ether_type = number.get().to_be(),
            Catch::SegmentsFrom(server) => {
                constants.source = u32::from_ne_bytes(server.ip().octets());
                constants.source_port = server.port().to_be();
            }
        }
        constants.drops = (fate == Fate::Dropped).into();
        open.maps.sluice_catch_to.set_max_entries(queues)?;
        let loaded = open.load()?;
        Ok(Self {
            link: None,
            program: loaded.progs.sluice_catch.as_fd().try_clone_to_owned()?,
            sockets: MapHandle::try_from(&loaded.maps.sluice_catch_to)?,
            caught: MapHandle::try_from(&loaded.maps.sluice_caught)?,
            queues,
        })
    }

    /// Attaches the program to the interface with this index, of the caller's network namespace.
    ///
    /// # Errors
    /// As [`Steer::attach`](crate::Steer::attach).
    pub fn attach(&mut self, ifindex: u32, mode: AttachMode) -> Result<Attached, AttachError> {
        if self.link.is_some() {
            return Err(AttachError::AlreadyAttached);
        }
        let (link, attached) = attach::attach(self.program.as_fd(), ifindex, mode)?;
        self.link = Some(link);
        Ok(attached)
    }

    /// Gives what is caught on a receive queue to an AF_XDP socket, which must be bound to that queue.
    ///
    /// # Errors
    /// As [`Steer::insert_socket`](crate::Steer::insert_socket).
    pub fn insert_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), MapError> {
        if queue >= self.queues {
            return Err(MapError::NoSuchQueue {
                queue,
                queues: self.queues,
            });
        }
        insert_socket(&self.sockets, "sluice_catch_to", queue, socket)
    }

    /// Frames caught so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn caught(&self) -> Result<u64, MapError> {
        sum_percpu(&self.caught, "sluice_caught", 0)
    }
}

/// The descriptor of the program, for the kernel's test-run call.
impl AsFd for Catcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl fmt::Debug for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catcher")
            .field("map", &self.sockets.name())
            .field("is_attached", &self.link.is_some())
            .finish_non_exhaustive()
    }
}
