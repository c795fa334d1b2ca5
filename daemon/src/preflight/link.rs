//! What the kernel says about an interface: link, attached programs, addresses, XDP features of the driver.
//!
//! Features come from the `netdev` family (`Documentation/netlink/specs/netdev.yaml`, kernel 6.3 and later), so
//! no table of drivers has to be kept. Queue counts and the driver's name only sysfs has; its directory is
//! believed only if its index is that of the link.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use sluice_wire::MacAddr;
use sluice_xdp_prog::{ForeignProgram, PROGRAM_NAME, foreign_programs};

use super::netlink::{
    GENERIC, ROUTE, Request, attribute, attributes, text, u16_at, u32_at, u64_at,
};

// linux/rtnetlink.h
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const IFINFOMSG_BYTES: usize = 16;
const IFADDRMSG_BYTES: usize = 8;
// linux/if.h
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_LOWER_UP: u32 = 1 << 16;
// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const RT_SCOPE_UNIVERSE: u8 = 0;
// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const GENLMSGHDR_BYTES: usize = 4;
// linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 1 << 1;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 1 << 3;
const NETDEV_XDP_ACT_RX_SG: u64 = 1 << 5;
const NETDEV_XSK_FLAGS_TX_CHECKSUM: u64 = 1 << 1;

/// An interface, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Name, as configured.
    pub name: String,
    /// Index in the network namespace of the process.
    pub index: u32,
    /// Whether an administrator has it up.
    pub up: bool,
    /// Whether there is a link at the other end.
    pub carrier: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its address, if it has one of Ethernet.
    pub mac: Option<MacAddr>,
    /// Kind of a software interface (`veth`, `bridge`, ...).
    pub kind: Option<String>,
    /// The XDP programs attached at the moment, one per mode.
    pub programs: Vec<ForeignProgram>,
    /// What sysfs knows; `None` if `/sys` is missing or that of another network namespace.
    pub device: Option<DeviceFacts>,
    /// What the driver can do; `None` before kernel 6.3.
    pub features: Option<XdpFeatures>,
    /// Global-scope addresses of this interface, usable ones only.
    pub addresses: Vec<IpAddr>,
    /// Addresses of any scope of every other interface.
    pub addresses_elsewhere: Vec<IpAddr>,
}

impl InterfaceFacts {
    /// Whether what arrives comes from software on this machine, which may leave checksums unfinished: the other
    /// end of a veth, or the owner of a tun or tap. Everything else has, or may have, a wire behind it: a NIC, and
    /// what stacks on one (bond, bridge, VLAN, macvlan).
    #[must_use]
    pub fn has_software_peer(&self) -> bool {
        matches!(self.kind.as_deref(), Some("veth" | "tun"))
    }

    /// Our own program, if a sluiced has it attached. `None` too where names of programs may not be asked for.
    #[must_use]
    pub fn serving_sluiced(&self) -> Option<&ForeignProgram> {
        let ours = |program: &&ForeignProgram| program.name.as_deref() == Some(PROGRAM_NAME);
        self.programs.iter().find(ours)
    }

    /// Driver or kind, for messages.
    #[must_use]
    pub fn driver(&self) -> &str {
        self.device
            .as_ref()
            .and_then(|device| device.driver.as_deref())
            .or(self.kind.as_deref())
            .unwrap_or("unknown driver")
    }
}

/// What sysfs says about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Name of the driver; software interfaces have none.
    pub driver: Option<String>,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
}

/// XDP abilities of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Programs run in the driver and may redirect.
    pub native: bool,
    /// AF_XDP without copying.
    pub zero_copy: bool,
    /// Packets of several buffers in native mode.
    pub multi_buffer: bool,
    /// Buffers of a packet with zero copy; 1 is no multi-buffer.
    pub zero_copy_segments: u32,
    /// The driver honours the checksum request of the TX metadata with zero copy.
    pub tx_checksum: bool,
}

/// Everything about the interface of this name.
///
/// # Errors
/// `ENODEV` if there is none; errors of the netlink socket.
pub fn interface(name: &str) -> io::Result<InterfaceFacts> {
    let mut wanted = name.as_bytes().to_vec();
    wanted.push(0);
    let answers = Request::new(RTM_GETLINK, false, &[0; IFINFOMSG_BYTES])
        .attribute(IFLA_IFNAME, &wanted)
        .send(ROUTE)?;
    let mut facts = answers
        .first()
        .and_then(|answer| parse_link(name, answer))
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    facts.programs = foreign_programs(facts.index);
    facts.device = device(Path::new("/sys/class/net"), name, facts.index);
    // Before kernel 6.3 there is no such family; then nothing is known, which is not a mistake.
    facts.features = features(facts.index).ok().flatten();
    for (index, global, address) in addresses()? {
        if index != facts.index {
            facts.addresses_elsewhere.push(address);
        } else if global {
            facts.addresses.push(address);
        }
    }
    Ok(facts)
}

/// `RTM_NEWLINK`.
fn parse_link(name: &str, answer: &[u8]) -> Option<InterfaceFacts> {
    let index = u32_at(answer, 4)?;
    let flags = u32_at(answer, 8)?;
    let attributes = answer.get(IFINFOMSG_BYTES..)?;
    let kind = attribute(attributes, IFLA_LINKINFO)
        .and_then(|info| attribute(info, IFLA_INFO_KIND))
        .map(text);
    Some(InterfaceFacts {
        name: name.to_owned(),
        index,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        mtu: u32_at(attribute(attributes, IFLA_MTU)?, 0)?,
        mac: attribute(attributes, IFLA_ADDRESS)
            .and_then(|address| address.try_into().ok())
            .map(MacAddr),
        kind,
        programs: Vec::new(),
        device: None,
        features: None,
        addresses: Vec::new(),
        addresses_elsewhere: Vec::new(),
    })
}

/// Interface index, whether the scope is global, and address, of everything usable.
fn addresses() -> io::Result<Vec<(u32, bool, IpAddr)>> {
    let answers = Request::new(RTM_GETADDR, true, &[0; IFADDRMSG_BYTES]).send(ROUTE)?;
    Ok(answers
        .iter()
        .filter_map(|answer| parse_address(answer))
        .collect())
}

/// `RTM_NEWADDR`. Addresses that duplicate detection has not confirmed are left out: nobody can use them.
fn parse_address(answer: &[u8]) -> Option<(u32, bool, IpAddr)> {
    let scope = *answer.get(3)?;
    let index = u32_at(answer, 4)?;
    let attributes = answer.get(IFADDRMSG_BYTES..)?;
    let flags = attribute(attributes, IFA_FLAGS)
        .and_then(|flags| u32_at(flags, 0))
        .unwrap_or_else(|| u32::from(answer[2]));
    if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0 {
        return None;
    }
    // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL is us.
    let bytes = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some((index, scope == RT_SCOPE_UNIVERSE, address))
}

/// The number of the generic netlink family `netdev`; kernels before 6.3 have none.
pub(super) fn netdev_family() -> io::Result<Option<u16>> {
    let answers = Request::new(GENL_ID_CTRL, false, &[CTRL_CMD_GETFAMILY, 2, 0, 0])
        .attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        .send(GENERIC)?;
    Ok(answers
        .first()
        .and_then(|answer| attribute(answer.get(GENLMSGHDR_BYTES..)?, CTRL_ATTR_FAMILY_ID))
        .and_then(|id| u16_at(id, 0)))
}

/// Asks the `netdev` family.
fn features(index: u32) -> io::Result<Option<XdpFeatures>> {
    let Some(family) = netdev_family()? else {
        return Ok(None);
    };
    let answers = Request::new(family, false, &[NETDEV_CMD_DEV_GET, 1, 0, 0])
        .attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes())
        .send(GENERIC)?;
    Ok(answers.first().and_then(|answer| parse_features(answer)))
}

/// `NETDEV_CMD_DEV_GET`.
fn parse_features(answer: &[u8]) -> Option<XdpFeatures> {
    let mut xdp = None;
    let mut segments = None;
    let mut xsk = 0;
    for (kind, value) in attributes(answer.get(GENLMSGHDR_BYTES..)?) {
        match kind {
            NETDEV_A_DEV_XDP_FEATURES => xdp = u64_at(value, 0),
            NETDEV_A_DEV_XDP_ZC_MAX_SEGS => segments = u32_at(value, 0),
            NETDEV_A_DEV_XSK_FEATURES => xsk = u64_at(value, 0)?,
            _ => {}
        }
    }
    let xdp = xdp?;
    let has = |flags| xdp & flags == flags;
    Some(XdpFeatures {
        native: has(NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT),
        zero_copy: has(NETDEV_XDP_ACT_XSK_ZEROCOPY),
        multi_buffer: has(NETDEV_XDP_ACT_RX_SG),
        zero_copy_segments: segments.unwrap_or(1),
        tx_checksum: xsk & NETDEV_XSK_FLAGS_TX_CHECKSUM != 0,
    })
}

/// Reads `/sys/class/net/NAME`, if it speaks about the same interface.
fn device(root: &Path, name: &str, index: u32) -> Option<DeviceFacts> {
    let directory = root.join(name);
    let seen = std::fs::read_to_string(directory.join("ifindex")).ok()?;
    if seen.trim().parse() != Ok(index) {
        return None;
    }
    let driver = std::fs::read_link(directory.join("device/driver")).ok();
    Some(DeviceFacts {
        driver: driver
            .as_deref()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned()),
        rx_queues: count_queues(&directory.join("queues"), "rx-")?,
        tx_queues: count_queues(&directory.join("queues"), "tx-")?,
    })
}

fn count_queues(directory: &Path, prefix: &str) -> Option<u32> {
    let queues = std::fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .count();
    u32::try_from(queues).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_with_its_addresses() {
        let facts = interface("lo").unwrap();
        assert!(facts.loopback);
        assert!(
            !facts.addresses.iter().any(IpAddr::is_loopback) || !facts.up,
            "{facts:?}"
        );
    }

    #[test]
    fn a_missing_interface_is_enodev() {
        let error = interface("sluice-none").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
    }

    #[test]
    fn a_link_without_an_mtu_is_not_a_link() {
        assert_eq!(parse_link("x", &[0; IFINFOMSG_BYTES]), None);
        assert_eq!(parse_link("x", &[]), None);
    }

    #[test]
    fn an_unconfirmed_address_is_not_usable() {
        let message = |flags: u8, scope: u8| {
            let mut bytes = vec![2, 24, flags, scope];
            bytes.extend_from_slice(&7_u32.to_ne_bytes());
            bytes.extend_from_slice(&8_u16.to_ne_bytes());
            bytes.extend_from_slice(&IFA_LOCAL.to_ne_bytes());
            bytes.extend_from_slice(&[192, 0, 2, 1]);
            bytes
        };
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(parse_address(&message(0x80, 0)), Some((7, true, address)));
        assert_eq!(
            parse_address(&message(0x80, 253)),
            Some((7, false, address))
        );
        assert_eq!(parse_address(&message(0x40, 0)), None);
    }

    #[test]
    fn queues_and_driver_come_from_sysfs_of_the_same_interface_only() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("eth9");
        for queue in ["rx-0", "rx-1", "tx-0"] {
            std::fs::create_dir_all(directory.join("queues").join(queue)).unwrap();
        }
        std::fs::write(directory.join("ifindex"), "9\n").unwrap();
        let facts = device(root.path(), "eth9", 9).unwrap();
        assert_eq!((facts.rx_queues, facts.tx_queues), (2, 1));
        assert_eq!(facts.driver, None);
        assert_eq!(device(root.path(), "eth9", 8), None);
    }
}
