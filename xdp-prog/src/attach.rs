//! The link between program and interface: which mode, and what the kernel's errno means.
//!
//! Attaching is `BPF_LINK_CREATE` with a mode flag. The link belongs to its descriptor: when the last copy of that closes,
//! in a crash too, the interface is free again.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::ProgramHandle;
use libbpf_rs::libbpf_sys;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use crate::error::{AttachError, ForeignProgram};

/// Where the program shall run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// In the driver if it can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver, before a socket buffer exists: highest packet rate, and what zero copy needs.
    Native,
    /// In the stack, after GRO: works everywhere, and hands over merged packets of up to 64 KiB.
    Generic,
}

/// Where the program does run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

impl AttachedMode {
    /// The word of the configuration file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What [`Steer::attach`](crate::Steer::attach) did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Attached {
    /// The mode in force.
    pub mode: AttachedMode,
    /// Why [`AttachMode::Auto`] did not get the native mode, for the log.
    pub warning: Option<String>,
}

/// The attachment itself; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Whether the kernel still has the program on an interface: the interface may be gone, or an administrator may have
    /// detached the link.
    pub(crate) fn is_alive(&self) -> bool {
        match LinkInfo::from_fd(self.0.as_fd()).map(|info| info.info) {
            Ok(LinkTypeInfo::Xdp(xdp)) => xdp.ifindex != 0,
            _ => false,
        }
    }
}

impl Drop for Link {
    /// Detaches before closing: a child that another thread is just forking holds a copy of the descriptor until it execs,
    /// and would keep the program in place for as long. Takes no capability.
    fn drop(&mut self) {
        // SAFETY: the descriptor is open, being owned by `self`; the call takes its number and touches no memory of ours.
        // A failure (the interface is gone) leaves nothing to detach.
        let _ = unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) };
    }
}

/// Attaches `program` and returns the link with what was achieved.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: AttachMode,
) -> Result<(Link, Attached), AttachError> {
    let plain = |mode| {
        create_link(program, ifindex, mode).map(|link| {
            (
                link,
                Attached {
                    mode,
                    warning: None,
                },
            )
        })
    };
    match mode {
        AttachMode::Native => plain(AttachedMode::Native),
        AttachMode::Generic => plain(AttachedMode::Generic),
        AttachMode::Auto => match plain(AttachedMode::Native) {
            Err(error) if generic_may_work_after(&error) => {
                let (link, attached) = plain(AttachedMode::Generic)?;
                let warning = format!(
                    "XDP runs in generic mode, at a lower packet rate: {error} -> {}",
                    error.fix()
                );
                Ok((
                    link,
                    Attached {
                        warning: Some(warning),
                        ..attached
                    },
                ))
            }
            result => result,
        },
    }
}

/// Whether the failure of the native mode says nothing about the generic one.
fn generic_may_work_after(error: &AttachError) -> bool {
    match error {
        AttachError::NotSupported { .. }
        | AttachError::MtuTooLarge { .. }
        | AttachError::TooFewQueues { .. }
        | AttachError::Os { .. } => true,
        AttachError::AlreadyAttached
        | AttachError::Busy { .. }
        | AttachError::NoSuchInterface { .. }
        | AttachError::MissingCapability => false,
    }
}

fn create_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    mode: AttachedMode,
) -> Result<Link, AttachError> {
    // The kernel's interface indices are positive ints.
    let target = match i32::try_from(ifindex) {
        Ok(target) if target > 0 => target,
        _ => return Err(AttachError::NoSuchInterface { ifindex }),
    };
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: mode.flags(),
        ..Default::default()
    };
    // SAFETY: `program` is open for the length of the borrow; `options` is a local with `sz` set to its own size and null
    // in every pointer field, and the call keeps no reference to it. The rest is integers, which the kernel checks.
    let result = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), target, libbpf_sys::BPF_XDP, &options)
    };
    if result < 0 {
        return Err(explain(-result, ifindex, mode));
    }
    // SAFETY: a result that is not negative is a descriptor the kernel has just made for us, and nobody else has its number.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(result) }))
}

/// What an errno of `BPF_LINK_CREATE` on an XDP hook means (kernel: `dev_xdp_attach()` and the drivers' `ndo_bpf`).
fn explain(errno: i32, ifindex: u32, mode: AttachedMode) -> AttachError {
    // A missing interface is EINVAL, like much else.
    let Some(interface) = interface_name(ifindex) else {
        return AttachError::NoSuchInterface { ifindex };
    };
    match errno {
        libc::EBUSY | libc::EEXIST => AttachError::Busy {
            interface,
            programs: foreign_programs(ifindex),
        },
        libc::EPERM | libc::EACCES => AttachError::MissingCapability,
        libc::EOPNOTSUPP => AttachError::NotSupported { interface, mode },
        libc::ERANGE => AttachError::MtuTooLarge { interface, mode },
        libc::ENOSPC => AttachError::TooFewQueues { interface, mode },
        _ => AttachError::Os {
            interface,
            mode,
            error: io::Error::from_raw_os_error(errno),
        },
    }
}

/// The name of an interface of this network namespace, if it has it.
fn interface_name(ifindex: u32) -> Option<String> {
    let mut name: [libc::c_char; libc::IF_NAMESIZE] = [0; libc::IF_NAMESIZE];
    // SAFETY: the call writes at most IF_NAMESIZE bytes to `name`, which has that many and lives through it.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    let bytes: Vec<u8> = name
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| byte.to_ne_bytes()[0])
        .collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The XDP programs that an interface of this network namespace runs: at most one per mode, none if there is no such
/// interface. Ids come over netlink for anybody; names take `CAP_SYS_ADMIN`.
pub fn foreign_programs(ifindex: u32) -> Vec<ForeignProgram> {
    let Ok(target) = i32::try_from(ifindex) else {
        return Vec::new();
    };
    let mut found = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `found` is a local with `sz` set to its own size, which the call fills and keeps no reference to.
    let result = unsafe { libbpf_sys::bpf_xdp_query(target, 0, &mut found) };
    if result < 0 {
        return Vec::new();
    }
    [
        (found.drv_prog_id, "xdpdrv"),
        (found.skb_prog_id, "xdpgeneric"),
        (found.hw_prog_id, "xdpoffload"),
    ]
    .into_iter()
    .filter(|(id, _)| *id != 0)
    .map(|(id, mode)| ForeignProgram {
        id,
        name: program_name(id),
        mode,
    })
    .collect()
}

fn program_name(id: u32) -> Option<String> {
    let program = ProgramHandle::from_prog_id(id).ok()?;
    let name = program.name().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}
