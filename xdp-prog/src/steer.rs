//! The loaded program with its maps and its link.
//!
//! Only descriptors are kept: libbpf's object lives no longer than [`Steer::load`], so nothing here borrows from it, and
//! dropping the [`Steer`] ends the link first, then maps and program.

use std::cell::Cell;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};

use crate::attach::{self, AttachMode, Attached, Link};
use crate::config::SteerConfig;
use crate::error::{AttachError, LoadError, MapError};
use crate::libbpf_log;
use crate::reason::Reason;
use crate::settings::{Settings, SynGate};
use crate::skeleton::SteerSkelBuilder;

/// Name of the program in the kernel, as `bpftool prog` shows it.
pub const PROGRAM_NAME: &str = "sluice_steer";
/// Key of the one entry of `sluice_config`.
const SETTINGS_KEY: [u8; 4] = [0; 4];

/// The XDP program in the kernel, attached or not. Dropping it detaches the program and removes the pins.
#[derive(Debug)]
pub struct Steer {
    link: Option<Link>,
    program: OwnedFd,
    xsks: MapHandle,
    stats: MapHandle,
    config: MapHandle,
    local: MapHandle,
    /// Buckets and memory of the SYN gate, kept for their pins.
    gate: [MapHandle; 3],
    /// What `sluice_config` holds.
    settings: Cell<Settings>,
    queues: u32,
    pins: Vec<PathBuf>,
}

impl Steer {
    /// Loads program and maps, and pins the maps if asked to. No traffic is touched before [`Steer::attach`], and the
    /// service starts as not enabled.
    ///
    /// Takes `CAP_BPF` and `CAP_NET_ADMIN`. Takes over the print function that libbpf has per process, so that its
    /// messages reach the error instead of stderr.
    ///
    /// # Errors
    /// [`LoadError`], one variant per situation; nothing is left behind in the kernel.
    pub fn load(config: &SteerConfig) -> Result<Self, LoadError> {
        config.validate()?;
        let (loaded, log) = libbpf_log::collect(|| Self::load_object(config));
        let mut steer = loaded.map_err(|error| LoadError::of(error, log))?;
        if let Some(directory) = &config.pin {
            steer.pin_maps(directory)?;
        }
        Ok(steer)
    }

    fn load_object(config: &SteerConfig) -> libbpf_rs::Result<Self> {
        let mut storage = MaybeUninit::uninit();
        let mut open = SteerSkelBuilder::default().open(&mut storage)?;
        let constants = open
            .maps
            .rodata_data
            .as_mut()
            .expect("steer.bpf.c has const volatile settings, so .rodata exists");
        constants.vlan_accepted = config.vlan.into();
        constants.owned_present = (!config.owned.is_empty()).into();
        constants.gate_key = config.hash_key;
        open.maps.sluice_xsks.set_max_entries(config.queues)?;
        open.maps.sluice_queues.set_max_entries(config.queues)?;

        let loaded = open.load()?;
        for (key, bits) in config.local_entries() {
            loaded
                .maps
                .sluice_local
                .update(&key, &bits.to_ne_bytes(), MapFlags::ANY)?;
        }
        Ok(Self {
            link: None,
            program: loaded.progs.sluice_steer.as_fd().try_clone_to_owned()?,
            xsks: MapHandle::try_from(&loaded.maps.sluice_xsks)?,
            stats: MapHandle::try_from(&loaded.maps.sluice_stats)?,
            config: MapHandle::try_from(&loaded.maps.sluice_config)?,
            local: MapHandle::try_from(&loaded.maps.sluice_local)?,
            gate: [
                MapHandle::try_from(&loaded.maps.sluice_queues)?,
                MapHandle::try_from(&loaded.maps.sluice_sources)?,
                MapHandle::try_from(&loaded.maps.sluice_dropped_syns)?,
            ],
            settings: Cell::default(),
            queues: config.queues,
            pins: Vec::new(),
        })
    }

    /// Pins each map under its name. The directory is ours alone, so a pin that exists is of a process that died: it goes.
    fn pin_maps(&mut self, directory: &Path) -> Result<(), LoadError> {
        let failed = |path: &Path, error| LoadError::Pin {
            path: path.to_owned(),
            error,
        };
        fs::create_dir_all(directory).map_err(|error| failed(directory, error.into()))?;
        let maps = [
            &mut self.xsks,
            &mut self.stats,
            &mut self.config,
            &mut self.local,
        ];
        for map in maps.into_iter().chain(&mut self.gate) {
            let path = directory.join(map.name());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, error.into()));
                }
                _ => {}
            }
            map.pin(&path).map_err(|error| failed(&path, error))?;
            self.pins.push(path);
        }
        Ok(())
    }

    /// Attaches the program to the interface with this index, of the caller's network namespace.
    ///
    /// Takes `CAP_NET_ADMIN` and `CAP_BPF`. The link does not outlive the process.
    ///
    /// # Errors
    /// [`AttachError`]; [`AttachError::Busy`] names the program that is there. After any error the program is loaded and
    /// not attached, and the call can be repeated.
    pub fn attach(&mut self, ifindex: u32, mode: AttachMode) -> Result<Attached, AttachError> {
        if self.is_attached() {
            return Err(AttachError::AlreadyAttached);
        }
        let (link, attached) = attach::attach(self.program.as_fd(), ifindex, mode)?;
        self.link = Some(link);
        Ok(attached)
    }

    /// Takes the program off its interface; nothing happens if it is on none. From here on the kernel answers our peers.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Whether an interface runs the program now. Asks the kernel: the interface may be gone, or an administrator may have
    /// detached the link (`bpftool link detach`).
    pub fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_alive)
    }

    /// Gives the frames of a receive queue to an AF_XDP socket, which replaces the one before. The socket must be bound to
    /// this queue of the attached interface, else the kernel loses each frame without a trace. Takes no capability.
    ///
    /// # Errors
    /// [`MapError::NoSuchQueue`], [`MapError::NotXdpSocket`], or what the kernel says.
    pub fn insert_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), MapError> {
        self.check_queue(queue)?;
        insert_socket(&self.xsks, "sluice_xsks", queue, socket)
    }

    /// Empties the slot of a queue; an empty one stays so (closing a socket empties its slot too).
    ///
    /// # Errors
    /// [`MapError::NoSuchQueue`], or what the kernel says.
    pub fn remove_socket(&self, queue: u32) -> Result<(), MapError> {
        self.check_queue(queue)?;
        match self.xsks.delete(&queue.to_ne_bytes()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(MapError::Os {
                map: "sluice_xsks",
                error,
            }),
            _ => Ok(()),
        }
    }

    /// While enabled, a frame for us on a queue without a socket is dropped, because the kernel would answer it with RST;
    /// while not, it passes to the kernel. Takes effect with the next frame and takes no capability.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_enabled(&self, enabled: bool) -> Result<(), MapError> {
        self.set(Settings {
            enabled,
            ..self.settings.get()
        })
    }

    /// Arms the gate: SYNs beyond these rates are dropped and counted as [`Reason::SynRate`] and
    /// [`Reason::SynSourceRate`]. `None` disarms it, as it is after [`Steer::load`]. Takes effect with the next frame and
    /// takes no capability.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_syn_gate(&self, gate: Option<SynGate>) -> Result<(), MapError> {
        self.set(Settings {
            syn_gate: gate,
            ..self.settings.get()
        })
    }

    /// Whether the gate is armed.
    pub fn syn_gate(&self) -> Option<SynGate> {
        self.settings.get().syn_gate
    }

    fn set(&self, settings: Settings) -> Result<(), MapError> {
        self.config
            .update(&SETTINGS_KEY, &settings.to_bytes(), MapFlags::ANY)
            .map_err(|error| MapError::Os {
                map: "sluice_config",
                error,
            })?;
        self.settings.set(settings);
        Ok(())
    }

    /// Frames by reason since [`Steer::load`], summed over the CPUs, in the order of [`Reason::ALL`]. Reasons are read one
    /// by one while the program runs: sums over several may be some frames apart.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, MapError> {
        Reason::ALL
            .iter()
            .map(|&reason| Ok((reason, self.counter(reason)?)))
            .collect()
    }

    fn counter(&self, reason: Reason) -> Result<u64, MapError> {
        sum_percpu(&self.stats, "sluice_stats", reason.number().into())
    }

    fn check_queue(&self, queue: u32) -> Result<(), MapError> {
        if queue < self.queues {
            Ok(())
        } else {
            Err(MapError::NoSuchQueue {
                queue,
                queues: self.queues,
            })
        }
    }
}

/// Puts a socket into the slot of a queue; `name` is that of the map.
pub(crate) fn insert_socket(
    map: &MapHandle,
    name: &'static str,
    queue: u32,
    socket: BorrowedFd<'_>,
) -> Result<(), MapError> {
    let socket = socket.as_raw_fd().to_ne_bytes();
    map.update(&queue.to_ne_bytes(), &socket, MapFlags::ANY)
        .map_err(|error| match error.kind() {
            // EOPNOTSUPP of xsk_map_update_elem() for another family; ENOTSOCK of sockfd_lookup().
            ErrorKind::Unsupported | ErrorKind::Other => MapError::NotXdpSocket { queue },
            _ => MapError::Os { map: name, error },
        })
}

/// A counter summed over the CPUs; `name` is that of the map.
pub(crate) fn sum_percpu(map: &MapHandle, name: &'static str, slot: u32) -> Result<u64, MapError> {
    let per_cpu = map
        .lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| MapError::Os { map: name, error })?
        .unwrap_or_default();
    Ok(per_cpu
        .iter()
        .filter_map(|value| <[u8; 8]>::try_from(value.as_slice()).ok())
        .map(u64::from_ne_bytes)
        .sum())
}

/// The descriptor of the program, for the kernel's test-run call and for `bpftool`-like inspection.
impl AsFd for Steer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        for pin in &self.pins {
            // It may be gone, or privileges may have been dropped since: the next start replaces it.
            let _ = fs::remove_file(pin);
        }
    }
}
