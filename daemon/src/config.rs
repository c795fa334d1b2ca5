//! What the operator wrote: the configuration file and the flags, read, checked and complete.
//!
//! Precedence: flags, then the TOML file, then defaults; everything but the interface and the served directory
//! has one. A mistake is reported with its place, together with all others, and ends the process with
//! [`EXIT_CONFIG`]. A [`Config`] that exists is consistent in itself; whether this machine can do what it asks
//! for is decided by [`preflight`](crate::preflight), what it implies in memory, frames and descriptors by
//! [`limits`](crate::limits). Every key is described in `docs/CONFIG.md` and stands, with its default, in
//! `deploy/sluice.toml`; tests hold the three together.

mod choice;
mod error;
mod read;
mod suggest;
mod table;
pub mod units;
mod write;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use choice::Choice;
use choice::choice;
pub use error::{ConfigError, ConfigErrors, Position};

/// Exit code of the process for a mistake in the configuration or on the command line.
pub const EXIT_CONFIG: u8 = 2;

/// The commented default configuration, `deploy/sluice.toml`: what `--print-config default` prints. Nothing installs it yet.
pub const DEFAULT_FILE: &str = include_str!("../../deploy/sluice.toml");

/// Largest number of address and port pairs: the size of the endpoint table in the XDP program.
pub const ENDPOINTS_MAX: usize = 64;

/// Port that is served when none is configured. Above 1023, so that a first try needs no privilege.
pub const PORT_DEFAULT: u16 = 8080;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[xdp]`: interface, queues and how packets are taken from them.
    pub xdp: Xdp,
    /// `[[listen]]`: at least one, ports distinct.
    pub listen: Vec<Listen>,
    /// `[[site]]`: exactly one in this version.
    pub sites: Vec<Site>,
    /// `[tcp]`: properties of our TCP.
    pub tcp: Tcp,
    /// `[disk]`: file reading.
    pub disk: Disk,
    /// `[upload]`: files that clients store.
    pub upload: Upload,
    /// `[limits]`: bounds on what clients can use.
    pub limits: Limits,
    /// `--listen-address`: addresses of the kernel backend; empty means see [`Config::kernel_addresses`].
    pub listen_addresses: Vec<IpAddr>,
}

/// `[xdp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xdp {
    /// Which network stack serves.
    pub backend: Backend,
    /// Interface whose queues are taken; `None` is possible with the kernel backend only.
    pub interface: Option<String>,
    /// Served addresses that the kernel owns too (it answers ARP, NDP and ping for them); `None` stands for
    /// every global-scope address of the interface.
    pub addresses: Option<Vec<IpAddr>>,
    /// Served addresses that the kernel does not have: Sluice answers ARP, NDP and ICMP echo for them.
    pub owned_addresses: Vec<IpAddr>,
    /// Receive queues that are bound, one worker each.
    pub queues: Queues,
    /// How the XDP program is attached.
    pub attach: Attach,
    /// How the AF_XDP sockets are bound.
    pub bind: Bind,
    /// Locked memory per queue for packet frames and file blocks, in bytes (4 MiB to 16 GiB).
    pub umem_bytes: u64,
    /// Treatment of received TCP checksums.
    pub checksum_rx: ChecksumRx,
    /// What a worker does when nothing is to do.
    pub poll: Poll,
    /// Where the kernel's part of receiving runs.
    pub napi: Napi,
    /// CPUs of the kernel threads of `napi`, in the order of the queues and from the front again if there are fewer;
    /// `None` is one without a worker where there is one.
    pub napi_cores: Option<Vec<u32>>,
    /// Whether frames with one or two VLAN tags are served.
    pub vlan: bool,
    /// CPU of each worker, in the order of the queues; `None` lets [`placement`](crate::placement) choose.
    pub cores: Option<Vec<u32>>,
    /// Whether the memory is taken from huge pages.
    pub huge_pages: HugePages,
    /// Whether the XDP program limits SYNs during a flood.
    pub syn_gate: SynGate,
    /// How bulk data gets to the interface.
    pub tx_lane: TxLane,
}

/// Receive queues of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queues {
    /// Every receive queue that the interface has at start.
    All,
    /// These queues, distinct and at least one.
    List(Vec<u32>),
}

/// `[[listen]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// TCP port, 1 to 65535.
    pub port: u16,
    /// Congestion control of its connections; `None` is that of [`Tcp`].
    pub congestion: Option<Congestion>,
}

/// `[[site]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Directory that is served.
    pub root: PathBuf,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
}

/// `[tcp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Congestion control of new connections, where their port has none of its own.
    pub congestion: Congestion,
    /// Explicit congestion notification with clients that ask for it.
    pub ecn: Ecn,
    /// Largest segment we send or announce, in bytes of payload (536 to 65495); `None` takes it from the MTU.
    pub mss: Option<u16>,
    /// Bytes in flight on one connection at most (64 KiB to 1 GiB), as far as its congestion window asks for them and
    /// the file blocks of the worker are not needed by others.
    pub send_buffer_max: u32,
    /// Floor of the retransmission time-out (RFC 6298 section 2.4), 10 ms to 3 s.
    pub rto_min: Duration,
    /// Idle time before a keep-alive probe; `None` is off, the default RFC 9293 section 3.8.4 demands (MUST-25).
    pub keepalive: Option<Duration>,
    /// Time for which a peer may leave data unacknowledged before it is reset (RFC 9293 section 3.9.1.8); `None` gives
    /// up after 15 retransmissions.
    pub user_timeout: Option<Duration>,
}

/// `[disk]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Helper threads per worker for reads that would block (1 to 64); fewer where many workers share those of the
    /// process ([`limits`](crate::limits)).
    pub threads: u32,
    /// Files of so many bytes and more are read with O_DIRECT, past the page cache (64 KiB to 1 PiB); `None` is off.
    pub direct_above: Option<u64>,
}

/// `[upload]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Whether PUT stores files. Everybody who can connect may then write below the root.
    pub enabled: bool,
    /// Bytes of one file at most (1 B to 8 EiB less one, the largest file there is).
    pub max_size: u64,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the whole daemon; each worker serves its equal share.
    pub connections: u32,
    /// Largest request head in bytes, and the input buffer of a connection (1 KiB to 64 KiB).
    pub header_bytes: u32,
    /// Time a client has for a whole request head before 408.
    pub header_timeout: Duration,
    /// Time a kept connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Time that running transfers get at shutdown before they are reset.
    pub drain_timeout: Duration,
    /// Bytes per second that a client has to take of a response, on average over 30 s, before it is reset (1 B to
    /// 1 GiB); `None` is off. With our own TCP only: kernel sockets hide what a client takes, and hold no block for it.
    /// As many of an upload it has to send, with either backend, before it is answered 408.
    pub min_rate: Option<u64>,
    /// SYNs per second that reach the workers during a flood; each queue has its equal share.
    pub syn_rate: u32,
    /// SYNs per second from one source network (/24 of IPv4, /64 of IPv6) during a flood.
    pub syn_rate_per_source: u32,
}

choice! {
    /// `xdp.backend`: the network stack.
    Backend {
        /// AF_XDP where it can run, else kernel sockets with a warning that says why.
        Auto = "auto",
        /// AF_XDP or no start.
        Xdp = "xdp",
        /// Kernel sockets.
        Kernel = "kernel",
    }
}

choice! {
    /// `xdp.attach`: where the XDP program runs.
    Attach {
        /// Native if the driver can, else generic with a warning.
        Auto = "auto",
        /// In the driver.
        Native = "native",
        /// Behind the driver, after GRO; works everywhere.
        Generic = "generic",
    }
}

choice! {
    /// `xdp.bind`: how frames travel between driver and UMEM.
    Bind {
        /// Zero copy if the driver can, else copy.
        Auto = "auto",
        /// One copy per frame; works everywhere.
        Copy = "copy",
        /// The NIC reads and writes the UMEM itself.
        ZeroCopy = "zerocopy",
    }
}

choice! {
    /// `xdp.tx_lane`: the way of bulk data to the interface.
    TxLane {
        /// `Gather` on queues bound in zero-copy mode whose driver takes packets in pieces, `Copy` on other such queues,
        /// else `Tso`.
        Auto = "auto",
        /// One frame per segment through the ring of AF_XDP.
        Copy = "copy",
        /// As `Copy`, but payload leaves from the file blocks, as further pieces of the packet.
        Gather = "gather",
        /// Runs of segments as super-segments through a packet socket; the rest as `Copy`.
        Tso = "tso",
    }
}

choice! {
    /// `xdp.checksum_rx`: received TCP checksums.
    ChecksumRx {
        /// `AcceptPartial` on veth, tun and tap, else `Verify`.
        Auto = "auto",
        /// Every segment must carry the full checksum.
        Verify = "verify",
        /// Also the bare pseudo-header sum that a virtual peer with checksum offload leaves in the field.
        AcceptPartial = "accept-partial",
    }
}

choice! {
    /// `xdp.poll`: an idle worker.
    Poll {
        /// Spin briefly, then sleep until the next packet or deadline.
        Adaptive = "adaptive",
        /// Sleep at once: least CPU, most latency.
        Interrupt = "interrupt",
        /// Never sleep: one CPU per worker, least latency.
        Busy = "busy",
    }
}

choice! {
    /// `xdp.napi`: the kernel's part of receiving.
    Napi {
        /// As the interface is set.
        Keep = "keep",
        /// In kernel threads of the interface, away from the workers, while the daemon serves.
        Threaded = "threaded",
    }
}

choice! {
    /// `xdp.huge_pages`: memory for frames and blocks.
    HugePages {
        /// Huge pages if some are free, else ordinary ones.
        Auto = "auto",
        /// Ordinary pages.
        Off = "off",
    }
}

choice! {
    /// `xdp.syn_gate`: a flood of SYNs.
    SynGate {
        /// While a worker is flooded, SYNs beyond `limits.syn_rate` and `limits.syn_rate_per_source` are dropped
        /// by the XDP program.
        Auto = "auto",
        /// They all reach the workers.
        Off = "off",
    }
}

choice! {
    /// `site.symlinks`: symbolic links below the root.
    Symlinks {
        /// None is followed.
        Never = "never",
        /// Those whose target stays below the root.
        InsideRoot = "inside-root",
    }
}

choice! {
    /// `tcp.congestion`: congestion control.
    Congestion {
        /// CUBIC, RFC 9438.
        Cubic = "cubic",
        /// NewReno, RFC 5681 and RFC 6582.
        NewReno = "reno",
        /// DCTCP, RFC 8257.
        Dctcp = "dctcp",
        /// BBR version 3, draft-ietf-ccwg-bbr.
        Bbr = "bbr",
    }
}

choice! {
    /// `tcp.ecn`: explicit congestion notification.
    Ecn {
        /// AccECN (RFC 9768) with clients that ask for it, else classic.
        Accurate = "accurate",
        /// RFC 3168.
        Classic = "classic",
        /// None.
        Off = "off",
    }
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            interface: None,
            addresses: None,
            owned_addresses: Vec::new(),
            queues: Queues::All,
            attach: Attach::Auto,
            bind: Bind::Auto,
            umem_bytes: 64 << 20,
            checksum_rx: ChecksumRx::Auto,
            poll: Poll::Adaptive,
            napi: Napi::Keep,
            napi_cores: None,
            vlan: false,
            cores: None,
            huge_pages: HugePages::Auto,
            syn_gate: SynGate::Auto,
            tx_lane: TxLane::Auto,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            port: PORT_DEFAULT,
            congestion: None,
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            congestion: Congestion::Cubic,
            ecn: Ecn::Accurate,
            mss: None,
            // Twice what fills 10 Gbit/s at 100 ms.
            send_buffer_max: 256 << 20,
            // That of Linux, which peers are used to.
            rto_min: Duration::from_millis(200),
            keepalive: None,
            user_timeout: None,
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            threads: 4,
            direct_above: None,
        }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            enabled: false,
            max_size: 1 << 40,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            header_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            // Below 90 s, the default of TimeoutStopSec= in systemd units, so that we end before we are killed.
            drain_timeout: Duration::from_secs(85),
            min_rate: Some(1 << 10),
            // At 1 to 2 us for the frame and its cookie, less than a tenth of a CPU.
            syn_rate: 50_000,
            syn_rate_per_source: 1000,
        }
    }
}

impl ChecksumRx {
    /// Whether the bare pseudo-header sum is accepted, given the kind of interface.
    #[must_use]
    pub fn accepts_partial(self, interface_is_virtual: bool) -> bool {
        match self {
            Self::Auto => interface_is_virtual,
            Self::Verify => false,
            Self::AcceptPartial => true,
        }
    }
}

/// Settings from the command line; each replaces what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--root`: the served directory.
    pub root: Option<PathBuf>,
    /// `--port`: the only port.
    pub port: Option<u16>,
    /// `--interface`.
    pub interface: Option<String>,
    /// `--backend`.
    pub backend: Option<Backend>,
    /// `--listen-address`: addresses of the kernel backend.
    pub listen_addresses: Vec<IpAddr>,
}

impl Config {
    /// Congestion control of the connections of a port.
    #[must_use]
    pub fn congestion_of(&self, port: u16) -> Congestion {
        self.listen
            .iter()
            .find(|listen| listen.port == port)
            .and_then(|listen| listen.congestion)
            .unwrap_or(self.tcp.congestion)
    }

    /// Reads and checks the configuration: the file if there is one, the flags above it, defaults below.
    ///
    /// # Errors
    /// Every mistake, with its place in the file.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let Some(path) = file else {
            return read::config(None, "", overrides);
        };
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| ConfigErrors::of_file(&name, format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            ConfigErrors::of_file(&name, format!("is not UTF-8 text (byte {offset})"))
        })?;
        read::config(Some(&name), &text, overrides)
    }

    /// Reads and checks the text of a configuration file; `name` stands in the error messages.
    ///
    /// # Errors
    /// Every mistake, with its place in the text.
    pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        read::config(Some(name), text, overrides)
    }

    /// The configuration as a file that reads back as the same configuration (flags without a key in the file
    /// appear as comments). What `--print-config effective` prints.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write::to_toml(self)
    }

    /// The ports of all listeners, in file order.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.listen.iter().map(|listen| listen.port)
    }

    /// Where the kernel backend listens: `--listen-address`, else the addresses of `[xdp]` if they are
    /// written down (a fallback must not open more than the operator asked for), else everywhere. Empty if
    /// only owned addresses are served, which the kernel does not have.
    #[must_use]
    pub fn kernel_addresses(&self) -> Vec<IpAddr> {
        if !self.listen_addresses.is_empty() {
            return self.listen_addresses.clone();
        }
        match &self.xdp.addresses {
            Some(addresses) => addresses.clone(),
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        }
    }

    /// Every address of `addresses` with every port.
    #[must_use]
    pub fn endpoints(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        addresses
            .iter()
            .flat_map(|address| self.ports().map(|port| SocketAddr::new(*address, port)))
            .collect()
    }
}
