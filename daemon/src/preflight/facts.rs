//! Everything preflight looks at, gathered once.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::system::uname;
use sluice_disk::UploadError;

use super::kernel::Release;
use super::link::{self, InterfaceFacts};
use super::ports;
use super::privileges::Privileges;
use super::{root, uploads};
use crate::config::Config;
use crate::placement::allowed_cpus;

/// What was seen. Public fields, so that tests and `doctor --json` can build and show them.
#[derive(Debug)]
pub struct Facts {
    /// Release of the kernel, such as `6.18.44`.
    pub kernel_release: String,
    /// Whether `socket(AF_XDP)` is known to the kernel.
    pub af_xdp: bool,
    /// Capabilities, limits, namespace.
    pub privileges: Privileges,
    /// The interface, if one is named.
    pub interface: Option<io::Result<InterfaceFacts>>,
    /// Endpoints AF_XDP would take from the kernel, with the outcome of reserving each.
    pub xdp_ports: Vec<(SocketAddr, Result<(), Errno>)>,
    /// Endpoints the kernel backend would listen on, likewise.
    pub kernel_ports: Vec<(SocketAddr, Result<(), Errno>)>,
    /// Ports on which a kernel socket listens, on any address.
    pub listening: BTreeSet<u16>,
    /// Whether each served directory can be read: the path component that fails, and how.
    pub roots: Vec<Result<(), (PathBuf, Errno)>>,
    /// Whether a file can be stored right below each of them; empty where uploads are off.
    pub uploads: Vec<Result<(), UploadError>>,
    /// CPUs the process may use.
    pub cpus: Vec<u32>,
}

impl Facts {
    /// Looks at the machine. Changes nothing; sockets that are opened on the way are closed again, and where uploads are
    /// on a temporary name comes and goes in each root.
    #[must_use]
    pub fn gather(config: &Config) -> Self {
        let interface = config.xdp.interface.as_deref().map(link::interface);
        let reserved = match &interface {
            Some(Ok(link)) => super::addresses::kernel_owned(config, link),
            _ => Vec::new(),
        };
        Self {
            kernel_release: uname().release().to_string_lossy().into_owned(),
            af_xdp: af_xdp(),
            privileges: Privileges::gather(),
            interface,
            xdp_ports: ports::probe(&config.endpoints(&reserved)),
            kernel_ports: ports::probe(&config.endpoints(&config.kernel_addresses())),
            listening: ports::listening(),
            roots: config
                .sites
                .iter()
                .map(|site| root::probe(&site.root))
                .collect(),
            uploads: uploads::probe(config),
            // Without a mask the scheduler would not have started us; then placement reports the lack.
            cpus: allowed_cpus().unwrap_or_default(),
        }
    }

    /// Major and minor number of the kernel.
    #[must_use]
    pub fn kernel_version(&self) -> Option<Release> {
        let mut numbers = self.kernel_release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Release(major, minor))
    }
}

/// The family is looked up before capabilities are checked: only a kernel without it says `EAFNOSUPPORT`.
fn af_xdp() -> bool {
    let attempt = socket_with(
        AddressFamily::XDP,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    );
    !matches!(attempt, Err(Errno::AFNOSUPPORT))
}
